// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"container/list"
	"context"
	"sync"

	"github.com/taped-dev/tape/internal/atonce"
)

const firstLimit = 16

// limiter bounds concurrent operations. The bound doubles each time that as many operations
// succeeded in a row without being throttled. After a throttled one it is halved, and then
// grows by one.
type limiter struct {
	mu      sync.Mutex
	limit   int
	busy    int
	fixed   bool
	row     int       // successes since the bound changed or an operation was throttled
	slow    bool      // an operation was throttled
	earlier int       // operations under way when the bound was halved
	waiting list.List // of chan struct{}, closed when its turn comes
}

func newLimiter(fixed int) *limiter {
	if fixed > 0 {
		return &limiter{limit: fixed, fixed: true}
	}
	return &limiter{limit: firstLimit}
}

// acquire waits for a place, in order.
func (l *limiter) acquire(ctx context.Context) error {
	l.mu.Lock()
	if l.busy < l.limit && l.waiting.Len() == 0 {
		l.busy++
		l.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	place := l.waiting.PushBack(turn)
	l.mu.Unlock()

	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		select {
		case <-turn: // a place arrived meanwhile and is passed on
			l.busy--
		default:
			l.waiting.Remove(place)
		}
		l.admit()
		return context.Cause(ctx)
	}
}

func (l *limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	l.admit()
}

// admit lets in as many waiters as there are places.
func (l *limiter) admit() {
	for l.busy < l.limit && l.waiting.Len() > 0 {
		l.busy++
		close(l.waiting.Remove(l.waiting.Front()).(chan struct{}))
	}
}

func (l *limiter) succeeded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.earlier = max(l.earlier-1, 0)
	l.row++
	if l.fixed || l.row < l.limit || l.limit == atonce.Requests {
		return
	}
	l.row = 0
	if l.slow {
		l.limit++
	} else {
		l.limit = min(2*l.limit, atonce.Requests)
	}
	l.admit()
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
	l.limit, l.slow, l.earlier = max(l.limit/2, 1), true, l.busy-1
}
