// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/app"
)

// commit makes a repository of a folder, with a commit of everything in it.
func commit(t *testing.T, dir string) {
	t.Helper()
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"commit", "-q", "-m", "one"}} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
			"GIT_AUTHOR_NAME=x", "GIT_AUTHOR_EMAIL=x", "GIT_COMMITTER_NAME=x", "GIT_COMMITTER_EMAIL=x")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
}

// TestReproduceEnvironments checks that a changed byte of a file that several environments read
// is reported once, with its line, and that a difference in a single environment names the source
// and the environment.
func TestReproduceEnvironments(t *testing.T) {
	e := newEnvironments(t)
	dir := filepath.Dir(e.file)
	const pipeline = "apiVersion: tape/v1\nkind: Pipeline\nsources: [{name: web, path: web/dev}, {name: db, path: db}]\nenvironments: {dev: {}, prod: {skip: [db]}}\n"
	write(t, e.file, pipeline)
	commit(t, dir)
	e.pack(t, e.options())
	differs := func() (out []string) {
		t.Helper()
		r, err := app.Reproduce(t.Context(), app.ReproduceOptions{Environment: e.env, Ref: e.ref, Source: e.file})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range r.Differs {
			out = append(out, d.What+" "+d.Name)
		}
		return out
	}
	write(t, filepath.Join(dir, "web/dev/web.yaml"), deployment("wxb", "ex.io/web:1"))
	want := []string{
		"file web/dev/web.yaml:3", "content dev/web/web.yaml:3", "content prod/web/web.yaml:3", "source dev/web modified", "source prod/web modified",
	}
	if diff := cmp.Diff(want, differs()); diff != "" {
		t.Error(diff)
	}
	write(t, filepath.Join(dir, "web/dev/web.yaml"), deployment("web", "ex.io/web:1"))
	write(t, e.file, strings.Replace(pipeline, "prod: {", "prod: {sources: {web: {path: web/prod}}, ", 1))
	if got := differs(); !slices.Contains(got, "source prod/web path") {
		t.Errorf("another path: %q", got)
	}
}

// TestReproduceOneEnvironment reproduces what was packed for one environment, without the others.
// A relocated application cannot be reproduced from sources.
func TestReproduceOneEnvironment(t *testing.T) {
	e := newEnvironments(t)
	commit(t, filepath.Dir(e.file))
	options := e.options()
	options.Environments = []string{"dev"}
	e.pack(t, options)
	r, err := app.Reproduce(t.Context(), app.ReproduceOptions{Environment: e.env, Ref: e.ref, Source: e.file})
	if err != nil || !r.Same {
		t.Errorf("%+v, %v", r, err)
	}

	moved, err := app.Relocate(t.Context(), app.RelocateOptions{Options: app.Options{Environment: e.env}, Source: e.ref, Repository: e.dst + "/inside/shop"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = app.Reproduce(t.Context(), app.ReproduceOptions{Environment: e.env, Ref: moved.Root.Ref, Source: e.file})
	if err == nil || !strings.Contains(err.Error(), "reproduce the application that it was relocated from") {
		t.Errorf("relocated: %v", err)
	}
}

// TestReproduceAttest states whether an application could be reproduced. The statement is
// shown, and is not a signature of the root.
func TestReproduceAttest(t *testing.T) {
	e := newEnvironments(t)
	dir := filepath.Dir(e.file)
	commit(t, dir)
	public, by := newKey(t)
	other, auditor := newKey(t)
	options := e.options()
	options.Signer = by
	packed := e.pack(t, options)
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	reproduce := func(signer *app.Key) (*app.ReproduceResult, error) {
		at = at.AddDate(0, 0, 1)
		return app.Reproduce(t.Context(), app.ReproduceOptions{Environment: e.env, Ref: e.ref, Source: e.file, Signer: signer, At: at})
	}

	if _, err := reproduce(by); !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), "attest with another key") {
		t.Errorf("by who signed it: %v", err)
	}
	first, err := reproduce(auditor)
	if err != nil {
		t.Fatal(err)
	}
	if !first.Same || first.Statement == "" || first.Existing {
		t.Errorf("first: %+v", first)
	}
	again, err := reproduce(auditor)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Existing || again.Statement != first.Statement {
		t.Errorf("again: %+v", again)
	}
	write(t, filepath.Join(dir, "db", "db.yaml"), deployment("db", "ex.io/db:1")+"# more\n")
	differs, err := reproduce(auditor)
	if err != nil {
		t.Fatal(err)
	}
	if differs.Same || differs.Existing || len(differs.Differs) == 0 || differs.Differs[0].Name != "db/db.yaml:5" {
		t.Errorf("one that differs: %+v", differs)
	}

	view, err := app.View(t.Context(), app.ViewOptions{Environment: e.env, Ref: e.ref})
	if err != nil {
		t.Fatal(err)
	}
	if len(view.Reproductions) != 2 || len(view.Signatures) != 2 {
		t.Fatalf("%d reproductions, %d signatures", len(view.Reproductions), len(view.Signatures))
	}
	latest, r := view.Reproductions[0], view.Reproductions[1]
	if latest.Same || latest.Made != differs.Made || !r.Same || r.Root != packed.Root.Digest || r.Made != packed.Root.Digest || r.Commit != view.Source.Commit || r.Tape != "devel" {
		t.Errorf("%+v, %+v", latest, r)
	}
	for key, ok := range map[string]bool{public: true, other: false} {
		verified, err := app.Verify(t.Context(), app.VerifyOptions{Environment: e.env, Ref: e.ref, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if verified.OK != ok {
			t.Errorf("verified by %s: %t, want %t", key, verified.OK, ok)
		}
	}
}
