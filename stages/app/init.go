// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/stages/app/internal/newfile"
	"github.com/taped-dev/tape/stages/artifact"
)

// InitOptions are the options of Init.
type InitOptions struct {
	Environment
	// Dir is the folder to inspect. The pipeline file is written there.
	Dir string
	// Repository is the repository to push to; if empty, an example is written.
	Repository string
	// Force replaces an existing file.
	Force bool
}

// InitResult describes the written pipeline file.
type InitResult struct {
	File     string `json:"file"`
	Pipeline string `json:"pipeline"` // content of the file
}

// Init writes a tape.yaml that packs the content of a folder.
func Init(ctx context.Context, o InitOptions) (*InitResult, error) {
	f, err := o.finder(ctx, o.Dir, "the application")
	if err != nil {
		return nil, err
	}
	if o.Repository != "" {
		if err := artifact.CheckRepository(o.Repository); err != nil {
			return nil, asUsage(err)
		}
	}
	file := filepath.Join(o.Dir, PipelineFile)
	if _, err := os.Lstat(file); err == nil && !o.Force {
		return nil, newfile.Exists(file)
	}
	found, err := f.find(ctx)
	if err != nil {
		return nil, err
	}
	if len(found.sources) == 0 {
		return nil, fmt.Errorf("nothing to pack in %s: no interpreter claims a folder, and there are no manifests (.yaml, .yml, .json)", o.Dir)
	}
	sources, failed, err := o.rendering(ctx, f, found.sources)
	if err != nil {
		return nil, err
	}
	sources = overlaid(sources)
	name(sources)
	data := o.text(sources, failed, found)

	if err := newfile.Write(file, data, o.Force); err != nil {
		return nil, fmt.Errorf("write pipeline: %w", err)
	}
	return &InitResult{File: file, Pipeline: data}, nil
}

// text returns the content of the pipeline file.
func (o *InitOptions) text(sources []claimedSource, failed failures, found candidates) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: %s\nkind: %s\n", pipeline.APIVersion, pipeline.FileKind)
	if len(sources) > 1 {
		b.WriteString("# All of these go into one artifact: remove those that you do not want.\n")
	}
	b.WriteString("sources:\n")
	for _, s := range sources {
		fmt.Fprintf(&b, "  - path: %s\n    interpreter: %s", newfile.Quote(s.Path), s.Interpreter)
		if len(s.also) > 0 {
			fmt.Fprintf(&b, "  # or %s", strings.Join(s.also, ", "))
		}
		b.WriteByte('\n')
		if len(sources) > 1 || s.overlays != nil {
			fmt.Fprintf(&b, "    name: %s\n", s.Name)
		}
	}
	for _, f := range failed.reasons {
		fmt.Fprintf(&b, "  # left out, as it does not render by itself: %s\n", newfile.OneLine(f))
	}
	listed := map[string]bool{}
	for _, s := range sources {
		listed[s.Path] = true
		for _, overlay := range s.overlays {
			listed[overlay] = true
		}
	}
	for _, left := range slices.Concat([]leftOut{{"as they do not render by themselves", failed.below}}, found.left(),
		[]leftOut{{"packed", found.packed}, {"plain manifests that none of these reads", found.plain}}) {
		comment(&b, "left out, "+left.why+":", slices.DeleteFunc(left.all, func(s claimedSource) bool {
			repeated := listed[s.Path]
			listed[s.Path] = true
			return repeated
		}))
	}
	b.WriteString(o.environments(sources))
	example := "registry.example.com/team/" + strings.ToLower(sourceName(filepath.Base(found.dir)))
	fmt.Fprintf(&b, "output:\n  image: %s\n", cmp.Or(o.Repository, example))
	return b.String()
}

// overlayFolders are names of folders that contain one folder per environment.
var overlayFolders = []string{"overlays", "overlay", "environments", "envs"}

// overlay describes what the path of an overlay means.
type overlay struct{ of, application, environment string }

