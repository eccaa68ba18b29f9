// SPDX-License-Identifier: Apache-2.0

// Package cache remembers what came of a node: for the key of a node, the
// descriptors of its outputs. The outputs themselves are blobs in a store.
//
// An entry is one small file, named by its key, written beside its place and
// renamed, so that any number of processes may read and write one folder at
// once: the last writer of a key wins, and a reader sees a whole entry or none.
// Nothing is synced to disk. An entry that a crash tore, or that somebody
// changed, does not match its checksum and counts as absent.
package cache

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
)

const (
	// freshness is how exactly the last use of an entry is known. Coarse, so
	// that a hit mostly reads and does not write.
	freshness = time.Hour
	// abandoned is the age at which a temporary file has lost its writer.
	abandoned = 24 * time.Hour

	temporary = ".tmp-"
)

// Cache is a folder of entries. Its methods may be called concurrently.
type Cache struct {
	dir string
}

// Open names the folder. It is made when the first entry is.
func Open(dir string) *Cache { return &Cache{dir: dir} }

// Entry is what is remembered for a key.
type Entry struct {
	Key     digest.Digest
	Outputs map[string]ocispec.Descriptor
	// Used is when it was last written or read, to within an hour.
	Used time.Time
}

// document is an entry as it lies on disk, after the line with its checksum. It
// holds its key, so that a file under another's name is found out.
type document struct {
	Key     digest.Digest                 `json:"key"`
	Outputs map[string]ocispec.Descriptor `json:"outputs"`
}

// Get returns what was put under the key, or an error of class ErrNotFound.
func (c *Cache) Get(_ context.Context, key digest.Digest) (map[string]ocispec.Descriptor, error) {
	file, err := c.file(key)
	if err != nil {
		return nil, err
	}
	entry, err := read(file)
	if err != nil {
		return nil, err
	}
	if now := time.Now(); now.Sub(entry.Used) > freshness {
		// A failure costs an early eviction at worst.
		_ = os.Chtimes(file, now, now)
	}
	return entry.Outputs, nil
}

// Put remembers outputs under the key.
func (c *Cache) Put(_ context.Context, key digest.Digest, outputs map[string]ocispec.Descriptor) error {
	file, err := c.file(key)
	if err != nil {
		return err
	}
	body, err := json.Marshal(document{Key: key, Outputs: outputs})
	if err != nil {
		return fmt.Errorf("encode cache entry: %w", err)
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write cache entry: %w", err)
	}
	tmp, err := os.CreateTemp(dir, temporary+"*")
	if err != nil {
		return fmt.Errorf("write cache entry: %w", err)
	}
	_, err = fmt.Fprintf(tmp, "%s\n%s", digest.FromBytes(body), body)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write cache entry: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}

// Entries lists the sound entries, least recently used first.
func (c *Cache) Entries() ([]Entry, error) {
	var entries []Entry
	err := c.walk(func(file string, _ fs.FileInfo) error {
		if entry, err := read(file); err == nil {
			entries = append(entries, entry)
		}
		return nil
	})
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(a.Used.Compare(b.Used), strings.Compare(a.Key.String(), b.Key.String()))
	})
	return entries, err
}

// Sweep removes the entries that keep does not want, the damaged ones, and what
// a crash left behind.
func (c *Cache) Sweep(keep func(Entry) bool) error {
	return c.walk(func(file string, info fs.FileInfo) error {
		if strings.HasPrefix(info.Name(), temporary) {
			if time.Since(info.ModTime()) < abandoned {
				return nil
			}
		} else if entry, err := read(file); err == nil && keep(entry) {
			return nil
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove cache entry: %w", err)
		}
		return nil
	})
}

// walk calls fn for every file. One that another process removes meanwhile is
// passed over.
func (c *Cache) walk(fn func(file string, info fs.FileInfo) error) error {
	return filepath.WalkDir(c.dir, func(file string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			return nil
		}
		var info fs.FileInfo
		if err == nil {
			info, err = entry.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list cache entries: %w", err)
		}
		return fn(file, info)
	})
}

// file is where the entry of a key lies. 256 folders keep each of them short.
func (c *Cache) file(key digest.Digest) (string, error) {
	if err := key.Validate(); err != nil {
		return "", fmt.Errorf("cache key %q: %w: %w", key, err, errdefs.ErrInvalidArgument)
	}
	return filepath.Join(c.dir, key.Encoded()[:2], key.Encoded()), nil
}

// read reads an entry and believes nothing of it.
func read(file string) (Entry, error) {
	info, err := os.Stat(file)
	if err != nil {
		return Entry{}, absent(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return Entry{}, absent(err)
	}
	sum, body, _ := bytes.Cut(data, []byte("\n"))
	if digest.Digest(sum) != digest.FromBytes(body) {
		return Entry{}, damaged(file, "checksum does not match")
	}
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		return Entry{}, damaged(file, err.Error())
	}
	if doc.Key.Validate() != nil || doc.Key.Encoded() != filepath.Base(file) {
		return Entry{}, damaged(file, "it is the entry of another key")
	}
	for name, desc := range doc.Outputs {
		if err := descriptor.Check(desc); err != nil {
			return Entry{}, damaged(file, fmt.Sprintf("output %s: %v", name, err))
		}
	}
	return Entry{Key: doc.Key, Outputs: doc.Outputs, Used: info.ModTime()}, nil
}

func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cache entry: %w", errdefs.ErrNotFound)
	}
	return fmt.Errorf("read cache entry: %w", err)
}

func damaged(file, reason string) error {
	return fmt.Errorf("cache entry %s is damaged, %s: %w", file, reason, errdefs.ErrNotFound)
}
