// SPDX-License-Identifier: Apache-2.0

// Package stages contains the table of the standard stages, and the default pipeline that they
// form. Its folders contain one stage each, the nouns that stages exchange (files, rendering,
// manifests, images, vcs and artifact), and app, which is tape as a library.
package stages

import (
	"bytes"
	_ "embed"

	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/attest"
	"github.com/taped-dev/tape/stages/content"
	"github.com/taped-dev/tape/stages/discover"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/index"
	"github.com/taped-dev/tape/stages/mirror"
	"github.com/taped-dev/tape/stages/pin"
	"github.com/taped-dev/tape/stages/push"
	"github.com/taped-dev/tape/stages/render"
	"github.com/taped-dev/tape/stages/resolve"
	"github.com/taped-dev/tape/stages/scan"
	"github.com/taped-dev/tape/stages/sign"
	"github.com/taped-dev/tape/stages/source"
)

//go:embed default.yaml
var defaultPipeline []byte

// Default returns the pipeline that tape.yaml is merged into.
func Default() []byte { return bytes.Clone(defaultPipeline) }

// Dependencies are what the standard stages depend on.
type Dependencies struct {
	Source source.Options
	Render render.Options
	// Origins are where images are read from.
	Origins images.Origins
	// Folder is the folder of the pipeline file, or "" if there is none. Paths in images.from of
	// a checked-in file must not lead out of Top.
	Folder, Top string
	// Given are places of images that the user named, relative to Folder.
	Given map[string]local.Place
	// Signer signs root and content; nil leaves them unsigned.
	Signer sign.Signer
	// Shared is what several applications copy only once; nil if there is nothing.
	Shared *transfer.Shared
	// Registry is the client for the registry that the application is pushed to.
	Registry *registry.Client
}

// Kinds returns the table of the standard stages.
func Kinds(d Dependencies) []pipeline.Kind {
	return []pipeline.Kind{
		source.Kind(d.Source),
		render.Kind(d.Render),
		scan.Kind(),
		resolve.Kind(d.Origins, d.Folder, d.Top, d.Given),
		discover.Kind(d.Origins),
		mirror.Kind(d.Origins, d.Shared),
		pin.Kind(),
		content.Kind(),
		attest.Kind(),
		index.Kind(),
		sign.Kind(d.Signer),
		push.Kind(d.Registry),
	}
}
