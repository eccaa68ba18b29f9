// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/taped-dev/tape/internal/atonce"
)

const firstLimit = 16

// limiter bounds concurrent operations. The bound doubles each time that as many operations
// succeeded in a row without being throttled. After a throttled one it is halved, and then
// grows by one.
type limiter struct {
	places *semaphore.Weighted
	most   int // how many places there are
	fixed  bool

	mu      sync.Mutex
	limit   int
	kept    int // places above the limit, which no operation gets
	busy    int
	row     int  // successes since the bound changed or an operation was throttled
	slow    bool // an operation was throttled
	earlier int  // operations under way when the bound was halved
}

// newLimiter returns a limiter with a bound that does not change, or with 0 one that does.
func newLimiter(fixed int) *limiter {
	if fixed > 0 {
		return &limiter{places: semaphore.NewWeighted(int64(fixed)), most: fixed, limit: fixed, fixed: true}
	}
	l := &limiter{places: semaphore.NewWeighted(atonce.Requests), most: atonce.Requests}
	l.bound(firstLimit)
	return l
}

// bound sets the bound. Operations under way above it keep their places until they end.
func (l *limiter) bound(limit int) {
	l.limit = limit
	for ; l.kept > l.most-limit; l.kept-- {
		l.places.Release(1)
	}
	for l.kept < l.most-limit && l.places.TryAcquire(1) {
		l.kept++
	}
}

// acquire waits for a place, in order.
func (l *limiter) acquire(ctx context.Context) error {
	if l.places.Acquire(ctx, 1) != nil {
		return context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy++
	return nil
}

func (l *limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	if l.kept < l.most-l.limit {
		l.kept++
		return
	}
	l.places.Release(1)
}

func (l *limiter) succeeded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.earlier = max(l.earlier-1, 0)
	if l.row++; l.row < l.limit || l.limit == l.most {
		return
	}
	l.row = 0
	if l.slow {
		l.bound(l.limit + 1)
	} else {
		l.bound(min(2*l.limit, l.most))
	}
}

// throttled halves the bound, once for all operations that were under way together.
func (l *limiter) throttled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.row = 0
	if l.fixed {
		return
	}
	if l.earlier > 0 {
		l.earlier--
		return
	}
	l.slow, l.earlier = true, l.busy-1
	l.bound(max(l.limit/2, 1))
}
