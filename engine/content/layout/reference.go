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

// IsReference tells whether a reference is one that OpenReference opens, and
// not one to a registry.
func IsReference(ref string) bool {
	return strings.HasPrefix(ref, layoutPrefix) || strings.HasPrefix(ref, archivePrefix)
}

// OpenReference opens what "oci:DIR[:TAG]" or "archive:FILE[:TAG]" names; a
// digest may stand in the place of the tag, after an "@". The tag is "" where
// there is none. The caller closes the layout.
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

// SplitReference splits what OpenReference opens into the folder or file and the tag
// or digest, which is "" where there is none.
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

// tagged is a path with a tag, or with a digest and perhaps a tag before it,
// which the digest makes needless.
var tagged = regexp.MustCompile(`^(.+?)(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@([a-z0-9]+:[0-9a-f]{32,}))?$`)

// splitTag splits a path from the tag after it. What exists as it stands is a
// path, whatever it looks like.
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
