// SPDX-License-Identifier: Apache-2.0

package show

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/vcs"
)

// pageView returns an application of two images, one referenced in a committed file and one in
// a rendered file, with names that try to be markup.
func pageView(t *testing.T) *artifact.View {
	t.Helper()
	statement := func(predicateType string, predicate any) artifact.ViewStatement {
		data, err := json.Marshal(predicate)
		if err != nil {
			t.Fatal(err)
		}
		return artifact.ViewStatement{PredicateType: predicateType, Subjects: []artifact.Resource{{Name: "x"}}, Predicate: data}
	}
	plain, rendered := digest.FromString("plain"), digest.FromString("rendered")
	manifest := []byte("a: 1\r\nimage: 'here:web.1' # <b>\nlast")
	web, evil := digest.FromString("web"), digest.FromString("evil")
	return &artifact.View{
		Root:    artifact.ViewRoot{Ref: "registry.example.com/team/shop:v1@" + digest.FromString("root").String(), Digest: digest.FromString("root")},
		Content: artifact.ViewContent{Files: []artifact.ViewFile{{Name: "app/web.yaml", Size: 12, Digest: plain, Data: manifest}, {Name: "chart/x.yaml", Size: 1, Digest: rendered, Data: []byte{0xff}}}},
		Images: []artifact.ViewImage{
			{Name: "docker.io/library/web:1", Digest: web, Ref: "registry.example.com/team/shop:web.1@" + web.String(),
				Platforms: []artifact.ViewPlatform{{Platform: "linux/amd64", Digest: digest.FromString("p"), Bytes: 1000}},
				Related:   []images.Related{{Kind: images.Signature, Via: images.Tag, Digest: digest.FromString("s")}}},
			{Name: "<script>alert(1)</script>", Digest: evil, Ref: "x"},
		},
		Sources:    []artifact.ViewSource{{Name: "app", Path: "deploy", URI: "https://github.com/acme/shop.git", Commit: "abc123", Modified: vcs.No}},
		Signatures: []artifact.Signature{{Subject: digest.FromString("root"), ViewSigner: artifact.ViewSigner{KeyHint: "a-hint"}}},
		Statements: []artifact.ViewStatement{
			statement(artifact.PredicateSource, vcs.Facts{Path: "deploy",
				Repositories: []vcs.Repository{{Dir: ".", URI: "https://github.com/acme/shop.git", Commit: "abc123", Modified: vcs.No}},
				Files:        []vcs.File{{Path: "deploy/web app.yaml", Digest: plain, Repository: ".", Modified: vcs.No}}}),
			statement(artifact.PredicateTransform, artifact.Transform{Kind: artifact.TransformRender, Source: "chart", Interpreter: &rendering.Interpreted{Name: "helm", Version: "3.22"}}),
			statement(artifact.PredicateTransform, artifact.Transform{Kind: artifact.TransformImageRef,
				Inputs: []artifact.Input{{Name: "app/web.yaml", Digest: artifact.DigestSet(plain), Output: "app/web.yaml"}, {Name: "chart/x.yaml", Digest: artifact.DigestSet(rendered), Output: "chart/x.yaml"}},
				Edits: []images.Edit{
					{File: "app/web.yaml", Line: 7, Column: 3, Pointer: "/spec/image", Original: "web:1", Replaced: "here:web.1", Digest: web, Offset: 14},
					{File: "chart/x.yaml", Line: 9, Column: 3, Original: "evil", Replaced: "here:evil", Digest: evil},
				},
				Unpinned: []images.Unpinned{{Reference: images.Reference{Source: "maybe:1"}, Reason: "not found"}}}),
		},
	}
}

func TestWritePage(t *testing.T) {
	var buf bytes.Buffer
	if err := WritePage(&buf, pageView(t)); err != nil {
		t.Fatal(err)
	}
	got := buf.String()
	for _, want := range []string{
		`<a href="https://github.com/acme/shop/blob/abc123/deploy/web%20app.yaml#L7" rel="noreferrer">deploy/web app.yaml:7</a>`,
		"rendered by helm 3.22",
		"&lt;script&gt;alert(1)&lt;/script&gt;",
		"maybe:1", "not found", "a-hint", "as committed", "1.0 kB", "root only",
		`<div id="f-0-2"><a href="#f-0-2" tabindex="-1">2</a>image: &#39;<ins title="was web:1">here:web.1</ins>&#39; # &lt;b&gt;</div>`,
		`<div id="f-0-3"><a href="#f-0-3" tabindex="-1">3</a>last</div>`,
		`data-from="f-0" data-to="i0"`, `data-from="s0" data-to="f-1"`,
		"Too large to show here",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, bad := range []string{"<script>alert", "<b>\n", `id="f-0-4"`, `src="http`, `href="http://`, "@import", "url("} {
		if strings.Contains(got, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
}

// A page is shown to more people than the manifests: it hides credentials, and keeps the line
// numbers after them.
func TestPageHidesCredentials(t *testing.T) {
	v := pageView(t)
	const manifest = "apiVersion: v1\nkind: Secret\nstringData:\n  key: |\n    planted-one\n    planted-two\n---\napiVersion: v1\nkind: ConfigMap\ndata: {PASSWORD: planted-three, user: me}\n"
	v.Content.Files = []artifact.ViewFile{{Name: "a.yaml", Size: 9, Data: []byte(manifest)}}
	var buf bytes.Buffer
	if err := WritePage(&buf, v); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`<div id="f-0-5"><a href="#f-0-5" tabindex="-1">5</a>    (hidden)</div>`,
		`<div id="f-0-10"><a href="#f-0-10" tabindex="-1">10</a>data: {PASSWORD: (hidden), user: me}</div>`,
	} {
		if !strings.Contains(buf.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(buf.String(), "planted") {
		t.Error("the page shows a credential")
	}
}

// Content that is too large for a page is left out, never cut.
func TestPageLeavesOut(t *testing.T) {
	v := pageView(t)
	v.Content.Files = append(v.Content.Files, artifact.ViewFile{Name: "big.yaml", Size: pageFile + 1, Data: bytes.Repeat([]byte("x"), pageFile+1)})
	for i := range pictureMost + 1 {
		v.Sources = append(v.Sources, artifact.ViewSource{Name: strings.Repeat("s", i+1)})
	}
	var buf bytes.Buffer
	if err := WritePage(&buf, v); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(buf.String(), "xxx") || strings.Contains(buf.String(), "<svg") {
		t.Error("the page shows what is too large for it")
	}
}

// The browser only runs the page's own script.
func TestPagePolicy(t *testing.T) {
	var buf bytes.Buffer
	if err := WritePage(&buf, pageView(t)); err != nil {
		t.Fatal(err)
	}
	if page := buf.String(); strings.Count(page, `http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-`) != 1 ||
		strings.Count(page, "<script") != 1 || strings.Count(page, "<style") != 1 || strings.Contains(page, "style=") || strings.Contains(page, "unsafe-inline") {
		t.Errorf("the page has no policy, or something that its policy does not allow:\n%.900s", page)
	}
}
