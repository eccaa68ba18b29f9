// SPDX-License-Identifier: Apache-2.0

package cli

import (
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
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			return a.print(v, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "tape %s (artifact format %s, %s %s)\n", v.Version, v.Format, v.Go, v.Platform)
				return err
			})
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
