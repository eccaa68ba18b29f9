// SPDX-License-Identifier: Apache-2.0

package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/internal/blob"
	"github.com/taped-dev/tape/internal/nearest"
)

// defaultContainerd is the default address of containerd.
const defaultContainerd = "/run/containerd/containerd.sock"

// containerd is a namespace of containerd, accessed through the content and image services.
// containerd's own client would pull in all of containerd.
type containerd struct {
	address, namespace string

	mu   sync.Mutex
	conn *grpc.ClientConn
}

func (c *containerd) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}

// connect connects once. It dials the socket first, because gRPC would retry one that does
// not answer.
func (c *containerd) connect(ctx context.Context) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		return c.conn, nil
	}
	probe, err := (&net.Dialer{}).DialContext(ctx, "unix", c.address)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, unreachable("containerd", c.address, "CONTAINERD_ADDRESS", err)
	}
	if err := probe.Close(); err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	c.conn, err = grpc.NewClient("unix://"+c.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w", c.address, err)
	}
	return c.conn, nil
}

// find finds an image by its full name, or by its short name as given to ctr.
func (c *containerd) find(ctx context.Context, named reference.Named) (ocispec.Descriptor, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	ctx = namespaces.WithNamespace(ctx, c.namespace)
	for _, name := range []string{named.String(), reference.FamiliarString(named)} {
		answer, err := imagesapi.NewImagesClient(conn).Get(ctx, &imagesapi.GetImageRequest{Name: name})
		if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("ask containerd for %s: %w", name, err)
		}
		target := answer.GetImage().GetTarget()
		return ocispec.Descriptor{MediaType: target.GetMediaType(), Digest: digest.Digest(target.GetDigest()), Size: target.GetSize()}, nil
	}
	return ocispec.Descriptor{}, fmt.Errorf("containerd has no image %s in namespace %s%s: %w", reference.FamiliarString(named), c.namespace, c.near(ctx, conn, named), errdefs.ErrNotFound)
}

// near returns a hint to a similar name in the namespace.
func (c *containerd) near(ctx context.Context, conn *grpc.ClientConn, named reference.Named) string {
	answer, err := imagesapi.NewImagesClient(conn).List(ctx, &imagesapi.ListImagesRequest{})
	if err != nil {
		return ""
	}
	var names []string
	for _, image := range answer.GetImages() {
		names = append(names, image.GetName())
	}
	hint := nearest.Hint(named.String(), slices.Values(names))
	if hint == "" && len(names) == 0 {
		hint = ", which has none; $CONTAINERD_NAMESPACE names another, such as k8s.io"
	}
	return hint
}

func (c *containerd) open(ctx context.Context, named reference.Named) (*Source, error) {
	desc, err := c.find(ctx, named)
	if err != nil {
		return nil, err
	}
	return &Source{
		Repository: &namespace{c, proxy.NewContentStore(c.conn), reference.TrimNamed(named)},
		tag:        tag(named), image: desc,
	}, nil
}

// namespace is a repository in a namespace of containerd.
type namespace struct {
	containerd *containerd
	content    content.Provider
	name       reference.Named
}

// Resolve looks up tags among the images, and digests in the content store, whether or not
// an image refers to them.
func (n *namespace) Resolve(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, error) {
	dgst, err := digest.Parse(tagOrDigest)
	if err != nil {
		tagged, err := reference.WithTag(n.name, tagOrDigest)
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("%q: %w: %w", tagOrDigest, err, errdefs.ErrInvalidArgument)
		}
		return n.containerd.find(ctx, tagged)
	}
	body, err := n.Blob(ctx, ocispec.Descriptor{Digest: dgst})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, descriptor.MaxManifest+1))
	if err == nil && len(data) > descriptor.MaxManifest {
		err = fmt.Errorf("blob %s in containerd is not a manifest: it has more than %d bytes: %w", dgst, descriptor.MaxManifest, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: descriptor.ManifestType(data), Digest: dgst, Size: int64(len(data))}
	if desc.MediaType == "" {
		return desc, fmt.Errorf("blob %s in containerd is not a manifest: %w", dgst, errdefs.ErrInvalidArgument)
	}
	return desc, nil
}

// Referrers returns nil: containerd does not record referrers.
func (*namespace) Referrers(context.Context, digest.Digest) ([]ocispec.Descriptor, error) {
	return nil, nil
}

// ReaderAt implements [content.Provider]. It first verifies the whole blob.
func (n *namespace) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	body, err := n.Blob(ctx, desc)
	if err == nil {
		_, err = io.Copy(io.Discard, body)
		err = errors.Join(err, body.Close())
	}
	if err != nil {
		return nil, err
	}
	return n.open(ctx, desc)
}

// Blob reads a blob. The end of a blob with another digest is an error.
func (n *namespace) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ra, err := n.open(ctx, desc)
	if err != nil {
		return nil, err
	}
	// Every read is a request.
	body := bufio.NewReaderSize(io.NewSectionReader(ra, 0, ra.Size()), readBuffer)
	return blob.Verify(body, ra, desc.Digest, func(err error) error {
		return fmt.Errorf("blob %s of containerd is damaged: %w: %w", desc.Digest, err, errdefs.ErrDataLoss)
	}), nil
}

func (n *namespace) open(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("blob %q: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
	}
	ra, err := n.content.ReaderAt(namespaces.WithNamespace(ctx, n.containerd.namespace), desc)
	if err != nil {
		return nil, fmt.Errorf("blob %s of containerd: %w", desc.Digest, err)
	}
	if desc.Size > 0 && desc.Size != ra.Size() {
		return nil, errors.Join(fmt.Errorf("blob %s of containerd has %d bytes, not %d: %w", desc.Digest, ra.Size(), desc.Size, errdefs.ErrDataLoss), ra.Close())
	}
	return ra, nil
}
