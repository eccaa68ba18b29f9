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

// Distribution makes a registry of CNCF distribution v3, which has no referrers
// API and stores no manifest whose children it lacks. It keeps what is pushed
// in the folder dir, or in memory where dir is empty. It logs by the process's
// standard logger of logrus, whose output is discarded from then on.
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
	config.HTTP.Secret = "registrytest" // signs the state of uploads; else made anew with a warning
	config.Catalog.MaxEntries = 1000
	return handlers.NewApp(context.Background(), config)
}

// GGCR makes go-containerregistry's registry in memory, with the referrers API.
// It sends no OCI-Subject, and reports the config's media type as a referrer's
// artifactType.
func GGCR() http.Handler {
	return ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0)))
}

// TwoRequests is a registry that takes a blob with the two requests of an upload
// only, as most do: one that comes with the first is not looked at.
func TwoRequests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if query := r.URL.Query(); r.Method == http.MethodPost && query.Has("digest") {
			query.Del("digest")
			r.URL.RawQuery = query.Encode()
			r.Body, r.ContentLength = http.NoBody, 0
		}
		next.ServeHTTP(w, r)
	})
}
