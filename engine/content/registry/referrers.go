// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
)

const (
	// maxPages bounds how many pages of referrers are read, and maxReferrers how
	// many referrers they list.
	maxPages     = 100
	maxReferrers = 1 << 14
	// maxTag is how many characters a tag may have.
	maxTag = 128
	// maxTagDigest is how many characters of a digest are in a fallback tag.
	maxTagDigest = 64
)

// FallbackTag is the tag of the index of a manifest's referrers in a registry that
// has no API for them. The distribution specification cuts the digest to 64
// characters, which are all of a sha256.
func FallbackTag(subject digest.Digest) string {
	encoded := subject.Encoded()
	return subject.Algorithm().String() + "-" + encoded[:min(len(encoded), maxTagDigest)]
}

// AttachedTag is the tag that cosign gives to what is about a manifest; "" where that
// is not a tag, for a digest that is too long.
func AttachedTag(subject digest.Digest, suffix string) string {
	tag := wholeTag(subject) + suffix
	if len(tag) > maxTag {
		return ""
	}
	return tag
}

// wholeTag is the fallback tag with all of the digest, which some tools write.
func wholeTag(subject digest.Digest) string { return strings.Replace(subject.String(), ":", "-", 1) }

// Referrers lists the manifests that name subject as theirs: those that the
// registry's API gives, or else the fallback tag. Nobody filters them. The order
// is the registry's; a digest comes once. None is no error; not to know is.
func (r *Repository) Referrers(ctx context.Context, subject digest.Digest) ([]ocispec.Descriptor, error) {
	list, err := r.referrers(ctx, subject)
	if err != nil {
		return nil, r.explain(ctx, "list referrers of", r.Ref(subject.String()), err)
	}
	return list, nil
}

// errAbsent is of a host without the referrers API.
var errAbsent = errors.New("it has no referrers API")

func (r *Repository) referrers(ctx context.Context, subject digest.Digest) ([]ocispec.Descriptor, error) {
	if err := subject.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	all, err := r.hosts(r.host)
	if err != nil {
		return nil, err
	}
	having := func(capability docker.HostCapabilities) []docker.RegistryHost {
		return slices.DeleteFunc(slices.Clone(all), func(h docker.RegistryHost) bool { return !h.Capabilities.Has(capability) })
	}
	ctx = r.scope(ctx, "pull", "")
	hosts := having(docker.HostCapabilityReferrers)
	failed := map[string]error{} // by host: why its API did not answer
	for _, host := range hosts {
		if r.client.known(r.client.noReferrers, host.Host) {
			continue
		}
		list, err := r.listed(ctx, host, subject)
		switch {
		case err == nil:
			return list, nil
		case context.Cause(ctx) != nil:
			return nil, err
		case !errors.Is(err, errAbsent):
			failed[host.Host] = err
		}
	}
	if len(hosts) == 0 {
		hosts = having(docker.HostCapabilityResolve)
	}
	var first error
	for _, host := range hosts {
		list, err := r.tagged(ctx, host, subject)
		// What a host with an API cannot tell right now is an error, lest a signature be
		// taken for absent.
		if err = cmp.Or(failed[host.Host], err); err == nil {
			return list, nil
		}
		first = cmp.Or(first, err)
	}
	if first == nil {
		first = fmt.Errorf("hosts.toml names no host to ask: %w", errdefs.ErrNotFound)
	}
	return nil, first
}

// listed are the referrers that the API of a host lists, page by page; errAbsent: it
// has none, or does not know the repository.
func (r *Repository) listed(ctx context.Context, host docker.RegistryHost, subject digest.Digest) ([]ocispec.Descriptor, error) {
	ask := request{
		method: http.MethodGet, path: "/referrers/" + subject.String(), wanted: []int{http.StatusOK},
		header: http.Header{"Accept": {ocispec.MediaTypeImageIndex}},
	}
	list := referrerList{known: map[digest.Digest]bool{}}
	seen := map[string]bool{}
	for range maxPages {
		index, next, err := r.referrersPage(ctx, host, ask)
		switch {
		case ask.at != nil && err != nil:
			return nil, fmt.Errorf("the next page of its list: %w", err)
		case ask.at != nil && index.Manifests == nil:
			return nil, fmt.Errorf("the next page of its list is not an index: %w", errdefs.ErrInvalidArgument)
		case noReferrersAPI(err) || err == nil && index.Manifests == nil:
			if !aboutSubject(err) {
				r.client.remember(r.client.noReferrers, host.Host)
			}
			return nil, errAbsent
		case err != nil:
			return nil, err
		}
		if err := list.add(index.Manifests); err != nil {
			return nil, err
		}
		if next == nil {
			return list.all, nil
		}
		if seen[next.String()] {
			return nil, fmt.Errorf("the pages of its list lead in a circle: %w", errdefs.ErrInvalidArgument)
		}
		seen[next.String()] = true
		ask.at = next
	}
	return nil, fmt.Errorf("more than %d pages: %w", maxPages, errdefs.ErrInvalidArgument)
}

