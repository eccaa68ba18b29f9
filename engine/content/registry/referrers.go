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
	// maxPages and maxReferrers bound how many pages of referrers are read, and how many
	// referrers they list.
	maxPages     = 100
	maxReferrers = 1 << 14
	// maxTag is the largest number of characters in a tag.
	maxTag = 128
	// maxTagDigest is how many characters of a digest a fallback tag has.
	maxTagDigest = 64
)

// FallbackTag returns the tag of the index of a manifest's referrers in a registry without the
// referrers API. The distribution specification truncates the digest to 64 characters, which is
// a complete sha256.
func FallbackTag(subject digest.Digest) string {
	encoded := subject.Encoded()
	return subject.Algorithm().String() + "-" + encoded[:min(len(encoded), maxTagDigest)]
}

// AttachedTag returns the tag under which cosign attaches something to a manifest; "" if the
// digest is too long for a tag.
func AttachedTag(subject digest.Digest, suffix string) string {
	tag := wholeTag(subject) + suffix
	if len(tag) > maxTag {
		return ""
	}
	return tag
}

// wholeTag returns the fallback tag with the complete digest, which some tools write.
func wholeTag(subject digest.Digest) string { return strings.Replace(subject.String(), ":", "-", 1) }

// Referrers lists the manifests whose subject is the given one: those of the registry's API or,
// without an API, of the fallback tag. The list is unfiltered, in the order of the registry,
// and without duplicates. An empty list is not an error; a registry that cannot tell is.
func (r *Repository) Referrers(ctx context.Context, subject digest.Digest) (_ []ocispec.Descriptor, err error) {
	defer func() { err = r.explain(ctx, "list referrers of", r.Ref(subject.String()), err) }()
	if err := subject.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	having := func(capability docker.HostCapabilities) []docker.RegistryHost {
		return slices.DeleteFunc(slices.Clone(r.hosts), func(h docker.RegistryHost) bool { return !h.Capabilities.Has(capability) })
	}
	ctx = r.scope(ctx, "pull", "")
	hosts := having(docker.HostCapabilityReferrers)
	failed := map[string]error{} // by host: why its API did not answer
	for _, host := range hosts {
		if _, lacks := r.client.noReferrers.Load(host.Host); lacks {
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
		// A temporary failure of a host that has the API is an error. Otherwise an existing
		// signature would be taken for missing.
		if err = cmp.Or(failed[host.Host], err); err == nil {
			return list, nil
		}
		first = cmp.Or(first, err)
	}
	return nil, cmp.Or(first, fmt.Errorf("hosts.toml names no host to ask: %w", errdefs.ErrNotFound))
}

// errAbsent means that a host has no referrers API.
var errAbsent = errors.New("it has no referrers API")

// listed returns the referrers in the API of a host, page by page. The error is errAbsent if
// the host has no API, or does not know the repository.
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
			if status, _ := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); !subjectCodes.Match(status.Body) {
				r.client.noReferrers.Store(host.Host, true)
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

// tagged returns the referrers listed under the fallback tag: none if there is no tag.
func (r *Repository) tagged(ctx context.Context, host docker.RegistryHost, subject digest.Digest) ([]ocispec.Descriptor, error) {
	tags := []string{FallbackTag(subject)}
	if whole := wholeTag(subject); whole != tags[0] {
		tags = append(tags, whole)
	}
	list := referrerList{known: map[digest.Digest]bool{}}
	for _, tag := range tags {
		index, _, err := r.referrersPage(ctx, host, request{method: http.MethodGet, path: "/manifests/" + tag, wanted: []int{http.StatusOK}})
		status, _ := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
		if status.StatusCode == http.StatusNotFound || len(list.all) > 0 && err != nil {
			continue // most registries do not accept the second as a tag
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

// referrerList is a list without duplicates, of which every entry was checked.
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

// referrersPage reads an index, and the URL of the next page. An answer of another type that
// does not look like an index is an empty index without a list.
func (r *Repository) referrersPage(ctx context.Context, host docker.RegistryHost, ask request) (index ocispec.Index, next *url.URL, err error) {
	next, err = r.page(ctx, host, ask, "manifest", MaxManifest, func(resp *http.Response, data []byte) error {
		mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // "" if not declared
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
		return nil
	})
	return index, next, err
}

// noReferrersAPI reports whether an error means that a registry lacks the API, or may lack it,
// as opposed to a failure. Registries answer an unknown path in many ways, also with a web page
// or an empty body.
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

// subjectCodes matches errors that may be about the subject, which does not exist or has a digest
// of an unknown algorithm, so that they say nothing about other subjects.
var subjectCodes = regexp.MustCompile(`NAME_UNKNOWN|NAME_INVALID|MANIFEST_UNKNOWN|MANIFEST_INVALID|DIGEST_INVALID|NOT_FOUND`)

// page reads a page of a list, of at most limit bytes, and returns the URL of the next one, nil if
// there is none.
func (r *Repository) page(ctx context.Context, host docker.RegistryHost, ask request, what string, limit int64, decode func(resp *http.Response, data []byte) error) (next *url.URL, err error) {
	err = r.client.retry(ctx, func() error {
		resp, err := r.ask(ctx, host, ask)
		if err != nil {
			return err
		}
		defer drain(resp)
		data, err := readDocument(resp, what, limit)
		if err == nil {
			err = decode(resp, data)
		}
		if err == nil {
			next, err = nextPage(resp)
		}
		return err
	})
	return next, err
}

// nextPage returns the URL of the next page, nil if there is none.
func nextPage(resp *http.Response) (*url.URL, error) {
	asked := resp.Request.URL
	targets := linksTo("next", resp.Header.Values("Link"))
	if len(targets) == 0 {
		return nil, nil
	}
	next, ok := location(asked, targets[0])
	if !ok || next.Scheme != asked.Scheme && next.Scheme != "https" {
		return nil, fmt.Errorf("the link to the next page of its list leads to %q: %w", cleanText(targets[0]), errdefs.ErrInvalidArgument)
	}
	return next, nil
}

// PushReferrer writes a manifest that has a subject by its digest, and adds it to the fallback
// tag unless the registry reports that it processed the subject.
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

// PushSubject writes a manifest that has a subject by its digest, and reports whether the
// registry processed the subject. If not, [Repository.AddReferrers] must be called once
// everything is there that readers of the tag may look for.
func (r *Repository) PushSubject(ctx context.Context, desc ocispec.Descriptor, data []byte) (registered bool, err error) {
	return r.pushManifest(ctx, desc, data, "")
}

// Referrer returns the entry of a manifest in the list of its subject's referrers. The error is
// of class ErrInvalidArgument if the manifest has no subject.
func Referrer(desc ocispec.Descriptor, data []byte) (subject digest.Digest, entry ocispec.Descriptor, err error) {
	var manifest descriptor.Manifest
	if err := descriptor.Unmarshal(data, &manifest); err != nil {
		return "", ocispec.Descriptor{}, fmt.Errorf("manifest %s: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
	}
	if manifest.Subject == nil {
		return "", ocispec.Descriptor{}, fmt.Errorf("manifest %s has no subject: %w", desc.Digest, errdefs.ErrInvalidArgument)
	}
	if err := manifest.Subject.Digest.Validate(); err != nil {
		return "", ocispec.Descriptor{}, fmt.Errorf("manifest %s: the digest of its subject: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
	}
	return manifest.Subject.Digest, ocispec.Descriptor{
		MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size,
		ArtifactType: manifest.Artifact(), Annotations: manifest.Annotations,
	}, nil
}

// AddReferrers adds referrers, as [Referrer] returns them, to the subject's fallback tag.
// Existing entries are kept, and a list that is complete is not written. Calls of one client
// take turns. The specification has no way to lock a tag, so the list is read again after
// writing, in case another process wrote it in between, and lost entries are added again.
func (r *Repository) AddReferrers(ctx context.Context, subject digest.Digest, entries ...ocispec.Descriptor) error {
	tag := FallbackTag(subject)
	turn, _ := r.client.turns.LoadOrStore(r.Ref(tag), &sync.Mutex{})
	turn.(*sync.Mutex).Lock()
	defer turn.(*sync.Mutex).Unlock()

	seen := map[digest.Digest]bool{}
	var waited time.Duration
	for tries, looks := 0, 0; tries < addTries; {
		start := time.Now()
		state, err := r.addReferrers(ctx, tag, entries, seen)
		if err != nil || state == listAdded {
			return err
		}
		if state == listBefore {
			// A cache or a replica shows a tag late. Writing it again would not help, and might undo
			// what others wrote.
			looks++
			wait := backoff(looks)
			if waited += wait; waited > maxLate {
				return r.explain(ctx, "add referrers to", r.Ref(tag), fmt.Errorf("the list was written, and the registry does not show it yet, after %s: %w", maxLate, errdefs.ErrUnavailable))
			}
			if err := sleep(ctx, wait); err != nil {
				return err
			}
			continue
		}
		tries++
		// Another process takes about as long as this one between reading and writing; the random
		// part keeps the two from colliding again.
		took := time.Since(start)
		if err := sleep(ctx, 2*took+rand.N(took+time.Millisecond)); err != nil {
			return err
		}
	}
	return r.explain(ctx, "add referrers to", r.Ref(tag), fmt.Errorf("the list was changed concurrently, %d times in a row: %w", addTries, errdefs.ErrUnavailable))
}

const (
	// addTries bounds how often a list is written because other processes intervened.
	addTries = 20
	// maxLate is how long a registry may show what a tag led to before it was written.
	maxLate = 30 * time.Second
)

// listState is what a look at a list of referrers showed.
type listState int

const (
	listAdded   listState = iota // it has the entries
	listBefore                   // it is as it was before it was written
	listWritten                  // it did not have the entries, and was written
)

// addReferrers adds entries to the list unless it has them. seen are the digests of the lists
// that were read before it was written; "" is that of a missing one.
func (r *Repository) addReferrers(ctx context.Context, tag string, entries []ocispec.Descriptor, seen map[digest.Digest]bool) (listState, error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	desc, data, err := r.Manifest(ctx, tag)
	switch {
	case errdefs.IsNotFound(err):
	case err != nil:
		return 0, err
	case desc.MediaType != ocispec.MediaTypeImageIndex:
		return 0, r.explain(ctx, "add referrers to", r.Ref(tag), fmt.Errorf("the tag is taken by a %s: %w", desc.MediaType, errdefs.ErrFailedPrecondition))
	default:
		if err := descriptor.Unmarshal(data, &index); err != nil {
			return 0, r.explain(ctx, "add referrers to", r.Ref(tag), fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument))
		}
	}
	before := len(index.Manifests)
	for _, entry := range entries {
		if !slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == entry.Digest }) {
			index.Manifests = append(index.Manifests, entry)
		}
	}
	if len(index.Manifests) == before {
		return listAdded, nil
	}
	if seen[desc.Digest] {
		return listBefore, nil
	}
	seen[desc.Digest] = true
	data, err = engine.MarshalJSON(index)
	if err != nil {
		return 0, r.explain(ctx, "add referrers to", r.Ref(tag), err)
	}
	desc = ocispec.Descriptor{MediaType: index.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return listWritten, r.PushManifest(ctx, desc, data, tag)
}
