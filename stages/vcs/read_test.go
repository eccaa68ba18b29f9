// SPDX-License-Identifier: Apache-2.0

package vcs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// TestMain isolates the tests from the user's git configuration.
func TestMain(m *testing.M) {
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME"} {
		if err := os.Setenv(name, os.DevNull); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// gitIn runs git in dir with a fixed author and time.
func gitIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=2024-05-01T10:00:00+02:00",
		"GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.com", "GIT_COMMITTER_DATE=2024-05-01T12:00:00+02:00")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// newFolder returns an empty folder whose path has no symbolic links.
func newFolder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// newRepository returns a repository with the files committed on main.
func newRepository(t *testing.T, files map[string]string, initArgs ...string) string {
	t.Helper()
	dir := newFolder(t)
	gitIn(t, dir, append([]string{"init", "--quiet", "--initial-branch=main"}, initArgs...)...)
	write(t, dir, files)
	gitIn(t, dir, "add", "--all")
	gitIn(t, dir, "commit", "--quiet", "--message=first")
	return dir
}

// input reads a file without following links.
func input(t *testing.T, root, path string) Input {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return Input{Path: path, Real: path, Data: data}
}

// query returns a query for the folder deploy with the named files.
func query(t *testing.T, root string, paths ...string) Query {
	t.Helper()
	q := Query{Name: "shop", Root: root, Path: "deploy", Folders: []string{"deploy"}}
	for _, p := range paths {
		q.Inputs = append(q.Inputs, input(t, root, p))
	}
	return q
}

func read(t *testing.T, q Query) Facts {
	t.Helper()
	facts, warnings, err := (*Opened)(nil).Read(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Fatalf("warnings: %q", warnings)
	}
	return facts
}

var shop = map[string]string{"deploy/a.yaml": "a: 1\n", "deploy/b/c.yaml": "c: 1\n", "README.md": "hi\n"}

