// SPDX-License-Identifier: Apache-2.0

package replace_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/taped-dev/tape/internal/replace"
)

// A file and its mode are replaced atomically, and no temporary file is left, whether that
// succeeds or not.
func TestFile(t *testing.T) {
	for name, write := range map[string]func(name, prefix string, data []byte, mode os.FileMode) error{
		"file": replace.File, "durable": replace.Durable,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "file")
			for _, text := range []string{"the first, which is longer", "the second"} {
				if err := write(file, ".new-", []byte(text), 0o640); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(file); err != nil || string(got) != text {
					t.Errorf("it holds %q, %v, want %q", got, err, text)
				}
			}
			if info, err := os.Stat(file); err != nil || info.Mode() != 0o640 {
				t.Errorf("its mode is %v, %v", info.Mode(), err)
			}
			folder := filepath.Join(dir, "folder")
			if err := os.Mkdir(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := write(folder, ".new-", nil, 0o640); err == nil {
				t.Error("a folder was replaced by a file")
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
				t.Errorf("left are %v, %v", left, err)
			}
		})
	}
}
