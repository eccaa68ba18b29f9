// SPDX-License-Identifier: Apache-2.0

package registrytest

import (
	"context"
	"io"
	"log"
	"net/http"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // driver "filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"   // driver "inmemory"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/sirupsen/logrus"
)

// Distribution returns a registry of CNCF distribution v3, which has no referrers
// API, and rejects manifests whose children are missing. It stores content in the
// folder dir, or in memory if dir is empty. It logs to the standard logger of
// logrus, whose output is discarded from then on.
func Distribution(dir string) http.Handler {
	logrus.SetOutput(io.Discard)
	config := &configuration.Configuration{
		Storage: configuration.Storage{
			"inmemory":    configuration.Parameters{},
			"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
			"delete":      configuration.Parameters{"enabled": true},
		},
	}
	if dir != "" {
		delete(config.Storage, "inmemory")
		config.Storage["filesystem"] = configuration.Parameters{"rootdirectory": dir}
	}
	config.HTTP.Secret = "registrytest" // signs the state of uploads; otherwise generated with a warning
	config.Catalog.MaxEntries = 1000
	return handlers.NewApp(context.Background(), config)
}

// GGCR returns go-containerregistry's registry in memory, with the referrers API.
// It sends no OCI-Subject, and reports the config's media type as a referrer's
// artifactType.
func GGCR() http.Handler {
	return ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0)))
}
