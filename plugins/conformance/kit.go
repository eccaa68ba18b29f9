// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// kit holds the cases and a folder for their files.
type kit struct {
	opts  Options
	cases []testCase
	dir   string
}

// subject is an interpreter under test.
type subject struct {
	guarded
	schema json.RawMessage // of its options
}

func newKit(opts Options) (*kit, error) {
	opts.Timeout = cmp.Or(max(opts.Timeout, 0), time.Minute)
	cases, err := readCases(opts.Cases)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tape-conformance-")
	if err != nil {
		return nil, err
	}
	return &kit{opts: opts, cases: cases, dir: dir}, nil
}

// check runs all checks that use only the interpreter's methods, and adds their results to
// the report. The error is one of the kit itself.
func (k *kit) check(ctx context.Context, how string, impl interpreter.Interpreter, report *Report) error {
	in := &subject{guarded: guarded{impl: impl, timeout: k.opts.Timeout}}
	add := func(name string, err error) error {
		if own, ok := errors.AsType[*kitError](err); ok {
			return fmt.Errorf("%s: %s: %w", how, name, own.err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		report.add(how+": "+name, err)
		return nil
	}

	d, err := describe(ctx, in)
	if err := add("describe", err); err != nil {
		return err
	}
	in.schema = d.Options
	sources := []map[string][]byte{{}} // for the checks that accept any source
	largest := 0
	for _, c := range k.cases {
		n, err := k.checkCase(ctx, in, c)
		if err := add("case "+c.name, err); err != nil {
			return err
		}
		if last := &report.Results[len(report.Results)-1]; last.OK && c.out == nil && c.fails == "" {
			last.Reason = "has no file below out/: its output is not compared"
		}
		largest = max(largest, n)
		if n <= smallSource {
			sources = append(sources, c.in)
		}
	}
	if err := add("cancel", k.checkCancel(ctx, in, sources)); err != nil {
		return err
	}
	if err := add("bad options", k.checkOptions(ctx, in, sources[len(sources)-1])); err != nil {
		return err
	}
	if err := add("bad sources", k.checkSources(ctx, in, d.Markers)); err != nil {
		return err
	}
	big := Result{Check: how + ": big output", OK: true}
	if largest <= 4<<20 {
		big.Reason = "not checked: no case renders to more than 4 MiB"
	}
	report.Results = append(report.Results, big)
	return nil
}

// smallSource is the largest source, in bytes, that is rendered repeatedly.
const smallSource = 1 << 20

// kitError is an error of the kit, not of the interpreter.
type kitError struct{ err error }

func (e *kitError) Error() string { return e.err.Error() }

func own(err error) error {
	if err == nil {
		return nil
	}
	return &kitError{err}
}

// tree is a source as tape presents it: root is the live tree, source holds only the inputs
// and is read-only, scratch is empty.
type tree struct {
	dir, root, source, scratch string
}

// odd is a folder name that careless programs mishandle.
const odd = `a b 'c' "d" $HOME é 日本`

// layOut writes files to a new folder, in a subfolder of the given name, and those of the source
// that are known.
func (k *kit) layOut(named string, files, source map[string][]byte) (*tree, error) {
	dir, err := os.MkdirTemp(k.dir, "")
	if err != nil {
		return nil, own(err)
	}
	dir = filepath.Join(dir, named)
	t := &tree{
		dir:     dir,
		root:    filepath.Join(dir, "root"),
		source:  filepath.Join(dir, "source"),
		scratch: filepath.Join(dir, "scratch"),
	}
	for _, d := range []string{t.root, t.source, t.scratch} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, own(err)
		}
	}
	return t, own(errors.Join(writeTree(t.root, files), writeTree(t.source, source)))
}

// below returns the files at and below the paths.
func below(files map[string][]byte, paths []string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, p := range paths {
		if !fs.ValidPath(p) {
			return nil, fmt.Errorf("input %q is not a clean relative path inside the root", p)
		}
		found := p == "."
		for name, data := range files {
			if p == "." || name == p || strings.HasPrefix(name, p+"/") {
				found, out[name] = true, data
			}
		}
		if !found {
			return nil, fmt.Errorf("input %q does not exist", p)
		}
	}
	return out, nil
}

// contents returns everything in the tree except scratch.
func (t *tree) contents() (map[string]string, error) {
	out := map[string]string{}
	err := filepath.WalkDir(t.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == t.scratch {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		out[name] = info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			out[name] += string(data)
		}
		return nil
	})
	return out, own(err)
}

