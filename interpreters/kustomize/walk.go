// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// walker visits a kustomization and everything that it refers to, like kustomize will. It
// collects the inputs, reports what is missing with its position and, if it has a fetcher,
// replaces remote entries by local ones.
type walker struct {
	tree     *tree
	fetch    *fetcher          // nil if only the tree is read
	inputs   []string          // relative to the root
	names    map[string]string // folder → kustomization file
	schema   bool              // a kustomization has an OpenAPI schema
	problems interpreter.Problems
}

// kustomization is a kustomization being visited.
type kustomization struct {
	dir, file string   // relative to the root
	above     []string // folders that lead to it, including its own
	changed   bool     // a remote entry was replaced
}

// place is a value in a kustomization.
type place struct {
	in   *kustomization
	node *yaml.Node
}

// replace replaces a remote entry by a local one.
func (p place) replace(name string) {
	p.node.Value = name
	p.in.changed = true
}

func (w *walker) source(ctx context.Context, name string) {
	if !w.tree.IsDir(name) {
		if base := path.Base(name); slices.Contains(konfig.RecognizedKustomizationFileNames(), base) && w.tree.Exists(name) {
			w.add(interpreter.Problem(name, 0, "name the folder, not the %s in it", base))
			return
		}
		w.add(interpreter.Problem(name, 0, "no such folder"))
		return
	}
	w.folder(ctx, path.Clean(name), nil)
}

// file returns the path of the kustomization in a folder.
func (w *walker) file(dir string) string {
	if mountOf(dir) != "" {
		return "" // in a fetched repository, which the message names
	}
	if name := w.names[path.Clean(dir)]; name != "" {
		return name
	}
	return path.Join(dir, "kustomization.yaml")
}

func (w *walker) fail(at place, format string, args ...any) {
	w.add(interpreter.Problem(at.in.file, at.node.Line, format, args...))
}

// add adds problems. Problems in a fetched repository get its name.
func (w *walker) add(found interpreter.Problems) {
	for _, p := range found {
		if mountOf(p.File) != "" {
			p.Summary = w.fetch.names().Replace("/"+p.File) + ": " + p.Summary
			p.File, p.Line = "", 0
		}
		w.problems = append(w.problems, p)
	}
}

// folder visits the kustomization in a folder. above are the folders that lead to it;
// kustomize rejects a reference back to one of them.
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
		w.add(interpreter.Problem(dir, 0, "the folder has %d kustomization files; one of %s is needed", len(found), strings.Join(konfig.RecognizedKustomizationFileNames(), ", ")))
		return
	}
	file := found[0]
	if w.names == nil {
		w.names = map[string]string{}
	}
	w.names[dir] = file
	w.input(file)

	data, err := w.tree.read(file)
	if err != nil {
		w.add(interpreter.Problem(file, 0, "%s", err))
		return
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		w.add(interpreter.YAMLProblem(file, "not valid YAML", err))
		return
	}
	var valid types.Kustomization
	if err := valid.Unmarshal(data); err != nil {
		text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "invalid Kustomization: "), "json: ")
		w.add(interpreter.Problem(file, lineOf(&doc, text), "the kustomization is not valid: %s", text))
		return
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		w.add(interpreter.Problem(file, 0, "the kustomization is empty"))
		return
	}
	k := &kustomization{dir: dir, file: file, above: append(slices.Clip(above), dir)}
	w.fields(ctx, k, doc.Content[0])
	if k.changed {
		data, err := yaml.Marshal(&doc)
		if err != nil {
			w.add(interpreter.Problem(file, 0, "%s", err))
			return
		}
		w.tree.files[path.Join("/", file)] = data
	}
}

// fields visits all fields of a kustomization that name files or folders.
func (w *walker) fields(ctx context.Context, k *kustomization, top *yaml.Node) {
	each := func(visit func(place), keys ...string) {
		for _, key := range keys {
			for _, n := range items(top, key) {
				visit(place{k, n})
			}
		}
	}
	each(func(at place) {
		w.fail(at, "Helm charts inside a kustomization are not supported: package the chart as a separate source")
	}, "helmCharts", "helmChartInflationGenerator")
	each(func(at place) { w.resource(ctx, at) }, "resources", "bases")
	each(func(at place) { w.base(ctx, at) }, "components")
	each(func(at place) { w.single(ctx, at) }, "crds", "configurations")
	each(func(at place) {
		// An inline patch, unless a file of that name exists.
		if name := at.node.Value; !strings.Contains(name, "\n") && (remoteFile(name) || w.tree.Exists(path.Join(k.dir, name))) {
			w.single(ctx, at)
		}
	}, "patchesStrategicMerge")
	each(func(at place) { w.field(ctx, at, "path") }, "patches", "patchesJson6902", "replacements")
	each(func(at place) { w.generator(ctx, at) }, "configMapGenerator", "secretGenerator")
	each(func(at place) { w.plugin(ctx, at) }, "generators", "transformers", "validators")
	if n := value(top, "openapi"); n != nil {
		w.schema = true
		w.field(ctx, place{k, n}, "path")
	}
}

