// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
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
// repository and digest, and of the digests that tags had. It is a cache and no
// more: a file is written without being synced, and believed only if it has the
// digest that it is looked up by.
// Where dir is empty nothing is kept.
//
// Only sources have one. What lies in a destination is asked of it, as it may
// have been removed there.
type kept struct{ dir string }

// file is named by the key; 256 folders keep each of them short.
func (k kept) file(key string) string {
	name := digest.FromString(key).Encoded()
	return filepath.Join(k.dir, name[:2], name)
}

func (k kept) get(repository string, dgst digest.Digest) (ocispec.Descriptor, []byte, bool) {
	if dgst.Validate() != nil {
		return ocispec.Descriptor{}, nil, false
	}
	content := k.read(repository + "@" + dgst.String())
	mediaType, data, _ := bytes.Cut(content, []byte("\n"))
	if !IsManifest(string(mediaType)) || dgst.Algorithm().FromBytes(data) != dgst {
		return ocispec.Descriptor{}, nil, false
	}
	return ocispec.Descriptor{MediaType: string(mediaType), Digest: dgst, Size: int64(len(data))}, data, true
}

func (k kept) put(repository string, desc ocispec.Descriptor, data []byte) error {
	return k.write(repository+"@"+desc.Digest.String(), fmt.Appendf(nil, "%s\n%s", desc.MediaType, data))
}

// tag is the digest that a tag had when it was last read, "" where none is known.
// A wrong one costs a request.
func (k kept) tag(repository, tag string) digest.Digest {
	return digest.Digest(k.read(repository + ":" + tag))
}

func (k kept) putTag(repository, tag string, dgst digest.Digest) error {
	return k.write(repository+":"+tag, []byte(dgst))
}

func (k kept) read(key string) []byte {
	if k.dir == "" {
		return nil
	}
	file := k.file(key)
	content, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	if info, err := os.Stat(file); err == nil && time.Since(info.ModTime()) > keptFreshness {
		// A failure costs an early removal at worst.
		_ = os.Chtimes(file, time.Time{}, time.Now())
	}
	return content
}

func (k kept) write(key string, content []byte) error {
	if k.dir == "" {
		return nil
	}
	file := k.file(key)
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	tmp, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep manifest: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}

// Remember keeps for later runs, in [Options.ManifestDir], that the repository has
// an index and all that it names. One index of a repository is remembered.
func (r *Repository) Remember(ctx context.Context, desc ocispec.Descriptor, data []byte) {
	if err := (kept{r.client.options.ManifestDir}).put(r.name, ocispec.Descriptor{MediaType: desc.MediaType, Digest: remembered}, data); err != nil {
		r.client.log.DebugContext(ctx, "not remembered", "index", r.Ref(desc.Digest.String()), "error", err)
	}
}

// Remembered is the index of the last Remember if the repository, which is asked,
// still has it; else it is nil. The registry has taken nothing of it away since,
// or it has broken its own index.
func (r *Repository) Remembered(ctx context.Context) ([]byte, error) {
	content := kept{r.client.options.ManifestDir}.read(r.name + "@" + remembered.String())
	mediaType, data, _ := bytes.Cut(content, []byte("\n"))
	if !IsManifest(string(mediaType)) {
		return nil, nil
	}
	there, err := r.Exists(ctx, ocispec.Descriptor{MediaType: string(mediaType), Digest: digest.FromBytes(data)})
	if err != nil || !there {
		return nil, err
	}
	return data, nil
}

// remembered stands in a key where kept manifests have their digest.
const remembered digest.Digest = "remembered"