// render lays out a case and renders it as tape does: it calls Inputs on the live tree,
// then Render on only these inputs. It checks that nothing else was written.
func (k *kit) render(ctx context.Context, in *subject, c testCase, named string, more map[string][]byte) (*interpreter.RenderResponse, error) {
	files := maps.Clone(c.in)
	maps.Copy(files, more)
	t, err := k.layOut(named, files, nil)
	if err != nil {
		return nil, err
	}
	inputs, err := in.Inputs(ctx, &interpreter.InputsRequest{Root: t.root, Path: c.path, Options: c.options})
	if err != nil {
		return nil, fmt.Errorf("inputs: %w", err)
	}
	if hasError(inputs.Diagnostics) {
		return &interpreter.RenderResponse{Diagnostics: inputs.Diagnostics}, nil
	}
	taken := slices.Concat(inputs.Paths, optionPaths(in.schema, c.options))
	if !inputs.Exact {
		taken = append(taken, c.path)
	}
	source, err := below(files, taken)
	if err == nil {
		err = own(writeTree(t.source, source))
	}
	if err != nil {
		return nil, err
	}
	before, err := t.contents()
	if err != nil {
		return nil, err
	}
	resp, err := in.Render(ctx, &interpreter.RenderRequest{Source: t.source, Path: c.path, Options: c.options, Scratch: t.scratch})
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	after, err := t.contents()
	if err != nil {
		return nil, err
	}
	if !maps.Equal(before, after) {
		return nil, errors.New("render wrote outside of its scratch folder")
	}
	return resp, errors.Join(t.checkOrigins(resp.Files), checkFiles(resp.Files), checkMaterials(resp.Materials))
}

// checkFiles checks that files can be written side by side.
func checkFiles(files []interpreter.File) error {
	folders := map[string]bool{}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "." && dir != "/"; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	for _, f := range files {
		switch {
		case strings.ContainsFunc(f.Path, func(r rune) bool { return !unicode.IsPrint(r) }):
			return fmt.Errorf("file name %q has a character that cannot be printed", f.Path)
		case folders[f.Path]:
			return fmt.Errorf("%q is both a file and a folder", f.Path)
		case f.Mode&^0o777 != 0:
			return fmt.Errorf("%s has mode %#o, which is more than permission bits", f.Path, f.Mode)
		}
	}
	return nil
}

// checkMaterials checks that each URI has one digest.
func checkMaterials(materials []interpreter.Material) error {
	digests := map[string]string{}
	for _, m := range materials {
		if was, ok := digests[m.URI]; ok && was != m.Digest {
			return fmt.Errorf("material %q has two digests: %s and %s", m.URI, was, m.Digest)
		}
		digests[m.URI] = m.Digest
	}
	return nil
}

// renderAll renders a case with additional files, because files that are not inputs must make no
// difference.
func (k *kit) renderAll(ctx context.Context, in *subject, c testCase) (*interpreter.RenderResponse, error) {
	t, err := k.layOut("all", c.in, c.in)
	if err != nil {
		return nil, err
	}
	return in.Render(ctx, &interpreter.RenderRequest{Source: t.source, Path: c.path, Options: c.options, Scratch: t.scratch})
}

// checkOrigins checks that the origins of rendered files are files of the source.
func (t *tree) checkOrigins(rendered []interpreter.File) error {
	for _, f := range rendered {
		if f.Origin == "" {
			continue
		}
		if !fs.ValidPath(f.Origin) {
			return fmt.Errorf("%s: origin %q is not a clean relative path inside the root", f.Path, f.Origin)
		}
		info, err := os.Stat(filepath.Join(t.source, filepath.FromSlash(f.Origin)))
		if err != nil || !info.Mode().IsRegular() {
			return fmt.Errorf("%s: origin %q is not a file of the source", f.Path, f.Origin)
		}
	}
	return nil
}

