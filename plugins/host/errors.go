// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
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

// checksumError returns the error for an executable that is not the one that was installed, or
// has changed since [Host.Find]. when tells when its checksum was want.
func checksumError(path string, got, want digest.Digest, when string) error {
	return fmt.Errorf("%s has checksum %s, but had %s %s; install it again if that is right", path, got, want, when)
}
