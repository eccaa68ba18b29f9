// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// guarded calls an interpreter that may panic, return nil, or not return at all.
type guarded struct {
	impl    interpreter.Interpreter
	timeout time.Duration
}

// crashError reports that an interpreter panicked or hung instead of returning an error.
type crashError struct{ what string }

func (e *crashError) Error() string { return e.what }

// crash returns err if it is a crashError, and nil otherwise.
func crash(err error) error {
	if c, ok := errors.AsType[*crashError](err); ok {
		return c
	}
	return nil
}

func call[T any](ctx context.Context, timeout time.Duration, f func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1) // buffered, so that a late answer does not block
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a.err = &crashError{fmt.Sprintf("panicked: %v", p)}
			}
			answers <- a
		}()
		a.value, a.err = f(ctx)
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-timer.C:
		var none T
		return none, &crashError{fmt.Sprintf("did not return within %s", timeout)}
	}
}

func (g *guarded) Describe(ctx context.Context) (interpreter.Description, error) {
	return call(ctx, g.timeout, g.impl.Describe)
}

func (g *guarded) Inputs(ctx context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	resp, err := call(ctx, g.timeout, func(ctx context.Context) (*interpreter.InputsResponse, error) { return g.impl.Inputs(ctx, req) })
	if err == nil && resp == nil {
		err = &crashError{"returned nil"}
	}
	return resp, err
}

func (g *guarded) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	resp, err := call(ctx, g.timeout, func(ctx context.Context) (*interpreter.RenderResponse, error) { return g.impl.Render(ctx, req) })
	if err == nil && resp == nil {
		err = &crashError{"returned nil"}
	}
	return resp, err
}
