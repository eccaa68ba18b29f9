// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/manifests"
)

// maxPlaces bounds the positions in a report: names of files and objects, and JSON pointers,
// which repeat the keys above each image.
const maxPlaces = 64 << 20

// leastPlace is what a place counts at least, in bytes: what else is known of it.
const leastPlace = 256

// maxLooks bounds how often image fields are compared with values: each place of a path, and
// the conditions of its field. The built-in fields need a hundredth of it for the largest
// application; fields of a pipeline, and of statements, may need any number.
const maxLooks = 1 << 28

// budget is what an application may cost, beside what each of its documents may.
// Spending more is an error of the scan: what was not looked at may hold images.
type budget struct {
	growth  account             // values that aliases add
	places  account             // characters of positions
	looks   account             // comparisons of image fields with values
	parsing *semaphore.Weighted // in values; see weight
	fields  sync.Map            // indexes of the pipeline's image fields that there is something at
}

// account is what is left of a part of the budget.
type account struct {
	left  atomic.Int64
	limit string                 // what its end means
	file  atomic.Pointer[string] // that took the last of it; nil: something is left
}

// open sets what there is.
func (a *account) open(n int, limit string, args ...any) {
	a.left.Store(int64(n))
	a.limit = fmt.Sprintf(limit, args...)
}

// take takes some for a file, and reports whether there was enough.
func (a *account) take(file string, n int) bool {
	left := a.left.Add(-int64(n))
	if left < 0 && left+int64(n) >= 0 {
		a.file.Store(&file)
	}
	return left >= 0
}

func newBudget(in []files.File) *budget {
	b := &budget{parsing: semaphore.NewWeighted(manifests.MaxValues)}
	written := 0
	for _, f := range in {
		written += len(f.Data)
	}
	b.growth.open(manifests.MaxGrowth*written/16+manifests.FreeApplicationGrowth,
		"aliases and merge keys add more than %d values to the manifests, and %d for every 16 bytes of them: write them out",
		manifests.FreeApplicationGrowth, manifests.MaxGrowth)
	b.places.open(maxPlaces,
		"the places of the images of the manifests, and the names and keys above them, have more than %d MiB: shorten the keys, or make several applications",
		maxPlaces>>20)
	b.looks.open(maxLooks,
		"the values of the manifests are compared with the image fields of the pipeline more than %d times: use fewer fields, or paths with fewer **",
		maxLooks)
	return b
}

// pointer returns the JSON pointer of what is below another one in a file. It returns false if
// the positions in the application, each with what else is known there, have too many characters.
func (b *budget) pointer(file string, known int, above string, path []string) (string, bool) {
	size := leastPlace + len(file) + known + len(above)
	for _, key := range path {
		size += len("/") + len(key)
	}
	if !b.places.take(file, size) {
		return "", false
	}
	var out strings.Builder
	out.WriteString(above)
	for _, key := range path {
		out.WriteByte('/')
		out.WriteString(manifests.EscapePointer(key))
	}
	return out.String(), true
}

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

// err returns what was spent too much of, as an error.
func (b *budget) err() error {
	for _, a := range []*account{&b.growth, &b.places, &b.looks} {
		if file := a.file.Load(); file != nil {
			return fmt.Errorf("%s: with those of this file, %s", *file, a.limit)
		}
	}
	return nil
}
