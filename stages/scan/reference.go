// SPDX-License-Identifier: Apache-2.0

package scan

import (
	// Register the hashes of digests in references.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"regexp"
	"strings"
	"unicode"

	"github.com/taped-dev/tape/engine/content/imageref"
)

// normalise returns the full form of a reference: docker.io/library/nginx:latest. It returns
// s and false if s is not valid.
func normalise(s string) (string, bool) {
	full, err := imageref.Normalise(s)
	if err != nil {
		return s, false
	}
	return full, true
}

// schemes are the prefixes of references in some fields.
var schemes = []string{containersImage, "docker-image://", "oci://", "registry://"}

// containersImage is the scheme of images in registries for skopeo, KubeVirt and others that use
// the library containers/image, which refuses references with both a tag and a digest.
const containersImage = "docker://"

// ciphertext is the beginning of values encrypted by sops and eyaml, which end in a bracket.
const ciphertext = "ENC["

// isPlaceholder reports whether something else replaces the value later: "", auto, $(X), ${X},
// {{x}}, <x>, %s, *, ko://…, ENC[…], a part in capitals (docker.io/[YOUR NAME]/x), or a value
// whose beginning or end is missing (/proxy:, from a template without values).
func isPlaceholder(s string) bool {
	if s == "" || s == "auto" || strings.ContainsAny(s, "$<>{}%*") || strings.Contains(s, "://") || strings.Contains(s, ciphertext) {
		return true
	}
	if !isAlnum(s[0]) && s[0] != '[' || strings.IndexByte(":/@", s[len(s)-1]) >= 0 {
		return true
	}
	for part := range strings.SplitSeq(s, "/") {
		part, _, _ = strings.Cut(part, ":")
		if len(part) > 1 && strings.ToUpper(part) == part && strings.ContainsFunc(part, unicode.IsLetter) {
			return true
		}
	}
	return false
}

// label is what a name implies about its value.
type label int8

const (
	notImage  label = iota - 1 // IMAGE_PULL_POLICY: about an image, but not one
	noLabel                    // nothing
	mentions                   // IMAGE_KUBE_PROXY, imageForBackup
	namesOne                   // IMAGE, sidecarImage, --config-reloader-image
	namesMany                  // images
)

// labelOf returns the label of a name, which may be in any case: proxyImage, PROXY_IMAGE,
// proxy-image, sidecar.istio.io/proxyImage.
func labelOf(name string) label {
	if !containsImage(name) {
		return noLabel
	}
	words := splitWords(name)
	at, many := -1, false
	for i, w := range words {
		w = strings.TrimRight(w, "0123456789")
		switch {
		case strings.HasSuffix(w, "image"):
			at, many = i, false
		case strings.HasSuffix(w, "images"):
			at, many = i, true
		}
	}
	if at < 0 {
		return noLabel
	}
	// The word before image may also be joined to it (osimage).
	own := strings.TrimRight(words[at], "0123456789")
	own = strings.TrimSuffix(strings.TrimSuffix(own, "s"), "image")
	if own == "" && at > 0 {
		own = words[at-1]
	}
	if otherImages[own] {
		return notImage
	}
	if at > 0 && words[at-1] == "related" && !many { // RELATED_IMAGE_x, of the Operator Lifecycle Manager
		return namesOne
	}
	l := namesOne
	if many {
		l = namesMany
	}
	for _, w := range words[at+1:] {
		switch {
		case notAnImage[w]:
			return notImage
		case !stillAnImage[w] && strings.Trim(w, "0123456789") != "":
			l = mentions
		}
	}
	return l
}

// containsImage reports whether s contains "image", in upper or lower case.
func containsImage(s string) bool { return contains(s, "image") }

// contains reports whether s contains a word, in upper or lower case. word is in lower case.
func contains(s, word string) bool {
	n := len(word)
	for i := 0; i+n <= len(s); i++ {
		if s[i]|0x20 == word[0] && strings.EqualFold(s[i:i+n], word) {
			return true
		}
	}
	return false
}

