// SPDX-License-Identifier: Apache-2.0

// Package registries accesses registries like tape, for interpreters that fetch from them:
// through the mirrors in containerd's hosts.toml files, with tape's CA file, and without TLS
// for the hosts that tape's user lists.
package registries

import (
	"cmp"
	"context"
	"crypto/tls"
	"net/http"

	"github.com/containerd/containerd/v2/core/remotes/docker"

	"github.com/taped-dev/tape/internal/authorities"
	"github.com/taped-dev/tape/internal/hoststoml"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// TLS returns the configuration of a client. It trusts the system's authorities and those
// of tape's CA file; without one it is nil.
func TLS(how *interpreter.Registries) (*tls.Config, error) {
	if how == nil || how.CAFile == "" {
		return nil, nil
	}
	pool, err := authorities.Read(how.CAFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// Hosts returns the hosts of a registry: its mirrors, then the registry itself. login, which
// may be nil, returns the credentials of a host. An unreadable hosts.toml is an error, because
// requests would be sent to the wrong hosts.
func Hosts(ctx context.Context, how *interpreter.Registries, registry string, login func(host string) (user, secret string, err error)) ([]docker.RegistryHost, error) {
	how = cmp.Or(how, &interpreter.Registries{})
	tlsConfig, err := TLS(how)
	if err != nil {
		return nil, err
	}
	return hoststoml.Hosts(ctx, registry, hoststoml.Options{
		Dir: how.HostsDir, PlainHTTP: how.PlainHTTP, Credentials: login,
		Update: func(c *http.Client) error {
			if t, ok := c.Transport.(*http.Transport); ok && tlsConfig != nil {
				t.TLSClientConfig.RootCAs = tlsConfig.RootCAs.Clone() // a hosts.toml may add to it
			}
			return nil
		},
	})
}
