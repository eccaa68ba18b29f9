// SPDX-License-Identifier: Apache-2.0

package interpreter_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/taped-dev/tape/plugins/interpreter"
)

func TestFetched(t *testing.T) {
	a := interpreter.Material{URI: "oci://a.example/chart:1", Digest: "sha256:aa"}
	b := interpreter.Material{URI: "https://b.example/file", Digest: "sha256:bb"}
	f := interpreter.NewFetched([]interpreter.Material{a})
	if got := f.Locked(a.URI); got != a.Digest {
		t.Errorf("%s is locked to %q, want %q", a.URI, got, a.Digest)
	}
	if got := f.Locked(b.URI); got != "" {
		t.Errorf("%s is locked to %q, and is not in the lock", b.URI, got)
	}
	if err := f.Record(a.URI, "sha256:cc"); err == nil || !strings.Contains(err.Error(), "sha256:aa") || !strings.Contains(err.Error(), "sha256:cc") {
		t.Errorf("another digest than the locked one: %v", err)
	}
	if got := f.Materials(); len(got) > 0 {
		t.Errorf("what was refused is recorded: %v", got)
	}
	for _, m := range []interpreter.Material{a, b, a} {
		if err := f.Record(m.URI, m.Digest); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := f.Materials(), []interpreter.Material{b, a}; !slices.Equal(got, want) {
		t.Errorf("materials %v, want %v", got, want)
	}
}
