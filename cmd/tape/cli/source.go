// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/internal/temporary"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
)

// sourceFlags are the flags of images, render and package that do not set an option directly.
type sourceFlags struct {
	manifestDir string
	args        []string
	interpreter string
	options     []string
	optionsFile string
	cache       cacheFlags
	audit       string
	from        placeFlags

	// spelled has the values of each of the spellings. namespace reports whether to create it.
	spelled         [len(spellings)][]string
	createNamespace bool
}

// spellings are flags for options of interpreters, named like the flags of the tools that users
// know.
var spellings = [...]struct {
	option, flag, short string
	list                bool
	usage               string
}{
	{"values", "values", "f", true, "helm, cue: values `FILE` (repeats)"},
	{"set", "set", "", true, "helm: `K=V` value (repeats)"},
	{"setString", "set-string", "", true, "helm: `K=V` value that stays a string (repeats)"},
	{"setFile", "set-file", "", true, "helm: `K=FILE` value that is the file's content (repeats)"},
	{"release", "release", "", false, "helm: release `NAME`"},
	{"hooks", "hooks", "", false, "helm: `WHICH` hooks to render: install, none or all (default install)"},
	{"kubeVersion", "kube-version", "", false, "helm: Kubernetes `VERSION` to render for"},
	{"namespace", "namespace", "n", false, "helm: release `NAMESPACE`, also of objects without a namespace"},
	{"expression", "expression", "e", false, "cue: `EXPRESSION` to render"},
	{"packages", "packages", "", true, "cue: `PACKAGE` to render, ./... for all (repeats)"},
	{"tags", "inject", "t", true, "cue: `TAG` or TAG=VALUE to inject (repeats)"},
}

// registerEnvironments registers --env. diff has its own.
func registerEnvironments(cmd *cobra.Command, o *app.Options) {
	cmd.Flags().StringArrayVar(&o.Environments, "env", nil, "only environment `NAME` of the pipeline (repeats; default all)")
}

// register registers the flags that select what to render and how. Some of them set o directly.
func (f *sourceFlags) register(cmd *cobra.Command, o *app.Options) {
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVarP(&f.manifestDir, "manifest-dir", "D", "", "`DIR` of the source, the same as SOURCE")
	f.registerPipeline(cmd, o)
	fl.StringVar(&f.interpreter, "interpreter", "", "`NAME` of the interpreter (default: detected by the files)")
	fl.StringArrayVar(&f.options, "set-option", nil, "`K=V` option of the interpreter (repeats, also for the items of a list)")
	fl.StringVar(&f.optionsFile, "options-file", "", "`FILE` of options for the interpreter, YAML or JSON")
	for i, s := range spellings {
		fl.StringArrayVarP(&f.spelled[i], s.flag, s.short, nil, s.usage)
	}
	fl.BoolVar(&f.createNamespace, "create-namespace", false, "helm: add the Namespace object")
	fl.BoolVar(&o.Deterministic, "deterministic", false, "render twice, and fail if the results differ")
	fl.BoolVar(&o.SkipInvalid, "skip-invalid", false, "leave out files that do not parse")
	fl.BoolVar(&o.SkipSealed, "skip-sealed", false, "accept that images are not pinned in objects sealed by sops or a signature")
	fl.BoolVar(&o.NoCache, "no-cache", false, "render again, without the cache")
	f.cache.register(cmd)
	fl.StringVar(&f.audit, "audit", "", "render `PERCENT` of the cached results again, such as 1%, and fail on a difference")
	fl.BoolVar(&o.Strict, "strict", false, "treat warnings as errors")
	fl.BoolVar(&o.Locked, "locked", false, "fail if anything differs from the lock (tape.lock of tape.yaml)")
}

