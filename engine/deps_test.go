// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"bufio"
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// dependencies defines which package may import which, in the notation of
// go/build/deps_test.go. It is a statement of policy: if the test fails, change the code, not
// this.
//
// What is on the left of a < may be imported by what is on the right, with everything that it
// may import itself. Packages are folders of this module; a * is any part of a name, /...
// includes everything below. Of several matching patterns the most specific one applies. NONE
// is nothing; a name in capitals is an abbreviation for what is on its left.
const dependencies = `
	# What all may use.
	NONE < internal/*;
	internal/regular < internal/authorities, internal/hoststoml;

	# The engine knows no stage and no plugin.
	internal/*, internal/authorities, internal/hoststoml
	< engine/advice, engine/content/imageref
	< engine/content/internal/...
	< engine/content/descriptor
	< engine/cache
	< engine/content/store
	< engine
	< engine/document
	< engine/content/layout, engine/pipeline, engine/content/registry, engine/stagetest
	< engine/content/local, engine/cache/remote
	< engine/content/transfer
	< ENGINE
	< engine/content/registry/registrytest;

	# Plugins know neither engine nor stages. Who implements an interpreter
	# compiles the contract, and where it asks registries how tape reaches those.
	NONE < plugins/interpreter < plugins/registries < interpreters/*;
	internal/authorities, internal/hoststoml < plugins/registries;
	plugins/interpreter
	< plugins/internal/interpreterpb
	< plugins/internal/...
	< plugins/serve;
	internal/lategc < plugins/serve;
	plugins/internal/..., internal/* < plugins/host;
	plugins/host, plugins/serve < plugins/conformance;

	# The nouns that stages exchange.
	ENGINE, plugins/interpreter
	< stages/files, stages/images, stages/vcs
	< stages/rendering
	< stages/manifests
	< stages/credentials
	< stages/artifact
	< NOUNS;

	# A stage knows the nouns and no other stage; the table of stages knows all.
	NOUNS < stages/* < stages;
	# Whoever verifies looks for images as scan does, and knows what sign makes.
	NOUNS, stages/scan, stages/sign < stages/app/internal/trust < stages/app/internal/...;
	# app is all of tape, and so runs interpreters too; a fleet is many of it.
	stages, stages/app/internal/..., plugins/host, interpreters/plain < stages/app < stages/app/fleet;

	NONE < stages/sign/sigstoretest;

	NONE < engine/content/local/containerdtest;

	# Commands.
	internal/* < cmd/tape/internal/serve;
	# Text, pages and drawings are made of data, for people.
	NOUNS < cmd/tape/internal/show;
	stages/app/fleet, cmd/tape/internal/show < cmd/tape/internal/report;
	stages/app/fleet, plugins/conformance, cmd/tape/internal/*
	< cmd/tape/cli
	< cmd/tape;
	# What packages a fleet with other machines is a program of its own, with tape's flags.
	cmd/tape/cli < cmd/tape-fleet-temporal/durable < cmd/tape-fleet-temporal;
	# What makes releases describes commands and interpreters, and makes an image.
	cmd/tape/cli, plugins/host, engine/content/layout < release;
	plugins/serve < SERVE;
	SERVE, interpreters/plain < cmd/tape-interpreter-plain;
	SERVE, interpreters/kustomize < cmd/tape-interpreter-kustomize;
	SERVE, interpreters/helm < cmd/tape-interpreter-helm;
	SERVE, interpreters/cue < cmd/tape-interpreter-cue;
	SERVE, interpreters/cnab < cmd/tape-interpreter-cnab;

	# Examples show what anybody can do.
	cmd/tape/cli, SERVE < examples/...;
`

