// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/source"
)

// ExpandedPipeline is a pipeline in full form.
type ExpandedPipeline struct {
	// YAML is the full form: what tape.yaml and the default pipeline come to.
	YAML []byte
	// Graph is for drawing: its stages do nothing.
	Graph *engine.Graph
}

// ExpandPipeline expands the pipeline of the options and validates it; nothing
// runs, and no source is read.
func ExpandPipeline(o Options) (*ExpandedPipeline, error) {
	p, err := o.pipeline()
	if err != nil {
		return nil, err
	}
	expanded, err := p.Expand(o.Args)
	if err != nil {
		return nil, fromOptions(err)
	}
	out := &ExpandedPipeline{}
	if out.YAML, err = expanded.YAML(); err != nil {
		return nil, err
	}
	out.Graph, err = expanded.Outline()
	return out, err
}

// ValidatePipeline says what is wrong with the pipeline of the options, down to
// the options of every stage.
func ValidatePipeline(o Options) error {
	p, err := o.pipeline()
	if err != nil {
		return err
	}
	_, err = p.Build(o.Args)
	return fromOptions(err)
}

// PipelineSchema is the JSON Schema of pipeline files, with the kinds of stage
// that the environment has.
func PipelineSchema(env Environment) ([]byte, error) {
	o := Options{Environment: env}
	table, err := pipeline.NewTable(defaultPipeline, o.kinds("", locking{})...)
	if err != nil {
		return nil, err
	}
	return table.Schema()
}

// InitOptions are what InitPipeline takes.
type InitOptions struct {
	Environment
	// Dir is looked at, and gets the file.
	Dir string
	// Repository to push to; "" writes an example.
	Repository string
	// Force replaces a file that is there.
	Force bool
}

// InitPipeline looks at a folder and writes a tape.yaml that packs what is in
// it. It returns the file's name and content.
func InitPipeline(ctx context.Context, o InitOptions) (string, []byte, error) {
	file := filepath.Join(o.Dir, PipelineFile)
	sources, err := findSources(ctx, o.Interpreters, o.Dir, cmp.Or(o.Log, slog.New(slog.DiscardHandler)))
	if err != nil {
		return "", nil, err
	}
	if len(sources) == 0 {
		return "", nil, fmt.Errorf("nothing to pack in %s: no interpreter claims a folder, and there are no manifests (.yaml, .yml, .json)", o.Dir)
	}
	abs, err := filepath.Abs(o.Dir)
	if err != nil {
		return "", nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: %s\nkind: %s\nsources:\n", pipeline.APIVersion, pipeline.FileKind)
	for _, s := range sources {
		fmt.Fprintf(&b, "  - path: %s\n    interpreter: %s", quote(s.Path), s.Interpreter)
		if len(s.also) > 0 {
			fmt.Fprintf(&b, "  # or %s", strings.Join(s.also, ", "))
		}
		b.WriteByte('\n')
		if len(sources) > 1 {
			fmt.Fprintf(&b, "    name: %s\n", s.Name)
		}
	}
	repository := o.Repository
	if repository == "" {
		repository = "registry.example.com/team/" + strings.ToLower(sourceName(filepath.Base(abs)))
	}
	fmt.Fprintf(&b, "output:\n  image: %s\n", repository)
	data := []byte(b.String())

	flags := os.O_WRONLY | os.O_CREATE
	if o.Force {
		flags |= os.O_TRUNC
	} else {
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(file, flags, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return "", nil, fmt.Errorf("%s is there already; --force replaces it", file)
	}
	if err != nil {
		return "", nil, fmt.Errorf("write pipeline: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", nil, fmt.Errorf("write pipeline: %w", err)
	}
	return file, data, nil
}

// quote makes a path a YAML string where it would not be one by itself.
func quote(s string) string {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._/-", r)) {
			return "'" + strings.ReplaceAll(s, "'", "''") + "'"
		}
	}
	return s
}

// initDepth is how deep findSources looks for folders that an interpreter claims.
const initDepth = 4

// claimedSource is a source that interpreters claim.
type claimedSource struct {
	Source
	also []string // interpreters that claim it too
}

// findSources finds the folders that interpreters claim, and does not look into
// those. Where none is claimed, the folder itself is a source if it has manifests.
// An interpreter that cannot be asked claims nothing, with a warning in log.
func findSources(ctx context.Context, interpreters Interpreters, dir string, log *slog.Logger) ([]claimedSource, error) {
	found, err := interpreters.List(ctx)
	if err != nil {
		log.Warn("not every interpreter can be used", "err", err)
	}
	var known []interpreter.Description
	for _, i := range found {
		d, err := i.Describe(ctx)
		if ctxErr := context.Cause(ctx); ctxErr != nil {
			return nil, ctxErr
		}
		if err != nil {
			log.Warn("an interpreter cannot be used", "interpreter", i.Name(), "err", err)
			continue
		}
		d.Name = i.Name() // that is what sources call it by
		known = append(known, d)
	}
	var (
		out       []claimedSource
		manifests bool
	)
	err = filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		if !d.IsDir() {
			switch strings.ToLower(filepath.Ext(at)) {
			case ".yaml", ".yml", ".json":
				manifests = manifests || d.Name() != PipelineFile
			}
			return nil
		}
		if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata" ||
			strings.Count(rel, string(filepath.Separator)) >= initDepth) {
			return fs.SkipDir
		}
		var by []string
		for _, d := range known {
			reason, err := source.Claims(d, at, dir)
			if err != nil {
				return err
			}
			if reason != "" {
				by = append(by, d.Name)
			}
		}
		if len(by) > 0 {
			out = append(out, claimedSource{Source{Path: filepath.ToSlash(rel), Interpreter: by[0]}, by[1:]})
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for sources: %w", err)
	}
	if len(out) == 0 && manifests {
		out = []claimedSource{{Source: Source{Path: ".", Interpreter: builtIn}}}
	}
	slices.SortFunc(out, func(a, b claimedSource) int { return strings.Compare(a.Path, b.Path) })
	taken := map[string]bool{}
	for i := range out {
		name := sourceName(path.Base(out[i].Path))
		if taken[name] || name == "app" && out[i].Path == "." {
			name = sourceName(strings.ReplaceAll(out[i].Path, "/", "-"))
		}
		taken[name] = true
		out[i].Name = name
	}
	return out, nil
}
