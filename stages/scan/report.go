// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"cmp"
	"slices"
	"strings"

	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// reporter puts together what was found in all files.
type reporter struct {
	exclude    patterns
	references map[string][]images.Location // by name
	out        images.Report
}

func newReporter(exclude patterns) *reporter {
	return &reporter{
		exclude:    exclude,
		references: map[string][]images.Location{},
		out: images.Report{
			References: []images.Reference{}, Placeholders: []images.Placeholder{},
			Skipped: []images.Skipped{}, Objects: []images.Object{},
		},
	}
}

// file takes what was found in a file, and turns offsets into lines and columns.
func (r *reporter) file(scan *fileScan) {
	var (
		documents int
		all       batchScan
	)
	for _, b := range scan.batches {
		for i := range b.references {
			b.references[i].Document += documents
		}
		for i := range b.objects {
			b.objects[i].Document += documents
		}
		documents += b.documents
		all.references = append(all.references, b.references...)
		all.placeholders = append(all.placeholders, b.placeholders...)
		all.objects = append(all.objects, b.objects...)
		all.strangers = append(all.strangers, b.strangers...)
		all.empty = cmp.Or(all.empty, b.empty)
		if all.err == nil {
			all.err = b.err
		}
	}
	if scan.reason != "" {
		r.skip(images.Skipped{File: scan.name, Reason: scan.reason})
		for i := range all.references {
			all.references[i].Class = images.Indirect
		}
		r.found(scan.file, findings{references: all.references})
		return
	}
	r.found(scan.file, all.findings)
	at := scan.file.Positions()
	switch {
	case all.err != nil:
		r.skip(*all.err)
		return
	case len(all.objects) == 0:
		reason := cmp.Or(all.empty, "nothing is in it")
		if len(all.strangers) > 0 {
			reason = all.strangers[0].reason
		}
		r.skip(images.Skipped{File: scan.name, Reason: reason})
		return
	}
	for _, s := range all.strangers {
		line, _ := at.At(s.offset)
		r.skip(images.Skipped{File: scan.name, Line: line, Reason: s.reason})
	}
	for _, o := range all.objects {
		o.Line, _ = at.At(o.offset)
		r.out.Objects = append(r.out.Objects, o.Object)
	}
}

func (r *reporter) skip(s images.Skipped) { r.out.Skipped = append(r.out.Skipped, s) }

// found places references and placeholders.
func (r *reporter) found(f *manifests.File, all findings) {
	if len(all.references)+len(all.placeholders) == 0 {
		return
	}
	digest := fileDigest(f)
	slices.SortStableFunc(all.references, func(a, b found) int { return cmp.Compare(a.Offset, b.Offset) })
	// Parts stand anywhere behind the first one, which the location is: they
	// are counted apart, so that only they cost going back.
	at, parts := f.Positions(), f.Positions()
	for _, found := range all.references {
		l := found.Location
		l.FileDigest = digest
		l.Line, l.Column = at.At(l.Offset)
		for i := range l.Parts {
			l.Parts[i].Line, l.Parts[i].Column = parts.At(l.Parts[i].Offset)
		}
		r.references[found.name] = append(r.references[found.name], l)
	}
	slices.SortStableFunc(all.placeholders, func(a, b placeholder) int { return cmp.Compare(a.offset, b.offset) })
	at = f.Positions()
	for _, p := range all.placeholders {
		p.Line, p.Column = at.At(p.offset)
		r.out.Placeholders = append(r.out.Placeholders, p.Placeholder)
	}
}

// report sorts everything.
func (r *reporter) report() *images.Report {
	for name, locations := range r.references {
		slices.SortStableFunc(locations, func(a, b images.Location) int {
			return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Document, b.Document), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Pointer, b.Pointer))
		})
		ref := images.Reference{Source: locations[0].Value, Name: name, Locations: locations}
		if r.excluded(ref) {
			r.out.Excluded = append(r.out.Excluded, ref)
		} else {
			r.out.References = append(r.out.References, ref)
		}
	}
	bySource := func(a, b images.Reference) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Name, b.Name))
	}
	slices.SortFunc(r.out.References, bySource)
	slices.SortFunc(r.out.Excluded, bySource)
	slices.SortStableFunc(r.out.Placeholders, func(a, b images.Placeholder) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	slices.SortStableFunc(r.out.Skipped, func(a, b images.Skipped) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	slices.SortStableFunc(r.out.Objects, func(a, b images.Object) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Document, b.Document), cmp.Compare(a.Line, b.Line))
	})
	return &r.out
}

func (r *reporter) excluded(ref images.Reference) bool {
	return r.exclude.match(ref.Name) ||
		slices.ContainsFunc(ref.Locations, func(l images.Location) bool { return r.exclude.match(l.Value) })
}

// enter puts the walker at a pointer.
func (w *walker) enter(pointer string) {
	for _, key := range strings.Split(pointer, "/")[1:] {
		w.path = append(w.path, step{key: manifests.UnescapePointer(key)})
	}
}
