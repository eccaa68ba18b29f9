// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/internal/nearest"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/stages/images"
)

// From maps references to the local places that contain their images.
type From struct {
	references map[string]local.Place // by normalised name
	patterns   []string               // longest first
	places     map[string]local.Place // by reference or pattern, as written
}

// NewFrom parses [Config.From]. Paths are relative to folder.
func NewFrom(config map[string]local.Place, folder string) (From, error) {
	f := From{references: map[string]local.Place{}, places: map[string]local.Place{}}
	for _, written := range slices.Sorted(maps.Keys(config)) {
		place := config[written]
		if err := place.Check(); err != nil {
			return f, fmt.Errorf("image %s: %w", written, err)
		}
		place = place.Below(folder)
		f.places[written] = place
		switch {
		case !strings.Contains(written, "*"):
			name := normalise(written)
			if other, twice := f.references[name]; twice && other != place {
				return f, fmt.Errorf("image %s is to be read from %s, but another spelling of its name has %s: remove one of the two", written, place, other)
			}
			f.references[name] = place
		case place.IsFile():
			return f, fmt.Errorf("image %s: %s does not hold images by name: list each reference to read from it instead of a pattern", written, place)
		default:
			f.patterns = append(f.patterns, written)
		}
	}
	slices.SortStableFunc(f.patterns, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return f, nil
}

// checkInside returns an error if a file or folder in config is outside top, including after
// symbolic links are resolved. It does not check places in given, or anything if top is empty.
func checkInside(config map[string]local.Place, folder, top string, given map[string]local.Place) error {
	for _, written := range slices.Sorted(maps.Keys(config)) {
		place := config[written]
		if top == "" || !place.IsFile() || given[written] == place {
			continue
		}
		if err := inside(place, folder, top); err != nil {
			return fmt.Errorf("image %s: %w; a pipeline file may only name images in its own repository", written, err)
		}
	}
	return nil
}

func inside(place local.Place, folder, top string) error {
	_, name, _ := strings.Cut(string(place), ":")
	if filepath.IsAbs(name) {
		return fmt.Errorf("%s is absolute", place)
	}
	name, err := filepath.Abs(filepath.Join(folder, name))
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(filepath.Dir(name)); err == nil {
		name = filepath.Join(real, filepath.Base(name))
	}
	if rel, err := filepath.Rel(top, name); err != nil || !filepath.IsLocal(rel) {
		return fmt.Errorf("%s is outside of %s", place, top)
	}
	// The path may be followed by a tag.
	for _, at := range []string{name, strings.TrimSuffix(name, ":"+name[strings.LastIndexByte(name, ':')+1:])} {
		if err := regular.Inside(at, top); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Of returns the place that contains the image of a reference, or "" if that is its registry.
func (f From) Of(ref images.Reference) local.Place {
	if place, ok := f.references[ref.Name]; ok {
		return place
	}
	for _, pattern := range f.patterns {
		if ref.Matches(pattern) {
			return f.places[pattern]
		}
	}
	return ""
}

// unused returns a warning for each reference or pattern in the configuration that
// matches no image of the manifests.
func (f From) unused(references []images.Reference) []engine.Event {
	var sources []string
	var out []engine.Event
	for _, ref := range references {
		sources = append(sources, ref.Source)
	}
	for _, written := range slices.Sorted(maps.Keys(f.places)) {
		if !slices.ContainsFunc(references, func(ref images.Reference) bool {
			return ref.Name == normalise(written) || ref.Matches(written)
		}) {
			out = append(out, engine.Event{
				Level:   engine.Warning,
				Message: fmt.Sprintf("no image in the manifests matches %s, which was to be read from %s%s", written, f.places[written], nearest.Hint(written, slices.Values(sources))),
				Unused:  []string{"from", written},
			})
		}
	}
	return out
}

// Elsewhere adds to the error that a registry does not have an image if a place on this machine
// has it.
func Elsewhere(ctx context.Context, places *local.Places, ref images.Reference, err error) error {
	if places == nil {
		return err
	}
	having := places.Having(ctx, ref.Name)
	if len(having) == 0 {
		return err
	}
	return advice.Add(err, advice.TakeFrom, having[0], ref.Source)
}

// another returns the error for an image whose digest in its place differs from the digest in the
// manifests or the lock.
func (s *Stage) another(ctx context.Context, origin images.Origin, image images.Image) error {
	wanted := "the lock has"
	if image.DigestProvided {
		wanted = "the manifests have"
	}
	has := "nothing"
	if there, err := origin.Resolve(ctx, ""); err == nil {
		has = there.Digest.String()
	}
	err := fmt.Errorf("%s has %s, but %s %s", image.From, has, wanted, image.Digest)
	if image.DigestProvided {
		return err
	}
	return advice.Add(err, advice.Update, "images")
}

// child returns the manifest to use instead of the index that lists it, or nil to use the whole
// index. It is the manifest of the wanted platform. If a local place contains only one platform
// of an index, it is the manifest of that platform, because a registry does not accept an
// incomplete index. A warning then names the platforms that are left out.
func (s *Stage) child(ctx context.Context, origin images.Origin, list []ocispec.Descriptor, image *images.Image) (child *ocispec.Descriptor, warnings []string, err error) {
	if s.platform != nil {
		child, err := s.choose(list)
		if err == nil && image.From != "" {
			if err = whole(ctx, origin, *child); errdefs.IsNotFound(err) {
				err = &failure{fmt.Sprintf("%s does not have all of its %s: fetch that one there first", image.From, s.config.Platform), err}
			}
		}
		image.Platform = s.config.Platform
		return child, nil, err
	}
	if image.From == "" {
		return nil, nil, nil
	}
	var there, left []string
	var only ocispec.Descriptor
	var why error
	for _, child := range list {
		name := "its attestations"
		platform := images.HasPlatform(child)
		if platform {
			name = platforms.Format(*child.Platform)
		}
		err := whole(ctx, origin, child)
		switch {
		case errdefs.IsNotFound(err):
			left, why = append(left, name), err
		case err != nil:
			return nil, nil, err
		case platform:
			there, only = append(there, name), child
		}
	}
	slices.Sort(left)
	missing := strings.Join(slices.Compact(left), ", ")
	switch {
	case len(left) == 0:
		return nil, nil, nil
	case len(there) == 0:
		return nil, nil, fmt.Errorf("%s has nothing whole of it: %w", image.From, why)
	case len(there) > 1:
		return nil, nil, advice.Add(fmt.Errorf("%s has %s of it, but not %s", image.From, strings.Join(there, ", "), missing), advice.ChoosePlatform)
	}
	image.Platform = there[0]
	return &only, []string{fmt.Sprintf("image %s: only %s is taken: %s does not have %s", image.Source, there[0], image.From, missing)}, nil
}

// whole returns an error if a manifest or blob that desc leads to is missing.
func whole(ctx context.Context, origin images.Origin, desc ocispec.Descriptor) error {
	m, err := transfer.Read(ctx, origin, desc)
	if err != nil {
		return err
	}
	for _, child := range m.Manifests {
		if err := whole(ctx, origin, child); err != nil {
			return err
		}
	}
	for _, blob := range m.Blobs {
		body, err := origin.Blob(ctx, blob)
		if errdefs.IsNotFound(err) && registry.MayBeElsewhere(blob) {
			continue // it is at one of the URLs in the descriptor
		}
		if err != nil {
			return err
		}
		if err := body.Close(); err != nil {
			return fmt.Errorf("read blob %s: %w", blob.Digest, err)
		}
	}
	return nil
}
