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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The modes of tree entries that matter here; all other modes are files.
const (
	modeTree    = "40000"
	modeLink    = "120000"
	modeGitlink = "160000" // a submodule's commit
)

// objects reads a git repository. One implementation uses go-git, which starts no process, and
// the other the git command, for repositories that go-git cannot open. history interprets the
// results of both.
type objects interface {
	// head returns the reference in HEAD, or "" if HEAD is detached, and the commit of HEAD, or
	// "" if there is none yet.
	head(ctx context.Context) (ref, commit string, err error)
	// tags maps the short names of tags to the IDs of the objects that they name.
	tags(ctx context.Context) (map[string]string, error)
	// config returns the values in the repository's own configuration, in order. Keys are
	// section.name or section.subsection.name, with section and name in lower case.
	config(ctx context.Context) (map[string][]string, error)
	// object returns the type and content of an object.
	object(ctx context.Context, id string) (kind string, data []byte, err error)
	// sha256 reports whether object ids are SHA-256 instead of SHA-1.
	sha256() bool
	close()
}

// history answers questions about the HEAD of a repository. Its methods may be called
// concurrently after read has returned.
type history struct {
	objects
	tree string // ID of the tree of HEAD, or "" if there is no commit

	mu    sync.Mutex // guards trees, and reading objects
	trees map[string]map[string]entry
}

// entry is an entry of a tree.
type entry struct{ mode, id string }

// read fills in r from HEAD and the configuration. On error, r keeps what was found before the
// error.
func (h *history) read(ctx context.Context, r *Repository) error {
	config, err := h.config(ctx)
	if err != nil {
		return err
	}
	ref, commit, err := h.head(ctx)
	if err != nil {
		return err
	}
	r.Ref = ref
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
	r.Commit = commit // for a damaged HEAD, go-git returns an invented one
	header := headers(data)
	r.Tree, h.tree = header["tree"], header["tree"]
	if r.CommitTime, err = signatureTime(header["committer"]); err != nil {
		return fmt.Errorf("commit %s: %w", commit, err)
	}
	r.Tags, err = h.tagsAt(ctx, commit)
	return err
}

// tagsAt returns the tags that point to a commit, sorted by name.
func (h *history) tagsAt(ctx context.Context, commit string) ([]GitTag, error) {
	all, err := h.tags(ctx)
	if err != nil {
		return nil, err
	}
	var out []GitTag
	for name, id := range all {
		tag := GitTag{Name: name}
		// A tag may name another tag. A cycle is impossible, but a long chain is not.
		for depth := 0; id != commit && depth < 16; depth++ {
			kind, data, err := h.object(ctx, id)
			if err != nil || kind != "tag" {
				// A shallow or partial clone may lack the objects of its tags.
				break
			}
			if depth == 0 {
				tag.Signed = signed.Match(data)
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

// lookup returns the entry at a path in the tree of HEAD. Its mode is "" if there is none.
func (h *history) lookup(ctx context.Context, path string) (entry, error) {
	if h.tree == "" {
		return entry{}, nil
	}
	e := entry{mode: modeTree, id: h.tree}
	if path == "." {
		return e, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		if e.mode != modeTree {
			return entry{}, nil
		}
		names, err := h.list(ctx, e.id)
		if err != nil {
			return entry{}, err
		}
		e = names[name]
	}
	return e, nil
}

// list returns the entries of a tree by name.
func (h *history) list(ctx context.Context, id string) (map[string]entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
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

// blobID returns the ID of a git blob with the given content.
func (h *history) blobID(data []byte) string {
	sum := sha1.New()
	if h.sha256() {
		sum = sha256.New()
	}
	sum.Write([]byte("blob " + strconv.Itoa(len(data)) + "\x00"))
	sum.Write(data)
	return hex.EncodeToString(sum.Sum(nil))
}

// headers returns the headers of a commit or tag by name. If a header is repeated (parent), it
// returns the first. Continuation lines, which belong to signatures, are not joined.
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

// signatureTime parses the time in "Name <mail> 1700000000 +0100".
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

// signed matches a tag object with a signature in any format of git (gpg.format openpgp, ssh and
// x509).
var signed = regexp.MustCompile(`\n-----BEGIN (PGP SIGNATURE|PGP MESSAGE|SSH SIGNATURE|SIGNED MESSAGE)-----\n`)

// remotes returns the configured remotes that are not folders on this machine, and the URI for a
// branch. See Repository.URI.
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
