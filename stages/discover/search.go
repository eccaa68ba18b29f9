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
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/stages/images"
)

// subject is a manifest that others may refer to. Several images may have the same one.
type subject struct {
	repository string
	digest     digest.Digest
}

// finding is the answer to one question about a subject.
type finding struct {
	related []images.Related // the subject is in To
	unknown error            // why the registry could not be asked
	err     error
}

// ask returns what is published for a subject in one of the ways of publishing.
type ask func(ctx context.Context, origin images.Origin, to digest.Digest) ([]images.Related, error)

// search fills in Related of each image in the list. It asks each question once, and many
// questions concurrently.
func (s *Stage) search(ctx context.Context, list *images.List, report func(engine.Event)) error {
	findings := map[subject][]*finding{} // in the order of the questions, not of the answers
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
	known := make([]*images.Answer, len(list.Images))
	for i, image := range list.Images {
		if answer, ok := s.origins.Known.Of(image, s.related); ok {
			known[i] = &answer
			continue
		}
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
			// If anything was published with an image, it includes a signature, so that is read
			// at once. Most of the other tags do not exist.
			likely := about == image.Digest
			question(image, origin, about, byTag(".sig", likely), byTag(".att", false), byTag(".sbom", false), byReferrer)
		}
	}
	found := func(image images.Image) func(digest.Digest) []*finding {
		return func(about digest.Digest) []*finding { return findings[subject{repository(image), about}] }
	}
	// What was found may have signatures too, and so on, published in the same way.
	for asked, round := 0, 0; asked < len(tasks); round++ {
		if round > registry.MaxDepth {
			return fmt.Errorf("signatures of signatures are nested more than %d levels deep", registry.MaxDepth)
		}
		if err := runAll(ctx, tasks[asked:], report); err != nil {
			return err
		}
		if asked = len(tasks); s.related == None {
			break
		}
		for i, image := range list.Images {
			if known[i] != nil {
				continue
			}
			related, _ := s.collect(image, found(image))
			for _, r := range related {
				// Cosign signs an SBOM by tag, and may do so for what other tools attached.
				if r.Via == images.Tag && r.Kind == images.SBOM || r.Via == images.Referrer {
					question(image, opened[i], r.Digest, byTag(".sig", false), byReferrer)
				}
			}
		}
	}
	var err error
	for _, f := range all {
		err = errors.Join(err, f.err)
	}
	if err != nil {
		return err
	}
	for i := range list.Images {
		image := &list.Images[i]
		if known[i] != nil {
			image.Related = slices.Clone(known[i].Image.Related)
			if known[i].Unknown != "" {
				list.Unknown = append(list.Unknown, image.Source+known[i].Unknown)
			}
			continue
		}
		var unknown error
		image.Related, unknown = s.collect(*image, found(*image))
		if unknown != nil {
			list.Unknown = append(list.Unknown, image.Source+fmt.Sprintf(": which signatures, attestations and SBOMs it has is not known: %v", unknown))
		}
	}
	return nil
}

// Ask adds what is published with the image to an answer.
func (s *Stage) Ask(ctx context.Context, a *images.Answer) error {
	a.Mode = s.related
	if a.Image == nil {
		return nil
	}
	list := images.List{Images: []images.Image{*a.Image}}
	if err := s.search(ctx, &list, func(engine.Event) {}); err != nil {
		return err
	}
	a.Image.Related = list.Images[0].Related
	if len(list.Unknown) > 0 {
		a.Unknown = list.Unknown[0]
	}
	return nil
}

