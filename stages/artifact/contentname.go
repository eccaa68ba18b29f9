// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// reservedFiles are patterns of [path.Match] for names of files, in any folder, that some
// deployer does not read as manifests: Flux ignores most of them (sourceignore of fluxcd/pkg),
// Kustomize and Argo CD interpret the first, and the last change how Argo CD renders the
// folder.
func reservedFiles() []string {
	return []string{
		"kustomization.yaml", "kustomization.yml", "Kustomization", "Chart.yaml",
		".sourceignore", ".gitignore", ".gitmodules", ".gitattributes",
		".travis.yml", ".gitlab-ci.yml", "appveyor.yml", ".drone.yml", "cloudbuild.yaml", "codeship-*.yml",
		".goreleaser.yml", ".sops.yaml", ".flux.yaml",
		".argocd-source.yaml", ".argocd-source-*.yaml", ".argocd-source.yml", ".argocd-source-*.yml",
	}
}

// isReservedFolder reports whether a folder is ignored by Flux with everything in it, or is
// git's own on any file system.
func isReservedFolder(name string) bool {
	return strings.EqualFold(name[:min(len(name), len(".git"))], ".git") || name == ".circleci"
}

// ContentName returns the name of a manifest file in the content: its own name if every
// deployer reads a file of that name, else the nearest such name.
func ContentName(file string) string {
	dir, base := path.Split(file)
	stem, ext := split(base)
	switch ext {
	case ".yaml", ".yml":
		base = stem + ext
	case ".json":
		base = stem + ".json.yaml"
	default:
		base += ".yaml"
	}
	reserved := isReserved(base) || ext == "" && isReserved(stem)
	var folders []string
	for _, folder := range strings.Split(strings.TrimSuffix(dir, "/"), "/") {
		if isReservedFolder(folder) {
			reserved = true
		} else if folder != "" {
			folders = append(folders, folder)
		}
	}
	if reserved {
		stem, _ = split(base)
		base = stem + ".objects.yaml"
	}
	return path.Join(append(folders, base)...)
}

func isReserved(base string) bool {
	return slices.ContainsFunc(reservedFiles(), func(pattern string) bool {
		matched, _ := path.Match(pattern, base)
		return matched
	})
}

// split cuts off the extension, in lower case, if it is one of manifests.
func split(base string) (stem, ext string) {
	ext = strings.ToLower(path.Ext(base))
	switch ext {
	case ".yaml", ".yml", ".json":
		return base[:len(base)-len(ext)], ext
	}
	return base, ""
}

// checkContent returns an error for a file that tape would not have packed: one that some
// deployer, or a program that runs in the folder, does not take for a manifest. The original
// format packed all files of the folder: also JSON, and files of Kustomize.
func (a *Application) checkContent(name string) error {
	_, ext := split(path.Base(name))
	switch {
	case a.Format != FormatOriginal && ContentName(name) != name:
		return refused{fmt.Errorf("content holds %q, which is not the name of a manifest: it is not what was packed", name)}
	case ext == "" || slices.ContainsFunc(strings.Split(path.Dir(name), "/"), isReservedFolder):
		return refused{fmt.Errorf("content holds %q, which is not the name of a manifest", name)}
	}
	return nil
}
