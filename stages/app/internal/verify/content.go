// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/scan"
	"github.com/taped-dev/tape/stages/vcs"
)

// content checks the files of the content against the statements.
func (c *chain) content(ctx context.Context) []Link {
	subject := c.app.Content.Digest
	if c.app.Format == artifact.FormatOriginal {
		return []Link{broken("statements", subject, fmt.Errorf("format %s has no statements about every byte, "+
			"and its images are outside of it: relocating makes one of format %s of it", c.app.Format, artifact.Format))}
	}
	var list []files.File
	// In the canonical form it has nothing but the files that statements are about.
	err := c.slot(ctx, func() (err error) {
		list, err = c.app.CanonicalFiles(ctx)
		return err
	})
	links := []Link{c.link("layer", c.app.Layer.Digest, err)}
	s, statementErr := c.statements(ctx)
	links = append(links, c.link("provenance", subject, statementErr))
	sums := make([]digest.Digest, len(list))
	for i, f := range list {
		sums[i] = digest.FromBytes(f.Data)
	}
	var outside []Link
	for _, check := range []struct {
		name string
		do   func() error
	}{
		{"files", func() error {
			return cmp.Or(s.accountFor(list, sums), s.environments(c.app.Environments(), list))
		}},
		{"edits", func() error { return s.undo(list, sums) }},
		{"origin", func() error { return s.origin() }},
		{"images", func() error { return s.inside(c.images) }},
		{"references", func() (err error) {
			outside, err = c.references(ctx, s, list)
			return err
		}},
		{"source", func() error { return s.from(c.o.Source, c.o.Commit) }},
	} {
		if check.name == "source" && c.o.Source == "" && c.o.Commit == "" {
			continue
		}
		reason := errors.New("not checked: the layer or the statements cannot be read")
		if err == nil && statementErr == nil {
			reason = check.do()
		}
		links = append(links, c.link(check.name, subject, reason))
	}
	return append(links, outside...)
}

// said holds the parsed statements.
type said struct {
	edits    []edited                          // in the order in which they were applied
	rendered map[string][]digest.Digest        // by name of the manifest
	renders  []artifact.Transform              //
	sources  map[string]map[digest.Digest]bool // by name of the source file
	facts    []vcs.Facts
	origins  []artifact.SourceParameters // in the provenance
}

// edited is a transform that only edits.
type edited struct {
	artifact.Transform
	subjects map[string]digest.Digest // outputs, by name
	// input and edits are those of each output.
	input map[string]artifact.Input
	edits map[string][]images.Edit
}

// statements reads the statements, which must all be about this content.
func (c *chain) statements(ctx context.Context) (*said, error) {
	attestations := c.app.Children(artifact.RoleAttestations)
	if len(attestations) != 1 {
		return nil, fmt.Errorf("the root lists %d attestation manifests instead of one", len(attestations))
	}
	data, err := c.read(ctx, attestations[0], registry.MaxManifest)
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := descriptor.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("attestation manifest %s: %w", attestations[0].Digest, err)
	}
	if m.Subject == nil || m.Subject.Digest != c.app.Content.Digest {
		return nil, fmt.Errorf("attestation manifest %s is not about the content", attestations[0].Digest)
	}
	list, err := c.app.Statements(ctx)
	if err != nil {
		return nil, err
	}
	s := &said{rendered: map[string][]digest.Digest{}, sources: map[string]map[digest.Digest]bool{}}
	for _, statement := range list {
		if err := s.take(statement, c.app.Content.Digest); err != nil {
			return nil, fmt.Errorf("statement %s: %w", statement.PredicateType, err)
		}
	}
	switch {
	case s.origins == nil:
		return nil, errors.New("no statement about where the content came from")
	case len(s.edits) == 0:
		return nil, errors.New("no statement says how the content was edited")
	case len(s.edits) > artifact.MaxEdits:
		return nil, fmt.Errorf("the content was edited %d times, more than %d", len(s.edits), artifact.MaxEdits)
	}
	slices.SortStableFunc(s.edits, func(a, b edited) int { return cmp.Compare(a.Order, b.Order) })
	return s, nil
}

