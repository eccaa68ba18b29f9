// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// lookedUp answers requests for the referrers of a manifest that has none. A registry looks
// them up, but go-containerregistry decodes all manifests of the repository, and the benchmark,
// on the same processors, would measure that.
type lookedUp struct {
	next  http.Handler
	mu    sync.Mutex
	repos map[string]map[string]bool // the subjects of the manifests in each repository
}

// newRegistry returns go-containerregistry's registry.
func newRegistry() http.Handler {
	return &lookedUp{next: registrytest.GGCR(), repos: map[string]map[string]bool{}}
}

var manifestPath = regexp.MustCompile(`^/v2/(.+)/(manifests|referrers)/([^/]+)$`)

func (h *lookedUp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m := manifestPath.FindStringSubmatch(r.URL.Path); m != nil {
		switch {
		case m[2] == "manifests" && r.Method == http.MethodPut:
			data, _ := io.ReadAll(r.Body) // an incomplete manifest is rejected below
			r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(data), r.Body))
			h.put(m[1], data)
		case m[2] == "referrers" && r.Method == http.MethodGet && h.nothing(m[1], m[3]):
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"manifests":[]}`, ocispec.MediaTypeImageIndex)
			return
		}
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
		h.repos[repo] = map[string]bool{}
	}
	h.repos[repo][manifest.Subject.Digest.String()] = true
}

// nothing reports whether a repository has manifests, and none has the subject.
func (h *lookedUp) nothing(repo, subject string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	subjects, known := h.repos[repo]
	return known && !subjects[subject]
}
