// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/internal/temporary"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
)

// Ways to name relocated images.
const (
	// SingleNaming puts all images into one repository.
	SingleNaming = "single"
	// OneToOneNaming gives each image its own repository.
	OneToOneNaming = artifact.OneToOne
)

// RelocateOptions are the options of Relocate.
type RelocateOptions struct {
	Options
	// Source is an application in a registry, an archive or a layout, or a source to render.
	Source string
	// Prefix is the prefix of the names of the images; by default Repository.
	Prefix string
	// Naming is SingleNaming or OneToOneNaming; by default one to one if there is a Prefix, and
	// single otherwise.
	Naming string
	// Repository is the repository for a new root whose manifests have the new names; if empty,
	// no root is made.
	Repository string
	// Tags are the tags of the new root; by default those of the source.
	Tags []string
	// Mapping is a file, and Manifests a folder, to write; each may be empty.
	Mapping   string
	Manifests string
	Force     bool // replaces the content of Manifests
	// Immutable refuses to move a tag, before anything is copied.
	Immutable bool
}

// RelocateResult describes the new locations.
type RelocateResult struct {
	// Mapping maps each name of an image in the source to its new name. An image may have two
	// names: the one that it was packed under, and the one in the manifests.
	Mapping map[string]string `json:"mapping"`
	Root    *RelocatedRoot    `json:"root,omitempty"`
	Files   []string          `json:"files"`
	Moved   transfer.Moved    `json:"moved"`
	// MovedTags are the tags that led to something else before, sorted.
	MovedTags []transfer.MovedTag `json:"moved_tags"`
}

// RelocatedRoot is the new application.
type RelocatedRoot struct {
	Ref    string        `json:"ref"`
	Digest digest.Digest `json:"digest"`
	Tags   []string      `json:"tags"`
	// From is the digest of the root that it was made from.
	From digest.Digest `json:"from"`
}

// Relocate copies the images of an application to other names, with the same digests and with
// what is published with them, and rewrites the manifests. With Repository, it also makes a new
// application.
func Relocate(ctx context.Context, o RelocateOptions) (*RelocateResult, error) {
	to, err := o.naming()
	if err != nil {
		return nil, err
	}
	r := &relocating{
		RelocateOptions: &o, to: to, progress: newMeter(o.Events, "relocate"), copiers: map[string]*transfer.Copier{},
		result: &RelocateResult{Mapping: map[string]string{}, Files: []string{}, MovedTags: []transfer.MovedTag{}},
	}
	if ref, thick := applicationReference(o.Source); thick {
		err = r.application(ctx, ref)
	} else {
		err = r.manifests(ctx)
	}
	if err == nil {
		err = r.write(ctx)
	}
	if r.progress.end(err); err != nil {
		return nil, fmt.Errorf("relocate %s: %w", o.Source, err)
	}
	for _, copier := range r.copiers {
		r.result.Moved.Add(copier.Moved())
	}
	transfer.SortMoved(r.result.MovedTags)
	return r.result, nil
}

// naming returns how images are named.
func (o *RelocateOptions) naming() (artifact.Naming, error) {
	to := artifact.Naming{Repository: cmp.Or(o.Prefix, o.Repository)}
	switch cmp.Or(o.Naming, map[bool]string{true: SingleNaming, false: OneToOneNaming}[o.Prefix == ""]) {
	case SingleNaming:
	case OneToOneNaming:
		to.OneToOne = true
	default:
		return to, usagef("unknown naming %q: want %s or %s", o.Naming, SingleNaming, OneToOneNaming)
	}
	if to.Repository == "" {
		return to, asUsage(advice.Add(errors.New("no place to relocate to"), advice.RelocateTo))
	}
	if o.Repository != "" {
		if err := artifact.CheckRepository(o.Repository); err != nil {
			return to, asUsage(err)
		}
	}
	if err := checkTags(o.Tags); err != nil {
		return to, err
	}
	return to, asUsage(artifact.CheckRepository(to.Repository))
}

// applicationReference reports whether a source is an application, and returns its reference. An
// existing path takes precedence over a reference.
func applicationReference(source string) (ref string, ok bool) {
	if layout.IsReference(source) {
		return source, true
	}
	info, err := os.Stat(source)
	switch {
	case err != nil:
		_, err := parseReference(source)
		return source, err == nil
	case info.IsDir():
		_, err := os.Stat(filepath.Join(source, ocispec.ImageLayoutFile))
		return "oci:" + source, err == nil
	}
	return "archive:" + source, isArchiveName(source) && filepath.Ext(source) != ".tgz" // a .tgz file is a chart
}

