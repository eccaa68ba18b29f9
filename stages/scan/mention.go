// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"regexp"
	"strings"

	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// Reasons why something that names an image is not an image to run.
const (
	pushed    = "where an image is pushed to"
	changed   = "an image that a command changes where it is, and does not run"
	compared  = "an image that others are compared with"
	condition = "a condition"
	ofMachine = "an image of a machine"
	cached    = "a cache of layers, which is not run"
	parameter = "a parameter that names what a pipeline makes or looks at"
	made      = "what a build makes"
)

// Words directly before or after "image" that indicate its purpose.
var (
	pushWords = set("output outputs target destination dest push pushed pushspec publish published result built rendered")
	pushTo    = set("output outputs destination destinations dest push publish export exports")
	pushFlags = set("destination dest push output tag t cache-repo cache-to export-cache Djib.to.image")
	// pushNames are the last words of names of variables and parameters that contain a
	// destination.
	pushNames  = set("destination dest dst")
	cacheFlags = set("cache-from import-cache")

	compareBefore = set("allow allowed allowlist allowlisted whitelist whitelisted trusted permitted approved deny denied denylist denylisted " +
		"block blocked blocklist blocklisted blacklist blacklisted forbidden banned disallowed exclude excluded exempt exempted ignore ignored " +
		"skip skipped unwanted watch watched track tracked match matched matching remove removed delete deleted purge prune pruned deprecated obsolete vulnerable")
	compareBehind = set("allow allowed deny denied block blocked white black allowlist whitelist denylist blocklist blacklist exclusion exclusions exemption exemptions pattern patterns glob globs " +
		"regex regexes regexp matcher matchers match matches")
	machineWords = set("vm vms machine machines disk disks ami amis os osimage vmimage")

	// compareLists are the words of keys that contain only images to compare with.
	compareLists = set("allow allowed allows allowlist whitelist deny denied denies denylist block blocked blocklist blacklist forbidden banned " +
		"exclude excluded excludes exclusion exclusions exempt exempted exemption exemptions ignore ignored list lists images image service services " +
		"pattern patterns glob globs regex regexes regexp regexps match matches")
	// listed are the words of compareLists that do not indicate a purpose.
	listed = set("list lists image images service services")
	// comparedTo are keys of maps whose lists of images are only compared with.
	comparedTo = set("watch watched track tracked remove removed removal delete deleted prune pruned purge garbageCollect")
	// comparison matches the text before a text that something is compared with, and
	// comparisonBehind the text after it. loop excludes loops, which look like comparisons.
	comparison       = regexp.MustCompile(`(?:[=!][=~]\s*\\?["']?|(?:\bin\s*[\[(]|\b(?i:matches|startsWith|endsWith|contains)(?:\s*\(|\s))\s*\\?["'])$`)
	comparisonBehind = regexp.MustCompile(`^\\?["']?\s*[=!][=~]|^\\?["']\s+(?:not\s+)?in\s`)
	loop             = regexp.MustCompile(`\bfor\s+\w+\s+in\b`)
	listFiles        = set("json yaml yml txt list csv")
	// machineKeys are keys next to the image of a machine.
	machineKeys = strings.Fields("flavor flavorName serverType instanceType machineType vmSize bootDisk")
)

// isCompareList reports whether everything below a key is images to compare with: deny, excluded,
// allow-list, denylist.txt.
func isCompareList(key string) bool {
	words := splitWords(key)
	if len(words) > 1 && listFiles[words[len(words)-1]] && strings.Contains(key, ".") {
		words = words[:len(words)-1]
	}
	specific := false
	for _, w := range words {
		if !compareLists[w] {
			return false
		}
		specific = specific || !listed[w]
	}
	return specific
}

// handles are verbs of image tools, with the reason why the images after them are not run.
var handles = map[string]string{"push": pushed, "tag": changed, "sign": changed, "attest": changed, "attach": changed}

// moves are verbs of image tools that are followed by FROM and TO.
var moves = set("copy cp mirror")

// verbs follows the words of a command to determine what it pushes to: push ARCHIVE IMAGE, or
// copy FROM TO.
type verbs struct {
	verb  string
	named int // number of arguments after the verb that are not flags
}

// next takes the next word, and returns the reason why it is not an image to run, or "".
func (v *verbs) next(word *manifests.Node) string {
	text := word.Text()
	switch {
	case word.Kind != manifests.Scalar || strings.HasPrefix(text, "-"):
	case v.verb != "":
		if v.named++; moves[v.verb] && v.named > 1 {
			return pushed
		}
		return handles[v.verb]
	case moves[text] || handles[text] != "":
		v.verb = text
	}
	return ""
}

// isDestination reports whether a key of a map is the destination of an image that another key
// names. above are the keys and indexes above the map.
func isDestination(key string, n *manifests.Node, above []string) bool {
	switch key {
	case "target", "dst":
		return hasAny(n, "source", "src")
	case "to":
		for len(above) > 0 && strings.Trim(above[len(above)-1], "0123456789") == "" {
			above = above[:len(above)-1]
		}
		return hasAny(n, "from") && len(above) > 0 && copied.MatchString(above[len(above)-1])
	}
	return false
}

