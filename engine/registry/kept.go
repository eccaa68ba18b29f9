// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// keptFreshness is how exactly the last use of a kept manifest is known.
const keptFreshness = time.Hour

// kept is a folder of manifests that were read from sources, one file each, by
// repository and digest. It is a cache and no more: a file is written without
// being synced, and believed only if it has the digest that it is looked up by.
// Where dir is empty nothing is kept.
//
// Only sources have one. What lies in a destination is asked of it, as it may
// have been removed there.
type kept struct{ dir string }

// file is named by the key; 256 folders keep each of them short.
func (k kept) file(repository string, dgst digest.Digest) string {
	key := digest.FromString(repository + "@" + dgst.String()).Encoded()
	return filepath.Join(k.dir, key[:2], key)
}

func (k kept) get(repository string, dgst digest.Digest) (ocispec.Descriptor, []byte, bool) {
	if k.dir == "" || dgst.Validate() != nil {
		return ocispec.Descriptor{}, nil, false
	}
	file := k.file(repository, dgst)
	content, err := os.ReadFile(file)
	if err != nil {
		return ocispec.Descriptor{}, nil, false
	}
	mediaType, data, _ := bytes.Cut(content, []byte("\n"))
	if !IsManifest(string(mediaType)) || dgst.Algorithm().FromBytes(data) != dgst {
		return ocispec.Descriptor{}, nil, false
	}
	if info, err := os.Stat(file); err == nil && time.Since(info.ModTime()) > keptFreshness {
		// A failure costs an early removal at worst.
		_ = os.Chtimes(file, time.Time{}, time.Now())
	}
	return ocispec.Descriptor{MediaType: string(mediaType), Digest: dgst, Size: int64(len(data))}, data, true
}

func (k kept) put(repository string, desc ocispec.Descriptor, data []byte) error {
	if k.dir == "" {
		return nil
	}
	file := k.file(repository, desc.Digest)
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	tmp, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	_, err = fmt.Fprintf(tmp, "%s\n%s", desc.MediaType, data)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep manifest: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}
