// SPDX-License-Identifier: Apache-2.0

// Package resolve implements the resolve stage: it asks the registries which image
// each reference in the manifests currently names.
//
//	references  images.Report, as written by scan
//	→ images    images.List; Related is still empty
//
// The digest is the one in the manifest, else the one in the lock, else the one that
// the tag points to. One request reads the image's manifest for its media type, size
// and children; if an earlier run has read the tag, a HEAD request checks whether it
// has moved. References that are spelled differently but mean the same
// (nginx:1, docker.io/library/nginx:1) are one image.
//
// References that Kubernetes reads (classes pod and crd) must resolve. Those that do
// not are reported together, each with its locations. A reference that is only
// indirect may not be an image at all. It stays as written, is listed in
// List.Unpinned and causes a warning if
//
//   - its registry reports that the image does not exist, or denies access, which is
//     how most registries answer for what does not exist,
//   - the host name of its registry does not exist, or
//   - the image has a format that nothing can run any more (Docker's schema 1).
//
// A registry that is unreachable is an error even then: an outage must not decide
// what is in an artifact. `exclude` in tape.yaml leaves such a reference out.
//
// Images that are not in a registry are read from the places in Config.From, and
// [images.Image.From] tells later stages where. If a digest is given or locked, the
// image in that place must have it.
//
// The stage is not cached, because tags move.
package resolve

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"

	containerdimages "github.com/containerd/containerd/v2/core/images"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/images"
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Config configures the stage.
type Config struct {
	// Platform selects one manifest of every index: os/arch[/variant].
	Platform string `json:"platform,omitempty"`
	// Offline contacts no registry: a digest is the one in the manifests, or empty.
	Offline bool `json:"offline,omitempty"`
	// Digests are the locked digests by normalised reference (docker.io/library/nginx:1). If nil,
	// there is no lock, and images that are missing from it cause no warning.
	Digests map[string]digest.Digest `json:"digests,omitempty"`
	// Locked makes an image that is not locked an error.
	Locked bool `json:"locked,omitempty"`
	// From maps references (app:dev), or patterns in which * matches any characters, to the
	// places of images that are not in a registry.
	From map[string]local.Place `json:"from,omitempty"`
}

// Kind describes the stage to the table of stages. Paths in its configuration are relative to
// folder and must be below top, except for the places in given, which do not come from a pipeline
// file.
func Kind(origins images.Origins, folder, top string, given map[string]local.Place) pipeline.Kind {
	return pipeline.Kind{
		Name:    "resolve",
		Help:    "ask the registries which image each reference means",
		Inputs:  []pipeline.Port{{Name: "references"}},
		Outputs: []string{"images"},
		Schema:  configSchema,
		Needs:   []engine.Need{engine.NeedRegistries, engine.NeedLocalImages},
		New: pipeline.Configured(func(config Config) (*Stage, error) {
			if err := checkInside(config.From, folder, top, given); err != nil {
				return nil, engine.Mistaken("from", err)
			}
			return New(config, origins, folder)
		}),
	}
}

// Stage is the resolve stage.
type Stage struct {
	origins  images.Origins
	config   Config
	from     From
	platform *images.Platform // nil for whole indexes
}

// New returns the stage. Paths in the configuration are relative to folder.
func New(config Config, origins images.Origins, folder string) (*Stage, error) {
	s := &Stage{origins: origins, config: config}
	var err error
	if s.from, err = NewFrom(config.From, folder); err != nil {
		return nil, engine.Mistaken("from", err)
	}
	if config.Platform != "" {
		s.platform, err = images.ParsePlatform(config.Platform)
	}
	return s, engine.Mistaken("platform", err)
}

