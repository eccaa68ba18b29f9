// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"container/list"
	"context"
	"sync"
)

const (
	firstLimit = 16
	maxLimit   = 64
)

// limiter bounds how many do something at once. The bound doubles each time that
// as many succeeded in a row, as long as nobody was told to slow down. Then it is
// halved, and grows by one from there.
type limiter struct {
	mu      sync.Mutex
	limit   int
	busy    int
	fixed   bool
	row     int       // successes since the bound changed or somebody was told to slow down
	slow    bool      // somebody was told to slow down
	earlier int       // that were under way when the bound was halved
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
		case <-turn: // it came meanwhile: the next one has it
			l.busy--
			l.admit()
		default:
			l.waiting.Remove(place)
			l.admit()
		}
		return context.Cause(ctx)
	}
}

func (l *limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	l.admit()
}

// admit lets in as many as there are places.
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
	if l.fixed || l.row < l.limit || l.limit == maxLimit {
		return
	}
	l.row = 0
	if l.slow {
		l.limit++
	} else {
		l.limit = min(2*l.limit, maxLimit)
	}
	l.admit()
}

// throttled halves the bound, once for all that were under way together.
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
