// SPDX-License-Identifier: Apache-2.0

package engine

import "errors"

// ErrPolicy is wrapped by the error of a stage that refuses its input because of a policy or a
// failed verification. The tape command exits with 3 for it, and with 1 for every other
// failure.
var ErrPolicy = errors.New("refused")
