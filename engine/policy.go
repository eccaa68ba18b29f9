// SPDX-License-Identifier: Apache-2.0

package engine

import "errors"

// ErrPolicy is wrapped by the error of a stage that refuses what it was given:
// a policy or a verification said no. The tape command exits with 3 for it, and
// with 1 for every other failure.
var ErrPolicy = errors.New("refused")