// relocating is one relocation.
type relocating struct {
	*RelocateOptions
	to       artifact.Naming
	progress *meter
	result   *RelocateResult
	files    []files.File // with the new names

	mu      sync.Mutex
	copiers map[string]*transfer.Copier // by repository
}

// relocated is an image with its source and its new name.
type relocated struct {
	from  layout.Repository
	image ocispec.Descriptor
	// about is what is published with the image, with its tags.
	about []artifact.Tagged
	// subjects are the manifests to which more may have been attached after packing; later finds
	// the tags of that. nil if about is complete.
	subjects []digest.Digest
	later    *laterTags
	// names are the names that the image was packed under.
	names []string
}

// images copies the images to their new names, and returns a repository for each digest.
func (r *relocating) images(ctx context.Context, list []relocated) (map[digest.Digest]string, error) {
	type destination struct {
		images []relocated
		tags   map[string]ocispec.Descriptor
	}
	var (
		destinations = map[string]*destination{}
		placed       = map[digest.Digest]string{}
	)
	for _, image := range list {
		for _, name := range image.names {
			ref, err := r.to.Ref(name, image.image.Digest)
			if err != nil {
				return nil, err
			}
			parsed, err := imageref.Parse(ref)
			if err != nil {
				return nil, fmt.Errorf("image %s: %q: %w", name, ref, err)
			}
			r.result.Mapping[name] = ref
			d := destinations[parsed.Name]
			if d == nil {
				d = &destination{tags: map[string]ocispec.Descriptor{}}
				destinations[parsed.Name] = d
			}
			d.images = append(d.images, image)
			// An image named only by its digest gets a tag as well, because some registries remove
			// manifests without one.
			tag := cmp.Or(parsed.Tag, artifact.ImageTag(name, image.image.Digest))
			if _, taken := d.tags[tag]; !taken {
				d.tags[tag] = image.image
			}
			if placed[image.image.Digest] == "" {
				placed[image.image.Digest] = parsed.Name
			}
		}
	}
	names := slices.Sorted(maps.Keys(destinations))
	for _, name := range names {
		d := destinations[name]
		if err := r.free(ctx, name, tagsOf(d.images, d.tags)); err != nil {
			return nil, fmt.Errorf("to %s: %w", name, err)
		}
	}
	return placed, atonce.Each(ctx, atonce.Copies, names, func(ctx context.Context, _ int, name string) error {
		d := destinations[name]
		if err := r.copy(ctx, name, d.images, d.tags); err != nil {
			return fmt.Errorf("to %s: %w", name, err)
		}
		return nil
	})
}

