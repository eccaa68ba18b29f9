// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// Concern is a kind of change that a reviewer should see first.
type Concern string

// The concerns, the most serious first.
const (
	NewRegistry  Concern = "registry"  // images come from a new registry
	LostEvidence Concern = "evidence"  // an image lost a signature, attestation or SBOM
	Access       Concern = "access"    // a pod is privileged, or has access to its node
	Rights       Concern = "rights"    // RBAC grants more
	Extension    Concern = "extension" // a new CustomResourceDefinition, webhook or API
	Exposure     Concern = "exposure"  // something is reachable from outside
	Removed      Concern = "removed"   // an object was removed
	NewImage     Concern = "image"     // an image of a new repository
	Version      Concern = "version"   // another version of an image
)

var concerns = []Concern{NewRegistry, LostEvidence, Access, Rights, Extension, Exposure, Removed, NewImage, Version}

// Matter is a change that a reviewer should see first.
type Matter struct {
	What Concern `json:"what"`
	// Object is set for a change of an object. Image is the name of an image, and is set for a
	// change of one.
	Object *ObjectKey `json:"object,omitempty"`
	Image  string     `json:"image,omitempty"`
	// Text is the rest of the sentence that begins with the object or the image.
	Text string `json:"text"`
}

// Subject returns the object or the image.
func (m Matter) Subject() string {
	if m.Object != nil {
		return m.Object.String()
	}
	return m.Image
}

func sortMatters(list []Matter) {
	slices.SortStableFunc(list, func(x, y Matter) int {
		return cmp.Or(cmp.Compare(slices.Index(concerns, x.What), slices.Index(concerns, y.What)), cmp.Compare(weight(y), weight(x)), strings.Compare(x.Subject(), y.Subject()))
	})
}

// alsoDeletes lists kinds whose deletion deletes other things, with a description of those.
var alsoDeletes = map[ObjectKey]string{
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: "every object of its kind",
	{Kind: "Namespace"}:             "everything in it",
	{Kind: "PersistentVolumeClaim"}: "the data in it",
}

// removed returns the matter of an object that was removed.
func removed(key ObjectKey) Matter {
	text := "is gone"
	if along := alsoDeletes[ObjectKey{Group: key.Group, Kind: key.Kind}]; along != "" {
		text += "; deleting it deletes " + along
	}
	return Matter{What: Removed, Object: &key, Text: text}
}

// weight is greater for matters that come first among those of one concern.
func weight(m Matter) int {
	if m.What == Removed && m.Object != nil && alsoDeletes[ObjectKey{Group: m.Object.Group, Kind: m.Object.Kind}] != "" {
		return 1
	}
	return 0
}

// imageMatters returns the matters of the images that differ.
func imageMatters(a, b []artifact.ViewImage, d ImagesDiff) []Matter {
	var out []Matter
	had := map[string]bool{}
	for _, image := range a {
		had[registryOf(image.Name)] = true
	}
	for _, image := range b {
		if host := registryOf(image.Name); !had[host] {
			had[host] = true
			out = append(out, Matter{What: NewRegistry, Image: image.Name, Text: "comes from " + host + ", a registry that no image came from before"})
		}
	}
	for _, image := range d.Added {
		text := "is new"
		if old := replaced(image.Name, d); old != "" {
			text += ", in place of " + old
		}
		out = append(out, Matter{What: NewImage, Image: image.Name, Text: text})
	}
	was, is := evidence(a), evidence(b)
	for _, image := range d.Changed {
		text := "is another image under the same name"
		if image.Was != "" {
			text = "was " + tagOrDigest(image.Was) + ", and is " + tagOrDigest(image.Name)
		}
		out = append(out, Matter{What: Version, Image: image.Name, Text: text})
		before := was[cmp.Or(image.Was, image.Name)]
		for _, kind := range []string{images.Signature, images.Attestation, images.SBOM} {
			if before[kind] && !is[image.Name][kind] {
				out = append(out, Matter{What: LostEvidence, Image: image.Name, Text: "has no " + strings.Replace(kind, images.SBOM, "SBOM", 1) + " any more"})
			}
		}
	}
	return out
}

