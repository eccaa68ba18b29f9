// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"context"
	"os"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/taped-dev/tape/engine/content/internal/class"
)

// Prefixes of references to layouts.
const (
	layoutPrefix  = "oci:"
	archivePrefix = "archive:"
)

// IsReference reports whether a reference is one for OpenReference and not for a registry.
func IsReference(ref string) bool {
	return strings.HasPrefix(ref, layoutPrefix) || strings.HasPrefix(ref, archivePrefix)
}

// OpenReference opens "oci:DIR[:TAG]" or "archive:FILE[:TAG]"; "@" and a digest may replace
// the tag. It also returns the tag or digest, or "" if there is none. The caller closes the
// layout.
func OpenReference(ctx context.Context, ref string) (l *Layout, tagOrDigest string, err error) {
	file, tagOrDigest, err := SplitReference(ref)
	if err != nil {
		return nil, "", err
	}
	if strings.HasPrefix(ref, archivePrefix) {
		l, err = OpenArchive(ctx, file)
	} else {
		l, err = Open(file)
	}
	return l, tagOrDigest, err
}

// SplitReference splits a reference into the folder or file and the tag or digest, which
// may be "".
func SplitReference(ref string) (file, tagOrDigest string, err error) {
	rest, ok := strings.CutPrefix(ref, layoutPrefix)
	if !ok {
		rest, ok = strings.CutPrefix(ref, archivePrefix)
	}
	if !ok || rest == "" {
		return "", "", class.Errorf(errdefs.ErrInvalidArgument, "%q is neither oci:DIR[:TAG] nor archive:FILE[:TAG]", ref)
	}
	file, tagOrDigest = splitTag(rest)
	return file, tagOrDigest, nil
}

// tagged matches a path with a tag, or with a digest and an optional, redundant tag before
// it.
var tagged = regexp.MustCompile(`^(.+?)(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@([a-z0-9]+:[0-9a-f]{32,}))?$`)

// splitTag splits a path from the tag after it. A path that exists as a whole is not split.
func splitTag(text string) (file, tagOrDigest string) {
	if _, err := os.Stat(text); err == nil {
		return text, ""
	}
	m := tagged.FindStringSubmatch(text)
	switch {
	case m == nil:
		return text, ""
	case m[3] != "":
		return m[1], m[3]
	}
	return m[1], m[2]
}
