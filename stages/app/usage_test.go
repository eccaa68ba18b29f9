// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/app"
)

// Options that lack what a verb needs are a UsageError, and nothing is done.
func TestMissingOptions(t *testing.T) {
	p := newPlace()
	defer p.close()
	ref, keys := p.pack(web), p.keys()
	t.Chdir(t.TempDir())
	tests := map[string]func(ctx context.Context) error{
		"sign without a key": func(ctx context.Context) error {
			_, err := app.Sign(ctx, app.SignOptions{Environment: p.env, Ref: ref})
			return err
		},
		"signer without a name": func(ctx context.Context) error {
			_, err := app.LoadSigner(ctx, app.SignerOptions{})
			return err
		},
		"keys without a prefix": func(ctx context.Context) error {
			_, err := app.GenerateKey(ctx, app.KeyOptions{})
			return err
		},
		"verify without a key": func(ctx context.Context) error {
			_, err := app.Verify(ctx, app.VerifyOptions{Environment: p.env, Ref: ref})
			return err
		},
		"pull without a folder": func(ctx context.Context) error {
			_, err := app.Pull(ctx, app.PullOptions{Environment: p.env, Ref: ref})
			return err
		},
		"save without a file": func(ctx context.Context) error {
			_, err := app.Save(ctx, app.SaveOptions{Environment: p.env, Ref: ref})
			return err
		},
	}
	for name, call := range tests {
		t.Run(name, func(t *testing.T) {
			if err := call(t.Context()); err == nil {
				t.Error("it did something")
			} else if _, ok := errors.AsType[*app.UsageError](err); !ok {
				t.Errorf("not a UsageError: %v", err)
			}
		})
	}
	if entries, err := os.ReadDir("."); err != nil || len(entries) > 0 {
		t.Errorf("the working folder has %v, %v", entries, err)
	}
	if _, err := app.GenerateKey(t.Context(), app.KeyOptions{Prefix: filepath.Join(p.dir, "release")}); !errors.Is(err, fs.ErrExist) || keys == nil {
		t.Errorf("keys that exist: %v", err)
	}
}

// An environment that was created directly has only what it was given. A verb that needs more
// fails.
func TestEmptyEnvironment(t *testing.T) {
	sources := app.Options{Sources: []app.Source{{Path: web}}}
	if result, err := app.Render(t.Context(), app.RenderOptions{Options: sources}); err != nil || len(result.Files) != 1 {
		t.Errorf("the built-in interpreter needs nothing: %v", err)
	}
	const ref = "registry.example.com/team/app:v1"
	tests := map[string]func(ctx context.Context) error{
		"package": func(ctx context.Context) error {
			_, err := app.Package(ctx, app.PackageOptions{Options: sources, Repository: "registry.example.com/team/app"})
			return err
		},
		"view": func(ctx context.Context) error {
			_, err := app.View(ctx, app.ViewOptions{Ref: ref})
			return err
		},
		"list": func(ctx context.Context) error {
			_, err := app.List(ctx, app.ListOptions{Repository: "registry.example.com/team/app"})
			return err
		},
		"copy": func(ctx context.Context) error {
			_, err := app.Copy(ctx, app.CopyOptions{Pairs: []app.CopyPair{{Source: ref, Target: ref}}})
			return err
		},
		"ask": func(ctx context.Context) error {
			_, err := app.AskImage(ctx, app.AskOptions{Name: "docker.io/library/nginx:1"})
			return err
		},
		"bundle": func(ctx context.Context) error {
			_, err := app.PullBundle(ctx, app.PullBundleOptions{Ref: ref})
			return err
		},
	}
	for name, call := range tests {
		t.Run(name, func(t *testing.T) {
			if err := call(t.Context()); err == nil || !strings.Contains(err.Error(), "there is no client of registries") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A closed environment does not open its store again, which no one would close.
func TestClosedEnvironment(t *testing.T) {
	env, err := app.Open(t.Context(), app.Settings{Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := env.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err = app.Render(t.Context(), app.RenderOptions{Options: app.Options{Environment: *env, Sources: []app.Source{{Path: web}}}})
	if err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got %v", err)
	}
}
