// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"
)

const (
	// short describes tape in lists of packages.
	short = "Pack a Kubernetes application into one OCI artifact"
	long  = `Finds every image that manifests, charts and overlays refer to, copies them with their
signatures and SBOMs, pins the manifests to the copies, and pushes one artifact
that holds it all: signed, with statements about where everything came from.
`
)

// url returns the URL of a file of a release.
func url(tag, name string) string { return repository + "/releases/download/" + tag + "/" + name }

//go:embed tape.rb.tmpl
var formulaText string

// formula returns the Homebrew formula of a release.
func formula(tag string, archives []archive) ([]byte, error) {
	t, err := template.New("").Parse(formulaText)
	if err != nil {
		return nil, err
	}
	of := map[string][]map[string]string{}
	for _, a := range archives {
		cpu := map[string]string{"amd64": "intel", "arm64": "arm"}[a.Arch]
		os := map[string]string{"darwin": "macos", "linux": "linux"}[a.OS]
		of[os] = append(of[os], map[string]string{"CPU": cpu, "URL": url(tag, a.Name), "SHA256": a.SHA256})
	}
	delete(of, "") // Homebrew does not support Windows
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{"Short": short, "Homepage": repository, "Version": strings.TrimPrefix(tag, "v"), "Of": of})
	return out.Bytes(), err
}

// krew returns the krew manifest of a release, for the plugin of kubectl that krew links as
// kubectl-tape: https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/.
func krew(tag string, archives []archive) ([]byte, error) {
	type object = map[string]any
	var platforms []object
	for _, a := range archives {
		program := "tape"
		if a.OS == "windows" {
			program += ".exe"
		}
		platforms = append(platforms, object{
			"selector": object{"matchLabels": object{"os": a.OS, "arch": a.Arch}},
			"uri":      url(tag, a.Name),
			"sha256":   a.SHA256,
			"files":    []object{{"from": a.Folder + "/*", "to": "."}},
			"bin":      program,
		})
	}
	return yaml.Marshal(object{
		"apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
		"kind":       "Plugin",
		"metadata":   object{"name": "tape"},
		"spec": object{
			"version": tag, "homepage": repository,
			"shortDescription": short, "description": long,
			"platforms": platforms,
		},
	})
}
