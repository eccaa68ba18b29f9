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
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/internal/sequence"
	"github.com/taped-dev/tape/stages/app"
)

//go:embed diff.html
var diffTemplate string

// Sides are the names of the two sides of a diff.
type Sides struct{ A, B string }

// maxComment is the maximum length of a comment in bytes: GitHub accepts 65536 characters.
const maxComment = 64_000

// concernNames begin the lines of matters.
var concernNames = map[app.Concern]string{
	app.NewRegistry: "New registry", app.LostEvidence: "Lost evidence", app.Access: "Access to the node", app.Rights: "Rights",
	app.Extension: "Cluster-wide", app.Exposure: "Exposed", app.Removed: "Removed", app.NewImage: "New image", app.Version: "Version",
}

// DiffMarkdown writes a diff as a comment on a pull request: first what matters, then folded
// sections. It counts sections that do not fit.
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
		whole := !slices.ContainsFunc(s.Lines, func(line diffLine) bool { return !body.add(line.markdown()) })
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
		b.WriteString(fmt.Sprintf("\n%s not shown: the comment would be too long.\n", count.Of(left, "section")))
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

// Summary counts the differences.
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
			parts = append(parts, count.Of(c.n, c.what)+" "+c.how)
		}
	}
	if len(parts) == 0 {
		return "Only the origin differs."
	}
	return strings.Join(parts, ", ") + "."
}

// maxSubjects is how many subjects of a matter are named.
const maxSubjects = 20

// matterGroup has the matters of one subject, or a matter of several subjects.
type matterGroup struct {
	What     app.Concern
	Subjects []string
	More     int // number of subjects that are not named
	Texts    []string
}

// groupMatters groups matters by subject, and merges those that several subjects have in
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
	out := merged(subjects, func(g matterGroup) string {
		return string(g.What) + "\x00" + strings.Join(g.Texts, "\x00")
	}, func(into *matterGroup, g matterGroup) { into.Subjects = append(into.Subjects, g.Subjects...) })
	for i, g := range out {
		if more := len(g.Subjects) - maxSubjects; more > 0 {
			out[i].Subjects, out[i].More = g.Subjects[:maxSubjects], more
		}
	}
	return out
}

// Text returns the text of the matter, for each of several subjects.
func (g matterGroup) Text() string { return strings.Join(g.Texts, "; ") }

