// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/internal/regular"
)

// line is one item of a list of things to do.
type line struct {
	number int
	words  []string
}

// readArgument reads the file that an argument names; - is stdin.
func (a *program) readArgument(file string) ([]byte, error) {
	if file == "-" {
		return regular.ReadAll("standard input", a.In)
	}
	return regular.ReadArgument(file)
}

// readList reads a file with a number of words on each line; # begins a comment, and - is stdin.
// takes describes the words.
func (a *program) readList(file string, least, most int, takes string) ([]line, error) {
	data, err := a.readArgument(file)
	if err != nil {
		return nil, fmt.Errorf("read --from-file: %w", err)
	}
	var list []line
	n := 0
	for text := range strings.Lines(string(data)) {
		n++
		text, _, _ = strings.Cut(text, "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		if len(words) < least || len(words) > most {
			return nil, usagef("%s:%d: it takes %s, with a space between", file, n, takes)
		}
		list = append(list, line{n, words})
	}
	if len(list) == 0 {
		return nil, usagef("%s has no entries", file)
	}
	return list, nil
}

// batch is the result of a list. A line that fails does not stop the others.
type batch struct {
	Results  []any          `json:"results"`
	Failures []batchFailure `json:"failures"`
	Totals   struct {
		Lines  int `json:"lines"`
		Done   int `json:"done"`
		Failed int `json:"failed"`
	} `json:"totals"`

	item   string // what a line is: a line of a list, or an application of a report
	status int    // the status of a refusal, if nothing else failed
}

// batchFailure is a line that failed.
type batchFailure struct {
	Line  int    `json:"line"`
	Item  string `json:"item"`
	Error struct {
		Message string `json:"message"`
	} `json:"error"`
	// Result is what is known despite the failure, such as the links of a chain that was not
	// verified.
	Result any `json:"result,omitempty"`
}

// each calls do for every line of a file, which [program.readList] reads. It prints results as
// text when they arrive, or as one document at the end.
func each[T any](ctx context.Context, a *program, file string, least, most int, takes string, do func(ctx context.Context, words []string) (*T, error), text func(*printer, *T)) error {
	list, err := a.readList(file, least, most, takes)
	if err != nil {
		return err
	}
	b := newBatch("line")
	for _, l := range list {
		result, err := do(ctx, l.words)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if result != nil && a.flags.output == "text" {
			if err := a.text(func(p *printer) { text(p, result) }); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
			b.Results = append(b.Results, result)
		case result == nil:
			b.fail(a, l, nil, err) // pass nil, not result: JSON would encode a nil *T as null
		default:
			b.fail(a, l, result, err)
		}
	}
	return a.total(b)
}

func newBatch(item string) *batch {
	return &batch{Results: []any{}, Failures: []batchFailure{}, item: item, status: exitPolicy}
}

// fail records and reports a line that failed.
func (b *batch) fail(a *program, l line, result any, err error) {
	if refused, ok := errors.AsType[*statusError](err); !errors.Is(err, engine.ErrPolicy) && (!ok || refused.code != exitPolicy) {
		b.status = exitFailed
	}
	f := batchFailure{Line: l.number, Item: strings.Join(l.words, " "), Result: result}
	f.Error.Message = strings.TrimSpace(hinted(err))
	b.Failures = append(b.Failures, f)
	where := f.Item
	if b.item == "line" {
		where = fmt.Sprintf("line %d", l.number)
	}
	fmt.Fprintf(a.progress, "%s: %s: %s\n", a.name, where, f.Error.Message)
}

// total prints the totals, and what has not been printed yet.
func (a *program) total(b *batch) error {
	b.Totals.Done, b.Totals.Failed = len(b.Results), len(b.Failures)
	b.Totals.Lines = b.Totals.Done + b.Totals.Failed
	err := a.print(b, func(p *printer) {
		p.f("total     %d of %d done, %d failed\n", b.Totals.Done, b.Totals.Lines, b.Totals.Failed)
	})
	if err == nil && b.Totals.Failed > 0 {
		err = &statusError{code: b.status, err: fmt.Errorf("%d of %s failed", b.Totals.Failed, count.Of(b.Totals.Lines, b.item))}
	}
	return err
}
