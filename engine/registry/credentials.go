// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
)

// Docker Hub is spoken of by three names.
const (
	hubHost   = "registry-1.docker.io"
	hubName   = "docker.io"
	hubConfig = "https://index.docker.io/v1/"
)

// dockerCredentials are those of the docker command: its configuration, in
// $DOCKER_CONFIG or ~/.docker, and the helpers that it names. It is read once, when
// the first registry asks.
func dockerCredentials() func(host string) (user, secret string, err error) {
	file := sync.OnceValues(func() (*configfile.ConfigFile, error) {
		return config.Load(os.Getenv(config.EnvOverrideConfigDir))
	})
	return func(host string) (string, string, error) {
		known, err := file()
		if err != nil {
			return "", "", fmt.Errorf("credentials for %s: %w", host, err)
		}
		if host == hubHost || host == hubName {
			host = hubConfig
		}
		auth, err := known.GetAuthConfig(host)
		if err != nil {
			return "", "", fmt.Errorf("credentials for %s: %w", host, err)
		}
		if auth.IdentityToken != "" {
			return "", auth.IdentityToken, nil
		}
		return auth.Username, auth.Password, nil
	}
}

// authorizer is containerd's, which keeps a token for as long as it is good, and for
// ever the error of one that could not be had, be it that somebody was interrupted.
// After an error this one starts anew.
type authorizer struct {
	start func() docker.Authorizer

	mu      sync.Mutex
	current docker.Authorizer
}

func newAuthorizer(start func() docker.Authorizer) *authorizer {
	return &authorizer{start: start, current: start()}
}

// Authorize implements [docker.Authorizer]. When it fails it closes the body of the
// request. containerd forgets to, and who writes to it would wait for ever.
func (a *authorizer) Authorize(ctx context.Context, req *http.Request) error {
	for {
		current := a.get()
		err := current.Authorize(ctx, req)
		if err == nil {
			return nil
		}
		a.mu.Lock()
		if a.current == current {
			a.current = a.start()
		}
		a.mu.Unlock()
		if !errors.Is(err, context.Canceled) || context.Cause(ctx) != nil {
			closeBody(req)
			return err
		}
		// Somebody else was interrupted who asked for the same token.
	}
}

// AddResponses implements [docker.Authorizer].
func (a *authorizer) AddResponses(ctx context.Context, responses []*http.Response) error {
	return a.get().AddResponses(ctx, responses)
}

func (a *authorizer) get() docker.Authorizer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current
}
