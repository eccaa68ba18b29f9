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
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

const (
	// maxTag is the distribution specification's limit.
	maxTag = 128
	// maxAppTag is the longest tag of an application: "manifests." goes before it.
	maxAppTag = maxTag - len(contentTagPrefix)
	// maxName is the longest repository name that every registry takes.
	maxName = 255

	contentTagPrefix = "manifests."
	configTagPrefix  = "config."
)

// ImageTag is the tag of an image in the application's repository:
// <basename>.<original tag>.<first 8 hex of digest>, such as
// podinfo.6.4.1.92d43edf. The name is normalised (docker.io/library/nginx:1); a
// name with a digest and no tag gives <basename>.<8 hex>. What is too long is
// trimmed from the left.
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
	// A tag does not start with a dot or a dash.
	out = out[max(0, len(out)-maxTag):]
	tag := strings.TrimLeft(string(out), ".-")
	if ofOthers(tag) {
		tag = "_" + tag[max(0, len(tag)-maxTag+1):]
	}
	return tag
}

// ofOthers reports whether a tag is of the form that contents have, or what is about other
// manifests: an image may have a name of that form.
func ofOthers(tag string) bool {
	return strings.HasPrefix(tag, contentTagPrefix) || referrersTag.MatchString(tag)
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// short is what a tag tells of a digest.
func short(d digest.Digest) string { return prefix(d, 8) }

// prefix is the first n characters of the digest's hex.
func prefix(d digest.Digest, n int) string {
	_, hex, _ := strings.Cut(string(d), ":")
	return hex[:min(n, len(hex))]
}

// TagIn is the tag that the image gets in the repository. It is that of
// [ImageTag], but an image that lies in the repository already under a tag that
// ends in its own 8 hex keeps it, so that taping twice changes nothing.
func TagIn(repository string, image images.Image) string {
	name, _, _ := strings.Cut(image.Name, "@")
	if tag, ok := strings.CutPrefix(name, repository+":"); ok && strings.HasSuffix(tag, "."+short(image.Digest)) && !ofOthers(tag) {
		return tag
	}
	return ImageTag(image.Name, image.Digest)
}

// ImageRef is what manifests say of the image once it lies in the repository:
// REPO:<tag>@<digest>.
func ImageRef(repository string, image images.Image) string {
	return repository + ":" + TagIn(repository, image) + "@" + image.Digest.String()
}

// WrittenRef is what manifests say of the image where something else than the
// kubelet reads the reference: REPO:<tag as written>@<digest>, without a tag where
// none was written.
func WrittenRef(repository, tag string, d digest.Digest) string {
	if tag != "" {
		repository += ":" + tag
	}
	return repository + "@" + d.String()
}

// ContentTag is the tag of the content manifest of an application. No semver
// range ever matches it.
func ContentTag(tag string) string { return contentTagPrefix + tag }

// ConfigTag is the tag of an application that has no version: it says what the
// content layer is and, where that is known, which commit the sources are of.
// Another commit may leave the content as it is, and yet makes another root, which
// must not take the tag from one that was signed.
func ConfigTag(layer digest.Digest, origin string) string {
	tag := configTagPrefix + prefix(layer, 12)
	if origin != "" {
		tag += "." + origin
	}
	return tag
}

// origin is the first 12 digits of the commit that the sources are of, or of a digest
// of several commits, with "-dirty" where a source is modified; "" where no commit
// is known.
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

// shortCommit is Origin of one commit.
func shortCommit(commit string, dirty bool) string {
	out := commit[:min(12, len(commit))]
	if dirty {
		out += dirtySuffix
	}
	return out
}

// ConfigTag is the one that the application would have without a version, as far as
// its annotations tell.
func (a *Application) ConfigTag() string {
	commit, dirty := strings.CutSuffix(a.Index.Annotations[ocispec.AnnotationRevision], dirtySuffix)
	if commit == "" {
		return ConfigTag(a.Layer.Digest, "")
	}
	return ConfigTag(a.Layer.Digest, shortCommit(commit, dirty))
}

// CheckTag says whether an application may have the tag.
func CheckTag(tag string) error {
	if len(tag) > maxAppTag {
		return fmt.Errorf("tag %q has %d characters; %d are the most, as %s<tag> is a tag too", tag, len(tag), maxAppTag, contentTagPrefix)
	}
	for i, c := range []byte(tag) {
		if !isWord(c) && (i == 0 || c != '.' && c != '-') {
			return fmt.Errorf("tag %q: %q may not stand there; a tag is of letters, digits, underscores, dots and dashes, with no dot or dash first", tag, c)
		}
	}
	if tag == "" {
		return errors.New("tag is empty")
	}
	if strings.HasPrefix(tag, contentTagPrefix) {
		return fmt.Errorf("tag %q: %s is how the tags of contents begin", tag, contentTagPrefix)
	}
	if referrersTag.MatchString(tag) {
		return fmt.Errorf("tag %q: tags of this form are of what is about other manifests", tag)
	}
	return nil
}

// referrersTag is what tags look like that lead to what is about a manifest.
var referrersTag = regexp.MustCompile(`^sha(256|384|512)-[0-9a-f]{32,}`)

// CheckRepository says whether name is a repository that an application can be
// written to: a registry's host and a path, without tag or digest.
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

// DefaultTags are the tags of an application that was given none: the semver tags that
// point at the HEAD of every source, else (and whenever a source is modified,
// untracked, or not known to be clean) [ConfigTag].
//
// A tag may be scoped by a folder, as Go modules' are: shop/v1.2.3 gives v1.2.3
// to sources in shop or below. Where scoped tags match, those of the longest
// folder alone count. A "+" (semver's build metadata) becomes "_", which is what
// Helm does too.
func DefaultTags(facts []vcs.Facts, layer digest.Digest) []string {
	if tags := VersionTags(facts); len(tags) > 0 {
		return tags
	}
	return []string{ConfigTag(layer, origin(facts))}
}

// TagReason says why the version tags at the HEADs of the sources are not the
// application's; "" where they are, or there are none.
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
	if len(reasons) == 0 {
		reasons = []string{"the sources have none in common"}
	}
	switch len(tags) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("tag %s not used: %s", tags[0], strings.Join(reasons, "; "))
	}
	return fmt.Sprintf("tags %s not used: %s", strings.Join(tags, ", "), strings.Join(reasons, "; "))
}

