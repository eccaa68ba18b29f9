// SPDX-License-Identifier: Apache-2.0

// Package conformance checks that an interpreter fulfils the contract of package
// interpreter. [Check] is for the tests of an interpreter written in Go:
//
//	func TestConformance(t *testing.T) {
//		err := conformance.Check(t.Context(), jsonnet.New(), conformance.Options{Cases: os.DirFS("testdata")})
//		if err != nil {
//			t.Fatal(err)
//		}
//	}
//
// and [CheckBinary] is for programs in any language; `tape interpreter check` runs it. The
// package does not import testing.
//
// Everything is checked twice: with the implementation in this process and through gRPC or,
// for a binary, in its own process. The checks are:
//
//   - describe: the description is valid and always the same, in every process.
//   - cases: each renders to what it states, or fails as it states.
//   - inputs: rendering only what Inputs returned gives the same output, and so does
//     rendering all files.
//   - deterministic: so does rendering in a folder whose name has blanks, quotes and
//     non-ASCII letters, next to a file of that name, and several times concurrently.
//   - scratch: nothing is written outside the scratch folder.
//   - cancel: a call whose context has ended returns.
//   - bad options, bad sources: the answer is diagnostics, never an error of the
//     interpreter itself, a crash or silence.
//   - big output: output larger than a gRPC message arrives complete, if a case has it.
//   - version, by hand (binaries): the program rejects a host that speaks another
//     version of the protocol, and explains itself to a person who starts it.
//
// # Cases
//
// A case is a txtar archive, NAME.txtar, in the file system of [Options]. Its files below
// in/ are the source; those below out/ are exactly the expected output. Without files below
// out/, any output is accepted as long as there is some. The comment before the files has
// lines of key and value; lines that begin with # are ignored:
//
//	path: app                  the source below in/, by default all of it
//	options: {"replicas": 3}   a JSON object
//	error: no such template    rendering must fail with a diagnostic that contains this
//	fill: in/big.txt 6000000   an additional file of so many letters x
package conformance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// Options configure a check. The zero value runs the checks that need no source.
type Options struct {
	// Cases is a file system with *.txtar files at any depth.
	Cases fs.FS
	// Timeout bounds each call; zero means a minute.
	Timeout time.Duration
}

// Report lists the results of all checks, in order.
type Report struct {
	Results []Result `json:"results"`
}

// Result is the result of one check.
type Result struct {
	// Check is the name of the check, such as "in process: case simple".
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	// Reason is why the check failed or, if OK, what could not be checked.
	Reason string `json:"reason,omitempty"`
}

// Err joins the reasons of the failed checks. It returns nil if there are none.
func (r Report) Err() error {
	var errs []error
	for _, res := range r.Results {
		if !res.OK {
			errs = append(errs, fmt.Errorf("%s: %s", res.Check, res.Reason))
		}
	}
	return errors.Join(errs...)
}

// add adds a result.
func (r *Report) add(name string, err error) {
	res := Result{Check: name, OK: err == nil}
	if err != nil {
		res.Reason = err.Error()
	}
	r.Results = append(r.Results, res)
}

// Check checks an implementation, in this process and over gRPC.
func Check(ctx context.Context, impl interpreter.Interpreter, opts Options) error {
	report, err := Run(ctx, impl, opts)
	return errors.Join(err, report.Err())
}

// Run is like [Check] but returns all results. The error means that the kit itself failed,
// for example because a case cannot be read.
func Run(ctx context.Context, impl interpreter.Interpreter, opts Options) (Report, error) {
	return withKit(opts, func(k *kit, report *Report) error {
		if err := k.check(ctx, "in process", impl, report); err != nil {
			return err
		}
		remote, closeRemote, err := overWire(impl)
		if err != nil {
			return err
		}
		defer closeRemote()
		return k.check(ctx, "over gRPC", remote, report)
	})
}

// withKit calls check with a new kit.
func withKit(opts Options, check func(*kit, *Report) error) (report Report, err error) {
	k, err := newKit(opts)
	if err == nil {
		defer os.RemoveAll(k.dir)
		err = check(k, &report)
	}
	if err != nil {
		err = fmt.Errorf("conformance: %w", err)
	}
	return report, err
}
