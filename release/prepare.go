// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// interpreters are the interpreters that are separate programs; plain is part of tape.
var interpreters = []string{"cnab", "cue", "helm", "kustomize"}

// published is the entry of an interpreter in checksumsFile, in the form of tape.lock.
type published struct {
	Version   string                   `json:"version"`
	Checksums map[string]digest.Digest `json:"checksums"` // by os/arch
}

// checksumsFile has the published entries of all interpreters, by name.
const checksumsFile = "interpreters.json"

// prepare builds the programs that tape starts for all platforms: the description of an
// interpreter contains its checksums on all of them.
func prepare(ctx context.Context, dir string, platforms []string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	here := runtime.GOOS + "/" + runtime.GOARCH
	all := map[string]published{}
	for _, name := range interpreters {
		p := published{Checksums: map[string]digest.Digest{}}
		for _, platform := range platforms {
			var err error
			if p.Checksums[platform], err = build(ctx, dir, "tape-interpreter-"+name, platform); err != nil {
				return err
			}
		}
		// Only a program for this platform can describe itself, and the others have the same
		// description.
		if _, built := p.Checksums[here]; !built {
			return fmt.Errorf("the platforms %s lack this one, %s", platforms, here)
		}
		d, err := describe(ctx, program(dir, "tape-interpreter-"+name, here))
		if err != nil {
			return err
		}
		p.Version = d.Version
		all[name] = p
		for _, platform := range platforms {
			file := program(dir, "tape-interpreter-"+name, platform)
			if err := host.WriteBuilt(ctx, file, d, p.Checksums); err != nil {
				return err
			}
			descriptions := filepath.Join(filepath.Dir(filepath.Dir(file)), "descriptions")
			if err := os.MkdirAll(descriptions, 0o755); err != nil {
				return err
			}
			if err := os.Rename(file+".json", filepath.Join(descriptions, filepath.Base(file)+".json")); err != nil {
				return err
			}
		}
	}
	for _, platform := range platforms {
		if _, err := build(ctx, dir, "tape-fleet-temporal", platform); err != nil {
			return err
		}
	}
	if err := manuals(filepath.Join(dir, "man"), filepath.Join(dir, "completions")); err != nil {
		return err
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, checksumsFile), append(data, '\n'), 0o644)
}

// program returns the path of a program for a platform.
func program(dir, name, platform string) string {
	file := filepath.Join(dir, strings.ReplaceAll(platform, "/", "_"), "programs", name)
	if strings.HasPrefix(platform, "windows/") {
		file += ".exe"
	}
	return file
}

// build builds a program of ./cmd with the flags of .goreleaser.yaml, and returns its checksum.
func build(ctx context.Context, dir, name, platform string) (digest.Digest, error) {
	goos, goarch, _ := strings.Cut(platform, "/")
	file := program(dir, name, platform)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", file, "./cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s for %s: %w\n%s", name, platform, err, out)
	}
	return sum(file)
}

func sum(file string) (digest.Digest, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return digest.FromReader(f)
}

// describe runs an interpreter to get its description.
func describe(ctx context.Context, file string) (_ interpreter.Description, err error) {
	h := host.New(host.Options{})
	defer func() { err = errors.Join(err, h.Close()) }()
	i, err := h.Open(ctx, file)
	if err != nil {
		return interpreter.Description{}, err
	}
	return i.Describe(ctx)
}
