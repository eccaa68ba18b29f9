// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

var errClosed = errors.New("interpreters are closed")

// NotFoundError is returned when no folder of the search path has the interpreter.
type NotFoundError struct {
	Name string
	Dirs []string // the search path
}

func (e *NotFoundError) Error() string {
	where := "the search path is empty"
	if len(e.Dirs) > 0 {
		where = "looked for " + fileName(e.Name) + " in " + strings.Join(e.Dirs, ", ")
	}
	return fmt.Sprintf("no interpreter %q: %s; install it, or name its folder in $TAPE_INTERPRETERS", e.Name, where)
}

// ChecksumError is returned when an executable is not the one that was installed, or has
// changed since [Host.Find].
type ChecksumError struct {
	Path      string
	Got, Want string // sha256:…
	When      string // when the checksum was Want, such as "when it was installed"
}

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%s has checksum %s, but had %s %s; install it again if that is right", e.Path, e.Got, e.Want, e.When)
}

// DiedError is returned when a process ended before it answered.
type DiedError struct {
	How  string // the exit status or signal
	Tail string // the last lines it printed
}

func (e *DiedError) Error() string {
	if e.Tail == "" {
		return fmt.Sprintf("process died without output (%s)", e.How)
	}
	return fmt.Sprintf("process died (%s); its last output was:\n%s", e.How, e.Tail)
}

// TimeoutError is returned when a call took too long.
type TimeoutError struct {
	Limit time.Duration
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("no answer within %s", e.Limit)
}