// take adds one statement.
func (s *said) take(statement artifact.Statement, content digest.Digest) error {
	switch statement.PredicateType {
	case artifact.PredicateProvenance:
		var p artifact.Provenance
		if err := json.Unmarshal(statement.Predicate, &p); err != nil {
			return err
		}
		if len(statement.Subject) != 1 || digestOf(statement.Subject[0].Digest) != content {
			return fmt.Errorf("it is not about the content %s", content)
		}
		// The parameters have the meaning of this type. The builder does not matter: the key
		// vouches for the statement.
		if t := p.BuildDefinition.BuildType; t != artifact.BuildType && t != artifact.BuildTypeRelocate {
			return fmt.Errorf("its build type is %q, not one of tape's", t)
		}
		s.origins = append([]artifact.SourceParameters{}, p.BuildDefinition.ExternalParameters.Sources...)
	case artifact.PredicateSource:
		var f vcs.Facts
		if err := json.Unmarshal(statement.Predicate, &f); err != nil {
			return err
		}
		s.facts = append(s.facts, f)
		for _, file := range statement.Subject {
			if s.sources[file.Name] == nil {
				s.sources[file.Name] = map[digest.Digest]bool{}
			}
			s.sources[file.Name][digestOf(file.Digest)] = true
		}
	case artifact.PredicateTransform:
		var t artifact.Transform
		if err := json.Unmarshal(statement.Predicate, &t); err != nil {
			return err
		}
		if t.Kind == artifact.TransformRender {
			s.renders = append(s.renders, t)
			for _, file := range statement.Subject {
				s.rendered[file.Name] = append(s.rendered[file.Name], digestOf(file.Digest))
			}
			return nil
		}
		e := edited{t, map[string]digest.Digest{}, map[string]artifact.Input{}, map[string][]images.Edit{}}
		for _, file := range statement.Subject {
			e.subjects[file.Name] = digestOf(file.Digest)
		}
		for _, input := range t.Inputs {
			e.input[input.Output] = input
		}
		for _, edit := range t.Edits {
			e.edits[edit.File] = append(e.edits[edit.File], edit)
		}
		for _, edits := range e.edits {
			slices.SortStableFunc(edits, func(a, b images.Edit) int { return cmp.Compare(a.Offset, b.Offset) })
		}
		s.edits = append(s.edits, e)
	}
	return nil
}

// digestOf converts a DigestSet of in-toto; "" if it has no known algorithm.
func digestOf(set map[string]string) digest.Digest {
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		if hex, ok := set[algorithm.String()]; ok {
			return digest.NewDigestFromEncoded(algorithm, hex)
		}
	}
	return ""
}

