// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/internal/replace"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// cache keeps facts that are slow to compute between runs: the checksum of an executable,
// by the state of its file (reading one takes 45 MB of I/O), and its description, by its
// checksum (asking starts a process). Entries that cannot be read are recomputed, and
// failures to write are ignored. Files are replaced atomically, so several tape processes
// may share the cache.
type cache struct{ dir string }

type checksumEntry struct {
	File     fileID        `json:"file"`
	Checksum digest.Digest `json:"checksum"`
}

func (c cache) checksum(path string, id fileID) (digest.Digest, bool) {
	var e checksumEntry
	if !c.read(checksumFile(path), &e) || e.File != id || e.Checksum.Validate() != nil {
		return "", false
	}
	return e.Checksum, true
}

func checksumFile(path string) string {
	return filepath.Join("checksums", digest.FromString(path).Encoded()+".json")
}

func (c cache) description(sum digest.Digest) (interpreter.Description, bool) {
	var d interpreter.Description
	ok := c.read(descriptionFile(sum), &d)
	return d, ok && d.Name != ""
}

// descriptionFile returns the file of a description. The number in it is incremented when
// descriptions gain a field.
func descriptionFile(sum digest.Digest) string {
	return filepath.Join("descriptions", "1-"+sum.Encoded()+".json")
}

func (c cache) read(name string, v any) bool {
	if c.dir == "" {
		return false
	}
	data, err := os.ReadFile(filepath.Join(c.dir, name))
	return err == nil && json.Unmarshal(data, v) == nil
}

func (c cache) write(name string, v any) {
	if c.dir == "" {
		return
	}
	data, err := json.Marshal(v)
	if err != nil {
		return
	}
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return
	}
	_ = replace.File(path, ".new-", data, 0o600)
}
