// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

//go:embed page.html
var pageTemplate string

// page is what page.html shows: a view, and each image with the places that
// name it, back to the line and commit they came from.
type page struct {
	*View
	Pictured []pageImage
	Unpinned []images.Unpinned
	Excluded []images.Reference
	Renders  []Transform
}

type pageImage struct {
	ViewImage
	Places []place
}

// place is a line of the manifests that names an image.
type place struct {
	images.Edit
	// Origin is the file in the source; Line is the same there. It is empty for
	// a file that was rendered.
	Origin, Commit string
	Modified       vcs.Tristate
	// URL leads to the line, where the host of the repository is known to have
	// such addresses.
	URL string
	// By is the interpreter that rendered the file.
	By string
}

// WritePage writes one self-contained HTML page: no script or picture is loaded
// from anywhere, and without scripts all but the search works.
func WritePage(w io.Writer, v *View) error {
	p := &page{View: v}
	var (
		origins = map[digest.Digest]origin{} // of source files, by digest
		inputs  = map[string]digest.Digest{} // of the manifest behind a content file
		edits   []images.Edit
	)
	for _, s := range v.Statements {
		switch s.PredicateType {
		case PredicateSource:
			var facts vcs.Facts
			if err := json.Unmarshal(s.Predicate, &facts); err != nil {
				return fmt.Errorf("read source statement: %w", err)
			}
			addOrigins(origins, facts)
		case PredicateTransform:
			var t Transform
			if err := json.Unmarshal(s.Predicate, &t); err != nil {
				return fmt.Errorf("read transform statement: %w", err)
			}
			if t.Kind == TransformRender {
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
	for _, image := range v.Images {
		pictured := pageImage{ViewImage: image}
		for _, e := range edits {
			if e.Digest == image.Digest {
				pictured.Places = append(pictured.Places, p.place(e, origins[inputs[e.File]]))
			}
		}
		p.Pictured = append(p.Pictured, pictured)
	}
	t, err := template.New("page").Funcs(template.FuncMap{
		"bytes": Bytes, "short": short, "anchor": func(d digest.Digest) string { return "i-" + d.Encoded() },
	}).Parse(pageTemplate)
	if err != nil {
		return err
	}
	return t.Execute(w, p)
}

// place follows an edit to the source it came from.
func (p *page) place(e images.Edit, from origin) place {
	out := place{Edit: e, Origin: from.path, Commit: from.commit, Modified: from.modified}
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

// lineURL is where the well-known hosts show a line of a file at a commit.
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
