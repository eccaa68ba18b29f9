// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/taped-dev/tape/cmd/tape/cli"
)

// manuals writes a man page for each command, and a completion script for each shell, under the
// names that man and shells expect. The pages have the date of $SOURCE_DATE_EPOCH.
func manuals(man, completions string) error {
	if err := errors.Join(os.MkdirAll(man, 0o755), os.MkdirAll(completions, 0o755)); err != nil {
		return err
	}
	root := cli.Tree()
	exclude(root)
	if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "tape", Manual: "tape"}, man); err != nil {
		return fmt.Errorf("write man pages: %w", err)
	}
	err := errors.Join(
		root.GenBashCompletionFileV2(filepath.Join(completions, "tape.bash"), true),
		root.GenZshCompletionFile(filepath.Join(completions, "_tape")),
		root.GenFishCompletionFile(filepath.Join(completions, "tape.fish"), true),
		root.GenPowerShellCompletionFileWithDesc(filepath.Join(completions, "tape.ps1")),
	)
	if err != nil {
		return fmt.Errorf("write completions: %w", err)
	}
	return nil
}

// exclude omits the line with the date of generation; the header has the date, too.
func exclude(c *cobra.Command) {
	c.DisableAutoGenTag = true
	for _, sub := range c.Commands() {
		exclude(sub)
	}
}
