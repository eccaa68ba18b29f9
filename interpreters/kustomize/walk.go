// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// walker goes through a kustomization and what it is made of, as kustomize will.
// It finds the inputs, says what is missing and where it is asked for, and, given
// a fetcher, replaces what is remote.
type walker struct {
	tree     *tree
	fetch    *fetcher          // nil where only the tree is looked at
	inputs   []string          // below the root
	names    map[string]string // folder → its kustomization's file
	schema   bool              // whether one brings an OpenAPI schema
	problems problems
}

// place is a value in a kustomization.
type place struct {
	dir, file string // the kustomization's, below the root
	node      *yaml.Node
}

func (w *walker) source(ctx context.Context, name string) {
	if !w.tree.IsDir(name) {
		if base := path.Base(name); slices.Contains(konfig.RecognizedKustomizationFileNames(), base) && w.tree.Exists(name) {
			w.fail(place{file: name}, "name the folder, not the %s in it", base)
			return
		}
		w.fail(place{file: name}, "there is no such folder")
		return
	}
	w.folder(ctx, path.Clean(name), nil)
}

// file is the kustomization in a folder.
func (w *walker) file(dir string) string {
	if mountOf(dir) != "" {
		return "" // a fetched repository's, which the message names
	}
	if name := w.names[path.Clean(dir)]; name != "" {
		return name
	}
	return path.Join(dir, "kustomization.yaml")
}

func (w *walker) fail(at place, format string, args ...any) {
	line := 0
	if at.node != nil {
		line = at.node.Line
	}
	w.add(problem(at.file, line, format, args...))
}

// add takes a problem; of one in a fetched repository it says which.
func (w *walker) add(found problems) {
	for _, p := range found {
		if mountOf(p.File) != "" {
			p.Summary = w.fetch.names().Replace("/"+p.File) + ": " + p.Summary
			p.File, p.Line = "", 0
		}
		w.problems = append(w.problems, p)
	}
}

// folder looks at the kustomization in a folder. above are the folders that lead
// to it: kustomize refuses to go back to one of them.
func (w *walker) folder(ctx context.Context, dir string, above []string) {
	if ctx.Err() != nil || w.names[dir] != "" {
		return
	}
	var found []string
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		if file := path.Join(dir, name); w.tree.Exists(file) {
			found = append(found, file)
		}
	}
	if len(found) != 1 {
		w.fail(place{file: dir}, "the folder has %d kustomization files; one of %s is needed", len(found), strings.Join(konfig.RecognizedKustomizationFileNames(), ", "))
		return
	}
	file := found[0]
	if w.names == nil {
		w.names = map[string]string{}
	}
	w.names[dir] = file
	w.input(file)

	data, err := w.tree.ReadFile(file)
	if err != nil {
		w.fail(place{file: file}, "%s", err)
		return
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		w.add(yamlProblem(file, err))
		return
	}
	var k types.Kustomization
	if err := k.Unmarshal(data); err != nil {
		text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "invalid Kustomization: "), "json: ")
		w.fail(place{file: file, node: named(&doc, text)}, "the kustomization is not valid: %s", text)
		return
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		w.fail(place{file: file}, "the kustomization is empty")
		return
	}

	top, above := doc.Content[0], append(slices.Clip(above), dir)
	each := func(key string, visit func(at place)) {
		for _, n := range items(top, key) {
			visit(place{dir, file, n})
		}
	}
	for _, key := range []string{"helmCharts", "helmChartInflationGenerator"} {
		each(key, func(at place) {
			w.fail(at, "%s: Helm charts inside a kustomization are not inflated: package the chart as a source of its own", key)
		})
	}
	changed := false
	for _, key := range []string{"resources", "bases"} {
		each(key, func(at place) { changed = w.resource(ctx, at, above) || changed })
	}
	each("components", func(at place) { changed = w.base(ctx, at, above) || changed })
	for _, key := range []string{"crds", "configurations"} {
		each(key, func(at place) { changed = w.single(ctx, at) || changed })
	}
	each("patchesStrategicMerge", func(at place) {
		if !strings.Contains(at.node.Value, "\n") && (remoteFile(at.node.Value) || w.tree.Exists(path.Join(dir, at.node.Value))) {
			changed = w.single(ctx, at) || changed
		}
	})
	for _, key := range []string{"patches", "patchesJson6902", "replacements"} {
		each(key, func(at place) { changed = w.field(ctx, at, "path") || changed })
	}
	if n := value(top, "openapi"); n != nil {
		w.schema = true
		changed = w.field(ctx, place{dir, file, n}, "path") || changed
	}
	for _, key := range []string{"configMapGenerator", "secretGenerator"} {
		each(key, func(at place) { changed = w.generator(ctx, at) || changed })
	}
	for _, key := range []string{"generators", "transformers", "validators"} {
		each(key, func(at place) { changed = w.plugin(ctx, at, above) || changed })
	}
	if changed {
		data, err := yaml.Marshal(&doc)
		if err != nil {
			w.fail(place{file: file}, "%s", err)
			return
		}
		w.tree.files[path.Join("/", file)] = data
	}
}

