// SPDX-License-Identifier: Apache-2.0

package interpreter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Problems are mistakes in a source, as an error: diagnostics of severity [Error].
type Problems []Diagnostic

func (p Problems) Error() string { return p[0].Summary }

// Err returns the problems as an error, nil if there are none.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Problem returns a problem at a line of a file, which are "" and 0 if unknown. The first line
// of the text is its summary.
func Problem(file string, line int, format string, args ...any) Problems {
	if file == "." {
		file = "" // the source itself
	}
	summary, detail, _ := strings.Cut(fmt.Errorf(format, args...).Error(), "\n")
	return Problems{{Severity: Error, Summary: summary, Detail: detail, File: file, Line: line}}
}

// DecodeOptions decodes the options of a request. It is strict although tape has validated
// them, because other programs may call an interpreter.
func DecodeOptions(raw json.RawMessage, options any) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(options); err != nil {
		return Problem("", 0, "options: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// AnswerInputs answers [Interpreter.Inputs] with what f returns. If f fails with [Problems], or
// panics because of an odd source, that is the answer. If ctx ends, it does not wait for f:
// template engines cannot be interrupted, and end with the process.
func AnswerInputs(ctx context.Context, f func() (*InputsResponse, error)) (*InputsResponse, error) {
	resp, err := attempt(ctx, f)
	if found, ok := errors.AsType[Problems](err); ok {
		return &InputsResponse{Diagnostics: found}, nil
	}
	return resp, err
}

// AnswerRender answers [Interpreter.Render] as [AnswerInputs] answers Inputs.
func AnswerRender(ctx context.Context, f func() (*RenderResponse, error)) (*RenderResponse, error) {
	resp, err := attempt(ctx, f)
	if found, ok := errors.AsType[Problems](err); ok {
		return &RenderResponse{Diagnostics: found}, nil
	}
	return resp, err
}

func attempt[T any](ctx context.Context, f func() (*T, error)) (*T, error) {
	type result struct {
		value *T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if v := recover(); v != nil {
				r = result{err: Problem("", 0, "panicked on this source: %v", v)}
			}
			done <- r
		}()
		r.value, r.err = f()
	}()
	select {
	case r := <-done:
		if r.err == nil {
			return r.value, nil
		}
		if ctx.Err() == nil {
			return nil, r.err
		}
	case <-ctx.Done():
	}
	return nil, context.Cause(ctx)
}