// resource visits an entry that is a file or a folder, local or remote.
func (w *walker) resource(ctx context.Context, at place) {
	entry := at.node.Value
	name := path.Join(at.in.dir, entry)
	switch {
	case remoteFile(entry):
		w.single(ctx, at)
	case within(name) && w.tree.Exists(name) && !w.tree.IsDir(name):
		w.local(at, entry)
	default:
		w.base(ctx, at)
	}
}

// base visits a folder with a kustomization, local or in a git repository.
func (w *walker) base(ctx context.Context, at place) {
	entry := at.node.Value
	if spec, ok := parseRepository(entry); ok {
		if w.fetch == nil {
			return
		}
		dir, err := w.fetch.repository(ctx, spec)
		if err != nil {
			w.fail(at, "%s", err)
			return
		}
		w.folder(ctx, dir, nil)
		at.replace(relative(at.in.dir, dir))
		return
	}
	real, ok := w.find(at, entry, true)
	if !ok {
		return
	}
	if slices.ContainsFunc(at.in.above, func(a string) bool { _, below := cutFolder("/"+a, real); return below || real == "/" }) {
		w.fail(at, "%s leads back to a kustomization that includes this one", entry)
		return
	}
	if name := path.Join(at.in.dir, entry); real != path.Join("/", name) {
		w.input(name) // reached through a symbolic link
	}
	w.folder(ctx, path.Clean(strings.TrimPrefix(real, "/")), at.in.above)
}

// find resolves a path in a kustomization to an existing folder or file.
func (w *walker) find(at place, entry string, folder bool) (real string, ok bool) {
	name := path.Join(at.in.dir, entry)
	if path.IsAbs(entry) {
		w.fail(at, "%s is an absolute path; use a relative one", entry)
		return "", false
	}
	if !within(name) || mountOf(name) != mountOf(at.in.dir) {
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
		w.fail(at, "%s: no such file or folder", entry)
	default:
		w.fail(at, "%s: no such file", entry)
	}
	return "", false
}

// outside handles a path that leads outside the source: Inputs returns it, for tape to decide on,
// and Render fails.
func (w *walker) outside(at place, entry, target string) {
	if w.fetch == nil {
		w.inputs = append(w.inputs, target)
		return
	}
	w.fail(at, "%s leads outside the source", entry)
}

// single visits a file in the kustomization's folder or on a web server.
func (w *walker) single(ctx context.Context, at place) {
	if entry := at.node.Value; !remoteFile(entry) {
		w.local(at, entry)
	} else if name := w.remote(ctx, at, entry); name != "" {
		at.replace(name)
	}
}

// field visits a file named by a field of a mapping.
func (w *walker) field(ctx context.Context, at place, key string) {
	if n := value(at.node, key); n != nil && n.Value != "" {
		w.single(ctx, place{at.in, n})
	}
}

// generator visits a ConfigMap or Secret generator: files as [key=]path, and env files.
func (w *walker) generator(ctx context.Context, at place) {
	w.field(ctx, at, "env")
	for _, n := range items(at.node, "envs") {
		w.single(ctx, place{at.in, n})
	}
	for _, n := range items(at.node, "files") {
		at := place{at.in, n}
		key, name, named := strings.Cut(n.Value, "=")
		if !named || remoteFile(n.Value) { // the "=" may be in the query of a URL
			key, name = path.Base(strings.SplitN(n.Value, "?", 2)[0]), n.Value
		}
		if !remoteFile(name) {
			w.local(at, name)
		} else if local := w.remote(ctx, at, name); local != "" {
			at.replace(key + "=" + local)
		}
	}
}