// overlaysOf returns the overlays among sources, by path. The folder of an environment may
// contain the overlays of several applications, if the folders of other environments do too
// (envs/dev/web and envs/prod/web), or further environments (overlays/prod/eu).
func overlaysOf(sources []claimedSource) map[string]overlay {
	split := func(dir string) (of, first, rest string) {
		parts := strings.Split(dir, "/")
		for i := range len(parts) - 1 {
			if slices.Contains(overlayFolders, parts[i]) {
				return path.Join(parts[:i+1]...), parts[i+1], path.Join(parts[i+2:]...)
			}
		}
		return "", "", ""
	}
	in := map[[2]string]int{} // the number of environments that contain it, by folder and remaining path
	applications := map[string]bool{}
	for _, s := range sources {
		if of, _, rest := split(s.Path); rest != "" {
			in[[2]string{of, rest}]++
			applications[of] = applications[of] || in[[2]string{of, rest}] > 1
		}
	}
	out, members := map[string]overlay{}, map[string]int{}
	for _, s := range sources {
		of, first, rest := split(s.Path)
		l := overlay{of, "", first}
		if applications[of] {
			l.application = rest
		} else if rest != "" {
			l.environment += "-" + strings.ReplaceAll(rest, "/", "-")
		}
		if pipeline.CheckEnvironment(l.environment) == nil {
			out[s.Path] = l
			members[of]++
		}
	}
	maps.DeleteFunc(out, func(_ string, l overlay) bool { return members[l.of] < 2 })
	return out
}

// overlaid combines the overlays of each application into one source. They contain the same
// objects, so they cannot be packed side by side.
func overlaid(sources []claimedSource) []claimedSource {
	overlays := overlaysOf(sources)
	type family struct{ of, application, interpreter string }
	at := map[family]int{} // index in out, plus 1
	var out []claimedSource
	for _, s := range sources {
		l, ok := overlays[s.Path]
		f := family{l.of, l.application, s.Interpreter}
		switch {
		case !ok:
		case at[f] > 0 && out[at[f]-1].overlays[l.environment] == "":
			out[at[f]-1].overlays[l.environment] = s.Path
			continue
		case at[f] == 0:
			at[f] = len(out) + 1
			s.overlays, s.Name = map[string]string{l.environment: s.Path}, path.Base(l.application)
			if l.application == "" {
				s.Name = path.Base(path.Dir(l.of))
			}
		}
		out = append(out, s)
	}
	return out
}

