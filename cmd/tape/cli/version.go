// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
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
			err := a.print(v, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "tape %s (artifact format %s, %s %s)\n", v.Version, v.Format, v.Go, v.Platform)
				return err
			})
			return errors.Join(err, broken)
		},
	}
}

// version is what `tape version -o json` prints.
type version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Format   string `json:"format"` // of the artifact
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Interpreters are those that tape finds; nil where a person is told, who asks
	// `tape interpreter list`.
	Interpreters []listedInterpreter `json:"interpreters,omitempty"`
}

func readVersion() version {
	v := version{Version: "devel", Format: "1", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		if m := info.Main.Version; m != "" && m != "(devel)" {
			v.Version = m
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value
			}
		}
	}
	return v
}
