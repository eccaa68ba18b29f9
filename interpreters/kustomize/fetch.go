// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taped-dev/tape/internal/authorities"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// maxFile limits a fetched file; the largest release manifests have 13 MB.
const maxFile = 64 << 20

// fetcher fetches remote files and repositories that a kustomization names and adds them to the
// tree. They are recorded as materials. A locked one must be as locked, or fetching it fails.
type fetcher struct {
	*interpreter.Fetched
	tree    *tree
	scratch string
	caFile  string // "" for the authorities of the system only
	client  *http.Client
	clones  map[string]clone  // by the URI of the material
	files   map[string][]byte // entry → content
	places  []string          // pairs: path in the tree, and what was fetched there
}

// clone is a repository in the tree, or the error of cloning it.
type clone struct {
	at  string
	err error
}

func newFetcher(req *interpreter.RenderRequest, t *tree) *fetcher {
	f := &fetcher{
		Fetched: interpreter.NewFetched(req.Materials), tree: t, scratch: req.Scratch,
		clones: map[string]clone{}, files: map[string][]byte{},
	}
	if req.Registries != nil {
		f.caFile = req.Registries.CAFile
	}
	return f
}

// names replaces paths in the tree by what was fetched there, for messages.
func (f *fetcher) names() *strings.Replacer { return strings.NewReplacer(f.places...) }

// file fetches a file into a folder of the tree and returns its name there.
func (f *fetcher) file(ctx context.Context, entry, dir string) (string, error) {
	u, err := url.Parse(entry)
	if err != nil {
		return "", errors.New("not a URL")
	}
	// Credentials and the query may contain secrets, so they are left out.
	uri := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
	data, ok := f.files[entry]
	if !ok {
		if data, err = f.get(ctx, u); err != nil {
			return "", fmt.Errorf("fetch %s: %w", uri, err)
		}
		if err := f.Record(uri, fmt.Sprintf("sha256:%x", sha256.Sum256(data))); err != nil {
			return "", err
		}
		f.files[entry] = data
	}
	name := fmt.Sprintf(".tape-fetched-%.8x%s", sha256.Sum256([]byte(entry)), path.Ext(u.Path))
	f.tree.files[path.Join("/", dir, name)] = data
	f.places = append(f.places, name, uri)
	return name, nil
}

func (f *fetcher) get(ctx context.Context, u *url.URL) ([]byte, error) {
	if f.client == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		pool, err := authorities.Read(f.caFile)
		if err != nil {
			return nil, err
		}
		if pool != nil {
			t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		}
		f.client = &http.Client{Transport: t}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL, which may contain a password
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s returned %s", u.Host, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("it has more than %d bytes", maxFile)
	}
	return data, err
}

// repository checks out a repository and returns the requested folder of it, as a path
// relative to the root of the tree.
func (f *fetcher) repository(ctx context.Context, r repository) (string, error) {
	uri := r.uri()
	if strings.HasPrefix(r.clone, "file:") {
		return "", fmt.Errorf("%s: a repository on this machine is not available to others: use a path in the source's repository", r.clone)
	}
	c, ok := f.clones[uri]
	if !ok {
		c.at, c.err = f.clone(ctx, uri, r)
		f.clones[uri] = c
	}
	if c.err != nil {
		return "", c.err
	}
	folder := path.Join(c.at, r.folder)
	if !f.tree.IsDir(folder) {
		return "", fmt.Errorf("%s has no folder %s", uri, r.folder)
	}
	return strings.TrimPrefix(folder, "/"), nil
}

// clone checks out a repository, records its commit and returns its folder in the tree.
func (f *fetcher) clone(ctx context.Context, uri string, r repository) (string, error) {
	name := fmt.Sprintf("%.8x", sha256.Sum256([]byte(uri)))
	at, dir := path.Join(fetchedFolder, name), filepath.Join(f.scratch, "git", name)
	commit, err := f.checkout(ctx, dir, r)
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", uri, err)
	}
	if err := f.Record(uri, "gitCommit:"+commit); err != nil {
		return "", err
	}
	f.places = append(f.places, at, uri)
	return at, f.tree.mount(at, dir)
}

// checkout checks out one commit. If one is locked, it is fetched by its hash, since the
// branch may have moved; if the server does not allow that, the ref is fetched, and record
// compares the commit.
func (f *fetcher) checkout(ctx context.Context, dir string, r repository) (string, error) {
	if strings.HasPrefix(r.ref, "-") || strings.HasPrefix(r.clone, "-") {
		return "", errors.New("a repository or ref must not begin with a dash")
	}
	if ctx.Err() != nil { // the caller has given up, and may be removing the scratch folder
		return "", context.Cause(ctx)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if _, err := git(ctx, dir, "init", "--quiet"); err != nil {
		return "", err
	}
	// Submodules with a relative URL need the remote.
	if _, err := git(ctx, dir, "remote", "add", "origin", r.clone); err != nil {
		return "", err
	}
	fetch := func(ref string) error {
		_, err := git(ctx, dir, "fetch", "--quiet", "--depth=1", "--no-tags", "origin", ref)
		return err
	}
	commit, locked := strings.CutPrefix(f.Locked(r.uri()), "gitCommit:")
	if !locked || fetch(commit) != nil {
		if err := fetch(r.ref); err != nil {
			return "", err
		}
	}
	if _, err := git(ctx, dir, "checkout", "--quiet", "--detach", "FETCH_HEAD"); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, ".gitmodules")); err == nil && r.submodules {
		if _, err := git(ctx, dir, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"); err != nil {
			return "", err
		}
	}
	return git(ctx, dir, "rev-parse", "HEAD")
}

// git runs git in a folder. It uses the configuration of the user, which determines how
// repositories are accessed, but without prompts, hooks, and transports that run programs or read
// the local disk.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{
		"-c", "core.hooksPath=" + os.DevNull, "-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false",
		"-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "protocol.http.allow=always", "-c", "protocol.ssh.allow=always",
	}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		// Git sets these if it runs tape; they would select another repository.
		return strings.HasPrefix(v, "GIT_DIR=") || strings.HasPrefix(v, "GIT_WORK_TREE=") || strings.HasPrefix(v, "GIT_INDEX_FILE=")
	}), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", errors.New("git is not installed; remote bases need it")
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("git %s: %s", args[0], lastLine(stderr.String(), err))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// lastLine returns the last line of the output of git, which contains the reason of a failure.
func lastLine(stderr string, err error) string {
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return err.Error()
}
