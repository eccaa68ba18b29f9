// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/source"
)

// origins runs stages, and rewrites file names in their messages to files that users can open.
// Stages only know the files of a tar: files that an interpreter reads are named relative to the
// top of the repository, and rendered files do not exist on disk. Outputs of stages must not
// depend on the location of the sources, because cached outputs are used in any working
// directory. So names are rewritten where messages leave the stages.
type origins struct {
	engine.Executor
	// place returns the location of the source at a path in the pipeline, relative to the working
	// directory, or "" if it must not be named.
	place func(path string) string
	// unused is [pipeline.Expanded.Unused].
	unused func(engine.Event) (message string, ok bool)

	mu       sync.Mutex
	sources  map[string]string      // locations by name of the source node
	rendered map[string]origin      // by name among all manifests
	words    words                  // words of the names in rendered
	made     map[digest.Digest]bool // manifests that interpreters made
	changed  bool                   // by a stage after the interpreter, so that line numbers differ
	reported map[string]bool        // messages that were reported: several environments read the same files
}

// origin is what a rendered file was made from.
type origin struct {
	name string // relative to the working directory; the name of a folder ends in a slash
	same bool   // the files are equal, and so are their line numbers
}

// placeOf returns the location of a source relative to the working directory, or "" if it is not
// a path of the user.
func (o *Options) placeOf(path string) string {
	if slices.ContainsFunc(o.Sources, func(s Source) bool { return s.Temporary && s.Path == path }) {
		return ""
	}
	if o.Pipeline != "" && !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(o.Pipeline), path)
	}
	return path
}

// Run implements [engine.Executor].
func (o *origins) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	o.look(t)
	rename := o.renamer(ctx, t)
	defer o.report(t, rename)()
	outputs, err := o.Executor.Run(ctx, t)
	if err != nil {
		if text := rename(err.Error()); text != err.Error() {
			err = &renamedError{text, err}
		}
		return nil, err
	}
	return outputs, o.learn(ctx, t, outputs)
}

// Replay implements [engine.Executor].
func (o *origins) Replay(ctx context.Context, t *engine.Task, outputs engine.Outputs) error {
	defer o.report(t, o.renamer(ctx, t))()
	if err := o.Executor.Replay(ctx, t, outputs); err != nil {
		return err
	}
	return o.learn(ctx, t, outputs)
}

// report rewrites the names in messages of a task until end is called.
func (o *origins) report(t *engine.Task, rename func(string) string) (end func()) {
	report := t.Report
	t.Report = func(e engine.Event) {
		if e.Message = rename(e.Message); len(e.Unused) > 0 {
			e.Node = t.Node.Name
			message, ok := o.unused(e)
			if !ok {
				return
			}
			e.Message = message
		}
		if e.Level != "" && !o.first(e.Level+" "+e.Message) {
			return
		}
		report(e)
	}
	return func() { t.Report = report }
}

// first reports whether a message has not been reported before.
func (o *origins) first(message string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.reported[message]
	o.reported[message] = true
	return !before
}

// look records the location of a source, and whether interpreters made the scanned files, before
// a node runs.
func (o *origins) look(t *engine.Task) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch t.Node.Kind {
	case "source":
		var config source.Config
		if json.Unmarshal(t.Node.Config, &config) == nil {
			o.sources[t.Node.Name] = o.place(config.Path)
		}
	case "scan":
		for _, desc := range t.Many("manifests") {
			o.changed = o.changed || !o.made[desc.Digest]
		}
	}
}

// learn records what a node rendered.
func (o *origins) learn(ctx context.Context, t *engine.Task, outputs engine.Outputs) error {
	if t.Node.Kind != "render" {
		return nil
	}
	var r rendering.Rendering
	if err := engine.GetJSON(ctx, t.Store, outputs["rendering"], rendering.MediaTypeRendering, &r); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.made[outputs["manifests"].Digest] = true
	place := o.source(t)
	if place == "" || r.Reference != "" {
		return nil
	}
	whole := filepath.ToSlash(place)
	if info, err := os.Stat(place); err == nil && info.IsDir() {
		whole = strings.TrimSuffix(whole, "/") + "/"
	}
	for _, f := range r.Files {
		from := origin{name: whole}
		if f.Origin != "" {
			from = origin{rendering.OnDisk(place, r.Path, f.Origin), f.Same}
		}
		o.rendered[f.Path] = from
		o.words.add(f.Path)
	}
	return nil
}

// source returns the location of the source that a node renders.
func (o *origins) source(render *engine.Task) string {
	name, _, _ := render.Node.Inputs["request"].Split()
	return o.sources[name]
}

// renamer returns the function that rewrites names in the messages of a node.
func (o *origins) renamer(ctx context.Context, t *engine.Task) func(string) string {
	switch t.Node.Kind {
	case "source", "attest", "index", "sign", "push": // they name files in the repository, or what is published
		return func(text string) string { return text }
	case "render":
		read := sync.OnceValue(func() func(string) string { return o.read(ctx, t) })
		return func(text string) string { return read()(text) }
	}
	return func(text string) string {
		o.mu.Lock()
		defer o.mu.Unlock()
		return rename(text, o.words, o.at)
	}
}

