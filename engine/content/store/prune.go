// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/cache"
	"github.com/taped-dev/tape/engine/content/internal/class"
)

// abandoned is the age at which an ingest is assumed to have no writer. Prune holds the
// lock, so no writer should exist, but not all file systems lock reliably.
const abandoned = 24 * time.Hour

// Usage is what a store contains.
type Usage struct {
	Dir         string `json:"dir"`
	Results     int    `json:"results"` // results of nodes
	Blobs       int    `json:"blobs"`
	Bytes       int64  `json:"bytes"`   // of blobs
	Ingests     int    `json:"ingests"` // unfinished
	IngestBytes int64  `json:"ingestBytes"`
}

// Usage returns the usage of the store.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	usage := Usage{Dir: s.dir}
	entries, err := s.cache.Entries()
	if err != nil {
		return usage, err
	}
	usage.Results = len(entries)
	if err := s.Walk(ctx, func(info content.Info) error {
		usage.Blobs++
		usage.Bytes += info.Size
		return context.Cause(ctx)
	}); err != nil {
		return usage, fmt.Errorf("list blobs: %w", err)
	}
	err = walkIngests(s.dir, func(_ string, _ time.Time, size int64) error {
		usage.Ingests++
		usage.IngestBytes += size
		return nil
	})
	return usage, err
}

// PruneOptions select what to keep. Blobs that no result refers to, and ingests older than a
// day, are always removed.
type PruneOptions struct {
	MaxAge   time.Duration // remove results unused for longer; 0 means no limit
	MaxBytes int64         // remove least recently used results until the rest fits; 0 means no limit
	All      bool          // remove all results
}

// Pruned counts what was removed.
type Pruned struct {
	Results int   `json:"results"`
	Blobs   int   `json:"blobs"`
	Ingests int   `json:"ingests"`
	Bytes   int64 `json:"bytes"` // of blobs, ingests and kept manifests
}

// Prune removes from the store in a folder what the options do not keep. It returns an
// error of class ErrUnavailable if another process has the store open.
func Prune(ctx context.Context, dir string, o PruneOptions) (pruned Pruned, err error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return Pruned{}, nil
	}
	lock := flock.New(filepath.Join(dir, lockFile))
	locked, err := lock.TryLock()
	if err != nil {
		return Pruned{}, fmt.Errorf("lock store %s: %w", dir, err)
	}
	if !locked {
		return Pruned{}, class.Errorf(errdefs.ErrUnavailable, "store %s is used by another process, prune it when that is done", dir)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	inner, err := openLocal(dir)
	if err != nil {
		return Pruned{}, fmt.Errorf("open store %s: %w", dir, err)
	}
	s := newStore(inner, dir)
	sizes := map[digest.Digest]int64{}
	if err := s.Walk(ctx, func(info content.Info) error {
		sizes[info.Digest] = info.Size
		return nil
	}); err != nil {
		return Pruned{}, fmt.Errorf("list blobs: %w", err)
	}

	entries, err := s.cache.Entries()
	if err != nil {
		return Pruned{}, err
	}
	kept, marked := mark(entries, sizes, o, time.Now())
	pruned.Results = len(entries) - len(kept)
	// Remove results before their blobs: an interruption then leaves unreferenced blobs,
	// not results without blobs.
	if err := s.cache.Sweep(func(e cache.Entry) bool { return kept[e.Key] }); err != nil {
		return pruned, err
	}
	for dgst, size := range sizes {
		if err := context.Cause(ctx); err != nil {
			return pruned, err
		}
		if marked[dgst] {
			continue
		}
		if err := s.Delete(ctx, dgst); err != nil {
			return pruned, fmt.Errorf("remove blob %s: %w", dgst, err)
		}
		pruned.Blobs++
		pruned.Bytes += size
	}
	manifests, err := removeManifests(dir, o, time.Now())
	pruned.Bytes += manifests
	if err != nil {
		return pruned, err
	}
	err = walkIngests(dir, func(path string, at time.Time, size int64) error {
		if time.Since(at) < abandoned {
			return nil
		}
		pruned.Ingests++
		pruned.Bytes += size
		return os.RemoveAll(path)
	})
	return pruned, err
}

// mark selects the entries to keep and their blobs. Entries are sorted, least recently used
// first. An entry that lacks a blob is not kept. A descriptor with embedded data needs no
// blob.
func mark(entries []cache.Entry, sizes map[digest.Digest]int64, o PruneOptions, now time.Time) (kept, marked map[digest.Digest]bool) {
	kept, marked = map[digest.Digest]bool{}, map[digest.Digest]bool{}
	if o.All {
		return kept, marked
	}
	var total int64
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		if o.MaxAge > 0 && now.Sub(e.Used) > o.MaxAge {
			break
		}
		var more int64
		whole := true
		fresh := map[digest.Digest]bool{}
		for _, desc := range e.Outputs {
			if desc.Data != nil {
				continue
			}
			size, ok := sizes[desc.Digest]
			whole = whole && ok
			if !marked[desc.Digest] && !fresh[desc.Digest] {
				fresh[desc.Digest] = true
				more += size
			}
		}
		if !whole {
			continue
		}
		if o.MaxBytes > 0 && total+more > o.MaxBytes {
			break
		}
		total += more
		kept[e.Key] = true
		for dgst := range fresh {
			marked[dgst] = true
		}
	}
	return kept, marked
}

// walkIngests calls fn for every unfinished ingest with its folder, the time of the last
// write and its size.
func walkIngests(dir string, fn func(path string, at time.Time, size int64) error) error {
	ingests, err := os.ReadDir(filepath.Join(dir, IngestDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list ingests: %w", err)
	}
	for _, ingest := range ingests {
		path := filepath.Join(dir, IngestDir, ingest.Name())
		var size int64
		var at time.Time
		err := filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			if info.ModTime().After(at) {
				at = info.ModTime()
			}
			if info.Mode().IsRegular() {
				size += info.Size()
			}
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) {
			continue // finished in the meantime
		}
		if err == nil {
			err = fn(path, at, size)
		}
		if err != nil {
			return fmt.Errorf("ingest %s: %w", ingest.Name(), err)
		}
	}
	return nil
}

// ManifestFile returns the path of the file, in a store's folder, in which the registry
// client keeps manifests (registry.Options.ManifestFile). It only saves requests and may be
// removed at any time.
func ManifestFile(dir string) string { return filepath.Join(dir, "manifests") }

// removeManifests removes that file if it is older than the maximum age, or with o.All. It
// returns the number of bytes removed.
func removeManifests(dir string, o PruneOptions, now time.Time) (int64, error) {
	info, err := os.Stat(ManifestFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err == nil && !o.All && (o.MaxAge == 0 || now.Sub(info.ModTime()) <= o.MaxAge) {
		return 0, nil
	}
	if err == nil {
		err = os.Remove(ManifestFile(dir))
	}
	if err != nil {
		return 0, fmt.Errorf("remove kept manifests: %w", err)
	}
	return info.Size(), nil
}
