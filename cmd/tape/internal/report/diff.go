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

	"go.yaml.in/yaml/v3"

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
	groups := groupMatters(d.Matters)
	for i, g := range groups {
		if g.What != last {
			last = g.What
			if !b.add(fmt.Sprintf("\n**%s**\n", concernNames[g.What])) {
				break
			}
		}
		if b.room < maxComment/2 {
			b.add(fmt.Sprintf("- and %d more\n", len(groups)-i))
			break
		}
		b.add(g.markdown())
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

// maxSubjects is how many subjects of a matter are named.
const maxSubjects = 20

// matterGroup is what matters of one subject, or what is the same of several.
type matterGroup struct {
	What     app.Concern
	Subjects []string
	More     int // subjects that are not named
	Texts    []string
}

// groupMatters puts together what is about one subject, and what several subjects have in
// common.
func groupMatters(list []app.Matter) []matterGroup {
	var subjects []matterGroup
	for _, m := range list {
		if n := len(subjects); n > 0 && subjects[n-1].What == m.What && subjects[n-1].Subjects[0] == subject(m) {
			subjects[n-1].Texts = append(subjects[n-1].Texts, m.Text)
			continue
		}
		subjects = append(subjects, matterGroup{What: m.What, Subjects: []string{subject(m)}, Texts: []string{m.Text}})
	}
	var out []matterGroup
	at := map[string]int{}
	for _, g := range subjects {
		key := string(g.What) + "\x00" + strings.Join(g.Texts, "\x00")
		i, known := at[key]
		if !known {
			at[key] = len(out)
			out = append(out, g)
			continue
		}
		out[i].Subjects = append(out[i].Subjects, g.Subjects...)
	}
	for i, g := range out {
		if more := len(g.Subjects) - maxSubjects; more > 0 {
			out[i].Subjects, out[i].More = g.Subjects[:maxSubjects], more
		}
	}
	return out
}

// Text is what the matter says of each of several subjects.
func (g matterGroup) Text() string { return strings.Join(g.Texts, "; ") }

func (g matterGroup) markdown() string {
	switch {
	case len(g.Subjects) > 1:
		text := "- each " + escape(g.Text()) + ": "
		for i, s := range g.Subjects {
			if i > 0 {
				text += ", "
			}
			text += span(s)
		}
		if g.More > 0 {
			text += fmt.Sprintf(" and %d more", g.More)
		}
		return text + "\n"
	case len(g.Texts) > 1:
		text := "- " + span(g.Subjects[0]) + "\n"
		for _, t := range g.Texts {
			text += "  - " + escape(t) + "\n"
		}
		return text
	}
	return fmt.Sprintf("- %s %s\n", span(g.Subjects[0]), escape(g.Texts[0]))
}

// diffSection is a part that is folded.
type diffSection struct {
	// Object is set if it is about what changed in one.
	Object *app.ObjectKey
	Title  string
	Lines  []diffLine
}

// diffLine is a field, or a name, with what it was and is.
type diffLine struct {
	Name string
	Note string // behind the name
	// Rows begin with -, + or a space, and are of values.
	Rows []string
}

const (
	// repeated is how many objects a change is in that is told once for all of them.
	repeated = 3
	// fewObjects is how many are named.
	fewObjects = 4
)

// metadataPath is the path of a label or an annotation, of an object or of its pods.
var metadataPath = regexp.MustCompile(`(?:^|\.)metadata\.(?:labels|annotations)[.\[](.+?)\]?$`)

// versionLabels are labels that differ with each version of a chart.
var versionLabels = map[string]bool{"helm.sh/chart": true, "chart": true, "app.kubernetes.io/version": true, "version": true}

// shared is a change that is told once.
type shared struct {
	line    diffLine
	objects []string
	always  bool // also if few objects have it
}

// sharedChanges are those that several objects have in common, as the labels with the
// version of a chart, by what is equal for those that are the same. Names of the objects
// follow the changes.
func (n names) sharedChanges(changed []app.ObjectChange) (all map[string]*shared, order []string) {
	all = map[string]*shared{}
	for _, o := range changed {
		for _, f := range o.Fields {
			key := same(o, f)
			s := all[key]
			if s == nil {
				s = &shared{}
				switch label := metadataPath.FindStringSubmatch(f.Path); {
				case isChecksum(f):
					s.line, s.always = diffLine{Name: "checksums"}, true
				case label != nil:
					s.line = n.fieldLine(f.Path[strings.LastIndex(f.Path, "metadata."):], f.From, f.To)
					s.always = versionLabels[label[1]]
				default:
					s.line = n.fieldLine(f.Path, f.From, f.To)
				}
				all[key], order = s, append(order, key)
			}
			if name := objectName(o.ObjectKey); !slices.Contains(s.objects[max(0, len(s.objects)-1):], name) {
				s.objects = append(s.objects, name)
			}
		}
	}
	for key, s := range all {
		if len(s.objects) < repeated && !s.always {
			delete(all, key)
			continue
		}
		note := fmt.Sprintf("in %d objects", len(s.objects))
		if len(s.objects) <= fewObjects {
			note = "in " + strings.Join(s.objects, ", ")
		}
		if s.line.Name == "checksums" {
			note += ": what its pods read at their start changed, so they start anew"
		}
		s.line.Note = strings.TrimSpace(note + " " + s.line.Note)
	}
	return all, slices.DeleteFunc(order, func(key string) bool { return all[key] == nil })
}

// isChecksum reports whether a change is of an annotation with a checksum, which differs with
// what it is of.
func isChecksum(f app.FieldChange) bool {
	label := metadataPath.FindStringSubmatch(f.Path)
	return label != nil && strings.Contains(strings.ToLower(label[1]), "checksum") &&
		longHex.Match(f.From) && longHex.Match(f.To)
}

// diffSections are the details of a diff. A change that many objects have in common is told
// once.
func diffSections(d *app.DiffResult) []diffSection {
	var out []diffSection
	list := func(title string, list []app.ObjectKey) {
		if len(list) == 0 {
			return
		}
		s := diffSection{Title: plural(len(list), "object") + " " + title}
		for _, key := range list {
			s.Lines = append(s.Lines, diffLine{Name: objectName(key)})
		}
		out = append(out, s)
	}
	list("removed", d.Objects.Removed)
	list("added", d.Objects.Added)

	n := newNames(d.Images)
	common, order := n.sharedChanges(d.Objects.Changed)
	shared := len(out)
	if len(order) > 0 {
		s := diffSection{Title: "Versions, checksums, and what changed the same way in several objects"}
		for _, key := range order {
			s.Lines = append(s.Lines, common[key].line)
		}
		out = append(out, s)
	}
	var definitions []diffSection
	described, others := diffSection{}, 0
	for _, o := range d.Objects.Changed {
		own := app.ObjectChange{ObjectKey: o.ObjectKey}
		for _, f := range o.Fields {
			if common[same(o, f)] == nil {
				own.Fields = append(own.Fields, f)
			}
		}
		if len(own.Fields) == 0 {
			others++
			continue
		}
		key := o.ObjectKey
		switch {
		case o.Kind != definition:
			s := diffSection{Object: &key, Title: objectName(key) + ": " + plural(len(own.Fields), "field"), Lines: n.lines(own.Fields)}
			out = append(out, s)
		case !slices.ContainsFunc(own.Fields, func(f app.FieldChange) bool { return !isDescription(f) }):
			described.Lines = append(described.Lines, diffLine{Name: key.Name})
		default:
			definitions = append(definitions, n.schemaSection(own))
		}
	}
	if others > 0 {
		out[shared].Title += ": nothing else in " + plural(others, "object")
	}
	out = append(out, definitions...)
	if len(described.Lines) > 0 {
		described.Title = plural(len(described.Lines), definition) + " of which only descriptions changed"
		out = append(out, described)
	}
	if n := len(d.Generated); n > 0 {
		s := diffSection{Title: plural(n, "object") + " with values that each rendering generates anew, which do not count"}
		for _, o := range d.Generated {
			for _, f := range o.Fields {
				s.Lines = append(s.Lines, diffLine{Name: objectName(o.ObjectKey) + " " + f.Path})
			}
		}
		out = append(out, s)
	}
	if len(d.Source.Changed) > 0 {
		out = append(out, diffSection{Title: "Where it comes from", Lines: n.sourceLines(d.Source.Changed)})
	}
	return out
}

// fewFiles is how many files of a source are named.
const fewFiles = 12

// sourceLines tell what differs of the sources, and which of their files, in one line each
// for those that are new, gone and changed.
func (n names) sourceLines(changed []app.SourceChange) []diffLine {
	var out []diffLine
	files := map[string][]string{} // by source and what happened
	var order []string
	for _, c := range changed {
		file, is := strings.CutPrefix(c.Fact, "file ")
		if !is {
			out = append(out, n.fieldLine(strings.TrimSpace(c.Source+" "+c.Fact), quoted(c.From), quoted(c.To)))
			continue
		}
		how := "changed"
		switch {
		case c.From == "":
			how = "new"
		case c.To == "":
			how = "gone"
		}
		key := c.Source + "\x00" + how
		if files[key] == nil {
			order = append(order, key)
		}
		files[key] = append(files[key], file)
	}
	for _, key := range order {
		source, how, _ := strings.Cut(key, "\x00")
		list := files[key]
		count := len(list)
		more := ""
		if count > fewFiles {
			list, more = list[:fewFiles], fmt.Sprintf(" and %d more", count-fewFiles)
		}
		out = append(out, diffLine{Name: strings.TrimSpace(source + " files"), Note: fmt.Sprintf("%d %s: %s%s", count, how, strings.Join(list, ", "), more)})
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
const maxSchema = 20

var (
	schemaKeys    = regexp.MustCompile(`\.(properties|schema\.openAPIV3Schema)\b`)
	schemaVersion = regexp.MustCompile(`^spec\.versions\[([^\]]+)\]`)
)

func isDescription(f app.FieldChange) bool { return strings.HasSuffix(f.Path, ".description") }

// schemaSection tells which fields of a definition differ: those that are gone and those
// that changed before new ones, and once if several versions have them. What a new one looks
// like, and what is said of them, is for the documentation.
func (n names) schemaSection(o app.ObjectChange) diffSection {
	var kinds [3][]diffLine // gone, changed, new
	texts := 0
	at := map[string][2]int{} // where a field is told
	for _, f := range o.Fields {
		if isDescription(f) {
			texts++
			continue
		}
		name := strings.TrimPrefix(schemaKeys.ReplaceAllString(f.Path, ""), ".")
		line := n.fieldLine(name, f.From, f.To)
		kind := 1
		switch {
		case f.From == nil && len(line.Rows) > 1:
			line, kind = diffLine{Name: name, Note: "is new"}, 2
		case f.From == nil:
			kind = 2
		case f.To == nil && len(line.Rows) > 1:
			line, kind = diffLine{Name: name, Note: "is gone"}, 0
		case f.To == nil:
			kind = 0
		}
		if version := schemaVersion.FindStringSubmatch(name); version != nil {
			key := strings.Join(append([]string{name[len(version[0]):], line.Note}, line.Rows...), "\x00")
			if i, is := at[key]; is {
				told := &kinds[i[0]][i[1]]
				known := schemaVersion.FindString(told.Name)
				told.Name = known[:len(known)-1] + ", " + version[1] + told.Name[len(known)-1:]
				continue
			}
			at[key] = [2]int{kind, len(kinds[kind])}
		}
		kinds[kind] = append(kinds[kind], line)
	}
	key := o.ObjectKey
	var counts []string
	for i, how := range []string{"gone", "changed", "new"} {
		if len(kinds[i]) > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", len(kinds[i]), how))
		}
	}
	s := diffSection{Object: &key, Title: objectName(key) + ": fields " + strings.Join(counts, ", "), Lines: slices.Concat(kinds[:]...)}
	if more := len(s.Lines) - maxSchema; more > 0 {
		s.Lines = append(s.Lines[:maxSchema], diffLine{Name: "schema", Note: fmt.Sprintf("differs in %s more", plural(more, "field"))})
	}
	if texts > 0 {
		s.Lines = append(s.Lines, diffLine{Name: "description", Note: fmt.Sprintf("of %s changed", plural(texts, "field"))})
	}
	return s
}

// same is equal for two changes that are the same. All checksums are. Of definitions only
// labels and annotations are compared: their schemas have more in common than it helps to know.
func same(o app.ObjectChange, f app.FieldChange) string {
	path := f.Path
	switch {
	case isChecksum(f):
		return "checksums"
	case metadataPath.MatchString(path):
		path = path[strings.LastIndex(path, "metadata."):]
	case o.Kind == definition:
		path = o.String() + "\x00" + path
	}
	return path + "\x00" + string(f.From) + "\x00" + string(f.To)
}

// names are the images as they were named where they come from, by digest.
type names map[string]string

func newNames(d app.ImagesDiff) names {
	n := names{}
	for _, i := range slices.Concat(d.Removed, d.Added) {
		n[i.Digest.String()] = i.Name
	}
	for _, i := range d.Changed {
		n[i.From.String()], n[i.To.String()] = i.Was, i.Name
		if i.Was == "" { // the same name: the digests tell them apart
			n[i.From.String()], n[i.To.String()] = i.Name+"@"+i.From.String(), i.Name+"@"+i.To.String()
		}
	}
	return n
}

// pinned is a reference as tape writes it.
var pinned = regexp.MustCompile(`[^\s"'=,]+@(sha256:[0-9a-f]{64})\b`)

// text is a row for people: images that differ are called as where they come from, and
// digests are short.
func (n names) text(row string) string {
	row = pinned.ReplaceAllStringFunc(row, func(ref string) string {
		if name := n[ref[strings.LastIndex(ref, "@")+1:]]; name != "" {
			return name
		}
		return ref
	})
	return printable(longHex.ReplaceAllString(row, "$1…"))
}

// hidden is what stands for a value of a Secret.
const hidden = `"(hidden)"`

// listItem is the path of an item that has no name.
var listItem = regexp.MustCompile(`^(.+)\[\d+\]$`)

// lines are the fields of an object. Items of a list of texts are told together.
func (n names) lines(fields []app.FieldChange) []diffLine {
	var out []diffLine
	list := ""
	for _, f := range fields {
		line := n.fieldLine(f.Path, f.From, f.To)
		item := listItem.FindStringSubmatch(f.Path)
		if item == nil || !isText(f.From) || !isText(f.To) {
			out, list = append(out, line), ""
			continue
		}
		line.Name = item[1]
		if last := len(out) - 1; list == item[1] && line.Note == "" && out[last].Note == "" {
			out[last].Rows = append(out[last].Rows, line.Rows...)
			continue
		}
		out, list = append(out, line), item[1]
	}
	return out
}

func isText(v json.RawMessage) bool {
	return v == nil || v[0] == '"' && !bytes.Contains(v, []byte(`\n`))
}

// maxRows is how many rows of a value are shown that is new as a whole; of what is gone it
// is fewRows.
const maxRows, fewRows = 60, 12

func (n names) fieldLine(path string, from, to json.RawMessage) diffLine {
	l := diffLine{Name: path}
	if string(from) == hidden && string(to) == hidden {
		l.Note = "has another value, which is not shown"
		return l
	}
	was, is := n.rows(from), n.rows(to)
	if len(was) == 1 && len(is) == 1 && len(was[0])+len(is[0]) > longValue {
		if was, is := strings.Split(was[0], ","), strings.Split(is[0], ","); len(was) > 4 && len(is) > 4 {
			l.Note, l.Rows = "in the list of "+plural(len(is), "value"), changedRows(lineDiff(was, is))
			return l
		}
	}
	if len(was)+len(is) > 2 && len(was) > 0 && len(is) > 0 {
		l.Rows = lineDiff(was, is)
		return l
	}
	l.Rows = append(some("-", was, fewRows), some("+", is, maxRows)...)
	return l
}

// longValue is how long two values are together of which only the difference is shown.
const longValue = 160

// changedRows are those that differ.
func changedRows(rows []string) []string {
	return slices.DeleteFunc(rows, func(row string) bool { return row[0] == ' ' })
}

// some are the rows with a sign, or the first of them.
func some(sign string, rows []string, most int) []string {
	var out []string
	for i, row := range rows {
		if i == most && len(rows) > most+2 {
			return append(out, fmt.Sprintf(" ⋮ %d lines more", len(rows)-i))
		}
		out = append(out, sign+row)
	}
	return out
}

// rows is a value as rows: texts as they are, what is structured as YAML, or as JSON if it
// is short.
func (n names) rows(v json.RawMessage) []string {
	if v == nil {
		return nil
	}
	var value any
	text := string(v)
	switch err := json.Unmarshal(v, &value); value := value.(type) {
	case string:
		text = value
	case map[string]any, []any:
		var data strings.Builder
		enc := yaml.NewEncoder(&data)
		enc.SetIndent(2)
		if err == nil && len(v) > 60 && enc.Encode(structure(v)) == nil {
			text = data.String()
		}
	}
	rows := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, row := range rows {
		rows[i] = n.text(row)
	}
	return rows
}

// structure is JSON as YAML has it. Numbers stay as they are written.
func structure(v json.RawMessage) *yaml.Node {
	var doc yaml.Node
	if err := yaml.Unmarshal(v, &doc); err != nil {
		return &yaml.Node{Kind: yaml.ScalarNode, Value: string(v)}
	}
	var plain func(*yaml.Node)
	plain = func(n *yaml.Node) {
		n.Style = 0
		for _, below := range n.Content {
			plain(below)
		}
	}
	plain(&doc)
	return &doc
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
	pair := len(l.Rows) == 2 && l.Rows[0][0] == '-' && l.Rows[1][0] == '+'
	if (pair || len(l.Rows) == 1) && !slices.ContainsFunc(l.Rows, func(r string) bool { return len(r) > 80 }) {
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

// DiffText writes a diff with lines of at most width characters; 0 is any width.
func DiffText(w io.Writer, d *app.DiffResult, width int) error {
	var text strings.Builder
	line := func(format string, args ...any) {
		text.WriteString(show.Fit(fmt.Sprintf(format, args...), width) + "\n")
	}
	groups := groupMatters(d.Matters)
	for _, g := range groups {
		concern := strings.ToLower(concernNames[g.What])
		if len(g.Subjects) == 1 {
			for _, t := range g.Texts {
				line("! %s: %s %s", concern, g.Subjects[0], t)
			}
			continue
		}
		line("! %s: each %s:", concern, g.Text())
		for _, s := range g.Subjects {
			line("    %s", s)
		}
		if g.More > 0 {
			line("    and %d more", g.More)
		}
	}
	if len(groups) > 0 {
		line("")
	}
	n := newNames(d.Images)
	for _, l := range n.sourceLines(d.Source.Changed) {
		l.Name = "source " + l.Name
		l.text(line, "")
	}
	imagesText(line, d.Images)
	for _, k := range d.Objects.Removed {
		line("- %s", k)
	}
	for _, k := range d.Objects.Added {
		line("+ %s", k)
	}
	for _, s := range diffSections(&app.DiffResult{Images: d.Images, Objects: app.ObjectsDiff{Changed: d.Objects.Changed}}) {
		if s.Object != nil {
			line("~ %s", *s.Object)
		} else {
			line("~ %s", strings.ToLower(s.Title[:1])+s.Title[1:])
		}
		for _, l := range s.Lines {
			l.text(line, "    ")
		}
	}
	for _, o := range d.Generated {
		line("= %s: each rendering generates %d of its fields anew", o.ObjectKey, len(o.Fields))
	}
	if d.Empty() {
		line("the applications are the same")
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func imagesText(line func(string, ...any), d app.ImagesDiff) {
	for _, i := range d.Removed {
		line("- image %s@%s", i.Name, i.Digest)
	}
	for _, i := range d.Added {
		line("+ image %s@%s", i.Name, i.Digest)
	}
	for _, i := range d.Changed {
		if i.Was != "" {
			line("~ image %s → %s", i.Was, i.Name)
		} else {
			line("~ image %s", i.Name)
		}
		line("    %s → %s", longHex.ReplaceAllString(i.From.String(), "$1…"), longHex.ReplaceAllString(i.To.String(), "$1…"))
		if i.Platforms != nil {
			for _, name := range i.Platforms.Removed {
				line("    - %s", name)
			}
			for _, name := range i.Platforms.Added {
				line("    + %s", name)
			}
		}
	}
}

// lineLength is how long a field's values may be to stand on its line.
const lineLength = 80

// text is the line for a terminal.
func (l diffLine) text(line func(string, ...any), indent string) {
	name := l.Name
	if l.Note != "" {
		name += " " + l.Note
	}
	switch n := len(l.Rows); {
	case n == 0:
		line("%s~ %s", indent, name)
	case n == 1 && l.Rows[0][0] != ' ':
		line("%s%c %s: %s", indent, l.Rows[0][0], name, l.Rows[0][1:])
	case n == 2 && l.Rows[0][0] == '-' && l.Rows[1][0] == '+' && len(name)+len(l.Rows[0])+len(l.Rows[1]) < lineLength:
		line("%s~ %s: %s → %s", indent, name, l.Rows[0][1:], l.Rows[1][1:])
	default:
		line("%s~ %s", indent, name)
		for _, row := range l.Rows {
			line("%s    %c %s", indent, row[0], row[1:])
		}
	}
}

// DiffPage writes a diff as one self-contained HTML page.
func DiffPage(w io.Writer, d *app.DiffResult, of Sides) error {
	t, err := template.New("diff").Funcs(template.FuncMap{
		"concern": Concern,
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
		Matters  []matterGroup
		Sections []diffSection
		Empty    bool
	}{of, Summary(d), groupMatters(d.Matters), diffSections(d), d.Empty()})
	if err != nil {
		return err
	}
	_, err = w.Write(show.WithPolicy(page.Bytes()))
	return err
}
