// SPDX-License-Identifier: Apache-2.0

// Package hoststoml reads containerd's hosts.toml files, which determine the hosts of a
// registry, for tape itself and for interpreters that fetch from registries.
package hoststoml

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"

	"github.com/taped-dev/tape/internal/regular"
)

// defaultHosts is the folder of the hosts.toml for registries without one of their own.
const defaultHosts = "_default"

// Options configure how registries are accessed. With the zero value each is accessed at its
// own address.
type Options struct {
	// Dir is a folder of hosts.toml files, in containerd's layout; "" is none.
	Dir string
	// Own ignores the hosts.toml for all registries.
	Own bool
	// PlainHTTP lists registries that are accessed without TLS.
	PlainHTTP []string
	// Credentials returns the credentials of a host; it may be nil.
	Credentials func(host string) (user, secret string, err error)
	// Update is called with the client of each host, whose transport is an [http.Transport].
	Update func(*http.Client) error
}

// Hosts returns the hosts of a registry: its mirrors, then the registry itself. An unreadable
// hosts.toml is an error, because requests would be sent to the wrong hosts.
func Hosts(ctx context.Context, registry string, o Options) ([]docker.RegistryHost, error) {
	options := config.HostOptions{Credentials: o.Credentials, UpdateClient: o.Update}
	if slices.Contains(o.PlainHTTP, registry) {
		options.DefaultScheme = "http"
	}
	if o.Dir != "" {
		options.HostDir = o.find
	}
	// containerd logs a hosts.toml that it cannot read, and continues without it.
	broken := &firstError{}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.AddHook(broken)
	hosts, err := config.ConfigureHosts(log.WithLogger(ctx, logrus.NewEntry(logger)), options)(registry)
	if err = cmp.Or(err, broken.err); err != nil {
		return nil, fmt.Errorf("%s: hosts.toml of %s: %w", o.Dir, registry, err)
	}
	return hosts, nil
}

// find returns the folder of a host.
func (o Options) find(host string) (string, error) {
	dir, err := config.HostDirFromRoot(o.Dir)(host)
	if err == nil && o.Own && filepath.Base(dir) == defaultHosts {
		return "", errdefs.ErrNotFound
	}
	if err != nil {
		return "", err
	}
	// containerd would block on a pipe, and read a device forever.
	if _, err := regular.ReadFile(filepath.Join(dir, "hosts.toml")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return dir, nil
}

// firstError is a hook that keeps the first logged error.
type firstError struct{ err error }

func (*firstError) Levels() []logrus.Level { return []logrus.Level{logrus.ErrorLevel} }

func (f *firstError) Fire(entry *logrus.Entry) error {
	if err, ok := entry.Data[logrus.ErrorKey].(error); ok && f.err == nil {
		f.err = err
	}
	return nil
}
