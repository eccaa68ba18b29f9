// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/taped-dev/tape/internal/lategc"
	"github.com/taped-dev/tape/plugins/internal/wire"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// Variables that set the memory limit of a Go program, and how often it collects garbage.
const (
	goLimit   = "GOMEMLIMIT"
	goPercent = "GOGC"
)

// variables lists the environment variables that every interpreter gets if they are set:
// those needed to find programs and user settings, for the locale and the proxies, and the
// user's memory settings for Go programs.
func variables() []string {
	names := []string{
		"PATH", "HOME",
		"LANG", "LANGUAGE", "LC_ALL", "LC_COLLATE", "LC_CTYPE", "LC_MESSAGES", "LC_NUMERIC", "LC_TIME",
		goPercent, goLimit,
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
	}
	if runtime.GOOS == "windows" {
		names = append(names, "SYSTEMROOT", "USERPROFILE", "APPDATA", "LOCALAPPDATA")
	}
	return names
}

// environment returns the environment of a process: the fixed variables, those it asked
// for, and its temporary folder. The variables of the handshake cannot be asked for. Unless
// the user says otherwise, Go programs get a memory limit below their hard limit, so that they
// collect garbage before they hit it, and start without collecting any.
func environment(d interpreter.Description, b bounds, lookup func(string) (string, bool)) []string {
	names := slices.DeleteFunc(slices.Concat(variables(), d.Environment), func(name string) bool {
		return name == wire.Cookie || strings.HasPrefix(name, "PLUGIN_") || slices.Contains(folderVariables(), name)
	})
	slices.Sort(names)
	var env []string
	for _, name := range slices.Compact(names) {
		if value, ok := lookup(name); ok {
			env = append(env, name+"="+value)
			continue
		}
		switch name {
		case goLimit:
			env = append(env, fmt.Sprintf("%s=%d", name, b.memory/10*9))
		case goPercent:
			env = append(env, lategc.Environment()...)
		}
	}
	for _, name := range folderVariables() {
		env = append(env, name+"="+b.dir)
	}
	return env
}

// folderVariables returns the names of the variables that set the temporary folder.
func folderVariables() []string {
	if runtime.GOOS == "windows" {
		return []string{"TMP", "TEMP"}
	}
	return []string{"TMPDIR"}
}
