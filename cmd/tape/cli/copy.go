// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages/app"
)

func (a *program) copyCommand() *cobra.Command {
	var (
		o    app.CopyOptions
		file string
	)
	cmd := &cobra.Command{
		Use:         "copy SRC DST",
		Short:       "Copy an application byte for byte, with its signatures",
		Annotations: resumable,
		Example: `  tape copy registry.example.com/team/podinfo:v1.2.3 \
    registry.example.org/mirror/podinfo
  tape copy registry.example.com/team/podinfo:v1.2.3 oci:./podinfo
  tape copy registry.example.com/team/podinfo:v1.2.3 archive:podinfo.tar
  tape copy --from-file LIST       # SRC DST a line`,
		Long: `Copies the root, the images, everything attached to them and every tag, between
registries, OCI layouts and archives. Digests do not change, so signatures
remain valid. Existing content is not sent again, so an interrupted copy can be
continued. Other artifacts and images can be copied as well.`,
		Args: argsRange(0, 2),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) error {
			list, err := a.copyList(file, args)
			if err != nil {
				return err
			}
			o.Environment = env
			for _, l := range list {
				o.Pairs = append(o.Pairs, app.CopyPair{Source: l.words[0], Target: l.words[1]})
			}
			results, err := app.Copy(ctx, o)
			a.settle()
			for _, r := range results {
				a.copyNotes(r)
			}
			if file != "" {
				return a.copied(ctx, list, results, err)
			}
			if err != nil {
				return err
			}
			return a.print(results[0], func(p *printer) { copyText(p, "copied", results[0]) })
		}),
	}
	cmd.Flags().StringVar(&file, "from-file", "", "copy what `FILE` lists, one SRC DST per line, concurrently; - is stdin")
	cmd.Flags().BoolVar(&o.Check, "check", false, checkHelp)
	cmd.Flags().StringVar(&o.Trust, "trust", "", trustHelp)
	cmd.Flags().BoolVar(&o.Immutable, "immutable", false, immutableHelp)
	return cmd
}

const immutableHelp = "fail, before anything is written, if a tag would be moved"

const checkHelp = "check that existing content is complete, instead of trusting it"

// copyList returns what to copy and where to, from the arguments or the lines of a file.
func (a *program) copyList(file string, args []string) ([]line, error) {
	if file == "" {
		if len(args) != 2 {
			return nil, usagef("copy takes SRC and DST, or --from-file LIST")
		}
		return []line{{words: args}}, nil
	}
	if len(args) > 0 {
		return nil, usagef("give SRC and DST or --from-file, not both")
	}
	return a.readList(file, 2, 2, "SRC and DST")
}

// copied prints the result of each line of a list.
func (a *program) copied(ctx context.Context, list []line, results []app.CopyResult, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	b := newBatch("line")
	for _, r := range results {
		if a.flags.output == "text" {
			if err := a.text(func(p *printer) { copyText(p, "copied", r) }); err != nil {
				return err
			}
		}
		b.Results = append(b.Results, r)
	}
	for _, failed := range app.CopyErrors(err) {
		b.fail(a, list[failed.Pair], nil, failed.Err)
	}
	return a.total(b)
}

// copyNotes prints notes about a copy.
func (a *program) copyNotes(r app.CopyResult) {
	for _, warning := range r.Warnings {
		a.warn("%s: %s", r.Ref, warning)
	}
	if r.PointsTo != "" {
		a.note("the manifests of %s still point to %s; 'tape relocate' points them elsewhere", r.Ref, r.PointsTo)
	}
}

func copyText(p *printer, did string, r app.CopyResult) {
	p.f("%s %s\n      ", did, r.Ref)
	p.f("%s\n", moved(r.Moved))
}