// replaced returns the image that was replaced by one of the same name in another repository, or
// "" if there is not exactly one.
func replaced(name string, d ImagesDiff) string {
	called := func(list []DiffImage) (out []string) {
		for _, image := range list {
			if path.Base(imageRepository(image.Name)) == path.Base(imageRepository(name)) {
				out = append(out, image.Name)
			}
		}
		return out
	}
	if gone := called(d.Removed); len(gone) == 1 && len(called(d.Added)) == 1 {
		return gone[0]
	}
	return ""
}

// evidence returns, by image name, the kinds of what is published with each image.
func evidence(list []artifact.ViewImage) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for _, image := range list {
		kinds := map[string]bool{}
		for _, r := range image.Related {
			kinds[r.Kind] = true
		}
		for _, name := range append([]string{image.Name}, image.Names...) {
			out[name] = kinds
		}
	}
	return out
}

func registryOf(name string) string {
	host, _, _ := strings.Cut(name, "/")
	return host
}

func tagOrDigest(name string) string {
	return cmp.Or(imageref.Split(name).Version(), "untagged")
}

// extensions are kinds that change how the cluster treats other objects.
var extensions = map[string]string{
	"CustomResourceDefinition":         "is a new kind of object in the whole cluster",
	"MutatingWebhookConfiguration":     "is a new webhook that changes objects",
	"ValidatingWebhookConfiguration":   "is a new webhook that refuses objects",
	"MutatingAdmissionPolicy":          "is a new policy that changes objects",
	"ValidatingAdmissionPolicy":        "is a new policy that refuses objects",
	"MutatingAdmissionPolicyBinding":   "puts a policy that changes objects into force",
	"ValidatingAdmissionPolicyBinding": "puts a policy that refuses objects into force",
	"APIService":                       "is a new API of the cluster",
}

// rbac is the group of roles and bindings.
const rbac = "rbac.authorization.k8s.io"

// objectMatters returns the matters of an object; before is nil if it is new.
func objectMatters(key ObjectKey, before, after any) []Matter {
	var out []Matter
	add := func(what Concern, text string) { out = append(out, Matter{What: what, Object: &key, Text: text}) }
	if text := extensions[key.Kind]; text != "" && before == nil && strings.HasSuffix(key.Group, ".k8s.io") {
		add(Extension, text)
	}
	for _, text := range newWebhooks(key, before, after) {
		add(Extension, text)
	}
	was, is := newAccess(before), newAccess(after)
	for _, text := range is.has {
		if !slices.Contains(was.has, text) {
			add(Access, text)
		}
	}
	for _, p := range was.guards {
		if !slices.Contains(is.guards, p) && slices.Contains(is.containers, p.container) {
			add(Access, p.lost)
		}
	}
	if key.Group == rbac {
		for _, text := range newRights(before, after) {
			add(Rights, text)
		}
	}
	if t := exposed(key, after); t != "" && t != exposed(key, before) {
		add(Exposure, t)
	}
	return out
}

// newWebhooks describes what the webhooks of an existing configuration now do in addition.
func newWebhooks(key ObjectKey, before, after any) (out []string) {
	if key.Group != "admissionregistration.k8s.io" || before == nil {
		return nil
	}
	was := map[string]any{}
	for _, hook := range itemsAt(before, "webhooks") {
		was[textAt(hook, "name")] = hook
	}
	does := map[string]string{"MutatingWebhookConfiguration": "changes objects", "ValidatingWebhookConfiguration": "refuses objects"}[key.Kind]
	for _, hook := range itemsAt(after, "webhooks") {
		name := textAt(hook, "name")
		switch old := was[name]; {
		case old == nil:
			out = append(out, "has the new webhook "+name+", which "+does)
		case textAt(old, "failurePolicy") == "Ignore" && textAt(hook, "failurePolicy") != "Ignore":
			out = append(out, "lets no request pass any more while its webhook "+name+" does not answer")
		}
	}
	return out
}

