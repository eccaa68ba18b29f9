// SPDX-License-Identifier: Apache-2.0

package transfer

import "sync"

// progressStep is how many bytes arrive between two reports.
const progressStep = 1 << 20

// Progress adds up the bytes of copiers, and of whoever else moves some. Its methods
// may be called concurrently, and of a nil one do nothing.
type Progress struct {
	report func(current, total int64)

	mu                      sync.Mutex
	current, total, unheard int64 // bytes; unheard arrived since the last report
}

// NewProgress makes a Progress. report hears how many bytes arrived, and of how many
// it is known that they are to come; one call at a time.
func NewProgress(report func(current, total int64)) *Progress { return &Progress{report: report} }

// Add tells of bytes that arrived, and of others that are to come. A negative number
// takes back what has to arrive again, or need not arrive.
func (p *Progress) Add(arrived, expected int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current += arrived
	p.total += expected
	if p.unheard += arrived; arrived > 0 && p.unheard < progressStep {
		return
	}
	p.unheard = 0
	p.report(p.current, p.total)
}

// End reports what was held back.
func (p *Progress) End() { p.Add(0, 0) }
