// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages/app"
)

func (a *program) relocateCommand() *cobra.Command {
	var (
		source sourceFlags
		o      app.RelocateOptions
		list   string
	)
	cmd := &cobra.Command{
		Use:         "relocate SRC",
		Short:       "Copy images to other names, and rewrite the manifests",
		Annotations: resumable,
		Example: `  tape relocate podinfo.tar -O registry.inside.example/team/podinfo
  tape relocate registry.example.com/team/podinfo:v1.2.3 \
    --prefix registry.inside.example/user \
    -O registry.inside.example/user/podinfo
  tape relocate ./kustomize --prefix registry.inside.example/user \
    --manifests-out ./inside --mapping images.json`,
		Long: `SRC is an application in a registry, an archive or an OCI layout, or a source of
manifests as for package. Digests of images do not change. Below --prefix every
image gets its own repository, named after it; --naming single copies all of
them into one. With -O a new application is made, which contains the images and
records what it was made from.`,
		Args: argsRange(0, 1),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) (err error) {
			if list != "" && (len(args) > 0 || o.Mapping != "" || o.Manifests != "") {
				return usagef("--from-file lists what to relocate: leave out SRC, --mapping and --manifests-out")
			}
			if len(args) == 0 && list == "" {
				return usagef("relocate takes SRC: an application, or manifests")
			}
			if o.Repository, o.Tags, err = outputTag(o.Repository, o.Tags); err != nil {
				return err
			}
			if o.Prefix == "" && o.Repository == "" && list == "" {
				return usagef("no place to relocate to: give --prefix, -O, or both")
			}
			if o.Repository == "" && len(o.Tags) > 0 {
				return usagef("--tag requires -O")
			}
			o.Environment = env
			if list != "" {
				return a.relocateList(ctx, list, o, &source)
			}
			o.Source = args[0]
			if err := source.to(&o.Options, args); err != nil {
				return err
			}
			result, err := app.Relocate(ctx, o)
			if err != nil {
				return err
			}
			a.settle()
			if o.Repository == "" && o.Mapping == "" && o.Manifests == "" {
				a.note("the images are copied, but no manifest refers to the copies: --manifests-out DIR writes manifests, --mapping FILE the names, and -O REPO makes an application")
			}
			return a.print(result, func(p *printer) { relocateText(p, result) })
		}),
	}
	f := cmd.Flags()
	f.StringVar(&list, "from-file", "", "relocate what `LIST` names, one SRC [REPOSITORY[:TAG]] per line; - is stdin")
	f.StringVar(&o.Prefix, "prefix", "", "`PREFIX` of the images' new names, such as registry.example.com/user")
	f.StringVar(&o.Naming, "naming", "", "one-to-one (below --prefix), or single (all in one repository)")
	f.StringVarP(&o.Repository, "output-image", "O", "", "`REPOSITORY[:TAG]` for a new application")
	f.StringArrayVar(&o.Tags, "tag", nil, "`TAG` of the new application (repeats; default: the source's)")
	f.StringVar(&o.Mapping, "mapping", "", "`FILE` for a JSON object that maps old names to new ones")
	f.StringVar(&o.Manifests, "manifests-out", "", "`DIR` for the manifests with the new names")
	f.BoolVar(&o.Force, "force", false, "replace what is in --manifests-out")
	f.StringVar(&o.Trust, "trust", "", trustHelp)
	f.BoolVar(&o.Immutable, "immutable", false, immutableHelp)
	source.register(cmd, &o.Options)
	registerEnvironments(cmd, &o.Options)
	source.registerImages(cmd, &o.Options)
	return cmd
}

// outputTag splits -O REPOSITORY:TAG.
func outputTag(output string, tags []string) (string, []string, error) {
	repository, tag, err := app.SplitTag(output)
	if err != nil || tag == "" {
		return output, tags, err
	}
	if len(tags) > 0 {
		return "", nil, usagef("-O %s has a tag, and --tag is given: give one", output)
	}
	return repository, []string{tag}, nil
}

// relocateList relocates the applications in a list, one at a time.
func (a *program) relocateList(ctx context.Context, file string, o app.RelocateOptions, source *sourceFlags) error {
	return each(ctx, a, file, 1, 2, "SRC and, if it differs from -O, REPOSITORY[:TAG]", func(ctx context.Context, words []string) (*app.RelocateResult, error) {
		one := o
		one.Sources, one.Source = nil, words[0]
		if len(words) > 1 {
			var err error
			if one.Repository, one.Tags, err = outputTag(words[1], o.Tags); err != nil {
				return nil, err
			}
		}
		if err := source.to(&one.Options, words[:1]); err != nil {
			return nil, err
		}
		return app.Relocate(ctx, one)
	}, relocateText)
}

func relocateText(p *printer, r *app.RelocateResult) {
	from := map[string][]string{} // by new name
	for _, name := range sortedKeys(r.Mapping) {
		from[r.Mapping[name]] = append(from[r.Mapping[name]], name)
	}
	for _, name := range sortedKeys(from) {
		p.f("image     %s\n          from %s\n", name, strings.Join(from[name], "\n          and  "))
	}
	p.f("moved    ")
	p.f("%s\n", moved(r.Moved))
	if r.Root != nil {
		p.f("from      %s\nroot      %s\n", r.Root.From, r.Root.Ref)
		p.f("          a new root, which is not signed: tape sign %s --key FILE\n", r.Root.Ref)
	}
}
