// SPDX-License-Identifier: Apache-2.0

package count

import "testing"

func TestOf(t *testing.T) {
	for _, want := range []struct {
		n    int
		noun string
		text string
	}{
		{0, "file", "0 files"},
		{1, "file", "1 file"},
		{2, "file", "2 files"},
		{1, "entry", "1 entry"},
		{3, "entry", "3 entries"},
		{2, "key", "2 keys"},
		{2, "Ingress", "2 Ingresses"},
		{2, "NetworkPolicy", "2 NetworkPolicies"},
		{2, "index", "2 indexes"},
		{2, "branch", "2 branches"},
	} {
		if got := Of(want.n, want.noun); got != want.text {
			t.Errorf("Of(%d, %q) = %q, want %q", want.n, want.noun, got, want.text)
		}
	}
	if got := Of(int64(1), "byte"); got != "1 byte" {
		t.Error(got)
	}
}
