// SPDX-License-Identifier: Apache-2.0

package vcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/internal/regular"
)

// Query describes the files to look up. Paths are relative to Root and slash-separated.
type Query struct {
	// Name is the name of the source in the pipeline.
	Name string
	// Root is the top of a repository or any other folder. It is absolute and has no
	// symbolic links.
	Root string
	// Path is the path of the source.
	Path string
	// Folders are folders that belong to the source completely, so that a file that is there in
	// HEAD but not on disk was removed.
	Folders []string
	// Inputs are the files that were read.
	Inputs []Input
	// Locked contains the digests of files that are not committed. It may be nil.
	Locked *Lock
}

// Lock is a file with the digests of files that are not committed. It is only used if the lock
// itself is committed and unmodified.
type Lock struct {
	File   string                   // path for opening it
	Digest digest.Digest            // of the file that was read
	Files  map[string]digest.Digest // by path, as in File.Path
}

// Input is a file that was read.
type Input struct {
	// Path is the path that was opened, and Real the path of the file. They differ if Links were
	// followed.
	Path, Real string
	// Links are the symbolic links that were followed, in order.
	Links []Link
	Data  []byte
}

// Link is a symbolic link: its own path, free of other links, and the text of the link.
type Link struct{ Path, Target string }

// FindTop returns the top of the repository that contains a folder: the nearest folder at or
// above it that contains a .git. ok is false if there is none. dir must be absolute and free of
// symbolic links.
func FindTop(dir string) (top string, ok bool) {
	for !isTop(dir) {
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
	return dir, true
}

// isTop reports whether a folder has a valid .git: a folder with a HEAD, or the file of a linked
// work tree or submodule. The target of that file may be missing, for example if a work tree was
// copied into a container. Nothing is known about such a repository.
func isTop(dir string) bool {
	git := filepath.Join(dir, ".git")
	info, err := os.Stat(git)
	if err != nil {
		return false
	}
	if info.IsDir() {
		_, err := os.Lstat(filepath.Join(git, "HEAD"))
		return err == nil
	}
	data, err := regular.ReadFile(git)
	return err == nil && bytes.HasPrefix(data, []byte("gitdir: "))
}

// Read returns what git knows about the files. What cannot be determined is Unknown, with the
// reason in warnings. The error is always the cause of the context.
//
// Read uses go-git, and the git command for what go-git does not support (SHA-256, reftable,
// alternates elsewhere). A file is unmodified if its bytes are those in HEAD. If they are not,
// the git command tells whether line endings, encodings or filters make the difference.
func (o *Opened) Read(ctx context.Context, q Query) (facts Facts, warnings []string, err error) {
	if o == nil {
		o = &Opened{}
		defer o.Close()
	}
	r := &reader{query: q, opened: o, tops: map[string]string{}, repos: map[string]*repository{}}
	r.lockHolds = sync.OnceValue(func() bool { return r.committed(ctx, q.Locked) })
	facts = Facts{Name: q.Name, Path: q.Path, Repositories: []Repository{}, Files: []File{}, Modified: Unknown}

	if top, ok := r.topOf("."); ok {
		r.open(ctx, top)
	}
	for _, in := range q.Inputs {
		facts.Files = append(facts.Files, r.file(ctx, in))
	}
	r.settle(ctx, facts.Files)
	for _, dir := range q.Folders {
		r.removed(ctx, dir)
	}
	r.gitlinks(ctx)
	if err := context.Cause(ctx); err != nil {
		return Facts{}, nil, err
	}

	slices.SortFunc(facts.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for _, dir := range slices.Sorted(maps.Keys(r.repos)) {
		facts.Repositories = append(facts.Repositories, r.repos[dir].Repository)
		if r.repos[dir].trouble != nil {
			where := "the repository"
			if dir != "." {
				where = "the repository in " + dir
			}
			warnings = append(warnings, fmt.Sprintf("the git state of %s is unknown: %v", where, r.repos[dir].trouble))
		}
	}
	if len(facts.Repositories) > 0 {
		facts.Modified = No
		for _, repo := range facts.Repositories {
			facts.Modified = worse(facts.Modified, repo.Modified)
		}
		for _, f := range facts.Files {
			facts.Modified = worse(facts.Modified, f.Modified)
		}
	}
	return facts, append(warnings, r.warnings...), nil
}

// worse returns the worse of two states: Yes, then Unknown, then No.
func worse(a, b Tristate) Tristate {
	switch {
	case a == Yes || b == Yes:
		return Yes
	case a == Unknown || b == Unknown:
		return Unknown
	}
	return No
}

// reader gathers the facts for one query.
type reader struct {
	query    Query
	opened   *Opened
	tops     map[string]string // maps a folder below Root to the top of its repository, or "" if there is none
	repos    map[string]*repository
	warnings []string
	// lockHolds reports whether the lock of the query is committed.
	lockHolds func() bool
}

// repository is a repository that contains inputs.
type repository struct {
	Repository
	*history // nil if it cannot be read
	abs      string
	trouble  error // the first problem
}

// topOf returns the top of the repository that contains a folder, relative to Root.
func (r *reader) topOf(dir string) (string, bool) {
	top, known := r.tops[dir]
	if !known {
		switch {
		case isTop(filepath.Join(r.query.Root, filepath.FromSlash(dir))):
			top = dir
		case dir != ".":
			top, _ = r.topOf(path.Dir(dir))
		}
		r.tops[dir] = top
	}
	return top, top != ""
}

// open reads the HEAD of the repository at top.
func (r *reader) open(ctx context.Context, top string) *repository {
	if repo, ok := r.repos[top]; ok {
		return repo
	}
	repo := &repository{abs: filepath.Join(r.query.Root, filepath.FromSlash(top))}
	r.repos[top] = repo
	var err error
	repo.history, repo.Repository, err = r.opened.at(repo.abs).history(ctx)
	if repo.Dir = top; err == nil {
		err = r.pathTree(ctx, repo)
	}
	if err != nil {
		repo.fail(err)
	}
	return repo
}

// holder returns the repository that contains a file, or nil if there is none.
func (r *reader) holder(ctx context.Context, name string) *repository {
	top, ok := r.topOf(path.Dir(name))
	if !ok {
		return nil
	}
	return r.open(ctx, top)
}

// recorded returns the entry in HEAD at a path below Root. Its mode is "" if there is none. An
// error is a problem of the repository.
func (repo *repository) recorded(ctx context.Context, name string) (e entry, err error) {
	if repo.trouble != nil {
		return entry{}, repo.trouble
	}
	rel, _ := below(repo.Dir, name)
	if e, err = repo.lookup(ctx, rel); err != nil {
		repo.fail(err)
	}
	return e, err
}

// fail records that something about the repository could not be determined.
func (repo *repository) fail(err error) {
	if repo.trouble == nil {
		repo.trouble = err
	}
	repo.Modified = worse(repo.Modified, Unknown)
}

// pathTree sets PathTree: the ID of the path of the source or, if the repository is inside the
// source, of the whole tree of HEAD.
func (r *reader) pathTree(ctx context.Context, repo *repository) error {
	rel, inside := below(repo.Dir, r.query.Path)
	if !inside {
		if _, inside := below(r.query.Path, repo.Dir); inside {
			repo.PathTree = repo.Tree
		}
		return nil
	}
	e, err := repo.lookup(ctx, rel)
	if e.mode != modeGitlink {
		repo.PathTree = e.id
	}
	return err
}

// below returns p relative to dir, which are both relative to the same root. ok is false if p is
// not below dir.
func below(dir, p string) (rel string, ok bool) {
	switch dir {
	case p:
		return ".", true
	case ".":
		return p, true
	default:
		return strings.CutPrefix(p, dir+"/")
	}
}

// file compares an input with HEAD, byte for byte. If they differ, Modified is Unknown until
// settle asks git.
func (r *reader) file(ctx context.Context, in Input) File {
	f := File{Path: in.Path, Digest: digest.FromBytes(in.Data), Modified: Unknown}
	if in.Real != in.Path {
		f.Link = in.Real
	}
	repo := r.holder(ctx, in.Real)
	if repo == nil {
		return f
	}
	f.Repository = repo.Dir
	if repo.history == nil {
		return f
	}
	f.Blob = repo.blobID(in.Data)
	if repo.trouble != nil {
		return f
	}
	e, err := repo.recorded(ctx, in.Real)
	switch {
	case err != nil:
	case e.mode == "" || e.mode == modeTree || e.mode == modeGitlink:
		f.Untracked, f.Modified = true, Yes
		if lock := r.query.Locked; lock != nil && lock.Files[f.Path] == f.Digest && r.lockHolds() {
			f.Locked, f.Modified = true, No
		}
	case e.mode == modeLink:
		f.Modified = Yes
	case e.id == f.Blob:
		f.Modified = No
	}
	for _, l := range in.Links {
		f.Modified = worse(f.Modified, r.link(ctx, l))
	}
	return f
}

// committed reports whether the lock is in HEAD, byte for byte.
func (r *reader) committed(ctx context.Context, lock *Lock) bool {
	abs, err := filepath.Abs(lock.File)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(r.query.Root, abs)
	if err != nil || !filepath.IsLocal(rel) {
		return false
	}
	at := filepath.ToSlash(rel)
	repo := r.holder(ctx, at)
	if repo == nil {
		return false
	}
	e, err := repo.recorded(ctx, at)
	if err != nil || e.mode == "" {
		return false
	}
	data, err := regular.ReadFile(abs)
	return err == nil && digest.FromBytes(data) == lock.Digest && e.id == repo.blobID(data)
}

// link compares a symbolic link with HEAD.
func (r *reader) link(ctx context.Context, l Link) Tristate {
	repo := r.holder(ctx, l.Path)
	if repo == nil {
		return Unknown
	}
	e, err := repo.recorded(ctx, l.Path)
	switch {
	case err != nil:
		return Unknown
	case e.mode == modeLink && e.id == repo.blobID([]byte(l.Target)):
		return No
	}
	repo.Modified = Yes
	return Yes
}

// settle sets Modified of the files whose bytes differ from HEAD, and of the repositories. The
// files must be in the order of the inputs of the query.
func (r *reader) settle(ctx context.Context, files []File) {
	differ := map[string][]difference{}
	for i := range files {
		f := &files[i]
		if repo := r.repos[f.Repository]; f.Modified == Unknown && f.Blob != "" && repo.trouble == nil {
			rel, _ := below(f.Repository, r.query.Inputs[i].Real)
			differ[f.Repository] = append(differ[f.Repository], difference{f, rel, r.query.Inputs[i].Data})
		}
	}
	for _, top := range slices.Sorted(maps.Keys(differ)) {
		r.convert(ctx, r.repos[top], differ[top])
	}
	for _, f := range files {
		if repo, ok := r.repos[f.Repository]; ok {
			repo.Modified = worse(repo.Modified, f.Modified)
		}
	}
}

// difference is a file whose bytes differ from HEAD. Path is relative to the top of the
// repository.
type difference struct {
	*File
	path string
	data []byte
}

// convert asks git what it would store for the files that differ.
func (r *reader) convert(ctx context.Context, repo *repository, files []difference) {
	var paths []string
	for _, f := range files {
		paths = append(paths, f.path)
	}
	ids, err := checkin(ctx, repo.abs, paths)
	if err != nil && len(files) > 1 {
		// A file whose filter fails must not make the others unknown.
		for i := range files {
			r.convert(ctx, repo, files[i:i+1])
		}
		return
	}
	for i, f := range files {
		e, lookupErr := repo.lookup(ctx, f.path)
		switch {
		case err == nil && lookupErr == nil && ids[i] == e.id:
			f.Modified = No
		case err == nil || !converted(repo.abs, f):
			f.Modified = Yes
		default:
			r.warnings = append(r.warnings, fmt.Sprintf(
				"whether %s differs from HEAD in more than line endings and filters is unknown: %v", f.Path, err))
		}
	}
}

// converted reports whether git may store bytes for a file that differ from those on disk,
// because there are attributes, or line endings that core.autocrlf would change.
func converted(top string, f difference) bool {
	if bytes.Contains(f.data, []byte("\r\n")) {
		return true
	}
	candidates := []string{".git/info/attributes"}
	for dir := path.Dir(f.path); ; dir = path.Dir(dir) {
		candidates = append(candidates, path.Join(dir, ".gitattributes"))
		if dir == "." {
			break
		}
	}
	return slices.ContainsFunc(candidates, func(name string) bool {
		_, err := os.Stat(filepath.Join(top, filepath.FromSlash(name)))
		return err == nil
	})
}

// removed looks for files that are in HEAD, in one of the folders of the source, but not on disk.
// They are not inputs, but the source differs from HEAD.
func (r *reader) removed(ctx context.Context, folder string) {
	inputs := map[string]bool{}
	for _, in := range r.query.Inputs {
		inputs[in.Real] = true
	}
	for _, top := range slices.Sorted(maps.Keys(r.repos)) {
		repo := r.repos[top]
		at := top // a whole submodule inside the folder, or else the folder itself
		if _, inside := below(folder, top); !inside {
			if owner, _ := r.topOf(folder); owner != top {
				continue
			}
			at = folder
		}
		if e, err := repo.recorded(ctx, at); err == nil && e.mode == modeTree {
			if err := r.missing(ctx, repo, e.id, at, inputs); err != nil {
				repo.fail(err)
			}
		}
	}
}

// mostRemoved is the maximum length of Repository.Removed.
const mostRemoved = 100

// missing compares one tree of HEAD with the folder on disk.
func (r *reader) missing(ctx context.Context, repo *repository, tree, dir string, inputs map[string]bool) error {
	names, err := repo.list(ctx, tree)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		p, e := path.Join(dir, name), names[name]
		if inputs[p] {
			continue
		}
		abs := filepath.Join(r.query.Root, filepath.FromSlash(p))
		switch e.mode {
		case modeTree:
			err = r.missing(ctx, repo, e.id, p, inputs)
		case modeGitlink:
			if !isTop(abs) {
				repo.Modified = worse(repo.Modified, Unknown)
				r.warnings = append(r.warnings, fmt.Sprintf("submodule %s is not checked out; run 'git submodule update --init'", p))
			}
		default:
			if _, statErr := os.Lstat(abs); errors.Is(statErr, fs.ErrNotExist) || errors.Is(statErr, syscall.ENOTDIR) {
				repo.Modified = Yes
				if len(repo.Removed) < mostRemoved {
					repo.Removed = append(repo.Removed, p)
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// gitlinks compares the commits of submodules with those recorded in the repositories that
// contain them.
func (r *reader) gitlinks(ctx context.Context) {
	for queue := slices.Sorted(maps.Keys(r.repos)); len(queue) > 0; queue = queue[1:] {
		inner := r.repos[queue[0]]
		if inner.Dir == "." {
			continue
		}
		top, ok := r.topOf(path.Dir(inner.Dir))
		if !ok {
			continue
		}
		if _, known := r.repos[top]; !known {
			queue = append(queue, top)
		}
		outer := r.open(ctx, top)
		e, err := outer.recorded(ctx, inner.Dir)
		switch {
		case err != nil:
		case e.mode == modeGitlink && e.id == inner.Commit:
		case e.mode == modeGitlink && inner.Commit == "" && inner.trouble != nil:
			outer.Modified = worse(outer.Modified, Unknown)
		default:
			outer.Modified = Yes
		}
	}
}
