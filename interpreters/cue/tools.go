// SPDX-License-Identifier: Apache-2.0

package cue

import (
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
)

// fromTools returns the objects in what the commands of _tool.cue files would print or pass on.
// Nothing is run: a task is a struct like any other, and values that only a run would fill in
// stay open.
func (s *source) fromTools(ctx *cue.Context, expression ast.Expr) ([]object, error) {
	instances, _, err := s.load(ctx, true)
	if err != nil {
		return nil, err
	}
	var all []object
	for _, inst := range instances {
		if !slices.ContainsFunc(inst.Files, func(f *ast.File) bool { return strings.HasSuffix(f.Filename, "_tool"+cueExt) }) {
			continue
		}
		v := ctx.BuildInstance(inst)
		if err := v.Err(); err != nil {
			return nil, s.problems(err)
		}
		if expression != nil {
			found, err := s.objects(ctx, inst, expression)
			if err != nil {
				return nil, err
			}
			all = union(all, found...)
			continue
		}
		found, err := s.ofCommands(ctx, v, s.folderOf(inst))
		if err != nil {
			return nil, err
		}
		all = union(all, found...)
	}
	return all, nil
}

// ofCommands returns the objects of the commands of a package. Usually several commands do
// different things with the same objects. If their sets differ, the largest is used, provided
// that it contains the others.
func (s *source) ofCommands(ctx *cue.Context, v cue.Value, folder string) ([]object, error) {
	commands, err := v.LookupPath(cue.ParsePath("command")).Fields()
	if err != nil {
		return nil, nil // no commands
	}
	var best []object
	var bestName string
	for commands.Next() {
		c := collector{source: s, ctx: ctx, folder: folder, streams: true, tasks: true}
		c.collect(commands.Value())
		if err := c.failed.Err(); err != nil {
			return nil, err
		}
		name := commands.Selector().String()
		switch {
		case holdsAll(best, c.found):
		case holdsAll(c.found, best):
			best, bestName = c.found, name
		default:
			return nil, problem("the commands %s and %s have different objects: select some with 'expression', such as command.%s.…", bestName, name, bestName)
		}
	}
	return best, nil
}

// holdsAll reports whether all contains every object in some.
func holdsAll(all, some []object) bool {
	return !slices.ContainsFunc(some, func(o object) bool { return !holds(all, o) })
}
