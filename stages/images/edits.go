// SPDX-License-Identifier: Apache-2.0

package images

import (
	"bytes"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Undo returns the content of the file before it was edited. It takes the content that pin
// wrote, which must have the digest After, puts the original bytes back, and checks the digest
// of the result.
func (e FileEdits) Undo(after []byte) ([]byte, error) {
	size := len(after)
	for _, edit := range e.Edits {
		size += len(edit.Original) - len(edit.Replaced)
	}
	before := make([]byte, 0, max(size, 0))
	at := 0
	for _, edit := range e.Edits {
		// The offset is untrusted: adding to it may overflow an int.
		if edit.Offset < at || edit.Offset > len(after) || !bytes.HasPrefix(after[edit.Offset:], []byte(edit.Replaced)) {
			return nil, fmt.Errorf("undo the edits of %s: %q is not at byte %d", e.File, edit.Replaced, edit.Offset)
		}
		before = append(before, after[at:edit.Offset]...)
		before = append(before, edit.Original...)
		at = edit.Offset + len(edit.Replaced)
	}
	before = append(before, after[at:]...)
	if d := digest.FromBytes(before); d != e.Before {
		return nil, fmt.Errorf("undo the edits of %s: the result has digest %s, not %s as recorded", e.File, d, e.Before)
	}
	return before, nil
}
