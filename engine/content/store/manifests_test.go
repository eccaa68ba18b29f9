// SPDX-License-Identifier: Apache-2.0

package store

import (
	"os"
	"testing"
	"time"
)

func TestPruneRemovesKeptManifests(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    PruneOptions
		age  time.Duration
		gone bool
	}{
		{"no limit", PruneOptions{}, 2 * time.Hour, false},
		{"used", PruneOptions{MaxAge: time.Hour}, 0, false},
		{"unused", PruneOptions{MaxAge: time.Hour}, 2 * time.Hour, true},
		{"all", PruneOptions{All: true}, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(ManifestFile(dir), []byte("12345"), 0o600); err != nil {
				t.Fatal(err)
			}
			at := time.Now().Add(-tt.age)
			if err := os.Chtimes(ManifestFile(dir), at, at); err != nil {
				t.Fatal(err)
			}
			pruned, err := Prune(t.Context(), dir, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(ManifestFile(dir)); os.IsNotExist(err) != tt.gone {
				t.Errorf("the file: %v", err)
			}
			if want := map[bool]int64{true: 5}[tt.gone]; pruned.Bytes != want {
				t.Errorf("%d bytes are said to be gone, want %d", pruned.Bytes, want)
			}
		})
	}
}
