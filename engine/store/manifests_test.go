// SPDX-License-Identifier: Apache-2.0

package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestPruneRemovesKeptManifests(t *testing.T) {
	for _, tt := range []struct {
		name     string
		o        PruneOptions
		old, new bool // still there
	}{
		{"no limit", PruneOptions{}, true, true},
		{"age", PruneOptions{MaxAge: time.Hour}, false, true},
		{"all", PruneOptions{All: true}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name string, at time.Time) string {
				file := filepath.Join(ManifestDir(dir), name[:2], name)
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte("12345"), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(file, at, at); err != nil {
					t.Fatal(err)
				}
				return file
			}
			old, fresh := write("aaaa", time.Now().Add(-2*time.Hour)), write("bbbb", time.Now())
			pruned, err := Prune(t.Context(), dir, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			var want int64
			for file, there := range map[string]bool{old: tt.old, fresh: tt.new} {
				if _, err := os.Stat(file); (err == nil) != there {
					t.Errorf("%s: %v", filepath.Base(file), err)
				}
				if !there {
					want += 5
				}
			}
			if pruned.Bytes != want {
				t.Errorf("%d bytes are said to be gone, want %d", pruned.Bytes, want)
			}
		})
	}
}
