// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
)

// maxPages bounds how many pages of referrers are read.
const maxPages = 100

// FallbackTag is the tag of the index of a manifest's referrers in a registry that
// has no API for them.
func FallbackTag(subject digest.Digest) string {
	return strings.Replace(subject.String(), ":", "-", 1)
}

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

func (r *Repository) referrers(ctx context.Context, subject digest.Digest) ([]ocispec.Descriptor, error) {
	if err := subject.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	var (
		list  []ocispec.Descriptor
		known = map[digest.Digest]bool{}
		query url.Values
	)
	for range maxPages {
		page, next, err := r.referrersPage(ctx, subject, query)
		if err != nil {
			return nil, err
		}
		for _, desc := range page {
			if !known[desc.Digest] {
				known[desc.Digest] = true
				list = append(list, desc)
			}
		}
		if next == nil {
			return list, nil
		}
		query = next
	}
	return nil, fmt.Errorf("more than %d pages: %w", maxPages, errdefs.ErrInvalidArgument)
}

// referrersPage has containerd ask the API of each host, then each for the
// fallback tag. containerd takes every failure of the API for its absence: what a
// host with an API cannot tell right now is an error here, lest a signature be
// taken for absent.
func (r *Repository) referrersPage(ctx context.Context, subject digest.Digest, query url.Values) (page []ocispec.Descriptor, next url.Values, err error) {
	var (
		mu     sync.Mutex
		failed = map[string]error{} // by host: why its API did not answer
		fatal  error
		missed bool // an API that turned out to be none
	)
	asking := r.client.context(ctx, call{
		skip: func(req *http.Request) error {
			if isReferrers(req) && r.client.known(r.client.noReferrers, req.URL.Host) {
				return errAbsent
			}
			return nil
		},
		done: func(req *http.Request, resp *http.Response, err error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case !isReferrers(req):
				if err == nil && resp.StatusCode < http.StatusInternalServerError {
					fatal = failed[req.URL.Host]
				}
			case err != nil:
				failed[req.URL.Host] = err
			case resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), ocispec.MediaTypeImageIndex):
				next = nextPage(resp)
			case noReferrersAPI(resp):
				missed = true
				r.client.remember(r.client.noReferrers, req.URL.Host)
			case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusNotFound, resp.StatusCode < http.StatusBadRequest:
				// It is asked again with a token, has no such repository, or sends elsewhere.
			default:
				failed[req.URL.Host] = remoteerrors.ErrUnexpectedStatus{Status: resp.Status, StatusCode: resp.StatusCode, RequestURL: req.URL.String(), RequestMethod: req.Method}
			}
		},
	})
	fetcher, err := r.resolver(nil).Fetcher(asking, r.name)
	if err != nil {
		return nil, nil, err
	}
	lister, ok := fetcher.(remotes.ReferrersFetcher)
	if !ok {
		return nil, nil, fmt.Errorf("list referrers: %w", errdefs.ErrNotImplemented)
	}
	var options []remotes.FetchReferrersOpt
	for key, values := range query {
		for _, value := range values {
			options = append(options, remotes.WithReferrerQueryFilter(key, value))
		}
	}
	page, err = lister.FetchReferrers(asking, subject, options...)
	if err != nil && missed {
		// What answered was no index, and is not asked again.
		page, err = lister.FetchReferrers(asking, subject, options...)
	}
	mu.Lock()
	defer mu.Unlock()
	if fatal != nil {
		return nil, nil, fatal
	}
	return page, next, err
}

func isReferrers(req *http.Request) bool {
	return strings.Contains(req.URL.Path, "/referrers/")
}

// noReferrersAPI tells a registry without the API from one that fails. Registries
// that know no such path answer in many ways; a repository that does not exist is
// none of them.
func noReferrersAPI(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusOK: // with something that is no index
		return true
	case http.StatusNotFound:
		return !strings.Contains(peek(resp), "NAME_UNKNOWN")
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	}
	to := resp.Header.Get("Location")
	return to != "" && !strings.Contains(to, "/referrers/")
}

// peek reads the beginning of an answer and puts it back.
func peek(resp *http.Response) string {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDrained))
	rest := io.MultiReader(strings.NewReader(string(data)), resp.Body)
	if err != nil {
		rest = strings.NewReader(string(data))
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{rest, resp.Body}
	return string(data)
}

// nextPage is the query of the link to the next page; nil: there is none.
func nextPage(resp *http.Response) url.Values {
	for _, link := range resp.Header.Values("Link") {
		target, parameters, _ := strings.Cut(link, ">")
		if !strings.Contains(parameters, `rel="next"`) && !strings.Contains(parameters, "rel=next") {
			continue
		}
		if next, err := url.Parse(strings.TrimPrefix(strings.TrimSpace(target), "<")); err == nil && next.RawQuery != "" {
			return next.Query()
		}
	}
	return nil
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
	if err := json.Unmarshal(data, &manifest); err != nil {
		return "", ocispec.Descriptor{}, fmt.Errorf("manifest %s: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
	}
	if manifest.Subject == nil {
		return "", ocispec.Descriptor{}, fmt.Errorf("manifest %s has no subject: %w", desc.Digest, errdefs.ErrInvalidArgument)
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
// Calls of one client take turns. Somebody else's at the same moment may be lost:
// the specification has no way to lock a tag.
func (r *Repository) AddReferrers(ctx context.Context, subject digest.Digest, entries ...ocispec.Descriptor) error {
	tag := FallbackTag(subject)
	turn := r.client.turn(r.Ref(tag))
	turn.Lock()
	defer turn.Unlock()

	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	desc, data, err := r.Manifest(ctx, tag)
	switch {
	case errdefs.IsNotFound(err):
	case err != nil:
		return err
	case desc.MediaType != ocispec.MediaTypeImageIndex:
		return r.explain(ctx, "add referrers to", r.Ref(tag), fmt.Errorf("the tag is taken by a %s: %w", desc.MediaType, errdefs.ErrFailedPrecondition))
	default:
		if err := json.Unmarshal(data, &index); err != nil {
			return r.explain(ctx, "add referrers to", r.Ref(tag), fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument))
		}
	}
	before := len(index.Manifests)
	for _, entry := range entries {
		if !slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == entry.Digest }) {
			index.Manifests = append(index.Manifests, entry)
		}
	}
	if len(index.Manifests) == before {
		return nil
	}
	data, err = engine.MarshalJSON(index)
	if err != nil {
		return r.explain(ctx, "add referrers to", r.Ref(tag), err)
	}
	desc = ocispec.Descriptor{MediaType: index.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return r.PushManifest(ctx, desc, data, tag)
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
