// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	modzip "golang.org/x/mod/zip"
)

// modules are those that others install or depend on, with their folders. The rest are examples
// and servers for tests.
var modules = map[string]string{
	"github.com/taped-dev/tape":                         "",
	"github.com/taped-dev/tape/cmd/sigstore-kms-pkcs11": "cmd/sigstore-kms-pkcs11",
}

// proxy writes a GOPROXY folder with the commit at HEAD as the given version: its file:// URL
// is a GOPROXY, for tests and for machines without a network.
func proxy(ctx context.Context, dir, version string) error {
	if module.CanonicalVersion(version) != version || semver.Build(version) != "" {
		return fmt.Errorf("%q is not a version such as v0.1.0", version)
	}
	committed, err := git(ctx, "log", "-1", "--format=%cI")
	if err != nil {
		return err
	}
	when, err := time.Parse(time.RFC3339, committed)
	if err != nil {
		return err
	}
	// In a worktree, .git is a file, which package zip does not support. The repository that the
	// worktree belongs to has the commit too.
	repository, err := git(ctx, "rev-parse", "--path-format=absolute", "--git-common-dir")
	if err != nil {
		return err
	}
	commit, err := git(ctx, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	for name, sub := range modules {
		of := place{root: filepath.Dir(repository), commit: commit, sub: sub}
		if err := serve(ctx, filepath.Join(dir, filepath.FromSlash(name), "@v"), of, module.Version{Path: name, Version: version}, when); err != nil {
			return fmt.Errorf("make module %s: %w", name, err)
		}
	}
	return nil
}

// place is the location of a module: a folder of a commit.
type place struct{ root, commit, sub string }

// serve writes the files of one version of a module: https://go.dev/ref/mod#goproxy-protocol.
func serve(ctx context.Context, dir string, of place, m module.Version, when time.Time) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{m.Version, when.UTC()})
	if err != nil {
		return err
	}
	mod, err := git(ctx, "show", of.commit+":"+path.Join(of.sub, "go.mod"))
	if err != nil {
		return err
	}
	file := func(extension string) string { return filepath.Join(dir, m.Version+extension) }
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "list"), []byte(m.Version+"\n"), 0o644),
		os.WriteFile(file(".info"), info, 0o644),
		os.WriteFile(file(".mod"), []byte(mod+"\n"), 0o644),
	); err != nil {
		return err
	}
	f, err := os.Create(file(".zip"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// Like in Go: without nested modules, and with an error for names that some systems do not
	// support.
	return modzip.CreateFromVCS(f, m, of.root, of.commit, of.sub)
}

// git runs git and returns its output.
func git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
