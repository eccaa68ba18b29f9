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