// Words after "image" that still allow a reference, words after it that exclude one, and words
// before it that name other kinds of images.
var (
	stillAnImage = set("name names ref refs reference references uri uris url urls override overrides default full fqn fqin latest value spec pullspec location list map")
	notAnImage   = set("pull policy secret secrets credential credentials tag tags registry registries repository repo prefix suffix type types " +
		"kind size sizes format digest digests sha version versions family path paths dir file files arch os architecture gc feed feature " +
		"features stream streams streaming caching cache locality gallery publisher offer sku scan scanning scanner update updater automation " +
		"controller reflector mode enabled timeout deadline progress max min count width height quality org organization namespace project " +
		"user username password token key keys selector selectors label labels annotation annotations id ids checksum magick volume filter filters")
	otherImages = set("vm os machine disk boot ami ova iso cloud raw qcow qcow2 background logo icon cover hero banner avatar favicon profile " +
		"snapshot firmware rbd skip allow allowed use enable disable require show hide verify initrd kernel")
)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

func splitWords(name string) []string {
	var (
		words []string
		start = 0
		flush = func(end int) {
			if end > start {
				words = append(words, strings.ToLower(name[start:end]))
			}
		}
	)
	for i := range len(name) {
		c := name[i]
		switch {
		case !isAlnum(c):
			flush(i)
			start = i + 1
		case isUpper(c) && i > start && (!isUpper(name[i-1]) || i+1 < len(name) && isLower(name[i+1])):
			flush(i)
			start = i
		}
	}
	flush(len(name))
	return words
}

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isAlnum(c byte) bool { return isUpper(c) || isLower(c) || isDigit(c) }

var (
	dotted     = regexp.MustCompile(`^v?\d+\.\d+`)
	knownTag   = regexp.MustCompile(`^(latest|stable|main|master|edge|nightly|canary|dev|devel|develop|testing|unstable|release|current|lts|slim|alpine|debug|nonroot|bullseye|bookworm|buster|bionic|focal|jammy|noble)`)
	diskFile   = regexp.MustCompile(`\.(img|iso|qcow2|raw|vmdk|vhdx?|png|jpe?g|gif|svg|ico|webp|tar|t?gz|zip|ya?ml|json|sh|py|js|html?|sock|log|so|bin)$`)
	hasLetter  = regexp.MustCompile(`[a-z]`)
	bareName   = regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`)
	bareTagged = regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*:[A-Za-z_][\w.-]*$`)
	portNumber = regexp.MustCompile(`^\d{2,5}$`)
)

// plausible reports whether a text is probably an image reference, given the label of its name.
// Without a label the text must have a registry, a path, and a tag or digest.
func (c *catalogue) plausible(s string, l label) bool {
	if len(s) < 3 || len(s) > 512 || l < namesOne && isBare(s) || isPlaceholder(s) {
		return false // most words of a text fail here
	}
	rest, digest, digested := strings.Cut(s, "@")
	slash := strings.LastIndexByte(rest, '/')
	name, tag, tagged := strings.Cut(rest[slash+1:], ":")
	if digested && !strings.Contains(digest, ":") || diskFile.MatchString(rest) {
		return false
	}
	host, path := "", rest[:slash+1]+name
	if first, remainder, ok := strings.Cut(path, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		host, path = first, remainder
	}
	if !hasLetter.MatchString(path) {
		return false
	}
	known := host != "" && c.Registries.match(host)
	if !known && c.Elsewhere.match(host) {
		return false
	}
	if _, ok := normalise(s); !ok {
		return false
	}
	if digested {
		return true
	}
	version := tagged && (strings.ContainsAny(tag, "0123456789") || knownTag.MatchString(tag)) && (known || !portNumber.MatchString(tag))
	switch {
	case host != "" && tagged && (known || version):
		return true
	case l >= namesOne:
		switch {
		case slash >= 0:
			return true
		case tagged:
			return version || c.official[name]
		}
		return c.official[name]
	case l == mentions:
		return known || slash >= 0 && version
	}
	return false
}

// hubVersion reports whether s has the form of a reference to Docker Hub: name/name:1.2, or
// :latest.
func hubVersion(s string) bool {
	name, tag, _ := strings.Cut(s, ":")
	return strings.Count(name, "/") == 1 && (tag == "latest" || dotted.MatchString(tag)) && !strings.ContainsAny(name, ".@")
}
