// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/sign"
	"github.com/taped-dev/tape/stages/vcs"
)

// ReproduceOptions are the options of Reproduce.
type ReproduceOptions struct {
	Environment
	// Ref is the reference of the application.
	Ref string
	// Source is a folder in a clone of its repository, in which the commit of the application is
	// checked out, or the pipeline file that it was packed with. By default it is the working
	// directory.
	Source string
	// Clone clones the repository from the URL in the provenance. Source is then relative to the
	// top of the clone.
	Clone bool
	// Signer signs a statement of the result, which is attached to the root; if nil, there is no
	// statement. It must not be the signer of the application.
	Signer Signer
	// At is the time of the statement; zero means now. Version is the version of tape.
	At      time.Time
	Version string
	// Args are values for the arguments of the pipeline file.
	Args map[string]string
}

// ReproduceResult reports whether an application can be reproduced.
type ReproduceResult struct {
	Same bool          `json:"same"`
	Root digest.Digest `json:"root"`
	Made digest.Digest `json:"made"`
	// Differs lists the differences, causes before their effects.
	Differs []Difference `json:"differs"`
	// Statement is the digest of the manifest that carries the signed statement, or "" if there
	// is none. Existing reports that the statement existed before, so that none was added.
	Statement digest.Digest `json:"statement,omitempty"`
	Existing  bool          `json:"existing,omitempty"`
}

// Difference is a part that differs from the application.
type Difference struct {
	// What is one of file, option, interpreter, image, content, source, statement and root.
	What string `json:"what"`
	// Name is the name of the option or the image, file:line (or the file, if the line is not
	// known), or the type of a statement and the path of a value in it.
	Name string `json:"name"`
	// Was is the value in the application, and Is the value that was made again; "" if it is
	// missing.
	Was string `json:"was"`
	Is  string `json:"is"`
}

