// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
)

func (a *program) cnabCommand() *cobra.Command {
	return group("cnab", "Push, pull and fix up CNAB bundles like cnab-to-oci",
		`  tape cnab push bundle.json --target registry.example.com/team/app:v1.2.3
  tape cnab pull registry.example.com/team/app:v1.2.3`,
		a.cnabPushCommand(), a.cnabPullCommand(), a.cnabFixupCommand())
}

func (a *program) cnabPushCommand() *cobra.Command {
	var (
		flags    bundleFlags
		fallback bool
	)
	cmd := &cobra.Command{
		Use:     "push BUNDLE",
		Short:   "Push a bundle with all its images",
		Example: `  tape cnab push bundle.json --target registry.example.com/team/app:v1.2.3`,
		Long: `Copies all images of the bundle into the repository, adds their digests to the
bundle, and pushes an index of both. BUNDLE is a bundle.json; - is stdin.
Without a tag the index can be found by the digest that is printed.`,
		Args: argsRange(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return printed(a, bundleText)(a.bundle(cmd.Context(), args[0], flags, func(ctx context.Context, o app.BundleOptions) (*app.BundleResult, error) {
				o.NoFallbacks = !fallback
				return app.PushBundle(ctx, o)
			}))
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&fallback, "allow-fallbacks", true, "push with older media types, with a note, if a registry refuses those of a bundle")
	return cmd
}

func (a *program) cnabFixupCommand() *cobra.Command {
	var (
		flags bundleFlags
		files bundleFiles
	)
	cmd := &cobra.Command{
		Use:     "fixup BUNDLE",
		Short:   "Copy the images of a bundle, and add their digests to it",
		Example: `  tape cnab fixup bundle.json --target registry.example.com/team/app`,
		Long: `Copies all images of the bundle into the repository, and writes a bundle with
the digest, size and media type of each, and a relocation map from their names
to those in the repository. BUNDLE is a bundle.json; - is stdin.`,
		Args: argsRange(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkBundleFiles(files); err != nil {
				return err
			}
			result, err := a.bundle(cmd.Context(), args[0], flags, app.FixupBundle)
			if err != nil {
				return err
			}
			return a.bundleOut(result, files)
		},
	}
	flags.register(cmd)
	files.register(cmd, "fixed-bundle.json")
	return cmd
}

func (a *program) cnabPullCommand() *cobra.Command {
	var files bundleFiles
	cmd := &cobra.Command{
		Use:     "pull REF",
		Short:   "Write a bundle and its relocation map from a registry",
		Example: `  tape cnab pull registry.example.com/team/app:v1.2.3 --bundle bundle.json`,
		Long: `Writes the bundle byte for byte, and a relocation map from the names of its
images to those in the repository. The images are not copied.`,
		Args: argsRange(1, 1),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) error {
			if err := a.checkBundleFiles(files); err != nil {
				return err
			}
			result, err := app.PullBundle(ctx, app.PullBundleOptions{Environment: env, Ref: args[0]})
			if err != nil {
				return err
			}
			return a.bundleOut(result, files)
		}),
	}
	files.register(cmd, "pulled.json")
	return cmd
}

// bundleFlags are the flags of push and fixup.
type bundleFlags struct {
	target string
	update bool
	from   placeFlags
}

func (f *bundleFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.target, "target", "t", "", "`REPOSITORY[:TAG]` for the bundle and its images")
	f.from.register(cmd)
	cmd.Flags().BoolVar(&f.update, "auto-update-bundle", false, "update the bundle if a name now leads to another digest than it records")
}

// bundle reads a bundle and calls do with it.
func (a *program) bundle(ctx context.Context, file string, flags bundleFlags, do func(context.Context, app.BundleOptions) (*app.BundleResult, error)) (*app.BundleResult, error) {
	if flags.target == "" {
		return nil, usagef("no place for the bundle: give --target REPOSITORY[:TAG]")
	}
	data, err := a.readArgument(file)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	from, err := flags.from.places()
	if err != nil {
		return nil, err
	}
	env, err := a.environment(ctx)
	if err != nil {
		return nil, err
	}
	result, err := do(ctx, app.BundleOptions{Environment: env, From: from, Bundle: data, Target: flags.target, AutoUpdate: flags.update})
	a.settle()
	if err != nil {
		return nil, err
	}
	for _, warning := range result.Warnings {
		a.warn("%s", warning)
	}
	return result, nil
}

