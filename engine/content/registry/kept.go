// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
)

const (
	// maxKept is the size in bytes at which the file is rewritten.
	maxKept = 32 << 20
	// keptFreshness is the precision of the time of last use.
	keptFreshness = time.Hour
)

// kept remembers between runs the manifests that were read from sources, by repository and
// digest, and the digests of tags. It is a file that is only appended to: a record is a line of
// key, media type and base64, and the last record of a key is valid. (One file per record would
// cost more than reading the manifests again from a nearby registry.)
//
// It is only a cache. Nothing is synced; several processes may append at once; a torn record is
// ignored, and a manifest is used only if it has the digest that it is looked up by. A nil kept
// is empty.
//
// Only sources have one. A destination is always asked, because its content may have been
// removed.
type kept struct {
	name string

	mu      sync.Mutex
	loaded  bool
	records map[string]record
	file    *os.File // nil until something is written
}

// record is the rest of a line.
type record struct {
	mediaType string
	encoded   []byte
}

// newKept returns the cache in a file, which is read when it is first needed; "" gives nil.
func newKept(name string) *kept {
	if name == "" {
		return nil
	}
	return &kept{name: name, records: map[string]record{}}
}

func (k *kept) get(repository string, dgst digest.Digest) (ocispec.Descriptor, []byte, bool) {
	mediaType, data := k.read(manifestRecord(repository, dgst))
	if dgst.Validate() != nil || !descriptor.IsManifest(mediaType) || dgst.Algorithm().FromBytes(data) != dgst {
		return ocispec.Descriptor{}, nil, false
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: dgst, Size: int64(len(data))}, data, true
}

func (k *kept) put(repository string, desc ocispec.Descriptor, data []byte) error {
	return k.write(manifestRecord(repository, desc.Digest), desc.MediaType, data)
}

func (k *kept) putTag(repository, tag string, dgst digest.Digest) error {
	return k.write(repository+":"+tag, "tag", []byte(dgst))
}

func manifestRecord(repository string, dgst digest.Digest) string {
	return repository + "@" + dgst.String()
}

// tag returns the digest that a tag had when it was last read, "" if unknown. A wrong one costs
// a request.
func (k *kept) tag(repository, tag string) digest.Digest {
	_, data := k.read(repository + ":" + tag)
	return digest.Digest(data)
}

// Remember records for later runs, in [Options.ManifestFile], that the repository has an index
// and everything that it names. One index per repository is remembered.
func (r *Repository) Remember(ctx context.Context, desc ocispec.Descriptor, data []byte) {
	if err := r.client.kept.write(r.name, desc.MediaType, data); err != nil {
		r.client.log.DebugContext(ctx, "not remembered", "index", r.Ref(desc.Digest.String()), "error", err)
	}
}

// Remembered returns the index of the last Remember if the repository, which is asked, still
// has it; otherwise nil. Unless the registry has damaged its own index, everything that the
// index names is there too.
func (r *Repository) Remembered(ctx context.Context) ([]byte, error) {
	mediaType, data := r.client.kept.read(r.name)
	if !descriptor.IsManifest(mediaType) {
		return nil, nil
	}
	there, err := r.Exists(ctx, ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data)})
	if err != nil || !there {
		return nil, err
	}
	return data, nil
}

// begun is recorded for a repository until there is an index.
const begun = "begun"

func (r *Repository) begun() bool {
	what, _ := r.client.kept.read(r.name)
	return what == begun
}

func (k *kept) read(key string) (mediaType string, data []byte) {
	if k == nil {
		return "", nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.load()
	r := k.records[key]
	data, err := base64.StdEncoding.AppendDecode(nil, r.encoded)
	if err != nil {
		return "", nil
	}
	return r.mediaType, data
}

func (k *kept) write(key, mediaType string, data []byte) error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.load()
	r := record{mediaType, base64.StdEncoding.AppendEncode(nil, data)}
	if old := k.records[key]; old.mediaType == r.mediaType && bytes.Equal(old.encoded, r.encoded) {
		return nil
	}
	k.records[key] = r
	if k.file == nil {
		err := os.MkdirAll(filepath.Dir(k.name), 0o700)
		if err == nil {
			k.file, err = os.OpenFile(k.name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		}
		if err != nil {
			return fmt.Errorf("keep manifests: %w", err)
		}
	}
	// The newline also ends a torn record.
	if _, err := fmt.Fprintf(k.file, "\n%s %s %s\n", key, r.mediaType, r.encoded); err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	return nil
}

// load reads the file once. An unreadable file counts as empty.
func (k *kept) load() {
	if k.loaded {
		return
	}
	k.loaded = true
	info, err := os.Stat(k.name)
	if err != nil {
		return
	}
	if info.Size() > maxKept {
		_ = os.Remove(k.name) // if this fails, the next process tries
		return
	}
	content, err := os.ReadFile(k.name)
	if err != nil {
		return
	}
	for line := range bytes.Lines(content) {
		fields := bytes.Fields(line)
		if len(fields) == 3 && line[len(line)-1] == '\n' {
			k.records[string(fields[0])] = record{string(fields[1]), fields[2]}
		}
	}
	if time.Since(info.ModTime()) > keptFreshness {
		// If this fails, the file may be removed early.
		_ = os.Chtimes(k.name, time.Time{}, time.Now())
	}
}
