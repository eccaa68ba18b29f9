// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
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
	ref := r.name
	if tag != "" {
		ref += ":" + tag
	}
	// Without the digest containerd would write everything under the tag.
	ref += "@" + desc.Digest.String()
	if !IsManifest(desc.MediaType) || desc.Size != int64(len(data)) || desc.Size > MaxManifest {
		return false, r.explain(ctx, "push", ref, fmt.Errorf("%d bytes of type %q, announced with %d, are no manifest: %w",
			len(data), desc.MediaType, desc.Size, errdefs.ErrInvalidArgument))
	}
	operation := call{skip: skipHead, done: func(req *http.Request, resp *http.Response, err error) {
		if err == nil && req.Method == http.MethodPut {
			registered = resp.Header.Get("OCI-Subject") != ""
		}
	}}
	err = r.push(ctx, ref, desc, operation, func(w content.Writer) error {
		return content.Copy(log.WithLogger(ctx, r.client.quiet), w, bytes.NewReader(data), desc.Size, desc.Digest)
	})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return false, refusal(r.explain(ctx, "push", ref, err), ref, desc, data)
	}
	r.client.cache.put(r.name, desc, data)
	return registered, nil
}

// PushBlob writes a blob whose bytes open gives from the start, each time it is
// called: a second time when the registry broke off. What is there is not sent;
// small blobs are not asked for first, as sending them costs less.
func (r *Repository) PushBlob(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) (How, error) {
	if desc.Size > maxBuffered {
		there, err := r.Exists(ctx, ocispec.Descriptor{MediaType: blobType, Digest: desc.Digest})
		if err != nil {
			return "", err
		}
		if there {
			return Existing, nil
		}
	}
	return r.upload(ctx, desc, open)
}

func (r *Repository) upload(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) (How, error) {
	how := Streamed
	err := r.client.retry(ctx, func() error {
		// Nothing is begun that there are no bytes for.
		body, err := open()
		if err != nil {
			return err
		}
		defer body.Close()
		err = r.push(ctx, r.Ref(desc.Digest.String()), blobOf(desc), call{skip: skipHead}, func(w content.Writer) error {
			if desc.Size == 0 {
				// containerd's writer takes no notice of a blob that nothing is written to.
				if _, err := w.Write(nil); err != nil {
					return err
				}
			}
			if _, err := io.CopyBuffer(w, body, make([]byte, min(desc.Size+1, copyBuffer))); err != nil {
				return err
			}
			return w.Commit(log.WithLogger(ctx, r.client.quiet), desc.Size, desc.Digest)
		})
		if errdefs.IsAlreadyExists(err) {
			how, err = Existing, nil
		}
		return err
	})
	return how, r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
}

// blobOf describes a blob as what every blob is to a registry. Its type is the
// manifest's business.
func blobOf(desc ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: blobType, Digest: desc.Digest, Size: desc.Size}
}

// mount has the registry take a blob from another of its repositories. False says
// that it does not, which is remembered: it may not know how, or not be allowed to.
func (r *Repository) mount(ctx context.Context, desc ocispec.Descriptor, from *Repository) (bool, error) {
	if desc.Digest.Validate() != nil || r.client.known(r.client.noMounts, from.name) {
		return false, nil
	}
	desc = blobOf(desc)
	desc.Annotations = map[string]string{r.mountAnnotation(): from.path}
	// A registry that does not mount has begun an upload, which is left alone:
	// where the bytes come from is to be known first.
	notMounted := func(content.Writer) error { return errNotMounted }
	skip := func(req *http.Request) error {
		if req.Method == http.MethodPut {
			return errSkipped
		}
		return skipHead(req)
	}
	err := r.push(ctx, r.Ref(desc.Digest.String()), desc, call{skip: skip}, notMounted)
	if errdefs.IsAlreadyExists(err) {
		return true, nil
	}
	if errors.Is(err, errNotMounted) {
		r.client.remember(r.client.noMounts, from.name)
		return false, nil
	}
	return false, r.explain(ctx, "mount", r.Ref(desc.Digest.String()), err)
}

var errNotMounted = errors.New("not mounted")

// mountAnnotation is where containerd's pusher looks for a repository to mount from.
func (r *Repository) mountAnnotation() string {
	host := r.host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return labels.LabelDistributionSource + "." + host
}

// push opens an upload and has it written. An error of class ErrAlreadyExists says
// that there was nothing to write.
func (r *Repository) push(ctx context.Context, ref string, desc ocispec.Descriptor, operation call, write func(content.Writer) error) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	// The request goes on in containerd's hands when its writer is left.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pushing := r.client.context(ctx, operation)
	pusher, err := r.resolver(docker.NewInMemoryTracker()).Pusher(pushing, ref)
	if err != nil {
		return err
	}
	w, err := pusher.Push(pushing, desc)
	if err != nil {
		return err
	}
	defer w.Close()
	return write(w)
}

// skipHead answers what containerd asks before it pushes anything. Who calls knows
// better whether to ask.
func skipHead(req *http.Request) error {
	if req.Method == http.MethodHead {
		return errAbsent
	}
	return nil
}
