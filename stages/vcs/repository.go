// SPDX-License-Identifier: Apache-2.0

package vcs

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The modes of tree entries that matter here; all other modes are files.
const (
	modeTree    = "40000"
	modeLink    = "120000"
	modeGitlink = "160000" // a submodule's commit
)

// objects is a git repository as far as it must be read. There are two: go-git's,
// which starts no process, and the git command's for what go-git cannot open.
// What the answers mean is worked out once, in history.
type objects interface {
	// head is the reference that HEAD names, "" where detached, and the commit
	// it leads to, "" where there is none yet.
	head(ctx context.Context) (ref, commit string, err error)
	// tags maps the short names of tags to the objects they name.
	tags(ctx context.Context) (map[string]string, error)
	// config has the values of the repository's own configuration, in order.
	// Keys are section.name or section.subsection.name, section and name in
	// lower case.
	config(ctx context.Context) (map[string][]string, error)
	// object is the type and content of an object.
	object(ctx context.Context, id string) (kind string, data []byte, err error)
	// sha256 says that object ids are SHA-256 instead of SHA-1.
	sha256() bool
	close()
}

// history answers questions about a repository's HEAD.
type history struct {
	objects
	tree  string // of HEAD, "" where there is no commit
	trees map[string]map[string]entry
}

// entry is one name in a tree.
type entry struct{ mode, id string }

// read fills in r what HEAD and configuration say. What was found before an
// error stays.
func (h *history) read(ctx context.Context, r *Repository) error {
	config, err := h.config(ctx)
	if err != nil {
		return err
	}
	ref, commit, err := h.head(ctx)
	if err != nil {
		return err
	}
	r.Ref, r.Commit = ref, commit
	r.Remotes, r.URI = remotes(config, strings.TrimPrefix(ref, "refs/heads/"))
	if commit == "" {
		return nil
	}
	kind, data, err := h.object(ctx, commit)
	if err != nil {
		return err
	}
	if kind != "commit" {
		return fmt.Errorf("HEAD is a %s", kind)
	}
	header := headers(data)
	r.Tree, h.tree = header["tree"], header["tree"]
	if r.CommitTime, err = signatureTime(header["committer"]); err != nil {
		return fmt.Errorf("commit %s: %w", commit, err)
	}
	r.Tags, err = h.tagsAt(ctx, commit)
	return err
}

// tagsAt are the tags that lead to a commit, sorted by name.
func (h *history) tagsAt(ctx context.Context, commit string) ([]GitTag, error) {
	all, err := h.tags(ctx)
	if err != nil {
		return nil, err
	}
	var out []GitTag
	for name, id := range all {
		tag := GitTag{Name: name}
		// A tag may name a tag; a cycle cannot be made, a long chain can.
		for depth := 0; id != commit && depth < 16; depth++ {
			kind, data, err := h.object(ctx, id)
			if err != nil || kind != "tag" {
				// A shallow or partial clone need not have what its tags name.
				break
			}
			if depth == 0 {
				tag.Signed = signed(data)
			}
			id = headers(data)["object"]
		}
		if id == commit {
			out = append(out, tag)
		}
	}
	slices.SortFunc(out, func(a, b GitTag) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// lookup finds a path in HEAD's tree. ok is false where HEAD has nothing there.
func (h *history) lookup(ctx context.Context, path string) (e entry, ok bool, err error) {
	if h.tree == "" {
		return entry{}, false, nil
	}
	e = entry{mode: modeTree, id: h.tree}
	if path == "." {
		return e, true, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		if e.mode != modeTree {
			return entry{}, false, nil
		}
		names, err := h.list(ctx, e.id)
		if err != nil {
			return entry{}, false, err
		}
		if e, ok = names[name]; !ok {
			return entry{}, false, nil
		}
	}
	return e, true, nil
}

// list reads one tree.
func (h *history) list(ctx context.Context, id string) (map[string]entry, error) {
	if names, ok := h.trees[id]; ok {
		return names, nil
	}
	kind, data, err := h.object(ctx, id)
	if err != nil {
		return nil, err
	}
	if kind != "tree" {
		return nil, fmt.Errorf("object %s is a %s, not a tree", id, kind)
	}
	size := len(id) / 2
	names := map[string]entry{}
	for len(data) > 0 {
		mode, rest, ok := bytes.Cut(data, []byte{' '})
		name, rest, ok2 := bytes.Cut(rest, []byte{0})
		if !ok || !ok2 || len(rest) < size {
			return nil, fmt.Errorf("tree %s does not parse", id)
		}
		names[string(name)] = entry{mode: string(mode), id: hex.EncodeToString(rest[:size])}
		data = rest[size:]
	}
	if h.trees == nil {
		h.trees = map[string]map[string]entry{}
	}
	h.trees[id] = names
	return names, nil
}

// blobID is the id that git gives a file of these bytes.
func (h *history) blobID(data []byte) string {
	sum := sha1.New()
	if h.sha256() {
		sum = sha256.New()
	}
	sum.Write([]byte("blob " + strconv.Itoa(len(data)) + "\x00"))
	sum.Write(data)
	return hex.EncodeToString(sum.Sum(nil))
}

// headers are the first lines of a commit or tag. Of a repeated one (parent) the
// first counts; continuation lines belong to signatures, which nothing here reads.
func headers(data []byte) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, " ")
		if _, ok := out[name]; !ok {
			out[name] = value
		}
	}
	return out
}

// signatureTime reads the end of "Name <mail> 1700000000 +0100".
func signatureTime(s string) (time.Time, error) {
	fields := strings.Fields(s[strings.LastIndexByte(s, '>')+1:])
	if len(fields) == 0 {
		return time.Time{}, errors.New("no committer time")
	}
	sec, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("committer time: %w", err)
	}
	return time.Unix(sec, 0).UTC(), nil
}

// signed says whether a tag object carries a signature of any of git's formats
// (gpg.format openpgp, ssh and x509).
func signed(tag []byte) bool {
	for _, begin := range []string{"PGP SIGNATURE", "PGP MESSAGE", "SSH SIGNATURE", "SIGNED MESSAGE"} {
		if bytes.Contains(tag, []byte("\n-----BEGIN "+begin+"-----\n")) {
			return true
		}
	}
	return false
}

// remotes are the configured remotes that mean something elsewhere, and the URI
// of the one that counts for a branch.
func remotes(config map[string][]string, branch string) ([]Remote, string) {
	var out []Remote
	for key, values := range config {
		name, isRemote := strings.CutPrefix(key, "remote.")
		name, isURL := strings.CutSuffix(name, ".url")
		if !isRemote || !isURL {
			continue
		}
		r := Remote{Name: name}
		for _, v := range values {
			if u := CleanURL(v); u != "" {
				r.URLs = append(r.URLs, u)
			}
		}
		if r.URLs != nil {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Remote) int { return strings.Compare(a.Name, b.Name) })

	wanted := []string{"origin"}
	if follows := config["branch."+branch+".remote"]; len(follows) > 0 {
		wanted = []string{follows[len(follows)-1], "origin"}
	}
	for _, name := range wanted {
		if i := slices.IndexFunc(out, func(r Remote) bool { return r.Name == name }); i >= 0 {
			return out, out[i].URLs[0]
		}
	}
	if len(out) == 1 {
		return out, out[0].URLs[0]
	}
	return out, ""
}