// Run implements engine.Stage.
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	var report images.Report
	if err := engine.GetJSON(ctx, t.Store, t.Inputs["references"], images.MediaTypeReport, &report); err != nil {
		return nil, err
	}
	references := merge(report.References)
	found := s.resolveAll(ctx, references, t.Report)
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}

	list := images.List{Images: []images.Image{}, Unpinned: []images.Unpinned{}}
	warn := func(format string, args ...any) {
		t.Report(engine.Event{Level: engine.Warning, Message: fmt.Sprintf(format, args...)})
	}
	if !s.config.Offline {
		for _, warning := range s.from.unused(references) {
			t.Report(warning)
		}
	}
	var failures []error
	for i, ref := range references {
		image := found[i].image
		_, listed := s.from.references[ref.Name] // the name itself, and not just a pattern that matches it
		switch err := found[i].err; {
		case err == nil && s.unlocked(image) && s.config.Locked:
			failures = append(failures, advice.Add(fmt.Errorf("image %s (%s) is not in the lock and currently has digest %s", ref.Source, places(ref.Locations), image.Digest), advice.Update, "images"))
		case err == nil:
			if s.unlocked(image) {
				warn("image %s is not in the lock; updating its images locks it to %s", ref.Source, image.Digest)
			}
			for _, sentence := range found[i].warnings {
				warn("%s", sentence)
			}
			list.Images = append(list.Images, image)
			list.Unpinned = append(list.Unpinned, never(ref)...)
		case !required(ref) && !listed && absent(err):
			list.Unpinned = append(list.Unpinned, images.Unpinned{Reference: ref, Reason: reason(err)})
			warn("%s (%s) stays as written: %s", ref.Source, places(ref.Locations), reason(err))
		default:
			failures = append(failures, &failure{fmt.Sprintf("image %s (%s): %s", ref.Source, places(ref.Locations), reason(err)), err})
		}
	}
	switch len(failures) {
	case 0:
	case 1:
		return nil, failures[0]
	default:
		return nil, fmt.Errorf("%d of %s:\n%w", len(failures), count.Of(len(references), "image"), errors.Join(failures...))
	}
	desc, err := engine.PutJSON(ctx, t.Store, images.MediaTypeList, list)
	return engine.Outputs{"images": desc}, err
}

// unlocked reports whether there is a lock that should list the image but does not.
func (s *Stage) unlocked(image images.Image) bool {
	return s.config.Digests != nil && !image.DigestProvided && s.config.Digests[image.Name] == ""
}

// found is the result of resolving one reference.
type found struct {
	image    images.Image
	warnings []string
	err      error
}

// resolveAll resolves references concurrently and returns the results in their order.
func (s *Stage) resolveAll(ctx context.Context, references []images.Reference, report func(engine.Event)) []found {
	all := make([]found, len(references))
	var (
		group errgroup.Group
		mu    sync.Mutex
		done  int64
	)
	group.SetLimit(atonce.Tasks)
	for i, ref := range references {
		group.Go(func() error {
			f := &all[i]
			if f.image, f.warnings, f.err = s.resolve(ctx, ref); f.err != nil {
				if absent(f.err) && required(ref) && s.from.Of(ref) == "" {
					f.err = Elsewhere(ctx, s.origins.Local, ref, f.err)
				}
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			report(engine.Event{Current: done, Total: int64(len(references)), Unit: "images"})
			return nil
		})
	}
	_ = group.Wait() // every error is in all
	return all
}

// Ask returns what [images.Known] contains about a reference: the image without what is published
// with it, or the reason why it does not exist. An error means that a registry did not answer.
func (s *Stage) Ask(ctx context.Context, name string) (images.Answer, error) {
	out := images.Answer{Name: name, Platform: s.config.Platform}
	image, warnings, err := s.resolve(ctx, images.Reference{Source: name, Name: name})
	if err != nil {
		if !absent(err) {
			return out, err
		}
		out.Absent = reason(err)
		return out, nil
	}
	image.Source, image.Ref = "", ""
	out.Image, out.Warnings = &image, warnings
	return out, nil
}

// resolve returns the image that a reference names, and warnings about it.
func (s *Stage) resolve(ctx context.Context, ref images.Reference) (images.Image, []string, error) {
	image := images.Image{
		Ref: ref.Source, Source: ref.Source, Name: ref.Name, Locations: ref.Locations,
		Manifests: []images.Manifest{}, Related: []images.Related{},
	}
	named, err := imageref.Parse(ref.Name)
	switch {
	case err != nil && s.config.Offline:
		return image, nil, nil // listing images shows malformed references too
	case err != nil:
		return images.Image{}, nil, &failure{err.Error() + "; an image is written as registry/path:tag", errdefs.ErrInvalidArgument}
	}
	image.Digest, image.DigestProvided = named.Digest, named.Digest != ""
	if s.config.Offline {
		return image, nil, nil
	}
	image.From = s.from.Of(ref)
	image.Digest = cmp.Or(image.Digest, s.config.Digests[ref.Name])
	if known, ok := s.origins.Known.Find(ref.Name, s.config.Platform, ""); ok && image.From == "" {
		if known.Absent != "" {
			return images.Image{}, nil, &failure{known.Absent, errdefs.ErrNotFound}
		}
		if image.Digest == "" || image.Digest == known.Image.Digest || image.Digest == known.Image.IndexDigest {
			provided := image.DigestProvided
			image = *known.Image
			image.Source, image.Name, image.Locations = ref.Source, ref.Name, ref.Locations
			image.DigestProvided, image.Related = provided, []images.Related{}
			return withDigest(image), known.Warnings, nil
		}
	}
	origin, err := s.origins.Open(ctx, ref.Name, image.From)
	if err != nil {
		return images.Image{}, nil, err
	}
	warnings, err := s.describe(ctx, origin, cmp.Or(image.Digest.String(), named.Tag), &image)
	if err != nil {
		return images.Image{}, nil, err
	}
	image = withDigest(image)
	if found, ok := origin.(*local.Source); ok && found.Warning() != "" {
		warnings = append(warnings, fmt.Sprintf("image %s from %s: %s", ref.Source, image.From, found.Warning()))
	}
	return image, warnings, nil
}

// withDigest returns the image with the reference that includes its digest.
func withDigest(image images.Image) images.Image {
	source, _, _ := strings.Cut(image.Source, "@")
	image.Ref = source + "@" + image.Digest.String()
	return image
}

// describe fills in the image from the manifest at a tag or digest, or from the
// manifest of the wanted platform if that is an index.
func (s *Stage) describe(ctx context.Context, origin images.Origin, at string, image *images.Image) (warnings []string, err error) {
	desc, data, err := origin.Manifest(ctx, at)
	if errdefs.IsNotFound(err) && image.From != "" && image.Digest != "" {
		return nil, s.another(ctx, origin, *image)
	}
	if err != nil {
		return nil, err
	}
	image.Digest, image.MediaType, image.Size = desc.Digest, desc.MediaType, desc.Size
	if !containerdimages.IsIndexType(desc.MediaType) {
		if image.From != "" {
			if err := whole(ctx, origin, desc); err != nil {
				return nil, err
			}
		}
		if _, _, err := registry.Children(desc, data); err != nil {
			return nil, err
		}
		if err := s.check(ctx, origin, data); err != nil {
			return nil, err
		}
		image.Platform = s.config.Platform
		image.Manifests = []images.Manifest{{Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size}}
		return unusable(*image, data), nil
	}
	var index ocispec.Index
	if err := descriptor.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("read image index %s: %w", desc.Digest, err)
	}
	child, warnings, err := s.child(ctx, origin, index.Manifests, image)
	if err != nil {
		return nil, err
	}
	var list []ocispec.Descriptor
	if child != nil {
		image.IndexDigest = desc.Digest
		image.Digest, image.MediaType, image.Size = child.Digest, child.MediaType, child.Size
		list, desc = []ocispec.Descriptor{*child}, *child
	}
	below, err := transfer.Below(ctx, origin, desc)
	image.Manifests = manifests(append(list, below...))
	return append(warnings, unusable(*image, data)...), err
}

