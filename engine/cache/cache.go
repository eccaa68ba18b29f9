// SPDX-License-Identifier: Apache-2.0

// Package cache maps the key of a node to the descriptors of its outputs. The outputs
// themselves are blobs in a content store.
//
// Each entry is a small file named by its key. It is written to a temporary file and
// renamed, so any number of processes may share a folder: the last writer of a key wins,
// and readers see complete entries only. Nothing is synced to disk; an entry that a crash
// truncated, or that was modified, fails its checksum and is treated as absent.
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
	"github.com/taped-dev/tape/internal/replace"
)

const (
	// freshness is the precision of Entry.Used. It is coarse so that a hit rarely writes.
	freshness = time.Hour
	// abandoned is the age at which a temporary file is assumed to have no writer.
	abandoned = 24 * time.Hour

	temporary = ".tmp-"
)

// Cache is a folder of entries. Its methods may be called concurrently.
type Cache struct {
	dir string
}

// Open returns the cache in a folder. The folder is created with the first entry.
func Open(dir string) *Cache { return &Cache{dir: dir} }

// Entry is a cache entry.
type Entry struct {
	Key     digest.Digest
	Outputs map[string]ocispec.Descriptor
	// Used is the time of the last read or write, to within an hour.
	Used time.Time
}

// document is the content of an entry's file, after a line with its checksum. It includes
// the key, so that a renamed file is detected.
type document struct {
	Key     digest.Digest                 `json:"key"`
	Outputs map[string]ocispec.Descriptor `json:"outputs"`
}

// Get returns the outputs for the key, or an error of class ErrNotFound.
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
		// If this fails, the entry may be evicted early.
		_ = os.Chtimes(file, now, now)
	}
	return entry.Outputs, nil
}

// Put stores outputs for the key.
func (c *Cache) Put(_ context.Context, key digest.Digest, outputs map[string]ocispec.Descriptor) error {
	file, err := c.file(key)
	if err != nil {
		return err
	}
	body, err := json.Marshal(document{Key: key, Outputs: outputs})
	if err != nil {
		return fmt.Errorf("encode cache entry: %w", err)
	}
	err = os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = replace.File(file, temporary, fmt.Appendf(nil, "%s\n%s", digest.FromBytes(body), body), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write cache entry: %w", err)
	}
	return nil
}

// Entries returns the valid entries, least recently used first.
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

// Sweep removes the entries for which keep returns false, damaged entries, and temporary
// files that a crash left behind.
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

// walk calls fn for every file. Files that another process removes meanwhile are skipped.
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

// file returns the path of an entry. 256 folders keep each of them small.
func (c *Cache) file(key digest.Digest) (string, error) {
	if err := key.Validate(); err != nil {
		return "", fmt.Errorf("cache key %q: %w: %w", key, err, errdefs.ErrInvalidArgument)
	}
	return filepath.Join(c.dir, key.Encoded()[:2], key.Encoded()), nil
}

// read reads and validates an entry.
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
		return Entry{}, damaged(file, "it belongs to another key")
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
