// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/internal/replace"
)

// LockFile returns the path of a pipeline file's lock: tape.lock for tape.yaml,
// tape.dev.lock for tape.dev.yaml.
func LockFile(pipeline string) string {
	return strings.TrimSuffix(pipeline, filepath.Ext(pipeline)) + ".lock"
}

// lockVersion is the version of the lock format.
const lockVersion = 1

// Lock records what a run resolved, so that later runs resolve the same. A nil Lock is
// empty.
type Lock struct {
	// Images maps normalised names (docker.io/library/nginx:1) to digests.
	Images map[string]digest.Digest `json:"images,omitempty"`
	// Interpreters maps names to interpreters.
	Interpreters map[string]LockedInterpreter `json:"interpreters,omitempty"`
	// Materials maps URIs to digests: algorithm:hex, such as sha256:… or gitCommit:….
	Materials map[string]string `json:"materials,omitempty"`
	// Files maps files of sources that are not in git, such as vendored charts, to digests.
	// Paths are relative to the top of the repository.
	Files map[string]digest.Digest `json:"files,omitempty"`
}

// LockedInterpreter is an interpreter that was used. Builds differ between platforms, so it
// has a checksum for each platform that it was used on.
type LockedInterpreter struct {
	Version   string                   `json:"version"`
	Checksums map[string]digest.Digest `json:"checksums"` // by os/arch
}

// lockDocument is the content of a lock file.
type lockDocument struct {
	Version int `json:"version"`
	Lock
}

// materialDigest matches a digest of any algorithm.
var materialDigest = regexp.MustCompile(`^[A-Za-z0-9]+:[0-9a-f]{32,}$`)

// ReadLock reads a lock file. It returns nil if the file does not exist.
func ReadLock(file string) (*Lock, error) {
	data, err := regular.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read lock: %w", err)
	}
	return parseLock(file, data)
}

func parseLock(file string, data []byte) (*Lock, error) {
	var (
		doc lockDocument
		p   document.Problems
		at  = document.Position{File: file}
	)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(&doc)
	if err == nil && dec.More() {
		err = errors.New("unexpected data after the end")
	}
	if err != nil {
		offset := dec.InputOffset()
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			offset = syntax.Offset
		} else if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			offset = wrong.Offset
		}
		line := 1 + bytes.Count(data[:min(offset, int64(len(data)))], []byte("\n"))
		p.Cause(document.Position{File: file, Line: line}, advice.Add(errors.New(strings.TrimPrefix(err.Error(), "json: ")), advice.RenewLock))
		return nil, p.Err()
	}
	if doc.Version != lockVersion {
		p.Add(at, "the lock has version %d, this tape reads version %d", doc.Version, lockVersion)
		return nil, p.Err()
	}
	digests := map[string]digest.Digest{} // by what they are of
	for name, dgst := range doc.Images {
		digests["image "+name] = dgst
	}
	for name, locked := range doc.Interpreters {
		for platform, sum := range locked.Checksums {
			digests["interpreter "+name+" for "+platform] = sum
		}
	}
	for path, dgst := range doc.Files {
		digests["file "+path] = dgst
	}
	for of, dgst := range digests {
		if err := dgst.Validate(); err != nil {
			p.Add(at, "%s: %q: %v", of, dgst, err)
		}
	}
	for uri, dgst := range doc.Materials {
		if !materialDigest.MatchString(dgst) {
			p.Add(at, "material %s: %q is not a digest", uri, dgst)
		}
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	return &doc.Lock, nil
}

// Write writes the lock atomically. It does not touch a file that is up to date. The same
// lock is always written as the same bytes.
func (l *Lock) Write(file string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	doc := lockDocument{Version: lockVersion}
	if l != nil {
		doc.Lock = *l
	}
	if err := enc.Encode(doc); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	if old, err := regular.ReadFile(file); err == nil && bytes.Equal(old, b.Bytes()) {
		return nil
	}
	if err := replace.Durable(file, "."+filepath.Base(file)+"-", b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	return nil
}

// isGroup reports whether the argument of Update is a group and not the name of an entry.
func isGroup(what string) bool {
	return slices.Contains([]string{"all", "images", "interpreters", "materials", "files"}, what)
}

// Has reports whether what is a group of entries, which every lock has, or the name of an
// entry of this one.
func (l *Lock) Has(what string) bool {
	if l == nil || isGroup(what) {
		return isGroup(what)
	}
	_, image := l.Images[what]
	_, interpreter := l.Interpreters[what]
	_, material := l.Materials[what]
	return image || interpreter || material
}

// Update returns the lock with what was found merged in: "all" of it, only "images",
// "interpreters", "materials" or "files", or the one entry of that name. Entries that were
// not found are kept: they may belong to the same pipeline with other arguments. An
// interpreter of the same version keeps its checksums for other platforms.
func (l *Lock) Update(found *Lock, what string) (*Lock, error) {
	l, found = cmp.Or(l, &Lock{}), cmp.Or(found, &Lock{})
	out := &Lock{Images: maps.Clone(l.Images), Interpreters: maps.Clone(l.Interpreters), Materials: maps.Clone(l.Materials), Files: maps.Clone(l.Files)}
	interpreters := maps.Clone(found.Interpreters)
	for name, b := range interpreters {
		interpreters[name] = l.Interpreters[name].update(b)
	}
	image := update(&out.Images, found.Images, "images", what)
	interpreter := update(&out.Interpreters, interpreters, "interpreters", what)
	material := update(&out.Materials, found.Materials, "materials", what)
	if isGroup(what) {
		update(&out.Files, found.Files, "files", what)
		return out, nil
	}
	if !image && !interpreter && !material {
		for _, name := range slices.Sorted(maps.Keys(found.Images)) {
			if strings.Contains(name, what) {
				return nil, fmt.Errorf("update lock: nothing named %q is used; did you mean %s?", what, name)
			}
		}
		return nil, fmt.Errorf("update lock: nothing named %q is used; want images, interpreters, materials, or the name of one of these", what)
	}
	return out, nil
}

func (a LockedInterpreter) update(b LockedInterpreter) LockedInterpreter {
	if a.Version != b.Version || a.Checksums == nil {
		return b
	}
	sums := maps.Clone(a.Checksums)
	maps.Copy(sums, b.Checksums)
	return LockedInterpreter{Version: b.Version, Checksums: sums}
}

// update takes over what was found in a group, all of it or one entry, and reports whether
// there is an entry of that name.
func update[V any](into *map[string]V, found map[string]V, group, what string) (named bool) {
	_, named = found[what]
	for name, v := range found {
		if what != "all" && what != group && what != name {
			continue
		}
		if *into == nil {
			*into = map[string]V{}
		}
		(*into)[name] = v
	}
	return named
}
