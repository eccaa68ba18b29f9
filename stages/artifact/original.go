// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"encoding/json"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/stages/vcs"
)

// The format of the original tape (docker/labs-brown-tape), v1alpha1: an index of two
// manifests, found by artifact type, and statements v0.1 in one layer of JSON lines. Its images
// are not part of the root.
const (
	originalContent      = "application/vnd.docker.tape.content.v1alpha1.tar+gzip"
	originalAttestations = "application/vnd.docker.tape.attest.v1alpha1.jsonl+gzip"

	originalManifestDir = "docker.com/tape/ManifestDir/" // v0.1 and v0.2
	originalImageRef    = "docker.com/tape/OriginalImageRef/"
	resolvedImageRef    = "docker.com/tape/ResolvedImageRef/"
	replacedImageRef    = "docker.com/tape/ReplacedImageRef/"
)

func isOriginalContent(desc ocispec.Descriptor) bool { return desc.ArtifactType == originalContent }

// originalEntry describes a folder or file in ManifestDir.
type originalEntry struct {
	Unmodified bool   `json:"unmodified"`
	URI        string `json:"uri"`
	Git        struct {
		Reference struct {
			Hash string `json:"hash"`
		} `json:"reference"`
	} `json:"git"`
}

// originalSources returns where the manifests came from.
func originalSources(statements []Statement) []ViewSource {
	var out []ViewSource
	for _, s := range statements {
		if !strings.HasPrefix(s.PredicateType, originalManifestDir) {
			continue
		}
		var predicate struct {
			ContainedInDirectory struct {
				Path       string `json:"path"`
				VCSEntries struct {
					EntryGroups [][]originalEntry `json:"entryGroups"`
				} `json:"vcsEntries"`
			} `json:"containedInDirectory"`
		}
		if json.Unmarshal(s.Predicate, &predicate) != nil {
			continue
		}
		dir := predicate.ContainedInDirectory
		source := ViewSource{Path: dir.Path, Modified: vcs.Unknown}
		for _, group := range dir.VCSEntries.EntryGroups {
			for _, e := range group {
				source.URI, source.Commit = cmp.Or(source.URI, e.URI), cmp.Or(source.Commit, e.Git.Reference.Hash)
				switch {
				case !e.Unmodified:
					source.Modified = vcs.Yes
				case source.Modified == vcs.Unknown:
					source.Modified = vcs.No
				}
			}
		}
		out = append(out, source)
	}
	return out
}

// originalImages returns the images that the manifests name. The position (file, line, column)
// joins the statements about one reference.
func originalImages(statements []Statement) []ViewImage {
	type place struct {
		file         string
		line, column int
	}
	type ref struct {
		Reference string `json:"reference"`
		Line      int    `json:"line"`
		Column    int    `json:"column"`
	}
	var (
		order                        []place
		original, resolved, replaced = map[place]string{}, map[place]string{}, map[place]string{}
	)
	for _, s := range statements {
		var into map[place]string
		switch {
		case strings.HasPrefix(s.PredicateType, originalImageRef):
			into = original
		case strings.HasPrefix(s.PredicateType, resolvedImageRef):
			into = resolved
		case strings.HasPrefix(s.PredicateType, replacedImageRef):
			into = replaced
		default:
			continue
		}
		var predicate map[string]ref // foundImageReference, resolvedImageReference, replacedImageReference
		if len(s.Subject) == 0 || json.Unmarshal(s.Predicate, &predicate) != nil {
			continue
		}
		for _, r := range predicate {
			at := place{s.Subject[0].Name, r.Line, r.Column}
			if original[at] == "" && resolved[at] == "" && replaced[at] == "" {
				order = append(order, at)
			}
			into[at] = r.Reference
		}
	}
	var out []ViewImage
	seen := map[string]bool{}
	for _, at := range order {
		image := ViewImage{Ref: cmp.Or(replaced[at], resolved[at])}
		image.Name = cmp.Or(original[at], image.Ref)
		for _, text := range []string{resolved[at], replaced[at]} {
			if named, err := imageref.Parse(text); err == nil && named.Digest != "" {
				image.Digest = named.Digest
			}
		}
		if key := image.Name + " " + image.Ref; !seen[key] {
			seen[key] = true
			out = append(out, image)
		}
	}
	return out
}
