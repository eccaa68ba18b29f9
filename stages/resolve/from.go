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

	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/engine/nearest"
	"github.com/taped-dev/tape/engine/regular"
	"github.com/taped-dev/tape/stages/images"
)

// From says where some references are found that are in no registry.
type From struct {
	references map[string]local.Place // by normalised name
	patterns   []string               // the longest first
	places     map[string]local.Place // by what was written
}

// NewFrom reads what [Config.From] says. Paths are relative to the folder.
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
				return f, fmt.Errorf("image %s is to be taken from %s, and from %s by another spelling of its name: leave one out", written, place, other)
			}
			f.references[name] = place
		case place.IsFile():
			return f, fmt.Errorf("image %s: %s holds what it holds by whatever name: write out the references that are to be taken from it", written, place)
		default:
			f.patterns = append(f.patterns, written)
		}
	}
	slices.SortStableFunc(f.patterns, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return f, nil
}

// checkInside checks that the files and folders of a configuration are below top, also
// once symbolic links are followed. Without top there is nothing to check.
func checkInside(config map[string]local.Place, folder, top string, given map[string]local.Place) error {
	for _, written := range slices.Sorted(maps.Keys(config)) {
		place := config[written]
		if top == "" || !place.IsFile() || given[written] == place {
			continue
		}
		if err := inside(place, folder, top); err != nil {
			return fmt.Errorf("image %s: %w; a pipeline file takes images from its own repository only", written, err)
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
		return fmt.Errorf("%s leads outside of %s", place, top)
	}
	// The path may be followed by a tag.
	for _, at := range []string{name, strings.TrimSuffix(name, ":"+name[strings.LastIndexByte(name, ':')+1:])} {
		if err := regular.Inside(at, top); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Of is where a reference is found; "" is its registry.
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

// named says that the very reference was written: whoever wrote it wants it taken.
func (f From) named(ref images.Reference) bool {
	_, ok := f.references[ref.Name]
	return ok
}

// unused says of what was written that nothing in the manifests is it.
func (f From) unused(references []images.Reference) []string {
	var sources, out []string
	for _, ref := range references {
		sources = append(sources, ref.Source)
	}
	for _, written := range slices.Sorted(maps.Keys(f.places)) {
		if !slices.ContainsFunc(references, func(ref images.Reference) bool {
			return ref.Name == normalise(written) || ref.Matches(written)
		}) {
			out = append(out, fmt.Sprintf("no image of the manifests is %s, which was to be taken from %s%s", written, f.places[written], nearest.Hint(written, slices.Values(sources))))
		}
	}
	return out
}

// Hint is the end of the error that a registry does not have an image: which of the
// places on this machine has it.
func Hint(ctx context.Context, places *local.Places, ref images.Reference) string {
	if places == nil {
		return ""
	}
	having := places.Having(ctx, ref.Name)
	if len(having) == 0 {
		return ""
	}
	return fmt.Sprintf("; %s has it: take it from there with --from %s=%[1]s", having[0], ref.Source)
}

// another is the error where a place has the image, and not of the digest that the
// manifests or the lock say.
func (s *Stage) another(ctx context.Context, origin images.Origin, image images.Image) error {
	says, renew := "locked is", "; --update=images locks what is there"
	if image.DigestProvided {
		says, renew = "the manifests say", ""
	}
	has := "nothing"
	if there, err := origin.Resolve(ctx, ""); err == nil {
		has = there.Digest.String()
	}
	return fmt.Errorf("%s has %s, and %s %s%s", image.From, has, says, image.Digest, renew)
}

// child is the one of an index that is to be taken in its stead, nil where all are.
// That is the one of the wanted platform; or of those that a place has, where it has
// one and not the others: no registry has an index that is not whole. A warning says
// then what is left out.
func (s *Stage) child(ctx context.Context, origin images.Origin, list []ocispec.Descriptor, image *images.Image) (child *ocispec.Descriptor, warnings []string, err error) {
	if s.platform != nil {
		child, err := s.choose(list)
		if err == nil && image.From != "" {
			if err = whole(ctx, origin, child); errdefs.IsNotFound(err) {
				err = &failure{fmt.Sprintf("%s does not have all of its %s: fetch that one there first", image.From, s.config.Platform), err}
			}
		}
		image.Platform = s.config.Platform
		return &child, nil, err
	}
	if image.From == "" {
		return nil, nil, nil
	}
	var there, left []string
	var only ocispec.Descriptor
	var why error
	for _, child := range list {
		name := "what is attested of it"
		platform := child.Platform != nil && child.Platform.OS != "unknown"
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
		return nil, nil, fmt.Errorf("%s has %s of it, and not %s: take one with --platform, or fetch all", image.From, strings.Join(there, ", "), missing)
	}
	image.Platform = there[0]
	return &only, []string{fmt.Sprintf("image %s: left out: %s, which %s does not have; it is %s alone", image.Source, missing, image.From, there[0])}, nil
}

// whole finds out whether all is there that a manifest names.
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
			continue // it lies where they say
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