// copy copies images and what is attached to them into a repository, and sets their tags.
func (r *relocating) copy(ctx context.Context, name string, list []relocated, tags map[string]ocispec.Descriptor) error {
	copier, err := r.copier(ctx, name)
	if err != nil {
		return err
	}
	list = slices.Clone(list)
	err = atonce.Each(ctx, 0, list, func(ctx context.Context, i int, image relocated) (err error) {
		if list[i].about, err = image.copy(ctx, copier); err != nil {
			return fmt.Errorf("image %s: %w", cmp.Or(strings.Join(image.names, ", "), image.image.Digest.String()), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	from := map[digest.Digest]layout.Repository{}
	for _, image := range list {
		from[image.image.Digest] = image.from
		for _, about := range image.about {
			from[about.Desc.Digest] = image.from
		}
	}
	if err := copier.List(ctx, nil); err != nil {
		return err
	}
	return atonce.Each(ctx, 0, tagsOf(list, tags), func(ctx context.Context, _ int, tag transfer.Tagged) error {
		return copier.Tag(ctx, from[tag.Desc.Digest], tag.Desc, tag.Tag)
	})
}

// copy copies an image with everything published with it, and returns what that is.
func (r *relocated) copy(ctx context.Context, copier *transfer.Copier) ([]artifact.Tagged, error) {
	attached, err := copier.Whole(ctx, r.from, r.image, r.subjects)
	if err != nil {
		return nil, err
	}
	about := slices.Clone(r.about)
	if r.later != nil {
		found, err := r.later.find(ctx, attached, about)
		if err == nil {
			_, err = copier.Plan(ctx, found)
		}
		if err != nil {
			return nil, err
		}
		about = append(about, found...)
	}
	return about, copier.Manifests(ctx, r.from, descriptors(about)...)
}

// tagsOf returns those of all tags of a repository that lead to one of the images, and the tags
// of what is attached to these images.
func tagsOf(list []relocated, all map[string]ocispec.Descriptor) []transfer.Tagged {
	var tags []transfer.Tagged
	mine := map[digest.Digest]bool{}
	for _, image := range list {
		mine[image.image.Digest] = true
		for _, about := range image.about {
			if about.Tag != "" {
				tags = append(tags, about)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if mine[all[name].Digest] {
			tags = append(tags, transfer.Tagged{Tag: name, Desc: all[name]})
		}
	}
	return tags
}

// free returns an error if tags must not move but one of these would.
func (r *relocating) free(ctx context.Context, name string, tags []transfer.Tagged) error {
	if !r.Immutable {
		return nil
	}
	copier, err := r.copier(ctx, name)
	if err == nil {
		_, err = copier.Plan(ctx, tags)
	}
	return err
}

// copier returns the copier for a repository.
func (r *relocating) copier(ctx context.Context, name string) (*transfer.Copier, error) {
	repository, err := r.Registry.Repository(name)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	copier := r.copiers[name]
	r.mu.Unlock()
	if copier != nil {
		return copier, nil
	}
	empty, err := repository.Empty(ctx)
	if err != nil {
		return nil, err
	}
	copier = transfer.NewCopier(transfer.ToRepository(r.Registry, repository), transfer.Options{
		Empty: empty, Immutable: r.Immutable, Progress: r.progress.Progress,
		TagMoved: func(m transfer.MovedTag) {
			if name != r.Repository {
				m.Repository = name
			}
			r.mu.Lock()
			r.result.MovedTags = append(r.result.MovedTags, m)
			r.mu.Unlock()
			r.progress.note(m.String())
		},
		Missing: func(m transfer.MissingReferrer) { r.progress.note(m.String()) },
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.copiers[name] = copier
	return copier, nil
}

// write writes the requested files. It is called when all images are in place.
func (r *relocating) write(ctx context.Context) error {
	for _, f := range r.files {
		r.result.Files = append(r.result.Files, f.Name)
	}
	mapping, err := engine.MarshalJSON(r.result.Mapping)
	if err != nil {
		return fmt.Errorf("write mapping: %w", err)
	}
	if r.Manifests == "" {
		r.files = nil
	}
	return extractBeside(ctx, r.files, r.Manifests, r.Force, "mapping", r.Mapping, append(mapping, '\n'))
}

// application relocates an application.
func (r *relocating) application(ctx context.Context, ref string) (err error) {
	app, at, err := application(ctx, r.Registry, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	if err := checkTrust(ctx, r.Trust, at, app.Root); err != nil {
		return err
	}
	if list := app.Root.Annotations[artifact.AnnotationPlatforms]; list != "" {
		return fmt.Errorf("it has only %s of the images: relocate what was saved with all platforms", list)
	}
	statements, err := app.Statements(ctx)
	if err != nil {
		return err
	}
	if app.Format == artifact.FormatOriginal {
		return r.original(ctx, app, at)
	}
	refs, ok := artifact.ImageRefs(statements)
	if !ok {
		return errors.New("its statements do not record where its references are")
	}
	if _, err := app.Tags(ctx); err != nil {
		return err
	}
	r.to.Taped = artifact.Taped(statements)
	renaming, err := artifact.NewRenaming(refs, r.to)
	if err != nil {
		return err
	}
	var old []digest.Digest
	moves := r.Repository != cmp.Or(at.name, artifact.Home(statements))
	err = app.EachFile(ctx, func(f files.File) error {
		old = append(old, digest.FromBytes(f.Data))
		renamed, err := renaming.File(f)
		r.files = append(r.files, renamed)
		moves = moves || !bytes.Equal(renamed.Data, f.Data)
		return err
	})
	if err == nil && !moves { // a new root would take the tags of the old one, which may be signed
		err = fmt.Errorf("it is already an application of %s, and its manifests refer to that: there is nothing to relocate", r.Repository)
	}
	if err != nil {
		return err
	}
	edits := renaming.Edits()
	list, err := relocatedImages(ctx, app, at, r.progress.note)
	if err != nil {
		return err
	}
	tag := cmp.Or(at.tag, app.Root.Annotations[ocispec.AnnotationRefName])
	var made *newRoot
	if r.Repository != "" {
		line, err := app.Origins(ctx)
		if err == nil && len(line) >= artifact.MaxOrigins { // readers refuse more
			err = fmt.Errorf("it was relocated %d times, which is the limit: relocate an application that it was made from", len(line))
		}
		if err != nil {
			return err
		}
		proofs, err := signaturesOf(ctx, app, at, r.progress.note)
		if err != nil {
			return err
		}
		if made, err = r.newRoot(ctx, app, tag, list, old, statements, artifact.Relocation{
			Repository: r.Repository, Names: r.to, Files: r.files, Edits: edits,
			From: dependencies(app, cmp.Or(at.name, artifact.Home(statements)), proofs), Origin: app.Root, Proofs: proofs,
		}); err != nil {
			return err
		}
		made.from, made.origin, made.proofs = at.Repository, []ocispec.Descriptor{app.Root}, proofs
	}
	placed, err := r.images(ctx, list)
	if err != nil {
		return err
	}
	// Readers may look for images by the names in the old manifests, so these are in the mapping
	// too.
	for _, edit := range edits {
		was, is := strings.ReplaceAll(edit.Original, "\x00", ""), strings.ReplaceAll(edit.Replaced, "\x00", "")
		if strings.HasSuffix(was, "@"+edit.Digest.String()) && strings.HasSuffix(is, "@"+edit.Digest.String()) && strings.HasPrefix(is, r.to.Repository) {
			r.result.Mapping[was] = is
		}
	}
	if r.Repository == "" {
		return nil
	}
	for i, image := range list {
		if placed[image.image.Digest] != r.Repository {
			from, err := r.Registry.Repository(placed[image.image.Digest])
			if err != nil {
				return err
			}
			list[i].from = from // a registry can mount it from there
		}
	}
	return r.root(ctx, made, list)
}

// original makes an application of this format from one of the original format. Its manifests are
// packaged like any other manifests, because neither it nor its statements contain the images.
// The result records the root that the manifests are from.
func (r *relocating) original(ctx context.Context, was *artifact.Application, at *opened) (err error) {
	if r.Repository == "" || r.Prefix != "" {
		return fmt.Errorf("it has format %s: convert it to format %s first, by relocating it with only a repository", was.Format, artifact.Format)
	}
	old, err := was.Files(ctx)
	if err != nil {
		return err
	}
	temp, err := temporary.New("", "tape-relocate-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, temp.Remove()) }()
	folder := filepath.Join(temp.Dir(), "app")
	if err := artifact.Extract(ctx, old, folder, false); err != nil {
		return err
	}
	r.Sources, r.Pipeline = []Source{{Path: folder, Interpreter: "plain", Temporary: true}}, ""
	run, app, err := r.packed(ctx, r.Repository, "index")
	if err != nil {
		return err
	}
	statements, err := app.Statements(ctx)
	if err != nil {
		return err
	}
	if r.files, err = app.Files(ctx); err != nil {
		return err
	}
	var list images.List
	if err := run.read(ctx, foundImages.into(&list)); err != nil {
		return err
	}
	moving, err := r.published(ctx, list.Images)
	if err != nil {
		return err
	}
	for _, image := range list.Images {
		r.result.Mapping[image.Source] = artifact.ImageRef(r.Repository, image)
	}
	signatures, err := signaturesOf(ctx, was, at, r.progress.note)
	if err != nil {
		return err
	}
	unedited := make([]digest.Digest, len(r.files))
	for i, f := range r.files {
		unedited[i] = digest.FromBytes(f.Data)
	}
	made, err := r.newRoot(ctx, app, at.tag, moving, unedited, statements, artifact.Relocation{
		Repository: r.Repository, Names: artifact.Naming{Repository: r.Repository}, Files: r.files,
		From: dependencies(was, cmp.Or(at.name, r.Repository), signatures),
	})
	if err != nil {
		return err
	}
	made.was = was.Root.Digest
	return r.root(ctx, made, moving)
}

// relocatedImages returns the images of an application. It calls note with what it cannot find
// out about them.
func relocatedImages(ctx context.Context, app *artifact.Application, at *opened, note func(string)) ([]relocated, error) {
	later, warning, err := openLater(ctx, at.Repository)
	if err != nil {
		return nil, err
	}
	if warning != "" {
		note(warning)
	}
	about := map[digest.Digest][]artifact.Tagged{}
	for _, child := range app.Children(artifact.RoleRelated) {
		subject := digest.Digest(child.Annotations[artifact.AnnotationRelatedTo])
		about[subject] = append(about[subject], artifact.Tagged{Tag: artifact.RelatedTag(child), Desc: child})
	}
	var out []relocated
	for _, child := range app.Children(artifact.RoleImage) {
		image := relocated{from: at.Repository, image: child, later: later, names: artifact.Sources(child)}
		subjects, err := manifestsOf(ctx, at, child)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", child.Digest, err)
		}
		for i := 0; i < len(subjects); i++ { // the loop appends what is attached to them
			image.about = append(image.about, about[subjects[i]]...)
			for _, n := range about[subjects[i]] {
				if !slices.Contains(subjects, n.Desc.Digest) {
					subjects = append(subjects, n.Desc.Digest)
				}
			}
		}
		tagged, err := later.find(ctx, subjects, image.about)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", child.Digest, err)
		}
		image.about, image.subjects = append(image.about, tagged...), subjects
		for _, t := range tagged {
			image.subjects = append(image.subjects, t.Desc.Digest)
		}
		out = append(out, image)
	}
	return out, nil
}

// dependencies returns the root to be relocated, and its signatures.
func dependencies(app *artifact.Application, repository string, signatures []ocispec.Descriptor) []artifact.Resource {
	resource := func(name string, dgst digest.Digest) artifact.Resource {
		return artifact.Resource{Name: name, Digest: artifact.DigestSet(dgst), URI: packageURL(repository, dgst)}
	}
	out := []artifact.Resource{resource("root", app.Root.Digest)}
	for _, desc := range signatures {
		out = append(out, resource("signature", desc.Digest))
	}
	return out
}

// newRoot describes the application to make.
type newRoot struct {
	was       digest.Digest // the root that it is made from
	blobs     []artifact.Blob
	tags      []string
	imageTags map[string]ocispec.Descriptor
	// origin is the old root, unless that is of another format. proofs are what is attached to
	// it. Both are in from.
	origin, proofs []ocispec.Descriptor
	from           layout.Repository
}

func (n *newRoot) root() artifact.Blob    { return n.blobs[len(n.blobs)-1] }
func (n *newRoot) content() artifact.Blob { return n.blobs[2] }

// newRoot returns the description of the new application and its tags, or an error if a tag is
// taken. tag is the tag of the old root. files are the digests of the files that the statements
// are about.
func (r *relocating) newRoot(ctx context.Context, app *artifact.Application, tag string, list []relocated, files []digest.Digest, statements []artifact.Statement, to artifact.Relocation) (*newRoot, error) {
	blobs, err := app.Relocated(files, statements, to)
	if err != nil {
		return nil, err
	}
	made := &newRoot{was: app.Root.Digest, blobs: blobs, tags: r.Tags, imageTags: map[string]ocispec.Descriptor{}}
	if len(made.tags) == 0 {
		made.tags = []string{cmp.Or(tag, artifact.ConfigTag(blobs[1].Desc.Digest, ""))}
	}
	given, err := app.Tags(ctx)
	if err == nil {
		err = checkRootTags(given, made.tags...)
	}
	if err != nil {
		return nil, err
	}
	for _, t := range given {
		if t.Desc.Annotations[artifact.AnnotationRole] == artifact.RoleImage {
			made.imageTags[t.Tag] = t.Desc
		}
	}
	all := tagsOf(list, made.imageTags)
	for _, tag := range made.tags {
		all = append(all, transfer.Tagged{Tag: artifact.ContentTag(tag), Desc: made.content().Desc}, transfer.Tagged{Tag: tag, Desc: made.root().Desc})
	}
	if err := r.free(ctx, r.Repository, all); err != nil {
		return nil, fmt.Errorf("to %s: %w", r.Repository, err)
	}
	return made, nil
}

// root makes the new application: it mounts or copies its images, then writes its own parts, and
// its tags last.
func (r *relocating) root(ctx context.Context, made *newRoot, list []relocated) error {
	if err := r.copy(ctx, r.Repository, list, made.imageTags); err != nil {
		return fmt.Errorf("to %s: %w", r.Repository, err)
	}
	copier, err := r.copier(ctx, r.Repository)
	if err != nil {
		return err
	}
	// Everything else that the old root lists has been copied by now.
	for _, list := range [][]ocispec.Descriptor{made.origin, made.proofs} {
		if err := copier.Manifests(ctx, made.from, list...); err != nil {
			return fmt.Errorf("origin %s: %w", made.was, err)
		}
	}
	own := store.NewOverlay(nil)
	if err := artifact.Put(ctx, own, made.blobs...); err != nil {
		return err
	}
	root, content := made.root(), made.content()
	from := &transfer.Made{Provider: own, Root: root.Desc}
	if err := copier.Manifests(ctx, from, root.Desc); err != nil {
		return err
	}
	if err := copier.List(ctx, nil); err != nil {
		return err
	}
	for _, tag := range made.tags {
		if err := copier.Tag(ctx, from, content.Desc, artifact.ContentTag(tag)); err != nil {
			return err
		}
	}
	for _, tag := range slices.Backward(made.tags) {
		if err := copier.Tag(ctx, from, root.Desc, tag); err != nil {
			return err
		}
	}
	r.result.Root = &RelocatedRoot{
		Ref: r.Repository + ":" + made.tags[0] + "@" + root.Desc.Digest.String(), Digest: root.Desc.Digest, Tags: made.tags, From: made.was,
	}
	return nil
}

// manifests relocates the images in manifests that are not part of an application.
func (r *relocating) manifests(ctx context.Context) error {
	if r.Repository != "" {
		return advice.Add(errors.New("it is not an application yet"), advice.PackageFirst, r.Source, r.Repository)
	}
	p, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	if err := p.Set("output.image", r.to.Repository); err != nil {
		return err
	}
	run, err := r.run(ctx, p, "pin")
	if err != nil {
		return err
	}
	var (
		list   images.List
		report images.Report
		pinned images.Edits
	)
	if err := run.read(ctx, foundImages.into(&list), references.into(&report), edits.into(&pinned)); err != nil {
		return err
	}
	all, err := run.manifests(ctx, pinnedFiles)
	if err != nil {
		return err
	}
	// Like an application, the result contains only Kubernetes objects.
	all = slices.DeleteFunc(all, func(f files.File) bool {
		return !slices.ContainsFunc(report.Objects, func(object images.Object) bool { return object.File == f.Name })
	})
	edits := artifact.Transform{Kind: artifact.TransformImageRef, Repository: r.to.Repository}
	for _, f := range pinned.Files {
		edits.Edits = append(edits.Edits, f.Edits...)
	}
	r.to.Taped = r.to.Repository
	if r.files, _, err = artifact.Rename(all, edits, r.to); err != nil {
		return err
	}
	moving, err := r.published(ctx, list.Images)
	if err != nil {
		return err
	}
	if _, err := r.images(ctx, moving); err != nil {
		return err
	}
	for _, image := range list.Images {
		r.result.Mapping[image.Source] = r.result.Mapping[image.Name]
	}
	return nil
}

// published returns the images with their sources.
func (r *relocating) published(ctx context.Context, list []images.Image) ([]relocated, error) {
	origins := r.origins()
	known := map[string]images.Origin{} // one per repository, so that its images are copied together
	var out []relocated
	for _, image := range list {
		key, _ := image.Repository()
		if image.From != "" {
			key = string(image.From) + " " + image.Name
		}
		if known[key] == nil {
			var err error
			if known[key], err = origins.Open(ctx, image.Name, image.From); err != nil {
				return nil, fmt.Errorf("image %s: %w", image.Source, err)
			}
		}
		moving := relocated{
			from: known[key], names: []string{image.Name},
			image: ocispec.Descriptor{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size},
		}
		for _, related := range image.Related {
			if related.Via != images.Inline {
				moving.about = append(moving.about, artifact.Tagged{
					Tag: related.Tag, Desc: ocispec.Descriptor{MediaType: related.MediaType, Digest: related.Digest, Size: related.Size},
				})
			}
		}
		out = append(out, moving)
	}
	return out, nil
}
