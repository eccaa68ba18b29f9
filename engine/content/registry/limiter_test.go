// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestLimiterBound(t *testing.T) {
	steps := func(l *limiter, steps string) {
		for _, step := range steps {
			switch step {
			case 's':
				l.succeeded()
			case 't':
				l.throttled()
			case 'S': // as many as the limit
				for range l.limit {
					l.succeeded()
				}
			case '+':
				if err := l.acquire(t.Context()); err != nil {
					t.Fatal(err)
				}
			case '-':
				l.release()
			}
		}
	}
	tests := []struct {
		name  string
		fixed int
		steps string
		want  int
	}{
		{"begins", 0, "", 16},
		{"doubles", 0, "S", 32},
		{"doubles twice", 0, "SS", 64},
		{"ends", 0, "SSSS", 64},
		{"halves", 0, "SSt", 32},
		{"halves once for what was under way", 0, "SS++++tttt", 32},
		{"halves again for what began later", 0, "SS++++ttttt", 16},
		{"what was under way may succeed", 0, "SS+++tsst", 16},
		{"grows by one afterwards", 0, "SStSS", 34},
		{"a success between is not enough", 0, "SStsss", 32},
		{"never stops", 0, "ttttttttt", 1},
		{"comes back", 0, "tttttttttS", 2},
		{"is fixed", 5, "SSttt", 5},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLimiter(test.fixed)
			steps(l, test.steps)
			if l.limit != test.want {
				t.Errorf("limit %d, want %d", l.limit, test.want)
			}
		})
	}
}

// A bound that shrinks is kept to as soon as operations end, and one that grows is used at once.
func TestLimiterPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, begun := newLimiter(0), new(atomic.Int64)
		for range 100 {
			go func() {
				if err := l.acquire(t.Context()); err == nil {
					begun.Add(1)
				}
			}()
			synctest.Wait()
		}
		check := func(what string, want int64) {
			t.Helper()
			if synctest.Wait(); begun.Load() != want {
				t.Errorf("%s: %d have begun, want %d", what, begun.Load(), want)
			}
		}
		check("at first", 16)
		for range 16 {
			l.succeeded()
		}
		check("doubled", 32)
		l.throttled()
		for range 16 {
			l.release()
		}
		check("halved", 32)
		l.release()
		check("after that", 33)
	})
}

func TestLimiterOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1)
		if err := l.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		var order []int
		stop := errors.New("stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		for i := range 4 {
			go func() {
				if i == 1 {
					if err := l.acquire(ctx); !errors.Is(err, stop) {
						t.Errorf("got %v", err)
					}
					return
				}
				if err := l.acquire(t.Context()); err != nil {
					t.Error(err)
				}
				order = append(order, i)
			}()
			synctest.Wait()
		}
		cancel(stop) // a cancelled waiter does not block others
		synctest.Wait()
		for range 3 {
			l.release()
			synctest.Wait()
		}
		if len(order) != 3 || order[0] != 0 || order[1] != 2 || order[2] != 3 {
			t.Errorf("order %v", order)
		}
		l.release()
		if l.busy != 0 || !l.places.TryAcquire(1) {
			t.Errorf("%d busy", l.busy)
		}
	})
}