// plugin visits the configuration of a generator, transformer or validator: inline, in a file, or
// in a folder. Only kustomize knows which files that names, but they must be in the folder of the
// kustomization.
func (w *walker) plugin(ctx context.Context, at place) {
	w.input(at.in.dir)
	text, name := []byte(at.node.Value), path.Join(at.in.dir, at.node.Value)
	var doc yaml.Node
	inline := yaml.Unmarshal(text, &doc) == nil && len(doc.Content) > 0 && doc.Content[0].Kind == yaml.MappingNode
	if !inline && within(name) {
		text, _ = w.tree.read(name) // a folder is visited below
	}
	for _, entry := range remoteInPlugins(text) {
		w.fail(at, "%s: a plugin's configuration cannot name a remote file: name it in the kustomization", entry)
	}
	if !inline {
		w.resource(ctx, at)
	}
}

// remoteInPlugins returns the remote files that configurations of built-in plugins name.
// Kustomize itself would fetch them without recording it.
func remoteInPlugins(data []byte) []string {
	if !bytes.Contains(data, []byte("://")) || !bytes.Contains(data, []byte(konfig.BuiltinPluginApiVersion)) {
		return nil
	}
	var found []string
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if dec.Decode(&doc) != nil {
			return found
		}
		if len(doc.Content) == 0 {
			continue
		}
		if v := value(doc.Content[0], "apiVersion"); v != nil && v.Value == konfig.BuiltinPluginApiVersion {
			found = append(found, remoteIn(doc.Content[0])...)
		}
	}
}

// remoteIn returns the remote files in lists and in fields that contain a path.
func remoteIn(n *yaml.Node) []string {
	var found []string
	for i, c := range n.Content {
		if c.Kind != yaml.ScalarNode {
			found = append(found, remoteIn(c)...)
			continue
		}
		names := n.Kind == yaml.SequenceNode || i%2 == 1 && slices.Contains([]string{"path", "env"}, n.Content[i-1].Value)
		if _, file, ok := strings.Cut(c.Value, "="); names && (remoteFile(c.Value) || ok && remoteFile(file)) {
			found = append(found, c.Value)
		}
	}
	return found
}

// local checks a file in the kustomization's folder.
func (w *walker) local(at place, entry string) {
	real, ok := w.find(at, entry, false)
	if !ok {
		return
	}
	if folder, err := w.tree.real(at.in.dir); err == nil {
		if _, ok := cutFolder(real, folder); !ok {
			w.fail(at, "%s is not in the kustomization's folder: kustomize reads files only from there; use a base for others", entry)
			return
		}
	}
	w.input(path.Join(at.in.dir, entry))
}

// remote fetches a file and returns its name in the kustomization's folder, or "" if
// nothing was fetched.
func (w *walker) remote(ctx context.Context, at place, entry string) string {
	if w.fetch == nil {
		return ""
	}
	name, err := w.fetch.file(ctx, entry, at.in.dir)
	if err != nil {
		w.fail(at, "%s", err)
	}
	return name
}

// input records an input, and the target if it is reached through a symbolic link.
func (w *walker) input(name string) {
	w.inputs = append(w.inputs, path.Clean(name))
	if real, err := w.tree.real(name); err == nil && real != path.Join("/", name) {
		w.inputs = append(w.inputs, path.Clean(strings.TrimPrefix(real, "/")))
	}
}

// value returns the value of a key in a mapping, or nil.
func value(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if strings.EqualFold(n.Content[i].Value, key) { // like encoding/json
			return deref(n.Content[i+1])
		}
	}
	return nil
}

// items returns the items of the list at a key of a mapping.
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

// lineOf returns the line of the key that an error quotes (unknown field "foo"), 0 if there
// is none.
func lineOf(doc *yaml.Node, text string) int {
	parts := strings.Split(text, `"`)
	if len(parts) < 3 {
		return 0
	}
	for i, n := range doc.Content {
		if doc.Kind == yaml.MappingNode && i%2 == 0 && n.Value == parts[1] {
			return n.Line
		}
		if line := lineOf(n, text); line > 0 {
			return line
		}
	}
	return 0
}

// within reports whether a path relative to the root stays below it.
func within(name string) bool { return name != ".." && !strings.HasPrefix(name, "../") }

// mountOf returns the fetched repository that a path is in, "" for the source.
func mountOf(name string) string {
	rest, ok := strings.CutPrefix("/"+name, fetchedFolder+"/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

// relative returns the path from one folder below the root to another.
func relative(from, to string) string {
	if from == "." {
		return to
	}
	return fmt.Sprintf("%s%s", strings.Repeat("../", strings.Count(from, "/")+1), to)
}
