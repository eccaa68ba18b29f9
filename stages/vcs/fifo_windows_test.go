// SPDX-License-Identifier: Apache-2.0

package vcs

import "errors"

func mkfifo(string) error { return errors.ErrUnsupported }
