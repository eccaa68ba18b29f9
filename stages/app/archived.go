// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/stages/artifact"
)

// An archive of an application is exactly what Save writes for it. Its blobs are addressed by
// digest, starting from a signed root. Its index.json is not, and container runtimes trust the
// image names in it. So tape generates index.json again from the root and compares the two.
//
// The readers in this package find entries by name, so they accept an archive that another
// program has packed again. Verify also compares every byte of the tar, because other programs
// may read it differently.
//
// This applies only to applications. Any program may write other archives and layouts, and
// several programs may write to one layout in a folder.

// refused is the error of an archive that differs from what Save writes.
type refused struct{ error }

func (r refused) Unwrap() []error { return []error{r.error, engine.ErrPolicy} }

// refusal wraps an error that reports a damaged or changed archive in refused.
func refusal(err error) error {
	if errdefs.IsDataLoss(err) {
		return refused{err}
	}
	return err
}

// isArchive reports whether a single file was opened.
func (o *opened) isArchive() bool {
	if o.layout == nil {
		return false
	}
	_, ok := o.layout.Archive()
	return ok
}

// find returns the manifest that the reference names. An archive without a tag stands for its
// application, whatever else it lists.
func (o *opened) find(ctx context.Context) (ocispec.Descriptor, error) {
	if !o.isArchive() {
		return o.Resolve(ctx, o.version)
	}
	roots, err := o.roots(ctx)
	if err != nil {
		return ocispec.Descriptor{}, refusal(err)
	}
	version := o.version
	if version == "" && len(roots) == 1 {
		version = roots[0].Digest.String()
	}
	desc, err := o.Resolve(ctx, version)
	if err != nil && len(roots) > 0 {
		// The wanted manifest may exist but have been changed.
		err = cmp.Or(o.checkArchive(ctx, roots[0], false), err)
	}
	return desc, refusal(err)
}

// roots returns the applications that are listed in the layout, without duplicates.
func (o *opened) roots(ctx context.Context) ([]ocispec.Descriptor, error) {
	var out []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, desc := range o.layout.Index().Manifests {
		if seen[desc.Digest] {
			continue
		}
		seen[desc.Digest] = true
		root, err := o.isRoot(ctx, desc)
		if err != nil {
			return nil, err
		}
		if root {
			out = append(out, desc)
		}
	}
	return out, nil
}

// isRoot reports whether a manifest is the root of an application in any format except the
// original one. It returns false if the manifest is missing or damaged.
func (o *opened) isRoot(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if !images.IsIndexType(desc.MediaType) || desc.Size < 0 || desc.Size > registry.MaxManifest {
		return false, nil
	}
	data, err := content.ReadBlob(ctx, o, desc)
	if errdefs.IsNotFound(err) || errdefs.IsDataLoss(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var index struct {
		Annotations map[string]string `json:"annotations"`
	}
	return descriptor.Unmarshal(data, &index) == nil && index.Annotations[artifact.AnnotationFormat] != "", nil
}

// checkArchive returns an error if an archive differs from what Save writes for its application:
// the one that it lists or, if it lists none, found. An archive without an application is not
// checked. exact also checks the bytes that no digest covers.
func (o *opened) checkArchive(ctx context.Context, found ocispec.Descriptor, exact bool) error {
	if !o.isArchive() {
		return nil
	}
	roots, err := o.roots(ctx)
	if err != nil {
		return refusal(err)
	}
	if !slices.ContainsFunc(roots, func(d ocispec.Descriptor) bool { return d.Digest == found.Digest }) {
		root, err := o.isRoot(ctx, found)
		if err != nil {
			return refusal(err)
		}
		if root {
			roots = append(roots, found)
		}
	}
	switch len(roots) {
	case 0:
		return nil
	case 1:
	default:
		return refused{fmt.Errorf("it contains %d applications, but an archive has one: it is not what was saved", len(roots))}
	}
	app, err := artifact.OpenRoot(ctx, o, roots[0])
	if err != nil {
		return refusal(err)
	}
	if err := o.checkOne(ctx, app, exact); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return refused{err}
	}
	return nil
}

// checkedOnce returns a function that rejects images from an archive of an application that
// differs from what Save writes, because such an image is chosen by its name. It checks each file
// once.
func checkedOnce() func(context.Context, local.Place) error {
	var (
		mu      sync.Mutex
		checked = map[local.Place]error{}
	)
	return func(ctx context.Context, from local.Place) error {
		mu.Lock()
		defer mu.Unlock()
		err, ok := checked[from]
		if !ok {
			err = checkTaken(ctx, string(from))
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			checked[from] = err
		}
		return err
	}
}