// tagged returns the referrers that the fallback tag lists: none where there is no tag.
func (r *Repository) tagged(ctx context.Context, host docker.RegistryHost, subject digest.Digest) ([]ocispec.Descriptor, error) {
	tags := []string{FallbackTag(subject)}
	if whole := wholeTag(subject); whole != tags[0] {
		tags = append(tags, whole)
	}
	list := referrerList{known: map[digest.Digest]bool{}}
	for _, tag := range tags {
		index, _, err := r.referrersPage(ctx, host, request{method: http.MethodGet, path: "/manifests/" + tag, wanted: []int{http.StatusOK}})
		if notFound(err) || len(list.all) > 0 && err != nil {
			continue // the second is no tag for most registries
		}
		if err == nil {
			err = list.add(index.Manifests)
		}
		if err != nil {
			return nil, err
		}
	}
	return list.all, nil
}

// referrerList is a list of which every entry is checked, and comes once.
type referrerList struct {
	all   []ocispec.Descriptor
	known map[digest.Digest]bool
}

func (l *referrerList) add(page []ocispec.Descriptor) error {
	for _, desc := range page {
		if err := descriptor.Check(desc); err != nil {
			return fmt.Errorf("its list: %w", err)
		}
		if !l.known[desc.Digest] {
			l.known[desc.Digest] = true
			l.all = append(l.all, desc)
		}
	}
	if len(l.all) > maxReferrers {
		return fmt.Errorf("its list has more than %d entries: %w", maxReferrers, errdefs.ErrInvalidArgument)
	}
	return nil
}

// referrersPage reads an index, and where its next page is. What comes under another
// type, and does not look like one, is an empty index without a list.
func (r *Repository) referrersPage(ctx context.Context, host docker.RegistryHost, ask request) (index ocispec.Index, next *url.URL, err error) {
	err = r.client.retry(ctx, func() error {
		resp, err := r.ask(ctx, host, ask)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		data, err := readManifest(resp)
		if err == nil {
			data, err = plainJSON(data, codings(resp.Header), "")
		}
		if err == nil && len(data) > MaxManifest {
			err = errTooLarge
		}
		if err != nil {
			return err
		}
		mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // "" is none
		index = ocispec.Index{}
		if err := descriptor.Unmarshal(data, &index); err != nil {
			index.Manifests = nil
			if len(data) > 0 && (mediaType == ocispec.MediaTypeImageIndex || data[0] == '{') {
				return fmt.Errorf("read its list: %w: %w", err, errdefs.ErrInvalidArgument)
			}
			return nil
		}
		if index.Manifests == nil && mediaType == ocispec.MediaTypeImageIndex {
			index.Manifests = []ocispec.Descriptor{}
		}
		next, err = nextPage(resp)
		return err
	})
	return index, next, err
}

func notFound(err error) bool {
	status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	return ok && status.StatusCode == http.StatusNotFound
}

// noReferrersAPI tells a registry without the API, or of which it is not known, from
// one that fails. Registries that know no such path answer in many ways, with a web page
// or nothing too.
func noReferrersAPI(err error) bool {
	if _, ok := errors.AsType[*answerError](err); ok {
		return true
	}
	status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	switch {
	case !ok, status.StatusCode == http.StatusUnauthorized, status.StatusCode == http.StatusForbidden:
		return false
	case status.StatusCode == http.StatusNotImplemented:
		return true
	}
	return status.StatusCode >= http.StatusBadRequest && status.StatusCode < http.StatusInternalServerError
}

// aboutSubject reports whether an answer may be about the subject, which is not there or
// has a digest of a kind that is not known, and so tells nothing of others.
func aboutSubject(err error) bool {
	status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	return ok && subjectCodes.Match(status.Body)
}

var subjectCodes = regexp.MustCompile(`NAME_UNKNOWN|NAME_INVALID|MANIFEST_UNKNOWN|MANIFEST_INVALID|DIGEST_INVALID|NOT_FOUND`)

// nextPage is where an answer says that the next page is; nil: there is none.
func nextPage(resp *http.Response) (*url.URL, error) {
	asked := resp.Request.URL
	targets := linksTo("next", resp.Header.Values("Link"))
	if len(targets) == 0 {
		return nil, nil
	}
	next, ok := location(asked, targets[0])
	if !ok || next.Scheme != asked.Scheme && next.Scheme != "https" {
		return nil, fmt.Errorf("the link to the next page of its list leads to %q: %w", cleanLocation(targets[0]), errdefs.ErrInvalidArgument)
	}
	return next, nil
}

