// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// describeCompletion puts cobra's command for completion into the form of the others.
func describeCompletion(root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		c.Short = "Print a script that completes commands and flags"
		c.Long = ""
		c.Example = "  source <(tape completion bash)\n  tape completion zsh > \"${fpath[1]}/_tape\"\n  tape completion fish | source"
		c.Args = noArgs
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		for _, shell := range c.Commands() {
			shell.Short = "Print the script for " + shell.Name()
			shell.Long = ""
			shell.Example = "  tape completion " + shell.Name()
			shell.Args = noArgs
		}
	}
}

// completeValues completes flags that take one of a few words.
func completeValues(cmd *cobra.Command) {
	words := map[string][]string{
		"output-format": {"text", "json", "yaml"},
		"log-level":     {"debug", "info", "warn", "error"},
		"progress":      {"auto", "tty", "plain", "json", "none"},
		"class":         {"pod", "crd", "indirect"},
		"related":       {"default", "all", "none"},
		"as":            {"tape", "cnab"},
		"naming":        {"single", "one-to-one"},
		"format":        {"mermaid", "dot", "svg"},
		"update":        {"all", "images", "interpreters", "materials"},
	}
	complete := func(f *pflag.Flag) {
		if values, ok := words[f.Name]; ok {
			// It fails for a flag that is not there, which this one is.
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	cmd.LocalFlags().VisitAll(complete)
	for _, c := range cmd.Commands() {
		completeValues(c)
	}
}
