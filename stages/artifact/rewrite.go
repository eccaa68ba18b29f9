// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
)

// ImageRefs is what the statements say was edited, and whether they say it:
// an application of the original format does not.
func ImageRefs(statements []Statement) (Transform, bool) {
	for _, s := range statements {
		var t Transform
		if s.PredicateType == PredicateTransform && json.Unmarshal(s.Predicate, &t) == nil && t.Kind == TransformImageRef {
			return t, true
		}
	}
	return Transform{}, false
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
	edits = slices.SortedFunc(slices.Values(edits), func(a, b images.Edit) int { return a.Offset - b.Offset })
	var out []byte
	done := 0
	for _, edit := range edits {
		if edit.Offset < done || edit.Offset > len(data) || !bytes.HasPrefix(data[edit.Offset:], []byte(edit.Replaced)) {
			return nil, fmt.Errorf("line %d does not hold %q, as the statements say it does; the content was changed", edit.Line, edit.Replaced)
		}
		out = append(out, data[done:edit.Offset]...)
		out = append(out, repoint(edit.Replaced, from, to)...)
		done = edit.Offset + len(edit.Replaced)
	}
	return append(out, data[done:]...), nil
}

// repoint replaces one repository by another in what an edit wrote: a whole
// reference, or one field of a reference that is split over several.
func repoint(text, from, to string) string {
	if before, after, ok := strings.Cut(text, from); ok && startsName(before) && (after == "" || after[0] == ':' || after[0] == '@') {
		return before + to + after
	}
	fromHost, fromPath, _ := strings.Cut(from, "/")
	toHost, toPath, _ := strings.Cut(to, "/")
	switch text {
	case fromHost:
		return toHost
	case fromPath:
		return toPath
	case path.Dir(from):
		return path.Dir(to)
	case path.Dir(fromPath):
		return path.Dir(toPath)
	case path.Base(from):
		return path.Base(to)
	}
	return text
}

// startsName says whether a repository's name can begin after the text: at a
// start, a quote, or a scheme such as docker://.
func startsName(before string) bool {
	if before == "" || strings.HasSuffix(before, "://") {
		return true
	}
	c := before[len(before)-1]
	return !isWord(c) && !strings.ContainsRune("./-", rune(c))
}