// PushReferrer writes a manifest that has a subject, by its digest, and enters it
// at the fallback tag unless the registry says that it took note of the subject.
func (r *Repository) PushReferrer(ctx context.Context, desc ocispec.Descriptor, data []byte) error {
	subject, entry, err := Referrer(desc, data)
	if err != nil {
		return r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
	}
	registered, err := r.PushSubject(ctx, desc, data)
	if err != nil || registered {
		return err
	}
	return r.AddReferrers(ctx, subject, entry)
}

// PushSubject writes a manifest that has a subject, by its digest, and says
// whether the registry took note of the subject. If not, [Repository.AddReferrers]
// is to be called when all is there that readers of the tag may look for.
func (r *Repository) PushSubject(ctx context.Context, desc ocispec.Descriptor, data []byte) (registered bool, err error) {
	return r.pushManifest(ctx, desc, data, "")
}

// Referrer is what the list of a subject's referrers says of a manifest. A
// manifest that has no subject gives an error of class ErrInvalidArgument.
func Referrer(desc ocispec.Descriptor, data []byte) (subject digest.Digest, entry ocispec.Descriptor, err error) {
	var manifest struct {
		ArtifactType string              `json:"artifactType"`
		Config       *ocispec.Descriptor `json:"config"`
		Subject      *ocispec.Descriptor `json:"subject"`
		Annotations  map[string]string   `json:"annotations"`
	}
	if err := descriptor.Unmarshal(data, &manifest); err != nil {
		return "", ocispec.Descriptor{}, fmt.Errorf("manifest %s: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
	}
	if manifest.Subject == nil {
		return "", ocispec.Descriptor{}, fmt.Errorf("manifest %s has no subject: %w", desc.Digest, errdefs.ErrInvalidArgument)
	}
	if err := manifest.Subject.Digest.Validate(); err != nil {
		return "", ocispec.Descriptor{}, fmt.Errorf("manifest %s: the digest of its subject: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
	}
	entry = ocispec.Descriptor{
		MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size,
		ArtifactType: manifest.ArtifactType, Annotations: manifest.Annotations,
	}
	if entry.ArtifactType == "" && manifest.Config != nil {
		entry.ArtifactType = manifest.Config.MediaType
	}
	return manifest.Subject.Digest, entry, nil
}

// AddReferrers enters referrers, as [Referrer] makes them, at the subject's
// fallback tag. What is there stays; what is there already is not written again.
// Calls of one client take turns. The specification has no way to lock a tag, so
// the list is read again after it was written, when another who read it before has
// written it too, and what was lost is entered again.
func (r *Repository) AddReferrers(ctx context.Context, subject digest.Digest, entries ...ocispec.Descriptor) error {
	tag := FallbackTag(subject)
	turn := r.client.turn(r.Ref(tag))
	turn.Lock()
	defer turn.Unlock()

	for range addTries {
		start := time.Now()
		written, err := r.addReferrers(ctx, tag, entries)
		if err != nil || !written {
			return err
		}
		// Another takes as long as this one did from reading to writing; the rest is
		// chance, lest two of them meet again.
		took := time.Since(start)
		if err := sleep(ctx, 2*took+rand.N(took+time.Millisecond)); err != nil {
			return err
		}
	}
	return r.explain(ctx, "add referrers to", r.Ref(tag), fmt.Errorf("others write the list at the same time, %d times now; try again: %w", addTries, errdefs.ErrUnavailable))
}

// addTries bounds how often a list is entered into: as often as others may come
// between.
const addTries = 20

// addReferrers reports whether the list had to be written.
func (r *Repository) addReferrers(ctx context.Context, tag string, entries []ocispec.Descriptor) (written bool, err error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	desc, data, err := r.Manifest(ctx, tag)
	switch {
	case errdefs.IsNotFound(err):
	case err != nil:
		return false, err
	case desc.MediaType != ocispec.MediaTypeImageIndex:
		return false, r.explain(ctx, "add referrers to", r.Ref(tag), fmt.Errorf("the tag is taken by a %s: %w", desc.MediaType, errdefs.ErrFailedPrecondition))
	default:
		if err := descriptor.Unmarshal(data, &index); err != nil {
			return false, r.explain(ctx, "add referrers to", r.Ref(tag), fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument))
		}
	}
	before := len(index.Manifests)
	for _, entry := range entries {
		if !slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == entry.Digest }) {
			index.Manifests = append(index.Manifests, entry)
		}
	}
	if len(index.Manifests) == before {
		return false, nil
	}
	data, err = engine.MarshalJSON(index)
	if err != nil {
		return false, r.explain(ctx, "add referrers to", r.Ref(tag), err)
	}
	desc = ocispec.Descriptor{MediaType: index.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return true, r.PushManifest(ctx, desc, data, tag)
}

// turn is the lock of a tag that is read, changed and written.
func (c *Client) turn(ref string) *sync.Mutex {
	c.mu.Lock()
	defer c.mu.Unlock()
	lock, ok := c.turns[ref]
	if !ok {
		lock = &sync.Mutex{}
		c.turns[ref] = lock
	}
	return lock
}
