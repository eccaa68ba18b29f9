// SPDX-License-Identifier: Apache-2.0

// Package hoststoml reads containerd's hosts.toml files, which say by way of which hosts a
// registry is reached, for tape itself and for interpreters that fetch from registries.
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

// defaultHosts is the folder of the hosts.toml for registries that have none of their own.
const defaultHosts = "_default"

// Options say how registries are reached. The zero value reaches each at its own address.
type Options struct {
	// Dir is a folder of hosts.toml files, laid out as containerd's; "" is none.
	Dir string
	// Own leaves out the hosts.toml that is for all registries.
	Own bool
	// PlainHTTP names registries that are spoken to without TLS.
	PlainHTTP []string
	// Credentials of a host; may be nil.
	Credentials func(host string) (user, secret string, err error)
	// Update is called with the client of each host, whose transport is an
	// [http.Transport].
	Update func(*http.Client) error
}

// Hosts returns the hosts of a registry: its mirrors, then the registry itself. A hosts.toml
// that cannot be read is an error: without it, requests would go elsewhere than they should.
func Hosts(ctx context.Context, registry string, o Options) ([]docker.RegistryHost, error) {
	options := config.HostOptions{Credentials: o.Credentials, UpdateClient: o.Update}
	if slices.Contains(o.PlainHTTP, registry) {
		options.DefaultScheme = "http"
	}
	if o.Dir != "" {
		options.HostDir = o.find
	}
	// containerd logs a hosts.toml that it cannot read, and goes on without.
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
	// containerd would wait for a pipe, and read a device for ever.
	if _, err := regular.ReadFile(filepath.Join(dir, "hosts.toml")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return dir, nil
}

// firstError is a hook that keeps the first error that is logged.
type firstError struct{ err error }

func (*firstError) Levels() []logrus.Level { return []logrus.Level{logrus.ErrorLevel} }

func (f *firstError) Fire(entry *logrus.Entry) error {
	if err, ok := entry.Data[logrus.ErrorKey].(error); ok && f.err == nil {
		f.err = err
	}
	return nil
}