// libraries defines which packages may import a heavy library. A library that is not listed may
// be imported by any package.
const libraries = `
	cuelang.org/go/...                        < interpreters/cue;
	helm.sh/helm/v3/...                       < interpreters/helm;
	k8s.io/...                                < interpreters/helm;
	sigs.k8s.io/kustomize/...                 < interpreters/kustomize;
	go.temporal.io/...                        < cmd/tape-fleet-temporal/durable;
	github.com/hashicorp/...                  < plugins/host, plugins/serve, plugins/conformance, plugins/internal/...;
	google.golang.org/grpc/...                < engine/content/local, plugins/host, plugins/serve, plugins/conformance, plugins/internal/...;
	github.com/go-git/...                     < stages/vcs, stages/source;
	github.com/spf13/...                      < cmd/tape/cli, cmd/tape-fleet-temporal/durable, release;
	github.com/vbauerster/mpb/...             < cmd/tape/cli;
	golang.org/x/crypto/x509roots/...         < release;
	github.com/distribution/distribution/...  < cmd/tape/internal/serve, engine/content/registry/registrytest;

	# For tests alone; registrytest is what they stand on.
	github.com/google/go-containerregistry/...          < engine/content/registry/registrytest;
	testing                                             < engine/content/registry/registrytest, engine/content/local/containerdtest;
	go.uber.org/goleak                                  < NOBODY;
`

// notLinked is what the tape program must not contain: interpreters and the engine for fleets
// are separate processes.
var notLinked = []string{"helm.sh/helm", "cuelang.org/go", "k8s.io/client-go", "go.temporal.io/sdk", "go.temporal.io/api"}

// rules maps a pattern to the patterns that it may import.
type rules map[string][]string

// parseRules reads statements of the form "a, b < c < d;".
func parseRules(text string) rules {
	var lines []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		lines = append(lines, line)
	}
	direct := rules{}
	for statement := range strings.SplitSeq(strings.Join(lines, " "), ";") {
		var left []string
		for part := range strings.SplitSeq(statement, "<") {
			var right []string
			for name := range strings.SplitSeq(part, ",") {
				if name = strings.TrimSpace(name); name == "" {
					continue
				}
				right = append(right, name)
				if left != nil {
					direct[name] = append(direct[name], left...)
				}
			}
			left = right
		}
	}
	all := rules{}
	for name := range direct {
		seen := map[string]bool{}
		var visit func(name string)
		visit = func(name string) {
			for _, below := range direct[direct.best(name)] {
				if !seen[below] {
					seen[below] = true
					visit(below)
				}
			}
		}
		visit(name)
		all[name] = slices.Sorted(maps.Keys(seen))
	}
	return all
}

// match returns how specifically a pattern matches a package, or 0 if it does not match.
func match(pattern, pkg string) int {
	if pattern == pkg {
		return 3
	}
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		if pkg == dir || strings.HasPrefix(pkg, dir+"/") {
			return 1
		}
		return 0
	}
	if ok, _ := path.Match(pattern, pkg); ok {
		return 2
	}
	return 0
}

// best returns the most specific pattern that matches a package, or "" if there is none.
func (r rules) best(pkg string) string {
	best, exact := "", 0
	for _, pattern := range slices.Sorted(maps.Keys(r)) {
		if m := match(pattern, pkg); m > exact {
			best, exact = pattern, m
		}
	}
	return best
}

// allows reports whether a package of the module may import another.
func (r rules) allows(pkg, imported string) bool {
	return slices.ContainsFunc(r[r.best(pkg)], func(pattern string) bool { return match(pattern, imported) > 0 })
}

// users returns the patterns that may import a library; ok is false if any package may.
func (r rules) users(library string) (users []string, ok bool) {
	for _, user := range slices.Sorted(maps.Keys(r)) {
		for _, pattern := range r[user] {
			if match(pattern, library) > 0 {
				users = append(users, user)
			}
		}
	}
	return users, users != nil
}

// module finds the root of this module, and its path.
func module(t *testing.T) (root, name string) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(line, "module "); ok {
			return root, strings.TrimSpace(name)
		}
	}
	t.Fatal("go.mod names no module")
	return "", ""
}

