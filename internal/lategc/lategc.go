// SPDX-License-Identifier: Apache-2.0

// Package lategc delays the first garbage collection of a program. Most runs of tape end
// before they would need one, and the collections of their first megabytes take a quarter of
// their processor time.
package lategc

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
)

const (
	// variable is the environment variable of Go that sets the percentage (see
	// [debug.SetGCPercent]), and usual its default.
	variable = "GOGC"
	usual    = 100
	// percent is the percentage until the first collection, which then begins when the heap
	// has 32 MiB instead of 4.
	percent = 800
	// mark tells Start that variable was set by Environment, not by the user.
	mark = "TAPE_LATE_GC"
)

// Environment returns the environment variables that delay the first collection of a program
// from its start, which is before its Start.
func Environment() []string {
	return []string{variable + "=" + strconv.Itoa(percent), mark + "=1"}
}

// Start delays the first collection, unless the user has set GOGC. After it, garbage is
// collected as usual.
func Start() {
	if os.Getenv(mark) != "" {
		// The programs that this one starts do not call Start.
		_ = os.Unsetenv(variable)
		_ = os.Unsetenv(mark)
	}
	if os.Getenv(variable) != "" {
		return
	}
	debug.SetGCPercent(percent)
	// The first collection finds that nothing refers to this array.
	runtime.AddCleanup(new([64]byte), func(int) {
		if now := debug.SetGCPercent(usual); now != percent {
			debug.SetGCPercent(now) // the program has chosen another
		}
	}, 0)
}
