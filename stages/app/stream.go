// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/manifests"
)

// Ranks of documents in a stream: documents that others depend on come first.
const (
	rankNamespace = iota
	rankDefinition
	rankRest
)

// part is a part of a file in a stream: the whole file, or adjacent documents of the same rank.
type part struct {
	rank, file int
	start, end int // in the text of the file
}

// writeStream writes files as one YAML stream that kubectl can apply in order: first Namespaces,
// then CustomResourceDefinitions, then the rest, each in the order of the files. The stream is
// encoded in UTF-8, whatever the encoding of the files.
func writeStream(w io.Writer, all []files.File) error {
	var parts []part
	for i, f := range all {
		parts = append(parts, ranked(i, manifests.Open(f.Name, f.Data).Text)...)
	}
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(a.rank, b.rank) })
	open, text := -1, ""
	for _, p := range parts {
		if f := all[p.file]; open != p.file {
			open, text = p.file, manifests.Open(f.Name, f.Data).Text.String
		}
		// Each part ends with a line feed.
		if _, err := fmt.Fprintf(w, "---\n# %s\n%s\n", all[p.file].Name, strings.TrimSuffix(text[p.start:p.end], "\n")); err != nil {
			return err
		}
	}
	return nil
}

// ranked splits a file wherever the rank of its documents changes.
func ranked(file int, text *manifests.Text) []part {
	whole := part{rankRest, file, 0, len(text.String)}
	if !strings.Contains(text.String, "Namespace") && !strings.Contains(text.String, "CustomResourceDefinition") {
		return []part{whole}
	}
	var parts []part
	at := 0
	for _, piece := range text.Split() {
		start := at
		at += len(piece.String)
		r, empty := rank(piece)
		if n := len(parts); n > 0 && (parts[n-1].rank == r || empty) {
			parts[n-1].end = at
			continue
		}
		parts = append(parts, part{r, file, start, at})
	}
	return parts
}

// rank returns the rank of the documents in a text. empty reports that there are no documents. A
// text that cannot be parsed has the last rank.
func rank(t *manifests.Text) (rank int, empty bool) {
	rank, empty = rankRest, true
	documents, err := manifests.Parse(t)
	for i := range documents {
		objects, _ := documents[i].Objects()
		for _, o := range objects {
			of := rankRest
			switch {
			case o.Kind == "Namespace" && o.Group() == "":
				of = rankNamespace
			case o.Kind == "CustomResourceDefinition" && o.Group() == "apiextensions.k8s.io":
				of = rankDefinition
			}
			if empty || of > rank {
				rank = of
			}
			empty = false
		}
	}
	if err != nil {
		return rankRest, false
	}
	return rank, empty
}