// read returns a function that rewrites the names of files that an interpreter read.
func (o *origins) read(ctx context.Context, t *engine.Task) func(string) string {
	o.mu.Lock()
	place := o.source(t)
	o.mu.Unlock()
	var request rendering.Request
	err := engine.GetJSON(ctx, t.Store, t.Inputs["request"], rendering.MediaTypeRequest, &request)
	all, filesErr := files.Get(ctx, t.Store, t.Inputs["files"])
	if err != nil || filesErr != nil || place == "" || request.Reference != "" {
		return func(text string) string { return text } // the stage that reads it reports that
	}
	names, first := make(map[string]bool, len(all)), words{}
	for _, f := range all {
		names[f.Name] = true
		first.add(f.Name)
	}
	return func(text string) string {
		if rest, ok := strings.CutPrefix(text, request.Path+": "); ok && request.Path != "." {
			text = place + ": " + rest
		}
		return rename(text, first, func(name string, line int) (images.Source, bool) {
			if !names[name] {
				return images.Source{}, false
			}
			return images.Source{Origin: rendering.OnDisk(place, request.Path, name), OriginLine: line}, true
		})
	}
}

// at returns the origin of a line of a rendered file.
func (o *origins) at(file string, line int) (images.Source, bool) {
	from, ok := o.rendered[file]
	if !from.same || o.changed {
		line = 0
	}
	return images.Source{Origin: from.name, OriginLine: line}, ok
}

// renamedError is an error in whose text names were changed.
type renamedError struct {
	text string
	err  error
}

func (e *renamedError) Error() string { return e.text }
func (e *renamedError) Unwrap() error { return e.err }

const (
	// maxName limits the length of a file name that is searched for in a text. maxMessage limits
	// the part of the text that is searched, because a longer text is the output of a template
	// rather than a message.
	maxName    = 4096
	maxMessage = 64 << 10
	// beforeName and afterName are the characters that may precede and follow a name in a text.
	beforeName, afterName = " \n\"'`(=[,;", " \n\"'`):],;"
)

// words maps a first word to the length of the longest name that begins with it. It limits the
// search for names to words that begin one.
type words map[string]int

func (w words) add(name string) {
	first := word(name)
	w[first] = max(w[first], min(len(name), maxName))
}

// word returns the text up to the first character that may end a name.
func word(text string) string {
	if end := strings.IndexAny(text, afterName); end >= 0 {
		return text[:end]
	}
	return text
}

// rename replaces file names in a text, including the line and column after them, by their
// origins. Only complete names are replaced, and the longest match is used.
func rename(text string, first words, from func(name string, line int) (images.Source, bool)) string {
	if len(text) > maxMessage {
		return rename(text[:maxMessage], first, from) + text[maxMessage:]
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		if i == 0 || strings.IndexByte(beforeName, text[i-1]) >= 0 {
			end := min(len(text), i+first[word(text[i:min(len(text), i+maxName)])])
			for ; end > i; end-- {
				if end < len(text) && strings.IndexByte(afterName, text[end]) < 0 {
					continue
				}
				name := text[i:end]
				if _, ok := from(name, 0); !ok {
					continue
				}
				line, column, length := position(text[end:])
				at, _ := from(name, line)
				b.WriteString(at.Place(name, line, column, ""))
				i = end + length
				break
			}
			if end > i {
				continue
			}
		}
		if i < len(text) {
			b.WriteByte(text[i])
			i++
		}
	}
	return b.String()
}

// position parses :line or :line:column at the beginning of a text.
func position(text string) (line, column, length int) {
	number := func(text string) (n, length int) {
		digits := len(text) - len(strings.TrimLeft(strings.TrimPrefix(text, ":"), "0123456789"))
		if !strings.HasPrefix(text, ":") || digits < 2 {
			return 0, 0
		}
		n, err := strconv.Atoi(text[1:digits])
		if err != nil || n == 0 {
			return 0, 0
		}
		return n, digits
	}
	if line, length = number(text); length == 0 {
		return 0, 0, 0
	}
	column, more := number(text[length:])
	return line, column, length + more
}

// locations adds the origin to each location.
func (o *origins) locations(list []images.Location) []images.Location {
	list = slices.Clone(list)
	for i, l := range list {
		list[i].Source, _ = o.at(l.File, l.Line)
	}
	return list
}

// trace adds origins to the locations in all lists.
func (o *origins) trace(unpinned []images.Unpinned, placeholders []images.Placeholder, skipped []images.Skipped) {
	for i := range unpinned {
		unpinned[i].Locations = o.locations(unpinned[i].Locations)
	}
	for i, p := range placeholders {
		placeholders[i].Source, _ = o.at(p.File, p.Line)
	}
	for i, s := range skipped {
		skipped[i].Source, _ = o.at(s.File, s.Line)
	}
}
