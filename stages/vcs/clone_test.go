// SPDX-License-Identifier: Apache-2.0

package vcs

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// served serves a folder of repositories with git's own HTTP server, which requires a password.
func served(t *testing.T, dir string) *httptest.Server {
	t.Helper()
	where, err := exec.CommandContext(t.Context(), "git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(where)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"},
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "somebody" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

// TestClone clones an old commit and a tagged one, from a server that serves single commits and
// from one that does not.
func TestClone(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", home)
	helper := "[credential]\n\thelper = \"!f() { cat >/dev/null; echo username=somebody; echo password=secret; }; f\"\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(helper), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := newRepository(t, map[string]string{
		"chart/values.yaml": "a: 1\n", "run.sh": "#!/bin/sh\n", ".gitattributes": "* filter=evil eol=crlf\n",
	})
	if err := os.Symlink("chart/values.yaml", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	gitIn(t, dir, "update-index", "--chmod=+x", "run.sh")
	gitIn(t, dir, "add", "link")
	gitIn(t, dir, "commit", "-q", "-m", "one")
	old := gitIn(t, dir, "rev-parse", "HEAD")
	write(t, dir, map[string]string{"chart/values.yaml": "a: 2\n"})
	gitIn(t, dir, "commit", "-q", "-m", "two", "chart")
	tagged := gitIn(t, dir, "rev-parse", "HEAD")
	gitIn(t, dir, "tag", "-a", "-m", "release", "v1.0.0")
	gitIn(t, dir, "tag", "later")
	write(t, dir, map[string]string{"chart/values.yaml": "a: 3\n"})
	gitIn(t, dir, "commit", "-q", "-m", "three", "chart")

	server := served(t, filepath.Dir(dir))
	uri := server.URL + "/" + filepath.Base(dir) + "/.git"
	for _, allowed := range []string{"true", "false"} {
		gitIn(t, dir, "config", "uploadpack.allowReachableSHA1InWant", allowed)
		for _, c := range []struct {
			commit, values, tags string
		}{{old, "a: 1\n", ""}, {tagged, "a: 2\n", "v1.0.0"}} {
			was := Repository{
				URI: uri, Commit: c.commit, Tags: []GitTag{{Name: "v1.0.0"}, {Name: "gone"}},
				Remotes: []Remote{{Name: "other", URLs: []string{"https://example.com/x"}}, {Name: "upstream", URLs: []string{uri}}},
			}
			top, err := Clone(t.Context(), CloneOptions{Repository: was, Dir: t.TempDir(), Transport: server.Client().Transport})
			if err != nil {
				t.Fatalf("single commits %s: %v", allowed, err)
			}
			facts, warnings, err := (*Opened)(nil).Read(t.Context(), Query{Root: top, Path: ".", Folders: []string{"."}})
			if err != nil || len(facts.Repositories) != 1 {
				t.Fatalf("%+v, %q, %v", facts, warnings, err)
			}
			r := facts.Repositories[0]
			var tags []string
			for _, tag := range r.Tags {
				tags = append(tags, tag.Name)
			}
			// Files that are missing on disk would be in Removed.
			if r.Commit != c.commit || r.URI != uri || strings.Join(tags, " ") != c.tags || len(r.Remotes) != 2 || len(r.Removed) > 0 || r.Modified != No {
				t.Errorf("single commits %s: %+v", allowed, r)
			}
			data, err := os.ReadFile(filepath.Join(top, "chart", "values.yaml"))
			if err != nil || string(data) != c.values {
				t.Errorf("values %q, %v", data, err)
			}
			if target, err := os.Readlink(filepath.Join(top, "link")); target != "chart/values.yaml" {
				t.Errorf("link %q, %v", target, err)
			}
			if info, err := os.Stat(filepath.Join(top, "run.sh")); err != nil || info.Mode()&0o100 == 0 {
				t.Errorf("run.sh: %v, %v", info, err)
			}
		}
	}

	for _, bad := range []struct{ uri, commit, reason string }{
		{uri, strings.Repeat("0", 39) + "1", "clone " + uri},
		{uri, "main", "is not a SHA-1"},
		{"file://" + dir, tagged, "not the URL of a repository on a server"},
		{dir, tagged, "not the URL"},
		{"ext::sh -c id", tagged, "not the URL"},
		{"https://user:password@example.com/x", tagged, "not the URL"},
		{"git://example.com/x", tagged, "the protocol git is not supported"},
	} {
		_, err := Clone(t.Context(), CloneOptions{Repository: Repository{URI: bad.uri, Commit: bad.commit}, Dir: t.TempDir(), Transport: server.Client().Transport})
		if err == nil || !strings.Contains(err.Error(), bad.reason) {
			t.Errorf("%s at %s: %v", bad.uri, bad.commit, err)
		}
	}
}

// TestCloneUnauthorized checks that the error tells that git has no credentials.
func TestCloneUnauthorized(t *testing.T) {
	dir := newRepository(t, map[string]string{"a": "x"})
	server := served(t, filepath.Dir(dir))
	_, err := Clone(t.Context(), CloneOptions{
		Repository: Repository{URI: server.URL + "/" + filepath.Base(dir) + "/.git", Commit: gitIn(t, dir, "rev-parse", "HEAD")},
		Dir:        t.TempDir(), Transport: server.Client().Transport,
	})
	if err == nil || !strings.Contains(err.Error(), "git has no credentials for it") {
		t.Error(err)
	}
}

// TestCloneNames rejects names of tree entries that leave the work tree or belong to git.
func TestCloneNames(t *testing.T) {
	dir := newRepository(t, map[string]string{"a": "x"})
	object := func(data string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(data)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("git %s: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	blob, up := object("x", "hash-object", "-w", "--stdin"), object("..", "hash-object", "-w", "--stdin")
	inner := object("100644 blob "+blob+"\tconfig\n", "mktree")
	server := served(t, filepath.Dir(dir))
	client := authorized{server.Client().Transport}
	for _, tree := range [][]string{
		{"100644 blob " + blob + "\t.git"},
		{"040000 tree " + inner + "\t.git"},
		{"040000 tree " + inner + "\t.."},
		{"120000 blob " + up + "\ta", "040000 tree " + inner + "\ta"},
	} {
		commit := gitIn(t, dir, "commit-tree", "-m", "x", object(strings.Join(tree, "\n")+"\n", "mktree"))
		gitIn(t, dir, "update-ref", "refs/heads/main", commit)
		at := t.TempDir()
		_, err := Clone(t.Context(), CloneOptions{Repository: Repository{URI: strings.Replace(server.URL, "https", "http", 1) + "/" + filepath.Base(dir) + "/.git", Commit: commit}, Dir: at, Transport: client})
		if err == nil {
			t.Errorf("%q was checked out", tree)
		}
		for _, place := range []string{"config", "git/config"} {
			if data, err := os.ReadFile(filepath.Join(at, place)); err == nil && string(data) == "x" {
				t.Errorf("%q wrote %s", tree, place)
			}
		}
	}
}

// authorized adds the password, and TLS.
type authorized struct{ base http.RoundTripper }

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth("somebody", "secret")
	r.URL.Scheme = "https"
	return a.base.RoundTrip(r)
}
