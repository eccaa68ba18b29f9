// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/stages/artifact"
)

// CopyOptions are the options of Copy.
type CopyOptions struct {
	Environment
	// Pairs are copied concurrently.
	Pairs []CopyPair
	// Check checks everything that the targets have, instead of trusting that existing content is
	// complete.
	Check bool
	// Immutable refuses to move a tag, before anything is copied.
	Immutable bool
	// Trust is the file of a trust policy that the source must satisfy, or "" for none.
	Trust string
}

// CopyPair is a source and a target.
type CopyPair struct {
	// Source is a registry reference, oci:DIR[:TAG] or archive:FILE[:TAG].
	Source string
	// Target is REPOSITORY[:TAG] or oci:DIR[:TAG], by default with the tag of the source, or
	// archive:FILE for an application.
	Target string
}

// CopyResult describes what was copied.
type CopyResult struct {
	Source string         `json:"source"`
	Ref    string         `json:"ref"` // of the copy
	Digest digest.Digest  `json:"digest"`
	Tags   []string       `json:"tags"` // of root and content, or of the image
	Moved  transfer.Moved `json:"moved"`
	// MovedTags are the tags that led to something else before, sorted.
	MovedTags []transfer.MovedTag `json:"moved_tags"`
	// PointsTo is the repository that the manifests refer to, if it is not the target.
	PointsTo string   `json:"pointsTo,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Copy copies applications, or other content of registries, byte for byte, including everything
// that they refer to and that is attached to them, so digests and signatures remain valid. It
// sets tags after everything else, and does not send content that already exists. If some pairs
// fail, the error consists of their errors ([CopyErrors]), and the results are those of the
// others.
func Copy(ctx context.Context, o CopyOptions) ([]CopyResult, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	results, errs, events := make([]*CopyResult, len(o.Pairs)), make([]error, len(o.Pairs)), serial(o.Events)
	_ = atonce.Each(ctx, atonce.Copies, o.Pairs, func(ctx context.Context, i int, pair CopyPair) error {
		node := "copy"
		if len(o.Pairs) > 1 {
			node += " " + pair.Source
		}
		results[i], errs[i] = copyPair(ctx, o, pair, node, events, nil)
		if errs[i] != nil {
			errs[i] = &CopyError{Pair: i, Err: fmt.Errorf("copy %s to %s: %w", pair.Source, pair.Target, errs[i])}
		}
		return nil // the others continue
	})
	done := []CopyResult{}
	for _, r := range results {
		if r != nil {
			done = append(done, *r)
		}
	}
	return done, errors.Join(errs...)
}

// check rejects pairs that would write different sources to the same tag or archive.
func (o CopyOptions) check() error {
	sources := map[string]string{} // by target with tag
	for _, pair := range o.Pairs {
		to := pair.Target
		if !strings.HasPrefix(to, "archive:") && tagIn(to) == "" {
			tag := tagIn(pair.Source)
			if tag == "" {
				continue // known after the source is read
			}
			to += ":" + tag
		}
		if other, taken := sources[to]; taken && other != pair.Source {
			return usagef("%s and %s have the same destination, %s", other, pair.Source, to)
		}
		sources[to] = pair.Source
	}
	return nil
}

// tagIn returns the tag in a registry reference, oci:DIR[:TAG] or archive:FILE[:TAG].
func tagIn(text string) string {
	return imageref.Split(strings.TrimPrefix(strings.TrimPrefix(text, "oci:"), "archive:")).Tag
}

// CopyError is the error of one pair.
type CopyError struct {
	Pair int // the index of the pair
	Err  error
}

func (e *CopyError) Error() string { return e.Err.Error() }
func (e *CopyError) Unwrap() error { return e.Err }

// CopyErrors returns the errors that an error of [Copy] consists of, in the order of the pairs.
func CopyErrors(err error) []*CopyError {
	var out []*CopyError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			if failed, ok := errors.AsType[*CopyError](err); ok {
				out = append(out, failed)
			}
		}
	}
	return out
}

// serial returns a function that calls events with one event at a time.
func serial(events func(engine.Event)) func(engine.Event) {
	var mu sync.Mutex
	return func(e engine.Event) {
		mu.Lock()
		defer mu.Unlock()
		if events != nil {
			events(e)
		}
	}
}

// target is the destination of a copy.
type target struct {
	transfer.Target
	repository string // "" for a layout
	name       string // of the repository, or oci:DIR
	tag        string
}

// openTarget opens a destination. tag is the tag of the source.
func openTarget(client *registry.Client, text, tag string) (*target, error) {
	if rest, ok := strings.CutPrefix(text, "oci:"); ok {
		dir, own, tagged := strings.Cut(rest, ":")
		if dir == "" {
			return nil, usagef("oci: names no folder")
		}
		if tagged {
			if err := artifact.CheckTag(own); err != nil {
				return nil, asUsage(err)
			}
		}
		to, err := transfer.ToLayout(dir)
		return &target{Target: to, name: "oci:" + dir, tag: cmp.Or(own, tag)}, err
	}
	if host, _, _ := strings.Cut(text, "/"); isPath(text) || isArchiveName(text) && !strings.ContainsAny(strings.TrimSuffix(host, text), ".:") {
		return nil, usagef("%s is a path: write archive:%[1]s for an archive, or oci:%[1]s for an OCI layout", text)
	}
	r, err := parseReference(text)
	if err != nil {
		return nil, err
	}
	if r.Digest != "" {
		return nil, usagef("a copy keeps its digest: leave it out of the target")
	}
	repo, err := client.Repository(r.Name)
	if err != nil {
		return nil, err
	}
	return &target{Target: transfer.ToRepository(client, repo), repository: r.Name, name: r.Name, tag: cmp.Or(r.Tag, tag)}, nil
}

// copyPair copies one pair, and reports its progress like a node of the graph. copied, if not
// nil, is called when an application is complete but not yet tagged.
func copyPair(ctx context.Context, o CopyOptions, pair CopyPair, node string, events func(engine.Event), copied func(context.Context, *copying) error) (result *CopyResult, err error) {
	env := o.Environment
	from, err := open(ctx, env.Registry, pair.Source)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	if file, ok := strings.CutPrefix(pair.Target, "archive:"); ok {
		if o.Trust != "" {
			return nil, usagef("a trust file applies to copies into a repository or a layout: verify the application before or after it is saved")
		}
		return copyToArchive(ctx, env, pair.Source, file)
	}
	root, err := from.resolve(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkTrust(ctx, o.Trust, from, root); err != nil {
		return nil, err
	}
	to, err := openTarget(env.Registry, pair.Target, cmp.Or(from.tag, tagOf(root.Annotations[ocispec.AnnotationRefName])))
	if err != nil {
		return nil, err
	}
	progress := newMeter(events, node)
	result = &CopyResult{Source: pair.Source, Digest: root.Digest, Tags: []string{}, MovedTags: []transfer.MovedTag{}}
	c := &copying{from: from, to: to, root: root, copied: copied}
	if err = c.open(ctx, transfer.Options{
		Check: o.Check, Asked: 1, Immutable: o.Immutable, Progress: progress.Progress,
		TagMoved: func(m transfer.MovedTag) {
			result.MovedTags = append(result.MovedTags, m)
			progress.note(m.String())
		},
		Missing: func(m transfer.MissingReferrer) { result.Warnings = append(result.Warnings, m.String()) },
	}); err == nil {
		if c.app != nil {
			err = c.application(ctx, result)
		} else {
			err = c.anything(ctx, result)
		}
	}
	if err == nil {
		err = to.Close()
	}
	if damaged, ok := errors.AsType[*transfer.SourceError](err); ok {
		err = refusal(damaged.Err) // without the operation that found it
	} else if from.isArchive() {
		err = refusal(err)
	}
	if registry.Refused(err) && c.app != nil {
		err = advice.Add(err, advice.CopyElsewhere)
	}
	if progress.end(err); err != nil {
		return nil, err
	}
	if from.warning != "" {
		result.Warnings = append(result.Warnings, from.warning)
	}
	result.Moved = c.Moved()
	transfer.SortMoved(result.MovedTags)
	result.Ref = imageref.Reference{Name: to.name, Tag: to.tag, Digest: root.Digest}.String()
	return result, nil
}

// tagOf returns the tag in a name in a layout, which is a tag or a complete reference.
func tagOf(name string) string {
	if !strings.ContainsAny(name, ":/") {
		return name
	}
	named, _ := imageref.Parse(name)
	return named.Tag
}

// copyToArchive calls Save, and continues an interrupted archive.
func copyToArchive(ctx context.Context, env Environment, source, file string) (*CopyResult, error) {
	if strings.ContainsRune(file, ':') {
		return nil, fmt.Errorf("archive:%s: an application in an archive keeps its tag: give only the file", file)
	}
	saved, err := Save(ctx, SaveOptions{Environment: env, Ref: source, File: file, Resume: true})
	if err != nil {
		return nil, err
	}
	return &CopyResult{
		Source: source, Ref: "archive:" + file, Digest: saved.Root.Digest, Tags: []string{}, MovedTags: []transfer.MovedTag{},
		Moved: transfer.Moved{Blobs: saved.Blobs, Bytes: saved.Size},
	}, nil
}

// copying is one copy.
type copying struct {
	*transfer.Copier
	from *opened
	to   *target
	root ocispec.Descriptor
	app  *artifact.Application // nil if it is something else
	// index is the root, if that is an index.
	index  ocispec.Index
	copied func(context.Context, *copying) error
}

// open determines what is copied, and whether the destination is empty.
func (c *copying) open(ctx context.Context, o transfer.Options) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		o.Empty, err = c.to.Empty(groupCtx)
		return err
	})
	group.Go(func() error { return c.read(groupCtx) })
	err := group.Wait()
	c.Copier = transfer.NewCopier(c.to, o)
	return err
}

func (c *copying) read(ctx context.Context) error {
	data, err := engine.Get(ctx, c.from, c.root)
	if err != nil {
		return err
	}
	if err := descriptor.Unmarshal(data, &c.index); err != nil {
		return fmt.Errorf("read manifest %s: %w", c.root.Digest, err)
	}
	app, err := artifact.OpenRoot(ctx, c.from, c.root)
	switch {
	case err == nil:
		c.app = app
	case c.index.Annotations[artifact.AnnotationFormat] != "":
		return err
	}
	return nil
}

// checkRootTags returns an error if a root cannot have one of the tags in the repository that
// also holds its images. It ignores empty tags.
func checkRootTags(images []artifact.Tagged, tags ...string) error {
	for _, tag := range tags {
		if tag == "" {
			continue
		}
		if err := artifact.CheckTag(tag); err != nil {
			return err
		}
		if slices.ContainsFunc(images, func(t artifact.Tagged) bool { return t.Tag == tag || t.Tag == artifact.ContentTag(tag) }) {
			return fmt.Errorf("tag %q is one that an image of the application has: choose another", tag)
		}
	}
	return nil
}

// application copies an application in the order of a push: first everything by digest, then what
// is attached to it, then tags, and last the tag that people use.
func (c *copying) application(ctx context.Context, result *CopyResult) error {
	subjects, err := manifestsOf(ctx, c.from, c.root)
	if err != nil {
		return err
	}
	tags, err := c.app.Tags(ctx)
	if err != nil {
		return err
	}
	if err := checkRootTags(tags, c.to.tag); err != nil {
		return err
	}
	attached, warning, err := openLater(ctx, c.from.Repository)
	if err != nil {
		return err
	}
	if warning != "" {
		result.Warnings = append(result.Warnings, warning)
	}
	later, err := attached.find(ctx, subjects, tags)
	if err != nil {
		return err
	}
	for _, l := range later {
		subjects = append(subjects, l.Desc.Digest)
	}
	known := slices.Concat(tags, later)
	if c.app.Format != artifact.FormatOriginal && c.to.tag != "" {
		tags = append(tags, transfer.Tagged{Tag: artifact.ContentTag(c.to.tag), Desc: c.app.Content})
	}
	var below map[digest.Digest]bool // manifests that are not listed as referrers
	if c.to.repository == "" {
		// Readers enter a layout at the root, and find everything below it from there.
		tags, below = nil, map[digest.Digest]bool{}
		for _, child := range c.app.Index.Manifests {
			below[child.Digest] = true
		}
	}
	tags = append(tags, later...)
	if err := c.plan(ctx, tags); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	var about []digest.Digest
	group.Go(func() (err error) {
		about, err = c.Whole(groupCtx, c.from.Repository, c.root, subjects)
		return err
	})
	for _, l := range later {
		group.Go(func() error {
			_, err := c.Manifest(groupCtx, c.from.Repository, l.Desc)
			return err
		})
	}
	if c.to.repository != "" {
		group.Go(func() error {
			statements, err := c.app.Statements(groupCtx)
			if refs, ok := artifact.ImageRefs(statements); ok && refs.Repository != c.to.repository {
				result.PointsTo = refs.Repository
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	more, err := attached.find(ctx, about, known)
	if err != nil {
		return err
	}
	if err := c.Manifests(ctx, c.from.Repository, descriptors(more)...); err != nil {
		return err
	}
	if _, err := c.Plan(ctx, more); err != nil {
		return err
	}
	if err := c.List(ctx, below); err != nil {
		return err
	}
	if c.copied != nil {
		if err := c.copied(ctx, c); err != nil {
			return err
		}
	}
	if err := c.tags(ctx, append(tags, more...)); err != nil {
		return err
	}
	switch {
	case c.to.repository == "":
	case c.app.Format == artifact.FormatOriginal:
		result.Warnings = append(result.Warnings, "it is of format "+c.app.Format+", which does not contain its images, so they were not copied; relocate it to get an application that contains them")
	case c.to.tag != "":
		result.Tags = append(result.Tags, artifact.ContentTag(c.to.tag))
	}
	return c.name(ctx, result)
}

// descriptors returns the descriptors that the tags lead to.
func descriptors(tags []transfer.Tagged) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, t := range tags {
		out = append(out, t.Desc)
	}
	return out
}

// plan looks up the tags to be set, including that of the copied manifest.
func (c *copying) plan(ctx context.Context, tags []transfer.Tagged) error {
	if c.to.tag != "" {
		tags = append(slices.Clone(tags), transfer.Tagged{Tag: c.to.tag, Desc: c.root})
	}
	_, err := c.Plan(ctx, tags)
	return err
}

// name tags what was copied, as the last step. In a layout, it is listed even without a tag.
func (c *copying) name(ctx context.Context, result *CopyResult) error {
	if c.to.tag == "" && c.to.repository != "" {
		return nil
	}
	if c.to.tag != "" {
		result.Tags = append(result.Tags, c.to.tag)
	}
	return c.Tag(ctx, c.from.Repository, c.root, c.to.tag)
}

// tags sets tags concurrently.
func (c *copying) tags(ctx context.Context, list []transfer.Tagged) error {
	return atonce.Each(ctx, 0, list, func(ctx context.Context, _ int, tag transfer.Tagged) error {
		return c.Tag(ctx, c.from.Repository, tag.Desc, tag.Tag)
	})
}

// manifestsOf returns a manifest and all manifests below it. Others may be attached to any of
// these.
func manifestsOf(ctx context.Context, from content.Provider, root ocispec.Descriptor) ([]digest.Digest, error) {
	list, err := transfer.Below(ctx, from, root)
	if err != nil {
		return nil, err
	}
	out := []digest.Digest{root.Digest}
	known := map[digest.Digest]bool{root.Digest: true}
	for _, desc := range list {
		if !known[desc.Digest] {
			known[desc.Digest] = true
			out = append(out, desc.Digest)
		}
	}
	return out, nil
}

// cosignSuffixes are the suffixes of the tags under which cosign before version 3 stores what is
// attached to a manifest.
var cosignSuffixes = []string{".sig", ".att", ".sbom"}

// anything copies what is not an application, such as an image or a chart, including its
// platforms and what is attached to them.
func (c *copying) anything(ctx context.Context, result *CopyResult) error {
	subjects, err := manifestsOf(ctx, c.from, c.root)
	if err != nil {
		return err
	}
	if err := c.plan(ctx, nil); err != nil {
		return err
	}
	about, err := c.Whole(ctx, c.from.Repository, c.root, subjects)
	if err != nil {
		return err
	}
	signatures, err := c.byTag(ctx, append(subjects, about...))
	if err != nil {
		return err
	}
	if err := c.plan(ctx, signatures); err != nil {
		return err
	}
	if err := c.List(ctx, nil); err != nil {
		return err
	}
	if err := c.tags(ctx, signatures); err != nil {
		return err
	}
	return c.name(ctx, result)
}

// byTag copies what cosign attached by tag.
func (c *copying) byTag(ctx context.Context, subjects []digest.Digest) ([]transfer.Tagged, error) {
	found := make([]transfer.Tagged, len(subjects)*len(cosignSuffixes))
	group, ctx := errgroup.WithContext(ctx)
	for i, subject := range subjects {
		for j, suffix := range cosignSuffixes {
			group.Go(func() error {
				tag := registry.AttachedTag(subject, suffix)
				if tag == "" {
					return nil
				}
				desc, err := c.from.Resolve(ctx, tag)
				if errdefs.IsNotFound(err) {
					return nil
				}
				if err == nil {
					_, err = c.Manifest(ctx, c.from.Repository, desc)
				}
				found[i*len(cosignSuffixes)+j] = transfer.Tagged{Tag: tag, Desc: desc}
				return err
			})
		}
	}
	err := group.Wait()
	return slices.DeleteFunc(found, func(t transfer.Tagged) bool { return t.Tag == "" }), err
}
