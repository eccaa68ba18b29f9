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

// ManifestFile is where, in a store's folder, the registry client keeps the
// manifests that it read (registry.Options.ManifestFile). Anybody may remove it: it
// saves requests and nothing more.
func ManifestFile(dir string) string { return filepath.Join(dir, "manifests") }

// removeManifests removes the file where it was unused for longer than the age, or
// everything goes. It returns the bytes that are gone.
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
