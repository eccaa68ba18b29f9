// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages"
	"github.com/taped-dev/tape/stages/artifact"
)

func (a *app) relocateCommand() *cobra.Command {
	var (
		source sourceFlags
		o      stages.RelocateOptions
	)
	cmd := &cobra.Command{
		Use:         "relocate SRC",
		Short:       "Copy images to other names, and point the manifests there",
		Annotations: goesOn,
		Example: `  tape relocate podinfo.tar -O registry.inside.example/team/podinfo
  tape relocate registry.example.com/team/podinfo:v1.2.3 \
    --prefix registry.inside.example/user \
    -O registry.inside.example/user/podinfo
  tape relocate ./kustomize --prefix registry.inside.example/user \
    --manifests-out ./inside --mapping images.json`,
		Long: `SRC is an application, in a registry, an archive or an OCI layout, or else
manifests as package takes them. Digests stay. Below --prefix every image gets a
repository of its own, named after it; --naming single puts all of them into
one. With -O a new application is made, which holds the images too and says what
it was made of.`,
		Args: argsRange(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("relocate takes SRC: an application, or manifests")
			}
			if o.Prefix == "" && o.Repository == "" {
				return usagef("no place to relocate to: give --prefix, -O, or both")
			}
			if o.Repository == "" && len(o.Tags) > 0 {
				return usagef("--tag goes with -O")
			}
			o.Source = args[0]
			if err := source.to(&o.Options, args); err != nil {
				return err
			}
			env, err := a.environment(cmd.Context())
			if err != nil {
				return err
			}
			o.Environment = env
			result, err := stages.Relocate(cmd.Context(), o)
			if err != nil {
				return err
			}
			a.settle()
			return a.print(result, func(w io.Writer) error { return relocateText(w, result) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Prefix, "prefix", "", "`PREFIX` of the images' new names, such as registry.example.com/user")
	f.StringVar(&o.Naming, "naming", "", "one-to-one (below --prefix), or single (all in one repository)")
	f.StringVarP(&o.Repository, "output-image", "O", "", "`REPOSITORY` for a new application")
	f.StringArrayVar(&o.Tags, "tag", nil, "`TAG` of the new application (repeats; default: the source's)")
	f.StringVar(&o.Mapping, "mapping", "", "`FILE` for a JSON object of old names to new ones")
	f.StringVar(&o.Manifests, "manifests-out", "", "`DIR` for the manifests with the new names")
	f.BoolVar(&o.Force, "force", false, "replace what is in --manifests-out")
	f.BoolVar(&o.Immutable, "immutable", false, immutableHelp)
	source.register(cmd)
	source.registerImages(cmd)
	return cmd
}

func relocateText(w io.Writer, r *stages.RelocateResult) error {
	p := &printer{w: w}
	from := map[string][]string{} // by the new name
	for _, name := range sortedKeys(r.Mapping) {
		from[r.Mapping[name]] = append(from[r.Mapping[name]], name)
	}
	for _, name := range sortedKeys(from) {
		p.f("image     %s\n          from %s\n", name, strings.Join(from[name], "\n          and  "))
	}
	p.f("moved     %d blobs, %s", r.Moved.Blobs, artifact.Bytes(r.Moved.Bytes))
	if r.Moved.Mounted+r.Moved.Existing > 0 {
		p.f(" (%d mounted, %d there already)", r.Moved.Mounted, r.Moved.Existing)
	}
	p.f("\n")
	if r.Root != nil {
		p.f("from      %s\nroot      %s\n", r.Root.From, r.Root.Ref)
		p.f("          a new root, which nobody signed: tape sign %s --key FILE\n", r.Root.Ref)
	}
	return p.err
}