// exposed describes how an object can be reached from outside the cluster, or returns "" if it
// cannot.
func exposed(key ObjectKey, object any) string {
	switch {
	case object == nil:
		return ""
	case key.Group == "" && key.Kind == "Service":
		switch t := textAt(object, "spec", "type"); t {
		case "LoadBalancer", "NodePort":
			return "is reachable from outside the cluster (" + t + ")"
		}
	case key.Kind == "Ingress" && key.Group == "networking.k8s.io":
		var hosts []string
		for _, rule := range itemsAt(object, "spec", "rules") {
			hosts = append(hosts, cmp.Or(textAt(rule, "host"), "any host"))
		}
		slices.Sort(hosts)
		if hosts = slices.Compact(hosts); len(hosts) > 0 {
			return "is reachable from outside the cluster (" + strings.Join(hosts, ", ") + ")"
		}
	}
	return ""
}

// access describes what the pods of an object may do to their node.
type access struct {
	has        []string
	containers []string
	guards     []guard
}

// guard is a restriction that a container lost.
type guard struct{ container, lost string }

func newAccess(object any) *access {
	a := &access{}
	a.walk(object)
	return a
}

// walk finds the PodSpecs in a value: maps with a list of containers.
func (a *access) walk(v any) {
	switch v := v.(type) {
	case map[string]any:
		if list, ok := v["containers"].([]any); ok && len(list) > 0 {
			a.pod(v)
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			a.walk(v[key])
		}
	case []any:
		for _, item := range v {
			a.walk(item)
		}
	}
}

func (a *access) pod(spec map[string]any) {
	for _, field := range []struct{ name, text string }{
		{"hostNetwork", "uses the network of its node"}, {"hostPID", "sees the processes of its node"}, {"hostIPC", "shares the memory of its node's processes"},
	} {
		if spec[field.name] == true {
			a.has = append(a.has, field.text)
		}
	}
	for _, volume := range itemsAt(spec, "volumes") {
		if path := textAt(volume, "hostPath", "path"); path != "" {
			a.has = append(a.has, "mounts "+path+" of its node")
		}
	}
	for _, key := range []string{"initContainers", "containers", "ephemeralContainers"} {
		for _, c := range itemsAt(spec, key) {
			a.container(c, at(spec, "securityContext"))
		}
	}
}

func (a *access) container(c, pod any) {
	name := "container " + textAt(c, "name")
	a.containers = append(a.containers, name)
	own := at(c, "securityContext")
	either := func(field string) any {
		if v := at(own, field); v != nil {
			return v
		}
		return at(pod, field)
	}
	if at(own, "privileged") == true {
		a.has = append(a.has, name+" is privileged")
	}
	if at(own, "allowPrivilegeEscalation") == true {
		a.has = append(a.has, name+" may gain privileges")
	}
	if fmt.Sprint(either("runAsUser")) == "0" {
		a.has = append(a.has, name+" runs as root")
	}
	for _, capability := range itemsAt(own, "capabilities", "add") {
		a.has = append(a.has, fmt.Sprintf("%s has the capability %v", name, capability))
	}
	for _, port := range itemsAt(c, "ports") {
		if n, ok := at(port, "hostPort").(json.Number); ok && n != "0" {
			a.has = append(a.has, fmt.Sprintf("%s listens on port %s of its node", name, n))
		}
	}
	for _, g := range []struct {
		holds bool
		lost  string
	}{
		{either("runAsNonRoot") == true, "may run as root now"},
		{at(own, "readOnlyRootFilesystem") == true, "may write to its file system now"},
		{at(own, "allowPrivilegeEscalation") == false, "may gain privileges now"},
		{slices.Contains(itemsAt(own, "capabilities", "drop"), any("ALL")), "keeps capabilities that it dropped before"},
	} {
		if g.holds {
			a.guards = append(a.guards, guard{name, name + " " + g.lost})
		}
	}
}

// maxGrants limits the grants of one role. Each grant is one verb on one resource.
const maxGrants = 4096

// grant is one verb on one resource.
type grant struct{ verb, group, resource, name string }

