// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"os"
	"sync"

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
