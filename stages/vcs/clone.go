// SPDX-License-Identifier: Apache-2.0

package vcs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

const (
	// maxPack limits what a clone downloads. maxClone limits the total size, and maxCloneFiles
	// the number, of the files that it checks out.
	maxPack       = 2 << 30
	maxClone      = 4 << 30
	maxCloneFiles = 1 << 20
	// maxTreeDepth limits the depth of its folders.
	maxTreeDepth = 255
)

// CloneOptions are the options of Clone.
type CloneOptions struct {
	// Repository is the recorded repository. Clone uses URI, Remotes, Commit and the names of
	// Tags.
	Repository Repository
	// Dir is an empty folder for the git directory and the work tree.
	Dir string
	// Transport sends requests over HTTP.
	Transport http.RoundTripper
}

// Clone checks out one commit of a repository, and returns the top of the work tree, which has
// the recorded remotes and tags. It downloads no more history than the server requires. It runs
// neither hooks nor filters, and does not check out submodules. It uses the credentials of the
// user for git: from credential helpers for HTTPS, and from the SSH agent for SSH.
func Clone(ctx context.Context, o CloneOptions) (top string, err error) {
	uri := o.Repository.URI
	if !plumbing.IsHash(o.Repository.Commit) {
		return "", fmt.Errorf("clone %s: commit %q is not a SHA-1: clone it with git", uri, o.Repository.Commit)
	}
	if top, err = o.clone(ctx); err != nil {
		switch cause := context.Cause(ctx); {
		case cause != nil:
			err = cause
		case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
			err = fmt.Errorf("%w: git has no credentials for it that the server accepts; clone it with git, and name the clone", err)
		}
		return "", fmt.Errorf("clone %s: %w", uri, err)
	}
	return top, nil
}

func (o *CloneOptions) clone(ctx context.Context) (string, error) {
	// The git directory is beside the work tree, so no file name in a commit can be part of it.
	git, top := filepath.Join(o.Dir, "git"), filepath.Join(o.Dir, "tree")
	if err := os.Mkdir(top, 0o700); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(top, ".git"), []byte("gitdir: "+git+"\n"), 0o600); err != nil {
		return "", err
	}
	storage := filesystem.NewStorage(osfs.New(git), cache.NewObjectLRUDefault())
	if err := o.configure(storage); err != nil {
		return "", err
	}
	if err := o.fetch(ctx, storage); err != nil {
		return "", err
	}
	commit, err := object.GetCommit(storage, plumbing.NewHash(o.Repository.Commit))
	if err != nil {
		return "", fmt.Errorf("commit %s: %w", o.Repository.Commit, err)
	}
	tree, err := commit.Tree()
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(top)
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }() // nothing is written through it
	out := checkout{root: root, bytes: maxClone, files: maxCloneFiles}
	return top, out.tree(ctx, tree, "")
}

// configure writes HEAD and the remotes, which are facts about a source.
func (o *CloneOptions) configure(storage *filesystem.Storage) error {
	if err := storage.Init(); err != nil {
		return err
	}
	c := config.NewConfig()
	for _, r := range o.Repository.Remotes {
		c.Remotes[r.Name] = &config.RemoteConfig{Name: r.Name, URLs: r.URLs}
		// A branch follows the remote whose URL was the URI.
		if slices.Contains(r.URLs, o.Repository.URI) && len(c.Branches) == 0 {
			c.Branches[branchName] = &config.Branch{Name: branchName, Remote: r.Name}
		}
	}
	if err := storage.SetConfig(c); err != nil {
		return err
	}
	branch := plumbing.NewBranchReferenceName(branchName)
	return errors.Join(
		storage.SetReference(plumbing.NewHashReference(branch, plumbing.NewHash(o.Repository.Commit))),
		storage.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, branch)))
}

// branchName is the name of the branch in a clone. It is not part of statements.
const branchName = "tape"

// fetch downloads the commit and the tags that lead to it.
func (o *CloneOptions) fetch(ctx context.Context, storage *filesystem.Storage) (err error) {
	session, err := o.session(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if closed := session.Close(); err == nil {
			err = closed
		}
	}()
	advertised, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return err
	}
	request := packp.NewUploadPackRequestFromCapabilities(advertised.Capabilities)
	commit := plumbing.NewHash(o.Repository.Commit)
	request.Wants = []plumbing.Hash{commit}
	tip := false
	for name, id := range advertised.References {
		peeled, annotated := advertised.Peeled[name]
		if id != commit && peeled != commit {
			continue
		}
		tip = true
		tag, ok := strings.CutPrefix(name, "refs/tags/")
		if !ok || !slices.ContainsFunc(o.Repository.Tags, func(t GitTag) bool { return t.Name == tag }) {
			continue
		}
		if annotated {
			request.Wants = append(request.Wants, id)
		}
		if err := storage.SetReference(plumbing.NewHashReference(plumbing.ReferenceName(name), id)); err != nil {
			return err
		}
	}
	able := advertised.Capabilities
	switch alone := tip || able.Supports(capability.AllowReachableSHA1InWant); {
	case !alone: // the server sends a commit only with what leads to it
		for _, id := range advertised.References {
			request.Wants = append(request.Wants, id)
		}
		request.Wants = request.Wants[1:]
	case able.Supports(capability.Shallow):
		request.Depth = packp.DepthCommits(1)
		if err := request.Capabilities.Set(capability.Shallow); err != nil {
			return err
		}
	}
	if able.Supports(capability.NoProgress) {
		if err := request.Capabilities.Set(capability.NoProgress); err != nil {
			return err
		}
	}
	response, err := session.UploadPack(ctx, request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Close() }() // everything has been read
	if err := storage.SetShallow(response.Shallows); err != nil {
		return err
	}
	return packfile.UpdateObjectStorage(storage, &bounded{demultiplexed(request.Capabilities, response), maxPack})
}

