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

// maxPlaces limits the size of the positions in a report, in characters: names of files and
// objects, and JSON pointers, which repeat the keys above each image.
const maxPlaces = 64 << 20

// leastPlace is the minimum size of a position, in bytes, which covers what else is recorded with
// it.
const leastPlace = 256

// maxLooks limits the number of comparisons of image fields with values: each place of a path,
// and the conditions of its field. With the built-in fields, the largest application needs a
// hundredth of that; fields from a pipeline or a statement may need any number.
const maxLooks = 1 << 28

// budget limits the cost of an application, in addition to the limits of each document. Exceeding
// it is an error of the scan, because the rest may contain images.
type budget struct {
	growth  account             // values that aliases add
	places  account             // characters of positions
	looks   account             // comparisons of image fields with values
	parsing *semaphore.Weighted // in values; see weight
	fields  sync.Map            // indexes of the image fields of the pipeline that matched something
}

// account is what remains of a part of the budget.
type account struct {
	left  atomic.Int64
	limit string                 // the error text when it is used up
	file  atomic.Pointer[string] // the file that used it up; nil if something is left
}

// open sets the initial amount.
func (a *account) open(n int, limit string, args ...any) {
	a.left.Store(int64(n))
	a.limit = fmt.Sprintf(limit, args...)
}

// take takes n for a file, and reports whether enough was left.
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

// pointer returns the JSON pointer of path below the pointer above. It returns false if the
// positions in the application, including what else is recorded with each, have too many
// characters.
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

// parse calls do, which parses pieces of a file, when there is enough memory for their values.
func (b *budget) parse(ctx context.Context, pieces []*manifests.Text, do func()) error {
	weight := min(weight(pieces), manifests.MaxValues)
	if err := b.parsing.Acquire(ctx, weight); err != nil {
		return context.Cause(ctx)
	}
	defer b.parsing.Release(weight)
	do()
	return nil
}

// weight returns the cost of parsing pieces, in values: their trees are much larger than their
// text, and long comments and scalars are in memory several times.
func weight(pieces []*manifests.Text) int64 {
	n := 0
	for _, p := range pieces {
		n += p.Values() + len(p.String)/16
	}
	return int64(n)
}

// err returns an error if a part of the budget is used up.
func (b *budget) err() error {
	for _, a := range []*account{&b.growth, &b.places, &b.looks} {
		if file := a.file.Load(); file != nil {
			return fmt.Errorf("%s: with those of this file, %s", *file, a.limit)
		}
	}
	return nil
}
