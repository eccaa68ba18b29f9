// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/taped-dev/tape/plugins/internal/wire"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// goLimit tells programs in Go how much memory they should do with.
const goLimit = "GOMEMLIMIT"

// variables are what every interpreter gets, where they are set: enough to find
// programs and the user's settings, to print in the user's language, to reach the
// network, and what the user says of memory to programs in Go.
func variables() []string {
	names := []string{
		"PATH", "HOME",
		"LANG", "LANGUAGE", "LC_ALL", "LC_COLLATE", "LC_CTYPE", "LC_MESSAGES", "LC_NUMERIC", "LC_TIME",
		"GOGC", goLimit,
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
	}
	if runtime.GOOS == "windows" {
		names = append(names, "SYSTEMROOT", "USERPROFILE", "APPDATA", "LOCALAPPDATA")
	}
	return names
}

// environment of a process: the fixed variables, those it asked for, and a
// temporary folder. What belongs to the handshake cannot be asked for. A program in Go
// collects garbage more often before it runs into its limit.
func environment(d interpreter.Description, b bounds, lookup func(string) (string, bool)) []string {
	names := slices.DeleteFunc(slices.Concat(variables(), d.Environment), func(name string) bool {
		return name == wire.Cookie || strings.HasPrefix(name, "PLUGIN_") || slices.Contains(temporary(), name)
	})
	slices.Sort(names)
	var env []string
	for _, name := range slices.Compact(names) {
		if value, ok := lookup(name); ok {
			env = append(env, name+"="+value)
		} else if name == goLimit {
			env = append(env, fmt.Sprintf("%s=%d", name, b.memory/10*9))
		}
	}
	for _, name := range temporary() {
		env = append(env, name+"="+b.dir)
	}
	return env
}

// temporary are the variables that name the folder for temporary files.
func temporary() []string {
	if runtime.GOOS == "windows" {
		return []string{"TMP", "TEMP"}
	}
	return []string{"TMPDIR"}
}
