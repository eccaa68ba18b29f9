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
	references   []found
	placeholders []images.Placeholder
	skipped      []images.Skipped
	objects      []images.Object
	mentions     []images.Mention
	credentials  []images.Credential
	fields       map[int]bool
}

// report joins the batches of a file and converts offsets to lines and columns.
func (scan *fileScan) report() fileReport {
	var (
		out       fileReport
		all       batchScan
		documents int
	)
	for i := range scan.batches {
		b := &scan.batches[i]
		for i := range b.references {
			b.references[i].Document += documents
		}
		for i := range b.objects {
			b.objects[i].Document += documents
		}
		documents += b.documents
		all.references = append(all.references, b.references...)
		all.placeholders = append(all.placeholders, b.placeholders...)
		all.mentions = append(all.mentions, b.mentions...)
		all.objects = append(all.objects, b.objects...)
		all.credentials = append(all.credentials, b.credentials...)
		all.fields = joined(all.fields, b.fields)
		all.strangers = append(all.strangers, b.strangers...)
		all.empty = cmp.Or(all.empty, b.empty)
		if all.err == nil {
			all.err = b.err
		}
		if b.problem != nil && all.err == nil {
			line, _ := scan.file.Positions().At(b.problem.offset)
			all.err = &images.Skipped{File: scan.name, Line: line, Reason: b.problem.reason, Invalid: true}
		}
	}
	switch {
	case scan.reason != "":
		out.skipped = []images.Skipped{{File: scan.name, Reason: scan.reason}}
		for i := range all.references {
			all.references[i].Class = images.Indirect
		}
		all.placeholders = nil
	case all.err != nil:
		out.skipped = []images.Skipped{*all.err}
	case len(all.objects) == 0:
		reason := cmp.Or(all.empty, "the file is empty")
		if len(all.strangers) > 0 {
			reason = all.strangers[0].reason
		}
		out.skipped = []images.Skipped{{File: scan.name, Reason: reason}}
	default:
		out.credentials = scan.locateCredentials(all.credentials)
		at := scan.file.Positions()
		for _, s := range all.strangers {
			line, _ := at.At(s.offset)
			out.skipped = append(out.skipped, images.Skipped{File: scan.name, Line: line, Reason: s.reason})
		}
		at = scan.file.Positions()
		for _, o := range all.objects {
			o.Line, _ = at.At(o.offset)
			out.objects = append(out.objects, o.Object)
		}
	}
	out.references, out.fields = all.references, all.fields
	if len(out.references) > 0 {
		locate(out.references, scan.file)
	}
	if len(all.placeholders) > 0 {
		slices.SortStableFunc(all.placeholders, func(a, b placeholder) int { return cmp.Compare(a.offset, b.offset) })
		at := scan.file.Positions()
		for _, p := range all.placeholders {
			p.Line, p.Column = at.At(p.offset)
			out.placeholders = append(out.placeholders, p.Placeholder)
		}
	}
	if len(all.mentions) > 0 {
		slices.SortStableFunc(all.mentions, func(a, b mentioned) int { return cmp.Compare(a.offset, b.offset) })
		at := scan.file.Positions()
		for _, m := range all.mentions {
			m.Line, m.Column = at.At(m.offset)
			out.mentions = append(out.mentions, m.Mention)
		}
	}
	return out
}

// locate sorts the references of a file and sets their lines, columns and FileDigest.
func locate(references []found, f *manifests.File) {
	slices.SortStableFunc(references, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Pointer, b.Pointer))
	})
	// Parts may be anywhere after the first one, whose position is that of the location.
	// They have their own Positions, so that only they cause it to move back.
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

// merge joins the reports of all files and sorts everything.
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
		out.Placeholders = append(out.Placeholders, f.placeholders...)
		out.Skipped = append(out.Skipped, f.skipped...)
		out.Objects = append(out.Objects, f.objects...)
		out.Mentions = append(out.Mentions, f.mentions...)
		out.Credentials = append(out.Credentials, f.credentials...)
	}
	for k, at := range locations {
		slices.SortStableFunc(at, func(a, b images.Location) int {
			return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Document, b.Document), cmp.Compare(a.Offset, b.Offset))
		})
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
	// The entries of one file are already in order.
	slices.SortStableFunc(out.Placeholders, func(a, b images.Placeholder) int { return cmp.Compare(a.File, b.File) })
	slices.SortStableFunc(out.Skipped, func(a, b images.Skipped) int { return cmp.Compare(a.File, b.File) })
	slices.SortStableFunc(out.Mentions, func(a, b images.Mention) int { return cmp.Compare(a.File, b.File) })
	slices.SortStableFunc(out.Credentials, func(a, b images.Credential) int { return cmp.Compare(a.File, b.File) })
	slices.SortStableFunc(out.Objects, func(a, b images.Object) int { return cmp.Compare(a.File, b.File) })
	return out
}
