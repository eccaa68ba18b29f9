// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// building serializes builds: kyaml keeps the OpenAPI schema, which a kustomization can
// replace, in a package variable.
var building sync.Mutex

// build runs kustomize on a folder that a walker has visited.
func build(ctx context.Context, w *walker, folder string) ([]interpreter.File, error) {
	out, err := interpreter.Await(ctx, func() ([]interpreter.File, error) { return run(w, folder) })
	if _, panicked := errors.AsType[interpreter.Problems](err); panicked {
		return nil, err
	} else if err != nil {
		return nil, buildProblem(w.fetch.names().Replace(err.Error()), folder, w.file)
	}
	return out, nil
}

func run(w *walker, folder string) ([]interpreter.File, error) {
	building.Lock()
	defer building.Unlock()
	if w.schema {
		defer openapi.ResetOpenAPI() // otherwise the next build would use it
	}
	file := w.file(path.Clean(folder))
	data, err := w.tree.read(file)
	if err != nil {
		return nil, err
	}
	k, err := track(file, data)
	if err != nil {
		return nil, err
	}
	// The build that records origins gives the result, unless it might differ from the one that
	// the user asked for.
	changed := maps.Clone(w.tree.files)
	changed[k.file] = k.data
	watch := &watched{tree: &tree{mounts: w.tree.mounts, files: changed}, tracked: k}
	objects, err := kustomize(watch, folder)
	var from []string
	if err == nil {
		from = origins(w.tree, objects, folder)
		if k.wanted {
			return files(objects, from)
		}
		if err := objects.RemoveOriginAnnotations(); err != nil {
			return nil, err
		}
	}
	if err == nil && !watch.unsafe && watch.reads == 1 { // tracking did not change the output
		out, err := files(objects, from)
		if err != nil || !slices.ContainsFunc(out, func(f interpreter.File) bool { return annotation.Match(f.Data) }) {
			return out, err
		}
	}
	if w.schema {
		openapi.ResetOpenAPI()
	}
	plain, err := kustomize(w.tree, folder)
	if err != nil {
		return nil, err
	}
	same := func(a, b *resource.Resource) bool { return a.OrgId() == b.OrgId() }
	if objects != nil && !slices.EqualFunc(plain.Resources(), objects.Resources(), same) {
		from = nil
	}
	return files(plain, from)
}

func kustomize(tree filesys.FileSystem, folder string) (resmap.ResMap, error) {
	// The order is that of `kustomize build`: by kind, unless sortOptions is set.
	k := krusty.MakeKustomizer(&krusty.Options{
		Reorder:          krusty.ReorderOptionUnspecified,
		LoadRestrictions: types.LoadRestrictionsRootOnly,
		PluginConfig:     types.DisabledPluginConfig(),
	})
	objects, err := k.Run(tree, path.Join("/", folder))
	if err != nil {
		return nil, err
	}
	if objects.Size() == 0 {
		return nil, fmt.Errorf("the kustomization renders no objects")
	}
	return objects, nil
}

// files returns each object as a file <kind>-<name>.yaml. Objects that others need get the
// prefix 00-, since kubectl applies files by name. origins are the origins of the objects,
// in the same order; nil if unknown.
func files(objects resmap.ResMap, origins []string) ([]interpreter.File, error) {
	names := fileNames(objects.Resources())
	var out []interpreter.File
	for i, r := range objects.Resources() {
		data, err := r.AsYAML()
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", r.CurId(), err)
		}
		f := interpreter.File{Path: names[i] + ".yaml", Mode: 0o644, Data: data}
		if origins != nil {
			f.Origin = origins[i]
		}
		out = append(out, f)
	}
	return out, nil
}

// fileNames adds the namespace if kind and name are not unique, then a number.
func fileNames(objects []*resource.Resource) []string {
	names := make([]string, len(objects))
	count := map[string]int{}
	for i, r := range objects {
		names[i] = fileName(r.GetKind(), r.GetName())
		count[names[i]]++
	}
	used := map[string]bool{}
	for i, r := range objects {
		if count[names[i]] > 1 && r.GetNamespace() != "" {
			names[i] = fileName(r.GetKind(), r.GetName(), r.GetNamespace())
		}
		base := names[i]
		for n := 2; used[names[i]]; n++ {
			names[i] = fmt.Sprintf("%s-%d", base, n)
		}
		used[names[i]] = true
	}
	return names
}

var odd = regexp.MustCompile(`[^a-z0-9.-]+`)

func fileName(kind string, parts ...string) string {
	prefix := ""
	if kind == "Namespace" || kind == "CustomResourceDefinition" {
		prefix = "00-"
	}
	name := odd.ReplaceAllString(strings.ToLower(kind+"-"+strings.Join(parts, "-")), "-")
	return prefix + strings.Trim(name, "-.")
}