// unusable returns a warning about an empty image, which no node can run.
func unusable(image images.Image, data []byte) []string {
	var m struct {
		Config            *ocispec.Descriptor
		Layers, Manifests []ocispec.Descriptor
	}
	if json.Unmarshal(data, &m) != nil {
		return nil // it has another form
	}
	what := ""
	switch {
	case containerdimages.IsIndexType(image.MediaType) && len(m.Manifests) == 0 && image.IndexDigest == "":
		what = "its index lists no manifests"
	case image.IndexDigest != "" || !containerdimages.IsManifestType(image.MediaType):
	case m.Config == nil:
		what = "its manifest has no config"
	case m.Layers == nil:
		what = "its manifest has no list of layers"
	}
	if what == "" {
		return nil
	}
	return []string{fmt.Sprintf("image %s: no node can run it: %s", image.Source, what)}
}

// manifests converts the descriptors of the manifests below an index.
func manifests(children []ocispec.Descriptor) []images.Manifest {
	out := make([]images.Manifest, len(children))
	for i, c := range children {
		out[i] = images.Manifest{Digest: c.Digest, MediaType: c.MediaType, Size: c.Size, ArtifactType: c.ArtifactType}
		if c.Platform != nil {
			out[i].Platform = platforms.Format(*c.Platform)
		}
		// See docs/attestations/attestation-storage.md in BuildKit.
		if c.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
			out[i].Reference = digest.Digest(c.Annotations["vnd.docker.reference.digest"])
		}
	}
	return out
}

// choose returns the child for the wanted platform.
func (s *Stage) choose(children []ocispec.Descriptor) (*ocispec.Descriptor, error) {
	best, there := s.platform.Choose(children)
	if best == nil {
		return nil, &failure{fmt.Sprintf("it has no %s, only %s", s.platform, cmp.Or(strings.Join(there, ", "), "manifests without a platform")), errdefs.ErrNotFound}
	}
	return best, nil
}