// changes says in what a source is not as it is committed: a file for each kind of
// difference, and how many there are.
func changes(f vcs.Facts) string {
	var modified, untracked, unknown, removed []string
	for _, file := range f.Files {
		switch {
		case file.Locked:
		case file.Untracked:
			untracked = append(untracked, file.Path)
		case file.Modified == vcs.Yes:
			modified = append(modified, file.Path)
		case file.Modified == vcs.Unknown:
			unknown = append(unknown, file.Path)
		}
	}
	for _, r := range f.Repositories {
		removed = append(removed, r.Removed...)
	}
	var out []string
	for _, kind := range []struct {
		paths []string
		is    string
	}{
		{modified, "is modified"}, {untracked, "is untracked"}, {removed, "is removed"},
		{unknown, "is not known to be as committed"},
	} {
		if len(kind.paths) == 0 {
			continue
		}
		text := kind.paths[0] + " " + kind.is
		if n := len(kind.paths); n > 1 {
			text += fmt.Sprintf(" (%d files)", n)
		}
		out = append(out, text)
	}
	if len(out) == 0 && f.Modified == vcs.Yes {
		out = append(out, "a submodule or link is not as committed")
	}
	if len(out) == 0 {
		out = append(out, "whether it is as committed is not known")
	}
	return strings.Join(out, ", ")
}

// VersionTags are the semver tags that every source has.
func VersionTags(facts []vcs.Facts) []string {
	var out []string
	for i, f := range facts {
		tags := versions(f)
		if i == 0 {
			out = tags
		}
		out = slices.DeleteFunc(out, func(tag string) bool { return !slices.Contains(tags, tag) })
	}
	return out
}

// versions are the semver tags of one source that is as committed, sorted.
func versions(f vcs.Facts) []string {
	if f.Modified != vcs.No {
		return nil
	}
	return candidates(f)
}

// candidates are the semver tags at a source's HEAD, sorted.
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

// relocatedName maps a reference to its own repository below the prefix, as
// relocate --naming one-to-one does: example.com/user and istio/proxyv2:1.0 give
// example.com/user/istio-proxyv2-<md5>:1.0. The sum is of the normalised name
// without tag and digest, which are kept. Where the name would be too long the
// components in the middle go first, then all but the last.
//
// The scheme is that of pivotal/image-relocation, so that what it relocated is
// found again.
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
		return "", fmt.Errorf("prefix %q is too long: a name below it takes %d characters, and %d are the most", prefix, len(suffix)+1, maxName)
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
