// SPDX-License-Identifier: Apache-2.0

package registrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Upstream is a read-only registry that generates what is requested. A tag is
// generated with its first request, after which its content exists by digest too.
// Two upstreams generate the same bytes for the same names.
type Upstream struct {
	// Image returns the image of a name, such as docker.io/library/nginx, and a
	// tag; false means that the tag does not exist. The name has no host if the
	// request to a mirror has none. Image is called with every request of the
	// tag, so that the image may change, and from any goroutine. If it is nil,
	// every image is Published.
	Image func(name, tag string) (Image, bool)
	// NoReferrersAPI serves referrers only under the fallback tag sha256-<hex>.
	NoReferrersAPI bool

	mu     sync.Mutex
	repos  map[string]*repository
	layers map[string]layer
	block  []byte
}

type layer struct {
	noise
	digest digest.Digest
}

// repository is what was generated for one name.
type repository struct {
	made      map[string]Image // by tag
	tags      map[string]ocispec.Descriptor
	manifests map[digest.Digest]manifest
	blobs     map[digest.Digest]any // []byte or noise
	referrers map[digest.Digest][]ocispec.Descriptor
}

type manifest struct {
	mediaType string
	data      []byte
}

// related matches the tags for what is attached to a manifest, which are never generated.
var related = regexp.MustCompile(`^sha256-[a-f0-9]{64}(\.[a-z]+)?$`)

// Resolve returns the descriptor of a tag, whose content is generated if necessary.
// It fails if the tag does not exist.
func (u *Upstream) Resolve(name, tag string) (ocispec.Descriptor, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	desc, ok := u.repository(name).resolve(u, name, tag)
	if !ok {
		return ocispec.Descriptor{}, fmt.Errorf("no %s:%s", name, tag)
	}
	return desc, nil
}

// Manifest returns the bytes of a generated manifest, nil if there is none.
func (u *Upstream) Manifest(name string, d digest.Digest) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.repository(name).manifests[d].data
}

// repository returns the state of a name. The lock is held.
func (u *Upstream) repository(name string) *repository {
	if u.repos == nil {
		u.repos = map[string]*repository{}
	}
	if u.repos[name] == nil {
		u.repos[name] = &repository{
			made: map[string]Image{}, tags: map[string]ocispec.Descriptor{}, manifests: map[digest.Digest]manifest{},
			blobs: map[digest.Digest]any{}, referrers: map[digest.Digest][]ocispec.Descriptor{},
		}
	}
	return u.repos[name]
}

// layer returns a layer, which is generated once. The lock is held.
func (u *Upstream) layer(seed string, size int64) (noise, digest.Digest) {
	if u.block == nil {
		u.block, u.layers = newBlock(), map[string]layer{}
	}
	key := fmt.Sprintf("%s %d", seed, size)
	l, ok := u.layers[key]
	if !ok {
		n := newNoise(u.block, seed, size)
		l = layer{n, n.digest()}
		u.layers[key] = l
	}
	return l.noise, l.digest
}

// resolve returns the descriptor of a tag, which is generated if it is new or has changed.
func (r *repository) resolve(u *Upstream, name, tag string) (ocispec.Descriptor, bool) {
	if related.MatchString(tag) {
		desc, ok := r.tags[tag]
		if !ok && u.NoReferrersAPI && !strings.Contains(tag, ".") {
			desc, ok = r.fallback(digest.NewDigestFromEncoded(digest.SHA256, strings.TrimPrefix(tag, "sha256-")))
		}
		return desc, ok
	}
	img, ok := Published(), true
	if u.Image != nil {
		img, ok = u.Image(name, tag)
	}
	if !ok {
		return ocispec.Descriptor{}, false
	}
	if made, ok := r.made[tag]; !ok || !reflect.DeepEqual(made, img) {
		r.made[tag] = img
		r.tags[tag] = maker{repository: r, up: u, seed: name + ":" + tag, img: img}.make()
	}
	return r.tags[tag], true
}

// fallback makes the index of the fallback tag for the referrers API.
func (r *repository) fallback(subject digest.Digest) (ocispec.Descriptor, bool) {
	if len(r.referrers[subject]) == 0 {
		return ocispec.Descriptor{}, false
	}
	return maker{repository: r}.manifest(ocispec.MediaTypeImageIndex, referrersIndex(r.referrers[subject])), true
}

func referrersIndex(descs []ocispec.Descriptor) ocispec.Index {
	if descs == nil {
		descs = []ocispec.Descriptor{}
	}
	return ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: descs,
	}
}

// ServeHTTP implements http.Handler.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		deny(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry is read-only")
		return
	}
	req := parse(r.URL)
	switch req.kind {
	case Ping:
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	case Manifests:
		m, d, ok := u.findManifest(req)
		if !ok {
			deny(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
			return
		}
		w.Header().Set("Content-Type", m.mediaType)
		w.Header().Set("Docker-Content-Digest", d.String())
		w.Header().Set("Content-Length", strconv.Itoa(len(m.data)))
		if r.Method == http.MethodGet {
			w.Write(m.data) //nolint:errcheck // the client has disconnected
		}
	case Blobs:
		u.mu.Lock()
		blob := u.repository(req.name).blobs[digest.Digest(req.ref)]
		u.mu.Unlock()
		var content io.ReadSeeker
		switch b := blob.(type) {
		case []byte:
			content = bytes.NewReader(b)
		case noise:
			content = io.NewSectionReader(b, 0, b.size)
		default:
			deny(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Docker-Content-Digest", req.ref)
		http.ServeContent(w, r, "", time.Time{}, content)
	case Referrers:
		if u.NoReferrersAPI {
			deny(w, http.StatusNotFound, "UNSUPPORTED", "no such route")
			return
		}
		u.mu.Lock()
		index := referrersIndex(u.repository(req.name).referrers[digest.Digest(req.ref)])
		u.mu.Unlock()
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		w.Write(mustJSON(index)) //nolint:errcheck // the client has disconnected
	default:
		deny(w, http.StatusNotFound, "UNSUPPORTED", "no such route")
	}
}

func (u *Upstream) findManifest(req request) (manifest, digest.Digest, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	repo, d := u.repository(req.name), digest.Digest(req.ref)
	if d.Validate() != nil {
		desc, ok := repo.resolve(u, req.name, req.ref)
		if !ok {
			return manifest{}, "", false
		}
		d = desc.Digest
	}
	m, ok := repo.manifests[d]
	return m, d, ok
}

// deny answers with an error in the form of the distribution specification.
func deny(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}}) //nolint:errcheck // the client has disconnected
}
