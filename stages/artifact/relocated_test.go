// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Relocating makes nothing that verify would reject.
func TestRelocatedEdits(t *testing.T) {
	statement := func(predicate string, v any) Statement {
		s, err := NewStatement(predicate, v)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	list := []Statement{
		statement(PredicateProvenance, Provenance{}),
		statement(PredicateTransform, Transform{Kind: TransformRender}),
		statement(PredicateTransform, Transform{Kind: TransformImageRef}),
	}
	r := Relocation{Repository: "example.com/shop", Names: Naming{Repository: "example.com/shop"}}
	for n := 1; n < MaxEdits; n++ {
		made, err := r.statements(renamed{}, list, digest.FromString("was"), digest.FromString("is"))
		if err != nil {
			t.Fatalf("relocation %d: %v", n, err)
		}
		list = made
	}
	if _, err := r.statements(renamed{}, list, digest.FromString("was"), digest.FromString("is")); err == nil || !strings.Contains(err.Error(), "was edited 32 times") {
		t.Errorf("error %v", err)
	}
}
