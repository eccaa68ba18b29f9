// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/vcs"
)

// maxGrowth limits how often an interpreter is asked again because a path that it named is above
// the root. A chain of bases needs at most one per link.
const maxGrowth = 16

// taken is what was read for a source.
type taken struct {
	at          place // its root may have grown
	options     json.RawMessage
	diagnostics []interpreter.Diagnostic
	warnings    []string
	inputs      []vcs.Input
	folders     []string
	tar         []byte
}

// facts returns where the files come from. For a remote source, these are the files named by
// options.
func (t taken) facts(ctx context.Context, name string, locked *vcs.Lock, repositories *vcs.Opened) (facts vcs.Facts, warnings []string, err error) {
	query := vcs.Query{Name: name, Locked: locked, Root: t.at.root, Path: t.at.path, Folders: t.folders, Inputs: t.inputs}
	if t.at.reference == "" {
		return repositories.Read(ctx, query)
	}
	query.Path = ""
	facts = vcs.Facts{Name: name, Repositories: []vcs.Repository{}, Files: []vcs.File{}, Modified: vcs.Unknown}
	if len(t.inputs) > 0 {
		facts, warnings, err = repositories.Read(ctx, query)
	}
	facts.Reference = shown(t.at.reference)
	return facts, warnings, err
}

// answer is the recorded answer of an interpreter's Inputs. It is valid while the files read
// because of it are unchanged, and no file is added or removed beside them.
type answer struct {
	Up          int                      `json:"up,omitempty"` // number of folders that the root moved up
	Paths       []string                 `json:"paths"`
	Exact       bool                     `json:"exact,omitempty"`
	Diagnostics []interpreter.Diagnostic `json:"diagnostics,omitempty"`
	Files       digest.Digest            `json:"files"` // digest of the tar
	Names       digest.Digest            `json:"names"` // digest of the names beside them
}

// take reads what the interpreter needs: the files that it names, and those that options name.
func (s *Stage) take(ctx context.Context, t *engine.Task, at place, f *found, options map[string]any) (taken, error) {
	out := taken{at: at}
	var named []string
	var err error
	if out.options, named, err = f.placed(options, &out.at); err != nil {
		return out, err
	}
	if at.reference != "" {
		return out, s.read(ctx, &out, answer{Exact: true}, named)
	}

	key, err := s.memoryKey(f, out)
	if err != nil {
		return out, err
	}
	if remembered, ok := s.recall(ctx, t, key); ok {
		again := out
		for range remembered.Up {
			again.at.grow(filepath.Dir(again.at.root))
		}
		if again.options, named, err = f.placed(options, &again.at); err != nil {
			return out, err
		}
		err := s.read(ctx, &again, remembered, named)
		if err == nil && digest.FromBytes(again.tar) == remembered.Files && again.names(remembered) == remembered.Names {
			return again, nil
		}
		if err := context.Cause(ctx); err != nil {
			return out, err
		}
		log(t).Debug("what the interpreter read has changed", "interpreter", f.Name(), "err", err)
	}

	start := out.at.root
	a, err := s.ask(ctx, f, &out, options)
	if err != nil {
		return out, err
	}
	if up, _ := filepath.Rel(start, out.at.root); up != "." {
		a.Up = len(strings.Split(filepath.ToSlash(up), "/"))
	}
	a.Files, a.Names = digest.FromBytes(out.tar), out.names(a)
	s.remember(ctx, t, key, a)
	return out, nil
}

// ask asks the interpreter for its inputs and reads them. If one of them is above the root and
// the root may grow, it asks again with the new root.
func (s *Stage) ask(ctx context.Context, f *found, out *taken, options map[string]any) (answer, error) {
	for range maxGrowth {
		raw, named, err := f.placed(options, &out.at)
		if err != nil {
			return answer{}, err
		}
		out.options = raw
		root := out.at.root
		shown, err := f.schema.shown(raw)
		if err != nil {
			return answer{}, err
		}
		secret, err := rendering.Secrets(raw, shown, rendering.Variables(s.o.LookupEnv, f.description.Environment)...)
		if err != nil {
			return answer{}, err
		}
		resp, err := f.Inputs(ctx, &interpreter.InputsRequest{Root: root, Path: out.at.path, Options: raw})
		if err != nil {
			return answer{}, byName(f, secret.Error(err))
		}
		for i, d := range resp.Diagnostics {
			resp.Diagnostics[i] = secret.Diagnostic(d)
		}
		for _, p := range resp.Paths {
			if filepath.IsAbs(filepath.FromSlash(p)) || strings.ContainsRune(p, 0) {
				return answer{}, fmt.Errorf("interpreter %s names the input %q, which is not relative to the root", f.Name(), p)
			}
			if abs := filepath.Join(root, filepath.FromSlash(p)); !out.at.grow(abs) {
				return answer{}, fmt.Errorf("interpreter %s needs %s: %w", f.Name(), p, out.at.outside(abs))
			}
		}
		if out.at.root != root {
			continue
		}
		if err := rendering.Problems(s.onDisk(out.at, resp.Diagnostics)); err != nil {
			return answer{}, fmt.Errorf("interpreter %s: %w", f.Name(), err)
		}
		a := answer{Paths: resp.Paths, Exact: resp.Exact, Diagnostics: resp.Diagnostics}
		err = s.read(ctx, out, a, named)
		if link, ok := errors.AsType[*linkError](err); ok {
			// Folders that belong together refer to each other with relative links. An absolute
			// link may lead anywhere.
			if outside, ok := errors.AsType[*outsideError](err); ok && !filepath.IsAbs(link.target) && out.at.grow(outside.path) {
				continue
			}
		}
		return a, err
	}
	return answer{}, fmt.Errorf("interpreter %s names other inputs each time the folder that contains them grows: put the source in a git repository", f.Name())
}

