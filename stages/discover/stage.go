// SPDX-License-Identifier: Apache-2.0

// Package discover implements the discover stage: it finds the signatures,
// attestations and SBOMs that were published beside the images.
//
//	images    images.List, as written by resolve
//	→ images  the same list with Related of each image, and Unknown
//
// There are three ways to publish them, and the stage looks for all of them, for the
// image itself and for each of its platform manifests:
//
//   - inline: BuildKit puts attestation manifests into the image's index. They are
//     copied with the index, and are only read here to tell provenance from SBOMs.
//   - by tag: cosign's sha256-<hex>.sig, .att and .sbom. They are looked up by name;
//     the tags of a repository are never listed.
//   - by referrer: OCI 1.1 manifests whose subject is the image, from the referrers
//     API or, if the registry does not have it, the tag sha256-<hex>.
//
// If one platform of an image was chosen, only what refers to that manifest is taken,
// because the index is not copied.
//
// A registry that cannot be asked, such as an unreachable one behind a mirror without
// the referrers API, does not fail the stage: List.Unknown and a warning name it. A
// manifest that exists but cannot be read fails the stage.
//
// The stage is not cached, because others may publish more at any time.
package discover

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/images"
)

// What to look for in addition to inline attestations.
const (
	Default = "default" // signatures, attestations and SBOMs
	All     = "all"     // everything
	None    = "none"    // nothing: the result depends only on the images
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Config configures the stage.
type Config struct {
	// Related is Default, All or None; "" means Default.
	Related string `json:"related,omitempty"`
}

// Kind is the stage's entry in the table of stages.
func Kind(origins images.Origins) pipeline.Kind {
	return pipeline.Kind{
		Name:    "discover",
		Help:    "find what was published beside the images: signatures, attestations, SBOMs",
		Inputs:  []pipeline.Port{{Name: "images"}},
		Outputs: []string{"images"},
		Schema:  configSchema,
		Needs:   []engine.Need{engine.NeedRegistries, engine.NeedLocalImages},
		New:     pipeline.Configured(func(config Config) (*Stage, error) { return New(config, origins) }),
	}
}

// Stage is the discover stage.
type Stage struct {
	origins images.Origins
	related string
}

// New returns the stage, or an error if config.Related is not valid.
func New(config Config, origins images.Origins) (*Stage, error) {
	related := cmp.Or(config.Related, Default)
	if !slices.Contains([]string{Default, All, None}, related) {
		return nil, fmt.Errorf("related %q is not valid; use %s, %s or %s", related, Default, All, None)
	}
	return &Stage{origins: origins, related: related}, nil
}

// Run implements engine.Stage.
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	var list images.List
	if err := engine.GetJSON(ctx, t.Store, t.Inputs["images"], images.MediaTypeList, &list); err != nil {
		return nil, err
	}
	if err := s.search(ctx, &list, t.Report); err != nil {
		return nil, err
	}
	for _, sentence := range list.Unknown {
		t.Report(engine.Event{Level: engine.Warning, Message: sentence})
	}
	desc, err := engine.PutJSON(ctx, t.Store, images.MediaTypeList, list)
	return engine.Outputs{"images": desc}, err
}
