// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// ImageRefs returns the last edits in the statements, and whether there are any: an application
// of the original format has none.
func ImageRefs(statements []Statement) (Transform, bool) {
	list := transforms(statements)
	if len(list) == 0 {
		return Transform{}, false
	}
	return list[len(list)-1], true
}

// Rewrite makes the files refer to another repository: the name of the repository is replaced
// in every place that t lists as edited, and nowhere else. It returns the new files, and how
// many of them differ. A file that does not match t is an error.
func Rewrite(list []files.File, t Transform, repository string) ([]files.File, int, error) {
	out, edits, err := Rename(list, t, Naming{Repository: repository})
	changed := map[string]bool{}
	for _, edit := range edits {
		if edit.Original != edit.Replaced {
			changed[edit.File] = true
		}
	}
	return out, len(changed), err
}

// Rename renames images in every place that t lists as edited, and nowhere else. It returns the
// files, new ones if they were edited, and the edits, sorted by file and offset. A file that
// does not match t is an error.
func Rename(list []files.File, t Transform, to Naming) ([]files.File, []images.Edit, error) {
	r, err := NewRenaming(t, to)
	if err != nil {
		return nil, nil, err
	}
	out := make([]files.File, len(list))
	for i, f := range list {
		if out[i], err = r.File(f); err != nil {
			return nil, nil, err
		}
	}
	return out, r.Edits(), nil
}

// Renaming is [Rename] for one file at a time.
type Renaming struct {
	from, to Naming
	edits    map[string][]images.Edit // of files, by name
	done     []images.Edit
}

// NewRenaming returns the renaming of the edits in t, or an error if to does not name a
// repository.
func NewRenaming(t Transform, to Naming) (*Renaming, error) {
	if err := CheckRepository(to.Repository); err != nil {
		return nil, err
	}
	r := &Renaming{from: t.Names(to.Taped), to: to, edits: map[string][]images.Edit{}}
	for _, edit := range t.Edits {
		r.edits[edit.File] = append(r.edits[edit.File], edit)
	}
	return r, nil
}

// File returns the file with the new names.
func (r *Renaming) File(f files.File) (files.File, error) {
	edits := slices.SortedFunc(slices.Values(r.edits[f.Name]), func(a, b images.Edit) int { return cmp.Compare(a.Offset, b.Offset) })
	if len(edits) == 0 {
		return f, nil
	}
	out, done := make([]byte, 0, len(f.Data)), 0
	for _, edit := range edits {
		if edit.Offset < done || edit.Offset > len(f.Data) || !bytes.HasPrefix(f.Data[edit.Offset:], []byte(edit.Replaced)) {
			return f, fmt.Errorf("rewrite %s: line %d does not hold %q, as the statements say it does; the content was changed", f.Name, edit.Line, edit.Replaced)
		}
		// The text of an edit is ASCII, in any encoding of the file.
		text, err := called(strings.ReplaceAll(edit.Replaced, "\x00", ""), edit, r.from, r.to)
		if err != nil {
			return f, fmt.Errorf("rewrite %s: line %d: %w", f.Name, edit.Line, err)
		}
		out = append(out, f.Data[done:edit.Offset]...)
		done = edit.Offset + len(edit.Replaced)
		edit.Original, edit.Replaced, edit.Offset = edit.Replaced, string(manifests.Encode(f.Data, text)), len(out)
		out = append(out, edit.Replaced...)
		r.done = append(r.done, edit)
	}
	f.Data = append(out, f.Data[done:]...)
	return f, nil
}

// Edits returns the edits so far, sorted by file and offset.
func (r *Renaming) Edits() []images.Edit {
	slices.SortStableFunc(r.done, func(a, b images.Edit) int { return cmp.Compare(a.File, b.File) })
	return r.done
}

// called returns the text of an edit, a whole reference or a field of one, under the other
// naming.
func called(text string, edit images.Edit, from, to Naming) (string, error) {
	if !from.OneToOne && !to.OneToOne {
		return repoint(text, from.Repository, to.Repository)
	}
	was, err := from.at(edit)
	if err != nil {
		return "", err
	}
	is, err := to.at(edit)
	if err != nil {
		return "", err
	}
	if digested := "@" + edit.Digest.String(); text == imageref.Split(was).Name+digested {
		return imageref.Split(is).Name + digested, nil // its reader refuses a tag
	}
	if strings.HasPrefix(text, from.Repository) && strings.HasSuffix(text, "@"+edit.Digest.String()) {
		return is, nil
	}
	before, after := partsOf(was), partsOf(is)
	found := []string{}
	for i, part := range before {
		if part != "" && text == part && !slices.Contains(found, after[i]) {
			found = append(found, after[i])
		}
	}
	if len(found) != 1 || found[0] == "" {
		return "", fmt.Errorf("%q is a part of a reference to %s, and it is not clear which part of %s stands for it", text, was, is)
	}
	return found[0], nil
}

// partsOf returns what a reference may be split into, always in the same order; "" for what it
// lacks.
func partsOf(ref string) []string {
	r := imageref.Split(ref)
	name, tag, dgst := r.Name, r.Tag, r.Digest.String()
	host, path, _ := strings.Cut(name, "/")
	folder, base := name[:strings.LastIndexByte(name, '/')], name[strings.LastIndexByte(name, '/')+1:]
	below := strings.TrimPrefix(strings.TrimPrefix(folder, host), "/")
	version := tag + "@" + dgst
	if tag == "" {
		version = dgst
	}
	algorithm, hex, _ := strings.Cut(dgst, ":")
	out := []string{name, host, path, folder, below, base, tag, dgst, version, algorithm, hex}
	for _, prefix := range []string{name, path, base} {
		out = append(out, prefix+ref[len(name):])
		if tag != "" {
			out = append(out, prefix+":"+tag)
		} else {
			out = append(out, "")
		}
	}
	return out
}

// repoint replaces one repository by another in the text of an edit: a whole reference, or one
// field of a reference that is split over several.
func repoint(text, from, to string) (string, error) {
	if rest, ok := strings.CutPrefix(text, from); ok && (rest == "" || rest[0] == ':' || rest[0] == '@') {
		return to + rest, nil
	}
	found, rest := repointed(text, from, to), ""
	if i := strings.IndexAny(text, ":@"); len(found) == 0 && i > strings.LastIndexByte(text, '/') && text[i] == ':' {
		// The name may include a tag if only the digest has a field of its own.
		found, rest = repointed(text[:i], from, to), text[i:]
	}
	switch {
	case len(found) == 0:
		return text, nil // a tag, a digest
	case len(found) > 1 || found[0] == ".":
		return "", fmt.Errorf("%q is a part of a reference to %s, and it is not clear which part of %s stands for it", text, from, to)
	}
	return found[0] + rest, nil
}

// repointed returns the parts of one repository that correspond to a part of another.
func repointed(text, from, to string) (found []string) {
	fromHost, fromPath, _ := strings.Cut(from, "/")
	toHost, toPath, _ := strings.Cut(to, "/")
	for _, part := range []struct{ from, to string }{
		{fromHost, toHost}, {fromPath, toPath}, // registry and path
		{path.Dir(from), path.Dir(to)}, {path.Dir(fromPath), path.Dir(toPath)}, {path.Base(from), path.Base(to)}, // folder and name
	} {
		if text == part.from && !slices.Contains(found, part.to) {
			found = append(found, part.to)
		}
	}
	return found
}
