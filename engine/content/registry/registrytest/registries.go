// SPDX-License-Identifier: Apache-2.0

package registrytest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // driver "filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"   // driver "inmemory"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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
	return &lookedUp{
		next:  ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0))),
		repos: map[string]map[digest.Digest]bool{},
	}
}

// lookedUp answers requests for the referrers of a manifest that has none. A registry looks
// them up, but go-containerregistry decodes all manifests of the repository, and a benchmark on
// the same processors would measure that.
type lookedUp struct {
	next  http.Handler
	mu    sync.Mutex
	repos map[string]map[digest.Digest]bool // the subjects of the manifests in each repository
}

func (h *lookedUp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := parse(r.URL)
	switch {
	case req.kind == Manifests && r.Method == http.MethodPut:
		data, _ := io.ReadAll(r.Body) // an incomplete manifest is refused below
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(data), r.Body))
		h.put(req.name, data)
	case req.kind == Referrers && r.Method == http.MethodGet && h.nothing(req.name, digest.Digest(req.ref)):
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"manifests":[]}`, ocispec.MediaTypeImageIndex)
		return
	}
	h.next.ServeHTTP(w, r)
}

func (h *lookedUp) put(repo string, data []byte) {
	var manifest struct {
		Subject ocispec.Descriptor `json:"subject"`
	}
	_ = json.Unmarshal(data, &manifest) // anything else has no subject
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.repos[repo] == nil {
		h.repos[repo] = map[digest.Digest]bool{}
	}
	h.repos[repo][manifest.Subject.Digest] = true
}

// nothing reports whether a repository has manifests, and none has the subject.
func (h *lookedUp) nothing(repo string, subject digest.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	subjects, known := h.repos[repo]
	return known && !subjects[subject] && subject.Validate() == nil
}

// TwoRequests returns a registry that accepts a blob only with the two requests of an
// upload, as most do. It ignores a blob in the first request.
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
