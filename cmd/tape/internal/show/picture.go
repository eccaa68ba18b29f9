// SPDX-License-Identifier: Apache-2.0

package show

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/vcs"
)

// picture shows which manifests came from which source, and which images they refer to: three
// columns of boxes, and the links between them.
type picture struct {
	Width, Height int
	Boxes         []box
	Lines         []link
}

// box is one item, with the URL of its details on the page.
type box struct {
	ID, Class, Href    string
	X, Y, Width        int
	Text, Detail, Full string
}

// link connects two boxes.
type link struct{ From, To, Path string }

// Measures of the picture, in its own units, which are pixels at full size.
const (
	pictureRow    = 38  // between boxes
	pictureBox    = 30  // height of a box
	pictureColumn = 400 // between columns
	pictureText   = 36  // characters that fit into a box
	pictureMost   = 200 // maximum boxes in a column; a larger picture is not shown
)

// pictureWidths are the widths of the columns: sources, manifests, images.
var pictureWidths = [3]int{300, 300, 320}

// newPicture draws the manifests that refer to images; others would be boxes without a link.
func newPicture(p *page) *picture {
	var (
		columns [3][]box
		lines   = map[link]bool{}
		files   = map[string]string{} // box of a manifest, by its name
	)
	for i, s := range p.Sources {
		b := box{ID: fmt.Sprintf("s%d", i), Class: "unknown", Text: cmp.Or(s.Name, s.Path, s.Reference), Href: "#sources"}
		b.Full = strings.TrimSpace(cmp.Or(s.Reference, s.URI+" "+s.Path))
		switch {
		case s.Modified == vcs.Yes:
			b.Class, b.Detail = "modified", "modified"
		case s.Commit != "":
			b.Detail = s.Commit[:min(len(s.Commit), 8)]
		}
		if s.Modified == vcs.No {
			b.Class = "committed"
		}
		columns[0] = append(columns[0], b)
	}
	for i, image := range p.Pictured {
		b := box{ID: fmt.Sprintf("i%d", i), Class: "image", Href: "#i-" + image.Digest.Encoded(), Text: image.Short, Full: image.Name, Detail: short(image.Digest)}
		for _, place := range image.Places {
			if place.Manifest == nil {
				continue
			}
			id, known := files[place.File]
			if !known {
				id = place.Manifest.ID
				files[place.File] = id
				columns[1] = append(columns[1], box{ID: id, Class: "manifest", Href: "#" + id, Text: place.File, Full: place.File})
				if s := sourceOf(p.Sources, place.File); s >= 0 {
					lines[link{From: columns[0][s].ID, To: id}] = true
				}
			}
			lines[link{From: id, To: b.ID}] = true
		}
		columns[2] = append(columns[2], b)
	}
	if len(lines) == 0 {
		return nil
	}
	slices.SortFunc(columns[1], func(a, b box) int { return cmp.Compare(a.Full, b.Full) })
	rows := 0
	for _, c := range columns {
		if rows = max(rows, len(c)); rows > pictureMost {
			return nil
		}
	}
	out := &picture{Width: 2*pictureColumn + pictureWidths[2] + 2, Height: rows * pictureRow}
	at := map[string]box{}
	for c, column := range columns {
		for i, b := range column {
			// Short columns are spread over the height of the longest.
			b.Y = (2*i+1)*out.Height/(2*len(column)) - pictureBox/2
			b.X, b.Width = c*pictureColumn, pictureWidths[c]
			b.Text = fit(b.Text, pictureText-utf8.RuneCountInString(b.Detail))
			at[b.ID] = b
			out.Boxes = append(out.Boxes, b)
		}
	}
	for l := range lines {
		from, to := at[l.From], at[l.To]
		x0, y0, x1, y1 := from.X+from.Width, from.Y+pictureBox/2, to.X, to.Y+pictureBox/2
		l.Path = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x0, y0, (x0+x1)/2, y0, (x0+x1)/2, y1, x1, y1)
		out.Lines = append(out.Lines, l)
	}
	slices.SortFunc(out.Lines, func(a, b link) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return out
}

// sourceOf returns the index of the source of a file of the content: if there are several, each
// has a folder with its name. It returns -1 if it is unknown.
func sourceOf(sources []artifact.ViewSource, file string) int {
	if len(sources) == 1 {
		return 0
	}
	folder, _, _ := strings.Cut(file, "/")
	return slices.IndexFunc(sources, func(s artifact.ViewSource) bool { return s.Name == folder })
}

// fit drops the beginning of a text that is too long: its end is more specific.
func fit(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return "…" + string(runes[len(runes)-most+1:])
}
