// SPDX-License-Identifier: Apache-2.0

package transfer

import "sync"

// progressStep is how many bytes arrive between two reports.
const progressStep = 1 << 20

// Progress adds up the bytes that copiers, and other code, move. Its methods may be called
// concurrently, and do nothing if it is nil.
type Progress struct {
	report func(current, total int64)

	mu                      sync.Mutex
	current, total, unheard int64 // bytes; unheard is what arrived since the last report
}

// NewProgress returns a Progress. report is called, one call at a time, with the number of
// bytes that arrived and the number that is known to be needed.
func NewProgress(report func(current, total int64)) *Progress { return &Progress{report: report} }

// Add records bytes that arrived and bytes that are needed. A negative number takes back bytes
// that must arrive again, or are no longer needed.
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

// End reports the rest.
func (p *Progress) End() { p.Add(0, 0) }
