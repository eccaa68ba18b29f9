// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// TestSpill unpacks no more than the limit, and leaves no file.
func TestSpill(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, test := range []struct {
		bytes, limit int64
		fits         bool
	}{{0, 0, true}, {10, 10, true}, {11, 10, false}, {1 << 20, 10, false}} {
		f, info, end, err := spill(t.Context(), bytes.NewReader(make([]byte, test.bytes)), test.limit)
		if !test.fits {
			if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), "unpacks to more than 10 bytes") {
				t.Errorf("%d bytes of %d: %v", test.bytes, test.limit, err)
			}
			continue
		}
		if err != nil || info.Size() != test.bytes {
			t.Fatalf("%d bytes of %d: %v", test.bytes, test.limit, err)
		}
		if _, err := f.Stat(); err != nil {
			t.Error(err)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