// demultiplexed returns the pack in an answer, without the messages that the server sends with
// it.
func demultiplexed(able *capability.List, r io.Reader) io.Reader {
	switch {
	case able.Supports(capability.Sideband64k):
		return sideband.NewDemuxer(sideband.Sideband64k, r)
	case able.Supports(capability.Sideband):
		return sideband.NewDemuxer(sideband.Sideband, r)
	}
	return r
}

// bounded reads a pack, and fails if it is too long.
type bounded struct {
	io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("it has more than %d GiB, compressed: clone it with git", maxPack>>30)
	}
	return n, err
}

// session opens a connection to the server. It rejects folders on this machine, and protocols
// that other programs of git implement, because the URI comes from whoever made the application.
func (o *CloneOptions) session(ctx context.Context) (transport.UploadPackSession, error) {
	if CleanURL(o.Repository.URI) != o.Repository.URI || o.Repository.URI == "" {
		return nil, errors.New("it is not the URL of a repository on a server")
	}
	endpoint, err := transport.NewEndpoint(o.Repository.URI)
	if err != nil {
		return nil, err
	}
	switch endpoint.Protocol {
	case "http":
		return githttp.NewClient(&http.Client{Transport: o.Transport}).NewUploadPackSession(endpoint, nil)
	case "https":
		var auth transport.AuthMethod
		if user, password, ok := credential(ctx, o.Repository.URI); ok {
			auth = &githttp.BasicAuth{Username: user, Password: password}
		}
		return githttp.NewClient(&http.Client{Transport: o.Transport}).NewUploadPackSession(endpoint, auth)
	case "ssh":
		return gitssh.NewClient(nil).NewUploadPackSession(endpoint, nil)
	}
	return nil, fmt.Errorf("the protocol %s is not supported: clone it with git", endpoint.Protocol)
}

// credential asks git for the credential of the user for a URL, without a prompt on the terminal.
func credential(ctx context.Context, uri string) (user, password string, ok bool) {
	u, err := url.Parse(uri)
	if err != nil || strings.ContainsAny(uri, "\r\n\x00") {
		return "", "", false
	}
	ask := fmt.Sprintf("protocol=%s\nhost=%s\npath=%s\n\n", u.Scheme, u.Host, strings.TrimPrefix(u.Path, "/"))
	out, err := runGit(ctx, os.TempDir(), strings.NewReader(ask), "credential", "fill")
	if err != nil {
		return "", "", false // there is none, or git is not installed
	}
	for line := range strings.Lines(string(out)) {
		switch key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "="); key {
		case "username":
			user = value
		case "password":
			password = value
		}
	}
	return user, password, password != ""
}

// checkout writes the files of a commit, but nothing outside root.
type checkout struct {
	root  *os.Root
	bytes int64 // remaining bytes
	files int
}

func (c *checkout) tree(ctx context.Context, tree *object.Tree, dir string) error {
	if strings.Count(dir, "/") >= maxTreeDepth {
		return fmt.Errorf("%s is more than %d folders deep", dir, maxTreeDepth)
	}
	for _, entry := range tree.Entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.files--; c.files < 0 {
			return fmt.Errorf("it has more than %d files", maxCloneFiles)
		}
		name := path.Join(dir, entry.Name)
		if strings.ContainsAny(entry.Name, `/\`) || !filepath.IsLocal(entry.Name) || entry.Name == "." {
			return fmt.Errorf("%q is not the name of a file", name)
		}
		if err := c.entry(ctx, tree, entry, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (c *checkout) entry(ctx context.Context, tree *object.Tree, entry object.TreeEntry, name string) error {
	switch entry.Mode {
	case filemode.Dir:
		if err := c.root.Mkdir(name, 0o755); err != nil {
			return err
		}
		below, err := tree.Tree(entry.Name)
		if err != nil {
			return err
		}
		return c.tree(ctx, below, name)
	case filemode.Submodule: // git also leaves an empty folder
		return c.root.Mkdir(name, 0o755)
	}
	file, err := tree.TreeEntryFile(&entry)
	if err != nil {
		return err
	}
	if c.bytes -= file.Size; c.bytes < 0 {
		return fmt.Errorf("the files up to here have more than %d GiB", maxClone>>30)
	}
	if entry.Mode == filemode.Symlink {
		target, err := file.Contents()
		if err != nil {
			return err
		}
		return c.root.Symlink(filepath.FromSlash(target), name)
	}
	return c.write(file, entry.Mode, name)
}

func (c *checkout) write(file *object.File, mode filemode.FileMode, name string) (err error) {
	from, err := file.Reader()
	if err != nil {
		return err
	}
	defer from.Close()
	perm := os.FileMode(0o644)
	if mode == filemode.Executable {
		perm = 0o755
	}
	to, err := c.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}
