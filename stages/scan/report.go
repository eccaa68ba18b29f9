// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// fileReport is the result of scanning one file, in the order of the file.
type fileReport struct {
	images.Report // without References
	references    []found
}

// add adds what the next documents of the file contain.
func (f *findings) add(next *findings) {
	for i := range next.references {
		next.references[i].Document += f.documents
	}
	for i := range next.objects {
		next.objects[i].what.Document += f.documents
	}
	f.documents += next.documents
	f.references = append(f.references, next.references...)
	f.placeholders = append(f.placeholders, next.placeholders...)
	f.mentions = append(f.mentions, next.mentions...)
	f.objects = append(f.objects, next.objects...)
	f.strangers = append(f.strangers, next.strangers...)
	f.credentials = append(f.credentials, next.credentials...)
	f.empty = cmp.Or(f.empty, next.empty)
	f.fail(next.err)
}

// report joins the batches of a file and converts offsets to lines and columns.
func (scan *fileScan) report() fileReport {
	var all findings
	for i := range scan.batches {
		all.add(&scan.batches[i])
	}
	out := fileReport{references: all.references}
	switch {
	case scan.reason != "":
		out.Skipped = []images.Skipped{{File: scan.name, Reason: scan.reason}}
		for i := range out.references {
			out.references[i].Class = images.Indirect
		}
		all.placeholders = nil
	case all.err != nil:
		out.Skipped = []images.Skipped{*all.err}
	case len(all.objects) == 0:
		reason := cmp.Or(all.empty, "the file is empty")
		if len(all.strangers) > 0 {
			reason = all.strangers[0].what.Reason
		}
		out.Skipped = []images.Skipped{{File: scan.name, Reason: reason}}
	default:
		out.Credentials = positioned(scan.file, sorted(all.credentials), func(c *images.Credential, line, column int) { c.Line, c.Column = line, column })
		out.Skipped = positioned(scan.file, all.strangers, func(s *images.Skipped, line, _ int) { s.Line = line })
		out.Objects = positioned(scan.file, all.objects, func(o *images.Object, line, _ int) { o.Line = line })
	}
	out.Placeholders = positioned(scan.file, sorted(all.placeholders), func(p *images.Placeholder, line, column int) { p.Line, p.Column = line, column })
	out.Mentions = positioned(scan.file, sorted(all.mentions), func(m *images.Mention, line, column int) { m.Line, m.Column = line, column })
	locate(out.references, scan.file)
	return out
}

// sorted sorts by offset, which may differ from the order in which nodes were walked.
func sorted[T any](all []located[T]) []located[T] {
	slices.SortStableFunc(all, func(a, b located[T]) int { return cmp.Compare(a.offset, b.offset) })
	return all
}

// positioned sets lines and columns.
func positioned[T any](f *manifests.File, all []located[T], set func(what *T, line, column int)) []T {
	if len(all) == 0 {
		return nil
	}
	at := f.Positions()
	out := make([]T, len(all))
	for i, l := range all {
		out[i] = l.what
		line, column := at.At(l.offset)
		set(&out[i], line, column)
	}
	return out
}

// locate sorts the references of a file and sets their lines, columns and FileDigest.
func locate(references []found, f *manifests.File) {
	if len(references) == 0 {
		return
	}
	slices.SortStableFunc(references, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Pointer, b.Pointer))
	})
	// Parts may be anywhere after the first part, whose position is that of the location. They
	// have a separate Positions, because moving back is slow.
	sum, at, parts := digest.FromBytes(f.Data), f.Positions(), f.Positions()
	for i := range references {
		l := &references[i].Location
		l.FileDigest = sum
		l.Line, l.Column = at.At(l.Offset)
		for j := range l.Parts {
			l.Parts[j].Line, l.Parts[j].Column = parts.At(l.Parts[j].Offset)
		}
	}
}

// merge joins the reports of all files, which are sorted.
func merge(all []fileReport, exclude patterns) *images.Report {
	out := &images.Report{
		References: []images.Reference{}, Placeholders: []images.Placeholder{},
		Skipped: []images.Skipped{}, Objects: []images.Object{},
	}
	type key struct {
		name     string
		excluded bool
	}
	locations := map[key][]images.Location{}
	for _, f := range all {
		for _, r := range f.references {
			k := key{r.name, r.excluded}
			locations[k] = append(locations[k], r.Location)
		}
		out.Placeholders = append(out.Placeholders, f.Placeholders...)
		out.Skipped = append(out.Skipped, f.Skipped...)
		out.Objects = append(out.Objects, f.Objects...)
		out.Mentions = append(out.Mentions, f.Mentions...)
		out.Credentials = append(out.Credentials, f.Credentials...)
	}
	for k, at := range locations {
		ref := images.Reference{Source: at[0].Value, Name: k.name, Locations: at}
		if k.excluded || slices.ContainsFunc(exclude, ref.Matches) {
			out.Excluded = append(out.Excluded, ref)
		} else {
			out.References = append(out.References, ref)
		}
	}
	bySource := func(a, b images.Reference) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Locations[0].Offset, b.Locations[0].Offset))
	}
	slices.SortFunc(out.References, bySource)
	slices.SortFunc(out.Excluded, bySource)
	return out
}
