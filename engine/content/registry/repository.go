// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
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

// Resolve gives the descriptor of the manifest of a tag or digest. The registry is asked
// by HEAD. What that says is a hint: where it leads to no manifest that is remembered,
// the tag or digest is read, and remembered for what reads it next.
func (r *Repository) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	dgst, err := r.headManifest(ctx, reads(reference), reference)
	if err != nil {
		return ocispec.Descriptor{}, r.explain(ctx, "resolve", r.Ref(reference), err)
	}
	if desc, _, ok := r.recall(dgst); ok {
		return desc, nil
	}
	desc, _, err := r.readManifest(ctx, "resolve", reference)
	return desc, err
}

// reads is what a host is to be capable of that a tag or digest is read from.
func reads(reference string) docker.HostCapabilities {
	if isDigest(reference) {
		return docker.HostCapabilityPull
	}
	return docker.HostCapabilityPull | docker.HostCapabilityResolve
}

// Digest asks for the digest of a tag, by HEAD.
func (r *Repository) Digest(ctx context.Context, tag string) (digest.Digest, error) {
	dgst, err := r.headManifest(ctx, reads(tag), tag)
	return dgst, r.explain(ctx, "resolve", r.Ref(tag), err)
}

// Exists reports whether the repository has a manifest or, by its media type, a blob.
func (r *Repository) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	err := checkDigest(desc)
	there := false
	switch {
	case err != nil:
	case IsManifest(desc.MediaType):
		_, err = r.headManifest(ctx, docker.HostCapabilityPull, desc.Digest.String())
		there = err == nil
	default:
		there, err = r.headBlob(ctx, docker.HostCapabilityPull, desc)
		if errdefs.IsNotFound(r.explain(ctx, "look for", r.Ref(desc.Digest.String()), err)) && MayBeManifest(desc.MediaType) {
			_, err = r.headManifest(ctx, docker.HostCapabilityPull, desc.Digest.String())
			there = err == nil
		}
	}
	if err = r.explain(ctx, "look for", r.Ref(desc.Digest.String()), err); errdefs.IsNotFound(err) {
		return false, nil
	}
	return there, err
}

// headManifest asks by HEAD for the digest of a manifest. Where the answer does not
// name it, or HEAD is refused, the manifest is read.
func (r *Repository) headManifest(ctx context.Context, capability docker.HostCapabilities, reference string) (digest.Digest, error) {
	resp, err := r.read(ctx, capability, request{method: http.MethodHead, path: "/manifests/" + reference, wanted: []int{http.StatusOK}})
	if err == nil {
		drain(resp)
		said := digest.Digest(resp.Header.Get(contentDigest))
		if said.Validate() == nil && (!isDigest(reference) || said.String() == reference) {
			return said, nil
		}
	} else if status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); !ok || status.StatusCode == http.StatusNotFound || status.StatusCode >= http.StatusInternalServerError && status.StatusCode != http.StatusNotImplemented {
		return "", err
	}
	// A HEAD has no body to tell why it was refused either.
	desc, _, err := r.getManifest(ctx, capability, reference)
	return desc.Digest, err
}

// headBlob asks by HEAD whether there is a blob: one that the answer calls by the digest
// or, where it names none, that has the size.
func (r *Repository) headBlob(ctx context.Context, capability docker.HostCapabilities, desc ocispec.Descriptor) (bool, error) {
	resp, err := r.read(ctx, capability, request{method: http.MethodHead, path: "/blobs/" + desc.Digest.String(), wanted: []int{http.StatusOK}})
	if err != nil {
		return false, err
	}
	drain(resp)
	if said := digest.Digest(resp.Header.Get(contentDigest)); said.Validate() == nil && said.Algorithm() == desc.Digest.Algorithm() {
		return said == desc.Digest, nil
	}
	return desc.Size == 0 || resp.ContentLength == desc.Size, nil
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
	resp, err := r.do(ctx, request{
		method: http.MethodGet, path: "/tags/list", query: url.Values{"n": {"1"}}, wanted: []int{http.StatusOK, http.StatusNotFound},
	})
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

// Manifest reads a manifest or index, of at most [MaxManifest] bytes, by tag or
// digest. The bytes have the digest of the descriptor, which has the media type
// too; they must not be changed. What was read is remembered: of a tag that was
// read before, it is asked by HEAD whether it has moved; where that leads to nothing
// that is remembered, the tag is read.
func (r *Repository) Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	dgst := digest.Digest(reference)
	if !isDigest(reference) {
		dgst = ""
		if r.knows(reference) {
			var err error
			dgst, err = r.headManifest(ctx, reads(reference), reference)
			if _, answered := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); err != nil && !answered {
				return ocispec.Descriptor{}, nil, r.explain(ctx, "fetch", r.Ref(reference), err)
			}
		}
	} else if err := checkDigest(ocispec.Descriptor{Digest: dgst}); err != nil {
		return ocispec.Descriptor{}, nil, r.explain(ctx, "fetch", r.Ref(reference), err)
	}
	if desc, data, ok := r.recall(dgst); ok {
		return desc, data, nil
	}
	return r.readManifest(ctx, "fetch", reference)
}

