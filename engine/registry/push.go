// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	blobType = "application/octet-stream"
	// copyBuffer is how much of a stream is in hand, in bytes.
	copyBuffer = 128 << 10
)

// How a blob came into a repository.
type How string

// The ways.
const (
	Existing How = "existing" // it was there
	Mounted  How = "mounted"  // the registry took it from another repository
	Streamed How = "streamed" // its bytes were sent
)

// PushManifest writes a manifest, by its digest or, with a tag, under both. What
// it refers to must be there.
func (r *Repository) PushManifest(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) error {
	_, err := r.pushManifest(ctx, desc, data, tag)
	return err
}

// pushManifest says as well whether the registry took note of the manifest's subject.
func (r *Repository) pushManifest(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) (registered bool, err error) {
	ref, at := r.Ref(desc.Digest.String()), desc.Digest.String()
	if tag != "" {
		ref, at = r.name+":"+tag+"@"+at, tag
	}
	if !IsManifest(desc.MediaType) || desc.Size != int64(len(data)) || desc.Size > MaxManifest {
		return false, r.explain(ctx, "push", ref, fmt.Errorf("%d bytes of type %q, announced with %d, are no manifest: %w",
			len(data), desc.MediaType, desc.Size, errdefs.ErrInvalidArgument))
	}
	if err = errors.Join(checkDigest(desc), r.checkTag(tag)); err == nil {
		registered, err = r.putManifest(ctx, at, desc, data)
	}
	if err != nil {
		return false, refusal(r.explain(ctx, "push", ref, err), ref, desc, data)
	}
	r.client.cache.put(r.name, desc, data)
	return registered, nil
}

func (r *Repository) putManifest(ctx context.Context, at string, desc ocispec.Descriptor, data []byte) (registered bool, err error) {
	resp, err := r.do(ctx, request{method: http.MethodPut, path: "/manifests/" + at, mediaType: desc.MediaType, body: data})
	if err != nil {
		return false, err
	}
	defer drain(resp)
	// The specification says 201; registries say others as well.
	if err := refuse(resp, http.StatusCreated, http.StatusOK, http.StatusNoContent); err != nil {
		return false, err
	}
	if !stored(resp, desc) {
		return false, fmt.Errorf("keeps it as %s: %w", resp.Header.Get(contentDigest), errdefs.ErrDataLoss)
	}
	return resp.Header.Get("OCI-Subject") != "", nil
}

