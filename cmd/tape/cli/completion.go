// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/app"
)

// describeCompletion makes cobra's completion command look like the other commands.
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

// completeFlags completes flags that accept one of a few words, names of interpreters, or their
// options.
func (a *program) completeFlags(root *cobra.Command) {
	complete := map[string]cobra.CompletionFunc{
		"interpreter": func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, d := range a.described(cmd.Context(), "") {
				names = append(names, cobra.CompletionWithDesc(d.Name, d.Help))
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		"set-option": func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			if strings.Contains(typed, "=") {
				return nil, cobra.ShellCompDirectiveDefault // a value, which is often a file
			}
			wanted, err := cmd.Flags().GetString("interpreter")
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			return optionNames(a.described(cmd.Context(), wanted)), cobra.ShellCompDirectiveNoSpace
		},
	}
	for flag, words := range map[string]string{
		"output-format": "text json yaml",
		"log-level":     "debug info warn error",
		"progress":      "auto tty plain github gitlab json none",
		"class":         "pod crd indirect",
		"related":       "default all none",
		"as":            "tape cnab",
		"naming":        "single one-to-one",
		"format":        "mermaid dot svg",
		"engine":        "local temporal",
		"update":        "all images interpreters materials",
	} {
		complete[flag] = cobra.FixedCompletions(strings.Fields(words), cobra.ShellCompDirectiveNoFileComp)
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if how := complete[f.Name]; how != nil {
				_ = cmd.RegisterFlagCompletionFunc(f.Name, how) // it fails only for an unknown flag
			}
		})
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(root)
}

// completeTags completes references: the text before the colon is a repository, whose
// applications are listed.
func (a *program) completeTags(root *cobra.Command) {
	for _, c := range root.Commands() {
		if !slices.Contains([]string{"view", "pull", "verify", "sign", "copy", "save", "diff", "relocate"}, c.Name()) {
			continue
		}
		c.ValidArgsFunction = func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			colon := strings.LastIndexByte(typed, ':')
			if colon < strings.LastIndexByte(typed, '/') || !strings.Contains(typed, "/") || colon < 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			env, err := a.environment(cmd.Context())
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), completionTime, errors.New("completion takes too long"))
			defer cancel()
			tags, err := app.Tags(ctx, app.ListOptions{Environment: env, Repository: typed[:colon]})
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			for i, tag := range tags {
				tags[i] = typed[:colon+1] + tag
			}
			return tags, cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// completionTime limits how long a person waits after pressing a key.
const completionTime = 3 * time.Second

// described returns the descriptions of all interpreters, or of the named one. It leaves out
// interpreters that cannot be described, because a shell cannot show errors.
func (a *program) described(ctx context.Context, name string) []interpreter.Description {
	env, err := a.environment(ctx)
	if err != nil {
		return nil
	}
	list, _ := env.Interpreters.List(ctx)
	var out []interpreter.Description
	for _, i := range list {
		if d, err := i.Describe(ctx); err == nil && (name == "" || d.Name == name) {
			out = append(out, d)
		}
	}
	return out
}

// optionNames returns what --set-option accepts before a value: name=, with a description.
func optionNames(list []interpreter.Description) []string {
	var names []string
	for _, d := range list {
		var schema struct {
			Properties map[string]struct {
				Description string `json:"description"`
			} `json:"properties"`
		}
		_ = json.Unmarshal(d.Options, &schema) // absent, or a schema
		for _, name := range sortedKeys(schema.Properties) {
			names = append(names, cobra.CompletionWithDesc(name+"=", d.Name+": "+schema.Properties[name].Description))
		}
	}
	return names
}
