// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/stages/app"
)

//go:embed diff.html
var diffTemplate string

// Sides are what people call the two things that a diff compares.
type Sides struct{ A, B string }

// maxComment is how long a comment of a pull request may be: GitHub takes 65536 characters.
const maxComment = 64_000

// concernNames are what a matter is called at the beginning of its line.
var concernNames = map[app.Concern]string{
	app.NewRegistry: "New registry", app.LostEvidence: "Lost evidence", app.Access: "Access to the node", app.Rights: "Rights",
	app.Extension: "Cluster-wide", app.Exposure: "Exposed", app.Removed: "Removed", app.NewImage: "New image", app.Version: "Version",
}

// Concern is what a kind of matter is called.
func Concern(c app.Concern) string { return concernNames[c] }

// DiffMarkdown writes a diff as a comment of a pull request: what matters, and the rest
// folded. What does not fit is counted.
func DiffMarkdown(w io.Writer, d *app.DiffResult, of Sides) error {
	b := &comment{room: maxComment}
	if d.Empty() {
		b.add(fmt.Sprintf("**No change** from %s to %s.\n", span(of.A), span(of.B)))
		_, err := io.WriteString(w, b.String())
		return err
	}
	b.add(fmt.Sprintf("### What changes from %s to %s\n\n%s\n", span(of.A), span(of.B), Summary(d)))
	last := app.Concern("")
	for i, m := range d.Matters {
		if m.What != last {
			last = m.What
			if !b.add(fmt.Sprintf("\n**%s**\n", concernNames[m.What])) {
				break
			}
		}
		if b.room < maxComment/2 {
			b.add(fmt.Sprintf("- and %d more\n", len(d.Matters)-i))
			break
		}
		b.add(fmt.Sprintf("- %s %s\n", span(subject(m)), escape(m.Text)))
	}
	left := 0
	for _, s := range diffSections(d) {
		head := fmt.Sprintf("\n<details><summary>%s</summary>\n\n", escape(s.Title))
		const tail = "\n</details>\n"
		body := &comment{room: b.room - len(head) - len(tail) - 200}
		whole := true
		for _, line := range s.Lines {
			if whole = whole && body.add(line.markdown()); !whole {
				break
			}
		}
		if body.Len() == 0 {
			left++
			continue
		}
		if !whole {
			body.WriteString("\nThe rest does not fit in here.\n")
		}
		b.add(head + body.String() + tail)
	}
	if left > 0 {
		b.WriteString(fmt.Sprintf("\n%s not shown: the comment would be too long.\n", plural(left, "section")))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// comment is text that has a bounded length, in bytes.
type comment struct {
	strings.Builder
	room int
}

// add adds text if there is room for it.
func (c *comment) add(text string) bool {
	if len(text) > c.room {
		return false
	}
	c.room -= len(text)
	c.WriteString(text)
	return true
}

// Summary counts what differs.
func Summary(d *app.DiffResult) string {
	var parts []string
	for _, c := range []struct {
		n    int
		what string
		how  string
	}{
		{len(d.Objects.Added), "object", "added"}, {len(d.Objects.Changed), "object", "changed"}, {len(d.Objects.Removed), "object", "removed"},
		{len(d.Images.Added), "image", "added"}, {len(d.Images.Changed), "image", "changed"}, {len(d.Images.Removed), "image", "removed"},
	} {
		if c.n > 0 {
			parts = append(parts, plural(c.n, c.what)+" "+c.how)
		}
	}
	if len(parts) == 0 {
		return "Only where it comes from differs."
	}
	return strings.Join(parts, ", ") + "."
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// diffSection is a part that is folded.
type diffSection struct {
	Title string
	Lines []diffLine
}

// diffLine is a field, or a name, with what it was and is.
type diffLine struct {
	Name string
	Note string // behind the name
	// Rows begin with -, + or a space, and are of values.
	Rows []string
}

// repeated is how many objects a change is in that is told once for all of them.
const repeated = 3

// diffSections are the details of a diff. A change that many objects have in common, as
// the label with the version of a chart, is told once.
func diffSections(d *app.DiffResult) []diffSection {
	var out []diffSection
	names := func(title string, list []app.ObjectKey) {
		if len(list) == 0 {
			return
		}
		s := diffSection{Title: plural(len(list), "object") + " " + title}
		for _, key := range list {
			s.Lines = append(s.Lines, diffLine{Name: objectName(key)})
		}
		out = append(out, s)
	}
	names("removed", d.Objects.Removed)
	names("added", d.Objects.Added)

	in := map[string]int{} // a change → how many objects have it
	for _, o := range d.Objects.Changed {
		for _, f := range o.Fields {
			if o.Kind != definition {
				in[same(f)]++
			}
		}
	}
	common, told := diffSection{}, map[string]bool{}
	var rest, definitions []diffSection
	for _, o := range d.Objects.Changed {
		if o.Kind == definition {
			definitions = append(definitions, schemaSection(o))
			continue
		}
		s := diffSection{}
		for _, f := range o.Fields {
			switch at := same(f); {
			case in[at] < repeated:
				s.Lines = append(s.Lines, fieldLine(f.Path, f.From, f.To))
			case !told[at]:
				told[at] = true
				line := fieldLine(f.Path, f.From, f.To)
				line.Note = strings.TrimSpace(fmt.Sprintf("in %d objects %s", in[at], line.Note))
				common.Lines = append(common.Lines, line)
			}
		}
		if s.Title = fmt.Sprintf("%s: %s", objectName(o.ObjectKey), plural(len(s.Lines), "field")); len(s.Lines) > 0 {
			rest = append(rest, s)
		}
	}
	if len(common.Lines) > 0 {
		common.Title = plural(len(common.Lines), "field") + " that changed the same way in several objects"
		out = append(out, common)
	}
	out = append(append(out, rest...), definitions...)
	if n := len(d.Generated); n > 0 {
		s := diffSection{Title: plural(n, "object") + " with values that each rendering generates anew, which do not count"}
		for _, o := range d.Generated {
			for _, f := range o.Fields {
				s.Lines = append(s.Lines, diffLine{Name: objectName(o.ObjectKey) + " " + f.Path})
			}
		}
		out = append(out, s)
	}
	if list := d.Source.Changed; len(list) > 0 {
		s := diffSection{Title: "Where it comes from"}
		for _, c := range list {
			name := strings.TrimSpace(c.Source + " " + c.Fact)
			if strings.HasPrefix(c.Fact, "file ") {
				note := "changed"
				switch {
				case c.From == "":
					note = "is new"
				case c.To == "":
					note = "is gone"
				}
				s.Lines = append(s.Lines, diffLine{Name: name, Note: note})
				continue
			}
			s.Lines = append(s.Lines, fieldLine(name, quoted(c.From), quoted(c.To)))
		}
		out = append(out, s)
	}
	return out
}

// quoted is a text as a value; nil if there is none.
func quoted(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	data, _ := json.Marshal(text)
	return data
}

// own are the groups of Kubernetes' own kinds, which people know by their kind.
var own = regexp.MustCompile(`^(|apps|batch|autoscaling|policy|[a-z.]+\.k8s\.io)$`)

// objectName names an object as people do.
func objectName(key app.ObjectKey) string {
	if own.MatchString(key.Group) {
		key.Group = ""
	}
	return key.String()
}

// subject is what a matter is about.
func subject(m app.Matter) string {
	if m.Object != nil {
		return objectName(*m.Object)
	}
	return m.Image
}

// definition is the kind whose fields are mostly a schema.
const definition = "CustomResourceDefinition"

// maxSchema is how many fields of a definition are told one by one.
const maxSchema = 30

var schemaKeys = regexp.MustCompile(`\.(properties|schema\.openAPIV3Schema)\b`)

// schemaSection tells which fields of a definition differ. What a new one looks like, and
// what is said of them, is for the documentation.
func schemaSection(o app.ObjectChange) diffSection {
	var s diffSection
	texts := 0
	for _, f := range o.Fields {
		name := strings.TrimPrefix(schemaKeys.ReplaceAllString(f.Path, ""), ".")
		switch line := fieldLine(name, f.From, f.To); {
		case strings.HasSuffix(f.Path, ".description"):
			texts++
		case f.From == nil && len(line.Rows) > 1:
			s.Lines = append(s.Lines, diffLine{Name: name, Note: "is new"})
		case f.To == nil && len(line.Rows) > 1:
			s.Lines = append(s.Lines, diffLine{Name: name, Note: "is gone"})
		default:
			s.Lines = append(s.Lines, line)
		}
	}
	s.Title = fmt.Sprintf("%s: %s", objectName(o.ObjectKey), plural(len(o.Fields), "field"))
	if more := len(s.Lines) - maxSchema; more > 0 {
		s.Lines = append(s.Lines[:maxSchema], diffLine{Name: "schema", Note: fmt.Sprintf("differs in %s more", plural(more, "field"))})
	}
	if texts > 0 {
		s.Lines = append(s.Lines, diffLine{Name: "description", Note: fmt.Sprintf("of %s changed", plural(texts, "field"))})
	}
	return s
}

// same is equal for two changes that are the same.
func same(f app.FieldChange) string {
	return f.Path + "\x00" + string(f.From) + "\x00" + string(f.To)
}

func fieldLine(path string, from, to json.RawMessage) diffLine {
	l := diffLine{Name: path}
	was, is := valueRows(from), valueRows(to)
	if len(was)+len(is) > 2 {
		l.Rows = lineDiff(was, is)
		return l
	}
	for _, row := range was {
		l.Rows = append(l.Rows, "-"+row)
	}
	for _, row := range is {
		l.Rows = append(l.Rows, "+"+row)
	}
	return l
}

// valueRows is a value as rows: texts as they are, what is structured as indented JSON.
func valueRows(v json.RawMessage) []string {
	if v == nil {
		return nil
	}
	var text string
	if err := json.Unmarshal(v, &text); err != nil || string(v) == "null" {
		var indented bytes.Buffer
		if text = string(v); json.Indent(&indented, v, "", "  ") == nil && len(v) > 60 {
			text = indented.String()
		}
	}
	rows := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, row := range rows {
		rows[i] = printable(longHex.ReplaceAllString(row, "$1…"))
	}
	return rows
}

// longHex is a digest or a checksum, of which the beginning is enough for people.
var longHex = regexp.MustCompile(`\b([0-9a-f]{12})[0-9a-f]{28,116}\b`)

// maxCells bounds the table that compares the rows of two texts.
const maxCells = 1 << 20

// lineDiff is what differs between two lists of rows, with a row around it.
func lineDiff(a, b []string) []string {
	start, n, m := 0, len(a), len(b)
	for start < min(n, m) && a[start] == b[start] {
		start++
	}
	for min(n, m) > start && a[n-1] == b[m-1] {
		n, m = n-1, m-1
	}
	x, y := a[start:n], b[start:m]
	var rows []string
	if (len(x)+1)*(len(y)+1) > maxCells {
		rows = append(rows, fmt.Sprintf(" %d lines became %d", len(x), len(y)))
		return rows
	}
	length := make([][]int32, len(x)+1)
	for i := range length {
		length[i] = make([]int32, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if length[i][j] = max(length[i+1][j], length[i][j+1]); x[i] == y[j] {
				length[i][j] = length[i+1][j+1] + 1
			}
		}
	}
	if start > 0 {
		rows = append(rows, " "+a[start-1])
	}
	var equal []string
	between := func() {
		if len(equal) > 3 {
			equal = []string{equal[0], " ⋮", equal[len(equal)-1]}
		}
		rows, equal = append(rows, equal...), nil
	}
	for i, j := 0, 0; i < len(x) || j < len(y); {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			equal = append(equal, " "+x[i])
			i, j = i+1, j+1
		case i < len(x) && (j == len(y) || length[i+1][j] >= length[i][j+1]):
			between()
			rows = append(rows, "-"+x[i])
			i++
		default:
			between()
			rows = append(rows, "+"+y[j])
			j++
		}
	}
	if n < len(a) {
		rows = append(rows, " "+a[n])
	}
	return rows
}

// markdown is the line as an item of a list.
func (l diffLine) markdown() string {
	if len(l.Rows) == 0 {
		return "- " + strings.TrimSpace(span(l.Name)+" "+escape(l.Note)) + "\n"
	}
	if len(l.Rows) <= 2 && !slices.ContainsFunc(l.Rows, func(r string) bool { return len(r) > 80 }) {
		text := "- " + strings.TrimSpace(span(l.Name)+" "+escape(l.Note)) + ": "
		for i, row := range l.Rows {
			value := span(row[1:])
			switch {
			case row[0] == '-' && len(l.Rows) == 1:
				text += "~~" + value + "~~ is gone"
			case row[0] == '+' && len(l.Rows) == 1:
				text += "new, " + value
			case i > 0:
				text += " → " + value
			default:
				text += value
			}
		}
		return text + "\n"
	}
	fence := strings.Repeat("`", max(3, longestRun(strings.Join(l.Rows, "\n"))+1))
	text := "- " + strings.TrimSpace(span(l.Name)+" "+escape(l.Note)) + "\n  " + fence + "diff\n"
	for _, row := range l.Rows {
		text += "  " + row + "\n"
	}
	return text + "  " + fence + "\n"
}

// span is text as code that nothing in it ends.
func span(text string) string {
	text = printable(strings.ReplaceAll(text, "\n", " "))
	if text == "" {
		text = `""`
	}
	fence := strings.Repeat("`", longestRun(text)+1)
	if strings.HasPrefix(text, "`") || strings.HasSuffix(text, "`") {
		text = " " + text + " "
	}
	return fence + text + fence
}

func longestRun(text string) int {
	longest, run := 0, 0
	for _, r := range text {
		if run++; r != '`' {
			run = 0
		}
		longest = max(longest, run)
	}
	return longest
}

// markup are the characters that mean something in Markdown or HTML.
var markup = regexp.MustCompile("[\\\\`*_{}\\[\\]<>#|~!&@]")

// escape is text that is only text in Markdown.
func escape(text string) string {
	return markup.ReplaceAllStringFunc(printable(text), func(s string) string {
		switch s {
		case "<":
			return "&lt;"
		case ">":
			return "&gt;"
		case "&":
			return "&amp;"
		}
		return `\` + s
	})
}

// printable replaces control characters, also those that change the direction of text.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == utf8.RuneError {
			return '�'
		}
		return r
	}, text)
}

// DiffPage writes a diff as one self-contained HTML page.
func DiffPage(w io.Writer, d *app.DiffResult, of Sides) error {
	t, err := template.New("diff").Funcs(template.FuncMap{
		"concern": Concern, "subject": subject,
		"kind": func(row string) string {
			return map[byte]string{'-': "del", '+': "ins"}[cmp.Or(row, " ")[0]]
		},
	}).Parse(diffTemplate)
	if err != nil {
		return err
	}
	var page bytes.Buffer
	err = t.Execute(&page, struct {
		Sides
		Summary  string
		Matters  []app.Matter
		Sections []diffSection
		Empty    bool
	}{of, Summary(d), d.Matters, diffSections(d), d.Empty()})
	if err != nil {
		return err
	}
	_, err = w.Write(show.WithPolicy(page.Bytes()))
	return err
}
