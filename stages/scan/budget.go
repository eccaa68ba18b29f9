// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/manifests"
)

// maxPlaces bounds what a report says of places: names of files and objects, and
// JSON pointers, which repeat the keys above each image.
const maxPlaces = 64 << 20

// leastPlace is what a place counts at least, in bytes: what else is known of it.
const leastPlace = 256

// budget is what an application may cost, beside what each of its documents may.
// Spending more is an error of the scan: what was not looked at may hold images.
type budget struct {
	growth, places atomic.Int64        // what is left
	parsing        *semaphore.Weighted // in values; see weight
}

func newBudget(in []files.File) *budget {
	b := &budget{parsing: semaphore.NewWeighted(manifests.MaxValues)}
	written := 0
	for _, f := range in {
		written += len(f.Data)
	}
	b.growth.Store(int64(manifests.MaxGrowth*written/16 + manifests.FreeApplicationGrowth))
	b.places.Store(maxPlaces)
	return b
}

// grow counts the values that aliases add, and reports whether they may be.
func (b *budget) grow(values int) bool { return b.growth.Add(-int64(values)) >= 0 }

// say counts characters that are said of a place, and reports whether they may be.
func (b *budget) say(characters int) bool { return b.places.Add(-int64(characters)) >= 0 }

// parse does what parses pieces of a file when there is memory for their values.
func (b *budget) parse(ctx context.Context, pieces []*manifests.Text, do func()) error {
	weight := min(weight(pieces), manifests.MaxValues)
	if err := b.parsing.Acquire(ctx, weight); err != nil {
		return context.Cause(ctx)
	}
	defer b.parsing.Release(weight)
	do()
	return nil
}

// weight returns what pieces take to parse, in values: their trees are much larger than
// their text, and long comments and scalars are in memory several times.
func weight(pieces []*manifests.Text) int64 {
	n := 0
	for _, p := range pieces {
		n += p.Values() + len(p.String)/16
	}
	return int64(n)
}

// err is what was spent too much of.
func (b *budget) err() error {
	switch {
	case b.growth.Load() < 0:
		return fmt.Errorf("aliases and merge keys add more than %d values to the manifests, and %d for every 16 bytes of them: write them out",
			manifests.FreeApplicationGrowth, manifests.MaxGrowth)
	case b.places.Load() < 0:
		return fmt.Errorf("the places of the images of the manifests, with the names and keys above them, have more than %d MiB together: shorten the keys, or make several applications", maxPlaces>>20)
	}
	return nil
}