// registerPipeline registers the flags that select the pipeline.
func (f *sourceFlags) registerPipeline(cmd *cobra.Command, o *app.Options) {
	cmd.Flags().StringVarP(&o.Pipeline, "pipeline", "p", "", "pipeline `FILE` (default: tape.yaml of this folder, without a SOURCE)")
	cmd.Flags().StringArrayVar(&f.args, "arg", nil, "`K=V` for an argument of the pipeline (repeats)")
}

func (f *sourceFlags) registerImages(cmd *cobra.Command, o *app.Options) {
	fl := cmd.Flags()
	fl.StringVar(&o.Platform, "platform", "", "pack only platform `OS/ARCH` of every image")
	f.from.register(cmd)
	fl.StringVar(&o.Related, "related", "default", "`WHAT` to pack of the artifacts attached to images: default (signatures, attestations, SBOMs), all or none")
}

// to completes the options, some of which are set by flags, from the other flags and the
// arguments.
func (f *sourceFlags) to(o *app.Options, args []string) error {
	if f.manifestDir != "" {
		args = append([]string{f.manifestDir}, args...)
	}
	if len(args) > 0 && o.Pipeline != "" {
		return usagef("give a SOURCE or --pipeline, not both")
	}
	if len(args) > 0 && len(o.Environments) > 0 {
		return usagef("--env selects an environment of a pipeline: leave out SOURCE")
	}
	if len(args) == 0 && o.Pipeline == "" {
		if _, err := os.Stat(app.PipelineFile); err != nil {
			return usagef("no SOURCE given, and this folder has no %s: name a folder, such as ./kustomize, or write one with 'tape pipeline init'", app.PipelineFile)
		}
		o.Pipeline = app.PipelineFile
	}
	var err error
	if o.Args, err = arguments(f.args); err != nil {
		return err
	}
	if o.From, err = f.from.places(); err != nil {
		return err
	}
	settings, err := f.settings()
	if err != nil {
		return err
	}
	if len(args) != 1 && (f.interpreter != "" || len(settings) > 0) {
		if len(args) == 0 {
			return usagef("--interpreter and its options require a SOURCE: %s has its own, below each source", o.Pipeline)
		}
		return usagef("--interpreter and its options require a single SOURCE; for several, write a %s ('tape pipeline init')", app.PipelineFile)
	}
	for _, path := range args {
		o.Sources = append(o.Sources, app.Source{Path: path, Interpreter: f.interpreter, Settings: settings})
	}
	if o.Created, err = artifact.SourceDateEpoch(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return err
	}
	o.Version = readVersion().Version
	if f.audit != "" {
		if o.Audit, err = app.ParsePercent(f.audit); err != nil {
			return usagef("--audit %w", err)
		}
		if o.NoCache {
			return usagef("--audit and --no-cache cannot be combined: without the cache there is nothing to check")
		}
	}
	return nil
}

// arguments returns the arguments of a pipeline.
func arguments(pairs []string) (map[string]string, error) {
	args := map[string]string{}
	for _, kv := range pairs {
		k, v, err := cutPair("arg", kv)
		if err != nil {
			return nil, err
		}
		args[k] = v
	}
	return args, nil
}

// cutPair splits the value K=V of a flag.
func cutPair(flag, kv string) (k, v string, err error) {
	k, v, ok := strings.Cut(kv, "=")
	if !ok || k == "" {
		return "", "", usagef("--%s %q is not K=V", flag, kv)
	}
	return k, v, nil
}

// open sets the options like sources, and also sets the environment and the cache.
func (a *program) open(ctx context.Context, f *sourceFlags, o *app.Options, args []string) error {
	if err := a.sources(f, o, args); err != nil {
		return err
	}
	var err error
	if o.Environment, err = a.environment(ctx); err != nil {
		return err
	}
	o.Cache, err = a.cache(ctx, &f.cache, o.Environment)
	return err
}

