// SPDX-License-Identifier: Apache-2.0

package discover

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/images"
)

// subject is a manifest that others may be about. Several images may have it.
type subject struct {
	repository string
	digest     digest.Digest
}

// finding is the answer to one question about a subject, asked once.
type finding struct {
	related []images.Related // To is the subject
	unknown error            // why the registry could not be asked
	err     error
}

// ask finds what one way of publishing has for a subject.
type ask func(ctx context.Context, origin images.Origin, to digest.Digest) ([]images.Related, error)

// search fills in what is related to each image of the list. Every question is
// asked once, and many side by side.
func (s *Stage) search(ctx context.Context, list *images.List, report func(engine.Event)) error {
	findings := map[subject][]*finding{} // in the order of the questions, which is not that of the answers
	var all []*finding
	var tasks []func(context.Context)
	question := func(image images.Image, origin images.Origin, about digest.Digest, asks ...ask) {
		key := subject{repository(image), about}
		if _, asked := findings[key]; asked {
			return
		}
		for _, ask := range asks {
			f := &finding{}
			findings[key], all = append(findings[key], f), append(all, f)
			tasks = append(tasks, func(ctx context.Context) {
				f.related, f.err = ask(ctx, origin, about)
				if unanswered(f.err) {
					f.unknown, f.err = f.err, nil
				}
			})
		}
	}
	opened := make([]images.Origin, len(list.Images))
	for i, image := range list.Images {
		origin, err := s.origins.Open(ctx, image.Name, image.From)
		if err != nil {
			return fmt.Errorf("image %s: %w", image.Source, err)
		}
		opened[i] = origin
		for _, m := range image.Manifests {
			if m.Reference != "" {
				question(image, origin, m.Digest, inline(m))
			}
		}
		if s.related == None {
			continue
		}
		for _, about := range subjects(image) {
			// An image that anything was published beside has a signature: that one
			// is read at once. Of the rest, most is not there.
			likely := about == image.Digest
			question(image, origin, about, byTag(".sig", images.Signature, likely), byTag(".att", images.Attestation, false), byTag(".sbom", images.SBOM, false), byReferrer)
		}
	}
	found := func(image images.Image) func(digest.Digest) []*finding {
		return func(about digest.Digest) []*finding { return findings[subject{repository(image), about}] }
	}
	// What was found may be signed too, and so on, in the way in which it was published.
	for asked, round := 0, 0; asked < len(tasks); round++ {
		if round > registry.MaxDepth {
			return fmt.Errorf("signatures of signatures lead on after %d of them", registry.MaxDepth)
		}
		if err := runAll(ctx, tasks[asked:], report); err != nil {
			return err
		}
		if asked = len(tasks); s.related == None {
			break
		}
		for i, image := range list.Images {
			related, _ := s.collect(image, found(image))
			for _, r := range related {
				switch {
				case r.Via == images.Tag && r.Kind == images.SBOM: // which cosign signs by a tag
					question(image, opened[i], r.Digest, byTag(".sig", images.Signature, false), byReferrer)
				case r.Via == images.Referrer:
					question(image, opened[i], r.Digest, byReferrer)
				}
			}
		}
	}
	var errs []error
	for _, f := range all {
		errs = append(errs, f.err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i := range list.Images {
		image := &list.Images[i]
		var unknown error
		image.Related, unknown = s.collect(*image, found(*image))
		if unknown != nil {
			list.Unknown = append(list.Unknown, fmt.Sprintf("%s: related: unknown: %v", image.Source, unknown))
		}
	}
	return nil
}

// atOnce is how many questions are under way: enough for two registries that take
// as many as the client has in flight to one, and few enough to cost no memory.
const atOnce = 128

// runAll runs the tasks side by side.
func runAll(ctx context.Context, tasks []func(context.Context), report func(engine.Event)) error {
	var (
		group errgroup.Group
		mu    sync.Mutex
		done  int64
	)
	group.SetLimit(atOnce)
	for _, task := range tasks {
		group.Go(func() error {
			task(ctx)
			if err := context.Cause(ctx); err != nil {
				return err // what was cut off is not done
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			report(engine.Event{Current: done, Total: int64(len(tasks)), Unit: "lookups"})
			return nil
		})
	}
	return group.Wait()
}

// repository is what images have in common that are taken from one.
func repository(image images.Image) string {
	name, _ := image.Repository()
	return string(image.From) + " " + name
}

// subjects are the manifests of an image that something may be about: itself,
// and those of its platforms.
func subjects(image images.Image) []digest.Digest {
	out := []digest.Digest{image.Digest}
	for _, m := range image.Manifests {
		if m.Reference == "" && m.Platform != unknownPlatform && !slices.Contains(out, m.Digest) {
			out = append(out, m.Digest)
		}
	}
	return out
}

// unknownPlatform marks what lies in an index and is no image.
const unknownPlatform = "unknown/unknown"

// collect puts together what was found of an image, in its one order. What was
// found both by tag and as a referrer keeps its tag.
func (s *Stage) collect(image images.Image, of func(digest.Digest) []*finding) (related []images.Related, unknown error) {
	related = []images.Related{}
	var about []digest.Digest
	add := func(subject, to digest.Digest) {
		for _, f := range of(subject) {
			if unknown == nil {
				unknown = f.unknown
			}
			for _, r := range f.related {
				if r.Kind == images.Other && s.related != All {
					continue
				}
				r.To = to
				related = append(related, r)
				if r.Via != images.Inline && !slices.Contains(about, r.Digest) {
					about = append(about, r.Digest)
				}
			}
		}
	}
	for _, m := range image.Manifests {
		if m.Reference != "" {
			add(m.Digest, m.Reference)
		}
	}
	if s.related != None {
		about = subjects(image)
		for i := 0; i < len(about); i++ { // it grows
			add(about[i], about[i])
		}
	}
	slices.SortFunc(related, func(a, b images.Related) int {
		return cmp.Or(
			strings.Compare(string(a.To), string(b.To)), strings.Compare(string(a.Digest), string(b.Digest)),
			-strings.Compare(a.Tag, b.Tag), strings.Compare(a.Kind, b.Kind),
		)
	})
	var tagged images.Related
	related = slices.DeleteFunc(related, func(r images.Related) bool {
		if r.Tag != "" {
			tagged = r
		}
		return r.Via == images.Referrer && r.To == tagged.To && r.Digest == tagged.Digest
	})
	return related, unknown
}

// inline reads an attestation manifest that lies in the image's index, and lists
// it once a kind.
func inline(m images.Manifest) ask {
	return func(ctx context.Context, origin images.Origin, _ digest.Digest) ([]images.Related, error) {
		manifest, err := read(ctx, origin, m.Digest.String())
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, err
		}
		var out []images.Related
		for _, kind := range manifest.kinds() {
			// What says nothing of itself, or was lost by its registry (mirror
			// will miss it), is in the place of an attestation.
			if kind == images.Other {
				kind = images.Attestation
			}
			out = append(out, images.Related{
				Kind: kind, Via: images.Inline, Digest: m.Digest, ArtifactType: m.ArtifactType, MediaType: m.MediaType, Size: m.Size,
			})
		}
		return out, nil
	}
}

// byTag asks for the tag that cosign gives to what is about a manifest. One that
// is likely to be there is read, which costs one request; another is asked for,
// which does not count as a pull where pulls are counted.
func byTag(suffix, kind string, likely bool) ask {
	return func(ctx context.Context, origin images.Origin, to digest.Digest) ([]images.Related, error) {
		tag := registry.AttachedTag(to, suffix)
		if tag == "" {
			return nil, nil
		}
		at := tag
		if !likely {
			desc, err := origin.Resolve(ctx, tag)
			if err != nil {
				return nil, absent(err)
			}
			at = desc.Digest.String()
		}
		manifest, err := read(ctx, origin, at)
		if err != nil {
			return nil, absent(err)
		}
		return []images.Related{{
			Kind: kind, Via: images.Tag, Tag: tag, Digest: manifest.desc.Digest,
			ArtifactType: manifest.ArtifactType, MediaType: manifest.desc.MediaType, Size: manifest.desc.Size,
		}}, nil
	}
}

// absent takes the error away that says that nothing is there.
func absent(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// byReferrer asks for the manifests whose subject is the manifest.
func byReferrer(ctx context.Context, origin images.Origin, to digest.Digest) ([]images.Related, error) {
	referrers, err := origin.Referrers(ctx, to)
	if err != nil {
		return nil, absent(err)
	}
	var out []images.Related
	for _, desc := range referrers {
		found, data, err := registry.Read(ctx, origin, desc)
		if errdefs.IsNotFound(err) {
			continue // the list is older than the registry's last clean-up
		}
		if err != nil {
			return nil, err
		}
		// The manifest is what counts: lists may have what is about something else.
		if about, _, err := registry.Referrer(found, data); err != nil || about != to {
			continue
		}
		artifactType, kinds := desc.ArtifactType, []string{kindOf(desc.ArtifactType, desc.Annotations)}
		if !telling(desc) {
			manifest := manifest{desc: found}
			if err := json.Unmarshal(data, &manifest); err != nil {
				return nil, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
			}
			artifactType, kinds = manifest.ArtifactType, manifest.kinds()
		}
		for _, kind := range kinds {
			out = append(out, images.Related{
				Kind: kind, Via: images.Referrer, Digest: desc.Digest,
				ArtifactType: artifactType, MediaType: found.MediaType, Size: found.Size,
			})
		}
	}
	return out, nil
}

// unanswered says that a registry was not reached, or denies what it may not even
// have. Whatever else goes wrong is an error: an answer that broke off must not
// decide what is in an artifact.
func unanswered(err error) bool {
	var network net.Error
	return errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) ||
		errdefs.IsUnavailable(err) && errors.As(err, &network)
}

// manifest is what is read of something related. It may be an index too.
type manifest struct {
	desc         ocispec.Descriptor
	ArtifactType string               `json:"artifactType"`
	Config       ocispec.Descriptor   `json:"config"`
	Layers       []ocispec.Descriptor `json:"layers"`
	Annotations  map[string]string    `json:"annotations"`
}

func read(ctx context.Context, origin images.Origin, ref string) (manifest, error) {
	desc, data, err := origin.Manifest(ctx, ref)
	if err != nil {
		return manifest{}, err
	}
	m := manifest{desc: desc}
	if err := json.Unmarshal(data, &m); err != nil {
		return manifest{}, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	return m, nil
}
