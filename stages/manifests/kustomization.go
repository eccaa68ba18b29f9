// SPDX-License-Identifier: Apache-2.0

package manifests

import "strings"

// Ingredients returns the names, as written, of the files that a kustomization uses as patches
// and as contents of generated ConfigMaps and Secrets. They may look like objects, but a patch
// only describes changes to an object, and contents are read by programs.
func Ingredients(kustomization []byte) (patches, contents []string) {
	docs, _ := Parse(Open("", kustomization).Text)
	for i := range docs {
		root := &docs[i].Root
		for _, key := range []string{"patches", "patchesStrategicMerge", "patchesJson6902"} {
			for _, patch := range root.Get(key).items() {
				for _, name := range []string{patch.Text(), patch.Get("path").Text()} {
					if name != "" && !strings.Contains(name, "\n") {
						patches = append(patches, name)
					}
				}
			}
		}
		for _, key := range []string{"configMapGenerator", "secretGenerator"} {
			for _, generator := range root.Get(key).items() {
				for _, file := range generator.Get("files").items() {
					name := file.Text()
					if _, path, renamed := strings.Cut(name, "="); renamed {
						name = path
					}
					if name != "" {
						contents = append(contents, name)
					}
				}
			}
		}
	}
	return patches, contents
}

func (n *Node) items() []Node {
	if n == nil {
		return nil
	}
	return n.Items
}
