// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// ManifestDir is where, in a store's folder, the registry client keeps the
// manifests that it read (registry.Options.ManifestDir). They are files that
// anybody may remove: each saves a request and nothing more.
func ManifestDir(dir string) string { return filepath.Join(dir, "manifests") }

// sweepManifests removes those unused for longer than the age, or all, and
// counts their bytes.
func sweepManifests(dir string, o PruneOptions, now time.Time) (removed int64, err error) {
	err = filepath.WalkDir(ManifestDir(dir), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if !o.All && (o.MaxAge == 0 || now.Sub(info.ModTime()) <= o.MaxAge) {
			return nil
		}
		removed += info.Size()
		return os.Remove(path)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return removed, fmt.Errorf("remove kept manifests: %w", err)
	}
	return removed, nil
}
