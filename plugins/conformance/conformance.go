// SPDX-License-Identifier: Apache-2.0

// Package conformance checks that an interpreter keeps the contract of package
// interpreter. [Check] is for the tests of an interpreter written in Go:
//
//	func TestConformance(t *testing.T) {
//		err := conformance.Check(t.Context(), jsonnet.New(), conformance.Options{Cases: os.DirFS("testdata")})
//		if err != nil {
//			t.Fatal(err)
//		}
//	}
//
// and [CheckBinary] for a program in any language; it is what
// `tape interpreter check` runs. The package imports no testing.
//
// Everything is asked twice: of the implementation in this process and of the
// same behind gRPC, or, of a binary, in its own process. What is checked:
//
//   - describe: the same answer always, and a valid one.
//   - cases: each renders to what it says, or fails as it says.
//   - inputs: a render of nothing but what Inputs named gives the same.
//   - deterministic: so does one in another folder, with blanks, quotes and letters
//     beyond ASCII in its name, beside a file named likewise, and several at once.
//   - scratch: nothing is written elsewhere.
//   - cancel: a call whose context has ended returns.
//   - bad options, bad sources: the answer is diagnostics; never an error of the
//     interpreter itself, a crash or silence.
//   - big output: more than one gRPC message holds arrives whole, where a case has it.
//   - version, by hand (binaries): a host that speaks another version of the
//     protocol, and a person who starts the program, are told.
//
// # Cases
//
// A case is a txtar archive, NAME.txtar, in the file system of [Options]. Its
// files below in/ are the source; those below out/ are exactly what it renders to
// (where there are none, whatever it renders to will do, if it is something).
// Before the files stand lines of key and value; those that begin with # are
// for people:
//
//	path: app                  the source below in/, by default all of it
//	options: {"replicas": 3}   a JSON object
//	error: no such template    it must fail, with this in a diagnostic
//	fill: in/big.txt 6000000   one more file, of so many letters x
package conformance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// Options say what to check with. The zero value checks what can be checked
// without knowing a source that renders.
type Options struct {
	// Cases holds *.txtar, at any depth.
	Cases fs.FS
	// Timeout bounds every single call; zero means a minute.
	Timeout time.Duration
}

// Report is what was checked, in order.
type Report struct {
	Results []Result `json:"results"`
}

// Result of one check.
type Result struct {
	// Check is its name, such as "in process: case simple".
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	// Reason is why not; or, where OK, what could not be checked.
	Reason string `json:"reason,omitempty"`
}

// Err joins the reasons of the checks that failed; nil when none did.
func (r Report) Err() error {
	var errs []error
	for _, res := range r.Results {
		if !res.OK {
			errs = append(errs, fmt.Errorf("%s: %s", res.Check, res.Reason))
		}
	}
	return errors.Join(errs...)
}

// add records a check.
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

// Run is [Check] with all its results. The error says that the kit itself could
// not work: a case that cannot be read, no room for temporary files.
func Run(ctx context.Context, impl interpreter.Interpreter, opts Options) (Report, error) {
	var report Report
	err := func() error {
		k, err := newKit(opts)
		if err != nil {
			return err
		}
		defer k.remove()
		if err := k.check(ctx, "in process", impl, &report); err != nil {
			return err
		}
		remote, closeRemote, err := overWire(impl)
		if err != nil {
			return err
		}
		defer closeRemote()
		return k.check(ctx, "over gRPC", remote, &report)
	}()
	if err != nil {
		err = fmt.Errorf("conformance: %w", err)
	}
	return report, err
}