// resource is a file, a folder, or either of them elsewhere. It says whether the
// kustomization was changed, as those below do.
func (w *walker) resource(ctx context.Context, at place, above []string) bool {
	entry := at.node.Value
	if name := path.Join(at.dir, entry); within(name) && !remoteFile(entry) && w.tree.Exists(name) && !w.tree.IsDir(name) {
		w.local(at, entry)
		return false
	}
	if remoteFile(entry) {
		return w.single(ctx, at)
	}
	return w.base(ctx, at, above)
}

// base is a folder with a kustomization, here or in a git repository.
func (w *walker) base(ctx context.Context, at place, above []string) bool {
	entry := at.node.Value
	if spec, ok := parseRepository(entry); ok {
		if w.fetch == nil {
			return false
		}
		dir, err := w.fetch.repository(ctx, spec)
		if err != nil {
			w.fail(at, "%s", err)
			return false
		}
		w.folder(ctx, dir, nil)
		at.node.Value = relative(at.dir, dir)
		return true
	}
	if real, ok := w.find(at, entry, true); ok {
		if slices.ContainsFunc(above, func(a string) bool { _, ok := cutFolder("/"+a, real); return ok || real == "/" }) {
			w.fail(at, "%s leads back to a kustomization that is made of this one", entry)
			return false
		}
		if name := path.Join(at.dir, entry); real != path.Join("/", name) {
			w.input(name) // reached through a symbolic link
		}
		w.folder(ctx, path.Clean(strings.TrimPrefix(real, "/")), above)
	}
	return false
}

// find follows a path from a kustomization to what is there: a folder or a file.
func (w *walker) find(at place, entry string, folder bool) (real string, ok bool) {
	name := path.Join(at.dir, entry)
	if path.IsAbs(entry) {
		w.fail(at, "%s: an absolute path", entry)
		return "", false
	}
	if !within(name) || mountOf(name) != mountOf(at.dir) {
		w.outside(at, entry, name)
		return "", false
	}
	real, err := w.tree.real(name)
	if e, ok := errors.AsType[*outsideError](err); ok {
		w.outside(at, entry, e.target)
		return "", false
	}
	switch {
	case err == nil && w.tree.IsDir(real) == folder:
		return real, true
	case folder:
		w.fail(at, "%s: there is no such file or folder", entry)
	default:
		w.fail(at, "%s: there is no such file", entry)
	}
	return "", false
}

// outside is a path that leads out of the source: tape judges it, when asked for
// inputs.
func (w *walker) outside(at place, entry, target string) {
	if w.fetch == nil {
		w.inputs = append(w.inputs, target)
		return
	}
	w.fail(at, "%s leads out of the source", entry)
}

// single is a file in the kustomization's folder, or one on a web server.
func (w *walker) single(ctx context.Context, at place) bool {
	changed, ok := w.remote(ctx, at, at.node.Value)
	if ok {
		if changed != "" {
			at.node.Value = changed
		}
		return changed != ""
	}
	w.local(at, at.node.Value)
	return false
}

// field is a file named by a field of a mapping.
func (w *walker) field(ctx context.Context, at place, key string) bool {
	if n := value(at.node, key); n != nil && n.Value != "" {
		return w.single(ctx, place{at.dir, at.file, n})
	}
	return false
}

// generator is one of a ConfigMap or Secret: files as [key=]path, and env files.
func (w *walker) generator(ctx context.Context, at place) bool {
	changed := w.field(ctx, at, "env")
	for _, n := range items(at.node, "envs") {
		changed = w.single(ctx, place{at.dir, at.file, n}) || changed
	}
	for _, n := range items(at.node, "files") {
		at := place{at.dir, at.file, n}
		key, name, ok := strings.Cut(n.Value, "=")
		if !ok || remoteFile(n.Value) { // a URL's query may have one
			key, name = path.Base(strings.SplitN(n.Value, "?", 2)[0]), n.Value
		}
		if local, ok := w.remote(ctx, at, name); !ok {
			w.local(at, name)
		} else if local != "" {
			n.Value, changed = key+"="+local, true
		}
	}
	return changed
}

