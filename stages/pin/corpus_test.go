//go:build corpus

// SPDX-License-Identifier: Apache-2.0

package pin_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/files"
)

// TestCorpus pins every file of a corpus (TAPE_CORPUS: a folder of manifests) and
// checks that only references changed.
func TestCorpus(t *testing.T) {
	corpus := os.Getenv("TAPE_CORPUS")
	folders, err := filepath.Glob(filepath.Join(corpus, "*", "*"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("nothing in TAPE_CORPUS %q: %v", corpus, err)
	}
	for _, folder := range folders {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			var in []files.File
			err := filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				data, err := os.ReadFile(name)
				in = append(in, files.File{Name: strings.TrimPrefix(filepath.ToSlash(name), "/"), Data: data})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			check(t, in)
		})
	}
}