// check returns an error if the config of an image without an index names a platform other than
// the wanted one.
func (s *Stage) check(ctx context.Context, origin images.Origin, manifest []byte) error {
	if s.platform == nil {
		return nil
	}
	var parsed ocispec.Manifest
	if err := json.Unmarshal(manifest, &parsed); err != nil {
		return fmt.Errorf("read image manifest: %w", err)
	}
	blob, err := origin.Blob(ctx, parsed.Config)
	if err != nil {
		return err
	}
	defer blob.Close()
	data, err := io.ReadAll(io.LimitReader(blob, registry.MaxManifest))
	if err != nil {
		return fmt.Errorf("read image config %s: %w", parsed.Config.Digest, err)
	}
	// An artifact that is not an image, such as one for an image volume, has no platform.
	var config ocispec.Platform
	if err := json.Unmarshal(data, &config); err != nil || config.OS == "" {
		return nil //nolint:nilerr // it is not an image
	}
	_, err = s.choose([]ocispec.Descriptor{{Platform: &config}})
	return err
}

// merge joins references with the same normalised name. The source of the result is
// the spelling at its first location, and results are sorted by source. Scan does the
// same, but a stage between scan and this one may not.
func merge(references []images.Reference) []images.Reference {
	byName := map[string]int{}
	var out []images.Reference
	for _, ref := range references {
		ref.Name = normalise(cmp.Or(ref.Name, ref.Source))
		i, ok := byName[ref.Name]
		if !ok {
			byName[ref.Name] = len(out)
			ref.Locations = slices.Clone(ref.Locations)
			out = append(out, ref)
			continue
		}
		out[i].Locations = append(out[i].Locations, ref.Locations...)
	}
	for i := range out {
		ref := &out[i]
		slices.SortStableFunc(ref.Locations, func(a, b images.Location) int {
			return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Document, b.Document), cmp.Compare(a.Offset, b.Offset))
		})
		if len(ref.Locations) > 0 {
			ref.Source = cmp.Or(ref.Locations[0].Value, ref.Source)
		}
	}
	slices.SortFunc(out, func(a, b images.Reference) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), strings.Compare(a.Name, b.Name))
	})
	return out
}

// normalise returns the reference with registry, path, and tag or digest. It returns an invalid
// reference unchanged, so that resolve rejects it.
func normalise(ref string) string {
	if full, err := imageref.Normalise(ref); err == nil {
		return full
	}
	return ref
}

// required reports whether Kubernetes itself reads the reference at a location that may be
// pinned.
func required(ref images.Reference) bool {
	return slices.ContainsFunc(ref.Locations, func(l images.Location) bool {
		return l.Class != images.Indirect && l.Never == ""
	})
}

// never lists the locations that must not be pinned, although the image is copied.
func never(ref images.Reference) []images.Unpinned {
	var out []images.Unpinned
	for _, l := range ref.Locations {
		switch {
		case l.Never == "":
		case len(out) > 0 && out[len(out)-1].Reason == l.Never:
			out[len(out)-1].Locations = append(out[len(out)-1].Locations, l)
		default:
			out = append(out, images.Unpinned{
				Reference: images.Reference{Source: ref.Source, Name: ref.Name, Locations: []images.Location{l}}, Reason: l.Never,
			})
		}
	}
	return out
}

// absent reports whether an error means that the image does not exist, as far as its registry can
// tell.
func absent(err error) bool {
	dns, isDNS := errors.AsType[*net.DNSError](err)
	_, isStatus := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	_, answered := errors.AsType[*registry.Error](err)
	switch {
	case errdefs.IsNotFound(err), errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err), isDNS && dns.IsNotFound:
		return true
	case errdefs.IsNotImplemented(err):
		return !isStatus // an image in schema 1 exists but cannot be run
	}
	// An invalid reference is never sent to a registry. The same class of error from a registry
	// means that the registry is faulty.
	return errdefs.IsInvalidArgument(err) && !answered
}

// reason returns the text of a registry's error without the reference, which the
// caller's message already contains.
func reason(err error) string {
	failed, ok := errors.AsType[*registry.Error](err)
	if !ok {
		return err.Error()
	}
	text := failed.Reason
	if failed.Host != "" {
		text = failed.Host + ": " + text
	}
	if failed.Hint != "" {
		text += "; " + failed.Hint
	}
	if e, ok := errors.AsType[*advice.Error](err); ok {
		text += "; " + fmt.Sprintf(string(e.Action), e.About...)
	}
	return text
}

// failure wraps an error but replaces its text.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

// maxPlaces is the maximum number of locations that an error names.
const maxPlaces = 3

// places formats locations for a message: a.yaml:3:12, b.yaml:7:16 and 2 more.
func places(locations []images.Location) string {
	var out []string
	for _, l := range locations[:min(len(locations), maxPlaces)] {
		out = append(out, l.Place())
	}
	text := strings.Join(out, ", ")
	if more := len(locations) - maxPlaces; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
