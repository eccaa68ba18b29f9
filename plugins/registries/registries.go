// SPDX-License-Identifier: Apache-2.0

// Package registries reaches registries as tape does, for interpreters that fetch from
// them: by way of the mirrors in containerd's hosts.toml files, with tape's CA file, and
// without TLS where tape was told so.
package registries

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// TLS returns the configuration of a client. It trusts the system's authorities and those
// of tape's CA file; without one it is nil.
func TLS(how *interpreter.Registries) (*tls.Config, error) {
	if how == nil || how.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(how.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's certificate authorities: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %s holds no certificate", how.CAFile)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// Hosts returns the hosts of a registry: its mirrors, then the registry itself. login, which
// may be nil, returns the credentials of a host. A hosts.toml that cannot be read is an error:
// without it, requests would go elsewhere than they are to.
func Hosts(ctx context.Context, how *interpreter.Registries, registry string, login func(host string) (user, secret string, err error)) ([]docker.RegistryHost, error) {
	if how == nil {
		how = &interpreter.Registries{}
	}
	tlsConfig, err := TLS(how)
	if err != nil {
		return nil, err
	}
	options := config.HostOptions{
		Credentials: login,
		UpdateClient: func(c *http.Client) error {
			if t, ok := c.Transport.(*http.Transport); ok && tlsConfig != nil {
				t.TLSClientConfig.RootCAs = tlsConfig.RootCAs.Clone() // a hosts.toml may add to it
			}
			return nil
		},
	}
	if how.HostsDir != "" {
		options.HostDir = hostDir(how.HostsDir)
	}
	if slices.Contains(how.PlainHTTP, registry) {
		options.DefaultScheme = "http"
	}
	// containerd logs a hosts.toml that it cannot read, and goes on without.
	broken := &firstError{}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.AddHook(broken)
	hosts, err := config.ConfigureHosts(log.WithLogger(ctx, logrus.NewEntry(logger)), options)(registry)
	if err = cmp.Or(err, broken.err); err != nil {
		return nil, fmt.Errorf("hosts.toml of %s: %w", registry, err)
	}
	return hosts, nil
}

// hostDir finds the folder of a registry. What is not a regular file is refused:
// containerd would wait for a pipe.
func hostDir(root string) func(string) (string, error) {
	find := config.HostDirFromRoot(root)
	return func(registry string) (string, error) {
		dir, err := find(registry)
		if err != nil {
			return "", err
		}
		file := filepath.Join(dir, "hosts.toml")
		if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
			return "", fmt.Errorf("%s is not a regular file", file)
		}
		return dir, nil
	}
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
