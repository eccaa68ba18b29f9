// SPDX-License-Identifier: Apache-2.0

package images

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestUndo(t *testing.T) {
	const before, after = "a: one # two\nb: three\n", "a: REPO:1 # two\nb: REPO:3\n"
	good := func() FileEdits {
		return FileEdits{
			File: "f.yaml", Before: digest.FromString(before), After: digest.FromString(after),
			Edits: []Edit{{Offset: 3, Original: "one", Replaced: "REPO:1"}, {Offset: 19, Original: "three", Replaced: "REPO:3"}},
		}
	}
	if got, err := good().Undo([]byte(after)); err != nil || string(got) != before {
		t.Errorf("got %q, %v", got, err)
	}
	for _, c := range []struct {
		name  string
		spoil func(*FileEdits)
		after string
		want  string
	}{
		{"another file", func(*FileEdits) {}, after + "x", "the result has digest"},
		{"another place", func(e *FileEdits) { e.Edits[0].Offset = 4 }, after, `"REPO:1" is not at byte 4`},
		{"outside", func(e *FileEdits) { e.Edits[1].Offset = 100 }, after, "is not at byte 100"},
		{"out of order", func(e *FileEdits) { e.Edits[0], e.Edits[1] = e.Edits[1], e.Edits[0] }, after, "is not at byte"},
		{"another original", func(e *FileEdits) { e.Edits[0].Original = "two" }, after, "the result has digest"},
		{"a missing edit", func(e *FileEdits) { e.Edits = e.Edits[:1] }, after, "the result has digest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := good()
			c.spoil(&e)
			if _, err := e.Undo([]byte(c.after)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Undo returns bytes that match the digest, or an error, whatever the edits are.
func FuzzUndo(f *testing.F) {
	f.Add("a: one\n", "a: REPO:1\n", 3, "one", "REPO:1", 0, "", "")
	f.Add("x", "x", 1, "", "", -1, "y", "z")
	f.Add("", "", 1<<62, "", "x", 1<<62, "", "")
	f.Fuzz(func(t *testing.T, before, after string, at int, original, replaced string, then int, originalThen, replacedThen string) {
		e := FileEdits{
			File: "f.yaml", Before: digest.FromString(before), After: digest.FromString(after),
			Edits: []Edit{{Offset: at, Original: original, Replaced: replaced}, {Offset: then, Original: originalThen, Replaced: replacedThen}},
		}
		if got, err := e.Undo([]byte(after)); err == nil && string(got) != before {
			t.Errorf("got %q, want %q", got, before)
		}
	})
}
