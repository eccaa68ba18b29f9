// SPDX-License-Identifier: Apache-2.0

// Package discover implements the discover stage: it finds what was published
// beside the images, signatures, attestations and SBOMs.
//
//	images    images.List, as resolve wrote it
//	→ images  the same list with every image's Related, and Unknown
//
// There are three ways to publish such a thing, and all are looked at, for the
// image itself and for the manifest of each of its platforms:
//
//   - inline: BuildKit puts attestation manifests into the image's index. They
//     travel with it, and are read here only to tell provenance from SBOMs.
//   - by tag: cosign's sha256-<hex>.sig, .att and .sbom. They are asked for by
//     name; a registry's tags are never listed.
//   - by referrer: OCI 1.1 manifests whose subject is the image, from the
//     referrers API or, where there is none, the tag sha256-<hex>.
//
// Of an image of which one platform was chosen, what belongs to that manifest is
// taken; what speaks of the whole index would speak of something left behind.
//
// A registry that cannot be asked, such as the unreachable one behind a mirror
// that knows no referrers, does not fail the stage: List.Unknown says so and a
// warning does. What exists and cannot be read fails it.
//
// The stage is not cached: it asks what can have changed.
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

// What to look for, beside what is inline.
const (
	Default = "default" // signatures, attestations and SBOMs
	All     = "all"     // everything
	None    = "none"    // nothing: the result depends on the images alone
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Config of the stage.
type Config struct {
	// Related is Default (which is also what "" means), All or None.
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

// New makes the stage.
func New(config Config, origins images.Origins) (*Stage, error) {
	related := cmp.Or(config.Related, Default)
	if !slices.Contains([]string{Default, All, None}, related) {
		return nil, fmt.Errorf("related %q: it is %s, %s or %s", related, Default, All, None)
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
	if err != nil {
		return nil, err
	}
	return engine.Outputs{"images": desc}, nil
}

var _ engine.Stage = (*Stage)(nil)