func (g matterGroup) markdown() string {
	switch {
	case len(g.Subjects) > 1:
		var spans []string
		for _, s := range g.Subjects {
			spans = append(spans, span(s))
		}
		text := "- each " + escape(g.Text()) + ": " + strings.Join(spans, ", ")
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

// diffSection is a folded section.
type diffSection struct {
	// Objects are the changed objects of the section.
	Objects []app.ObjectKey
	Title   string
	Lines   []diffLine
}

// diffLine is a field, or a name, with its old and new value.
type diffLine struct {
	Name string
	Note string // after the name
	// Rows begin with -, + or a space; they are the rows of values.
	Rows []string
	// Items is set if the rows are items of a list.
	Items bool
}

const (
	// repeated is the number of objects from which on a common change is reported once.
	repeated = 3
	// fewObjects is how many of them are named.
	fewObjects = 4
)

// metadataPath matches the path of a label or an annotation, of an object or of its pods.
var metadataPath = regexp.MustCompile(`(?:^|\.)metadata\.(?:labels|annotations)[.\[](.+?)\]?$`)

// versionLabels are labels that differ in each version of a chart.
var versionLabels = map[string]bool{"helm.sh/chart": true, "chart": true, "app.kubernetes.io/version": true, "version": true}

// shared is a change that is reported once.
type shared struct {
	key, name string // that of its line
	change    app.FieldChange
	objects   []string
	least     int // minimum number of objects that have it
}

// sharedChanges returns the changes that several objects have in common, such as labels with
// the version of a chart, with their keys, which are equal for equal changes. The names of the
// objects follow the changes.
func (n names) sharedChanges(changed []app.ObjectChange) (lines []diffLine, keys map[string]bool) {
	var all []shared
	for _, o := range changed {
		for _, f := range o.Fields {
			s := shared{key: same(o, f), name: f.Path, change: f, objects: []string{objectName(o.ObjectKey)}, least: repeated}
			switch label := metadataPath.FindStringSubmatch(f.Path); {
			case isChecksum(f):
				s.name, s.change, s.least = "checksums", app.FieldChange{}, 1
			case isVersion(f):
				s.name, s.least = "image", 2
			case label != nil:
				s.name = f.Path[strings.LastIndex(f.Path, "metadata."):]
				if versionLabels[label[1]] {
					s.least = 1
				}
			}
			all = append(all, s)
		}
	}
	all = merged(all, func(s shared) string { return s.key }, func(into *shared, s shared) {
		if into.objects[len(into.objects)-1] != s.objects[0] {
			into.objects = append(into.objects, s.objects[0])
		}
	})
	keys = map[string]bool{}
	for _, s := range all {
		if len(s.objects) < s.least {
			continue
		}
		note := "in " + count.Of(len(s.objects), "object")
		if len(s.objects) <= fewObjects {
			note = "in " + strings.Join(s.objects, ", ")
		}
		if s.name == "checksums" {
			note += ": what its pods read at their start changed, so they start anew"
		}
		line := n.fieldLine(s.name, s.change.From, s.change.To)
		line.Note = strings.TrimSpace(note + " " + line.Note)
		lines, keys[s.key] = append(lines, line), true
	}
	return lines, keys
}

// isChecksum reports whether a change is of an annotation with a checksum, which differs
// whenever its content does.
func isChecksum(f app.FieldChange) bool {
	label := metadataPath.FindStringSubmatch(f.Path)
	return label != nil && strings.Contains(strings.ToLower(label[1]), "checksum") &&
		(f.From == nil || longHex.Match(f.From)) && (f.To == nil || longHex.Match(f.To))
}

// diffSections returns the details of a diff. A change that many objects have in common is
// reported once.
func diffSections(d *app.DiffResult) []diffSection {
	var out []diffSection
	list := func(title string, list []app.ObjectKey) {
		if len(list) == 0 {
			return
		}
		s := diffSection{Title: count.Of(len(list), "object") + " " + title}
		for _, key := range list {
			s.Lines = append(s.Lines, diffLine{Name: objectName(key)})
		}
		out = append(out, s)
	}
	if len(d.Objects.Removed) > maxSubjects || len(d.Matters) == 0 { // otherwise each is named there
		list("removed", d.Objects.Removed)
	}
	list("added", d.Objects.Added)

	n := newNames(d.Images)
	common, keys := n.sharedChanges(d.Objects.Changed)
	shared := len(out)
	if len(common) > 0 {
		out = append(out, diffSection{Title: "Versions, checksums, and what changed the same way in several objects", Lines: common})
	}
	var changed, definitions []diffSection
	described, others := diffSection{}, 0
	for _, o := range d.Objects.Changed {
		own := app.ObjectChange{ObjectKey: o.ObjectKey}
		for _, f := range o.Fields {
			if !keys[same(o, f)] {
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
			lines := n.lines(own.Fields)
			changed = append(changed, diffSection{Objects: []app.ObjectKey{key}, Title: count.Of(len(lines), "field"), Lines: lines})
		case !slices.ContainsFunc(own.Fields, func(f app.FieldChange) bool { return !isDescription(f) }):
			described.Lines = append(described.Lines, diffLine{Name: key.Name})
		default:
			definitions = append(definitions, n.schemaSection(own))
		}
	}
	if others > 0 {
		have := " have"
		if others == 1 {
			have = " has"
		}
		out[shared].Title += "; " + count.Of(others, "object") + have + " no other change"
	}
	out = append(out, joined(changed)...)
	out = append(out, joined(definitions)...)
	if len(described.Lines) > 0 {
		described.Title = count.Of(len(described.Lines), definition) + " of which only descriptions changed"
		out = append(out, described)
	}
	if n := len(d.Generated); n > 0 {
		s := diffSection{Title: count.Of(n, "object") + " with values that each rendering generates anew, which do not count"}
		for _, o := range d.Generated {
			for _, f := range o.Fields {
				s.Lines = append(s.Lines, diffLine{Name: objectName(o.ObjectKey) + " " + f.Path})
			}
		}
		out = append(out, s)
	}
	if len(d.Source.Changed) > 0 {
		out = append(out, diffSection{Title: "Origin", Lines: n.sourceLines(d.Source.Changed)})
	}
	return out
}

// merged returns the elements in their order, in which the first of each key stands for all:
// join adds every later one to it.
func merged[T any](all []T, key func(T) string, join func(into *T, more T)) []T {
	var out []T
	at := map[string]int{}
	for _, e := range all {
		k := key(e)
		if i, known := at[k]; known {
			join(&out[i], e)
			continue
		}
		at[k] = len(out)
		out = append(out, e)
	}
	return out
}

// joined merges the sections of objects of one kind that changed in the same way, and adds the
// names of the objects to the titles.
func joined(sections []diffSection) []diffSection {
	out := merged(sections, func(s diffSection) string {
		return s.Objects[0].Group + "\x00" + s.Objects[0].Kind + fmt.Sprint(s.Lines)
	}, func(into *diffSection, s diffSection) { into.Objects = append(into.Objects, s.Objects...) })
	for i, s := range out {
		title := count.Of(len(s.Objects), s.Objects[0].Kind)
		if len(s.Objects) <= fewObjects {
			var names []string
			for _, key := range s.Objects {
				names = append(names, objectName(key))
			}
			title = strings.Join(names, ", ")
		}
		out[i].Title = title + ": " + s.Title
	}
	return out
}

// fewFiles is how many files of a source are named.
const fewFiles = 12

// sourceLines returns the differences of sources, with one line each for their new, removed and
// changed files.
func (n names) sourceLines(changed []app.SourceChange) []diffLine {
	type list struct {
		source, how string
		files       []string
	}
	var (
		out   []diffLine
		lists []list
	)
	for _, c := range changed {
		file, is := strings.CutPrefix(c.Fact, "file ")
		switch {
		case !is:
			out = append(out, n.fieldLine(strings.TrimSpace(c.Source+" "+c.Fact), quoted(c.From), quoted(c.To)))
		case c.From == "":
			lists = append(lists, list{c.Source, "new", []string{file}})
		case c.To == "":
			lists = append(lists, list{c.Source, "gone", []string{file}})
		default:
			lists = append(lists, list{c.Source, "changed", []string{file}})
		}
	}
	lists = merged(lists, func(l list) string { return l.source + "\x00" + l.how },
		func(into *list, l list) { into.files = append(into.files, l.files...) })
	lists = merged(lists, func(l list) string { return l.how + "\x00" + strings.Join(l.files, "\x00") },
		func(into *list, l list) { into.source += ", " + l.source }) // several environments read them
	for _, l := range lists {
		named, more := l.files, ""
		if len(named) > fewFiles {
			named, more = named[:fewFiles], fmt.Sprintf(" and %d more", len(named)-fewFiles)
		}
		note := fmt.Sprintf("%d %s: %s%s", len(l.files), l.how, strings.Join(named, ", "), more)
		out = append(out, diffLine{Name: strings.TrimSpace(l.source + " files"), Note: note})
	}
	return out
}

// quoted returns a text as a value; nil if it is empty.
func quoted(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	data, _ := json.Marshal(text)
	return data
}

// own matches the groups of Kubernetes' own kinds, which need no group to be recognised.
var own = regexp.MustCompile(`^(|apps|batch|autoscaling|policy|[a-z.]+\.k8s\.io)$`)

// objectName returns the name of an object for people.
func objectName(key app.ObjectKey) string {
	if own.MatchString(key.Group) {
		key.Group = ""
	}
	return key.String()
}

// subject returns the subject of a matter.
func subject(m app.Matter) string {
	if m.Object != nil {
		return objectName(*m.Object)
	}
	return m.Image
}

// definition is the kind that mostly consists of a schema.
const definition = "CustomResourceDefinition"

// maxSchema is how many fields of a definition are listed one by one.
const maxSchema = 20

var (
	schemaKeys    = regexp.MustCompile(`\.(properties|schema\.openAPIV3Schema)\b`)
	schemaVersion = regexp.MustCompile(`^spec\.versions\[([^\]]+)\]`)
)

func isDescription(f app.FieldChange) bool { return strings.HasSuffix(f.Path, ".description") }

// schemaLine is a change in a schema, and the number of fields that it affects.
type schemaLine struct {
	diffLine
	kind   int    // 0: removed, 1: changed, 2: new
	value  string // equal for fields that changed in the same way
	fields int
}

// key is equal for equal changes of what has a name.
func (l schemaLine) key(name string) string {
	return strings.Join(append([]string{name, l.Note, l.value}, l.Rows...), "\x00")
}

// schemaSection lists the fields of a definition that differ: removed and changed fields before
// new ones, and once if several versions or places have them. The content of new fields, and
// descriptions, are left to the documentation.
func (n names) schemaSection(o app.ObjectChange) diffSection {
	var all []schemaLine
	texts := 0
	for _, f := range o.Fields {
		if isDescription(f) {
			texts++
			continue
		}
		l := schemaLine{value: string(f.From) + "\x00" + string(f.To), fields: 1}
		l.diffLine = n.fieldLine(strings.TrimPrefix(schemaKeys.ReplaceAllString(f.Path, ""), "."), f.From, f.To)
		if l.kind = 1; f.From == nil {
			l.kind = 2
		} else if f.To == nil {
			l.kind = 0
		}
		if len(l.Rows) > 1 && l.kind != 1 {
			l.Rows, l.Note, l.value = nil, []string{"is gone", "", "is new"}[l.kind], ""
		}
		if item := listItem.FindStringSubmatch(l.Name); item != nil && isText(f.From) && isText(f.To) {
			l.Name, l.Items, l.value = item[1], true, ""
			if last := len(all) - 1; last >= 0 && all[last].Items && all[last].Name == l.Name && all[last].kind == l.kind {
				all[last].Rows = append(all[last].Rows, l.Rows...)
				continue
			}
		}
		all = append(all, l)
	}
	versions := merged(all, func(l schemaLine) string {
		return l.key(strings.TrimPrefix(l.Name, schemaVersion.FindString(l.Name)))
	}, func(into *schemaLine, l schemaLine) {
		if version := schemaVersion.FindStringSubmatch(l.Name); version != nil {
			known := schemaVersion.FindString(into.Name)
			into.Name = known[:len(known)-1] + ", " + version[1] + into.Name[len(known)-1:]
		}
	})
	slices.SortStableFunc(versions, func(a, b schemaLine) int { return a.kind - b.kind })
	var counts [3]int
	for _, l := range versions {
		counts[l.kind]++
	}
	var parts []string
	for i, how := range []string{"gone", "changed", "new"} {
		if counts[i] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[i], how))
		}
	}
	s := diffSection{Objects: []app.ObjectKey{o.ObjectKey}, Title: "fields " + strings.Join(parts, ", ")}
	more := 0
	for _, l := range inPlaces(versions) {
		if len(s.Lines) == maxSchema {
			more += l.fields
			continue
		}
		s.Lines = append(s.Lines, l.diffLine)
	}
	if more > 0 {
		s.Lines = append(s.Lines, diffLine{Name: "schema", Note: fmt.Sprintf("differs in %s more", count.Of(more, "field"))})
	}
	if texts > 0 {
		s.Lines = append(s.Lines, diffLine{Name: "description", Note: fmt.Sprintf("of %s changed", count.Of(texts, "field"))})
	}
	return s
}