// An object that is too large to be a commit or a tree is not read, and the next object is.
func TestObjectTooLarge(t *testing.T) {
	dir := newRepository(t, map[string]string{"large": strings.Repeat("\x00", maxObject+1), "small": "x"})
	large, small := gitIn(t, dir, "rev-parse", "HEAD:large"), gitIn(t, dir, "rev-parse", "HEAD:small")
	lib, err := openLibrary(dir)
	if err != nil {
		t.Fatal(err)
	}
	command, err := openCommand(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]objects{"go-git": lib, "git": command} {
		defer of.close()
		if _, _, err := of.object(t.Context(), large); !errors.Is(err, errTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if _, data, err := of.object(t.Context(), small); err != nil || string(data) != "x" {
			t.Errorf("%s: then %q, %v", name, data, err)
		}
	}
}

func TestRead(t *testing.T) {
	dir := newRepository(t, shop)
	gitIn(t, dir, "remote", "add", "origin", "https://bot:hunter2@git.example.com/shop.git?token=hunter3")
	gitIn(t, dir, "remote", "add", "local", "/srv/git/shop")
	gitIn(t, dir, "tag", "v1.0.0")
	gitIn(t, dir, "tag", "--annotate", "--message=nested", "deploy/v1.0.0", "v1.0.0")
	gitIn(t, dir, "commit", "--quiet", "--allow-empty", "--message=second")
	gitIn(t, dir, "tag", "v1.0.1")
	gitIn(t, dir, "checkout", "--quiet", "-b", "release", "v1.0.0")

	facts := read(t, query(t, dir, "deploy/b/c.yaml", "deploy/a.yaml"))
	want := Facts{
		Name: "shop", Path: "deploy",
		Repositories: []Repository{{
			Dir:        ".",
			URI:        "https://git.example.com/shop.git",
			Remotes:    []Remote{{Name: "origin", URLs: []string{"https://git.example.com/shop.git"}}},
			Commit:     gitIn(t, dir, "rev-parse", "HEAD"),
			Tree:       gitIn(t, dir, "rev-parse", "HEAD^{tree}"),
			PathTree:   gitIn(t, dir, "rev-parse", "HEAD:deploy"),
			Ref:        "refs/heads/release",
			Tags:       []GitTag{{Name: "deploy/v1.0.0"}, {Name: "v1.0.0"}},
			CommitTime: time.Date(2024, 5, 1, 10, 0, 0, 0, time.UTC),
			Modified:   No,
		}},
		Files: []File{{
			Path: "deploy/a.yaml", Repository: ".", Modified: No,
			Digest: digest.FromString("a: 1\n"),
			Blob:   gitIn(t, dir, "rev-parse", "HEAD:deploy/a.yaml"),
		}, {
			Path: "deploy/b/c.yaml", Repository: ".", Modified: No,
			Digest: digest.FromString("c: 1\n"),
			Blob:   gitIn(t, dir, "rev-parse", "HEAD:deploy/b/c.yaml"),
		}},
		Modified: No,
	}
	if diff := cmp.Diff(want, facts); diff != "" {
		t.Error(diff)
	}
}

// The same commit gives the same facts however it was cloned, and however it is read.
func TestReadSameCommit(t *testing.T) {
	origin := newRepository(t, shop)
	gitIn(t, origin, "commit", "--quiet", "--allow-empty", "--message=second")
	gitIn(t, origin, "tag", "--annotate", "--message=release", "v1.0.0")

	work := newFolder(t)
	gitIn(t, work, "clone", "--quiet", origin, "full")
	gitIn(t, work, "clone", "--quiet", "--depth=1", "file://"+origin, "shallow")
	gitIn(t, work, "clone", "--quiet", "--shared", origin, "shared")
	gitIn(t, work, "clone", "--quiet", "--no-checkout", origin, "sparse")
	gitIn(t, filepath.Join(work, "sparse"), "sparse-checkout", "set", "--sparse-index", "deploy")
	gitIn(t, filepath.Join(work, "sparse"), "checkout", "--quiet")
	gitIn(t, origin, "config", "uploadpack.allowFilter", "true")
	gitIn(t, work, "clone", "--quiet", "--filter=blob:none", "file://"+origin, "partial")
	gitIn(t, filepath.Join(work, "full"), "pack-refs", "--all")
	gitIn(t, filepath.Join(work, "full"), "gc", "--quiet")

	want := read(t, query(t, filepath.Join(work, "full"), "deploy/a.yaml", "deploy/b/c.yaml"))
	if want.Modified != No || len(want.Repositories[0].Tags) != 1 || want.Repositories[0].Remotes != nil {
		t.Fatalf("facts of the full clone: %+v", want)
	}
	for _, clone := range []string{"shallow", "shared", "sparse", "partial"} {
		got := read(t, query(t, filepath.Join(work, clone), "deploy/a.yaml", "deploy/b/c.yaml"))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s clone: %s", clone, diff)
		}
	}

	// A linked work tree is on another branch, or detached.
	gitIn(t, filepath.Join(work, "full"), "worktree", "add", "--quiet", "--detach", "../linked")
	want.Repositories[0].Ref = ""
	if diff := cmp.Diff(want, read(t, query(t, filepath.Join(work, "linked"), "deploy/a.yaml", "deploy/b/c.yaml"))); diff != "" {
		t.Errorf("linked work tree: %s", diff)
	}
}

