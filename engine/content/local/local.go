// SPDX-License-Identifier: Apache-2.0

// Package local finds images that are in no registry: in the Docker daemon, in
// containerd, in OCI image layouts and in archives. What it finds looks like the
// repository of the image's name, and reads are verified, so that whoever takes
// images from registries takes these as well.
//
//   - docker-daemon is asked by its API for the image, as docker save does. Where it
//     has containerd's store, the manifests are those that were pulled or built. Its
//     older store keeps none: a manifest is made, the same on every machine, and
//     [Source.Warning] says so.
//   - containerd is read by its content and image services. It often has one platform
//     of an index and not the others; the index says what there should be.
//   - oci:DIR[:TAG] and archive:FILE[:TAG] hold the image under its name, under its
//     tag or alone. An archive may also be what docker save writes.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/layout"
)

// Options say where the places are. The zero value works.
type Options struct {
	// DockerHost is the daemon's address: unix:///PATH or tcp://HOST:PORT. "" is
	// that of the docker command's context, else unix:///var/run/docker.sock.
	DockerHost string
	// Containerd is the path of its socket; "" is /run/containerd/containerd.sock.
	Containerd string
	// Namespace of the images in containerd; "" is default.
	Namespace string
	// TempDir takes what the daemon gives, until Close; "" is the system's.
	TempDir string
}

// Places opens places. Its methods may be called concurrently; Close comes last.
type Places struct {
	docker     *docker
	containerd *containerd

	mu      sync.Mutex
	spool   *spool
	tempDir string
	layouts map[string]*opened // by place
	closers []io.Closer        // of all layouts that were opened
}

// New makes Places. Nothing is read or asked before it is needed.
func New(o Options) *Places {
	return &Places{
		docker:     newDocker(o.DockerHost),
		containerd: newContainerd(o.Containerd, o.Namespace),
		tempDir:    o.TempDir,
		layouts:    map[string]*opened{},
	}
}

// Close closes what was opened, and removes what was put aside.
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

// Open finds the image that a place has under a normalised name, such as
// docker.io/library/app:dev. One that it does not have is of class ErrNotFound.
// The source is good until Close.
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

// havingPatience is how long a place may take to say what it has.
const havingPatience = 2 * time.Second

// Having are the places without a path that have an image of the name, for whoever
// did not find it elsewhere. One that cannot be asked, or does not answer, has none.
func (p *Places) Having(ctx context.Context, name string) []Place {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, havingPatience, errors.New("no answer"))
	defer cancel()
	var out []Place
	if _, err := p.docker.inspect(ctx, familiar(named)); err == nil {
		out = append(out, Docker)
	}
	if _, err := p.containerd.find(ctx, named); err == nil {
		out = append(out, Containerd)
	}
	return out
}

// familiar is a name as people write it: app:dev.
func familiar(named reference.Named) string { return reference.FamiliarString(named) }

// tag of a name, "" where it has a digest alone.
func tag(named reference.Named) string {
	if tagged, ok := named.(reference.Tagged); ok {
		return tagged.Tag()
	}
	return ""
}

// Source is an image in a place, which looks like the repository of its name: the
// tag of the name leads to the image.
type Source struct {
	layout.Repository
	tag   string
	image ocispec.Descriptor
	made  bool
}

// Warning says of an image whose place keeps no manifests that its digest is that
// of one that was made here; "" of any other.
func (s *Source) Warning() string {
	if !s.made {
		return ""
	}
	return fmt.Sprintf("its store keeps no digests: %s is of a manifest that was made here, and no registry's", s.image.Digest)
}

// Resolve finds the manifest of a tag or digest; "" is the image itself.
func (s *Source) Resolve(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, error) {
	if tagOrDigest == "" || tagOrDigest == s.tag || tagOrDigest == s.image.Digest.String() {
		return s.image, nil
	}
	return s.Repository.Resolve(ctx, tagOrDigest)
}

// Manifest reads a manifest or index by tag or digest, as a registry's repository does.
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

// readBuffer is how much is asked for at once of what is behind a socket.
const readBuffer = 1 << 20

// list is names for an error.
func list(names []string) string {
	const most = 5
	if len(names) > most {
		names = append(names[:most:most], "…")
	}
	return strings.Join(names, ", ")
}
