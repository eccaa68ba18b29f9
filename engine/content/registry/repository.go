// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"cmp"
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
	name   string                // registry.example.com/team/app
	host   string                // registry.example.com
	path   string                // team/app
	hosts  []docker.RegistryHost // mirrors first
	kept   *kept                 // of a source
}

// Name is the normalised name, with the registry: docker.io/library/nginx.
func (r *Repository) Name() string { return r.name }

// Ref returns the name with a tag or a digest, or the name alone if reference is "".
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

// Resolve returns the descriptor of the manifest of a tag or digest. The registry is asked by
// HEAD, whose answer is only a hint: unless it leads to a remembered manifest, the manifest is
// read, and remembered for the next reader.
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

// reads returns the capability that a host needs for reading a tag or digest.
func reads(reference string) docker.HostCapabilities {
	if isDigest(reference) {
		return docker.HostCapabilityPull
	}
	return docker.HostCapabilityPull | docker.HostCapabilityResolve
}

// Digest returns the digest of a tag, by HEAD.
func (r *Repository) Digest(ctx context.Context, tag string) (digest.Digest, error) {
	dgst, err := r.headManifest(ctx, reads(tag), tag)
	return dgst, r.explain(ctx, "resolve", r.Ref(tag), err)
}

// Exists reports whether the repository has a manifest or, according to its media type, a blob.
func (r *Repository) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	err := checkDigest(desc)
	there := false
	switch {
	case err != nil:
	case descriptor.IsManifest(desc.MediaType):
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

// headManifest asks for the digest of a manifest by HEAD. If the answer does not contain it, or
// HEAD is refused, the manifest is read.
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
	// A HEAD has no body to explain a refusal either.
	desc, _, err := r.getManifest(ctx, capability, reference)
	return desc.Digest, err
}

// headBlob asks by HEAD whether a blob exists: the answer must contain the digest or, if it has
// none, the size.
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

// Empty reports whether the registry does not know the repository, so that nothing in it need
// be asked for. A registry that does not tell is taken to know it.
//
// Some registries do not know a repository without tags. If there is an [Options.ManifestFile],
// a repository is therefore reported as empty only once: the caller is about to write to it,
// and may be interrupted before it sets a tag.
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
	if err := r.client.kept.write(r.name, begun, []byte(begun)); err != nil {
		r.client.log.DebugContext(ctx, "not remembered", "repository", r.name, "error", err)
	}
	return true, nil
}

// Manifest reads a manifest or index of at most [MaxManifest] bytes, by tag or digest. The
// bytes match the digest of the descriptor, which also has the media type; they must not be
// changed. The manifest is remembered: for a known tag a HEAD shows whether it has moved, and
// the tag is read only if that does not lead to a remembered manifest.
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

// recall returns a manifest that was read before, in this run or an earlier one.
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

// knows reports whether a manifest was read by the tag before, and is remembered.
func (r *Repository) knows(tag string) bool {
	_, _, ok := r.recall(cmp.Or(r.client.cache.tag(r.name, tag), r.kept.tag(r.name, tag)))
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

// getManifest reads a manifest, and verifies it against the requested digest or, for a tag, the
// one in the answer.
func (r *Repository) getManifest(ctx context.Context, capability docker.HostCapabilities, reference string) (desc ocispec.Descriptor, data []byte, err error) {
	resp, err := r.read(ctx, capability, request{method: http.MethodGet, path: "/manifests/" + reference, wanted: []int{http.StatusOK}})
	if err != nil {
		return desc, nil, err
	}
	defer resp.Body.Close()
	want := digest.Digest(reference)
	if !isDigest(reference) {
		if want = digest.Digest(resp.Header.Get(contentDigest)); want.Validate() != nil {
			want = ""
		}
	}
	if data, err = readDocument(resp, "manifest", MaxManifest); err != nil {
		return desc, nil, err
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
	if desc.MediaType, err = manifestType(data, answered); err == nil {
		err = descriptor.Unambiguous(desc.MediaType, data)
	}
	return desc, data, err
}

// readDocument reads a manifest or another document of at most limit bytes, without the content
// codings that a proxy added. It does not wait for one that is announced to be larger.
func readDocument(resp *http.Response, what string, limit int64) ([]byte, error) {
	tooLarge := fmt.Errorf("%s of more than %d bytes: %w", what, limit, errdefs.ErrInvalidArgument)
	if resp.ContentLength > limit {
		return nil, tooLarge
	}
	var data bytes.Buffer
	data.Grow(int(max(resp.ContentLength, 0)) + bytes.MinRead) // reading by doubling takes three times as much
	if _, err := data.ReadFrom(io.LimitReader(resp.Body, limit+1)); err != nil {
		return nil, err
	}
	plain, err := plainJSON(data.Bytes(), codings(resp.Header), limit)
	if err == nil && int64(len(plain)) > limit {
		err = tooLarge
	}
	return plain, err
}

// manifestType returns the type that a manifest declares. If it declares none, this is the type
// in the answer or, failing that, the one that it looks like.
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
	case descriptor.IsManifest(document.MediaType):
		return document.MediaType, nil
	case document.MediaType == "" && descriptor.IsManifest(answered):
		return answered, nil
	case document.MediaType == "" && document.Manifests != nil:
		return ocispec.MediaTypeImageIndex, nil
	case document.MediaType == "" && document.Config != nil:
		return ocispec.MediaTypeImageManifest, nil
	case document.SchemaVersion == 1:
		return "", fmt.Errorf("image of Docker's schema 1, which registries no longer accept; push it again with a current tool: %w", errdefs.ErrNotImplemented)
	case strings.Contains(document.MediaType, "/"):
		return document.MediaType, nil // it is copied unchanged
	case document.MediaType == "" && strings.HasPrefix(answered, "application/vnd.") && strings.HasSuffix(answered, "+json"):
		return answered, nil
	}
	return "", fmt.Errorf("manifest of unknown type %q: %w", document.MediaType, errdefs.ErrNotImplemented)
}

// Blob reads a blob. Read returns the last bytes only if the whole blob matches the size and
// digest of desc; otherwise it fails with an error of class ErrDataLoss. A broken download is
// resumed.
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
	return &verifier{
		body: resumed, desc: desc, digester: desc.Digest.Algorithm().Digester(), left: desc.Size,
		explain: func(err error) error { return r.explain(ctx, "fetch", ref, err) },
	}, nil
}

// readBlob reads a blob whole, with as many tries as needed.
func (r *Repository) readBlob(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	return r.client.readAll(ctx, desc, func() (io.ReadCloser, error) { return r.Blob(ctx, desc) })
}

var _ content.Provider = (*Repository)(nil)
