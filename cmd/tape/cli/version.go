// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"
)

func (a *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of tape",
		Example: "  tape version -o json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := readVersion()
			var broken error
			if a.flags.output != "text" {
				v.Interpreters, broken = a.allInterpreters(cmd.Context())
			}
			err := a.print(v, func(p *printer) {
				p.f("tape %s (artifact format %s, %s %s)\n", v.Version, v.Format, v.Go, v.Platform)
			})
			return errors.Join(err, broken)
		},
	}
}

// version is what `tape version -o json` prints.
type version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"` // where it is known; its first 12 digits, where the version has them
	Format   string `json:"format"`           // of the artifact
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Interpreters are those that tape finds; nil in text output, because `tape interpreter
	// list` prints them.
	Interpreters []listedInterpreter `json:"interpreters,omitempty"`
}

func readVersion() version {
	info, _ := debug.ReadBuildInfo()
	return versionOf(info)
}

// versionOf reads the version and the commit that Go wrote into a program: of the
// repository it was built in, or of the module that `go install` downloaded. The latter
// has a commit only where its version was made from one.
func versionOf(info *debug.BuildInfo) version {
	v := version{Version: "devel", Format: "1", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info == nil {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	if rev, err := module.PseudoVersionRev(v.Version); err == nil {
		v.Commit = rev
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	return v
}
