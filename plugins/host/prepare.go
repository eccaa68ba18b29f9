// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"reflect"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// ahead is a process that was started before the checksum of its executable was known.
type ahead struct {
	description interpreter.Description
	process     chan *process // receives nil if the start failed
}

// Prepare starts a process in the background if the checksum has yet to be computed, which
// takes as long as the start. No call reaches the process before the checksum is known and
// the executable is the same as before. Prepare is for callers that accept any program at
// this path; it does nothing if Install recorded which program that is, or if no
// description is known. The process is killed if ctx ends before it is ready.
func (i *Interpreter) Prepare(ctx context.Context) {
	if _, known := i.exe.known(); known {
		return
	}
	if sum, err := installed(i.exe.path); err != nil || sum != "" {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.described == nil || i.ahead != nil || i.current != nil {
		return
	}
	a := &ahead{i.described.Description, make(chan *process, 1)}
	if i.host.background(func() {
		p, err := i.launch(ctx, a.description)
		if err != nil {
			i.host.opts.Log.Debug("cannot prepare an interpreter", "path", i.exe.path, "error", err)
		}
		a.process <- p
	}) {
		i.ahead = a
	}
}

// takeAhead returns the process that Prepare started, or nil if there is none that may be
// used: one with another description runs with the wrong environment, and an executable
// that changed may have been started as another program than the one with the checksum.
func (i *Interpreter) takeAhead(ctx context.Context, d interpreter.Description) *process {
	i.mu.Lock()
	a := i.ahead
	i.ahead = nil
	i.mu.Unlock()
	if a == nil {
		return nil
	}
	var p *process
	select {
	case p = <-a.process:
	case <-ctx.Done():
	}
	if p == nil {
		return nil
	}
	if id, err := inspect(i.exe.path); err != nil || id != i.exe.id || p.exited() || !reflect.DeepEqual(a.description, d) {
		p.stop()
		return nil
	}
	return p
}
