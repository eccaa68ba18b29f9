// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
	"helm.sh/helm/v3/pkg/release"
)

// defaultNamespace is the namespace of the release if none is given.
const defaultNamespace = "default"

// namespaceFile is the file with the Namespace object of option createNamespace. It sorts
// before the objects in the namespace.
const namespaceFile = "00-namespace.yaml"

// forceAnnotation makes Flux replace an object that it cannot change: a Job is immutable, and
// Helm deletes the previous one.
const forceAnnotation = "kustomize.toolkit.fluxcd.io/force"

// piece is a rendered document and its origin.
type piece struct {
	template string
	document
	hook bool
}

// place adds the namespace of the release to namespaced objects that have none, like an
// installation, and makes Flux replace the Jobs of hooks. Without option namespace, objects get
// no namespace, so that the deployer can choose it, unless the chart itself uses the namespace of
// the release somewhere: its parts would then end up in different namespaces.
func (r *renderer) place(pieces []piece, crds []string) {
	var (
		own = sync.OnceValue(func() map[kind]scope { // scopes of the kinds that the chart defines
			all := slices.Clone(crds)
			for _, p := range pieces {
				if slices.ContainsFunc(p.objects, func(o object) bool { return o.kind.name == "CustomResourceDefinition" }) {
					all = append(all, p.text)
				}
			}
			return defined(all)
		})
		write   = r.opts.Namespace != "" || slices.ContainsFunc(pieces, func(p piece) bool { return namesDefault(p.text) })
		written int
	)
	for i, p := range pieces {
		var edits []edit
		for _, o := range p.objects {
			if write && o.namespace == "" {
				s, ok := kinds()[o.kind]
				if !ok {
					s = own()[o.kind]
				}
				switch s {
				case namespaced:
					edits = append(edits, edit{o, []string{"metadata"}, "namespace", r.namespace()})
					written++
				case unknown:
					r.warn(r.where(p.template), "%s has no namespace, and it is unknown whether a %s needs one: the deployer decides; the release's namespace is %s",
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
		r.note("", "no namespace is given, but the chart uses the release's: its objects without one (%d) get %q too; option namespace sets another", written, r.namespace())
	}
}

// namespace returns the namespace of the release.
func (r *renderer) namespace() string { return cmp.Or(r.opts.Namespace, defaultNamespace) }

// String returns the kind as Kind.group.
func (k kind) String() string {
	if k.group == "" {
		return k.name
	}
	return k.name + "." + k.group
}

// namesDefault reports whether a document refers to the default namespace of a release, as the
// namespace of an object or subject, or in the host name of a service.
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

// createsNamespace reports whether the chart itself contains the Namespace.
func (r *renderer) createsNamespace(pieces []piece) bool {
	return slices.ContainsFunc(pieces, func(p piece) bool {
		return slices.ContainsFunc(p.objects, func(o object) bool {
			return o.kind == kind{"", "Namespace"} && o.name == r.opts.Namespace
		})
	})
}

// installs are the hook events of an installation or upgrade.
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
	r.note(r.where(h.Path), "%s %s is left out because no installation runs it (helm.sh/hook: %s); set option hooks to all to keep it", h.Kind, h.Name, strings.Join(events, ","))
	return false
}
