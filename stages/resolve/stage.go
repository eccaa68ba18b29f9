// SPDX-License-Identifier: Apache-2.0

// Package resolve implements the resolve stage: it asks the registries which
// image each reference of the manifests means today.
//
//	references  images.Report, as scan wrote it
//	→ images    images.List; nothing is Related yet
//
// A digest that the manifests give is used as it is, then one that is locked;
// else what the tag leads to. The manifest is read for its media type, size and
// children, with one request; of a tag that an earlier run has read, a HEAD asks
// whether it has moved. References that are spelled
// differently and mean the same (nginx:1, docker.io/library/nginx:1) are one image.
//
// References that Kubernetes reads (of class pod and crd) must resolve. All that
// do not are reported together, each with the places it stands in. One that is
// only indirect may be no image at all; it stays as written, is listed in
// List.Unpinned and warned of when
//
//   - its registry says that there is no such image, or denies access, which is
//     what most registries say of what does not exist,
//   - the name of its registry does not exist, or
//   - it exists and is nothing that can be run any more (Docker's schema 1).
//
// Images that are in no registry are taken from where From says: what they are is
// asked there, and [images.Image.From] says so to whoever reads them later. A digest
// that was given or locked must be the one that is there.
//
// A registry that is merely down is an error even so: an outage must not decide
// what is in an artifact. `exclude` in tape.yaml leaves such a reference out.
//
// The stage is not cached: it asks what can have changed.
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

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	containerdimages "github.com/containerd/containerd/v2/core/images"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/images"
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Config of the stage.
type Config struct {
	// Platform takes one manifest of every index: os/arch[/variant].
	Platform string `json:"platform,omitempty"`
	// Offline asks no registry: a digest is what the manifests give, else empty.
	Offline bool `json:"offline,omitempty"`
	// Digests are locked, by normalised reference (docker.io/library/nginx:1).
	// Nil: there is no lock, and nobody is told that something is not in it.
	Digests map[string]digest.Digest `json:"digests,omitempty"`
	// Locked makes an image that is not locked an error.
	Locked bool `json:"locked,omitempty"`
	// From is where images are that are in no registry, by reference (app:dev) or
	// by a pattern of references, in which * stands for any characters.
	From map[string]local.Place `json:"from,omitempty"`
}

// Kind is the stage's entry in the table of stages. Paths in its configuration are
// relative to the folder and stay below top, but for the places that are given: those
// are not from a file that is checked in.
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
	platform *ocispec.Platform // nil: whole indexes
}

// New makes the stage. Paths in the configuration are relative to the folder.
func New(config Config, origins images.Origins, folder string) (*Stage, error) {
	s := &Stage{origins: origins, config: config}
	var err error
	if s.from, err = NewFrom(config.From, folder); err != nil {
		return nil, engine.Mistaken("from", err)
	}
	if config.Platform == "" {
		return s, nil
	}
	// What is left out would be taken from the machine that tape runs on.
	if !strings.Contains(config.Platform, "/") {
		return nil, engine.Mistaken("platform", fmt.Errorf("platform %q: give it as os/arch, such as linux/amd64", config.Platform))
	}
	platform, err := platforms.Parse(config.Platform)
	if err != nil {
		return nil, engine.Mistaken("platform", fmt.Errorf("platform %q: %w; give it as os/arch, such as linux/amd64", config.Platform, err))
	}
	platform = platforms.Normalize(platform)
	s.platform = &platform
	return s, nil
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
		for _, sentence := range s.from.unused(references) {
			warn("%s", sentence)
		}
	}
	var failures []error
	for i, ref := range references {
		image := found[i].image
		switch err := found[i].err; {
		case err == nil && s.unlocked(image) && s.config.Locked:
			failures = append(failures, fmt.Errorf("image %s (%s) is not in the lock, and is %s now; --update=images locks it", ref.Source, places(ref.Locations), image.Digest))
		case err == nil:
			if s.unlocked(image) {
				warn("image %s is not in the lock; --update=images locks it to %s", ref.Source, image.Digest)
			}
			for _, sentence := range found[i].warnings {
				warn("%s", sentence)
			}
			list.Images = append(list.Images, image)
			list.Unpinned = append(list.Unpinned, never(ref)...)
		case !required(ref) && !s.from.named(ref) && absent(err):
			list.Unpinned = append(list.Unpinned, images.Unpinned{Reference: ref, Reason: reason(err)})
			warn("%s (%s) stays as it is written: %s", ref.Source, places(ref.Locations), reason(err))
		default:
			failures = append(failures, &failure{fmt.Sprintf("image %s (%s): %s%s", ref.Source, places(ref.Locations), reason(err), found[i].hint), err})
		}
	}
	switch len(failures) {
	case 0:
	case 1:
		return nil, failures[0]
	default:
		return nil, fmt.Errorf("%d of %d images:\n%w", len(failures), len(references), errors.Join(failures...))
	}
	desc, err := engine.PutJSON(ctx, t.Store, images.MediaTypeList, list)
	if err != nil {
		return nil, err
	}
	return engine.Outputs{"images": desc}, nil
}

