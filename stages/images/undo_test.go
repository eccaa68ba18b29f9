// SPDX-License-Identifier: Apache-2.0

package images

import (
	"math"
	"testing"

	"github.com/opencontainers/go-digest"
)

// The offset of an edit is untrusted and may be any number.
func TestUndoAnyOffset(t *testing.T) {
	after := []byte("image: b\n")
	for _, offset := range []int{math.MaxInt, math.MaxInt - 1, math.MinInt, -1, 8, 9, 10, 1 << 40} {
		for _, replaced := range []string{"b\n", "", "bb", string(make([]byte, 100))} {
			e := FileEdits{
				File: "a.yaml", Before: digest.FromString("image: a\n"), After: digest.FromBytes(after),
				Edits: []Edit{{Offset: offset, Replaced: replaced, Original: "a\n"}},
			}
			if _, err := e.Undo(after); err == nil {
				t.Errorf("undid %q at %d", replaced, offset)
			}
		}
	}
}
