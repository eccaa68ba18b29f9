// SPDX-License-Identifier: Apache-2.0

package engine

import "sync"

// queue passes events to a function in a separate goroutine, in order. A slow function does not
// delay anything else: it only receives the latest progress event of each item.
type queue struct {
	handle func(Event)
	done   chan struct{}

	mu     sync.Mutex
	ready  *sync.Cond // an event waits, or the queue is closed
	events []Event
	// progress is the index in events of the latest waiting progress event of an item.
	progress map[[2]string]int
	closed   bool
}

// newQueue starts a queue, which must be closed by the caller.
func newQueue(handle func(Event)) *queue {
	q := &queue{handle: handle, done: make(chan struct{}), progress: map[[2]string]int{}}
	q.ready = sync.NewCond(&q.mu)
	go q.run()
	return q
}

// put adds an event without blocking. After close it does nothing.
func (q *queue) put(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	item := [2]string{e.Node, e.Item}
	if e.State != "" || e.Message != "" {
		delete(q.progress, item) // a later event must not overtake the next one
	} else if at, waits := q.progress[item]; waits {
		q.events[at] = e
		return
	} else {
		q.progress[item] = len(q.events)
	}
	q.events = append(q.events, e)
	q.ready.Signal()
}

// close waits until all events have been passed on.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.ready.Signal()
	q.mu.Unlock()
	<-q.done
}

func (q *queue) run() {
	defer close(q.done)
	for {
		q.mu.Lock()
		for len(q.events) == 0 && !q.closed {
			q.ready.Wait()
		}
		events := q.events
		q.events = nil
		clear(q.progress)
		q.mu.Unlock()
		if len(events) == 0 {
			return
		}
		for _, e := range events {
			q.handle(e)
		}
	}
}