// checkDigest is for what becomes part of a path.
func checkDigest(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// checkTag is too: tags come from annotations that a stranger wrote.
func (r *Repository) checkTag(tag string) error {
	if tag == "" {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(r.name)
	if err == nil {
		_, err = reference.WithTag(named, tag)
	}
	if err != nil {
		return fmt.Errorf("tag %q: %w: %w", tag, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// stored says whether a registry has what it was sent, as far as it says.
func stored(resp *http.Response, desc ocispec.Descriptor) bool {
	said := digest.Digest(resp.Header.Get(contentDigest))
	return said.Validate() != nil || said.Algorithm() != desc.Digest.Algorithm() || said == desc.Digest
}

// PushBlob writes a blob whose bytes open gives from the start, each time it is
// called: a second time when the registry broke off. What is there is not sent. Small
// blobs are read into memory, and are not asked for first, as sending them costs less.
func (r *Repository) PushBlob(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) (How, error) {
	if desc.Size > maxBuffered {
		return r.pushLarge(ctx, desc, open)
	}
	if err := r.client.buffers.Acquire(ctx, desc.Size); err != nil {
		return "", context.Cause(ctx)
	}
	defer r.client.buffers.Release(desc.Size)
	data, err := r.client.readAll(ctx, desc, open)
	if err != nil {
		return "", r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
	}
	return r.pushSmall(ctx, desc, data)
}

// pushLarge streams a blob that is not there.
func (r *Repository) pushLarge(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) (How, error) {
	there, err := r.Exists(ctx, ocispec.Descriptor{MediaType: blobType, Digest: desc.Digest})
	if err != nil {
		return "", err
	}
	if there {
		return Existing, nil
	}
	how := Streamed
	err = r.client.retry(ctx, func() error {
		// Nothing is begun that there are no bytes for.
		body, err := open()
		if err != nil {
			return err
		}
		defer body.Close()
		how, err = r.send(ctx, desc, body)
		return err
	})
	return how, r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
}

// pushSmall sends a blob with one request where the registry takes that, which the
// first one finds out, and else with two.
func (r *Repository) pushSmall(ctx context.Context, desc ocispec.Descriptor, data []byte) (How, error) {
	host := r.client.host(r.endpoint())
	whole := host.mayPost()
	how, said, next := Streamed, undecided, whole
	err := r.client.retry(ctx, func() (err error) {
		if next {
			next = false // whatever fails, it is not for this again
			if said, err = r.post(ctx, desc, data); said == taken || err != nil {
				return err
			}
		}
		how, err = r.send(ctx, desc, bytes.NewReader(data))
		return err
	})
	if whole {
		host.posted(said, err == nil)
	}
	return how, r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
}

// send writes the bytes of a blob with the two requests of an upload.
func (r *Repository) send(ctx context.Context, desc ocispec.Descriptor, body io.Reader) (How, error) {
	if err := checkDigest(desc); err != nil {
		return "", err
	}
	// The request goes on in containerd's hands when its writer is left.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sending := r.client.context(ctx, call{skip: skipHead})
	pusher, err := r.resolver(docker.NewInMemoryTracker()).Pusher(sending, r.Ref(desc.Digest.String()))
	if err != nil {
		return "", err
	}
	// Its type is the manifest's business.
	w, err := pusher.Push(sending, ocispec.Descriptor{MediaType: blobType, Digest: desc.Digest, Size: desc.Size})
	if errdefs.IsAlreadyExists(err) {
		return Existing, nil
	}
	if err != nil {
		return "", err
	}
	defer w.Close()
	if desc.Size == 0 {
		// containerd's writer takes no notice of a blob that nothing is written to.
		if _, err := w.Write(nil); err != nil {
			return "", err
		}
	}
	if _, err := io.CopyBuffer(w, body, make([]byte, min(desc.Size+1, copyBuffer))); err != nil {
		return "", err
	}
	return Streamed, w.Commit(sending, desc.Size, desc.Digest)
}

// skipHead answers what containerd asks before it pushes anything. Who calls knows
// better whether to ask.
func skipHead(req *http.Request) error {
	if req.Method == http.MethodHead {
		return errAbsent
	}
	return nil
}

// post sends a blob with the request that else only announces it. Registries need
// not take that (distribution specification, "Single POST"), and say so by beginning
// an upload. That one is left alone: some of the bytes may be in it.
func (r *Repository) post(ctx context.Context, desc ocispec.Descriptor, data []byte) (verdict, error) {
	if err := checkDigest(desc); err != nil {
		return undecided, err
	}
	resp, err := r.do(ctx, request{
		method: http.MethodPost, path: "/blobs/uploads/", query: url.Values{"digest": {desc.Digest.String()}},
		mediaType: blobType, body: data,
	})
	if err != nil {
		return undecided, err
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusCreated:
		if stored(resp, desc) {
			return taken, nil
		}
	case http.StatusUnauthorized, http.StatusForbidden: // it may be what is minded, or who sends it
		return undecided, nil
	}
	return refused, nil
}

// verdict is whether a registry takes blobs with one request.
type verdict int

const (
	undecided verdict = iota
	asking            // somebody finds out
	refused
	taken
)

// mount has the registry take a blob from another of its repositories. False says
// that it does not, which is remembered: it may not know how, or not be allowed to.
func (r *Repository) mount(ctx context.Context, desc ocispec.Descriptor, from *Repository) (bool, error) {
	if desc.Digest.Validate() != nil || r.client.known(r.client.noMounts, from.name) {
		return false, nil
	}
	resp, err := r.do(ctx, request{
		method: http.MethodPost, path: "/blobs/uploads/", query: url.Values{"mount": {desc.Digest.String()}, "from": {from.path}},
		pulls: from.path,
	})
	if err == nil {
		defer drain(resp)
		if resp.StatusCode == http.StatusCreated {
			return true, nil
		}
	}
	if err == nil || errors.Is(err, docker.ErrInvalidAuthorization) {
		// What it began instead is left alone: where the bytes come from is to be
		// known first.
		r.client.remember(r.client.noMounts, from.name)
		return false, nil
	}
	return false, r.explain(ctx, "mount", r.Ref(desc.Digest.String()), err)
}
