// SPDX-License-Identifier: Apache-2.0

package show

import (
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
)

// Measures of the drawing, in pixels.
const (
	svgBoxHeight = 34
	svgRowGap    = 22
	svgColumnGap = 70
	svgMargin    = 20
	svgLetter    = 8 // width of a character
)

// SVG draws a graph as a self-contained picture: the inputs of a node are to its left. It
// follows the reader's light or dark colors.
func SVG(g *engine.Graph) string {
	nodes := g.Nodes()
	links := edges(g)
	slices.SortFunc(links, func(a, b edge) int { return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.from, b.from)) })
	links = slices.CompactFunc(links, func(a, b edge) bool { return a.to == b.to && a.from == b.from })
	// A node's column is one after that of its last input.
	column := make([]int, len(nodes))
	for _, l := range links {
		column[l.to] = max(column[l.to], column[l.from]+1)
	}
	columns := make([][]int, slices.Max(append(column, 0))+1)
	for i, c := range column {
		columns[c] = append(columns[c], i)
	}
	type box struct{ x, y, width int }
	boxes := make([]box, len(nodes))
	tallest := 0
	for _, c := range columns {
		tallest = max(tallest, len(c))
	}
	height := 2*svgMargin + tallest*svgBoxHeight + (tallest-1)*svgRowGap
	x := svgMargin
	for _, c := range columns {
		width := 0
		for _, i := range c {
			width = max(width, svgLetter*len(nodes[i].Name)+24)
		}
		own := len(c)*svgBoxHeight + (len(c)-1)*svgRowGap
		y := (height - own) / 2
		for _, i := range c {
			boxes[i] = box{x, y, width}
			y += svgBoxHeight + svgRowGap
		}
		x += width + svgColumnGap
	}
	width := x - svgColumnGap + svgMargin

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="ui-monospace,monospace" font-size="13">
<style>rect{fill:#eef3fb;stroke:#3b6fb6}text{fill:#1b2a41}path{fill:none;stroke:#7a8aa0}
@media(prefers-color-scheme:dark){rect{fill:#1d2a3d;stroke:#6ea0e0}text{fill:#e6edf7}path{stroke:#8c9bb0}}</style>
`, width, height, width, height)
	for _, l := range links {
		from, to := boxes[l.from], boxes[l.to]
		x1, y1, x2, y2 := from.x+from.width, from.y+svgBoxHeight/2, to.x, to.y+svgBoxHeight/2
		bend := svgColumnGap / 2
		fmt.Fprintf(&b, `<path d="M%d %dC%d %d %d %d %d %d"><title>%s to %s</title></path>`+"\n",
			x1, y1, x1+bend, y1, x2-bend, y2, x2, y2, html.EscapeString(nodes[l.from].Name), html.EscapeString(nodes[l.to].Name))
	}
	for i, n := range nodes {
		at := boxes[i]
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" rx="6"/><text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n",
			at.x, at.y, at.width, svgBoxHeight, at.x+at.width/2, at.y+svgBoxHeight/2+5, html.EscapeString(n.Name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