// copied matches the keys of maps that describe what is copied from one registry to another.
var copied = regexp.MustCompile(`(?i)mirror|sync|cop(?:y|ies)`)

// isCompared reports whether a comparison operator is next to text[from:to], in the line
// text[start:end].
func isCompared(text string, start, from, to, end int) bool {
	before := text[max(start, from-40):from]
	return comparison.MatchString(before) && !loop.MatchString(before) || comparisonBehind.MatchString(text[to:end])
}

// isTest reports whether a map is an expression that compares a value, such as a match expression
// of a policy, or a test of a JSON patch.
func isTest(n *manifests.Node) bool {
	switch op := n.Get("op").Text(); op {
	case "add", "replace", "copy", "move":
		return false
	case "test", "remove":
		return n.Get("path") != nil
	default:
		return op != "" || n.Get("operator").Text() != ""
	}
}

// reasonOfName returns the reason why a value with this name is not an image to run, or "".
func reasonOfName(name string) string {
	if strings.HasSuffix(name, ")") {
		if i := strings.IndexByte(name, '('); i >= 0 && name[:i] != "+" {
			return condition // Kyverno: (image), =(image), X(image); +(image) is a value
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

// reasonOfFlag does the same for the name of a flag, including its dashes.
func reasonOfFlag(name string) string {
	switch flag := strings.TrimLeft(name, "-"); {
	case pushFlags[flag]:
		return pushed
	case cacheFlags[flag]:
		return cached
	}
	return reasonOfName(name)
}

// isMachine reports whether a name belongs to a machine or disk. An image below it is a disk
// image.
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

// mention records the images in a string as mentioned only, with the reason.
func (w *walker) mention(n *manifests.Node, reason string) {
	if reason == "" || !n.IsString() || strings.Contains(n.Value, "*") || !mayHold(n.Value) {
		return
	}
	if hits := w.catalogue.references(n.Value, noLabel, "", assigned(n.Value)); len(hits) > 0 {
		text := w.doc.Scalar(n)
		for _, h := range hits {
			w.mentionAt(text, h, reason)
		}
	}
}

func (w *walker) mentionAt(text *manifests.Text, h hit, reason string) {
	if w.embedded > 0 {
		return
	}
	w.out.mentions = append(w.out.mentions, located[images.Mention]{
		images.Mention{Value: text.String[h.from:h.to], File: w.file.Name, Pointer: w.pointer(), Object: w.object, Reason: reason},
		text.Span(h.from, h.to).Offset,
	})
}

// leaveMade turns references in text into mentions if the same object pushes to the same name: a
// step that signs what another step built does not run it. The references of the object begin at
// index first, and its mentions at index before.
func (w *walker) leaveMade(first, before int) {
	var products map[string]bool
	for _, m := range w.out.mentions[before:] {
		if m := m.what; m.Reason == pushed || m.Reason == parameter || m.Reason == made {
			if name, ok := normalise(m.Value); ok {
				if products == nil {
					products = map[string]bool{}
				}
				products[name] = true
			}
		}
	}
	if products == nil {
		return
	}
	kept := w.out.references[:first]
	for _, f := range w.out.references[first:] {
		if f.Class != images.Indirect || len(f.Parts) > 0 || !products[f.name] {
			kept = append(kept, f)
			continue
		}
		w.out.mentions = append(w.out.mentions, located[images.Mention]{
			images.Mention{Value: f.Value, File: f.File, Pointer: f.Pointer, Object: f.Object, Reason: made}, f.Offset,
		})
	}
	w.out.references = kept
}

// parameters records how a pipeline uses its parameters.
type parameters struct {
	*uses
	// unknown reports that the pipeline is elsewhere, so that an image in a parameter without a
	// known use is taken as not run.
	unknown bool
}

var parameterUse = regexp.MustCompile(`(?:params|parameters)\.([\w-]+)`)

// uses are the names of parameters that are used as an image to run, or in another way.
type uses struct{ run, used map[string]bool }

// find adds the uses of parameters in an object, including those of nested pipelines, which are
// not searched again.
func (u *uses) find(n *manifests.Node, key string) {
	if n.IsString() && strings.Contains(n.Value, "param") {
		for _, m := range parameterUse.FindAllStringSubmatch(n.Value, -1) {
			if key == "image" {
				u.run[m[1]] = true
			} else {
				u.used[m[1]] = true
			}
		}
	}
	for i := range n.Fields {
		u.find(&n.Fields[i].Value, n.Fields[i].Key)
	}
	for i := range n.Items {
		u.find(&n.Items[i], key)
	}
}

// notRun reports whether a parameter called image names something that the pipeline builds
// or inspects instead of running it.
func (p *parameters) notRun(name string) bool {
	return p != nil && !p.run[name] && (p.used[name] || p.unknown)
}

// isBareImage reports whether a name is "image" without a qualifier.
func isBareImage(name string) bool {
	words := splitWords(name)
	for i, w := range words {
		if i == 0 && w != "image" || i > 0 && !stillAnImage[w] {
			return false
		}
	}
	return len(words) > 0
}
