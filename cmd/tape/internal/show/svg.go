// SPDX-License-Identifier: Apache-2.0

package show

import (
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
	needs := make([][]int, len(nodes)) // inputs of a node, each once
	for _, e := range edges(g) {
		if !slices.Contains(needs[e.to], e.from) {
			needs[e.to] = append(needs[e.to], e.from)
		}
	}
	// A node's column is one after that of its last input.
	column := make([]int, len(nodes))
	var columns [][]int
	for i := range nodes {
		for _, from := range needs[i] {
			column[i] = max(column[i], column[from]+1)
		}
		for len(columns) <= column[i] {
			columns = append(columns, nil)
		}
		columns[column[i]] = append(columns[column[i]], i)
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
	for i, n := range nodes {
		to := boxes[i]
		for _, from := range slices.Sorted(slices.Values(needs[i])) {
			f := boxes[from]
			x1, y1, x2, y2 := f.x+f.width, f.y+svgBoxHeight/2, to.x, to.y+svgBoxHeight/2
			bend := svgColumnGap / 2
			fmt.Fprintf(&b, `<path d="M%d %dC%d %d %d %d %d %d"><title>%s to %s</title></path>`+"\n",
				x1, y1, x1+bend, y1, x2-bend, y2, x2, y2, html.EscapeString(nodes[from].Name), html.EscapeString(n.Name))
		}
	}
	for i, n := range nodes {
		at := boxes[i]
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" rx="6"/><text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n",
			at.x, at.y, at.width, svgBoxHeight, at.x+at.width/2, at.y+svgBoxHeight/2+5, html.EscapeString(n.Name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
