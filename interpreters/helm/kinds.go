// SPDX-License-Identifier: Apache-2.0

package helm

import (
	_ "embed"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// kind is a kind of object without its version.
type kind struct{ group, name string }

func kindOf(apiVersion, name string) kind {
	group, _, found := strings.Cut(apiVersion, "/")
	if !found {
		group = "" // v1
	}
	return kind{group, name}
}

// scope tells whether objects of a kind are namespaced.
type scope int

const (
	unknown scope = iota
	namespaced
	clusterWide
)

//go:embed kinds.txt
var kindsText string

// kinds parses kinds.txt: the scopes of the kinds of Kubernetes, and of custom resources that
// charts use without defining them.
var kinds = sync.OnceValue(func() map[kind]scope {
	out := map[kind]scope{}
	for line := range strings.Lines(kindsText) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		group, names, _ := strings.Cut(line, ": ")
		if group == "core" {
			group = ""
		}
		s := namespaced
		for name := range strings.FieldsSeq(names) {
			if name == "/" {
				s = clusterWide
				continue
			}
			out[kind{group, name}] = s
		}
	}
	return out
})

// definition holds the fields of a CustomResourceDefinition that determine the scope.
type definition struct {
	Kind string
	Spec struct {
		Group string
		Names struct{ Kind string }
		Scope string
	}
}

// defined returns the scopes of the kinds that documents define. Documents that do not
// parse are ignored.
func defined(docs []string) map[kind]scope {
	out := map[kind]scope{}
	for _, text := range docs {
		dec := yaml.NewDecoder(strings.NewReader(text))
		for {
			var d definition
			if err := dec.Decode(&d); err != nil {
				break
			}
			if d.Kind != "CustomResourceDefinition" {
				continue
			}
			switch k := (kind{d.Spec.Group, d.Spec.Names.Kind}); d.Spec.Scope {
			case "Namespaced":
				out[k] = namespaced
			case "Cluster":
				out[k] = clusterWide
			}
		}
	}
	return out
}
