// SPDX-License-Identifier: Apache-2.0

// Package local finds images outside of registries: in the Docker daemon, in containerd, in
// OCI image layouts and in archives. A found image looks like the repository of its name,
// and reads are verified, so code that reads images from registries can read these as well.
//
//   - docker-daemon is asked through its API for the image, as in docker save. With the
//     containerd image store, manifests are those that were pulled or built. The older store
//     keeps none: a manifest is generated, the same on every machine, and [Source.Warning]
//     reports that.
//   - containerd is read through its content and image services. It often has only one
//     platform of an index; the index lists the others.
//   - oci:DIR[:TAG] and archive:FILE[:TAG] have the image by its name, by its tag, or as the
//     only one. An archive may also be one that docker save writes.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/layout"
)

// Options configure access to the places. The zero value uses the defaults.
type Options struct {
	// DockerHost is the daemon's address: unix:///PATH or tcp://HOST:PORT. It defaults to
	// that of the docker command's context, or unix:///var/run/docker.sock.
	DockerHost string
	// Containerd is the path of its socket; default /run/containerd/containerd.sock.
	Containerd string
	// Namespace is the namespace of images in containerd; default "default".
	Namespace string
	// TempDir holds images from the daemon until Close; default is the system's folder for
	// temporary files.
	TempDir string
}

// Places gives access to images in places. Its methods may be called concurrently, except
// for Close.
type Places struct {
	docker     *docker
	containerd *containerd

	mu      sync.Mutex
	spool   *spool
	tempDir string
	layouts map[string]*opened // by place
	closers []io.Closer        // of all layouts that were opened
}

// New returns Places. Nothing is accessed before it is needed.
func New(o Options) *Places {
	return &Places{
		docker:     &docker{connect: sync.OnceValues(func() (*dockerClient, error) { return connectDocker(o.DockerHost) })},
		containerd: &containerd{address: cmp.Or(o.Containerd, defaultContainerd), namespace: cmp.Or(o.Namespace, namespaces.Default)},
		tempDir:    o.TempDir,
		layouts:    map[string]*opened{},
	}
}

// Close closes what was opened and removes temporary files.
func (p *Places) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	errs := []error{p.containerd.close()}
	for _, opened := range p.closers {
		errs = append(errs, opened.Close())
	}
	if p.spool != nil {
		errs = append(errs, p.spool.folder.Remove())
	}
	return errors.Join(errs...)
}

// Open finds an image in a place by its normalised name, such as docker.io/library/app:dev.
// It returns an error of class ErrNotFound if the place does not have it. The source is
// valid until Close.
func (p *Places) Open(ctx context.Context, place Place, name string) (*Source, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w: %w", name, err, errdefs.ErrInvalidArgument)
	}
	switch {
	case place == Docker:
		return p.openDocker(ctx, named)
	case place == Containerd:
		return p.containerd.open(ctx, named)
	case place.IsFile() && place.Check() == nil:
		return p.openFile(ctx, place, named)
	}
	return nil, place.Check()
}

// havingPatience bounds the time for asking all places.
const havingPatience = 2 * time.Second

// Having returns the places without a path that have an image of this name, as a hint when
// it was not found elsewhere. Places that cannot be asked are left out.
func (p *Places) Having(ctx context.Context, name string) []Place {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, havingPatience, errors.New("no answer"))
	defer cancel()
	var out []Place
	if _, err := p.docker.inspect(ctx, reference.FamiliarString(named)); err == nil {
		out = append(out, Docker)
	}
	if _, err := p.containerd.find(ctx, named); err == nil {
		out = append(out, Containerd)
	}
	return out
}

// tag returns the tag of a name, "" if it has only a digest.
func tag(named reference.Named) string {
	return imageref.Split(named.String()).Tag
}

// Source is an image in a place. It looks like the repository of the image's name, in which
// the name's tag resolves to the image.
type Source struct {
	layout.Repository
	tag   string
	image ocispec.Descriptor
	made  bool
}

// Warning returns a warning if the manifest was generated because the place keeps none, or
// "".
func (s *Source) Warning() string {
	if !s.made {
		return ""
	}
	return fmt.Sprintf("its store keeps no digests: %s is the digest of a manifest generated here, not of one in a registry", s.image.Digest)
}

// Resolve returns the descriptor of a manifest by tag or digest; "" is the image itself.
func (s *Source) Resolve(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, error) {
	if tagOrDigest == "" || tagOrDigest == s.tag || tagOrDigest == s.image.Digest.String() {
		return s.image, nil
	}
	return s.Repository.Resolve(ctx, tagOrDigest)
}

// Manifest reads a manifest or index by tag or digest, like a registry's repository.
func (s *Source) Manifest(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, []byte, error) {
	desc, err := s.Resolve(ctx, tagOrDigest)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	data, err := engine.Get(ctx, s, desc)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: int64(len(data))}, data, nil
}

// readBuffer is the size of reads through a socket.
const readBuffer = 1 << 20

// list formats names for an error.
func list(names []string) string {
	const most = 5
	if len(names) > most {
		names = append(names[:most:most], "…")
	}
	return strings.Join(names, ", ")
}