// checkTaken checks the archive of an application. It ignores a file that it cannot open as an
// archive, because reading the image reports that.
func checkTaken(ctx context.Context, ref string) (err error) {
	l, _, err := layout.OpenReference(ctx, ref)
	if err != nil {
		return nil //nolint:nilerr // reading the image reports it
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	o := &opened{Repository: l, layout: l}
	if !o.isArchive() {
		return nil
	}
	roots, err := o.roots(ctx)
	if err == nil && len(roots) > 0 {
		err = o.checkArchive(ctx, roots[0], false)
	}
	if err != nil && context.Cause(ctx) == nil {
		// The text hides the cause: something missing from the archive must not look like an
		// image that the registry does not have.
		err = refused{fmt.Errorf("%s: %v", ref, err)} //nolint:errorlint // on purpose
	}
	return err
}

// checkOne implements checkArchive for one application.
func (o *opened) checkOne(ctx context.Context, app *artifact.Application, exact bool) error {
	there, err := o.layout.Blobs()
	if err != nil {
		return err
	}
	for _, desc := range o.layout.Index().Manifests {
		if _, ok := slices.BinarySearch(there, desc.Digest); !ok {
			return fmt.Errorf("it is incomplete, save it again: manifest %s is not in %s", desc.Digest, o.layout.Path())
		}
	}
	want, index, err := o.regenerate(ctx, app)
	if errdefs.IsNotFound(err) {
		err = fmt.Errorf("it is incomplete, save it again: %w", err)
	}
	if err != nil {
		return err
	}
	if err := sameIndex(o.layout.IndexData(), index); err != nil {
		return err
	}
	all := want.tree.Descriptors()
	for _, desc := range all {
		blob, err := o.layout.Blob(ctx, desc) // Blob checks the size
		if errdefs.IsNotFound(err) {
			err = fmt.Errorf("it is incomplete, save it again: %w", err)
		}
		if err != nil {
			return err
		}
		if err := blob.Close(); err != nil {
			return err
		}
	}
	for _, dgst := range there {
		if !want.tree.Has(dgst) {
			return fmt.Errorf("nothing in it leads to its blob %s: it is not what was saved", dgst)
		}
	}
	if list := o.layout.Unexpected(); len(list) > 0 {
		return fmt.Errorf("it has %s: it is not what was saved", strings.Join(list, ", "))
	}
	if !exact {
		return nil
	}
	if err := o.readSignatures(ctx, want.archive.Signatures); err != nil {
		return err
	}
	plan, err := layout.NewPlan(index, all)
	if err != nil {
		return err
	}
	file, _ := o.layout.Archive()
	if err := plan.Check(ctx, file); err != nil {
		return fmt.Errorf("another program packed it (%w): save it again from this archive, so that what other programs read is verified", err)
	}
	return nil
}

// maxTags limits the tags and the platforms of an archive.
const maxTags = 1000

// regenerate returns what Save would write for the application, including index.json. Only the
// tags and platforms are taken from the archive's own index.
func (o *opened) regenerate(ctx context.Context, app *artifact.Application) (*saving, []byte, error) {
	var tags []string
	platforms := []string{""}
	for _, desc := range o.layout.Index().Manifests {
		if desc.Digest != app.Root.Digest {
			continue
		}
		tag := desc.Annotations[ocispec.AnnotationRefName]
		if tag == "" || slices.Contains(tags, tag) || len(tags) == maxTags {
			return nil, nil, fmt.Errorf("its index.json lists the root as %q: it is not what was saved", tag)
		}
		tags = append(tags, tag)
		if list := desc.Annotations[artifact.AnnotationPlatforms]; list != "" {
			platforms = strings.Split(list, ",")
			app.Root.Annotations = desc.Annotations
		}
	}
	given, err := app.Tags(ctx)
	if err == nil {
		err = checkRootTags(given, tags...)
	}
	if err != nil {
		return nil, nil, err
	}
	var (
		saved *saving
		index []byte
	)
	for i, platform := range platforms {
		if i == maxTags {
			break
		}
		if err := checkPlatform(platform); err != nil {
			return nil, nil, err
		}
		if saved, err = newSaving(ctx, app, o, SaveOptions{Platform: platform}); err != nil {
			return nil, nil, err
		}
		saved.archive.Tags = tags
		if index, err = saved.archive.Index(); err != nil {
			return nil, nil, err
		}
		if bytes.Equal(index, o.layout.IndexData()) {
			break
		}
	}
	return saved, index, nil
}

// sameIndex returns an error that describes how an index.json differs from the expected one.
func sameIndex(found, want []byte) error {
	if bytes.Equal(found, want) {
		return nil
	}
	var is, should ocispec.Index
	if err := errors.Join(json.Unmarshal(found, &is), json.Unmarshal(want, &should)); err != nil {
		return fmt.Errorf("read index.json: %w", err)
	}
	more, missing := without(is.Manifests, should.Manifests), without(should.Manifests, is.Manifests)
	switch {
	case len(more) > 0:
		return fmt.Errorf("its index.json lists %s, which is not in the application: it is not what was saved", nameOf(more[0]))
	case len(missing) > 0:
		return fmt.Errorf("its index.json does not list %s: it is not what was saved", nameOf(missing[0]))
	}
	return errors.New("its index.json is encoded differently: it is not what was saved")
}

// without returns the elements of list that are not in others.
func without(list, others []ocispec.Descriptor) (rest []ocispec.Descriptor) {
	key := func(desc ocispec.Descriptor) string {
		data, _ := json.Marshal(desc) // it was decoded from JSON
		return string(data)
	}
	known := map[string]bool{}
	for _, desc := range others {
		known[key(desc)] = true
	}
	return slices.DeleteFunc(slices.Clone(list), func(desc ocispec.Descriptor) bool { return known[key(desc)] })
}

// nameOf describes a manifest and its name in index.json.
func nameOf(desc ocispec.Descriptor) string {
	for _, key := range []string{images.AnnotationImageName, ocispec.AnnotationRefName} {
		if name := desc.Annotations[key]; name != "" {
			return fmt.Sprintf("%s as %q", desc.Digest, name)
		}
	}
	return desc.Digest.String()
}

// readSignatures reads everything that is attached to root and content. Reading verifies the
// digests.
func (o *opened) readSignatures(ctx context.Context, list []ocispec.Descriptor) error {
	var tree transfer.Tree
	if err := tree.Add(ctx, o.layout, nil, list...); err != nil {
		return err
	}
	for _, desc := range tree.Descriptors() {
		body, err := o.layout.Blob(ctx, desc)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, body)
		if err := errors.Join(err, body.Close()); err != nil {
			return err
		}
	}
	return nil
}