// runAll runs the tasks concurrently.
func runAll(ctx context.Context, tasks []func(context.Context), report func(engine.Event)) error {
	var (
		group errgroup.Group
		mu    sync.Mutex
		done  int64
	)
	group.SetLimit(atonce.Tasks)
	for _, task := range tasks {
		group.Go(func() error {
			task(ctx)
			if err := context.Cause(ctx); err != nil {
				return err // the task may have been interrupted
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

// repository identifies the repository or local place that an image is read from.
func repository(image images.Image) string {
	name, _ := image.Repository()
	return string(image.From) + " " + name
}

// subjects returns the digests of an image that other manifests may refer to: its own digest and
// those of its platform manifests.
func subjects(image images.Image) []digest.Digest {
	out := []digest.Digest{image.Digest}
	for _, m := range image.Manifests {
		if m.Reference == "" && m.Platform != unknownPlatform && !slices.Contains(out, m.Digest) {
			out = append(out, m.Digest)
		}
	}
	return out
}

// unknownPlatform marks a manifest in an index that is not an image.
const unknownPlatform = "unknown/unknown"

// collect returns everything found for an image, sorted. A manifest that was found
// both by tag and as a referrer is listed with its tag.
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
		for i := 0; i < len(about); i++ { // the loop appends to about
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

// inline reads an attestation manifest in the index of an image, and lists it once for each kind.
func inline(m images.Manifest) ask {
	return func(ctx context.Context, origin images.Origin, _ digest.Digest) ([]images.Related, error) {
		manifest, err := read(ctx, origin, m.Digest.String())
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, err
		}
		var out []images.Related
		// A missing manifest is not reported here, because mirror does that.
		for _, kind := range images.InlineKindsOf(manifest.Manifest) {
			out = append(out, images.Related{
				Kind: kind, Via: images.Inline, Digest: m.Digest, ArtifactType: m.ArtifactType, MediaType: m.MediaType, Size: m.Size,
			})
		}
		return out, nil
	}
}

// byTag looks up the tag that cosign gives to a signature, attestation or SBOM of a manifest. If
// the tag probably exists, it is read with one request. Otherwise a HEAD request comes first,
// which registries do not count as a pull.
func byTag(suffix string, likely bool) ask {
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
			Kind: images.KindOfTag(suffix), Via: images.Tag, Tag: tag, Digest: manifest.desc.Digest,
			ArtifactType: manifest.ArtifactType, MediaType: manifest.desc.MediaType, Size: manifest.desc.Size,
		}}, nil
	}
}

// absent returns nil for an error that means that something does not exist, and any other error
// unchanged.
func absent(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// byReferrer lists the manifests whose subject is to.
func byReferrer(ctx context.Context, origin images.Origin, to digest.Digest) ([]images.Related, error) {
	referrers, err := origin.Referrers(ctx, to)
	if err != nil {
		return nil, absent(err)
	}
	var (
		out     []images.Related
		missing missingError
	)
	for _, desc := range referrers {
		found, data, err := registry.Read(ctx, origin, desc)
		if errdefs.IsNotFound(err) {
			missing = append(missing, transfer.MissingReferrer{Subject: to, Digest: desc.Digest}.String())
			continue
		}
		if err != nil {
			return nil, err
		}
		// The list may be wrong: the subject in the manifest decides.
		if about, _, err := registry.Referrer(found, data); err != nil || about != to {
			continue
		}
		artifactType, kinds := desc.ArtifactType, []string{images.KindOf(desc.ArtifactType, desc.Annotations)}
		if !images.TellsKind(desc) {
			var manifest ocispec.Manifest
			if err := descriptor.Unmarshal(data, &manifest); err != nil {
				return nil, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
			}
			artifactType, kinds = manifest.ArtifactType, images.KindsOf(manifest)
		}
		for _, kind := range kinds {
			out = append(out, images.Related{
				Kind: kind, Via: images.Referrer, Digest: desc.Digest,
				ArtifactType: artifactType, MediaType: found.MediaType, Size: found.Size,
			})
		}
	}
	if len(missing) > 0 {
		return out, missing
	}
	return out, nil
}

// missingError lists what a registry lists but does not have, because it was removed or lost.
type missingError []string

func (e missingError) Error() string { return strings.Join(e, "; ") }

// unanswered reports whether an error means that the registry was not reached, that it denies
// access, or that it does not have everything that it lists. Any other error fails the stage,
// because an incomplete answer must not decide what is in an artifact.
func unanswered(err error) bool {
	_, missing := errors.AsType[missingError](err)
	_, network := errors.AsType[net.Error](err)
	return missing || errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) || errdefs.IsUnavailable(err) && network
}

// manifest is a related manifest that has been read.
type manifest struct {
	ocispec.Manifest
	desc ocispec.Descriptor
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