// inPlaces merges equal changes in several places of a schema whose paths end alike, as if the
// same type is used.
func inPlaces(lines []schemaLine) []schemaLine {
	end := func(l schemaLine) string {
		keys := strings.Split(l.Name, ".")
		from := max(0, len(keys)-alikeKeys)
		if strings.HasPrefix(keys[len(keys)-1], "x-kubernetes-") { // a hint for the server
			from = len(keys) - 1
		}
		return l.key(strings.Join(keys[from:], "."))
	}
	places := map[string]int{}
	for _, l := range lines {
		places[end(l)]++
	}
	out := merged(lines, func(l schemaLine) string {
		if key := end(l); places[key] >= repeated {
			return key
		}
		return l.key(l.Name)
	}, func(into *schemaLine, l schemaLine) {
		into.Name = commonEnd(into.Name, l.Name)
		into.fields++
	})
	for i, l := range out {
		if l.fields > 1 {
			out[i].Name = "…" + l.Name
			out[i].Note = strings.TrimSpace(fmt.Sprintf("in %d places %s", l.fields, l.Note))
		}
	}
	return out
}

// alikeKeys is the number of last keys that the paths of merged places have in common.
const alikeKeys = 2

// commonEnd returns the keys that two paths have in common at their end.
func commonEnd(a, b string) string {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	n := 0
	for n < min(len(x), len(y)) && x[len(x)-1-n] == y[len(y)-1-n] {
		n++
	}
	return strings.Join(x[len(x)-n:], ".")
}

