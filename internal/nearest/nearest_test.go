// SPDX-License-Identifier: Apache-2.0

package nearest_test

import (
	"slices"
	"testing"

	"github.com/taped-dev/tape/internal/nearest"
)

func TestName(t *testing.T) {
	tests := []struct {
		typed string
		names []string
		want  string
	}{
		{"sorces", []string{"images", "sources", "output"}, "sources"},
		{"Images", []string{"images"}, "images"},
		{"interpeter", []string{"interpreter", "path"}, "interpreter"},
		{"a", []string{"b"}, "b"},
		{"ab", []string{"cd"}, ""},
		{"platform", []string{"path", "name"}, ""},
		{"tag", []string{"tax", "tab"}, "tab"},
		{"", []string{"x"}, ""},
		{"x", nil, ""},
	}
	for _, tt := range tests {
		if got := nearest.Name(tt.typed, slices.Values(tt.names)); got != tt.want {
			t.Errorf("Name(%q, %q) = %q, want %q", tt.typed, tt.names, got, tt.want)
		}
	}
}

func TestHint(t *testing.T) {
	names := []string{"sources"}
	if got, want := nearest.Hint("source", slices.Values(names)), ` (did you mean "sources"?)`; got != want {
		t.Errorf("Hint = %q, want %q", got, want)
	}
	if got := nearest.Hint("nodes", slices.Values(names)); got != "" {
		t.Errorf("Hint = %q, want none", got)
	}
}

func TestHintOrAll(t *testing.T) {
	for typed, want := range map[string]string{"source": ` (did you mean "sources"?)`, "x": "; want nodes, sources"} {
		if got := nearest.HintOrAll(typed, []string{"sources", "nodes"}); got != want {
			t.Errorf("HintOrAll(%q) = %q, want %q", typed, got, want)
		}
	}
	if got := nearest.HintOrAll("x", nil); got != "" {
		t.Errorf("HintOrAll of nothing = %q", got)
	}
}