// packageBundle implements package --as cnab: it pushes a bundle once for each tag.
func (a *program) packageBundle(cmd *cobra.Command, args []string, repository string, tags []string, from placeFlags) error {
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if name := f.Name; cmd.InheritedFlags().Lookup(name) == nil && name != "as" && name != "output-image" && name != "tag" && name != "from" {
			err = usagef("--%s cannot be combined with --as cnab, which renders nothing", name)
		}
	})
	switch {
	case err != nil:
		return err
	case len(args) != 1:
		return usagef("--as cnab takes one source: a bundle.json, or the folder that contains it")
	case repository == "":
		return usagef("no place for the bundle: give -O REPOSITORY")
	}
	file := args[0]
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		file = filepath.Join(file, "bundle.json")
	}
	if len(tags) == 0 {
		tags = []string{""}
	}
	var results []*app.BundleResult
	for _, tag := range tags {
		target := repository
		if tag != "" {
			target += ":" + tag
		}
		result, err := a.bundle(cmd.Context(), file, bundleFlags{target: target, from: from}, app.PushBundle)
		if err != nil {
			return err
		}
		results = append(results, result)
	}
	// The results differ only in the tag; the first push moved the tags of images.
	return a.print(results[0], func(p *printer) {
		bundleText(p, results[0])
		for _, r := range results[1:] {
			p.f("bundle    %s\n", r.Ref)
		}
	})
}

// bundleFiles are the files that pull and fixup write.
type bundleFiles struct{ bundle, relocation string }

func (f *bundleFiles) register(cmd *cobra.Command, bundle string) {
	cmd.Flags().StringVar(&f.bundle, "bundle", bundle, "`FILE` for the bundle; - is stdout")
	cmd.Flags().StringVar(&f.relocation, "relocation-map", "relocation-map.json", "`FILE` for the relocation map; - is stdout")
}

func (a *program) checkBundleFiles(files bundleFiles) error {
	switch {
	case files.bundle == "" || files.relocation == "":
		return usagef("--bundle and --relocation-map want a file, or - for stdout")
	case files.bundle == files.relocation:
		return usagef("--bundle and --relocation-map are both %s", files.bundle)
	case (files.bundle == "-" || files.relocation == "-") && a.flags.output != "text":
		return usagef("a file - and --output-format %s both write to stdout", a.flags.output)
	}
	return nil
}

// bundleOut writes each file completely or not at all, and prints where.
func (a *program) bundleOut(result *app.BundleResult, files bundleFiles) error {
	relocation, err := engine.MarshalJSON(result.Relocation)
	if err != nil {
		return err
	}
	stdout, err := writeFiles(map[string][]byte{files.bundle: result.Bundle, files.relocation: relocation})
	if err != nil {
		return err
	}
	if stdout != nil {
		_, err := fmt.Fprintf(a.data(), "%s\n", stdout)
		return err
	}
	return a.print(result, func(p *printer) {
		bundleText(p, result)
		p.f("written   %s\n          %s\n", files.bundle, files.relocation)
	})
}

// writeFiles writes all files under temporary names before it renames any. It returns the data
// for stdout.
func writeFiles(list map[string][]byte) (stdout []byte, err error) {
	fresh := map[string]*artifact.Output{}
	defer func() {
		for _, out := range fresh {
			_ = out.Discard()
		}
	}()
	for _, name := range sortedKeys(list) {
		if name == "-" {
			stdout = list[name]
			continue
		}
		out, err := artifact.NewOutput(name, list[name])
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		fresh[name] = out
	}
	for _, name := range sortedKeys(fresh) {
		if err := fresh[name].Place(); err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		delete(fresh, name)
	}
	return stdout, nil
}

func bundleText(p *printer, r *app.BundleResult) {
	p.lay(`{{range .Images}}image     {{.Ref}}
          from {{.Source}}
{{end}}{{with .Moved}}moved    {{moved .}}
{{end}}{{with .Ref}}bundle    {{.}}
{{end}}`, r)
}
