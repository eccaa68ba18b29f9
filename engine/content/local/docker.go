// SPDX-License-Identifier: Apache-2.0

package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/internal/nearest"
)

// defaultDocker is the default address of the Docker daemon.
const defaultDocker = "unix:///var/run/docker.sock"

const (
	// dockerPatience is how long the daemon may take to answer, and dockerExport how long it
	// may send nothing of an image, which it first writes to its disk.
	dockerPatience = time.Minute
	dockerExport   = 10 * time.Minute
)

// docker accesses the Docker daemon. Its API is HTTP, of which three requests are needed.
type docker struct {
	connect func() (*dockerClient, error)
}

// dockerClient is a client for a daemon with a known address.
type dockerClient struct {
	host             string
	network, address string
	http             *http.Client
}

func connectDocker(host string) (*dockerClient, error) {
	if host == "" {
		var err error
		if host, err = contextHost(); err != nil {
			return nil, fmt.Errorf("find the Docker daemon, or say where it is with $DOCKER_HOST: %w", err)
		}
	}
	scheme, address, _ := strings.Cut(host, "://")
	if scheme != "unix" && (scheme != "tcp" || os.Getenv("DOCKER_TLS_VERIFY") != "") {
		return nil, fmt.Errorf("the Docker daemon at %s is not supported: tape connects to unix:///PATH and tcp://HOST:PORT without TLS; export images with docker save, and name them with archive:FILE", host)
	}
	d := &dockerClient{host: host, network: scheme, address: address}
	d.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, d.network, d.address)
		},
		DisableKeepAlives: true, // a few requests, and nothing to close
	}}
	return d, nil
}

// contextHost returns the daemon's address in the current context of the docker command.
func contextHost() (string, error) {
	// config.Dir would return the folder of its first call.
	dir, name := os.Getenv("DOCKER_CONFIG"), os.Getenv("DOCKER_CONTEXT")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil && name == "" {
			return defaultDocker, nil
		}
		if err != nil {
			return "", err
		}
		dir = filepath.Join(home, ".docker")
	}
	if name == "" {
		file, err := config.Load(dir)
		if err != nil {
			return "", err
		}
		name = file.CurrentContext
	}
	if name == "" || name == "default" {
		return defaultDocker, nil
	}
	data, err := os.ReadFile(filepath.Join(dir, "contexts", "meta", digest.FromString(name).Encoded(), "meta.json"))
	if err != nil {
		return "", fmt.Errorf("context %q: %w", name, err)
	}
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return "", fmt.Errorf("context %q: %w", name, err)
	}
	host := meta.Endpoints["docker"].Host
	if host == "" {
		return "", fmt.Errorf("context %q names no daemon", name)
	}
	return host, nil
}

// get sends a request to the daemon, which must not be silent for longer than the patience. The
// caller closes the body.
func (d *docker) get(ctx context.Context, path string, patience time.Duration) (_ io.ReadCloser, err error) {
	client, err := d.connect()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	silent := time.AfterFunc(patience, func() {
		cancel(fmt.Errorf("the Docker daemon at %s has sent nothing for %v; is it running?", client.host, patience))
	})
	defer func() {
		if err != nil {
			silent.Stop()
			cancel(nil)
		}
	}()
	target := url.URL{Scheme: "http", Host: "docker", Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask the Docker daemon: %w", err)
	}
	resp, err := client.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, unreachable("the Docker daemon", client.host, "DOCKER_HOST", err)
	}
	if resp.StatusCode == http.StatusOK {
		return &dockerBody{resp.Body, silent, patience, func() error { return context.Cause(ctx) }, cancel}, nil
	}
	defer resp.Body.Close()
	var answer struct{ Message string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, readBuffer)).Decode(&answer); err != nil {
		answer.Message = resp.Status
	}
	err = fmt.Errorf("the Docker daemon at %s: %s", client.host, answer.Message)
	if resp.StatusCode == http.StatusNotFound {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	return nil, err
}

// dockerBody is the body of an answer. A read fails once nothing has come for the patience.
type dockerBody struct {
	io.ReadCloser
	silent   *time.Timer
	patience time.Duration
	ended    func() error // the reason why the request ended, nil if it did not
	cancel   context.CancelCauseFunc
}

func (b *dockerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.silent.Reset(b.patience)
	}
	if cause := b.ended(); err != nil && !errors.Is(err, io.EOF) && cause != nil {
		err = cause
	}
	return n, err
}

func (b *dockerBody) Close() error {
	b.silent.Stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}

// unreachable returns an error with advice for a socket that does not answer. It drops the
// class of err, which callers would take for a registry's answer about an image.
func unreachable(what, at, variable string, err error) error {
	hint := "is it running? $" + variable + " says where it is"
	if errors.Is(err, syscall.EACCES) || errors.Is(err, fs.ErrPermission) {
		hint = "no permission for its socket: run as a user who may access it, or set another with $" + variable
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return fmt.Errorf("%s at %s cannot be reached: %v; %s", what, at, err, hint) //nolint:errorlint // see above
}

// inspect returns the daemon's ID of an image: with the containerd image store, the digest
// of its manifest or index, else that of its config.
func (d *docker) inspect(ctx context.Context, name string) (digest.Digest, error) {
	body, err := d.get(ctx, "/images/"+name+"/json", dockerPatience)
	if err != nil {
		return "", err
	}
	defer body.Close()
	var image struct {
		ID digest.Digest `json:"Id"`
	}
	if err := json.NewDecoder(body).Decode(&image); err != nil {
		return "", fmt.Errorf("the Docker daemon's answer about %s: %w", name, err)
	}
	return image.ID, nil
}

// near returns a hint to a similar name that the daemon has.
func (d *docker) near(ctx context.Context, name string) string {
	body, err := d.get(ctx, "/images/json", dockerPatience)
	if err != nil {
		return ""
	}
	defer body.Close()
	var images []struct{ RepoTags []string }
	if json.NewDecoder(body).Decode(&images) != nil {
		return ""
	}
	var names []string
	for _, image := range images {
		names = append(names, image.RepoTags...)
	}
	return nearest.Hint(name, slices.Values(names))
}

func (p *Places) openDocker(ctx context.Context, named reference.Named) (*Source, error) {
	name := reference.FamiliarString(named)
	id, err := p.docker.inspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("the Docker daemon has no image %s%s: %w", name, p.docker.near(ctx, name), errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	spool, err := p.spooled()
	if err != nil {
		return nil, err
	}
	choose := func(index ocispec.Index) (ocispec.Descriptor, error) { return pick(index, named) }
	source, err := spool.image(ctx, id.String(), choose, id, func() (io.ReadCloser, error) {
		return p.docker.get(ctx, "/images/"+name+"/get", dockerExport)
	})
	if err != nil {
		return nil, fmt.Errorf("take %s from the Docker daemon: %w", name, err)
	}
	source.tag = tag(named)
	return source, nil
}
