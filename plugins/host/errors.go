// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
)

var errClosed = errors.New("interpreters are closed")

// NotFoundError says that no folder has the interpreter.
type NotFoundError struct {
	Name string
	Dirs []string // where it was looked for
}

func (e *NotFoundError) Error() string {
	where := "no folder is searched"
	if len(e.Dirs) > 0 {
		where = "looked for " + fileName(e.Name) + " in " + strings.Join(e.Dirs, ", ")
	}
	return fmt.Sprintf("no interpreter %q: %s; install it with 'tape interpreter install FILE', or name its folder in $TAPE_INTERPRETERS", e.Name, where)
}

// ChecksumError says that an executable is not the one that was installed, or
// not the one that [Host.Find] saw.
type ChecksumError struct {
	Path      string
	Got, Want string // sha256:…
	When      string // when it was Want
}

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%s has checksum %s, but had %s %s; install it again if that is right", e.Path, e.Got, e.Want, e.When)
}

// VersionError says that an interpreter speaks another version of the protocol.
type VersionError struct {
	Speaks, Want string
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("it speaks version %s of the interpreter protocol and this tape speaks version %s; install the one that belongs to this tape", e.Speaks, e.Want)
}

// DiedError says that a process ended before it had answered.
type DiedError struct {
	How  string // the exit status or signal
	Tail string // the last lines it printed
}

func (e *DiedError) Error() string {
	if e.Tail == "" {
		return fmt.Sprintf("process died without a word (%s)", e.How)
	}
	return fmt.Sprintf("process died (%s); it last said:\n%s", e.How, e.Tail)
}

// MemoryError says that a process ended because it wanted more memory than it may
// have.
type MemoryError struct {
	Limit int64
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("out of memory: it used more than %s; set $%s to give it more", units.BytesSize(float64(e.Limit)), MemoryVariable)
}

// TimeoutError says that a call took too long.
type TimeoutError struct {
	Limit time.Duration
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("no answer within %s", e.Limit)
}

// Timeout makes it a timeout in the sense of package net.
func (e *TimeoutError) Timeout() bool { return true }
