// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"helm.sh/helm/v3/pkg/release"
)

// defaultNamespace is the release's where none is given.
const defaultNamespace = "default"

// namespaceFile holds the Namespace object of option createNamespace. It sorts
// before everything that lies in the namespace.
const namespaceFile = "00-namespace.yaml"

// forceAnnotation has Flux replace an object that it cannot change: a Job is
// immutable, and Helm deletes the one before.
const forceAnnotation = "kustomize.toolkit.fluxcd.io/force"

// piece is a rendered document on its way into the output.
type piece struct {
	template string
	document
	hook bool
}

// place gives the release's namespace to the objects in namespaces that name none,
// as an installation does, and has Flux replace the Jobs of hooks. Without the
// option namespace, objects stay as they are, for whoever deploys to say where,
// unless the chart itself writes the release's namespace somewhere: parts of it
// would be in another namespace then.
func (r *renderer) place(pieces []piece, crds []string) {
	var (
		scopes  map[kind]scope // of what the chart defines; nil until needed
		lookup  = func(k kind) scope { return r.scopeOf(k, pieces, crds, &scopes) }
		write   = r.opts.Namespace != "" || slices.ContainsFunc(pieces, func(p piece) bool { return namesDefault(p.text) })
		written int
	)
	for i, p := range pieces {
		var edits []edit
		for _, o := range p.objects {
			if write && o.namespace == "" {
				switch lookup(o.kind) {
				case namespaced:
					edits = append(edits, edit{o, []string{"metadata"}, "namespace", r.namespace()})
					written++
				case unknown:
					r.warn(r.where(p.template), "%s has no namespace, and whether a %s lies in one is not known: it goes where the deployer puts it, and the release's namespace is %s",
						o, o.kind, r.namespace())
				}
			}
			if p.hook && (o.kind == kind{"batch", "Job"} || o.kind == kind{"", "Pod"}) && member(o.top, "metadata", "annotations", forceAnnotation) == nil {
				edits = append(edits, edit{o, []string{"metadata", "annotations"}, forceAnnotation, "Enabled"})
			}
		}
		pieces[i].text = p.apply(edits)
	}
	if r.opts.Namespace == "" && written > 0 {
		r.note("", "no namespace is given, and the chart names the release's: %d object(s) without one are put into %q as well; option namespace names another", written, r.namespace())
	}
}

// namespace of the release.
func (r *renderer) namespace() string {
	if r.opts.Namespace == "" {
		return defaultNamespace
	}
	return r.opts.Namespace
}

// String is how a kind is written: Kind.group.
func (k kind) String() string {
	if k.group == "" {
		return k.name
	}
	return k.name + "." + k.group
}

// scopeOf is the scope of a kind: of Kubernetes' own, of what the chart defines,
// of what is known of others.
func (r *renderer) scopeOf(k kind, pieces []piece, crds []string, scopes *map[kind]scope) scope {
	if s, ok := kinds[k]; ok {
		return s
	}
	if *scopes == nil {
		all := slices.Clone(crds)
		for _, p := range pieces {
			if slices.ContainsFunc(p.objects, func(o object) bool { return o.kind.name == "CustomResourceDefinition" }) {
				all = append(all, p.text)
			}
		}
		*scopes = defined(all)
	}
	return (*scopes)[k]
}

// namesDefault reports whether a document refers to the namespace that the release
// is rendered for where none is given: an object's, a subject's, a service's.
func namesDefault(text string) bool {
	if !strings.Contains(text, defaultNamespace) {
		return false
	}
	if strings.Contains(text, "."+defaultNamespace+".svc") {
		return true
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return false
	}
	return refersToDefault(&doc)
}

func refersToDefault(n *yaml.Node) bool {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == "namespace" && n.Content[i+1].Value == defaultNamespace {
				return true
			}
		}
	}
	return slices.ContainsFunc(n.Content, refersToDefault)
}

// namespaceObject is the Namespace of the release.
func (r *renderer) namespaceObject() string {
	return fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %q\n", r.opts.Namespace)
}

// createsNamespace reports whether the chart has the Namespace itself.
func (r *renderer) createsNamespace(pieces []piece) bool {
	return slices.ContainsFunc(pieces, func(p piece) bool {
		return slices.ContainsFunc(p.objects, func(o object) bool {
			return o.kind == kind{"", "Namespace"} && o.name == r.opts.Namespace
		})
	})
}

// installs are the events of hooks that belong to an installation or upgrade.
var installs = []release.HookEvent{release.HookPreInstall, release.HookPostInstall, release.HookPreUpgrade, release.HookPostUpgrade}

// wants reports whether a hook is part of the output.
func (r *renderer) wants(h *release.Hook) bool {
	if r.opts.TestHooks && slices.Contains(h.Events, release.HookTest) {
		return true
	}
	switch r.opts.Hooks {
	case hooksAll:
		return true
	case hooksNone:
		return false
	}
	if slices.ContainsFunc(h.Events, func(e release.HookEvent) bool { return slices.Contains(installs, e) }) {
		return true
	}
	var events []string
	for _, e := range h.Events {
		events = append(events, string(e))
	}
	r.note(r.where(h.Path), "%s %s is left out, as no installation runs it (helm.sh/hook: %s); option hooks: all keeps it", h.Kind, h.Name, strings.Join(events, ","))
	return false
}