// Both ways of reading a repository give the same facts.
func TestReadersAgree(t *testing.T) {
	dir := newRepository(t, shop)
	gitIn(t, dir, "remote", "add", "up.stream", "git@example.com:shop")
	gitIn(t, dir, "tag", "v1")
	gitIn(t, dir, "tag", "--annotate", "--message=x", "v2")
	gitIn(t, dir, "tag", "--annotate", "--message=y", "v3", "v2")

	facts := func(open func(context.Context, string) (objects, error)) (r Repository) {
		o, err := open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		defer o.close()
		h := history{objects: o}
		if err := h.read(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	lib := facts(func(_ context.Context, top string) (objects, error) { return openLibrary(top) })
	if diff := cmp.Diff(lib, facts(openCommand)); diff != "" {
		t.Errorf("go-git and git differ: %s", diff)
	}
	if lib.URI != "git@example.com:shop" || len(lib.Tags) != 3 {
		t.Errorf("facts: %+v", lib)
	}
}

func TestReadModified(t *testing.T) {
	type state struct {
		File, Repository, Facts Tristate
		Untracked               bool
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   state // of deploy/a.yaml
	}{
		{"nothing", func(t *testing.T, dir string) {}, state{No, No, No, false}},
		{"elsewhere", func(t *testing.T, dir string) {
			write(t, dir, map[string]string{"README.md": "changed\n"})
		}, state{No, No, No, false}},
		{"edited", func(t *testing.T, dir string) {
			write(t, dir, map[string]string{"deploy/a.yaml": "a: 2\n"})
		}, state{Yes, Yes, Yes, false}},
		{"staged", func(t *testing.T, dir string) {
			write(t, dir, map[string]string{"deploy/a.yaml": "a: 2\n"})
			gitIn(t, dir, "add", ".")
		}, state{Yes, Yes, Yes, false}},
		{"untracked", func(t *testing.T, dir string) {
			gitIn(t, dir, "rm", "--quiet", "--cached", "deploy/a.yaml")
			gitIn(t, dir, "commit", "--quiet", "--message=x")
		}, state{Yes, Yes, Yes, true}},
		{"ignored", func(t *testing.T, dir string) {
			gitIn(t, dir, "rm", "--quiet", "--cached", "deploy/a.yaml")
			write(t, dir, map[string]string{".gitignore": "a.yaml\n"})
			gitIn(t, dir, "add", ".")
			gitIn(t, dir, "commit", "--quiet", "--message=x")
		}, state{Yes, Yes, Yes, true}},
		{"another removed", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "deploy/b")); err != nil {
				t.Fatal(err)
			}
		}, state{No, Yes, Yes, false}},
		{"a folder became a file", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "deploy/b")); err != nil {
				t.Fatal(err)
			}
			write(t, dir, map[string]string{"deploy/b": ""})
		}, state{No, Yes, Yes, false}},
		{"executable", func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, "deploy/a.yaml"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, state{No, No, No, false}},
		{"line endings by core.autocrlf", func(t *testing.T, dir string) {
			gitIn(t, dir, "config", "core.autocrlf", "true")
			write(t, dir, map[string]string{"deploy/a.yaml": "a: 1\r\n"})
		}, state{No, No, No, false}},
		{"line endings for no reason", func(t *testing.T, dir string) {
			write(t, dir, map[string]string{"deploy/a.yaml": "a: 1\r\n"})
		}, state{Yes, Yes, Yes, false}},
		{"line endings by attribute", func(t *testing.T, dir string) {
			write(t, dir, map[string]string{"deploy/.gitattributes": "*.yaml text eol=crlf\n", "deploy/a.yaml": "a: 1\r\n"})
		}, state{No, No, No, false}},
		{"a filter", func(t *testing.T, dir string) {
			userConfig(t, "filter.up.clean", "tr A-Z a-z")
			write(t, dir, map[string]string{".gitattributes": "*.yaml filter=up\n", "deploy/a.yaml": "A: 1\n"})
		}, state{No, No, No, false}},
		{"a filter and an edit", func(t *testing.T, dir string) {
			userConfig(t, "filter.up.clean", "tr A-Z a-z")
			write(t, dir, map[string]string{".gitattributes": "*.yaml filter=up\n", "deploy/a.yaml": "A: 2\n"})
		}, state{Yes, Yes, Yes, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newRepository(t, shop)
			c.change(t, dir)
			facts := read(t, query(t, dir, "deploy/a.yaml"))
			f := facts.Files[0]
			got := state{f.Modified, facts.Repositories[0].Modified, facts.Modified, f.Untracked}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// userConfig sets something in the configuration of the user.
func userConfig(t *testing.T, key, value string) {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", home)
	gitIn(t, home, "config", "--file", filepath.Join(home, ".gitconfig"), key, value)
}

// TestReadRunsNothingOfTheRepository reads repositories whose own configuration names programs
// in every way that git has. None is run, and the result of a filter is unknown.
func TestReadRunsNothingOfTheRepository(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir, program string)
		want   Tristate
	}{
		{"clean", func(t *testing.T, dir, program string) { gitIn(t, dir, "config", "filter.x.clean", program) }, Unknown},
		{"process", func(t *testing.T, dir, program string) { gitIn(t, dir, "config", "filter.x.process", program) }, Unknown},
		{"clean, of a name with dots", func(t *testing.T, dir, program string) {
			gitIn(t, dir, "config", "filter.a.b.clean", program)
			write(t, dir, map[string]string{".gitattributes": "*.yaml filter=a.b\n"})
		}, Unknown},
		{"clean, by the attributes of the clone", func(t *testing.T, dir, program string) {
			gitIn(t, dir, "config", "filter.y.clean", program)
			write(t, dir, map[string]string{".git/info/attributes": "*.yaml filter=y\n"})
		}, Unknown},
		{"clean, in a file that is included", func(t *testing.T, dir, program string) {
			write(t, dir, map[string]string{"more": "[filter \"x\"]\n\tclean = " + program + "\n"})
			gitIn(t, dir, "config", "include.path", "../more")
		}, Unknown},
		{"clean, of the work tree", func(t *testing.T, dir, program string) {
			gitIn(t, dir, "config", "extensions.worktreeConfig", "true")
			gitIn(t, dir, "config", "--worktree", "filter.x.clean", program)
		}, Unknown},
		{"clean, in the place of the user's", func(t *testing.T, dir, program string) {
			userConfig(t, "filter.x.clean", "cat")
			gitIn(t, dir, "config", "filter.x.clean", program)
		}, Unknown},
		{"file system monitor", func(t *testing.T, dir, program string) { gitIn(t, dir, "config", "core.fsmonitor", program) }, Yes},
		{"text conversion", func(t *testing.T, dir, program string) {
			gitIn(t, dir, "config", "diff.x.textconv", program)
			gitIn(t, dir, "config", "diff.x.command", program)
			gitIn(t, dir, "config", "diff.external", program)
			write(t, dir, map[string]string{".gitattributes": "*.yaml diff=x\n"})
		}, Yes},
		{"hooks", func(t *testing.T, dir, program string) {
			gitIn(t, dir, "config", "core.hooksPath", filepath.Dir(program))
			gitIn(t, dir, "config", "core.pager", program)
			gitIn(t, dir, "config", "alias.hash-object", "!"+program)
		}, Yes},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newRepository(t, shop)
			ran := filepath.Join(t.TempDir(), "ran")
			program := filepath.Join(t.TempDir(), "post-index-change")
			if err := os.WriteFile(program, []byte("#!/bin/sh\necho x >> "+ran+"\ncat\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, dir, map[string]string{".gitattributes": "*.yaml filter=x\n", "deploy/a.yaml": "a: 2\n"})
			c.change(t, dir, program)
			facts, _, err := (*Opened)(nil).Read(t.Context(), query(t, dir, "deploy/a.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if facts.Files[0].Modified != c.want || facts.Modified != c.want {
				t.Errorf("modified: %s, %s, want %s", facts.Files[0].Modified, facts.Modified, c.want)
			}
			if data, err := os.ReadFile(ran); err == nil {
				t.Errorf("the program ran: %q", data)
			}
		})
	}
}

// A filter that cannot run makes only its own file unknown.
func TestReadBrokenFilter(t *testing.T) {
	dir := newRepository(t, shop)
	gitIn(t, dir, "config", "filter.lost.clean", "/nonexistent/program")
	gitIn(t, dir, "config", "filter.lost.required", "true")
	write(t, dir, map[string]string{
		".git/info/attributes": "a.yaml filter=lost\nc.yaml text eol=crlf\n",
		"deploy/a.yaml":        "changed\n", "deploy/b/c.yaml": "c: 1\r\n",
	})
	facts, warnings, err := (*Opened)(nil).Read(t.Context(), query(t, dir, "deploy/a.yaml", "deploy/b/c.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "deploy/a.yaml") || strings.Contains(warnings[0], "c.yaml") {
		t.Errorf("warnings: %q", warnings)
	}
	if got := []Tristate{facts.Files[0].Modified, facts.Files[1].Modified, facts.Modified}; !slices.Equal(got, []Tristate{Unknown, No, Unknown}) {
		t.Errorf("modified: %q", got)
	}
}

// Without git on the PATH, a file that differs is modified, unless a conversion may explain
// the difference.
func TestReadWithoutGit(t *testing.T) {
	dir := newRepository(t, shop)
	write(t, dir, map[string]string{"deploy/a.yaml": "a: 2\n", "deploy/b/c.yaml": "c: 1\r\n"})
	t.Setenv("PATH", "")
	facts, warnings, err := (*Opened)(nil).Read(t.Context(), query(t, dir, "deploy/a.yaml", "deploy/b/c.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "deploy/b/c.yaml") {
		t.Errorf("warnings: %q", warnings)
	}
	if got := []Tristate{facts.Files[0].Modified, facts.Files[1].Modified, facts.Modified}; !slices.Equal(got, []Tristate{Yes, Unknown, Yes}) {
		t.Errorf("modified: %q", got)
	}
}

func TestReadSHA256(t *testing.T) {
	dir := newRepository(t, shop, "--object-format=sha256")
	// GIT_ variables of the caller and repositories above the folder are ignored.
	t.Setenv("GIT_DIR", filepath.Join(newRepository(t, shop), ".git"))
	facts := read(t, query(t, dir, "deploy/a.yaml", "deploy/b/c.yaml"))
	if r := facts.Repositories[0]; len(r.Commit) != 64 || len(r.PathTree) != 64 || r.Modified != No || facts.Modified != No {
		t.Errorf("facts: %+v", facts)
	}
	if len(facts.Files[0].Blob) != 64 {
		t.Errorf("blob: %s", facts.Files[0].Blob)
	}
	write(t, dir, map[string]string{"deploy/a.yaml": "a: 2\n"})
	if facts := read(t, query(t, dir, "deploy/a.yaml", "deploy/b/c.yaml")); facts.Modified != Yes {
		t.Errorf("after an edit: modified %s", facts.Modified)
	}
}

func TestReadNoCommits(t *testing.T) {
	dir := newFolder(t)
	gitIn(t, dir, "init", "--quiet", "--initial-branch=main")
	write(t, dir, shop)
	facts := read(t, query(t, dir, "deploy/a.yaml"))
	if r := facts.Repositories[0]; r.Commit != "" || r.Ref != "refs/heads/main" || r.Modified != Yes || !facts.Files[0].Untracked {
		t.Errorf("facts: %+v", facts)
	}
}

func TestReadNoRepository(t *testing.T) {
	dir := newFolder(t)
	write(t, dir, shop)
	facts := read(t, query(t, dir, "deploy/a.yaml"))
	facts.Files[0].Digest = ""
	want := Facts{Name: "shop", Path: "deploy", Repositories: []Repository{}, Files: []File{{Path: "deploy/a.yaml", Modified: Unknown}}, Modified: Unknown}
	if diff := cmp.Diff(want, facts); diff != "" {
		t.Error(diff)
	}
}

// Nothing is known about a work tree whose repository is missing; the repository above it
// is not used instead.
func TestReadBrokenRepository(t *testing.T) {
	above := newRepository(t, shop)
	dir := filepath.Join(above, "inner")
	write(t, dir, shop)
	write(t, dir, map[string]string{".git": "gitdir: /nonexistent/repository\n"})
	facts, warnings, err := (*Opened)(nil).Read(t.Context(), query(t, dir, "deploy/a.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "unknown") {
		t.Errorf("warnings: %q", warnings)
	}
	if r := facts.Repositories[0]; r.Commit != "" || r.Modified != Unknown || facts.Modified != Unknown || facts.Files[0].Modified != Unknown {
		t.Errorf("facts: %+v", facts)
	}
}

// A damaged HEAD has no commit.
func TestReadDamagedHead(t *testing.T) {
	dir := newRepository(t, shop)
	write(t, dir, map[string]string{".git/HEAD": "damaged\n"})
	facts, warnings, err := (*Opened)(nil).Read(t.Context(), query(t, dir, "deploy/a.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if r := facts.Repositories[0]; r.Commit != "" || facts.Modified != Unknown || len(warnings) != 1 {
		t.Errorf("facts %+v, warnings %q", facts, warnings)
	}
}

func TestReadSubmodule(t *testing.T) {
	lib := newRepository(t, map[string]string{"base/x.yaml": "x: 1\n"})
	dir := newRepository(t, shop)
	gitIn(t, dir, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", lib, "deploy/lib")
	gitIn(t, dir, "commit", "--quiet", "--message=submodule")
	sub := filepath.Join(dir, "deploy/lib")
	paths := []string{"deploy/a.yaml", "deploy/b/c.yaml", "deploy/lib/base/x.yaml"}

	facts := read(t, query(t, dir, paths...))
	if len(facts.Repositories) != 2 || facts.Modified != No {
		t.Fatalf("facts: %+v", facts)
	}
	inner := facts.Repositories[1]
	if inner.Dir != "deploy/lib" || inner.Commit != gitIn(t, lib, "rev-parse", "HEAD") || inner.PathTree != inner.Tree {
		t.Errorf("submodule: %+v", inner)
	}
	if f := facts.Files[2]; f.Repository != "deploy/lib" || f.Modified != No {
		t.Errorf("file of the submodule: %+v", f)
	}

	// If the submodule is at another commit, its files are clean but the source is not.
	gitIn(t, sub, "commit", "--quiet", "--allow-empty", "--message=ahead")
	facts = read(t, query(t, dir, paths...))
	if facts.Repositories[0].Modified != Yes || facts.Repositories[1].Modified != No || facts.Modified != Yes {
		t.Errorf("submodule ahead: %+v", facts)
	}

	// If the submodule is not checked out, its content is unknown.
	gitIn(t, dir, "submodule", "--quiet", "deinit", "--force", "deploy/lib")
	facts, warnings, err := (*Opened)(nil).Read(t.Context(), query(t, dir, paths[:2]...))
	if err != nil {
		t.Fatal(err)
	}
	if facts.Modified != Unknown || len(warnings) != 1 || !strings.Contains(warnings[0], "deploy/lib") {
		t.Errorf("submodule not checked out: %s, %q", facts.Modified, warnings)
	}
}

func TestReadLinks(t *testing.T) {
	dir := newFolder(t)
	gitIn(t, dir, "init", "--quiet", "--initial-branch=main")
	write(t, dir, map[string]string{"common/x.yaml": "x: 1\n", "deploy/a.yaml": "a: 1\n"})
	if err := os.Symlink("../common", filepath.Join(dir, "deploy/common")); err != nil {
		t.Fatal(err)
	}
	gitIn(t, dir, "add", ".")
	gitIn(t, dir, "commit", "--quiet", "--message=first")

	linked := input(t, dir, "common/x.yaml")
	linked.Path = "deploy/common/x.yaml"
	linked.Links = []Link{{Path: "deploy/common", Target: "../common"}}
	q := query(t, dir, "deploy/a.yaml")
	q.Inputs = append(q.Inputs, linked)

	facts := read(t, q)
	if f := facts.Files[1]; f.Link != "common/x.yaml" || f.Modified != No || f.Untracked || facts.Modified != No {
		t.Errorf("facts: %+v", facts)
	}
	q.Inputs[1].Links[0].Target = "./../common" // the same place, but not as committed
	if facts := read(t, q); facts.Files[1].Modified != Yes || facts.Modified != Yes {
		t.Errorf("with another link: %+v", facts)
	}
}

func TestReadSignedTag(t *testing.T) {
	dir := newRepository(t, shop)
	body := "object " + gitIn(t, dir, "rev-parse", "HEAD") + "\ntype commit\ntag v1\ntagger c <c@example.com> 1714557600 +0000\n\nrelease\n" +
		"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"
	write(t, dir, map[string]string{".git/tag": body})
	gitIn(t, dir, "update-ref", "refs/tags/v1", gitIn(t, dir, "hash-object", "-t", "tag", "-w", ".git/tag"))
	gitIn(t, dir, "tag", "--annotate", "--message=unsigned", "v2")
	if diff := cmp.Diff([]GitTag{{Name: "v1", Signed: true}, {Name: "v2"}}, read(t, query(t, dir, "deploy/a.yaml")).Repositories[0].Tags); diff != "" {
		t.Error(diff)
	}
}

// Programs named in a repository's configuration are not run.
func TestReadRunsNothing(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		dir := newRepository(t, shop, "--object-format="+format)
		evil := filepath.Join(dir, ".git", "evil")
		ran := filepath.Join(dir, ".git", "ran")
		write(t, dir, map[string]string{".git/evil": "#!/bin/sh\necho \"$0 $*\" >>'" + ran + "'\n"})
		if err := os.Chmod(evil, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "diff.external", "gpg.program", "core.alternateRefsCommand"} {
			gitIn(t, dir, "config", key, evil)
		}
		for _, hook := range []string{"post-index-change", "reference-transaction", "post-checkout"} {
			if err := os.MkdirAll(filepath.Join(dir, ".git/hooks"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(evil, filepath.Join(dir, ".git/hooks", hook)); err != nil {
				t.Fatal(err)
			}
		}
		gitIn(t, dir, "config", "log.showSignature", "true")
		write(t, dir, map[string]string{"deploy/a.yaml": "changed\n"}) // so that git is asked in both formats
		if facts := read(t, query(t, dir, "deploy/a.yaml", "deploy/b/c.yaml")); facts.Modified != Yes {
			t.Errorf("%s: modified %s", format, facts.Modified)
		}
		if out, err := os.ReadFile(ran); err == nil {
			t.Errorf("%s: git ran %s", format, out)
		}
	}
}

// A named pipe blocks its reader, and go-git ignores contexts.
func TestReadNamedPipes(t *testing.T) {
	for _, name := range []string{"HEAD", "config", "packed-refs", "index", "shallow", "refs/tags/v1", "objects/info/alternates", "info/attributes", "commondir"} {
		t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
			dir := newRepository(t, shop)
			file := filepath.Join(dir, ".git", filepath.FromSlash(name))
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := mkfifo(file); err != nil {
				t.Skip(err)
			}
			facts, warnings, err := (*Opened)(nil).Read(t.Context(), query(t, dir, "deploy/a.yaml"))
			if err != nil || facts.Modified != Unknown || len(warnings) != 1 || !strings.Contains(warnings[0], "not a regular file") && !strings.Contains(warnings[0], "named pipe") {
				t.Errorf("modified %v, warnings %q, %v", facts.Modified, warnings, err)
			}
		})
	}
	// The git directory of a linked work tree, and the one it shares, must not contain one
	// either.
	for _, name := range []string{"worktrees/linked/HEAD", "packed-refs"} {
		dir := newRepository(t, shop)
		linked := filepath.Join(newFolder(t), "linked")
		gitIn(t, dir, "worktree", "add", "--quiet", linked)
		if facts := read(t, query(t, linked, "deploy/a.yaml")); facts.Modified != No {
			t.Fatalf("a linked work tree: %v", facts.Modified)
		}
		file := filepath.Join(dir, ".git", filepath.FromSlash(name))
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := mkfifo(file); err != nil {
			t.Skip(err)
		}
		if facts, _, err := (*Opened)(nil).Read(t.Context(), query(t, linked, "deploy/a.yaml")); err != nil || facts.Modified != Unknown {
			t.Errorf("%s: %v, %v", name, facts.Modified, err)
		}
	}
}

func TestReadCancelled(t *testing.T) {
	dir := newRepository(t, shop, "--object-format=sha256")
	q := query(t, dir, "deploy/a.yaml")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(os.ErrDeadlineExceeded)
	if _, _, err := (*Opened)(nil).Read(ctx, q); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// Names with characters that are special in git's line-based interfaces.
func TestReadOddNames(t *testing.T) {
	names := []string{"deploy/a b.yaml", "deploy/\"q\".yaml", "deploy/new\nline.yaml", `deploy/back\slash.yaml`, "deploy/ü.yaml", "deploy/:(top).yaml", "deploy/-n.yaml"}
	files := map[string]string{}
	for _, n := range names {
		files[n] = "a: 1\n"
	}
	dir := newRepository(t, files)
	gitIn(t, dir, "config", "core.autocrlf", "true")
	for _, n := range names {
		files[n] = "a: 1\r\n"
	}
	write(t, dir, files)
	if facts := read(t, query(t, dir, names...)); facts.Modified != No {
		t.Errorf("facts: %+v", facts)
	}
}

func TestFindTop(t *testing.T) {
	dir := newRepository(t, shop)
	write(t, dir, map[string]string{"deploy/b/.git/stray": ""}) // no HEAD: not a repository
	for _, at := range []string{"", "deploy", "deploy/b"} {
		if top, ok := FindTop(filepath.Join(dir, at)); !ok || top != dir {
			t.Errorf("FindTop(%q) = %q, %v", at, top, ok)
		}
	}
}
