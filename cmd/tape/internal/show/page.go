// SPDX-License-Identifier: Apache-2.0

package show

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/credentials"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
	"github.com/taped-dev/tape/stages/vcs"
)

//go:embed page.html
var pageTemplate string

// A page shows the text of manifests up to these sizes, in bytes, so that a browser opens it
// quickly.
const (
	pageFile  = 256 << 10 // of one file
	pageFiles = 4 << 20   // of all files
)

// page is the data of page.html: a view, each image with the places that refer to it, traced to
// their line and commit, and each manifest with its edits.
type page struct {
	*artifact.View
	Title, Tag string
	Signers    []pageSigner
	Pictured   []pageImage
	Files      []pageManifest
	Picture    *picture // nil if it would be empty
	Unpinned   []images.Unpinned
	Excluded   []images.Reference
	Renders    []artifact.Transform
	Bytes      int64 // of all platforms of all images, each blob as often as it is referenced
}

// pageSigner is a signer, with what was signed.
type pageSigner struct {
	By            string
	Root, Content bool
}

type pageImage struct {
	artifact.ViewImage
	Short  string
	Places []place
}

// place is a line of the manifests that refers to an image.
type place struct {
	images.Edit
	// Manifest is the file on the page, nil if it is not on it.
	Manifest *pageManifest
	// Origin is the file in the source, which has the same Line. It is empty for a rendered
	// file.
	Origin, Commit string
	Modified       vcs.Tristate
	// URL is the URL of the line, if the host of the repository is known.
	URL string
	// By is the interpreter that rendered the file.
	By string
}

// pageManifest is a file of the content. Lines is nil if it is too large for the page, or not
// text.
type pageManifest struct {
	artifact.ViewFile
	ID    string
	Edits int
	Lines []pageLine
}

// pageLine is a line, in pieces: replacements of references, and the text around them.
type pageLine struct {
	N      int
	Pieces []pagePiece
}

type pagePiece struct {
	Text string
	Edit *images.Edit // nil: unchanged
}

// WritePage writes one self-contained HTML page: it loads nothing, and everything but the
// search works without scripts.
func WritePage(w io.Writer, v *artifact.View) error {
	name := path.Base(imageref.Split(v.Root.Ref).Name)
	p := &page{View: v, Title: cmp.Or(v.Root.Annotations["org.opencontainers.image.title"], name, "application"), Signers: signers(v)}
	if len(v.Tags) > 0 {
		p.Tag = v.Tags[0]
	}
	var (
		origins = map[digest.Digest]origin{} // of source files, by digest
		inputs  = map[string]digest.Digest{} // of the manifest behind a content file
		edits   []images.Edit
	)
	for _, s := range v.Statements {
		switch s.PredicateType {
		case artifact.PredicateSource:
			var facts vcs.Facts
			if err := json.Unmarshal(s.Predicate, &facts); err != nil {
				return fmt.Errorf("read source statement: %w", err)
			}
			addOrigins(origins, facts)
		case artifact.PredicateTransform:
			var t artifact.Transform
			if err := json.Unmarshal(s.Predicate, &t); err != nil {
				return fmt.Errorf("read transform statement: %w", err)
			}
			if t.Kind == artifact.TransformRender {
				p.Renders = append(p.Renders, t)
				continue
			}
			edits = append(edits, t.Edits...)
			p.Unpinned, p.Excluded = append(p.Unpinned, t.Unpinned...), append(p.Excluded, t.Excluded...)
			for _, in := range t.Inputs {
				inputs[in.Output] = digest.NewDigestFromEncoded(digest.SHA256, in.Digest["sha256"])
			}
		}
	}
	p.Files = pageManifests(v.Content.Files, edits)
	for _, image := range v.Images {
		name, _, _ := strings.Cut(image.Name, "@")
		pictured := pageImage{ViewImage: image, Short: path.Base(name)}
		for _, platform := range image.Platforms {
			p.Bytes += platform.Bytes
		}
		for _, e := range edits {
			if e.Digest == image.Digest {
				pictured.Places = append(pictured.Places, p.place(e, origins[inputs[e.File]]))
			}
		}
		p.Pictured = append(p.Pictured, pictured)
	}
	p.Picture = newPicture(p)
	t, err := template.New("page").Funcs(template.FuncMap{
		"bytes": Bytes, "short": short, "count": count.Of[int], "statement": statementTitle, "options": sourceOptions,
		"anchor": func(d digest.Digest) string { return "i-" + d.Encoded() },
		"brief":  func(s string) string { return s[:min(len(s), 12)] },
	}).Parse(pageTemplate)
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := t.Execute(&page, p); err != nil {
		return err
	}
	_, err = w.Write(WithPolicy(page.Bytes()))
	return err
}