// checkCase runs a case and returns the size of its output.
func (k *kit) checkCase(ctx context.Context, in *subject, c testCase) (size int, err error) {
	first, err := k.render(ctx, in, c, "plain", nil)
	if err != nil {
		return 0, err
	}
	if err := c.compare(first); err != nil {
		return 0, err
	}
	files := byPath(first.Files)
	for _, data := range files {
		size += len(data)
	}
	if size > smallSource {
		return size, nil // the checks below are faster with smaller cases
	}
	again := func(named string, more map[string][]byte) error {
		resp, err := k.render(ctx, in, c, named, more)
		if err != nil {
			return err
		}
		if diff := difference(files, byPath(resp.Files)); diff != "" {
			return errors.New(diff)
		}
		return nil
	}
	if err := again("again", nil); err != nil {
		return size, fmt.Errorf("a second time: %w", err)
	}
	if c.fails == "" {
		resp, err := k.renderAll(ctx, in, c)
		if err != nil {
			return size, fmt.Errorf("with all files: %w", err)
		}
		if diff := difference(files, byPath(resp.Files)); diff != "" {
			return size, fmt.Errorf("render reads a file that inputs does not return: with all files, %s", diff)
		}
	}
	if err := again(odd, map[string][]byte{path.Join(path.Dir(c.path), odd+".txt"): []byte("odd\n")}); err != nil {
		return size, fmt.Errorf("in a folder named %s: %w", odd, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for n := range 4 {
		group.Go(func() error { return again(fmt.Sprint(n), nil) })
	}
	if err := group.Wait(); err != nil {
		return size, fmt.Errorf("four at once: %w", err)
	}
	return size, nil
}

// compare returns an error if a response differs from what the case states.
func (c testCase) compare(resp *interpreter.RenderResponse) error {
	var texts []string
	for _, d := range resp.Diagnostics {
		if d.Severity == interpreter.Error {
			texts = append(texts, strings.TrimSpace(d.Summary+"\n"+d.Detail))
		}
	}
	said := strings.Join(texts, "\n")
	switch {
	case c.fails == "" && said != "":
		return fmt.Errorf("failed: %s", said)
	case c.fails != "" && said == "":
		return fmt.Errorf("rendered, but should fail with %q", c.fails)
	case c.fails != "" && !strings.Contains(said, c.fails):
		return fmt.Errorf("failed with %q, but should fail with %q", said, c.fails)
	case c.fails != "":
		return nil
	case len(resp.Files) == 0:
		return errors.New("rendered no files and did not explain why")
	case c.out == nil:
		return nil
	}
	if diff := difference(c.out, byPath(resp.Files)); diff != "" {
		return errors.New(diff)
	}
	return nil
}

// difference describes the first difference between two sets of files; it returns "" if
// they are equal.
func difference(want, got map[string][]byte) string {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		data, ok := got[name]
		if !ok {
			return fmt.Sprintf("%s is missing from %s", name, slices.Sorted(maps.Keys(got)))
		}
		if !bytes.Equal(data, want[name]) {
			return fmt.Sprintf("%s differs: %s", name, firstDifference(want[name], data))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			return fmt.Sprintf("%s is not expected", name)
		}
	}
	return ""
}

func firstDifference(want, got []byte) string {
	w, g := bytes.Split(want, []byte("\n")), bytes.Split(got, []byte("\n"))
	for n := range max(len(w), len(g)) {
		line := func(lines [][]byte) string {
			if n >= len(lines) {
				return "no line"
			}
			return fmt.Sprintf("%.80q", lines[n])
		}
		if line(w) != line(g) {
			return fmt.Sprintf("line %d is %s, not %s", n+1, line(g), line(w))
		}
	}
	return "in a part of a line that is not shown"
}

func byPath(files []interpreter.File) map[string][]byte {
	out := map[string][]byte{}
	for _, f := range files {
		out[f.Path] = f.Data
	}
	return out
}

func hasError(list []interpreter.Diagnostic) bool {
	return slices.ContainsFunc(list, func(d interpreter.Diagnostic) bool { return d.Severity == interpreter.Error })
}

// checkCancel checks that calls return if their context has ended. They may return a
// result.
func (k *kit) checkCancel(ctx context.Context, in *subject, sources []map[string][]byte) error {
	ended, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("not needed any more"))
	for _, files := range sources {
		t, err := k.layOut("cancel", files, files)
		if err != nil {
			return err
		}
		_, err = in.Inputs(ended, &interpreter.InputsRequest{Root: t.root, Path: "."})
		if err := crash(err); err != nil {
			return fmt.Errorf("inputs: %w", err)
		}
		_, err = in.Render(ended, &interpreter.RenderRequest{Source: t.source, Path: ".", Scratch: t.scratch})
		if err := crash(err); err != nil {
			return fmt.Errorf("render: %w", err)
		}
	}
	if _, err := in.Describe(ctx); err != nil {
		return fmt.Errorf("describe afterwards: %w", err)
	}
	return nil
}

