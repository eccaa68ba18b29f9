// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"sync"
	"time"
)

// Timer bounds how long operations with its context may take. Time that their requests spend
// waiting for their turn is not counted, because the registry does not cause it.
type Timer struct {
	end context.CancelCauseFunc

	mu      sync.Mutex
	timer   *time.Timer
	left    time.Duration // when it last ran or was stopped
	running time.Time     // when it was last started; zero: it is stopped
	waiting int           // requests that wait for their turn
	limit   time.Duration
}

type timerKey struct{}

// WithTimer returns a context that ends with cause once operations have taken d. The timer must
// be stopped by the caller.
func WithTimer(ctx context.Context, d time.Duration, cause error) (context.Context, *Timer) {
	ctx, end := context.WithCancelCause(ctx)
	t := &Timer{end: end, left: d, limit: d, running: time.Now()}
	t.timer = time.AfterFunc(d, func() { end(cause) })
	return context.WithValue(ctx, timerKey{}, t), t
}

// Stop ends the context, and returns how long the operations took.
func (t *Timer) Stop() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pause()
	t.end(nil)
	return t.limit - t.left
}

// pause stops the clock. The lock must be held.
func (t *Timer) pause() {
	if !t.running.IsZero() {
		t.timer.Stop()
		t.left -= time.Since(t.running)
		t.running = time.Time{}
	}
}

// waits stops the timer of a context, if it has one, until resume is called.
func waits(ctx context.Context) (resume func()) {
	t, ok := ctx.Value(timerKey{}).(*Timer)
	if !ok {
		return func() {}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting++
	t.pause()
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.waiting--; t.waiting == 0 && context.Cause(ctx) == nil {
			t.running = time.Now()
			t.timer.Reset(max(t.left, 0))
		}
	}
}
