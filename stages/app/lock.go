// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/source"
)

// locking is the lock of a pipeline file. The zero value has no lock.
type locking struct {
	file string
	// read is the lock on disk. used is the part that applies to this run, which excludes what is
	// to be updated; nil if there is none.
	read, used *pipeline.Lock
	locked     bool
	data       []byte // of the file
	// interpreters are asked for the checksums of their builds for other platforms.
	interpreters Interpreters
}

// lock reads the lock. There is none without a pipeline file.
func (o *Options) lock() (locking, error) {
	if o.Pipeline == "" {
		return locking{}, nil
	}
	l := locking{file: pipeline.LockFile(o.Pipeline), locked: o.Locked, interpreters: o.interpreters()}
	err := checkProjectFile(l.file)
	if err != nil {
		return l, fmt.Errorf("read lock: %w", err)
	}
	if l.read, err = pipeline.ReadLock(l.file); err != nil {
		return l, err
	}
	if l.read == nil {
		if o.Locked {
			return l, advice.Add(fmt.Errorf("there is no %s", l.file), advice.WriteLock)
		}
		return l, nil
	}
	if l.data, err = regular.ReadFile(l.file); err != nil {
		return l, fmt.Errorf("read lock: %w", err)
	}
	used := &pipeline.Lock{Files: l.read.Files, Images: maps.Clone(l.read.Images), Interpreters: maps.Clone(l.read.Interpreters), Materials: maps.Clone(l.read.Materials)}
	switch o.Update {
	case "":
	case "all":
		used = nil
	case "images":
		used.Images = nil
	case "interpreters":
		used.Interpreters = nil
	case "materials":
		used.Materials = nil
	case "files":
		used.Files = nil
	default:
		delete(used.Images, o.Update)
		delete(used.Interpreters, o.Update)
		delete(used.Materials, o.Update)
	}
	l.used = used
	return l, nil
}

// digests returns the locked digests of images, or nil if there is no lock.
func (l locking) digests() map[string]digest.Digest {
	if l.used == nil || l.used.Images == nil && l.read.Images != nil {
		return nil
	}
	if l.used.Images == nil {
		return map[string]digest.Digest{}
	}
	return l.used.Images
}

// materials returns the locked materials, or nil if there is no lock.
func (l locking) materials() []interpreter.Material {
	if l.used == nil || l.used.Materials == nil && l.read.Materials != nil {
		return nil
	}
	out := []interpreter.Material{}
	for _, uri := range slices.Sorted(maps.Keys(l.used.Materials)) {
		out = append(out, interpreter.Material{URI: uri, Digest: l.used.Materials[uri]})
	}
	return out
}

// source returns the part of the lock that applies to sources, or nil if there is none.
func (l locking) source() *source.Lock {
	if l.used == nil {
		return nil
	}
	lock := &source.Lock{
		File: filepath.Base(l.file), Digest: digest.FromBytes(l.data), Files: l.used.Files,
		Interpreters: map[string]source.LockedInterpreter{}, Required: l.locked,
	}
	for name, locked := range l.used.Interpreters {
		lock.Interpreters[name] = source.LockedInterpreter(locked)
	}
	return lock
}

// checkUpdate returns an error for an update of an entry that cannot exist, before anything is
// pushed. A name that is not in the lock may be new, which is known only after resolving.
func (o *PackageOptions) checkUpdate(ctx context.Context, p *pipeline.Pipeline) error {
	if o.Update == "" {
		return nil
	}
	l, err := o.lock()
	if err != nil || l.read.Has(o.Update) {
		return err
	}
	run, err := o.silent().run(ctx, p, "resolve")
	if err != nil {
		return err
	}
	_, err = l.updated(ctx, run, o.Update)
	return err
}

// updateLock writes what a run found to the lock.
func (o *PackageOptions) updateLock(ctx context.Context, run made) error {
	l, err := o.lock()
	if err != nil {
		return err
	}
	updated, err := l.updated(ctx, run, o.Update)
	if err == nil {
		err = updated.Write(l.file)
	}
	if err == nil {
		o.say("", "wrote "+l.file)
	}
	return err
}

func (l locking) updated(ctx context.Context, run made, what string) (*pipeline.Lock, error) {
	found, err := found(ctx, run)
	if err == nil {
		err = l.addBuilds(ctx, found)
	}
	if err != nil {
		return nil, err
	}
	return l.read.Update(found, what)
}

// addBuilds adds the checksums of an interpreter for other platforms, if the interpreter belongs
// to a release, so that the lock is valid wherever that release runs.
func (l locking) addBuilds(ctx context.Context, found *pipeline.Lock) error {
	for name, locked := range found.Interpreters {
		i, err := l.interpreters.Find(ctx, name)
		if err != nil {
			return err
		}
		program, ok := i.(*host.Interpreter)
		if !ok {
			continue
		}
		builds, err := program.Builds(ctx)
		if err != nil {
			return err
		}
		// The program that ran must have the recorded checksum; otherwise it is not from that
		// release.
		if platform := runtime.GOOS + "/" + runtime.GOARCH; builds[platform] == locked.Checksums[platform] {
			maps.Copy(locked.Checksums, builds)
		}
	}
	return nil
}

// found returns what a run found, in the form of a lock.
func found(ctx context.Context, run made) (*pipeline.Lock, error) {
	lock := &pipeline.Lock{
		Images: map[string]digest.Digest{}, Interpreters: map[string]pipeline.LockedInterpreter{}, Materials: map[string]string{},
		Files: map[string]digest.Digest{},
	}
	var list images.List
	if err := run.read(ctx, resolvedImages.into(&list)); err != nil {
		return nil, err
	}
	for _, image := range list.Images {
		switch {
		case image.DigestProvided:
		case image.IndexDigest != "":
			lock.Images[image.Name] = image.IndexDigest
		default:
			lock.Images[image.Name] = image.Digest
		}
	}
	sources, err := run.facts(ctx)
	if err != nil {
		return nil, err
	}
	for _, facts := range sources {
		for _, f := range facts.Files {
			if f.Untracked {
				lock.Files[f.Path] = f.Digest
			}
		}
	}
	rendered, err := every[rendering.Rendering](ctx, run, "rendering", rendering.MediaTypeRendering)
	if err != nil {
		return nil, err
	}
	for _, r := range rendered {
		for _, m := range r.Materials {
			if was, ok := lock.Materials[m.URI]; ok && was != m.Digest {
				return nil, fmt.Errorf("%s was fetched with two digests, %s and %s, but a lock has one: name content that does not change", m.URI, was, m.Digest)
			}
			lock.Materials[m.URI] = m.Digest
		}
		if r.Interpreter.Name != BuiltIn {
			lock.Interpreters[r.Interpreter.Name] = pipeline.LockedInterpreter{
				Version:   r.Interpreter.Version,
				Checksums: map[string]digest.Digest{runtime.GOOS + "/" + runtime.GOARCH: r.Checksum},
			}
		}
	}
	return lock, nil
}
