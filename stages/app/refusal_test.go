// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// TestOldRegistriesRefuse checks that the error names what a registry does not support and an
// alternative, and that tape does not convert anything on its own.
func TestOldRegistriesRefuse(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "shop.yaml"), []byte(shop), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		refuses func(registrytest.ManifestFields) bool
		options app.Options
		pushed  []string // in the error of package
		copied  string   // in the error of copy
	}{
		"an index": {
			registrytest.Index, app.Options{},
			[]string{"copy image registry.example/web:1 (" + source + "/shop.yaml:9:29)", "it does not take an index, application/vnd.oci.image.index.v1+json: 400 Bad Request", "one platform of each image", "save it to an archive"},
			"it does not take an index, ",
		},
		"the root alone": {
			registrytest.Index, app.Options{Platform: "linux/amd64", Related: "none"},
			[]string{"push root: ", "it does not take an index, application/vnd.oci.image.index.v1+json with artifactType application/vnd.tape.app.v1: 400", "save the application to an archive"},
			"it does not take an index, ",
		},
		"an artifactType": {
			registrytest.ArtifactType, app.Options{},
			[]string{"the sbom of ", "it does not take a manifest of type application/vnd.oci.image.manifest.v1+json with artifactType application/spdx+json, an empty config, a subject: 400", "leave out signatures"},
			"with artifactType application/",
		},
		"an empty config": {
			registrytest.EmptyConfig, app.Options{Related: "none"},
			[]string{"push content and statements: ", ", an empty config", "save the application to an archive"},
			"an empty config",
		},
	} {
		t.Run(name, func(t *testing.T) {
			host := registrytest.Serve(t, registrytest.Reject(registrytest.Distribution(""), test.refuses))
			o := test.options
			o.Environment, o.Sources = a.env, []app.Source{{Path: source}}
			_, err := app.Package(t.Context(), app.PackageOptions{Options: o, Repository: host + "/team/shop", Tags: []string{"v1"}})
			for _, want := range test.pushed {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("package: %v, want %q", err, want)
				}
			}
			_, err = app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: a.ref, Target: host + "/copy/shop"}}})
			if err == nil || !strings.Contains(err.Error(), test.copied) || !strings.Contains(err.Error(), "copy it to an archive") {
				t.Errorf("copy: %v, want %q", err, test.copied)
			}
			// An archive takes applications only.
			_, err = app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: "registry.example/web:1", Target: host + "/copy/web"}}})
			if name == "an index" && err == nil || err != nil && strings.Contains(err.Error(), "archive") {
				t.Errorf("copy of an image: %v", err)
			}
			for _, repository := range []string{"team/shop", "copy/shop"} {
				untagged(t, a.env, host+"/"+repository)
			}
		})
	}
}