// plugin is the configuration of a generator, transformer or validator: inline, a
// file, or a folder. What it names itself is only known to kustomize, but lies in
// the kustomization's folder.
func (w *walker) plugin(ctx context.Context, at place, above []string) bool {
	w.input(at.dir)
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(at.node.Value), &doc); err == nil && len(doc.Content) > 0 && doc.Content[0].Kind == yaml.MappingNode {
		w.configuration(at, &doc)
		return false
	}
	name := path.Join(at.dir, at.node.Value)
	if data, err := w.tree.ReadFile(name); within(name) && err == nil {
		dec := yaml.NewDecoder(strings.NewReader(string(data)))
		for {
			var doc yaml.Node
			if dec.Decode(&doc) != nil {
				break
			}
			w.configuration(at, &doc)
		}
	}
	return w.resource(ctx, at, above)
}

// configuration refuses what a plugin's configuration names elsewhere: kustomize
// would fetch it itself, unrecorded.
func (w *walker) configuration(at place, n *yaml.Node) {
	for i, c := range n.Content {
		if c.Kind != yaml.ScalarNode {
			w.configuration(at, c)
			continue
		}
		if _, file, ok := strings.Cut(c.Value, "="); remoteFile(c.Value) || ok && remoteFile(file) {
			if n.Kind == yaml.SequenceNode || i > 0 && slices.Contains([]string{"path", "env"}, n.Content[i-1].Value) {
				w.fail(at, "%s: a plugin's configuration cannot name a remote file: name it in the kustomization", c.Value)
			}
		}
	}
}

// local checks a file of the kustomization's folder.
func (w *walker) local(at place, entry string) {
	real, ok := w.find(at, entry, false)
	if !ok {
		return
	}
	if folder, err := w.tree.real(at.dir); err == nil {
		if _, ok := cutFolder(real, folder); !ok {
			w.fail(at, "%s is not in the kustomization's folder: kustomize takes files from there only, others by way of a base", entry)
			return
		}
	}
	w.input(path.Join(at.dir, entry))
}

// remote fetches a file from a web server, if it is one, and returns what to call it in
// the kustomization's folder; "" where nothing is fetched.
func (w *walker) remote(ctx context.Context, at place, entry string) (string, bool) {
	if !remoteFile(entry) {
		return "", false
	}
	if w.fetch == nil {
		return "", true
	}
	name, err := w.fetch.file(ctx, entry, at.dir)
	if err != nil {
		w.fail(at, "%s", err)
		return "", true
	}
	return name, true
}

// input notes what is read, under its own name too where a symbolic link leads to it.
func (w *walker) input(name string) {
	w.inputs = append(w.inputs, path.Clean(name))
	if real, err := w.tree.real(name); err == nil && real != path.Join("/", name) {
		w.inputs = append(w.inputs, path.Clean(strings.TrimPrefix(real, "/")))
	}
}

// value is what a mapping has under a key; nil where there is nothing.
func value(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if strings.EqualFold(n.Content[i].Value, key) { // as encoding/json matches
			return deref(n.Content[i+1])
		}
	}
	return nil
}

// items are those of the list that a mapping has under a key.
func items(n *yaml.Node, key string) []*yaml.Node {
	list := value(n, key)
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil
	}
	var out []*yaml.Node
	for _, c := range list.Content {
		out = append(out, deref(c))
	}
	return out
}

func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// named finds the key that an error quotes: unknown field "foo".
func named(doc *yaml.Node, text string) *yaml.Node {
	parts := strings.Split(text, `"`)
	if len(parts) < 3 {
		return nil
	}
	var found *yaml.Node
	var visit func(n *yaml.Node)
	visit = func(n *yaml.Node) {
		for i, c := range n.Content {
			if found == nil && n.Kind == yaml.MappingNode && i%2 == 0 && c.Value == parts[1] {
				found = c
			}
			visit(c)
		}
	}
	visit(doc)
	return found
}

// within says whether a path below the root stays there.
func within(name string) bool { return name != ".." && !strings.HasPrefix(name, "../") }

// mountOf is the fetched repository that a path lies in, "" for the source.
func mountOf(name string) string {
	rest, ok := strings.CutPrefix("/"+name, fetchedFolder+"/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

// relative leads from one folder below the root to another.
func relative(from, to string) string {
	if from == "." {
		return to
	}
	return fmt.Sprintf("%s%s", strings.Repeat("../", strings.Count(from, "/")+1), to)
}
