// SPDX-License-Identifier: Apache-2.0

package images

import (
	"bytes"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Undo gives the bytes that the file had before: it takes what pin wrote, puts
// back what was there, and checks both against the digests.
func (e FileEdits) Undo(after []byte) ([]byte, error) {
	if d := digest.FromBytes(after); d != e.After {
		return nil, fmt.Errorf("undo the edits of %s: the file is %s, not %s, which was written", e.File, d, e.After)
	}
	var before []byte
	at := 0
	for _, edit := range e.Edits {
		// The offset is anybody's: a sum with it may be too large for an int.
		if edit.Offset < at || edit.Offset > len(after) || !bytes.HasPrefix(after[edit.Offset:], []byte(edit.Replaced)) {
			return nil, fmt.Errorf("undo the edits of %s: %q does not stand at byte %d", e.File, edit.Replaced, edit.Offset)
		}
		before = append(before, after[at:edit.Offset]...)
		before = append(before, edit.Original...)
		at = edit.Offset + len(edit.Replaced)
	}
	before = append(before, after[at:]...)
	if d := digest.FromBytes(before); d != e.Before {
		return nil, fmt.Errorf("undo the edits of %s: that gives %s, not %s, which was read", e.File, d, e.Before)
	}
	return before, nil
}
