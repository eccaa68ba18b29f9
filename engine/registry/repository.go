// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Repository is a repository in a registry. Its methods may be called concurrently.
type Repository struct {
	client *Client
	name   string // registry.example.com/team/app
	host   string // registry.example.com
	path   string // team/app
	hosts  docker.RegistryHosts
	kept   *kept // of a source
}

// Name is the normalised name, with the registry: docker.io/library/nginx.
func (r *Repository) Name() string { return r.name }

// Ref is the name with a tag or a digest, or alone where reference is "".
func (r *Repository) Ref(reference string) string {
	switch {
	case reference == "":
		return r.name
	case isDigest(reference):
		return r.name + "@" + reference
	}
	return r.name + ":" + reference
}

func isDigest(reference string) bool { return strings.Contains(reference, ":") }

// resolver starts from nothing: containerd's keeps by digest what was pushed,
// whatever the repository.
func (r *Repository) resolver(tracker docker.StatusTracker) remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{Hosts: r.hosts, Headers: r.client.header(), Tracker: tracker})
}

// Resolve asks for the manifest of a tag or digest, by HEAD: its digest, size and
// media type. Where a registry does not say, the manifest is read.
func (r *Repository) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	return r.resolve(ctx, "resolve", reference, call{skip: skipBlobs})
}

// Exists says whether the repository has a manifest or, by its media type, a blob.
func (r *Repository) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	operation := call{skip: skipBlobs}
	there := false
	if !IsManifest(desc.MediaType) {
		operation.rewrite = func(req *http.Request) {
			req.URL.Path = strings.Replace(req.URL.Path, "/manifests/", "/blobs/", 1)
		}
		operation.skip = func(req *http.Request) error { return errors.Join(skipBlobs(req), skipGet(req)) }
		operation.done = func(_ *http.Request, resp *http.Response, err error) {
			there = there || err == nil && resp.StatusCode == http.StatusOK
		}
	}
	_, err := r.resolve(ctx, "look for", desc.Digest.String(), operation)
	if there || err == nil {
		return true, nil
	}
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return false, err
}

