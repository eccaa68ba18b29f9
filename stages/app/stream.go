// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/manifests"
)

// ranks of documents in a stream: what others need comes before them.
const (
	rankNamespace = iota
	rankDefinition
	rankRest
)

// part is what a stream has of a file: all of it, or the documents of one rank that
// stand together.
type part struct {
	rank int
	name string
	data []byte
}

// writeStream writes files as one YAML stream that kubectl can apply from the top:
// Namespaces first, then CustomResourceDefinitions, then the rest, each in the
// order of the files.
func writeStream(w io.Writer, all []files.File) error {
	var parts []part
	for _, f := range all {
		parts = append(parts, ranked(f)...)
	}
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(a.rank, b.rank) })
	for _, p := range parts {
		if err := writeDocuments(w, p.name, p.data); err != nil {
			return err
		}
	}
	return nil
}

// ranked cuts a file where the rank of its documents changes. All of a stream is UTF-8,
// whatever its files are.
func ranked(f files.File) []part {
	text := manifests.Open(f.Name, f.Data).Text
	f.Data = []byte(text.String)
	if !bytes.Contains(f.Data, []byte("Namespace")) && !bytes.Contains(f.Data, []byte("CustomResourceDefinition")) {
		return []part{{rankRest, f.Name, f.Data}}
	}
	var parts []part
	for _, piece := range text.Split() {
		r, empty := rank(piece)
		if n := len(parts); n > 0 && (parts[n-1].rank == r || empty) {
			parts[n-1].data = append(parts[n-1].data, piece.String...)
			continue
		}
		parts = append(parts, part{r, f.Name, []byte(piece.String)})
	}
	if len(parts) == 1 {
		parts[0].data = f.Data // also what no document has
	}
	return parts
}

// rank of the documents in a text; empty where it has none. What does not parse is
// of the rest.
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

// writeDocuments writes a file as part of a YAML stream, under its name.
func writeDocuments(w io.Writer, name string, data []byte) error {
	end := ""
	if !bytes.HasSuffix(data, []byte("\n")) {
		end = "\n"
	}
	_, err := fmt.Fprintf(w, "---\n# %s\n%s%s", name, data, end)
	return err
}
