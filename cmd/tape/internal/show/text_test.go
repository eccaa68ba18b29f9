// SPDX-License-Identifier: Apache-2.0

package show

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/artifact"
)

func TestWriteText(t *testing.T) {
	v := pageView(t)
	v.Signatures = append(v.Signatures, artifact.Signature{Subject: v.Content.Digest})
	v.TagReason, v.Warnings = "a reason", []string{"a warning"}
	var text bytes.Buffer
	if err := WriteText(&text, v, 0); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		v.Root.Ref, "└─ app: deploy in https://github.com/acme/shop.git at abc123, not modified", "├─ app/web.yaml  12 B",
		"linux/amd64  " + v.Images[0].Platforms[0].Digest.String() + "  1.0 kB", "attestation/transform/v1 (image-ref) of x",
		"signatures (2, not verified here)", "of root by key a-hint", "of content by key unknown", "note: a reason\n", "warning: a warning\n",
	} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("the text lacks %q:\n%s", line, &text)
		}
	}
}

// TestWriteTextIsSafe checks that the content of an artifact cannot control the terminal.
func TestWriteTextIsSafe(t *testing.T) {
	var out bytes.Buffer
	v := &artifact.View{Images: []artifact.ViewImage{{Name: "a\x1b[2Jb\nc"}}, Content: artifact.ViewContent{Files: []artifact.ViewFile{{Name: "x\ry\u202e"}}}, Warnings: []string{"\x07"}}
	if err := WriteText(&out, v, 0); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\r\x07\u202e") || !strings.Contains(out.String(), "a\ufffd[2Jb\ufffdc") {
		t.Errorf("%q", out.String())
	}
	if err := WriteText(failing{}, v, 0); err == nil {
		t.Error("a write that fails is no error")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestFit shortens digests before anything else, and only where a line is too wide.
func TestFit(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 4)
	for _, test := range []struct {
		line  string
		width int
		want  string
	}{
		{"a sha256:" + hex, 0, "a sha256:" + hex},
		{"a sha256:" + hex, 80, "a sha256:" + hex},
		{"a sha256:" + hex, 60, "a sha256:0123456789ab…"},
		{"at " + hex[:40] + ", not modified", 40, "at 0123456789ab…, not modified"},
		{"├─ " + strings.Repeat("é", 50), 20, "├─ " + strings.Repeat("é", 9) + "…" + strings.Repeat("é", 7)},
		{"abc", 1, "a…c"},
	} {
		if got := Fit(test.line, test.width); got != test.want {
			t.Errorf("Fit(%q, %d) = %q, want %q", test.line, test.width, got, test.want)
		}
	}
}