// Empty says that the registry knows no such repository, so that nothing in it
// need be asked for. A registry that does not tell has one.
//
// Some know none that has no tag. It is empty once, then, where there is an
// [Options.ManifestFile]: who asks is about to write to it, and may not get as far
// as a tag.
func (r *Repository) Empty(ctx context.Context) (bool, error) {
	if r.begun() {
		return false, nil
	}
	resp, err := r.do(ctx, request{method: http.MethodGet, path: "/tags/list", query: url.Values{"n": {"1"}}})
	if err != nil {
		if err = r.explain(ctx, "look for", r.name, err); errdefs.IsUnavailable(err) {
			return false, err
		}
		return false, nil
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusNotFound {
		return false, nil
	}
	r.begin(ctx)
	return true, nil
}

func (r *Repository) resolve(ctx context.Context, op, reference string, operation call) (ocispec.Descriptor, error) {
	_, desc, err := r.resolver(nil).Resolve(r.client.context(ctx, operation), r.Ref(reference))
	if err != nil {
		return ocispec.Descriptor{}, r.explain(ctx, op, r.Ref(reference), err)
	}
	return desc, nil
}

// skipGet keeps containerd from reading what it was to ask for only, to learn a
// size or a digest that nobody wants.
func skipGet(req *http.Request) error {
	if req.Method == http.MethodGet {
		return errSkipped
	}
	return nil
}

// skipBlobs keeps containerd from asking for a blob where there is no such
// manifest. An error, unlike a 404, leaves it with what it heard of the manifest.
func skipBlobs(req *http.Request) error {
	if strings.Contains(req.URL.Path, "/blobs/") {
		return errSkipped
	}
	return nil
}

// IsManifest tells manifests and indexes, OCI's and Docker's, from blobs.
func IsManifest(mediaType string) bool {
	return images.IsManifestType(mediaType) || images.IsIndexType(mediaType)
}

// Children are what a manifest names: its layers and config, and the manifests that it
// lists. All of them have digests that can be asked for.
func Children(desc ocispec.Descriptor, data []byte) (parts, listed []ocispec.Descriptor, err error) {
	var m struct {
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, nil, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	parts = m.Layers
	if m.Config != nil {
		parts = append(parts, *m.Config)
	}
	for _, child := range slices.Concat(parts, m.Manifests) {
		if err := child.Digest.Validate(); err != nil {
			return nil, nil, fmt.Errorf("manifest %s names %q: %w: %w", desc.Digest, child.Digest, err, errdefs.ErrInvalidArgument)
		}
	}
	return parts, m.Manifests, nil
}

// Manifest reads a manifest or index, of at most [MaxManifest] bytes, by tag or
// digest. The bytes have the digest of the descriptor, which has the media type
// too; they must not be changed. What was read is remembered: of a tag that was
// read before, it is asked by HEAD whether it has moved.
func (r *Repository) Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	if !isDigest(reference) {
		if !r.knows(reference) {
			return r.fetchTag(ctx, reference)
		}
		desc, err := r.Resolve(ctx, reference)
		if err != nil {
			return ocispec.Descriptor{}, nil, err
		}
		reference = desc.Digest.String()
	}
	if desc, data, ok := r.recall(digest.Digest(reference)); ok {
		return desc, data, nil
	}
	desc := ocispec.Descriptor{Digest: digest.Digest(reference)}
	var data []byte
	err := desc.Digest.Validate()
	if err != nil {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	} else {
		err = r.client.retry(ctx, func() (err error) {
			desc.MediaType, data, err = r.fetchManifest(ctx, desc.Digest)
			return err
		})
	}
	if err != nil {
		return ocispec.Descriptor{}, nil, r.explain(ctx, "fetch", r.Ref(reference), err)
	}
	desc.Size = int64(len(data))
	r.remember(ctx, "", desc, data)
	return desc, data, nil
}

// recall gives a manifest that was read before, in this run or an earlier one.
func (r *Repository) recall(dgst digest.Digest) (ocispec.Descriptor, []byte, bool) {
	if desc, data, ok := r.client.cache.get(r.name, dgst); ok {
		return desc, data, true
	}
	desc, data, ok := r.kept.get(r.name, dgst)
	if ok {
		r.client.cache.put(r.name, desc, data)
	}
	return desc, data, ok
}

// knows says whether a manifest was read by the tag before, and is remembered.
func (r *Repository) knows(tag string) bool {
	dgst := r.client.cache.tag(r.name, tag)
	if dgst == "" {
		dgst = r.kept.tag(r.name, tag)
	}
	_, _, ok := r.recall(dgst)
	return ok
}

func (r *Repository) remember(ctx context.Context, tag string, desc ocispec.Descriptor, data []byte) {
	r.client.cache.put(r.name, desc, data)
	err := r.kept.put(r.name, desc, data)
	if tag != "" {
		r.client.cache.putTag(r.name, tag, desc.Digest)
		err = errors.Join(err, r.kept.putTag(r.name, tag, desc.Digest))
	}
	if err != nil {
		r.client.log.DebugContext(ctx, "not kept", "manifest", r.Ref(desc.Digest.String()), "error", err)
	}
}

// fetchTag reads the manifest of a tag with one request.
func (r *Repository) fetchTag(ctx context.Context, tag string) (desc ocispec.Descriptor, data []byte, err error) {
	err = r.client.retry(ctx, func() error {
		var read reading
		_, desc, err = r.resolver(nil).Resolve(r.client.context(ctx, call{skip: skipBlobs, reading: &read}), r.Ref(tag))
		if err != nil {
			return err
		}
		data = read.data
		desc.Size = int64(len(data))
		desc.MediaType, err = manifestType(data, desc.MediaType)
		return err
	})
	if err != nil {
		return ocispec.Descriptor{}, nil, r.explain(ctx, "fetch", r.Ref(tag), err)
	}
	r.remember(ctx, tag, desc, data)
	return desc, data, nil
}

func (r *Repository) fetchManifest(ctx context.Context, dgst digest.Digest) (mediaType string, data []byte, err error) {
	var answered string
	ctx = r.client.context(ctx, call{done: func(_ *http.Request, resp *http.Response, err error) {
		if err == nil && resp.StatusCode == http.StatusOK {
			answered, _, _ = strings.Cut(resp.Header.Get("Content-Type"), ";")
		}
	}})
	fetcher, err := r.resolver(nil).Fetcher(ctx, r.name)
	if err != nil {
		return "", nil, err
	}
	// The size is not known, and containerd wants one: the most there may be. The
	// media type says to ask for a manifest; any may come.
	body, err := fetcher.Fetch(ctx, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: dgst, Size: MaxManifest})
	if err != nil {
		return "", nil, err
	}
	defer body.Close()
	data, err = io.ReadAll(body)
	if err != nil {
		if errdefs.IsFailedPrecondition(err) {
			err = fmt.Errorf("manifest of more than %d bytes: %w", MaxManifest, errdefs.ErrInvalidArgument)
		}
		return "", nil, err
	}
	if got := dgst.Algorithm().FromBytes(data); got != dgst {
		return "", nil, fmt.Errorf("sent a manifest with digest %s: %w", got, errdefs.ErrDataLoss)
	}
	mediaType, err = manifestType(data, answered)
	return mediaType, data, err
}

