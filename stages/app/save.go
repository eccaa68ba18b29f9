// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// SaveOptions are the options of Save.
type SaveOptions struct {
	Environment
	Ref string
	// File is the file to write. If Writer is set, the archive is written to it instead.
	File   string
	Writer io.Writer
	// Platform is the only platform of images to keep: os/arch[/variant].
	Platform string
	// ImagesOnly saves only the images.
	ImagesOnly bool
	// Resume continues from what an interrupted Save left next to File.
	Resume bool
}

// SaveResult describes what was saved.
type SaveResult struct {
	Root struct {
		Ref    string        `json:"ref"`
		Digest digest.Digest `json:"digest"`
	} `json:"root"`
	File   string `json:"file,omitempty"`
	Size   int64  `json:"size"` // of the archive
	Blobs  int    `json:"blobs"`
	Images int    `json:"images"`
	// Attached are manifests that were attached to the application, and Signatures those of them
	// that are signatures rather than records of promotions, summaries or SBOMs.
	Attached   int `json:"attached"`
	Signatures int `json:"signatures"`
	// Platforms are the platforms of images that were kept, if others were left out.
	Platforms []string `json:"platforms,omitempty"`
}

// Save writes an application and its signatures to an archive. The same application gives the
// same bytes, wherever it is read from.
func Save(ctx context.Context, o SaveOptions) (result *SaveResult, err error) {
	if err := checkPlatform(o.Platform); err != nil {
		return nil, err
	}
	if o.File == "" && o.Writer == nil {
		return nil, asUsage(advice.Add(fmt.Errorf("save %s: no file to write to", o.Ref), advice.SaveToWriter))
	}
	if o.File != "" {
		if err := checkFile(o.File); err != nil {
			return nil, err
		}
		o.noteReplaced(o.File)
	}
	app, at, err := application(ctx, o.Registry, o.Ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	s, err := newSaving(ctx, app, at, o)
	if err != nil {
		return nil, fmt.Errorf("save %s: %w", o.Ref, err)
	}
	result = &SaveResult{File: o.File, Images: len(s.archive.Images), Attached: len(s.archive.Signatures), Platforms: s.archive.Platforms}
	for _, desc := range s.archive.Signatures {
		signature, err := isSignature(ctx, at, desc)
		if err != nil {
			return nil, fmt.Errorf("save %s: %w", o.Ref, err)
		}
		if signature {
			result.Signatures++
		}
	}
	result.Root.Digest = app.Root.Digest
	result.Root.Ref = strings.SplitN(o.Ref, "@", 2)[0] + "@" + app.Root.Digest.String()
	if result.Size, result.Blobs, err = s.write(ctx, o); err != nil {
		return nil, fmt.Errorf("save %s: %w", o.Ref, err)
	}
	return result, nil
}

// saving is an archive to be written.
type saving struct {
	archive artifact.Archive
	tree    transfer.Tree
}

// newSaving determines the content of the archive of an application.
func newSaving(ctx context.Context, app *artifact.Application, at *opened, o SaveOptions) (*saving, error) {
	if app.Format == artifact.FormatOriginal {
		return nil, advice.Add(fmt.Errorf("it is of format %s, which does not contain the images", app.Format), advice.Relocate, artifact.Format)
	}
	if list := app.Root.Annotations[artifact.AnnotationPlatforms]; list != "" && o.Platform == "" {
		return nil, advice.Add(fmt.Errorf("it has only %s of the images", list), advice.SavePlatform)
	}
	names, err := naming(ctx, app)
	if err != nil {
		return nil, err
	}
	s := &saving{archive: artifact.Archive{Images: app.Children(artifact.RoleImage), Names: names}}
	keep, kept, err := onePlatform(o.Platform, s.archive.Images)
	if err != nil {
		return nil, err
	}
	if err := s.tree.Add(ctx, at, keep, s.archive.Images...); err != nil {
		return nil, err
	}
	s.archive.Platforms = kept()
	if o.ImagesOnly {
		return s, nil
	}
	// Signatures may be attached to the application, and to everything in it that is saved.
	subjects := append(s.tree.Manifests(), app.Root.Digest)
	for _, child := range s.rest(app.Index) {
		subjects = append(subjects, child.Digest)
	}
	signatures, err := attachedTo(ctx, app, at, subjects, func(missing string) { o.say(engine.Warning, missing) })
	if err != nil {
		return nil, err
	}
	if at.layout == nil {
		if err := s.noteMissing(ctx, app, at, o); err != nil {
			return nil, err
		}
	}
	s.archive.Root, s.archive.Signatures = &app.Root, signatures
	s.archive.Tags = []string{cmp.Or(at.tag, app.Root.Annotations[ocispec.AnnotationRefName], app.ConfigTag())}
	return s, s.application(ctx, at, app.Root, app.Index, signatures)
}

// noteMissing reports what is attached to the application but missing from its archive, which contains
// only what the root and referrers lead to.
func (s *saving) noteMissing(ctx context.Context, app *artifact.Application, at *opened, o SaveOptions) error {
	subjects, err := manifestsOf(ctx, at, app.Root)
	if err != nil {
		return err
	}
	known, err := app.Tags(ctx)
	if err != nil {
		return err
	}
	tags, warning, err := openLater(ctx, at.Repository)
	if err != nil {
		return err
	}
	later, err := tags.find(ctx, subjects, known)
	if err != nil {
		return err
	}
	if len(later) > 0 {
		warning = fmt.Sprintf("cosign attached %s by tag after packaging, such as %s; the archive does not include this, but a copy does", count.Of(len(later), "manifest"), later[0].Tag)
	}
	if warning != "" {
		o.say(engine.Warning, warning)
	}
	return nil
}

// rest returns the children of the root that are not in the tree. They may be attached to a
// platform that was left out, so that they are missing from the tree.
func (s *saving) rest(index ocispec.Index) []ocispec.Descriptor {
	var rest []ocispec.Descriptor
	taken := map[digest.Digest]bool{}
	for before := -1; before < len(rest); { // what is attached may be listed before its subject
		before = len(rest)
		for _, child := range index.Manifests {
			about := digest.Digest(child.Annotations[artifact.AnnotationRelatedTo])
			if taken[child.Digest] || s.tree.Has(child.Digest) {
				continue
			}
			if about == "" || len(s.archive.Platforms) == 0 || s.tree.Has(about) || taken[about] {
				taken[child.Digest] = true
				rest = append(rest, child)
			}
		}
	}
	return rest
}

// application adds the rest of the application to the tree.
func (s *saving) application(ctx context.Context, from layout.Repository, root ocispec.Descriptor, index ocispec.Index, signatures []ocispec.Descriptor) error {
	if err := s.tree.Add(ctx, from, nil, slices.Concat(s.rest(index), signatures)...); err != nil {
		return err
	}
	return s.tree.Add(ctx, from, func(_ ocispec.Descriptor, list []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		return slices.DeleteFunc(list, func(d ocispec.Descriptor) bool { return !s.tree.Has(d.Digest) }), nil
	}, root)
}

// naming returns how the manifests of an application name its images.
func naming(ctx context.Context, app *artifact.Application) (artifact.Naming, error) {
	statements, err := app.Statements(ctx)
	if err != nil {
		return artifact.Naming{}, err
	}
	refs, ok := artifact.ImageRefs(statements)
	if !ok {
		return artifact.Naming{}, errors.New("its statements do not record how its manifests name the images")
	}
	return refs.Names(artifact.Taped(statements)), nil
}

// signaturesOf returns what is attached to root and content, and recursively what is attached to
// that.
func signaturesOf(ctx context.Context, app *artifact.Application, at layout.Repository, note func(string)) ([]ocispec.Descriptor, error) {
	return attachedTo(ctx, app, at, []digest.Digest{app.Root.Digest, app.Content.Digest}, note)
}

// attachedTo returns what is attached to some manifests of an application, recursively, except
// what the root itself lists. It calls note with what is listed but missing.
func attachedTo(ctx context.Context, app *artifact.Application, at layout.Repository, subjects []digest.Digest, note func(string)) ([]ocispec.Descriptor, error) {
	known := map[digest.Digest]bool{}
	for _, child := range app.Index.Manifests {
		known[child.Digest] = true
	}
	out, err := transfer.Attached(ctx, at, subjects, known, func(m transfer.MissingReferrer) { note(m.String()) })
	if err != nil {
		return nil, fmt.Errorf("look for signatures: %w", err)
	}
	return out, nil
}

// onePlatform returns a filter that keeps one platform of every index of an image, with the
// attestations of that platform inside the index. kept returns the platforms afterwards, or
// nothing if none was left out.
func onePlatform(text string, all []ocispec.Descriptor) (keep transfer.Keep, kept func() []string, err error) {
	if text == "" {
		return nil, func() []string { return nil }, nil
	}
	platform, err := images.ParsePlatform(text)
	if err != nil {
		return nil, nil, err
	}
	names := map[digest.Digest]string{}
	for _, image := range all {
		names[image.Digest] = image.Annotations[artifact.AnnotationImageSource]
	}
	var (
		mu   sync.Mutex
		took []string
		left bool
	)
	keep = func(index ocispec.Descriptor, list []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		best, there := platform.Choose(list)
		if len(there) == 0 {
			return list, nil // there is no choice
		}
		if best == nil {
			return nil, fmt.Errorf("image %s has no %s, only %s", cmp.Or(names[index.Digest], index.Digest.String()), text, strings.Join(there, ", "))
		}
		out := []ocispec.Descriptor{*best}
		for _, child := range list {
			if child.Annotations[artifact.AnnotationReferenceDigest] == best.Digest.String() {
				out = append(out, child)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, platforms.Format(*best.Platform))
		left = left || len(out) < len(list)
		return out, nil
	}
	return keep, func() []string {
		if !left {
			return nil
		}
		slices.Sort(took)
		return slices.Compact(took)
	}, nil
}

// write writes the archive. It returns its size and the number of blobs in it.
func (s *saving) write(ctx context.Context, o SaveOptions) (size int64, blobs int, err error) {
	index, err := s.archive.Index()
	if err != nil {
		return 0, 0, err
	}
	all := s.tree.Descriptors()
	plan, err := layout.NewPlan(index, all)
	if err != nil {
		return 0, 0, err
	}
	total := int64(0)
	for _, desc := range all {
		total += desc.Size
	}
	progress := newMeter(o.Events, "save")
	progress.Add(0, total)
	moved := func(n int64) { progress.Add(n, 0) }
	if o.Writer != nil {
		err = plan.Write(ctx, o.Writer, s.tree.Open, moved)
	} else {
		err = plan.WriteFile(ctx, o.File, s.tree.Open, layout.PlanOptions{Resume: o.Resume, Concurrency: atonce.Streams, Report: moved})
	}
	if progress.end(err); err == nil {
		return plan.Size(), len(all), nil
	}
	if o.Writer == nil {
		if _, e := os.Stat(o.File + layout.PartialSuffix); e == nil {
			err = advice.Add(fmt.Errorf("%w; the incomplete archive is %s", err, o.File+layout.PartialSuffix), advice.Resume)
		}
	}
	return 0, 0, err
}

// meter reports the progress of a command like the progress of a node. Its methods may be called
// concurrently.
type meter struct {
	*transfer.Progress
	node string

	mu     sync.Mutex
	events func(engine.Event)
}

func newMeter(events func(engine.Event), node string) *meter {
	if events == nil {
		events = func(engine.Event) {}
	}
	m := &meter{node: node, events: events}
	m.Progress = transfer.NewProgress(func(current, total int64) {
		m.tell(engine.Event{Current: current, Total: max(current, total), Unit: "bytes"})
	})
	m.tell(engine.Event{State: engine.Running})
	return m
}

func (m *meter) tell(e engine.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.Node, e.At = m.node, time.Now()
	m.events(e)
}

func (m *meter) note(message string) { m.tell(engine.Event{Level: engine.Note, Message: message}) }

func (m *meter) end(err error) {
	m.End()
	if err != nil {
		m.tell(engine.Event{State: engine.Failed, Err: err.Error()})
		return
	}
	m.tell(engine.Event{State: engine.Done})
}
