// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/scan"
	"github.com/taped-dev/tape/stages/vcs"
)

// maxLayer bounds the content's layer, in bytes, compressed.
const maxLayer = 256 << 20

// content holds the files of the content against what the statements say.
func (c *chain) content(ctx context.Context) []Link {
	subject := c.app.Content.Digest
	if c.app.Format == artifact.FormatOriginal {
		return []Link{broken("statements", subject, fmt.Errorf("format %s does not say how each byte came about, "+
			"and its images lie outside: make a format %s of it with 'tape relocate -O'", c.app.Format, artifact.Format))}
	}
	list, err := c.files(ctx)
	links := []Link{c.link("layer", c.app.Layer.Digest, err)}
	s, statementErr := c.statements(ctx)
	links = append(links, c.link("provenance", subject, statementErr))
	var outside []Link
	for _, l := range []struct {
		name string
		hold func() error
	}{
		{"files", func() error { return s.accountFor(list) }},
		{"edits", func() error { return s.undo(list) }},
		{"origin", s.origin},
		{"images", func() error { return s.inside(c.images) }},
		{"references", func() (err error) { outside, err = c.references(ctx, s, list); return err }},
		{"source", func() error { return s.from(c.o.Source, c.o.Commit) }},
	} {
		if l.name == "source" && c.o.Source == "" && c.o.Commit == "" {
			continue
		}
		hold := l.hold
		if err := errors.Join(err, statementErr); err != nil {
			hold = func() error { return errors.New("it could not be looked at") }
		}
		links = append(links, c.link(l.name, subject, hold()))
	}
	return append(links, outside...)
}

// files reads the content, which must be packed as everybody packs it: nothing
// stands beside the files that statements are about.
func (c *chain) files(ctx context.Context) ([]files.File, error) {
	data, err := c.read(ctx, c.app.Layer, maxLayer)
	if err != nil {
		return nil, err
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", c.app.Layer.Digest, err)
	}
	limits := files.ContentLimits()
	found, canonical := sha256.New(), sha256.New()
	all := io.TeeReader(io.LimitReader(unpacked, limits.Bytes+int64(limits.Files)*2048), found)
	list, err := files.Read(all, limits)
	if err == nil {
		err = artifact.CheckContent(list)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, all) // what stands behind the end
	}
	if err == nil {
		err = files.Write(canonical, list)
	}
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", c.app.Layer.Digest, err)
	}
	if !bytes.Equal(found.Sum(nil), canonical.Sum(nil)) {
		return nil, fmt.Errorf("layer %s: the archive holds more than its %d files, or has them in another order or form", c.app.Layer.Digest, len(list))
	}
	return list, nil
}

// said is what the statements say.
type said struct {
	edits    []edited                          // of manifests to content, in their order
	rendered map[string][]digest.Digest        // by name of a manifest
	renders  []artifact.Transform              //
	sources  map[string]map[digest.Digest]bool // by name of a source file
	facts    []vcs.Facts
	origins  []artifact.SourceParameters // of the provenance
}

// edited is a transform by edits alone.
type edited struct {
	artifact.Transform
	subjects map[string]digest.Digest // what it made, by name
}

// statements reads the statements, which must be about this content.
func (c *chain) statements(ctx context.Context) (*said, error) {
	attestations := c.app.Children(artifact.RoleAttestations)
	if len(attestations) != 1 {
		return nil, fmt.Errorf("the root lists %d attestation manifests, not one", len(attestations))
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
		return nil, errors.New("no statement says where the content came from")
	case len(s.edits) == 0:
		return nil, errors.New("no statement says how the content was edited")
	}
	slices.SortStableFunc(s.edits, func(a, b edited) int { return cmp.Compare(a.Order, b.Order) })
	return s, nil
}