// containerImage matches the path of the image of a container.
var containerImage = regexp.MustCompile(`[cC]ontainers\[[^\]]+\]\.image$`)

// isVersion reports whether a container has another image.
func isVersion(f app.FieldChange) bool {
	return containerImage.MatchString(f.Path) && f.From != nil && f.To != nil
}

// same returns a key that is equal for equal changes. All checksums have the same, and all
// changes of a container from one image to another. Of definitions only labels and annotations
// are compared: their schemas have more in common than is useful.
func same(o app.ObjectChange, f app.FieldChange) string {
	path := f.Path
	switch {
	case isChecksum(f):
		return "checksums"
	case isVersion(f):
		path = "image"
	case metadataPath.MatchString(path):
		path = path[strings.LastIndex(path, "metadata."):]
	case o.Kind == definition:
		path = o.String() + "\x00" + path
	}
	return path + "\x00" + string(f.From) + "\x00" + string(f.To)
}

// names are the original names of images, by digest.
type names map[string]string

func newNames(d app.ImagesDiff) names {
	n := names{}
	for _, i := range slices.Concat(d.Removed, d.Added) {
		n[i.Digest.String()] = i.Name
	}
	for _, i := range d.Changed {
		n[i.From.String()], n[i.To.String()] = i.Was, i.Name
		if i.Was == "" { // the same name: the digests distinguish them
			n[i.From.String()], n[i.To.String()] = i.Name+"@"+i.From.String(), i.Name+"@"+i.To.String()
		}
	}
	return n
}

