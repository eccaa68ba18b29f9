// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpTemplate starts with an example, which is what most people look for.
const helpTemplate = `{{with .Short}}{{.}}.
{{end}}{{if .HasExample}}
Example:
{{.Example}}
{{end}}{{with .Long}}
{{. | trimTrailingWhitespaces}}
{{end}}{{if or .Runnable .HasSubCommands}}
{{.UsageString}}{{end}}`

// columns is the width that help is wrapped to.
const columns = 80

// usage prints how a command is used: its subcommands by group, and its flags. The global flags
// are listed by 'tape help flags'.
func usage(cmd *cobra.Command) error {
	p := &printer{w: cmd.OutOrStderr()}
	p.f("Usage:\n")
	if cmd.Runnable() {
		p.f("  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		p.f("  %s [command]\n", cmd.CommandPath())
	}
	commands := func(title string, of func(*cobra.Command) bool) {
		p.f("\n%s\n", title)
		for _, c := range cmd.Commands() {
			if of(c) && (c.IsAvailableCommand() || c.Name() == "help") {
				p.f("  %-*s %s\n", cmd.NamePadding(), c.Name(), c.Short)
			}
		}
	}
	switch {
	case len(cmd.Groups()) > 0:
		for _, group := range cmd.Groups() {
			commands(group.Title, func(c *cobra.Command) bool { return c.GroupID == group.ID })
		}
	case cmd.HasAvailableSubCommands():
		commands("Commands:", func(*cobra.Command) bool { return true })
	}
	all := cmd.LocalNonPersistentFlags()
	all.SortFlags = false
	for _, of := range []string{"", "helm", "cue"} { // these interpreters have their own flags
		flags, title := flagsOf(all, of), "Flags"
		if of != "" {
			title = "Flags for a source of " + of
		}
		if flags.HasFlags() {
			p.f("\n%s:\n%s", title, flags.FlagUsagesWrapped(columns))
		}
	}
	if cmd.HasAvailableSubCommands() {
		p.f("\n'%s [command] --help' describes a command.\n", cmd.CommandPath())
	}
	p.f("\nFor the flags of every command, such as -o json: '%s help flags'\n", cmd.Root().Name())
	return p.err
}

// flagsOf returns the flags whose help begins with the name of an interpreter, such as "helm: ",
// and removes that prefix. If interpreter is empty, it returns the other flags.
func flagsOf(all *pflag.FlagSet, interpreter string) *pflag.FlagSet {
	out := pflag.NewFlagSet("", pflag.ContinueOnError)
	out.SortFlags = false
	all.VisitAll(func(f *pflag.Flag) {
		name, usage, _ := strings.Cut(f.Usage, ": ")
		if name != "helm" && name != "cue" {
			name, usage = "", f.Usage
		}
		if name == interpreter && !f.Hidden {
			shown := *f
			shown.Usage = usage
			out.AddFlag(&shown)
		}
	})
	return out
}

// helpCommand is like cobra's help command, but rejects unknown topics and has the topic flags.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND | flags]",
		Short: "Help about a command, or about the global flags",
		Example: `  tape help package
  tape help flags`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] == "flags" {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "Every command takes these flags.\n\n%s", root.PersistentFlags().FlagUsagesWrapped(columns))
				return err
			}
			of, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 && of.HasSubCommands() {
				if of == nil {
					of = root
				}
				return unknownCommand(of, rest[0])
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			of, _, err := root.Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, c := range of.Commands() {
				if c.IsAvailableCommand() {
					names = append(names, c.Name()+"\t"+c.Short)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// checkCommand reports an unknown command before its flags are parsed, because they belong to the
// command that was meant.
func checkCommand(root *cobra.Command, args []string) (*cobra.Command, error) {
	at := root
	for i := 0; i < len(args) && at.HasSubCommands(); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return at, nil
		case strings.HasPrefix(arg, "-") && arg != "-":
			if takesNext(root.PersistentFlags(), arg) {
				i++
			}
			continue
		case strings.HasPrefix(arg, cobra.ShellCompRequestCmd):
			return at, nil
		}
		next := slices.IndexFunc(at.Commands(), func(c *cobra.Command) bool { return c.Name() == arg || c.HasAlias(arg) })
		if next < 0 {
			if arg == "help" || arg == "completion" {
				return at, nil
			}
			return at, unknownCommand(at, arg)
		}
		at = at.Commands()[next]
	}
	return at, nil
}

// takesNext reports whether the value of a flag is the next argument.
func takesNext(flags *pflag.FlagSet, arg string) bool {
	var f *pflag.Flag
	if name, ok := strings.CutPrefix(arg, "--"); ok {
		f = flags.Lookup(name)
	} else if len(arg) == 2 {
		f = flags.ShorthandLookup(arg[1:])
	}
	return f != nil && f.NoOptDefVal == ""
}

// otherWords maps the names of commands in other tools to those of tape.
var otherWords = map[string]string{
	"push": "package", "pack": "package", "build": "package", "bundle": "package", "publish": "package", "create": "package",
	"inspect": "view", "show": "view", "describe": "view", "info": "view",
	"ls": "list", "tags": "list", "export": "save", "import": "load", "download": "pull", "unpack": "pull", "extract": "pull",
	"template": "render", "compare": "diff", "mirror": "copy", "cp": "copy", "clean": "cache",
	"serve": "registry", "init": "pipeline", "plugin": "interpreter", "plugins": "interpreter",
}

// unknownCommand returns the error of an unknown command, with a suggestion.
func unknownCommand(cmd *cobra.Command, name string) error {
	meant := otherWords[name]
	if name == "" {
		return usagef("an empty argument is not a command of %q", cmd.CommandPath())
	}
	if !slices.ContainsFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == meant }) {
		meant = ""
		near := cmd.SuggestionsFor(name)
		// Swapped letters are more common than a wrong first letter.
		slices.SortStableFunc(near, func(a, b string) int {
			return strings.Index(b[:1], name[:1]) - strings.Index(a[:1], name[:1])
		})
		if len(near) > 0 {
			meant = near[0]
		}
	}
	if meant == "" {
		return usagef("unknown command %q for %q", name, cmd.CommandPath())
	}
	return usagef("unknown command %q for %q; did you mean %q?", name, cmd.CommandPath(), meant)
}
