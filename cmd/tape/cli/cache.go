// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/engine/content/store"
)

func (a *program) cacheCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cache",
		Short:   "Show or prune what is kept between runs",
		Example: "  tape cache info\n  tape cache prune --older 168h",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.cacheInfoCommand(), a.cachePruneCommand())
	return cmd
}

func (a *program) cacheInfoCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "info",
		Short:   "Show what is kept, and where",
		Example: "  tape cache info -o json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.settings().StoreDir()
			if err != nil {
				return err
			}
			kept, err := store.Open(cmd.Context(), dir, store.Options{})
			if err != nil {
				return err
			}
			a.closers = append(a.closers, kept.Close)
			usage, err := kept.Usage(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(usage, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s\n  results     %d\n  blobs       %d, %s\n  unfinished  %d, %s\n", usage.Dir,
					usage.Results, usage.Blobs, show.Bytes(usage.Bytes), usage.Ingests, show.Bytes(usage.IngestBytes))
				return err
			})
		},
	}
}

func (a *program) cachePruneCommand() *cobra.Command {
	var (
		o     store.PruneOptions
		limit string
	)
	cmd := &cobra.Command{
		Use:     "prune",
		Short:   "Remove what is not worth keeping",
		Example: "  tape cache prune\n  tape cache prune --older 168h --max-size 1GiB\n  tape cache prune --all",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.MaxBytes, err = parseSize(limit); err != nil {
				return err
			}
			if o.MaxAge < 0 {
				return usagef("--older %s: want a time such as 168h", o.MaxAge)
			}
			dir, err := a.settings().StoreDir()
			if err != nil {
				return err
			}
			pruned, err := store.Prune(cmd.Context(), dir, o)
			if err != nil {
				return err
			}
			return a.print(pruned, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "removed %d results, %d blobs and %d unfinished writes: %s\n",
					pruned.Results, pruned.Blobs, pruned.Ingests, show.Bytes(pruned.Bytes))
				return err
			})
		},
	}
	cmd.Flags().DurationVar(&o.MaxAge, "older", 30*24*time.Hour, "results not used for this long go")
	cmd.Flags().StringVar(&limit, "max-size", "", "keep at most this much, such as 500MiB: the least recently used go first")
	cmd.Flags().BoolVar(&o.All, "all", false, "everything goes")
	return cmd
}

// parseSize reads 500MiB, 1GiB, 1000 (bytes); "" is 0.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	number, factor := s, int64(1)
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n, ok := strings.CutSuffix(s, unit); ok {
			number, factor = n, int64(1)<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return 0, usagef("%q is no size: want bytes, or a number with KiB, MiB, GiB or TiB", s)
	}
	return n * factor, nil
}
