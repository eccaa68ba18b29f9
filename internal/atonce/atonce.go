// SPDX-License-Identifier: Apache-2.0

// Package atonce decides how much is done concurrently wherever code mostly waits for a
// registry, a disk or another process. CPU-bound work uses as many goroutines as there are
// processors.
package atonce

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"
)

const (
	// Requests bounds the concurrent requests to a registry. Its client finds out how many of
	// them the registry accepts, and keeps to that whatever is started concurrently.
	Requests = 64
	// Tasks is how many tasks of one request each are started concurrently: twice as many, so
	// that one is ready whenever a registry has answered.
	Tasks = 2 * Requests
	// Streams is how many blobs or lists are read concurrently beside other work, which is left
	// half of the requests.
	Streams = Requests / 2
	// Applications is how many applications are processed concurrently.
	Applications = 16
	// Files is how many files are written to a disk concurrently.
	Files = 16
	// Copies is how many images or repositories are copied concurrently, each with everything in
	// it.
	Copies = 8
	// Renders is how many sources are rendered concurrently, each by a process.
	Renders = 4
)

// Stages is how many stages run concurrently. Even on a small machine several do, because most
// are waiting.
func Stages() int { return max(runtime.GOMAXPROCS(0), 4) }

// Each calls a function for every element of a list, with its index. At most limit calls run at
// once; a limit of 0 means any number. The first error cancels the context of the calls; Each
// returns it when all of them have ended.
func Each[T any](ctx context.Context, limit int, list []T, do func(ctx context.Context, i int, v T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	if limit > 0 {
		group.SetLimit(limit)
	}
	for i, v := range list {
		group.Go(func() error { return do(ctx, i, v) })
	}
	return group.Wait()
}
