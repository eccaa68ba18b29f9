// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin

package temporary

import (
	"errors"
	"os"
)

// lock always fails: locking folders is not supported here.
func lock(string) (*os.File, error) { return nil, errors.ErrUnsupported }
