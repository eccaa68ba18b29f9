// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"crypto/md5" // for names alone: what relocated ones look like was fixed by others
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

const (
	// maxTag is the limit of the distribution specification.
	maxTag = 128
	// maxAppTag is the longest tag of an application, to which "manifests." is prepended.
	maxAppTag = maxTag - len(contentTagPrefix)
	// maxName is the longest repository name that every registry accepts.
	maxName = 255

	contentTagPrefix = "manifests."
	configTagPrefix  = "config."
)

// ImageTag returns the tag of an image in the application's repository: <basename>.<original
// tag>.<first 8 hex of digest>, such as podinfo.6.4.1.92d43edf. The name is normalised
// (docker.io/library/nginx:1); a name with a digest and no tag gives <basename>.<8 hex>. A tag
// that is too long is trimmed from the left.
func ImageTag(name string, d digest.Digest) string {
	named := imageref.Split(name).OrLatest()
	base := path.Base(named.Name)
	if named.Tag != "" {
		base += "." + named.Tag
	}
	out := []byte(base + "." + short(d))
	for i, c := range out {
		if !isWord(c) && c != '.' && c != '-' {
			out[i] = '-'
		}
	}
	// A tag must not start with a dot or a dash.
	out = out[max(0, len(out)-maxTag):]
	tag := strings.TrimLeft(string(out), ".-")
	if ofOthers(tag) {
		tag = "_" + tag[max(0, len(tag)-maxTag+1):]
	}
	return tag
}