// unlocked says that there is a lock, and that an image it could pin is not in it.
func (s *Stage) unlocked(image images.Image) bool {
	return s.config.Digests != nil && !image.DigestProvided && s.config.Digests[image.Name] == ""
}

// atOnce is how many references are resolved side by side: enough for two
// registries that take as many requests as the client has in flight to one.
const atOnce = 128

// found is what came of a reference.
type found struct {
	image    images.Image
	warnings []string
	err      error
	hint     string // at where the image is
}

// resolveAll resolves references side by side. What it returns has their order.
func (s *Stage) resolveAll(ctx context.Context, references []images.Reference, report func(engine.Event)) []found {
	all := make([]found, len(references))
	var (
		group errgroup.Group
		mu    sync.Mutex
		done  int64
	)
	group.SetLimit(atOnce)
	for i, ref := range references {
		group.Go(func() error {
			f := &all[i]
			if f.image, f.warnings, f.err = s.resolve(ctx, ref); f.err != nil {
				if absent(f.err) && required(ref) && s.from.Of(ref) == "" {
					f.hint = Hint(ctx, s.origins.Local, ref)
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

// resolve finds the image that a reference means.
func (s *Stage) resolve(ctx context.Context, ref images.Reference) (images.Image, []string, error) {
	image := images.Image{
		Ref: ref.Source, Source: ref.Source, Name: ref.Name, Locations: ref.Locations,
		Manifests: []images.Manifest{}, Related: []images.Related{},
	}
	named, err := reference.ParseNormalizedNamed(ref.Name)
	switch {
	case err != nil && s.config.Offline:
		return image, nil, nil // whoever only looks is shown what is there
	case err != nil:
		return images.Image{}, nil, &failure{err.Error() + "; an image is written as registry/path:tag", errdefs.ErrInvalidArgument}
	}
	if digested, ok := named.(reference.Digested); ok {
		image.Digest, image.DigestProvided = digested.Digest(), true
	}
	if s.config.Offline {
		return image, nil, nil
	}
	image.From = s.from.Of(ref)
	origin, err := s.origins.Open(ctx, ref.Name, image.From)
	if err != nil {
		return images.Image{}, nil, err
	}
	if image.Digest == "" {
		image.Digest = s.config.Digests[ref.Name]
	}
	at := image.Digest.String()
	if at == "" {
		at = named.(reference.Tagged).Tag()
	}
	warnings, err := s.describe(ctx, origin, at, &image)
	if err != nil {
		return images.Image{}, nil, err
	}
	source, _, _ := strings.Cut(ref.Source, "@")
	image.Ref = source + "@" + image.Digest.String()
	if found, ok := origin.(*local.Source); ok && found.Warning() != "" {
		warnings = append(warnings, fmt.Sprintf("image %s from %s: %s", ref.Source, image.From, found.Warning()))
	}
	return image, warnings, nil
}

// describe reads the manifest at a tag or digest, and where one platform is wanted
// goes on to that one's.
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
		return nil, nil
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
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
	return warnings, err
}

// manifests describes what an index leads to.
func manifests(children []ocispec.Descriptor) []images.Manifest {
	out := make([]images.Manifest, len(children))
	for i, c := range children {
		out[i] = images.Manifest{Digest: c.Digest, MediaType: c.MediaType, Size: c.Size, ArtifactType: c.ArtifactType}
		if c.Platform != nil {
			out[i].Platform = platforms.Format(*c.Platform)
		}
		// BuildKit's convention: docs/attestations/attestation-storage.md there.
		if c.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
			out[i].Reference = digest.Digest(c.Annotations["vnd.docker.reference.digest"])
		}
	}
	return out
}

// choose finds the child for the wanted platform: of its very variant, else of
// the newest older one.
func (s *Stage) choose(children []ocispec.Descriptor) (ocispec.Descriptor, error) {
	matcher := platforms.Only(*s.platform)
	var (
		best  *ocispec.Descriptor
		there []string
	)
	for _, c := range children {
		if c.Platform == nil || c.Platform.OS == "unknown" {
			continue
		}
		there = append(there, platforms.Format(*c.Platform))
		// The matcher also takes what the processor could run: 386 for amd64.
		if p := platforms.Normalize(*c.Platform); p.Architecture != s.platform.Architecture || !matcher.Match(p) {
			continue
		}
		if best == nil || matcher.Less(*c.Platform, *best.Platform) {
			best = &c
		}
	}
	if best == nil {
		text := fmt.Sprintf("it has no %s, only %s", s.config.Platform, cmp.Or(strings.Join(there, ", "), "manifests without a platform"))
		return ocispec.Descriptor{}, &failure{text, errdefs.ErrNotFound}
	}
	return *best, nil
}

// check says whether an image without an index is of the wanted platform. That
// is in its config.
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
	// What is no image (an artifact for an image volume) has no platform.
	var config ocispec.Platform
	if err := json.Unmarshal(data, &config); err != nil || config.OS == "" {
		return nil //nolint:nilerr // as said above
	}
	child := ocispec.Descriptor{Platform: &config}
	_, err = s.choose([]ocispec.Descriptor{child})
	return err
}

// merge makes one of references with the same normalised name; its source is how
// the first place spells it, and what they are sorted by. Scan does so; a stage
// put in between may not.
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

// normalise spells a reference out: registry, path, and tag or digest. What is no
// reference is left, for resolve to refuse.
func normalise(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.TagNameOnly(named).String()
}

// required says whether Kubernetes itself reads the reference, and tape is to pin it.
func required(ref images.Reference) bool {
	return slices.ContainsFunc(ref.Locations, func(l images.Location) bool {
		return l.Class != images.Indirect && l.Never == ""
	})
}

// never lists the places that are not to be pinned, although the image is taken.
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

// absent says whether an error means that, as far as anybody is told, there is no
// such image.
func absent(err error) bool {
	var (
		dns      *net.DNSError
		answered *registry.Error
	)
	if errdefs.IsNotFound(err) || errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) ||
		errors.As(err, &dns) && dns.IsNotFound {
		return true
	}
	// An image of schema 1 is there, and nothing that can be run.
	if errdefs.IsNotImplemented(err) {
		var status remoteerrors.ErrUnexpectedStatus
		return !errors.As(err, &status)
	}
	// What is no reference was never asked for; of a registry the same class
	// says that something is wrong with it.
	return errdefs.IsInvalidArgument(err) && !errors.As(err, &answered)
}

// reason says what a registry's error says, without the reference: whoever reads
// it has just read that.
func reason(err error) string {
	var failed *registry.Error
	if !errors.As(err, &failed) {
		return err.Error()
	}
	text := failed.Reason
	if failed.Host != "" {
		text = failed.Host + ": " + text
	}
	if failed.Hint != "" {
		text += "; " + failed.Hint
	}
	return text
}

// failure is an error of a class (or around another error) with a text of its own.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

// maxPlaces is how many locations an error names.
const maxPlaces = 3

// places says where a reference stands: a.yaml:3:12, b.yaml:7:16 and 2 more.
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

var _ engine.Stage = (*Stage)(nil)