// pinned matches a reference as tape writes it.
var pinned = regexp.MustCompile(`[^\s"'=,]+@(sha256:[0-9a-f]{64})\b`)

// text returns a row for people: images have their original names, and digests are shortened.
func (n names) text(row string) string {
	row = pinned.ReplaceAllStringFunc(row, func(ref string) string {
		if name := n[ref[strings.LastIndex(ref, "@")+1:]]; name != "" {
			return name
		}
		return ref
	})
	return printable(longHex.ReplaceAllString(row, "$1…"))
}

// hidden replaces a value of a Secret.
const hidden = `"(hidden)"`

// listItem matches the path of an item without a name.
var listItem = regexp.MustCompile(`^(.+)\[\d+\]$`)

// lines returns the fields of an object. Items of a list of texts are merged.
func (n names) lines(fields []app.FieldChange) []diffLine {
	var out []diffLine
	for _, f := range fields {
		line := n.fieldLine(f.Path, f.From, f.To)
		if item := listItem.FindStringSubmatch(f.Path); item != nil && isText(f.From) && isText(f.To) {
			line.Name, line.Items = item[1], true
			if last := len(out) - 1; last >= 0 && out[last].Items && out[last].Name == line.Name && line.Note == "" && out[last].Note == "" {
				out[last].Rows = append(out[last].Rows, line.Rows...)
				continue
			}
		}
		out = append(out, line)
	}
	return out
}

func isText(v json.RawMessage) bool {
	return v == nil || v[0] == '"' && !bytes.Contains(v, []byte(`\n`))
}

