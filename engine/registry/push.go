// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// blobType is what every blob is taken for. Its own type is the manifest's business.
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
	err = r.push(ctx, ref, desc, func(resp *http.Response) {
		registered = resp.Header.Get("OCI-Subject") != ""
	}, func(w content.Writer) error {
		return content.Copy(ctx, w, bytes.NewReader(data), desc.Size, desc.Digest)
	})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return false, r.explain(ctx, "push", ref, err)
	}
	r.client.cache.put(r.name, desc, data)
	return registered, nil
}

// PushBlob writes a blob whose bytes open gives from the start, each time it is
// called: a second time when the registry broke off. What is there is not sent;
// small blobs are not asked for first, as sending them costs less.
func (r *Repository) PushBlob(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) (How, error) {
	return r.pushBlob(ctx, desc, "", open)
}

// pushBlob opens the blob only if it cannot be mounted from a path in the same registry.
func (r *Repository) pushBlob(ctx context.Context, desc ocispec.Descriptor, from string, open func() (io.ReadCloser, error)) (How, error) {
	ref := r.Ref(desc.Digest.String())
	upload := ocispec.Descriptor{MediaType: blobType, Digest: desc.Digest, Size: desc.Size}
	if err := desc.Digest.Validate(); err != nil {
		return "", r.explain(ctx, "push", ref, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument))
	}
	switch {
	case from != "":
		upload.Annotations = map[string]string{r.mountAnnotation(): from}
	case desc.Size > maxBuffered:
		there, err := r.Exists(ctx, upload)
		if err != nil {
			return "", err
		}
		if there {
			return Existing, nil
		}
	}
	how := Streamed
	err := r.client.retry(ctx, func() error {
		err := r.push(ctx, ref, upload, nil, func(w content.Writer) error {
			body, err := open()
			if err != nil {
				return err
			}
			defer body.Close()
			if desc.Size == 0 {
				// containerd's writer takes no notice of a blob that nothing is written to.
				if _, err := w.Write(nil); err != nil {
					return err
				}
			}
			if _, err := io.CopyBuffer(w, body, make([]byte, min(desc.Size+1, copyBuffer))); err != nil {
				return err
			}
			return w.Commit(ctx, desc.Size, desc.Digest)
		})
		if errdefs.IsAlreadyExists(err) {
			how, err = Existing, nil
			if from != "" {
				how = Mounted
			}
		}
		return err
	})
	return how, r.explain(ctx, "push", ref, err)
}

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
func (r *Repository) push(ctx context.Context, ref string, desc ocispec.Descriptor, answered func(*http.Response), write func(content.Writer) error) error {
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	pushing := r.client.context(ctx, call{
		// containerd asks for everything before it pushes it. Who calls knows better.
		skip: func(req *http.Request) bool { return req.Method == http.MethodHead },
		done: func(req *http.Request, resp *http.Response, err error) {
			if err == nil && answered != nil && req.Method == http.MethodPut {
				answered(resp)
			}
		},
		abort: abort,
	})
	pusher, err := r.resolver(docker.NewInMemoryTracker()).Pusher(pushing, ref)
	if err != nil {
		return err
	}
	w, err := pusher.Push(pushing, desc)
	if err != nil {
		return err
	}
	defer w.Close()
	// A write waits for a request that reads: it must end when there is none.
	stop := context.AfterFunc(ctx, func() { w.Close() })
	defer stop()
	if err := write(w); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	return nil
}