// newRights describes what a role or a binding allows that it did not allow before.
func newRights(before, after any) []string {
	var out []string
	if role := textAt(after, "roleRef", "name"); role != "" {
		subject := func(v any) string {
			s := textAt(v, "kind") + " " + strings.TrimPrefix(textAt(v, "namespace")+"/"+textAt(v, "name"), "/")
			return s
		}
		var had []string
		if textAt(before, "roleRef", "name") == role {
			for _, s := range itemsAt(before, "subjects") {
				had = append(had, subject(s))
			}
		}
		for _, s := range itemsAt(after, "subjects") {
			if s := subject(s); !slices.Contains(had, s) {
				out = append(out, fmt.Sprintf("gives %s to %s", textAt(after, "roleRef", "kind")+" "+role, s))
			}
		}
		return out
	}
	was, _ := grants(before)
	is, all := grants(after)
	if !all {
		return []string{"has too many rules to compare: read them"}
	}
	verbs := map[grant][]string{} // by resource
	for g := range is {
		if !covered(was, g) {
			of := g
			of.verb = ""
			verbs[of] = append(verbs[of], g.verb)
		}
	}
	resources := map[string][]grant{} // by verbs
	for of, list := range verbs {
		slices.Sort(list)
		key := strings.Join(list, ", ")
		resources[key] = append(resources[key], of)
	}
	for _, key := range slices.Sorted(maps.Keys(resources)) {
		out = append(out, "may "+strings.ReplaceAll(key, "*", "do everything with")+" "+resourceNames(resources[key]))
	}
	return out
}

// resourceNames describes resources, grouped by API group.
func resourceNames(resources []grant) string {
	names := map[string]map[string][]string{} // by group and resource
	for _, r := range resources {
		if names[r.group] == nil {
			names[r.group] = map[string][]string{}
		}
		of := names[r.group][r.resource]
		if r.name != "" {
			of = append(of, r.name)
		}
		names[r.group][r.resource] = of
	}
	var out []string
	for _, group := range slices.Sorted(maps.Keys(names)) {
		var list []string
		for _, resource := range slices.Sorted(maps.Keys(names[group])) {
			if called := names[group][resource]; len(called) > 0 {
				slices.Sort(called)
				resource += " called " + strings.Join(called, " or ")
			}
			list = append(list, resource)
		}
		text := strings.Join(list, ", ")
		switch {
		case group == "*" && text == "*":
			text = "every resource"
		case group == "*":
			text += " of every group"
		case text == "*":
			text = "everything of " + cmp.Or(group, "the core group")
		case group != "":
			text += " of " + group
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// grants returns what the rules of a role allow. all is false if there are more than maxGrants.
func grants(role any) (out map[grant]bool, all bool) {
	out = map[grant]bool{}
	texts := func(rule any, field string, none ...string) []string {
		var list []string
		for _, v := range itemsAt(rule, field) {
			if s, ok := v.(string); ok {
				list = append(list, s)
			}
		}
		if len(list) == 0 {
			return none
		}
		return list
	}
	for _, rule := range itemsAt(role, "rules") {
		for _, verb := range texts(rule, "verbs") {
			for _, url := range texts(rule, "nonResourceURLs") {
				out[grant{verb: verb, resource: url}] = true
			}
			for _, group := range texts(rule, "apiGroups") {
				for _, resource := range texts(rule, "resources") {
					for _, name := range texts(rule, "resourceNames", "") {
						if len(out) == maxGrants {
							return out, false
						}
						out[grant{verb, group, resource, name}] = true
					}
				}
			}
		}
	}
	return out, true
}

// covered reports whether one of the grants allows what g does.
func covered(by map[grant]bool, g grant) bool {
	for _, verb := range []string{g.verb, "*"} {
		for _, group := range []string{g.group, "*"} {
			for _, resource := range []string{g.resource, "*"} {
				for _, name := range []string{g.name, ""} {
					if by[grant{verb, group, resource, name}] {
						return true
					}
				}
			}
		}
	}
	return false
}

// at returns the value at a path of map keys, or nil if there is none.
func at(v any, keys ...string) any {
	for _, key := range keys {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func textAt(v any, keys ...string) string {
	s, _ := at(v, keys...).(string)
	return s
}

func itemsAt(v any, keys ...string) []any {
	list, _ := at(v, keys...).([]any)
	return list
}