// accountFor checks the names of the files, and sums, which are their digests, against the
// subjects.
func (s *said) accountFor(list []files.File, sums []digest.Digest) error {
	var wrong []string
	left := maps.Clone(s.edits[len(s.edits)-1].subjects)
	for i, f := range list {
		switch want, ok := left[f.Name]; {
		case !ok:
			wrong = append(wrong, f.Name+": no statement is about it")
		case sums[i] != want:
			wrong = append(wrong, f.Name+": the statements have another digest for it")
		}
		delete(left, f.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		wrong = append(wrong, name+": missing from the content")
	}
	return some(wrong)
}

// environments checks that the environments that the root names, which say which folder a
// deployer is given, are those of the sources and of the files.
func (s *said) environments(named artifact.EnvironmentSet, list []files.File) error {
	var rendered []string
	for _, origin := range s.origins {
		if origin.Environment != "" {
			rendered = append(rendered, origin.Environment)
		}
	}
	slices.Sort(rendered)
	if rendered = slices.Compact(rendered); !slices.Equal(rendered, named) {
		return fmt.Errorf("the root names the environments %q, the statements %q", []string(named), rendered)
	}
	var wrong []string
	for _, f := range list {
		if len(named) > 0 && named.Of(f.Name) == "" {
			wrong = append(wrong, f.Name+": in none of the environments")
		}
	}
	return some(wrong)
}

// undo checks that undoing all edits, the last ones first, restores the inputs. It holds a
// second copy of one file at a time.
func (s *said) undo(list []files.File, sums []digest.Digest) error {
	var wrong []string
	for i, f := range list {
		if err := restore(s.edits, f, sums[i]); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	for _, step := range s.edits {
		for _, name := range slices.Sorted(maps.Keys(step.edits)) {
			if _, written := step.subjects[name]; !written {
				wrong = append(wrong, name+": has edits, but is missing from the content")
			}
		}
	}
	return some(wrong)
}

// restore undoes the edits of one file, which has the digest after.
func restore(steps []edited, f files.File, after digest.Digest) error {
	for i, step := range slices.Backward(steps) {
		input, ok := step.input[f.Name]
		if !ok {
			return fmt.Errorf("%s: no statement names its manifest", f.Name)
		}
		before := digestOf(input.Digest)
		if edits := step.edits[f.Name]; len(edits) > 0 || before != after {
			var err error
			done := images.FileEdits{File: f.Name, Before: before, After: after, Edits: edits}
			if f.Data, err = done.Undo(f.Data); err != nil {
				return err
			}
		}
		if f.Name = input.Name; i > 0 && steps[i-1].subjects[f.Name] != before {
			return fmt.Errorf("%s: the edited file is not the output of the previous transform", f.Name)
		}
		after = before
	}
	return nil
}

// origin checks that the inputs of the first edits were rendered, and that the inputs of
// the renders are in the sources.
func (s *said) origin() error {
	var wrong []string
	for _, input := range s.edits[0].Inputs {
		if !slices.Contains(s.rendered[input.Name], digestOf(input.Digest)) {
			wrong = append(wrong, input.Name+": neither an unchanged source nor a rendered file")
		}
	}
	for _, render := range s.renders {
		for _, input := range render.Inputs {
			if !s.sources[input.Name][digestOf(input.Digest)] {
				wrong = append(wrong, input.Name+": input of a render that is not in any source")
			}
		}
	}
	return some(wrong)
}

// inside checks that list, the images of the root, has every image that was written into
// the manifests.
func (s *said) inside(list map[digest.Digest]bool) error {
	var wrong []string
	for _, e := range s.edits {
		for _, edit := range e.Edits {
			if !list[edit.Digest] {
				wrong = append(wrong, fmt.Sprintf("%s: the root does not list %s", images.Place(edit.File, edit.Line, edit.Column), edit.Digest))
			}
		}
	}
	return some(wrong)
}

// spot is the position of a reference. Unlike lines and offsets, it does not change when
// something else in the file is edited.
type spot struct {
	file     string
	document int
	pointer  string
	value    string
}

func spotOf(l images.Location) spot { return spot{l.File, l.Document, l.Pointer, l.Value} }

// scanned returns the configuration that the manifests were scanned with, and the
// positions of references that were left as written.
func (s *said) scanned() (config scan.Config, left map[spot]bool, err error) {
	left = map[spot]bool{}
	known := map[string]bool{} // relocating says the same fields again
	for _, e := range s.edits {
		var fields []scan.Field
		if len(e.Fields) > 0 && !known[string(e.Fields)] {
			known[string(e.Fields)] = true
			if err := json.Unmarshal(e.Fields, &fields); err != nil {
				return config, nil, err
			}
		}
		config.Fields = append(config.Fields, fields...)
		references := slices.Clone(e.Excluded)
		for _, u := range e.Unpinned {
			references = append(references, u.Reference)
		}
		for _, r := range references {
			for _, l := range r.Locations {
				left[spotOf(l)] = true
			}
		}
	}
	return config, left, nil
}

// references scans the content again. Each image outside of the root that a pod would run
// is a link, which is OK only if that is allowed, whatever the statements say. Other
// references may only be known to a newer catalogue and cause a warning.
func (c *chain) references(ctx context.Context, s *said, list []files.File) ([]Link, error) {
	config, listed, err := s.scanned()
	if err != nil {
		return nil, fmt.Errorf("read the image fields of the pipeline: %w", err)
	}
	scanner, err := scan.New(config)
	if err != nil {
		return nil, fmt.Errorf("read the image fields of the pipeline: %w", err)
	}
	last := s.edits[len(s.edits)-1]
	var (
		wrong   []string
		outside []Link
	)
	// Scan each file by itself: deployers apply every file in the content.
	err = scanner.ScanEach(ctx, list, func(report *images.Report) {
		for _, skipped := range report.Skipped {
			if skipped.Invalid {
				wrong = append(wrong, fmt.Sprintf("%s: does not parse: %s", images.Place(skipped.File, skipped.Line, 0), skipped.Reason))
			}
		}
		for _, r := range slices.Concat(report.References, report.Excluded) {
			if c.inRoot(r.Name, last.Transform) {
				continue
			}
			for _, l := range r.Locations {
				switch {
				case l.Class == images.Pod:
					outside = append(outside, c.outside(l.Place(), l.Value))
					if !listed[spotOf(l)] && (!c.o.AllowOutside || c.o.Policy != nil) {
						wrong = append(wrong, fmt.Sprintf("%s: %s is outside the root, and the statements do not list it", l.Place(), l.Value))
					}
				case !listed[spotOf(l)]:
					c.warn("%s: %s (%s) is outside the root, and the statements do not list it", l.Place(), l.Value, l.Class)
				}
			}
		}
		for _, sentence := range scan.Rewriters(report) {
			c.warn("%s", sentence)
		}
		for _, p := range report.Placeholders {
			place := images.Place(p.File, p.Line, p.Column)
			if _, err := imageref.Parse(p.Value); p.Pod && err == nil {
				outside = append(outside, c.outside(place, p.Value))
			} else if p.Pod {
				c.warn("%s: image %q is a placeholder: the image that the pod will run is outside the root", place, p.Value)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return outside, some(wrong)
}

// outside returns the link for an image that a pod runs and that is not in the root.
func (c *chain) outside(place, value string) Link {
	// What is outside has no signature here that a policy could be satisfied with.
	allowed := c.o.AllowOutside && (c.o.Policy == nil || !c.o.Policy.Names(value))
	return Link{
		Name: "image outside " + value, Subject: c.app.Content.Digest, OK: allowed, Outside: true,
		Reason: place + ": a pod runs this image, but the root does not list it",
	}
}

// inRoot reports whether a reference names an image of the root by digest, in the form that
// the last transform writes.
func (c *chain) inRoot(name string, t artifact.Transform) bool {
	named, err := imageref.Parse(name)
	if err != nil || !c.images[named.Digest] {
		return false
	}
	if t.Naming == artifact.OneToOne {
		return strings.HasPrefix(named.Name, t.Repository+"/")
	}
	return named.Name == t.Repository
}

// from checks the sources against the expected URI and commit; "" matches any.
func (s *said) from(uri, commit string) error {
	if len(s.origins) == 0 {
		return errors.New("the statements name no source")
	}
	var wrong []string
	for _, origin := range s.origins {
		foundURI, foundCommit, modified := origin.Reference, "", vcs.Unknown
		if i := slices.IndexFunc(s.facts, func(f vcs.Facts) bool { return f.Name == origin.Name }); i >= 0 {
			modified = s.facts[i].Modified
			if len(s.facts[i].Repositories) > 0 {
				foundURI, foundCommit = s.facts[i].Repositories[0].URI, s.facts[i].Repositories[0].Commit
			}
		}
		of := cmp.Or(origin.Name, origin.Path, origin.Reference)
		if uri != "" && repositoryURI(uri) != repositoryURI(foundURI) {
			wrong = append(wrong, fmt.Sprintf("%s: comes from %s, not %s", of, cmp.Or(foundURI, "an unknown repository"), uri))
		}
		switch {
		case commit == "":
		case commit != foundCommit:
			wrong = append(wrong, fmt.Sprintf("%s: is at commit %s, not %s", of, cmp.Or(foundCommit, "unknown"), commit))
		case modified != vcs.No:
			wrong = append(wrong, fmt.Sprintf("%s: was modified since commit %s (modified: %s)", of, commit, modified))
		}
	}
	return some(wrong)
}

// repositoryURI removes the suffixes of a URI that do not change its meaning.
func repositoryURI(uri string) string {
	return strings.TrimSuffix(strings.TrimSuffix(uri, "/"), ".git")
}

// mostReasons is the maximum number of reasons for one link.
const mostReasons = 5

// some returns an error that lists the reasons, each once, nil if there are none.
func some(reasons []string) error {
	if len(reasons) == 0 {
		return nil
	}
	told := map[string]bool{}
	reasons = slices.DeleteFunc(slices.Clone(reasons), func(reason string) bool {
		again := told[reason]
		told[reason] = true
		return again
	})
	if more := len(reasons) - mostReasons; more > 0 {
		reasons = append(reasons[:mostReasons:mostReasons], fmt.Sprintf("and %d more", more))
	}
	return errors.New(strings.Join(reasons, "; "))
}
