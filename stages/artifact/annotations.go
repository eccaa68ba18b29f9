// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/vcs"
)

// Annotations returns the org.opencontainers.image ones that root and content share:
//
//	title     the last element of the repository's name
//	created   created where set, else the time of the latest HEAD, else 1970; UTC
//	version   the highest semver tag at a clean HEAD (see DefaultTags)
//	revision  HEAD's commit, "<commit>-dirty" where a source is modified; none
//	          where that is not known, or sources have different ones
//	source    the repository's URL; none where sources have different ones
//
// and AnnotationEnvironments where sources are of environments.
//
// Tags given by hand are names, not versions: they change no digest.
func Annotations(repository string, facts []vcs.Facts, created time.Time) map[string]string {
	out := map[string]string{ocispec.AnnotationTitle: path.Base(repository)}
	set := func(key, value string) {
		if value != "" {
			out[key] = value
		}
	}
	set(ocispec.AnnotationRevision, revision(facts))
	set(ocispec.AnnotationSource, common(facts, func(r vcs.Repository) string { return r.URI }))
	set(ocispec.AnnotationVersion, highest(VersionTags(facts)))
	var environments []string
	for _, f := range facts {
		if f.Environment != "" {
			environments = append(environments, f.Environment)
		}
	}
	set(AnnotationEnvironments, joinSet(environments))

	if created.IsZero() {
		created = time.Unix(0, 0)
		for _, f := range facts {
			if len(f.Repositories) > 0 && f.Repositories[0].CommitTime.After(created) {
				created = f.Repositories[0].CommitTime
			}
		}
	}
	out[ocispec.AnnotationCreated] = created.UTC().Format(time.RFC3339)
	return out
}

// SourceDateEpoch parses the environment variable SOURCE_DATE_EPOCH: seconds since 1970. Empty
// gives the zero time, which means not set.
func SourceDateEpoch(value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 0 || seconds > maxEpoch {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q; it takes seconds since 1970-01-01, such as 1700000000", value)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// maxEpoch is the end of the year 9999, the last that RFC 3339 can express.
const maxEpoch = 253402300799

const dirtySuffix = "-dirty"

// revision returns the commit that every source was taken from.
func revision(facts []vcs.Facts) string {
	commit := common(facts, func(r vcs.Repository) string { return r.Commit })
	switch modified(facts) {
	case vcs.No:
		return commit
	case vcs.Yes:
		if commit != "" {
			return commit + dirtySuffix
		}
	}
	return ""
}

// modified reports whether any source is modified; it is unknown without sources.
func modified(facts []vcs.Facts) vcs.Tristate {
	out := vcs.Unknown
	for i, f := range facts {
		if f.Modified == vcs.Yes {
			return vcs.Yes
		}
		if i == 0 || f.Modified == vcs.Unknown {
			out = f.Modified
		}
	}
	return out
}

// common returns a property if it is the same for the repositories of all sources, else "".
func common(facts []vcs.Facts, of func(vcs.Repository) string) string {
	var out string
	for i, f := range facts {
		if len(f.Repositories) == 0 {
			return ""
		}
		value := of(f.Repositories[0])
		if i > 0 && value != out {
			return ""
		}
		out = value
	}
	return out
}

func highest(tags []string) string {
	var (
		out string
		max *semver.Version
	)
	for _, tag := range tags {
		v, err := semver.NewVersion(strings.ReplaceAll(tag, "_", "+"))
		if err == nil && (max == nil || v.GreaterThan(max)) {
			out, max = tag, v
		}
	}
	return out
}