// checkOptions passes options that the schema does not allow. tape validates options first,
// so the interpreter may ignore them, but it must not return an error or crash.
func (k *kit) checkOptions(ctx context.Context, in *subject, files map[string][]byte) error {
	bad := []string{`null`, `[]`, `"text"`, `7`, `{`, `{"no-such-option-as-this": {"a": [1]}}`}
	var s struct {
		Properties map[string]struct {
			Type any `json:"type"`
		} `json:"properties"`
	}
	if len(in.schema) > 0 && json.Unmarshal(in.schema, &s) != nil {
		return nil // reported by describe
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		for _, value := range []any{map[string]any{"a": nil}, []any{map[string]any{}}, "\x00../no/such\nthing", -1e300, nil} {
			data, err := json.Marshal(map[string]any{name: value})
			if err != nil {
				return own(err)
			}
			bad = append(bad, string(data))
		}
	}
	// Collect all, so that one run shows everything that needs fixing.
	var reasons []string
	options := map[string][]string{} // by reason
	for _, o := range bad {
		err := k.survives(ctx, in, files, ".", json.RawMessage(o))
		if _, ok := errors.AsType[*kitError](err); ok || context.Cause(ctx) != nil {
			return err
		}
		if err == nil {
			continue
		}
		reason := err.Error()
		if options[reason] == nil {
			reasons = append(reasons, reason)
		}
		options[reason] = append(options[reason], o)
	}
	for i, reason := range reasons {
		reasons[i] = fmt.Sprintf("options %s: %s", strings.Join(options[reason], " and "), reason)
	}
	if len(reasons) == 0 {
		return nil
	}
	return errors.New(strings.Join(reasons, "; "))
}

// checkSources passes sources that cannot be valid.
func (k *kit) checkSources(ctx context.Context, in *subject, markers []interpreter.Marker) error {
	if err := k.survives(ctx, in, nil, ".", nil); err != nil {
		return fmt.Errorf("empty folder: %w", err)
	}
	if err := k.survives(ctx, in, nil, "no/such/folder", nil); err != nil {
		return fmt.Errorf("folder that does not exist: %w", err)
	}
	for _, m := range markers {
		for _, garbage := range []string{
			"", "\x00\xff\xfe\x80", "{{{ [", "a: &a [*a, *a]\n", "- : :\n\t-", `"`, strings.Repeat("[", 5000), strings.Repeat("a: ", 2000),
		} {
			files := map[string][]byte{}
			for _, pattern := range []string{m.Name, m.With} {
				if name := nameFor(pattern); name != "" {
					files[name] = []byte(garbage)
				}
			}
			if err := k.survives(ctx, in, files, ".", nil); err != nil {
				return fmt.Errorf("%s with %.20q in it: %w", slices.Sorted(maps.Keys(files)), garbage, err)
			}
			for _, file := range slices.Sorted(maps.Keys(files)) {
				if err := k.survives(ctx, in, files, file, nil); err != nil {
					return fmt.Errorf("file %s with %.20q in it: %w", file, garbage, err)
				}
			}
		}
	}
	return nil
}

// nameFor returns a name that matches a marker's pattern. A pattern for folders gives the
// name of a file: an interpreter must survive that too.
func nameFor(pattern string) string {
	pattern = strings.TrimSuffix(pattern, "/")
	name := strings.NewReplacer("*", "x", "?", "x").Replace(pattern)
	if ok, err := path.Match(pattern, name); err == nil && ok {
		return name
	}
	return ""
}

// survives checks that Inputs and Render return no error.
func (k *kit) survives(ctx context.Context, in *subject, files map[string][]byte, at string, options json.RawMessage) error {
	t, err := k.layOut("bad", files, files)
	if err != nil {
		return err
	}
	if _, err := in.Inputs(ctx, &interpreter.InputsRequest{Root: t.root, Path: at, Options: options}); err != nil {
		return fmt.Errorf("inputs: want a diagnostic, got an error: %w", err)
	}
	if _, err := in.Render(ctx, &interpreter.RenderRequest{Source: t.source, Path: at, Options: options, Scratch: t.scratch}); err != nil {
		return fmt.Errorf("render: want a diagnostic, got an error: %w", err)
	}
	return nil
}