// sources is like to, but also accepts - for a stream of manifests on stdin.
func (a *program) sources(f *sourceFlags, o *app.Options, args []string) error {
	if f.manifestDir == "-" {
		f.manifestDir = ""
		args = append([]string{"-"}, args...)
	}
	args = slices.Clone(args)
	read := "" // the folder that the stream is written to
	for i, arg := range args {
		if arg != "-" {
			continue
		}
		if read != "" {
			return usagef("- is stdin, which can be read only once")
		}
		folder, err := a.stream()
		if err != nil {
			return err
		}
		args[i], read = folder, folder
		if f.interpreter == "" && len(args) == 1 {
			f.interpreter = "plain"
		}
	}
	err := f.to(o, args)
	for i, s := range o.Sources {
		o.Sources[i].Temporary = read == s.Path
	}
	return err
}

// maxStream limits the manifests on stdin, in bytes, to the maximum size of a file.
const maxStream = 64 << 20

// stream writes the manifests on stdin to a folder, which close removes.
func (a *program) stream() (string, error) {
	data, err := io.ReadAll(io.LimitReader(a.In, maxStream+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read manifests from stdin: %w", err)
	case len(data) > maxStream:
		return "", fmt.Errorf("read manifests from stdin: more than %d bytes", maxStream)
	case len(bytes.TrimSpace(data)) == 0:
		return "", errors.New("read manifests from stdin: there are none")
	}
	temp, err := temporary.New("", "tape-stdin-")
	if err != nil {
		return "", err
	}
	a.closers = append(a.closers, temp.Remove)
	folder := filepath.Join(temp.Dir(), "stdin")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return "", err
	}
	return folder, os.WriteFile(filepath.Join(folder, "manifests.yaml"), data, 0o600)
}

// placeFlags are values of --from: REF=PLACE.
type placeFlags []string

func (f *placeFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar((*[]string)(f), "from", nil, "`REF=PLACE` takes an image from docker-daemon, containerd, oci:DIR[:TAG] or archive:FILE[:TAG] instead of a registry (repeats; * in REF matches any characters)")
}

// places returns the places of images that are not in a registry.
func (f placeFlags) places() (map[string]local.Place, error) {
	out := map[string]local.Place{}
	for _, from := range f {
		ref, place, ok := strings.Cut(from, "=")
		if !ok || ref == "" {
			return nil, usagef("--from %q is not REF=PLACE, such as app:dev=docker-daemon", from)
		}
		if err := local.Place(place).Check(); err != nil {
			return nil, usagef("--from %s: %v", ref, err)
		}
		out[ref] = local.Place(place)
	}
	return out, nil
}

// settings returns the options of the interpreter in the given order, those of the file first.
func (f *sourceFlags) settings() ([]app.Setting, error) {
	var out []app.Setting
	if f.optionsFile != "" {
		data, err := regular.ReadArgument(f.optionsFile)
		if err != nil {
			return nil, fmt.Errorf("read --options-file: %w", err)
		}
		var m map[string]any
		if err := yaml.Unmarshal(data, &m); err != nil {
			return nil, fmt.Errorf("read --options-file %s: %w", f.optionsFile, err)
		}
		for _, k := range sortedKeys(m) {
			raw, err := json.Marshal(m[k])
			if err != nil {
				return nil, fmt.Errorf("read --options-file %s: option %s: %w", f.optionsFile, k, err)
			}
			out = append(out, app.Setting{Name: k, JSON: raw, Base: filepath.Dir(f.optionsFile)})
		}
	}
	for _, kv := range f.options {
		k, v, err := cutPair("set-option", kv)
		if err != nil {
			return nil, err
		}
		out = append(out, app.Setting{Name: k, Value: v})
	}
	for i, s := range spellings {
		for _, v := range f.spelled[i] {
			if s.list || v != "" {
				out = append(out, app.Setting{Name: s.option, Value: v})
			}
		}
	}
	if f.createNamespace {
		out = append(out, app.Setting{Name: "createNamespace", Value: "true"})
	}
	return out, nil
}
