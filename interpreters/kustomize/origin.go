// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"cmp"
	"path"
	"regexp"
	"slices"

	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// tracked is the kustomization of the source, changed to annotate every object with the
// file that it comes from.
type tracked struct {
	file string // path in the tree
	data []byte
	// wanted reports whether the user asked for the annotations.
	wanted bool
}

// track changes a kustomization to annotate objects with their origins.
func track(file string, data []byte) (tracked, error) {
	t := tracked{file: path.Join("/", file)}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return t, err
	}
	top := doc.Content[0]
	list := value(top, "buildMetadata")
	switch {
	case list == nil:
		list = &yaml.Node{Kind: yaml.SequenceNode, Tag: yaml.NodeTagSeq}
		top.Content = append(top.Content, yaml.NewStringRNode("buildMetadata").YNode(), list)
	case list.Kind != yaml.SequenceNode: // null
		*list = yaml.Node{Kind: yaml.SequenceNode, Tag: yaml.NodeTagSeq}
	}
	t.wanted = slices.ContainsFunc(list.Content, func(n *yaml.Node) bool { return deref(n).Value == types.OriginAnnotations })
	if !t.wanted {
		list.Content = append(list.Content, yaml.NewStringRNode(types.OriginAnnotations).YNode())
	}
	var err error
	t.data, err = yaml.Marshal(&doc)
	return t, err
}

// readsAnnotations matches what can make a build depend on the annotations of objects:
// patches and replacements that name them, selectors, and hashes of whole objects.
var readsAnnotations = regexp.MustCompile(`metadata[./]annotations|annotationSelector|needs-hash`)

// annotation matches the keys of kustomize's origin annotations.
var annotation = regexp.MustCompile(`config\.kubernetes\.io/(origin|transformations)`)

// watched is a tree in which the tracked kustomization replaces the original.
type watched struct {
	*tree
	tracked tracked
	reads   int  // of the kustomization
	unsafe  bool // a file was read that may depend on annotations
}

func (w *watched) ReadFile(name string) ([]byte, error) {
	if path.Join("/", name) == w.tracked.file {
		w.reads++
	}
	data, err := w.tree.ReadFile(name)
	w.unsafe = w.unsafe || readsAnnotations.Match(data)
	return data, err
}

// origins returns the files that objects come from, relative to the root. For a generated object
// it is the kustomization, and for an object from outside the source "".
func origins(t *tree, objects resmap.ResMap, folder string) []string {
	names := make([]string, objects.Size())
	for i, r := range objects.Resources() {
		origin, err := r.GetOrigin()
		if err != nil || origin == nil || origin.Repo != "" {
			continue
		}
		name := path.Join(folder, cmp.Or(origin.Path, origin.ConfiguredIn))
		if t.inSource(name) {
			names[i] = name
		}
	}
	return names
}
