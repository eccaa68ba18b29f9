// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// ImageRefs is what the statements say was edited last, and whether they say it:
// an application of the original format does not.
func ImageRefs(statements []Statement) (Transform, bool) {
	list := transforms(statements)
	if len(list) == 0 {
		return Transform{}, false
	}
	return list[len(list)-1], true
}

// Rewrite points the files to another repository: in each place that t says was
// edited, and nowhere else, the repository's name is replaced. It returns new
// files, and how many of them differ. A file that does not hold what t says is
// an error.
func Rewrite(list []files.File, t Transform, repository string) ([]files.File, int, error) {
	if err := CheckRepository(repository); err != nil {
		return nil, 0, err
	}
	edits := map[string][]images.Edit{}
	for _, edit := range t.Edits {
		edits[edit.File] = append(edits[edit.File], edit)
	}
	out := slices.Clone(list)
	changed := 0
	for i, f := range out {
		data, err := rewrite(f.Data, edits[f.Name], t.Repository, repository)
		if err != nil {
			return nil, 0, fmt.Errorf("rewrite %s: %w", f.Name, err)
		}
		if !bytes.Equal(data, f.Data) {
			out[i].Data = data
			changed++
		}
	}
	return out, changed, nil
}

func rewrite(data []byte, edits []images.Edit, from, to string) ([]byte, error) {
	edits = slices.SortedFunc(slices.Values(edits), func(a, b images.Edit) int { return cmp.Compare(a.Offset, b.Offset) })
	var out []byte
	done := 0
	for _, edit := range edits {
		if edit.Offset < done || edit.Offset > len(data) || !bytes.HasPrefix(data[edit.Offset:], []byte(edit.Replaced)) {
			return nil, fmt.Errorf("line %d does not hold %q, as the statements say it does; the content was changed", edit.Line, edit.Replaced)
		}
		// What was written is ASCII, in whatever encoding the file has.
		text, err := repoint(strings.ReplaceAll(edit.Replaced, "\x00", ""), from, to)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", edit.Line, err)
		}
		out = append(out, data[done:edit.Offset]...)
		out = append(out, manifests.Encode(data, text)...)
		done = edit.Offset + len(edit.Replaced)
	}
	return append(out, data[done:]...), nil
}

// repoint replaces one repository by another in what an edit wrote: a whole
// reference, or one field of a reference that is split over several.
func repoint(text, from, to string) (string, error) {
	if rest, ok := strings.CutPrefix(text, from); ok && (rest == "" || rest[0] == ':' || rest[0] == '@') {
		return to + rest, nil
	}
	fromHost, fromPath, _ := strings.Cut(from, "/")
	toHost, toPath, _ := strings.Cut(to, "/")
	found := []string{}
	for _, part := range []struct{ from, to string }{
		{fromHost, toHost}, {fromPath, toPath}, // registry and path
		{path.Dir(from), path.Dir(to)}, {path.Dir(fromPath), path.Dir(toPath)}, {path.Base(from), path.Base(to)}, // folder and name
	} {
		if text == part.from && !slices.Contains(found, part.to) {
			found = append(found, part.to)
		}
	}
	switch {
	case len(found) == 0:
		return text, nil // a tag, a digest
	case len(found) > 1 || found[0] == ".":
		return "", fmt.Errorf("%q is a part of a reference to %s, and it is not clear which part of %s stands for it", text, from, to)
	}
	return found[0], nil
}