// maxRows is how many rows of a new value are shown, and fewRows how many of a removed one.
const maxRows, fewRows = 60, 12

// longRow is how many bytes of a row are shown, and beforeRow how many before the first
// difference of two long rows.
const longRow, beforeRow = 300, 20

// cut shortens long rows: two to the surroundings of their first difference, others to their
// beginning.
func cut(rows []string) []string {
	from := 0
	if len(rows) == 2 && rows[0][0] == '-' && rows[1][0] == '+' && max(len(rows[0]), len(rows[1])) > longRow {
		for from = 1; from < min(len(rows[0]), len(rows[1])) && rows[0][from] == rows[1][from]; {
			from++
		}
		from = max(0, from-beforeRow)
	}
	out := slices.Clone(rows)
	for i, row := range rows {
		start := 1
		if from > 1 && from < len(row) {
			start = from
		}
		end := min(len(row), start+longRow)
		if start == 1 && end == len(row) {
			continue
		}
		text := strings.ToValidUTF8(row[start:end], "")
		if start > 1 {
			text = "…" + text
		}
		if end < len(row) {
			text += fmt.Sprintf("… (%d characters)", utf8.RuneCountInString(row)-1)
		}
		out[i] = row[:1] + text
	}
	return out
}

func (n names) fieldLine(path string, from, to json.RawMessage) diffLine {
	if string(from) == hidden && string(to) == hidden {
		return diffLine{Name: path, Note: "has another value, which is not shown"}
	}
	was, is := n.rows(from), n.rows(to)
	if len(was) == 1 && len(is) == 1 && len(was[0])+len(is[0]) > longValue {
		words := !strings.ContainsAny(was[0]+is[0], " ()[]{}\"") // else they are an expression, or prose
		if was, is := strings.Split(was[0], ","), strings.Split(is[0], ","); words && len(was) > 4 && len(is) > 4 {
			rows := slices.DeleteFunc(lineDiff(was, is), func(row string) bool { return row[0] == ' ' })
			return diffLine{Name: path, Note: "in the list of " + count.Of(len(is), "value"), Rows: cut(rows)}
		}
	}
	if len(was)+len(is) > 2 && len(was) > 0 && len(is) > 0 {
		return diffLine{Name: path, Rows: cut(lineDiff(was, is))}
	}
	return diffLine{Name: path, Rows: cut(append(some("-", was, fewRows), some("+", is, maxRows)...))}
}

// longValue is the total length of two values from which on only the difference is shown.
const longValue = 160

// some returns rows with a sign in front; if there are too many, the first of them and the
// number of the rest.
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

// rows returns a value as rows: texts as they are, structures as YAML, or as JSON if they are
// short.
func (n names) rows(v json.RawMessage) []string {
	if v == nil {
		return nil
	}
	var value any
	text := string(v)
	_ = json.Unmarshal(v, &value) // it is JSON
	switch value := value.(type) {
	case string:
		if text = value; len(value) > 60 && !strings.Contains(value, "\n") && (value[0] == '{' || value[0] == '[') && json.Valid([]byte(value)) {
			return n.rows(json.RawMessage(value))
		}
	case map[string]any, []any:
		if len(v) > 60 {
			if data, err := show.YAML(v, 2); err == nil {
				text = string(data)
			}
		}
	}
	rows := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, row := range rows {
		rows[i] = n.text(row)
	}
	return rows
}

// longHex matches a digest or a checksum, whose first digits are sufficient for people.
var longHex = regexp.MustCompile(`\b([0-9a-f]{12})[0-9a-f]{28,116}\b`)

// maxCells bounds the table that compares the rows of two texts.
const maxCells = 1 << 20

// lineDiff returns the differences between two lists of rows, with a row around each.
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
		rows = append(rows, fmt.Sprintf(" %s became %d", count.Of(len(x), "line"), len(y)))
		return rows
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
	i, j := 0, 0
	for _, same := range append(sequence.Common(x, y), [2]int{len(x), len(y)}) {
		if i < same[0] || j < same[1] {
			between()
		}
		for ; i < same[0]; i++ {
			rows = append(rows, "-"+x[i])
		}
		for ; j < same[1]; j++ {
			rows = append(rows, "+"+y[j])
		}
		if i < len(x) {
			equal = append(equal, " "+x[i])
		}
		i, j = i+1, j+1
	}
	if n < len(a) {
		rows = append(rows, " "+a[n])
	}
	return rows
}

