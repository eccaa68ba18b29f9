// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"io/fs"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/taped-dev/tape/stages/app"
)

// TestReproduceExamples packages every example, and reproduces each from a clone of the commit
// at another path, with another umask.
func TestReproduceExamples(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shop")
	if err := os.CopyFS(dir, os.DirFS("../../examples")); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gitServer(t, filepath.Dir(dir)))
	defer server.Close()
	for _, args := range [][]string{
		{"init", "-q"}, {"remote", "add", "origin", server.URL + "/shop/.git"}, {"add", "-A"}, {"commit", "-q", "-m", "examples"}, {"tag", "-a", "-m", "release", "v1.2.3"},
	} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
			"GIT_AUTHOR_NAME=x", "GIT_AUTHOR_EMAIL=x", "GIT_COMMITTER_NAME=x", "GIT_COMMITTER_EMAIL=x")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	env, registry := inThisProcess(t)
	found := examples(t, dir)
	if len(found) < 10 {
		t.Fatalf("examples %q", found)
	}
	for _, name := range found {
		repository := registry + "/examples/" + name
		options := app.Options{Environment: env}
		again := app.ReproduceOptions{Environment: env, Ref: repository + ":v1", Clone: true}
		if file := filepath.Join(name, app.PipelineFile); app.IsPipeline(filepath.Join(dir, file)) {
			options.Pipeline, again.Source = filepath.Join(dir, file), file
		} else {
			options.Sources = []app.Source{{Path: filepath.Join(dir, name)}}
		}
		if name == "self" {
			options.Args = map[string]string{"version": "v0.1.0"}
			again.Args = options.Args
		}
		packed, err := app.Package(t.Context(), app.PackageOptions{Options: options, Repository: repository, Tags: []string{"v1"}})
		if err != nil {
			t.Errorf("package %s: %v", name, err)
			continue
		}
		old := syscall.Umask(0o077)
		result, err := app.Reproduce(t.Context(), again)
		syscall.Umask(old)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !result.Same || result.Made != packed.Root.Digest {
			t.Errorf("%s: %+v", name, result)
		}
	}
}

// gitServer returns git's own HTTP server for the repositories in a folder.
func gitServer(t *testing.T, dir string) *cgi.Handler {
	t.Helper()
	where, err := exec.CommandContext(t.Context(), "git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	return &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(where)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"},
	}
}

// examples returns the folders that can be packaged with tape's own stages and interpreters. Of
// the fleet, which has ten of each kind, it returns one of each.
func examples(t *testing.T, dir string) (out []string) {
	t.Helper()
	more := regexp.MustCompile(`^fleet/apps/\w+-[1-9]`)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || more.MatchString(name) || strings.HasPrefix(name, ".git") || strings.HasPrefix(name, "stages/") {
			return err
		}
		folder := filepath.Dir(name)
		switch {
		case entry.Name() == "Chart.yaml", entry.Name() == app.PipelineFile:
			out = append(out, folder)
		case entry.Name() == "kustomization.yaml":
			data, err := os.ReadFile(path)
			if err == nil && !strings.Contains(string(data), "kind: Component") {
				out = append(out, folder)
			}
			return err
		case entry.Name() == "cue.mod" && entry.IsDir():
			out = append(out, folder)
		case entry.IsDir() && (entry.Name() == "manifests" || strings.HasPrefix(entry.Name(), "plain-")):
			out = append(out, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