// WithPolicy adds a policy to a page: the browser runs and loads nothing but the page's own
// style and script, whatever the text around them contains.
func WithPolicy(page []byte) []byte {
	const charset = "<meta charset=\"utf-8\">\n"
	policy := fmt.Sprintf(`<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'">`,
		hashOf(page, "style"), hashOf(page, "script"))
	return bytes.Replace(page, []byte(charset), []byte(charset+policy+"\n"), 1)
}

// hashOf returns the hash of the content of the only element with a name, for a policy: text
// from others contains no tags.
func hashOf(page []byte, element string) string {
	_, rest, _ := bytes.Cut(page, []byte("<"+element+">"))
	content, _, _ := bytes.Cut(rest, []byte("</"+element+">"))
	sum := sha256.Sum256(content)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// sourceOption is an option that a source was rendered with.
type sourceOption struct{ Name, Value string }

// sourceOptions lists options by name.
func sourceOptions(raw json.RawMessage) []sourceOption {
	var options map[string]json.RawMessage
	_ = json.Unmarshal(raw, &options) // nil, or an object
	var out []sourceOption
	for _, name := range slices.Sorted(maps.Keys(options)) {
		out = append(out, sourceOption{name, string(options[name])})
	}
	return out
}

// short returns the first digits of a digest.
func short(d digest.Digest) string { return d.Encoded()[:min(8, len(d.Encoded()))] }

func signers(v *artifact.View) []pageSigner {
	var out []pageSigner
	for _, s := range v.Signatures {
		i := slices.IndexFunc(out, func(p pageSigner) bool { return p.By == s.By() })
		if i < 0 {
			i, out = len(out), append(out, pageSigner{By: s.By()})
		}
		if s.Subject == v.Root.Digest {
			out[i].Root = true
		} else {
			out[i].Content = true
		}
	}
	return out
}

// statementTitle returns a title for a statement.
func statementTitle(s artifact.ViewStatement) string {
	var of struct {
		Name   string `json:"name"`
		Kind   string `json:"kind"`
		Source string `json:"source"`
	}
	_ = json.Unmarshal(s.Predicate, &of) // a statement with other fields gets no such title
	switch s.PredicateType {
	case artifact.PredicateProvenance:
		return "What it was built from"
	case artifact.PredicateSource:
		return strings.TrimSpace("Files of the source " + of.Name)
	case artifact.PredicateTransform:
		switch of.Kind {
		case artifact.TransformRender:
			return strings.TrimSpace("Rendering of the source " + of.Source)
		case artifact.TransformImageRef:
			return "Image references that were pinned"
		}
		return "What was done: " + of.Kind
	case artifact.PredicateSecrets:
		return "Secrets in plain text that are accepted"
	case artifact.PredicateSPDX:
		return "SBOM of the application"
	}
	return s.PredicateType
}

// pageManifests returns the files, with their edits marked.
func pageManifests(files []artifact.ViewFile, edits []images.Edit) []pageManifest {
	out := make([]pageManifest, len(files))
	room := pageFiles
	of := map[string][]images.Edit{}
	for _, e := range edits {
		of[e.File] = append(of[e.File], e)
	}
	for i, f := range files {
		m := pageManifest{ViewFile: f, ID: fmt.Sprintf("f-%d", i)}
		var in []images.Edit
		for _, e := range of[f.Name] {
			// Of a place that was edited twice, only the last edit can be found.
			if e.Offset >= 0 && e.Offset < len(f.Data) && bytes.HasPrefix(f.Data[e.Offset:], []byte(e.Replaced)) {
				in = append(in, e)
			}
		}
		m.Edits = len(in)
		if len(f.Data) <= min(pageFile, room) && utf8.Valid(f.Data) {
			room -= len(f.Data)
			m.Lines = pageLines(f.Data, in, plainIn(f.Name, f.Data))
		}
		out[i] = m
	}
	return out
}

// pageLines returns the lines of a file. The hidden ranges contain credentials, which must not
// be shown to everyone who sees a page.
func pageLines(data []byte, edits []images.Edit, hidden []manifests.Span) []pageLine {
	type span struct {
		from, to int
		text     string
		edit     *images.Edit
	}
	var spans []span
	for i, e := range edits {
		spans = append(spans, span{e.Offset, e.Offset + len(e.Replaced), e.Replaced, &edits[i]})
	}
	for _, h := range hidden {
		from, to := min(h.Offset, len(data)), min(h.Offset+h.Length, len(data))
		if !h.Exact { // it begins there
			to = len(data)
			if n := bytes.IndexByte(data[from:], '\n'); n >= 0 {
				to = from + n
			}
		}
		// The lines after it keep their numbers.
		spans = append(spans, span{from, to, credentials.Hidden + strings.Repeat("\n", bytes.Count(data[from:to], []byte("\n"))), nil})
	}
	// An edit in a hidden range is hidden, too.
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	line := pageLine{N: 1}
	var lines []pageLine
	add := func(text string, edit *images.Edit) {
		for i, part := range strings.Split(text, "\n") {
			if i > 0 {
				lines = append(lines, line)
				line = pageLine{N: line.N + 1}
			}
			if part = strings.TrimSuffix(part, "\r"); part != "" {
				line.Pieces = append(line.Pieces, pagePiece{part, edit})
			}
		}
	}
	at := 0
	for _, s := range spans {
		if s.from < at {
			continue
		}
		add(string(data[at:s.from]), nil)
		add(s.text, s.edit)
		at = s.to
	}
	add(string(data[at:]), nil)
	if len(line.Pieces) > 0 {
		lines = append(lines, line)
	}
	return lines
}

// plainIn returns the positions of credentials in plain text in the objects of a file.
func plainIn(name string, data []byte) []manifests.Span {
	var out []manifests.Span
	for _, piece := range manifests.Open(name, data).Text.Split() {
		docs, err := manifests.Parse(piece)
		if err != nil {
			continue // no deployer applies it
		}
		for i := range docs {
			objects, _ := docs[i].Objects()
			for _, o := range objects {
				credentials.In(&docs[i], o, func(found credentials.Found) bool {
					out = append(out, found.Span)
					return true
				})
			}
		}
	}
	return out
}

// place returns the place of an edit in its source.
func (p *page) place(e images.Edit, from origin) place {
	out := place{Edit: e, Origin: from.path, Commit: from.commit, Modified: from.modified}
	if i := slices.IndexFunc(p.Files, func(m pageManifest) bool { return m.Name == e.File }); i >= 0 {
		out.Manifest = &p.Files[i]
	}
	if out.Origin == "" {
		for _, r := range p.Renders {
			if len(p.Renders) == 1 || strings.HasPrefix(e.File, r.Source+"/") {
				out.By = r.Interpreter.Name + " " + r.Interpreter.Version
			}
		}
		return out
	}
	out.URL = lineURL(from.uri, from.commit, from.path, e.Line)
	return out
}

// origin is a file of a source.
type origin struct {
	path, uri, commit string
	modified          vcs.Tristate
}

func addOrigins(origins map[digest.Digest]origin, facts vcs.Facts) {
	repositories := map[string]vcs.Repository{}
	for _, r := range facts.Repositories {
		repositories[r.Dir] = r
	}
	for _, f := range facts.Files {
		r := repositories[f.Repository]
		path := f.Path
		if r.Dir != "." {
			path = strings.TrimPrefix(path, r.Dir+"/")
		}
		origins[f.Digest] = origin{path: path, uri: r.URI, commit: r.Commit, modified: f.Modified}
	}
}

// lineURL returns the URL of a line of a file at a commit, for well-known hosts.
func lineURL(uri, commit, path string, line int) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "https" || commit == "" {
		return ""
	}
	base := "https://" + u.Host + strings.TrimSuffix(u.Path, ".git")
	escaped := (&url.URL{Path: path}).EscapedPath()
	switch {
	case u.Host == "github.com" || u.Host == "codeberg.org":
		return fmt.Sprintf("%s/blob/%s/%s#L%d", base, commit, escaped, line)
	case u.Host == "gitlab.com":
		return fmt.Sprintf("%s/-/blob/%s/%s#L%d", base, commit, escaped, line)
	}
	return ""
}
