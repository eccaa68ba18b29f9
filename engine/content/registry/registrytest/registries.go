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
	config.HTTP.Secret = "registrytest" // signs the state of uploads; otherwise generated with a warning
	config.Catalog.MaxEntries = 1000
	return handlers.NewApp(context.Background(), config)
}

// GGCR makes go-containerregistry's registry in memory, with the referrers API.
// It sends no OCI-Subject, and reports the config's media type as a referrer's
// artifactType.
func GGCR() http.Handler {
	return &lookedUp{
		next:  ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0))),
		repos: map[string]map[digest.Digest]bool{},
	}
}

// lookedUp answers that nothing is about a manifest, which is what most are asked for
// in vain: go-containerregistry decodes all manifests of the repository to find out, where
// a registry looks it up. A benchmark on the same processors would measure that.
type lookedUp struct {
	next  http.Handler
	mu    sync.Mutex
	repos map[string]map[digest.Digest]bool // the subjects of what was put
}

func (h *lookedUp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := parse(r.URL)
	switch {
	case req.kind == Manifests && r.Method == http.MethodPut:
		data, _ := io.ReadAll(r.Body) // what broke off is refused below
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
	_ = json.Unmarshal(data, &manifest) // what is none has no subject
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.repos[repo] == nil {
		h.repos[repo] = map[digest.Digest]bool{}
	}
	h.repos[repo][manifest.Subject.Digest] = true
}

// nothing reports whether a repository has manifests, and none is about the subject.
func (h *lookedUp) nothing(repo string, subject digest.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	subjects, known := h.repos[repo]
	return known && !subjects[subject] && subject.Validate() == nil
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