// take takes one statement down.
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
		subjects := map[string]digest.Digest{}
		for _, file := range statement.Subject {
			subjects[file.Name] = digestOf(file.Digest)
		}
		if t.Kind != artifact.TransformRender {
			s.edits = append(s.edits, edited{t, subjects})
			return nil
		}
		s.renders = append(s.renders, t)
		for name, made := range subjects {
			s.rendered[name] = append(s.rendered[name], made)
		}
	}
	return nil
}

// digestOf is in-toto's DigestSet as a digest.
func digestOf(set map[string]string) digest.Digest {
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		if hex, ok := set[algorithm.String()]; ok {
			return digest.NewDigestFromEncoded(algorithm, hex)
		}
	}
	return ""
}

// accountFor holds the files' names and digests against the subjects.
func (s *said) accountFor(list []files.File) error {
	var wrong []string
	left := maps.Clone(s.edits[len(s.edits)-1].subjects)
	for _, f := range list {
		switch want, ok := left[f.Name]; {
		case !ok:
			wrong = append(wrong, f.Name+": no statement is about it")
		case digest.FromBytes(f.Data) != want:
			wrong = append(wrong, f.Name+": the statements are about other bytes of this name")
		}
		delete(left, f.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		wrong = append(wrong, name+": it is not there")
	}
	return some(wrong)
}

// undo takes the edits back, the last ones first, which must give the files that
// were edited.
func (s *said) undo(list []files.File) error {
	for i, e := range slices.Backward(s.edits) {
		before, wrong := e.undo(list)
		if i > 0 {
			for _, f := range before {
				if s.edits[i-1].subjects[f.Name] != digest.FromBytes(f.Data) {
					wrong = append(wrong, f.Name+": what was edited is not what was made before")
				}
			}
		}
		if err := some(wrong); err != nil {
			return err
		}
		list = before
	}
	return nil
}

// undo gives the files that were edited, and what is wrong with them.
func (e edited) undo(list []files.File) (before []files.File, wrong []string) {
	edits := map[string][]images.Edit{}
	for _, edit := range e.Edits {
		edits[edit.File] = append(edits[edit.File], edit)
	}
	inputs := map[string]artifact.Input{}
	for _, input := range e.Inputs {
		inputs[input.Output] = input
	}
	for _, f := range list {
		input, ok := inputs[f.Name]
		if !ok {
			wrong = append(wrong, f.Name+": no statement says which file it was")
			continue
		}
		done := images.FileEdits{File: f.Name, Before: digestOf(input.Digest), After: digest.FromBytes(f.Data), Edits: edits[f.Name]}
		delete(edits, f.Name)
		slices.SortStableFunc(done.Edits, func(a, b images.Edit) int { return cmp.Compare(a.Offset, b.Offset) })
		data, err := done.Undo(f.Data)
		if err != nil {
			wrong = append(wrong, err.Error())
		}
		before = append(before, files.File{Name: input.Name, Data: data})
	}
	for _, name := range slices.Sorted(maps.Keys(edits)) {
		wrong = append(wrong, name+": edited, they say, and not there")
	}
	return before, wrong
}

// origin holds what was edited first against what was rendered, and what went
// into that against the sources.
func (s *said) origin() error {
	var wrong []string
	for _, input := range s.edits[0].Inputs {
		if !slices.Contains(s.rendered[input.Name], digestOf(input.Digest)) {
			wrong = append(wrong, input.Name+": it is no untouched source and nothing that was rendered")
		}
	}
	for _, render := range s.renders {
		for _, input := range render.Inputs {
			if !s.sources[input.Name][digestOf(input.Digest)] {
				wrong = append(wrong, input.Name+": it was rendered, and is in no source")
			}
		}
	}
	return some(wrong)
}

// inside says whether every image that was written into the manifests is one of
// the root's.
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

// spot is where a reference stands. Lines and offsets move with an edit; this
// does not.
type spot struct {
	file     string
	document int
	pointer  string
	value    string
}

func spotOf(l images.Location) spot { return spot{l.File, l.Document, l.Pointer, l.Value} }

// scanned is how images were looked for, and where those stand that were left as
// they were written.
func (s *said) scanned() (config scan.Config, left map[spot]bool, err error) {
	left = map[spot]bool{}
	for _, e := range s.edits {
		var fields []scan.Field
		if len(e.Fields) > 0 {
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

// references looks for images itself. Each image outside the root that a pod would
// run is a link, which holds only where that is allowed, whatever the statements
// say of it. What else is found may be what a newer catalogue knows: a warning.
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
	for _, f := range list {
		// By itself: whatever lies beside a file, all that is in the content is applied.
		report, err := scanner.Scan(ctx, []files.File{f})
		if err != nil {
			return nil, err
		}
		for _, skipped := range report.Skipped {
			if skipped.Invalid {
				wrong = append(wrong, fmt.Sprintf("%s: it cannot be read: %s", images.Place(skipped.File, skipped.Line, 0), skipped.Reason))
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
					if !listed[spotOf(l)] && !c.o.AllowOutside {
						wrong = append(wrong, fmt.Sprintf("%s: %s is outside the root, and nothing was said of it when it was packed", l.Place(), l.Value))
					}
				case !listed[spotOf(l)]:
					c.warn("%s: %s (%s) is outside the root; nothing was said of it when it was taped", l.Place(), l.Value, l.Class)
				}
			}
		}
		for _, p := range report.Placeholders {
			place := images.Place(p.File, p.Line, p.Column)
			if _, err := reference.ParseNormalizedNamed(p.Value); p.Pod && err == nil {
				outside = append(outside, c.outside(place, p.Value))
			} else if p.Pod {
				c.warn("%s: image %q is not a reference: what a pod runs there is filled in later, and is outside the root", place, p.Value)
			}
		}
	}
	return outside, some(wrong)
}

// outside is the link of an image of a pod that is not in the root.
func (c *chain) outside(place, value string) Link {
	return Link{
		Name: "image outside " + value, Subject: c.app.Content.Digest, OK: c.o.AllowOutside, Outside: true,
		Reason: place + ": a pod runs it, and it is not in the root",
	}
}

// inRoot says whether a reference is to an image of the root, by digest, under
// the names that the last transform gave.
func (c *chain) inRoot(name string, t artifact.Transform) bool {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false
	}
	if t.Naming == artifact.OneToOne {
		if !strings.HasPrefix(named.Name(), t.Repository+"/") {
			return false
		}
	} else if named.Name() != t.Repository {
		return false
	}
	digested, ok := named.(reference.Digested)
	return ok && c.images[digested.Digest()]
}

// from holds the sources against what is expected of them.
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
			wrong = append(wrong, fmt.Sprintf("%s: it is of %s, not %s", of, cmp.Or(foundURI, "no known repository"), uri))
		}
		switch {
		case commit == "":
		case commit != foundCommit:
			wrong = append(wrong, fmt.Sprintf("%s: it is at %s, not %s", of, cmp.Or(foundCommit, "no known commit"), commit))
		case modified != vcs.No:
			wrong = append(wrong, fmt.Sprintf("%s: it was modified since %s (modified: %s)", of, commit, modified))
		}
	}
	return some(wrong)
}

// repositoryURI leaves out what makes no difference.
func repositoryURI(uri string) string {
	return strings.TrimSuffix(strings.TrimSuffix(uri, "/"), ".git")
}

// mostReasons is how many reasons a link gives.
const mostReasons = 5

// some makes an error of reasons; nil of none.
func some(reasons []string) error {
	if len(reasons) == 0 {
		return nil
	}
	if more := len(reasons) - mostReasons; more > 0 {
		reasons = append(reasons[:mostReasons:mostReasons], fmt.Sprintf("and %d more", more))
	}
	return errors.New(strings.Join(reasons, "; "))
}