// manifestType is what a manifest says it is. One that says nothing is what the
// registry said or, last, what it looks like.
func manifestType(data []byte, answered string) (string, error) {
	var document struct {
		MediaType     string          `json:"mediaType"`
		SchemaVersion int             `json:"schemaVersion"`
		Manifests     json.RawMessage `json:"manifests"`
		Config        json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return "", fmt.Errorf("manifest is not JSON: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	switch {
	case IsManifest(document.MediaType):
		return document.MediaType, nil
	case document.MediaType == "" && IsManifest(answered):
		return answered, nil
	case document.MediaType == "" && document.Manifests != nil:
		return ocispec.MediaTypeImageIndex, nil
	case document.MediaType == "" && document.Config != nil:
		return ocispec.MediaTypeImageManifest, nil
	case document.SchemaVersion == 1:
		return "", fmt.Errorf("image of Docker's schema 1, which registries no longer take; push it anew with a current tool: %w", errdefs.ErrNotImplemented)
	}
	return "", fmt.Errorf("manifest of unknown type %q: %w", document.MediaType, errdefs.ErrNotImplemented)
}

// Blob reads a blob. Read gives the last bytes only if all of them have the size
// and digest of desc; else it fails with an error of class ErrDataLoss.
func (r *Repository) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ref := r.Ref(desc.Digest.String())
	if err := checkDigest(desc); err != nil {
		return nil, r.explain(ctx, "fetch", ref, err)
	}
	asking := r.client.context(ctx, call{})
	fetcher, err := r.resolver(nil).Fetcher(asking, r.name)
	if err != nil {
		return nil, r.explain(ctx, "fetch", ref, err)
	}
	// No URLs: what lies elsewhere is not the registry's.
	body, err := fetcher.Fetch(asking, ocispec.Descriptor{MediaType: blobType, Digest: desc.Digest, Size: desc.Size})
	if err == nil {
		// containerd asks at the first read: make it one of nothing.
		if _, err = body.Read(nil); errors.Is(err, io.EOF) { // it is empty
			err = nil
		}
		if err != nil {
			err = errors.Join(err, body.Close())
		}
	}
	if err != nil {
		return nil, r.explain(ctx, "fetch", ref, err)
	}
	return &blobReader{repository: r, ctx: ctx, ref: ref, verifier: newVerifier(body, desc)}, nil
}

// blobReader says in its errors what was read.
type blobReader struct {
	*verifier
	repository *Repository
	ctx        context.Context // of the request that it is the body of
	ref        string
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.verifier.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.repository.explain(b.ctx, "fetch", b.ref, err)
	}
	return n, err
}

// readBlob reads a small blob whole, as often as it takes.
func (r *Repository) readBlob(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	return r.client.readAll(ctx, desc, func() (io.ReadCloser, error) { return r.Blob(ctx, desc) })
}

var _ content.Provider = (*Repository)(nil)