// markdown returns the line as an item of a list.
func (l diffLine) markdown() string {
	head := "- " + strings.TrimSpace(span(l.Name)+" "+escape(l.Note))
	if len(l.Rows) == 0 {
		return head + "\n"
	}
	if text, short := l.items(); short {
		return head + ": " + text + "\n"
	}
	if !slices.ContainsFunc(l.Rows, func(r string) bool { return len(r) > 80 }) {
		switch first := span(l.Rows[0][1:]); {
		case l.isPair():
			return head + ": " + first + " → " + span(l.Rows[1][1:]) + "\n"
		case len(l.Rows) > 1:
		case l.Rows[0][0] == '-':
			return head + ": ~~" + first + "~~ is gone\n"
		case l.Rows[0][0] == '+':
			return head + ": new, " + first + "\n"
		default:
			return head + ": " + first + "\n"
		}
	}
	fence := strings.Repeat("`", max(3, longestRun(strings.Join(l.Rows, "\n"))+1))
	text := head + "\n  " + fence + "diff\n"
	for _, row := range l.Rows {
		text += "  " + row + "\n"
	}
	return text + "  " + fence + "\n"
}

// isPair reports whether the rows are an old and a new value.
func (l diffLine) isPair() bool {
	return len(l.Rows) == 2 && l.Rows[0][0] == '-' && l.Rows[1][0] == '+'
}

// maxItems is the maximum total length of items of a list on one line, in bytes.
const maxItems = 100

// items returns the items of a list that are all new or all removed; short reports whether they
// fit on one line.
func (l diffLine) items() (text string, short bool) {
	if !l.Items || len(l.Rows) < 2 {
		return "", false
	}
	size := 0
	var spans []string
	for _, row := range l.Rows {
		if size += len(row); row[0] != l.Rows[0][0] || size > maxItems {
			return "", false
		}
		spans = append(spans, span(row[1:]))
	}
	switch text = strings.Join(spans, ", "); l.Rows[0][0] {
	case '+':
		return "new, " + text, true
	case '-':
		return "~~" + text + "~~ are gone", true
	}
	return "", false
}

// span returns text as code in Markdown, which its content cannot end.
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
	longest := 0
	for run := range strings.FieldsFuncSeq(text, func(r rune) bool { return r != '`' }) {
		longest = max(longest, len(run))
	}
	return longest
}

// unmarked escapes characters that have a meaning in Markdown or HTML.
var unmarked = strings.NewReplacer("<", "&lt;", ">", "&gt;", "&", "&amp;", `\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`,
	"{", `\{`, "}", `\}`, "[", `\[`, "]", `\]`, "#", `\#`, "|", `\|`, "~", `\~`, "!", `\!`, "@", `\@`)

// escape returns text without a meaning in Markdown.
func escape(text string) string { return unmarked.Replace(printable(text)) }

// printable replaces control characters, including those that change the direction of text.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == utf8.RuneError {
			return '�'
		}
		return r
	}, text)
}

// DiffText writes a diff with lines of at most width characters; 0 is unlimited.
func DiffText(w io.Writer, d *app.DiffResult, width int) error {
	var text strings.Builder
	line := func(format string, args ...any) {
		// A name with a line feed must not look like lines of the diff.
		one := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", `\n`)
		text.WriteString(show.Fit(one, width) + "\n")
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
		for _, key := range s.Objects {
			line("~ %s", key)
		}
		if len(s.Objects) == 0 {
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

// lineLength is the maximum length of a field's values on its line.
const lineLength = 80

// text writes the line for a terminal.
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
	case l.isPair() && len(name)+len(l.Rows[0])+len(l.Rows[1]) < lineLength:
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
		"concern": func(c app.Concern) string { return concernNames[c] },
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