// onDisk returns diagnostics with paths of files that the user knows.
func (s *Stage) onDisk(at place, all []interpreter.Diagnostic) []interpreter.Diagnostic {
	all = slices.Clone(all)
	for i, d := range all {
		if d.File != "" && d.File != "." {
			all[i].File = rendering.OnDisk(s.where(), at.path, d.File)
		}
	}
	return all
}

// read reads the files that an answer and the options name.
func (s *Stage) read(ctx context.Context, out *taken, a answer, named []string) error {
	r := newReader(out.at.root, s.o.Limits)
	paths := slices.Concat(a.Paths, named)
	if !a.Exact || !out.at.folder {
		paths = append(paths, out.at.path)
	}
	if out.at.reference != "" {
		paths = named
	}
	for _, p := range paths {
		if err := r.take(ctx, path.Clean(p)); err != nil {
			if isOutside(err) {
				return fmt.Errorf("%w: copy what it leads to into %s, or remove it", err, out.at.root)
			}
			return err
		}
	}
	if a.Exact && out.at.folder && out.at.reference == "" {
		r.folders[out.at.path] = true // the missing file may have been an input
	}
	if out.at.reference == "" && len(r.inputs) == 0 {
		return errors.New("there is nothing in it to package")
	}
	out.diagnostics = a.Diagnostics
	out.warnings = slices.Sorted(maps.Keys(r.warnings))
	for _, name := range slices.Sorted(maps.Keys(r.inputs)) {
		out.inputs = append(out.inputs, r.inputs[name])
	}
	out.folders = slices.Sorted(maps.Keys(r.folders))

	tree := make([]files.File, len(out.inputs))
	for i, in := range out.inputs {
		tree[i] = files.File{Name: in.Path, Data: in.Data}
	}
	var tar bytes.Buffer
	if err := files.Write(&tar, tree); err != nil {
		return err
	}
	out.tar = tar.Bytes()
	packed, err := files.Unpack(out.tar)
	for i, f := range packed { // in the same order, so that what was read is not kept twice
		out.inputs[i].Data = f.Data
	}
	return err
}

// names returns a digest of the names that an answer may depend on although they are not read:
// those in a source of which only parts are read, and those beside a file that is itself named. A
// folder that cannot be listed has no names.
func (t taken) names(a answer) digest.Digest {
	var all []string
	if a.Exact && t.at.folder {
		_ = filepath.WalkDir(t.at.abs(t.at.path), func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return fs.SkipDir
			}
			if entry.Name() == ".git" {
				if entry.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			all = append(all, name)
			return nil
		})
	}
	folders := map[string]bool{}
	for _, p := range a.Paths {
		folders[path.Dir(path.Clean(p))] = true
	}
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		names, err := list(t.at.abs(folder))
		if err != nil {
			continue
		}
		for _, name := range names {
			all = append(all, t.at.abs(path.Join(folder, name)))
		}
	}
	for i, name := range all {
		all[i], _ = below(t.at.root, name)
	}
	return digest.FromString(strings.Join(all, "\x00"))
}

// memoryKey covers everything that an answer may depend on, except the contents of the files that
// it names.
func (s *Stage) memoryKey(f *found, at taken) (digest.Digest, error) {
	key, err := engine.MarshalJSON(struct {
		Kind        string
		Interpreter digest.Digest
		Environment digest.Digest
		Path        string
		Options     json.RawMessage
	}{"inputs/1", f.checksum, s.environment(f.description.Environment), at.at.path, at.options})
	return digest.FromBytes(key), err
}

// remembered is the name of the answer in an entry of the memory. Its descriptor contains the
// data, so that the entry needs no blob.
const remembered = "answer"

func (s *Stage) recall(ctx context.Context, t *engine.Task, key digest.Digest) (a answer, ok bool) {
	if s.o.Memory == nil {
		return answer{}, false
	}
	entry, err := s.o.Memory.Get(ctx, key)
	if err != nil {
		log(t).Debug("no inputs remembered", "key", key, "err", err)
		return answer{}, false
	}
	desc := entry[remembered]
	if desc.Digest != digest.FromBytes(desc.Data) || json.Unmarshal(desc.Data, &a) != nil {
		return answer{}, false
	}
	return a, true
}

func (s *Stage) remember(ctx context.Context, t *engine.Task, key digest.Digest, a answer) {
	if s.o.Memory == nil {
		return
	}
	data, err := engine.MarshalJSON(a)
	if err == nil {
		desc := ocispec.Descriptor{MediaType: "application/json", Digest: digest.FromBytes(data), Size: int64(len(data)), Data: data}
		err = s.o.Memory.Put(ctx, key, map[string]ocispec.Descriptor{remembered: desc})
	}
	if err != nil {
		t.Report(engine.Event{Level: engine.Warning, Message: fmt.Sprintf("which files the interpreter reads is not remembered for the next run: %v", err)})
	}
}
