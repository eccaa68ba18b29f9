// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"regexp"
	"strings"

	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// Why something that names an image is not an image to run.
const (
	pushed    = "where an image is pushed to"
	compared  = "an image that others are compared with"
	condition = "a condition"
	ofMachine = "an image of a machine"
	parameter = "a parameter that names what a pipeline makes or looks at"
)

// Words right before or behind "image" that say what becomes of it.
var (
	pushWords = set("output outputs target destination dest push pushed pushspec publish published result built rendered")
	pushTo    = set("output outputs destination destinations dest push publish export exports")
	pushFlags = set("destination dest push output tag t")

	compareBefore = set("allow allowed allowlist allowlisted whitelist whitelisted trusted permitted approved deny denied denylist denylisted " +
		"block blocked blocklist blocklisted blacklist blacklisted forbidden banned disallowed exclude excluded exempt exempted ignore ignored " +
		"skip skipped unwanted watch watched track tracked match matched matching remove removed delete deleted purge vulnerable")
	compareBehind = set("allow allowed deny denied block blocked white black allowlist whitelist denylist blocklist blacklist exclusion exclusions exemption exemptions pattern patterns glob globs " +
		"regex regexes regexp matcher matchers match matches")
	machineWords = set("vm vms machine machines disk disks ami amis os osimage vmimage")
)

// spokenName is why a value of this name is not an image to run; "" is that it may
// be one.
func spokenName(name string) string {
	if strings.HasSuffix(name, ")") {
		if i := strings.IndexByte(name, '('); i >= 0 && name[:i] != "+" {
			return condition // of Kyverno: (image), =(image), X(image); +(image) is a value
		}
	}
	if !containsImage(name) {
		return ""
	}
	words := splitWords(name)
	for i, w := range words {
		if w != "image" && w != "images" {
			continue
		}
		before, behind := "", ""
		if i > 0 {
			before = words[i-1]
		}
		if i+1 < len(words) {
			behind = words[i+1]
			if (behind == "to" || behind == "for") && i+2 < len(words) {
				behind = words[i+2]
			}
		}
		switch {
		case pushWords[before], pushWords[behind]:
			return pushed
		case compareBefore[before], compareBehind[behind], behind == "remove", behind == "delete":
			return compared
		}
	}
	return ""
}

// spokenFlag is the same of a flag's name, dashes included.
func spokenFlag(name string) string {
	if pushFlags[strings.TrimLeft(name, "-")] {
		return pushed
	}
	return spokenName(name)
}

// isMachine reports whether a name is of a machine or disk: what is called image
// below it starts that.
func isMachine(name string) bool {
	words := splitWords(name)
	if len(words) == 0 {
		return false
	}
	last := words[len(words)-1]
	if machineWords[last] {
		return len(words) == 1 || words[len(words)-2] != "container"
	}
	return len(words) > 1 && (last == "image" || last == "images") && (machineWords[words[len(words)-2]] || otherImages[words[len(words)-2]])
}

// mentioned is an image that is spoken of.
type mentioned struct {
	images.Mention
	offset int
}

// mention notes the images that a string speaks of, and why they are not images to
// run.
func (w *walker) mention(n *manifests.Node, reason string) {
	if reason == "" || !n.IsString() || strings.Contains(n.Value, "*") || !mayHold(n.Value) {
		return
	}
	for _, h := range w.catalogue.references(n.Value, noLabel) {
		w.mentionAt(n, h, reason)
	}
}

func (w *walker) mentionAt(n *manifests.Node, h hit, reason string) {
	if w.embedded > 0 {
		return
	}
	w.out.mentions = append(w.out.mentions, mentioned{
		Mention: images.Mention{Value: n.Value[h.from:h.to], File: w.file, Pointer: w.pointer(), Object: w.object, Reason: reason},
		offset:  w.doc.Scalar(n).Span(h.from, h.to).Offset,
	})
}

// parameters are those of a pipeline: what is run of them, and what is used
// otherwise.
type parameters struct {
	run, used map[string]bool
	// unknown says that a parameter that nothing uses is not run: it is given to a
	// pipeline that stands elsewhere.
	unknown bool
}

var parameterUse = regexp.MustCompile(`(?:params|parameters)\.([\w-]+)`)

// newParameters looks at how an object uses parameters.
func newParameters(n *manifests.Node, unknown bool) *parameters {
	p := &parameters{run: map[string]bool{}, used: map[string]bool{}, unknown: unknown}
	p.find(n, "")
	return p
}

func (p *parameters) find(n *manifests.Node, key string) {
	if n.IsString() && strings.Contains(n.Value, "param") {
		for _, m := range parameterUse.FindAllStringSubmatch(n.Value, -1) {
			if key == "image" {
				p.run[m[1]] = true
			} else {
				p.used[m[1]] = true
			}
		}
	}
	for i := range n.Fields {
		p.find(&n.Fields[i].Value, n.Fields[i].Key)
	}
	for i := range n.Items {
		p.find(&n.Items[i], key)
	}
}

// spoken reports whether a parameter that is called image names what a pipeline
// makes or looks at, and not what it runs.
func (p *parameters) spoken(name string) bool {
	return p != nil && !p.run[name] && (p.used[name] || p.unknown)
}

// isBareImage reports whether a name says image and nothing more.
func isBareImage(name string) bool {
	words := splitWords(name)
	for i, w := range words {
		if i == 0 && w != "image" || i > 0 && !stillAnImage[w] {
			return false
		}
	}
	return len(words) > 0
}
