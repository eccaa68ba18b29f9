// SPDX-License-Identifier: Apache-2.0

package manifests

import "strings"

// Patches names the files that a kustomization patches with, as it names them.
// They look like objects and are none: they say what to change in one.
func Patches(kustomization []byte) []string {
	docs, _ := Parse(Open("", kustomization).Text)
	var out []string
	add := func(n *Node) {
		if name := n.Text(); name != "" && !strings.Contains(name, "\n") {
			out = append(out, name)
		}
	}
	for i := range docs {
		root := &docs[i].Root
		for _, key := range []string{"patches", "patchesStrategicMerge", "patchesJson6902"} {
			list := root.Get(key)
			if list == nil {
				continue
			}
			for j := range list.Items {
				add(&list.Items[j])
				add(list.Items[j].Get("path"))
			}
		}
	}
	return out
}