// ofOthers reports whether a tag has the form of the tags of content, or of what is attached to
// other manifests. An image may have such a name.
func ofOthers(tag string) bool {
	return strings.HasPrefix(tag, contentTagPrefix) || referrersTag.MatchString(tag)
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// short returns the part of a digest that tags contain.
func short(d digest.Digest) string { return prefix(d, 8) }

// prefix returns the first n characters of the digest's hex.
func prefix(d digest.Digest, n int) string {
	_, hex, _ := strings.Cut(string(d), ":")
	return hex[:min(n, len(hex))]
}

// TagIn returns the tag that the image gets in the repository. It is [ImageTag], except that an
// image that is already in the repository, under a tag that ends in its own 8 hex, keeps that
// tag. Packing a packed application therefore changes nothing.
func TagIn(repository string, image images.Image) string {
	name, _, _ := strings.Cut(image.Name, "@")
	if tag, ok := strings.CutPrefix(name, repository+":"); ok && strings.HasSuffix(tag, "."+short(image.Digest)) && !ofOthers(tag) {
		return tag
	}
	return ImageTag(image.Name, image.Digest)
}

// ImageRef returns the reference that manifests have for the image in the repository:
// REPO:<tag>@<digest>.
func ImageRef(repository string, image images.Image) string {
	return repository + ":" + TagIn(repository, image) + "@" + image.Digest.String()
}

// WrittenRef returns the reference that manifests have for the image if a program other than
// the kubelet reads it: REPO:<tag as written>@<digest>, without a tag if none was written.
func WrittenRef(repository, tag string, d digest.Digest) string {
	return imageref.Reference{Name: repository, Tag: tag, Digest: d}.String()
}

// ContentTag returns the tag of the content manifest of an application. No semver range matches
// it.
func ContentTag(tag string) string { return contentTagPrefix + tag }

// ConfigTag returns the tag of an application without a version. It names the content layer
// and, if it is known, the commit of the sources. Another commit with the same content makes
// another root, which must not take the tag of one that was signed.
func ConfigTag(layer digest.Digest, origin string) string {
	tag := configTagPrefix + prefix(layer, 12)
	if origin != "" {
		tag += "." + origin
	}
	return tag
}

// origin returns the first 12 digits of the commit of the sources, or of a digest of several
// commits, with "-dirty" if a source is modified; "" if no commit is known.
func origin(facts []vcs.Facts) string {
	var commits []string
	for _, f := range facts {
		for _, r := range f.Repositories {
			if r.Commit != "" && !slices.Contains(commits, r.Commit) {
				commits = append(commits, r.Commit)
			}
		}
	}
	switch len(commits) {
	case 0:
		return ""
	case 1:
		return shortCommit(commits[0], modified(facts) == vcs.Yes)
	}
	return shortCommit(digest.FromString(strings.Join(commits, "\n")).Encoded(), modified(facts) == vcs.Yes)
}

// shortCommit returns the origin of one commit.
func shortCommit(commit string, dirty bool) string {
	out := commit[:min(12, len(commit))]
	if dirty {
		out += dirtySuffix
	}
	return out
}

// ConfigTag returns the tag that the application would have without a version, according to its
// annotations.
func (a *Application) ConfigTag() string {
	commit, dirty := strings.CutSuffix(a.Index.Annotations[ocispec.AnnotationRevision], dirtySuffix)
	if commit == "" {
		return ConfigTag(a.Layer.Digest, "")
	}
	return ConfigTag(a.Layer.Digest, shortCommit(commit, dirty))
}

// CheckTag returns an error unless an application may have the tag.
func CheckTag(tag string) error {
	if len(tag) > maxAppTag {
		return fmt.Errorf("tag %q has %d characters; the maximum is %d, because %s<tag> is a tag too", tag, len(tag), maxAppTag, contentTagPrefix)
	}
	for i, c := range []byte(tag) {
		if !isWord(c) && (i == 0 || c != '.' && c != '-') {
			return fmt.Errorf("tag %q: %q is not allowed there; a tag consists of letters, digits, underscores, dots and dashes, and does not begin with a dot or dash", tag, c)
		}
	}
	if tag == "" {
		return errors.New("tag is empty")
	}
	if strings.HasPrefix(tag, contentTagPrefix) {
		return fmt.Errorf("tag %q: the prefix %s is reserved for contents", tag, contentTagPrefix)
	}
	if referrersTag.MatchString(tag) {
		return fmt.Errorf("tag %q: tags of this form are reserved for signatures, attestations and SBOMs", tag)
	}
	return nil
}

// referrersTag matches tags of what is attached to a manifest.
var referrersTag = regexp.MustCompile(`^sha(256|384|512)-[0-9a-f]{32,}`)

// CheckRepository returns an error unless an application can be written to a repository of that
// name: a registry's host and a path, without tag or digest.
func CheckRepository(name string) error {
	named, err := reference.ParseNormalizedNamed(name)
	_, rest, hasScheme := strings.Cut(name, "://")
	switch {
	case hasScheme:
		return fmt.Errorf("repository %q: give it without a scheme: %s", name, rest)
	case err != nil:
		return fmt.Errorf("repository %q: %w; want a registry and a path, such as registry.example.com/team/app", name, err)
	case !reference.IsNameOnly(named) && !strings.Contains(name, "/"):
		return fmt.Errorf("repository %q: give it with its registry and without a tag or digest, such as registry.example.com/team/app", name)
	case !reference.IsNameOnly(named):
		return fmt.Errorf("repository %q: give it without a tag or digest: %s", name, named.Name())
	case named.Name() != name:
		return fmt.Errorf("repository %q: give it with its registry: %s", name, named.Name())
	}
	return nil
}

// DefaultTags returns the tags of an application without given tags: the semver tags at the
// HEAD of every source, or [ConfigTag] if there are none, or if a source is modified,
// untracked, or not known to be clean.
//
// A tag may be scoped by a folder, like those of Go modules: shop/v1.2.3 gives v1.2.3 to
// sources in shop or below. If scoped tags match, only those of the longest folder are used. A
// "+" (semver's build metadata) becomes "_", as in Helm.
func DefaultTags(facts []vcs.Facts, layer digest.Digest) []string {
	if tags := VersionTags(facts); len(tags) > 0 {
		return tags
	}
	return []string{ConfigTag(layer, origin(facts))}
}

// TagReason returns why the version tags at the HEADs of the sources are not used; "" if they
// are, or if there are none.
func TagReason(facts []vcs.Facts) string {
	if len(VersionTags(facts)) > 0 {
		return ""
	}
	var (
		tags    []string
		reasons []string
	)
	for _, f := range facts {
		of := candidates(f)
		tags = append(tags, of...)
		name := cmp.Or(f.Name, f.Reference, f.Path)
		switch {
		case len(of) == 0 && f.Reference != "":
			reasons = append(reasons, fmt.Sprintf("%s is not in git", name))
		case len(of) == 0:
			reasons = append(reasons, fmt.Sprintf("%s has no version tag", name))
		case f.Modified != vcs.No:
			reasons = append(reasons, changes(f))
		}
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	if len(tags) == 0 {
		return ""
	}
	noun := "tag"
	if len(tags) > 1 {
		noun = "tags"
	}
	return fmt.Sprintf("%s %s not used: %s", noun, strings.Join(tags, ", "), cmp.Or(strings.Join(reasons, "; "), "the sources have none in common"))
}

// changes describes how a source differs from its commit: one file for each kind of difference,
// and how many there are.
func changes(f vcs.Facts) string {
	const modified, untracked, removed, unknown = "is modified", "is untracked", "is removed", "may differ from the commit"
	paths := map[string][]string{}
	for _, file := range f.Files {
		switch {
		case file.Locked:
		case file.Untracked:
			paths[untracked] = append(paths[untracked], file.Path)
		case file.Modified == vcs.Yes:
			paths[modified] = append(paths[modified], file.Path)
		case file.Modified == vcs.Unknown:
			paths[unknown] = append(paths[unknown], file.Path)
		}
	}
	for _, r := range f.Repositories {
		paths[removed] = append(paths[removed], r.Removed...)
	}
	var out []string
	for _, is := range []string{modified, untracked, removed, unknown} {
		switch n := len(paths[is]); n {
		case 0:
		case 1:
			out = append(out, paths[is][0]+" "+is)
		default:
			out = append(out, fmt.Sprintf("%s %s (%s)", paths[is][0], is, count.Of(n, "file")))
		}
	}
	if len(out) == 0 && f.Modified == vcs.Yes {
		out = append(out, "a submodule or link is not as committed")
	}
	if len(out) == 0 {
		out = append(out, "it is unknown whether it is as committed")
	}
	return strings.Join(out, ", ")
}

// VersionTags returns the semver tags that every source has, if none is modified.
func VersionTags(facts []vcs.Facts) []string {
	var out []string
	for i, f := range facts {
		var tags []string
		if f.Modified == vcs.No {
			tags = candidates(f)
		}
		if i == 0 {
			out = tags
		}
		out = slices.DeleteFunc(out, func(tag string) bool { return !slices.Contains(tags, tag) })
	}
	return out
}

// candidates returns the semver tags at a source's HEAD, sorted.
func candidates(f vcs.Facts) []string {
	if len(f.Repositories) == 0 {
		return nil
	}
	var (
		out   []string
		scope = -1
	)
	for _, t := range f.Repositories[0].Tags {
		dir, version := path.Split(t.Name)
		_, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v"))
		version = strings.ReplaceAll(version, "+", "_")
		if err != nil || CheckTag(version) != nil || !strings.HasPrefix(f.Path+"/", dir) || len(dir) < scope {
			continue
		}
		if len(dir) > scope {
			out, scope = nil, len(dir)
		}
		out = append(out, version)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// relocatedName maps a reference to its own repository below the prefix, like relocate --naming
// one-to-one: example.com/user and istio/proxyv2:1.0 give
// example.com/user/istio-proxyv2-<md5>:1.0. The sum is of the normalised name without tag and
// digest, which are kept. If the name would be too long, the components in the middle are
// removed first, then all but the last.
//
// The scheme is that of pivotal/image-relocation, so that images relocated with it are found.
func relocatedName(prefix, ref string) (string, error) {
	if err := CheckRepository(prefix); err != nil {
		return "", err
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", fmt.Errorf("image reference %q: %w", ref, err)
	}
	sum := md5.Sum([]byte(named.Name()))
	suffix := hex.EncodeToString(sum[:])
	room := maxName - len(prefix) - len("/-") - len(suffix)
	if room < -1 {
		return "", fmt.Errorf("prefix %q is too long: a name below it has %d characters, and the maximum is %d", prefix, len(suffix)+1, maxName)
	}
	if flat := flatten(strings.Split(reference.Path(named), "/"), room); flat != "" {
		suffix = flat + "-" + suffix
	}
	out := prefix + "/" + suffix
	if tagged, ok := named.(reference.Tagged); ok {
		out += ":" + tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		out += "@" + digested.Digest().String()
	}
	return out, nil
}

// flatten joins components by dashes to at most room characters. It leaves out
// as few from the middle as it can, with a dash in their place.
func flatten(components []string, room int) string {
	for n := len(components); n > 0; n-- {
		kept, last := components[:n-1], components[len(components)-1]
		if 1 < n && n < len(components) {
			kept = append(slices.Clip(kept), "-")
		}
		if flat := strings.Join(append(slices.Clip(kept), last), "-"); len(flat) <= room {
			return flat
		}
	}
	if len(components[0]) <= room {
		return components[0]
	}
	return ""
}