// environments returns proposed environments. Those of overlays are active. For each
// values-NAME.yaml file of a chart one is commented out, unless there are overlays of that name,
// because only the author knows which values belong together.
func (o *InitOptions) environments(sources []claimedSource) string {
	of, skip := map[string][]string{}, map[string][]string{}
	overlays := false
	for _, s := range sources {
		for e, dir := range s.overlays {
			overlays = true
			of[e] = append(of[e], fmt.Sprintf("%s: {path: %s}", s.Name, newfile.Quote(dir)))
		}
	}
	for _, s := range sources {
		for e := range of {
			if s.overlays != nil && s.overlays[e] == "" {
				skip[e] = append(skip[e], s.Name)
			}
		}
		files, err := filepath.Glob(filepath.Join(o.path(s), "values-*.yaml"))
		if s.Interpreter != "helm" || err != nil {
			continue
		}
		for _, file := range files {
			base := filepath.Base(file)
			e := strings.TrimSuffix(strings.TrimPrefix(base, "values-"), ".yaml")
			if pipeline.CheckEnvironment(e) == nil && (!overlays || of[e] != nil) {
				of[e] = append(of[e], fmt.Sprintf("%s: {options: {values: [%s]}}", s.Name, newfile.Quote(path.Join(s.Path, base))))
			}
		}
	}
	if len(of) == 0 {
		return ""
	}
	mark := "# "
	if overlays {
		mark = ""
	}
	var b strings.Builder
	b.WriteString("# All of these go into one artifact, each in its own folder:\n" + mark + "environments:\n")
	for _, e := range slices.Sorted(maps.Keys(of)) {
		slices.Sort(of[e])
		fmt.Fprintf(&b, "%s  %s: {sources: {%s}", mark, e, strings.Join(of[e], ", "))
		if len(skip[e]) > 0 {
			fmt.Fprintf(&b, ", skip: [%s]", strings.Join(skip[e], ", "))
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// failures are the sources that cannot be rendered, with the reasons, and the sources below
// those.
type failures struct {
	reasons []string
	below   []claimedSource
}

// rendering separates the sources that can be rendered from those that cannot, with the first
// line of the reason. For the latter, it searches the folders below for sources that can be
// rendered. It returns an error if no source can be rendered.
func (o *InitOptions) rendering(ctx context.Context, f *finder, all []claimedSource) (good []claimedSource, failed failures, err error) {
	var first error
	for depth, tries := 0, all; len(tries) > 0; depth++ {
		problems, err := o.try(ctx, tries)
		if err != nil {
			return nil, failures{}, err
		}
		var next []claimedSource
		for i, s := range tries {
			if problems[i] == nil {
				good = append(good, s)
				continue
			}
			first = cmp.Or(first, problems[i])
			if depth == 0 { // there may be many packages below, most of them without objects
				failed.reasons = append(failed.reasons, fmt.Sprintf("%s (%s): %s", s.Path, s.Interpreter, o.reason(s, problems[i])))
			} else {
				failed.below = append(failed.below, s)
			}
			below, err := f.below(ctx, s)
			if err != nil {
				return nil, failures{}, err
			}
			next = append(next, below...)
		}
		tries = next
	}
	if len(good) == 0 {
		return nil, failures{}, fmt.Errorf("nothing in %s renders as it is: %w", o.Dir, first)
	}
	slices.SortFunc(good, func(a, b claimedSource) int { return strings.Compare(a.Path, b.Path) })
	return good, failed, nil
}

// try renders the sources, and returns one error for each.
func (o *InitOptions) try(ctx context.Context, all []claimedSource) ([]error, error) {
	problems := make([]error, len(all))
	return problems, atonce.Each(ctx, atonce.Renders, all, func(ctx context.Context, i int, s claimedSource) error {
		_, problems[i] = Render(ctx, RenderOptions{Options: Options{Environment: o.Environment, Sources: []Source{{
			Path: o.path(s), Interpreter: s.Interpreter,
		}}}})
		return context.Cause(ctx)
	})
}

// reason returns the first line of the error of a source. It is written to a file in the folder,
// so paths in it are relative to that folder and not to the working directory.
func (o *InitOptions) reason(s claimedSource, err error) string {
	if failed, ok := errors.AsType[*engine.StageError](err); ok {
		err = failed.Err
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	first = strings.TrimPrefix(first, o.path(s)+": ")
	first = strings.TrimPrefix(first, "interpreter "+s.Interpreter+": ")
	for _, folder := range []string{o.path(s), filepath.Clean(o.Dir)} {
		if folder != "." {
			first = strings.ReplaceAll(first, folder+"/", "")
		}
	}
	return first
}

// path returns the path of a source relative to the working directory.
func (o *InitOptions) path(s claimedSource) string {
	return filepath.Join(o.Dir, filepath.FromSlash(s.Path))
}

// commentWidth is the maximum width of comments.
const commentWidth = 120

// comment writes all paths as a comment. The list is complete, because something left out
// silently would be missing in the cluster.
func comment(b *strings.Builder, what string, all []claimedSource) {
	if len(all) == 0 {
		return
	}
	line := "  # " + what
	for i, s := range all {
		name := " " + newfile.OneLine(s.Path)
		if i < len(all)-1 {
			name += ","
		}
		if len(line)+len(name) > commentWidth && strings.Contains(line, ",") {
			b.WriteString(line + "\n")
			line = "  #  "
		}
		line += name
	}
	b.WriteString(line + "\n")
}

// name gives every source a unique name: the last element of its path or, if necessary, the whole
// path.
func name(sources []claimedSource) {
	last := func(s claimedSource) string {
		base := path.Base(s.Path)
		if s.overlays != nil {
			base = s.Name // the application of the overlays
		}
		if s.by != nil && path.Ext(base) == ".tgz" {
			base = strings.TrimSuffix(base, ".tgz")
		}
		return sourceName(base)
	}
	count := map[string]int{}
	for _, s := range sources {
		count[last(s)]++
	}
	for i := range sources {
		sources[i].Name = last(sources[i])
		if count[sources[i].Name] > 1 {
			sources[i].Name = sourceName(strings.ReplaceAll(sources[i].Path, "/", "-"))
		}
	}
}
