// SPDX-License-Identifier: Apache-2.0

package content

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// reservedFiles are file names, in any folder, that some deployer does not take
// for manifests: Flux ignores most (sourceignore of fluxcd/pkg), Kustomize and
// Argo CD read the first ones in their own way. They are patterns of path.Match.
func reservedFiles() []string {
	return []string{
		"kustomization.yaml", "kustomization.yml", "Kustomization", "Chart.yaml",
		".sourceignore", ".gitignore", ".gitmodules", ".gitattributes",
		".travis.yml", ".gitlab-ci.yml", "appveyor.yml", ".drone.yml", "cloudbuild.yaml", "codeship-*.yml",
		".goreleaser.yml", ".sops.yaml", ".flux.yaml",
	}
}

// reservedFolders are ignored by Flux with all that is in them.
func reservedFolders() []string { return []string{".git", ".github", ".circleci"} }

// name is what a manifest file is called in the content: its own name where
// every deployer reads that, else the nearest that they do.
func name(file string) string {
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
		if slices.Contains(reservedFolders(), folder) {
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

// split cuts the extension off, in lower case, where it is one of manifests.
func split(base string) (stem, ext string) {
	ext = strings.ToLower(path.Ext(base))
	switch ext {
	case ".yaml", ".yml", ".json":
		return base[:len(base)-len(ext)], ext
	}
	return base, ""
}

// names gives each manifest file its name in the content. Where two would have
// one name, that which is called so keeps it, and the others, in their order,
// get a number before the extension.
func names(list []string) map[string]string {
	var (
		out     = make(map[string]string, len(list))
		taken   = make(map[string]bool, len(list))
		renamed []string
	)
	for _, file := range list {
		if name(file) == file {
			out[file], taken[file] = file, true
		} else {
			renamed = append(renamed, file)
		}
	}
	slices.Sort(renamed)
	for _, file := range renamed {
		want := name(file)
		free := want
		for n := 2; taken[free]; n++ {
			ext := path.Ext(want)
			free = fmt.Sprintf("%s.%d%s", strings.TrimSuffix(want, ext), n, ext)
		}
		out[file], taken[free] = free, true
	}
	return out
}
