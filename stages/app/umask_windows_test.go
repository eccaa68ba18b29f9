// SPDX-License-Identifier: Apache-2.0

package app_test

// umask does nothing: Windows has none.
func umask(int) (restore func()) { return func() {} }
