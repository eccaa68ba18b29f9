// SPDX-License-Identifier: Apache-2.0

package newfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestQuote reads a quoted value back, alone and in a flow map.
func TestQuote(t *testing.T) {
	for _, text := range []string{
		"apps/web-1.0", ".", "-", "-x", "a b", "a  b", " a", "it's", `say "x"`, `back\slash`, "a: b", "a #b", "{a, b}", "*x", "charts/*", "null", "~", "true", "1.0",
		"line\nline", "tab\t", "\u0085\u2028", "é", "\x01", "!a", "&a", "",
	} {
		var alone string
		if err := yaml.Unmarshal([]byte(Quote(text)), &alone); err != nil || alone != text {
			t.Errorf("%q is written %s and read %q, %v", text, Quote(text), alone, err)
		}
		var in struct{ Path, Name string }
		if err := yaml.Unmarshal([]byte("{path: "+Quote(text)+", name: x}"), &in); err != nil || in.Path != text || in.Name != "x" {
			t.Errorf("%q is written %s and read %+v, %v", text, Quote(text), in, err)
		}
	}
	if got := OneLine("a\n  b\u2028c\xff"); got != "a b c\uFFFD" {
		t.Errorf("%q", got)
	}
}

// TestWrite replaces a file only on request.
func TestWrite(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.yaml")
	if err := Write(name, "first", false); err != nil {
		t.Fatal(err)
	}
	if err := Write(name, "second", false); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("a file that is there: %v", err)
	}
	if err := Write(name, "2", true); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(name); err != nil || string(data) != "2" {
		t.Errorf("%q, %v", data, err)
	}
}
