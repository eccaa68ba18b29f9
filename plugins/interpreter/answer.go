// SPDX-License-Identifier: Apache-2.0

package interpreter

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Problems are mistakes in a source, as an error: diagnostics of severity [Error].
type Problems []Diagnostic

func (p Problems) Error() string { return p[0].Summary }

// Err returns the problems as an error, or nil if there are none.
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

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

// YAMLProblem returns the problem of a file that is not valid YAML, at the line in the error of
// the parser. what describes the problem.
func YAMLProblem(file, what string, err error) Problems {
	text := err.Error()
	m := yamlLine.FindStringSubmatch(text)
	line, _ := strconv.Atoi(m[1]) // 0 if there is none
	return Problem(file, line, "%s: %s", what, text[len(m[0]):])
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

// AnswerInputs answers [Interpreter.Inputs] with the result of f. If f fails with [Problems], or
// panics because of an odd source, the answer consists of these problems.
func AnswerInputs(ctx context.Context, f func() (*InputsResponse, error)) (*InputsResponse, error) {
	resp, err := answer(ctx, f)
	if found, ok := errors.AsType[Problems](err); ok {
		return &InputsResponse{Diagnostics: found}, nil
	}
	return resp, err
}

// AnswerRender is like [AnswerInputs], for [Interpreter.Render].
func AnswerRender(ctx context.Context, f func() (*RenderResponse, error)) (*RenderResponse, error) {
	resp, err := answer(ctx, f)
	if found, ok := errors.AsType[Problems](err); ok {
		return &RenderResponse{Diagnostics: found}, nil
	}
	return resp, err
}

func answer[T any](ctx context.Context, f func() (*T, error)) (*T, error) {
	resp, err := guard(f)
	if err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	return resp, nil
}

// Await returns what f does, or an error as soon as ctx ends. It is for template engines, which
// cannot be interrupted: they end with the process.
func Await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := guard(f)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// guard turns a panic into a problem.
func guard[T any](f func() (T, error)) (value T, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = Problem("", 0, "panicked on this source: %v", v)
		}
	}()
	return f()
}