// imports returns the imports of every package in the module, except in tests.
func imports(t *testing.T, root string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			_, err := os.Stat(filepath.Join(file, "go.mod"))
			if file != root && (err == nil || name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return filepath.SkipDir // another module, or not a package
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		found[pkg] = append(found[pkg], []string{}...)
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if !slices.Contains(found[pkg], imported) {
				found[pkg] = append(found[pkg], imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestDependencies(t *testing.T) {
	root, name := module(t)
	ours, theirs := parseRules(dependencies), parseRules(libraries)
	for pkg, imported := range imports(t, root) {
		if ours.best(pkg) == "" {
			t.Errorf("no rule says what %s may import", pkg)
			continue
		}
		for _, i := range imported {
			if rel, ok := strings.CutPrefix(i, name+"/"); ok {
				if !ours.allows(pkg, rel) {
					t.Errorf("%s must not import %s", pkg, rel)
				}
				continue
			}
			users, named := theirs.users(i)
			if named && !slices.ContainsFunc(users, func(user string) bool { return match(user, pkg) > 0 }) {
				t.Errorf("%s must not import %s", pkg, i)
			}
		}
	}
}

func TestTapeLinksNoInterpreter(t *testing.T) {
	root, _ := module(t)
	if _, err := os.Stat(filepath.Join(root, "cmd", "tape", "main.go")); err != nil {
		return // nothing has been linked yet
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/tape")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		for _, library := range notLinked {
			if pkg := lines.Text(); pkg == library || strings.HasPrefix(pkg, library+"/") {
				t.Errorf("cmd/tape links %s", pkg)
			}
		}
	}
}

// Each rule has the documented meaning.
func TestRules(t *testing.T) {
	ours, theirs := parseRules(dependencies), parseRules(libraries)
	for _, tt := range []struct {
		pkg, imported string
		want          bool
	}{
		{"engine", "engine/content/store", true},
		{"engine", "engine/cache", true},
		{"engine/content/store", "engine", false},
		{"engine", "stages/images", false},
		{"engine/content/registry", "plugins/host", false},
		{"stages/scan", "engine/content/registry", true},
		{"stages/scan", "stages/images", true},
		{"stages/scan", "stages/pin", false},
		{"stages/artifact", "cmd/tape/internal/show", false},
		{"cmd/tape/internal/show", "stages/artifact", true},
		{"cmd/tape/internal/show", "stages/app", false},
		{"stages/images", "stages/scan", false},
		{"stages/images", "stages/artifact", false},
		{"stages/render", "plugins/interpreter", true},
		{"stages/render", "plugins/host", false},
		{"stages/render", "interpreters/plain", false},
		{"stages", "stages/scan", true},
		{"stages", "cmd/tape/cli", false},
		{"interpreters/helm", "plugins/interpreter", true},
		{"interpreters/helm", "plugins/serve", false},
		{"interpreters/helm", "interpreters/plain", false},
		{"interpreters/helm", "engine", false},
		{"plugins/interpreter", "plugins/internal/wire", false},
		{"plugins/host", "plugins/internal/wire", true},
		{"plugins/host", "engine", false},
		{"plugins/host", "stages/files", false},
		{"cmd/tape/cli", "interpreters/plain", true},
		{"stages/app", "plugins/host", true},
		{"stages/app", "interpreters/helm", false},
		{"cmd/tape/cli", "interpreters/helm", false},
		{"cmd/tape-interpreter-helm", "interpreters/helm", true},
		{"cmd/tape-interpreter-helm", "interpreters/cue", false},
		{"cmd/tape-interpreter-helm", "stages", false},
	} {
		if got := ours.allows(tt.pkg, tt.imported); got != tt.want {
			t.Errorf("%s may import %s: %v, want %v", tt.pkg, tt.imported, got, tt.want)
		}
	}
	for _, tt := range []struct {
		library string
		users   []string
		named   bool
	}{
		{"helm.sh/helm/v3/pkg/chart", []string{"interpreters/helm"}, true},
		{"cuelang.org/go/cue", []string{"interpreters/cue"}, true},
		{"testing", []string{"engine/content/local/containerdtest", "engine/content/registry/registrytest"}, true},
		{"go.uber.org/goleak", []string{"NOBODY"}, true},
		{"google.golang.org/grpc", []string{"engine/content/local", "plugins/conformance", "plugins/host", "plugins/internal/...", "plugins/serve"}, true},
		{"testing/fstest", nil, false},
		{"github.com/opencontainers/go-digest", nil, false},
	} {
		users, named := theirs.users(tt.library)
		if !slices.Equal(users, tt.users) || named != tt.named {
			t.Errorf("users of %s are %q (%v), want %q (%v)", tt.library, users, named, tt.users, tt.named)
		}
	}
	if pkg := "somewhere/else"; ours.best(pkg) != "" {
		t.Errorf("%s has a rule: %s", pkg, ours.best(pkg))
	}
}
