// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/engine/cache/remote"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/internal/size"
	"github.com/taped-dev/tape/stages/app"
)

func (a *program) cacheCommand() *cobra.Command {
	return group("cache", "Show or prune the cache",
		"  tape cache info\n  tape cache prune --older 168h",
		a.cacheInfoCommand(), a.cachePruneCommand())
}

// cacheFlags configure where results are shared.
type cacheFlags struct {
	repository string
	key        string
	trust      []string
	keep       time.Duration
	readOnly   bool
}

func (f *cacheFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.repository, "cache", "", "share rendering results with other machines, in `REPOSITORY` of a registry")
	fl.StringVar(&f.key, "cache-key", "", "private key to sign shared results with: `FILE`, env://NAME, or - for stdin")
	f.registerTrust(cmd)
	fl.DurationVar(&f.keep, "cache-keep", remote.DefaultKeep, "how long a shared result is used")
	fl.BoolVar(&f.readOnly, "cache-read-only", false, "use shared results, but add none")
}

func (f *cacheFlags) registerTrust(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.trust, "cache-trust", nil, "use only shared results signed by the public key in `FILE`, or by --cache-key (repeats)")
}

// cache opens the cache that the flags name, or returns nil if they name none.
func (a *program) cache(ctx context.Context, f *cacheFlags, env app.Environment) (*remote.Cache, error) {
	switch {
	case f.keep < 0:
		return nil, usagef("--cache-keep %s: want a time such as 168h", f.keep)
	case f.repository == "" && (f.key != "" || len(f.trust) > 0 || f.readOnly):
		return nil, usagef("--cache-key, --cache-trust and --cache-read-only require --cache")
	case f.repository == "":
		return nil, nil
	}
	s := app.CacheSettings{Repository: f.repository, Trust: f.trust, Keep: f.keep, ReadOnly: f.readOnly}
	if f.key != "" {
		var err error
		if s.Signer, err = a.signer(ctx, f.key); err != nil {
			return nil, err
		}
	}
	return env.OpenCache(s)
}

// shared opens the cache in a repository given as an argument, with the flags that select whose
// results are trusted.
func (a *program) shared(cmd *cobra.Command, f *cacheFlags, repository string) (*remote.Cache, error) {
	env, err := a.environment(cmd.Context())
	if err != nil {
		return nil, err
	}
	f.repository = repository
	return a.cache(cmd.Context(), f, env)
}

func (a *program) cacheInfoCommand() *cobra.Command {
	var flags cacheFlags
	cmd := &cobra.Command{
		Use:     "info [REPOSITORY]",
		Short:   "Show the size of the cache, on this machine or in a repository",
		Example: "  tape cache info -o json\n  tape cache info registry.example.com/ci/tape-cache",
		Args:    argsRange(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				if len(flags.trust) > 0 {
					return usagef("--cache-trust requires a REPOSITORY")
				}
				return a.cacheInfo(cmd.Context())
			}
			cache, err := a.shared(cmd, &flags, args[0])
			if err != nil {
				return err
			}
			return printed(a, func(p *printer, info *remote.Info) {
				p.f("%s\n  entries     %d, %s\n", info.Repository, info.Entries, show.Bytes(info.Bytes))
				for _, state := range []remote.State{remote.Usable, remote.Expired, remote.Unusable} {
					p.f("  %-11s %d\n", state, info.States[state])
				}
				if !info.Oldest.IsZero() {
					p.f("  from        %s to %s\n", info.Oldest.Format(time.RFC3339), info.Newest.Format(time.RFC3339))
				}
			})(cache.Info(cmd.Context()))
		},
	}
	flags.registerTrust(cmd)
	return cmd
}

func (a *program) cacheInfo(ctx context.Context) error {
	dir, err := a.settings().StoreDir()
	if err != nil {
		return err
	}
	kept, err := store.Open(ctx, dir, store.Options{})
	if err != nil {
		return err
	}
	a.closers = append(a.closers, kept.Close)
	return printed(a, func(p *printer, usage store.Usage) {
		p.f("%s\n  results     %d\n  blobs       %d, %s\n  unfinished  %d, %s\n", usage.Dir,
			usage.Results, usage.Blobs, show.Bytes(usage.Bytes), usage.Ingests, show.Bytes(usage.IngestBytes))
	})(kept.Usage(ctx))
}

func (a *program) cachePruneCommand() *cobra.Command {
	var (
		o      store.PruneOptions
		limit  string
		flags  cacheFlags
		dryRun bool
	)
	cmd := &cobra.Command{
		Use:   "prune [REPOSITORY]",
		Short: "Remove old and unused entries from the cache",
		Example: "  tape cache prune\n  tape cache prune --older 168h --max-size 1GiB\n  tape cache prune --all\n" +
			"  tape cache prune registry.example.com/ci/tape-cache --dry-run",
		Long: `Removes entries on this machine that were not used for a while or, in a
repository, entries that have expired or cannot be used.`,
		Args: argsRange(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.MaxBytes, err = parseSize(limit); err != nil {
				return err
			}
			if o.MaxAge < 0 {
				return usagef("--older %s: want a time such as 168h", o.MaxAge)
			}
			if len(args) == 0 {
				if dryRun || len(flags.trust) > 0 {
					return usagef("--dry-run and --cache-trust require a REPOSITORY")
				}
				return a.cachePrune(cmd.Context(), o)
			}
			if limit != "" {
				return usagef("--max-size cannot be combined with a REPOSITORY, which does not record what is used")
			}
			cache, err := a.shared(cmd, &flags, args[0])
			if err != nil {
				return err
			}
			of := remote.PruneOptions{All: o.All, DryRun: dryRun}
			if cmd.Flags().Changed("older") {
				of.MaxAge = o.MaxAge
			}
			return printed(a, func(p *printer, pruned *remote.Pruned) {
				did := "removed"
				if dryRun {
					did = "would remove"
				}
				p.f("%s %s with %s, and left %d\n", did, count.Of(len(pruned.Removed), "entry"), show.Bytes(pruned.Bytes), pruned.Left)
			})(cache.Prune(cmd.Context(), of))
		},
	}
	cmd.Flags().DurationVar(&o.MaxAge, "older", 30*24*time.Hour, "remove entries that were not used for this long; in a repository, entries that were added this long ago (default: only unusable ones)")
	cmd.Flags().StringVar(&limit, "max-size", "", "keep at most this much, such as 500MB or 1GiB; the least recently used entries are removed first")
	cmd.Flags().BoolVar(&o.All, "all", false, "remove everything")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "with a repository: list what would be removed, and remove nothing")
	flags.registerTrust(cmd)
	return cmd
}

func (a *program) cachePrune(ctx context.Context, o store.PruneOptions) error {
	dir, err := a.settings().StoreDir()
	if err != nil {
		return err
	}
	return printed(a, func(p *printer, pruned store.Pruned) {
		p.f("removed %s, %s and %s: %s\n", count.Of(pruned.Results, "result"), count.Of(pruned.Blobs, "blob"),
			count.Of(pruned.Ingests, "unfinished write"), show.Bytes(pruned.Bytes))
	})(store.Prune(ctx, dir, o))
}

// parseSize parses the value of a flag: 500MB, 1GiB, 1000 (bytes); "" is 0.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := size.Parse(s)
	if err != nil {
		return 0, usagef("%q is not a size: want bytes, a number with MB, GB or TB (powers of 1000), or with MiB, GiB or TiB (of 1024)", s)
	}
	return n, nil
}