// Reproduce makes an application again in memory, from the commit and the options in its
// provenance and with the same images, and compares the digests of the roots.
func Reproduce(ctx context.Context, o ReproduceOptions) (result *ReproduceResult, err error) {
	app, at, err := application(ctx, o.Registry, o.Ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	statements, err := app.Statements(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.Ref, err)
	}
	was, err := newSide(ctx, app, o.Ref, at.name, at.tag, "")
	if err != nil {
		return nil, err
	}
	provenance, err := provenanceOf(statements)
	if err != nil {
		return nil, fmt.Errorf("reproduce %s: %w", o.Ref, err)
	}
	attach, err := o.attacher(ctx, at, app.Root.Digest)
	if err != nil {
		return nil, fmt.Errorf("reproduce %s: %w", o.Ref, err)
	}
	if err := o.installed(ctx, was.view.Sources); err != nil {
		return nil, fmt.Errorf("reproduce %s: %w", o.Ref, err)
	}
	if o.Clone {
		newDir := o.TempDir
		if newDir == nil {
			newDir = func() (string, error) { return os.MkdirTemp("", "tape-clone-*") }
		}
		dir, err := newDir()
		if err != nil {
			return nil, fmt.Errorf("reproduce %s: %w", o.Ref, err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		if o.Source, err = o.clone(ctx, statements, dir); err != nil {
			return nil, fmt.Errorf("reproduce %s: %w", o.Ref, err)
		}
	}
	top, err := o.checkout(ctx, was.view)
	if err != nil {
		return nil, fmt.Errorf("reproduce %s: %w", o.Ref, err)
	}
	made, err := o.make(ctx, app, provenance, top)
	if err != nil {
		return nil, fmt.Errorf("reproduce %s: %w", o.Ref, err)
	}
	result = &ReproduceResult{Root: app.Root.Digest, Made: made.Root.Digest, Differs: []Difference{}}
	result.Same = result.Root == result.Made
	if err := o.attest(ctx, attach, app, was.view, result); err != nil {
		return nil, fmt.Errorf("reproduce %s: %w", o.Ref, err)
	}
	if result.Same {
		return result, nil
	}
	is, err := newSide(ctx, made, "what was made", at.name, at.tag, "")
	if err == nil {
		err = result.compare(ctx, was, is, top)
	}
	var again []artifact.Statement
	if err == nil {
		again, err = made.Statements(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := result.statements(statements, again); err != nil {
		return nil, err
	}
	if len(result.Differs) == 0 {
		result.Differs = append(result.Differs, Difference{What: "root", Name: "annotations or the order of what it lists", Was: result.Root.String(), Is: result.Made.String()})
	}
	return result, nil
}

// attacher returns the function that attaches the statement, or nil if none is requested. cosign
// and Flux take any bundle attached to a root for its signature, so a statement must not look
// like a signature by the signer of the application.
func (o *ReproduceOptions) attacher(ctx context.Context, at *opened, root digest.Digest) (attach, error) {
	if o.Signer == nil {
		return nil, nil
	}
	own, err := signedBy(ctx, o.Signer, at, root)
	if err != nil {
		return nil, err
	}
	if own {
		return nil, refused{errors.New("the signer of the statement also signed the application: attest with another key or identity")}
	}
	attach, err := attacher(at)
	if attach == nil && err == nil {
		err = errors.New("an archive cannot be changed: load it into a registry, and attest there")
	}
	return attach, err
}

// attest signs the result, unless the same signer has already stated it.
func (o *ReproduceOptions) attest(ctx context.Context, attach attach, app *artifact.Application, v *artifact.View, r *ReproduceResult) error {
	if attach == nil {
		return nil
	}
	for _, before := range v.Reproductions {
		if before.Root != r.Root || before.Made != r.Made {
			continue
		}
		own, err := o.Signer.MadeStatement(ctx, before.Bundle, r.Root, artifact.PredicateReproduction)
		if err != nil && !errors.Is(err, sign.ErrForged) {
			return err
		}
		if own {
			r.Statement, r.Existing = before.Digest, true
			return nil
		}
	}
	statement := artifact.Reproduction{
		Root: r.Root, Made: r.Made, Same: r.Same, URI: v.Source.URI, Commit: v.Source.Commit, Tape: cmp.Or(o.Version, "devel"), At: stated(o.At),
	}
	var err error
	r.Statement, err = attach.state(ctx, o.Signer, app.Root, artifact.PredicateReproduction, statement)
	return err
}

func provenanceOf(statements []artifact.Statement) (p artifact.Provenance, err error) {
	for _, s := range statements {
		if s.PredicateType == artifact.PredicateProvenance {
			return p, json.Unmarshal(s.Predicate, &p)
		}
	}
	return p, errors.New("it has no provenance, which records what it was made from")
}

// installed returns an error that names all missing interpreters. It is called before anything is
// fetched.
func (o *ReproduceOptions) installed(ctx context.Context, sources []artifact.ViewSource) error {
	var missing []string
	for _, s := range sources {
		name, _, _ := strings.Cut(s.Interpreter, " ")
		if name == "" || slices.Contains(missing, s.Interpreter) {
			continue
		}
		_, err := o.interpreters().Find(ctx, name)
		if _, not := errors.AsType[*host.NotFoundError](err); not {
			missing = append(missing, s.Interpreter)
		} else if err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return advice.Add(fmt.Errorf("interpreters that rendered it are missing: %s", strings.Join(missing, ", ")), advice.InstallEach)
}

// clone clones the repository in the statements into dir, and returns Source in that clone.
func (o *ReproduceOptions) clone(ctx context.Context, statements []artifact.Statement, dir string) (string, error) {
	var of vcs.Repository
	for _, s := range statements {
		var facts vcs.Facts
		if s.PredicateType == artifact.PredicateSource && json.Unmarshal(s.Predicate, &facts) == nil && len(facts.Repositories) > 0 {
			of = facts.Repositories[0] // the outermost one, which all sources are in
			break
		}
	}
	if of.URI == "" || of.Commit == "" {
		return "", errors.New("it does not record the URL and the commit of a repository: only what was packed from a clone of one can be cloned")
	}
	if o.Source != "" && !filepath.IsLocal(o.Source) {
		return "", usagef("%s: the source is a path in the clone", o.Source)
	}
	top, err := vcs.Clone(ctx, vcs.CloneOptions{Repository: of, Dir: dir, Transport: o.Registry.Transport()})
	return filepath.Join(top, o.Source), err
}

// checkout returns the top of the repository, or "" if the sources are not in one. The commit of
// the application must be checked out.
func (o *ReproduceOptions) checkout(ctx context.Context, v *artifact.View) (string, error) {
	commit := v.Source.Commit
	if commit == "" {
		return "", errors.New("it does not record a commit: only what was packed from a repository can be made again")
	}
	dir, err := filepath.Abs(cmp.Or(o.Source, "."))
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return "", err
	}
	if IsPipeline(dir) {
		dir = filepath.Dir(dir)
	}
	top, ok := vcs.FindTop(dir)
	if !ok {
		return "", usagef("%s is not in a repository: give a clone of %s", dir, cmp.Or(v.Source.URI, "its repository"))
	}
	head, err := vcs.Head(ctx, top)
	if err != nil {
		return "", err
	}
	if head.Commit != commit {
		return "", usagef("%s has commit %s checked out, but the application is of %s: check that out, for example in a separate work tree", top, head.Commit, commit)
	}
	return top, nil
}

// pipeline returns the pipeline file to use: the given one or, if the sources alone are not
// sufficient, the one in the given folder; "" if there is none.
func (o *ReproduceOptions) pipeline(sources []artifact.SourceParameters) (string, error) {
	if IsPipeline(o.Source) {
		return o.Source, nil
	}
	var reason string
	for _, s := range sources {
		switch {
		case s.Environment != "":
			reason = "environments"
		case len(sources) > 1 && len(s.Options) > 0:
			reason = "several sources with options"
		}
	}
	if reason == "" {
		return "", nil
	}
	if file := filepath.Join(o.Source, PipelineFile); IsPipeline(file) {
		return file, nil
	}
	return "", usagef("it has %s, and there is no %s in %s: give the pipeline file that it was packed with", reason, PipelineFile, cmp.Or(o.Source, "this folder"))
}

// make makes the application again.
func (o *ReproduceOptions) make(ctx context.Context, app *artifact.Application, p artifact.Provenance, top string) (_ *artifact.Application, err error) {
	parameters := p.BuildDefinition.ExternalParameters
	if line, err := app.Origins(ctx); err != nil {
		return nil, err
	} else if len(line) > 0 || parameters.Naming != "" || parameters.Prefix != "" {
		return nil, errors.New("it was relocated: reproduce the application that it was relocated from")
	}
	options := Options{Environment: o.Environment, Args: o.Args, Platform: parameters.Platform, NoCache: true, Version: p.RunDetails.Builder.Version["tape"]}
	if options.Pipeline, err = o.pipeline(parameters.Sources); err != nil {
		return nil, err
	}
	for _, s := range parameters.Sources {
		if s.Environment != "" && !slices.Contains(options.Environments, s.Environment) {
			options.Environments = append(options.Environments, s.Environment)
		}
		if options.Pipeline == "" {
			source, err := sourceOf(s, top)
			if err != nil {
				return nil, err
			}
			options.Sources = append(options.Sources, source)
		}
	}
	digests := map[string]digest.Digest{}
	for _, child := range app.Children(artifact.RoleImage) {
		for name := range strings.SplitSeq(child.Annotations[artifact.AnnotationImageSource], ",") {
			digests[name] = child.Digest
		}
	}
	options.digests = digests
	_, made, err := options.packed(ctx, parameters.Repository)
	return made, err
}

// sourceOf returns a source with its recorded options.
func sourceOf(s artifact.SourceParameters, top string) (Source, error) {
	out := Source{Name: s.Folder, Path: filepath.Join(top, filepath.FromSlash(s.Path)), Interpreter: s.Interpreter}
	if s.Reference != "" {
		out.Path = s.Reference
	}
	var options map[string]json.RawMessage
	if len(s.Options) > 0 {
		if err := json.Unmarshal(s.Options, &options); err != nil {
			return out, fmt.Errorf("options of %s: %w", s.Path, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		out.Settings = append(out.Settings, Setting{Name: name, JSON: options[name], Base: top})
	}
	return out, nil
}

// add adds a difference, unless it has been added before: several environments read the same
// files.
func (r *ReproduceResult) add(what, name, was, is string) {
	if d := (Difference{what, name, was, is}); !slices.Contains(r.Differs, d) {
		r.Differs = append(r.Differs, d)
	}
}

// compare finds the differences in sources, images and content.
func (r *ReproduceResult) compare(ctx context.Context, was, is *side, top string) error {
	var facts []Difference // differences that follow from others, such as that a file is modified
	for _, c := range diffSources(was.view.Sources, is.view.Sources).Changed {
		file, read := strings.CutPrefix(c.Fact, "file ")
		option, given := strings.CutPrefix(c.Fact, "options.")
		of := func(what string) string { return strings.TrimSpace(c.Source + " " + what) } // for one of several sources
		switch {
		case read:
			if committed, now, err := vcs.Committed(ctx, top, file); err == nil && !bytes.Equal(committed, now) {
				file += ":" + strconv.Itoa(firstDifference(committed, now))
			}
			r.add("file", file, c.From, c.To)
		case given:
			r.add("option", of(option), c.From, c.To)
		case c.Fact == "interpreter":
			r.add("interpreter", of(c.Fact), c.From, c.To)
		default:
			facts = append(facts, Difference{"source", of(c.Fact), c.From, c.To})
		}
	}
	images := diffImages(was.view.Images, is.view.Images)
	for _, i := range images.Removed {
		r.add("image", i.Name, i.Digest.String(), "")
	}
	for _, i := range images.Added {
		r.add("image", i.Name, "", i.Digest.String())
	}
	for _, i := range images.Changed {
		r.add("image", i.Name, i.From.String(), i.To.String())
	}
	before, after := map[string][]byte{}, map[string][]byte{}
	for of, into := range map[*side]map[string][]byte{was: before, is: after} {
		err := of.eachFile(ctx, func(f files.File) error {
			into[f.Name] = f.Data
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, name := range keysOf(before, after) {
		a, had := before[name]
		b, has := after[name]
		if had && has && bytes.Equal(a, b) {
			continue
		}
		digestOf := func(data []byte, there bool) string {
			if !there {
				return ""
			}
			return digest.FromBytes(data).String()
		}
		at := name
		if had && has {
			at += ":" + strconv.Itoa(firstDifference(a, b))
		}
		r.add("content", at, digestOf(a, had), digestOf(b, has))
	}
	r.Differs = append(r.Differs, facts...)
	return nil
}

// firstDifference returns the number of the first line, from 1, that differs between two texts.
func firstDifference(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return 1 + bytes.Count(a[:n], []byte("\n"))
}

// statements finds the differences in statements. Any earlier difference changes the statements
// too, so they are reported only if there is none.
func (r *ReproduceResult) statements(was, is []artifact.Statement) error {
	if len(r.Differs) > 0 {
		return nil
	}
	kinds := func(list []artifact.Statement) (map[string]any, error) {
		out := map[string]any{}
		for _, s := range list {
			var predicate any
			if err := decodeJSON(s.Predicate, &predicate); err != nil {
				return nil, err
			}
			of, _ := out[s.PredicateType].([]any)
			out[s.PredicateType] = append(of, predicate)
		}
		return out, nil
	}
	a, errA := kinds(was)
	b, errB := kinds(is)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	cells, room := maxCells, maxText
	for _, kind := range keysOf(a, b) {
		changed, err := diffFields(a[kind], b[kind], &cells, &room)
		if err != nil {
			return err
		}
		for _, c := range changed {
			r.add("statement", strings.TrimSpace(kind+" "+c.Path), string(c.From), string(c.To))
		}
	}
	return nil
}