// readManifest reads a manifest from the registry, and remembers it.
func (r *Repository) readManifest(ctx context.Context, op, reference string) (desc ocispec.Descriptor, data []byte, err error) {
	err = r.client.retry(ctx, func() (err error) {
		desc, data, err = r.getManifest(ctx, reads(reference), reference)
		return err
	})
	if err != nil {
		return ocispec.Descriptor{}, nil, r.explain(ctx, op, r.Ref(reference), err)
	}
	tag := reference
	if isDigest(reference) {
		tag = ""
	}
	r.remember(ctx, tag, desc, data)
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

// getManifest reads a manifest, whose bytes have the digest that is asked for or, of a
// tag, that the registry names.
func (r *Repository) getManifest(ctx context.Context, capability docker.HostCapabilities, reference string) (desc ocispec.Descriptor, data []byte, err error) {
	resp, err := r.read(ctx, capability, request{method: http.MethodGet, path: "/manifests/" + reference, wanted: []int{http.StatusOK}})
	if err != nil {
		return desc, nil, err
	}
	defer resp.Body.Close()
	data, err = readManifest(resp)
	if err != nil {
		return desc, nil, err
	}
	want := digest.Digest(reference)
	if !isDigest(reference) {
		if want = digest.Digest(resp.Header.Get(contentDigest)); want.Validate() != nil {
			want = ""
		}
	}
	if data, err = plainJSON(data, codings(resp.Header), want); err != nil {
		return desc, nil, err
	}
	if len(data) > MaxManifest {
		return desc, nil, errTooLarge
	}
	algorithm := digest.Canonical
	if want != "" {
		algorithm = want.Algorithm()
	}
	desc.Digest, desc.Size = algorithm.FromBytes(data), int64(len(data))
	if want != "" && want != desc.Digest {
		return desc, nil, fmt.Errorf("sent a manifest with digest %s as %s: %w", desc.Digest, want, errdefs.ErrDataLoss)
	}
	answered, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	desc.MediaType, err = manifestType(data, answered)
	return desc, data, err
}

var errTooLarge = fmt.Errorf("manifest of more than %d bytes: %w", MaxManifest, errdefs.ErrInvalidArgument)

// readManifest reads a manifest, or a byte more than one may have. What is announced
// with more is not waited for.
func readManifest(resp *http.Response) ([]byte, error) {
	if resp.ContentLength > MaxManifest {
		return nil, errTooLarge
	}
	var data bytes.Buffer
	data.Grow(int(max(resp.ContentLength, 0)) + bytes.MinRead) // reading by doubling takes three times as much
	_, err := data.ReadFrom(io.LimitReader(resp.Body, MaxManifest+1))
	return data.Bytes(), err
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
	case strings.Contains(document.MediaType, "/"):
		return document.MediaType, nil // it is carried as it is
	case document.MediaType == "" && strings.HasPrefix(answered, "application/vnd.") && strings.HasSuffix(answered, "+json"):
		return answered, nil
	}
	return "", fmt.Errorf("manifest of unknown type %q: %w", document.MediaType, errdefs.ErrNotImplemented)
}

// Blob reads a blob. Read gives the last bytes only if all of them have the size
// and digest of desc; else it fails with an error of class ErrDataLoss. Where the
// connection breaks off, it goes on from there.
func (r *Repository) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ref := r.Ref(desc.Digest.String())
	if err := descriptor.Check(desc); err != nil {
		return nil, r.explain(ctx, "fetch", ref, err)
	}
	body, err := r.openBlob(ctx, desc, 0)
	if err != nil {
		return nil, r.explain(ctx, "fetch", ref, err)
	}
	resumed := &resuming{
		ReadCloser: body, ctx: ctx, client: r.client, size: desc.Size,
		open: func(offset int64) (io.ReadCloser, error) { return r.openBlob(ctx, desc, offset) },
	}
	return &blobReader{repository: r, ctx: ctx, ref: ref, verifier: newVerifier(resumed, desc)}, nil
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
