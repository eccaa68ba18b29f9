// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	containerdimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

// View is what `tape view -o json` prints. Lists are never null.
type View struct {
	Format  string      `json:"format"`
	Root    ViewRoot    `json:"root"`
	Content ViewContent `json:"content"`
	Tags    []string    `json:"tags"` // of the root, as far as they can be known
	// Environments are the first folders of the content, where the pipeline has them.
	Environments []string `json:"environments,omitempty"`
	// TagReason says why git's version tags are not the application's; "" where they
	// are, or there are none.
	TagReason  string          `json:"tag_reason,omitempty"`
	Images     []ViewImage     `json:"images"`
	Statements []ViewStatement `json:"statements"`
	// Source is where the manifests came from; of several sources, what they
	// have in common.
	Source     ViewSource   `json:"source"`
	Sources    []ViewSource `json:"sources"`
	Signatures []Signature  `json:"signatures"` // of root and content; not verified
	// Origins are the applications that this one was relocated from, the one before it first;
	// not verified.
	Origins []ViewOrigin `json:"origins,omitempty"`
	// Promotions are the records of how the root, and those before it, came here, the
	// latest first; not verified.
	Promotions []ViewPromotion `json:"promotions,omitempty"`
	// Summaries say that root or content were verified elsewhere, the latest first; not
	// verified here.
	Summaries []ViewSummary `json:"summaries,omitempty"`
	// Reproductions say whether the root could be made again, the latest first; not verified.
	Reproductions []ViewReproduction `json:"reproductions,omitempty"`
	// Warnings are what could not be found out.
	Warnings []string `json:"warnings,omitempty"`
}

// ViewRoot is the root index.
type ViewRoot struct {
	Ref         string            `json:"ref"`
	Digest      digest.Digest     `json:"digest"`
	Size        int64             `json:"size"` // bytes of the index itself
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ViewContent is the content.
type ViewContent struct {
	Ref    string        `json:"ref"`
	Digest digest.Digest `json:"digest"` // of the manifest
	Size   int64         `json:"size"`   // bytes of the layer
	Files  []ViewFile    `json:"files"`
}

// ViewFile is a file of the content.
type ViewFile struct {
	Name   string        `json:"name"`
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest"`
	Data   []byte        `json:"-"` // for pages; who wants the files pulls them
}

// ViewImage is an image of the application.
type ViewImage struct {
	Name  string   `json:"name"`            // where it came from, normalised
	Names []string `json:"names,omitempty"` // where it has several names: all
	// Environments are those whose manifests name it, where there are some.
	Environments []string         `json:"environments,omitempty"`
	Digest       digest.Digest    `json:"digest"`
	Ref          string           `json:"ref"` // its present location
	Platforms    []ViewPlatform   `json:"platforms"`
	Related      []images.Related `json:"related"`
}

// ViewPlatform is one platform of an image.
type ViewPlatform struct {
	Platform string        `json:"platform"` // os/arch[/variant]; "" where an image of one does not say
	Digest   digest.Digest `json:"digest"`
	Size     int64         `json:"size"`  // bytes of the manifest itself
	Bytes    int64         `json:"bytes"` // of config and layers
}

// ViewStatement is an in-toto statement.
type ViewStatement struct {
	PredicateType string          `json:"predicateType"`
	Subjects      []Resource      `json:"subjects"`
	Predicate     json.RawMessage `json:"predicate"`
}

// ViewSource is a source of the application.
type ViewSource struct {
	Name string `json:"name,omitempty"`
	// Environment is the one that the source is rendered for, where there are several.
	Environment string       `json:"environment,omitempty"`
	Path        string       `json:"path,omitempty"`
	Reference   string       `json:"reference,omitempty"` // of a remote source
	URI         string       `json:"uri"`
	Commit      string       `json:"commit"`
	Modified    vcs.Tristate `json:"modified"`
	// Changes names files that are not as committed; "" where none are known.
	Changes string `json:"changes,omitempty"`
	// Interpreter is the name and version of what rendered the source, "" where
	// its files are the manifests; Options are those that it was given.
	Interpreter string          `json:"interpreter,omitempty"`
	Options     json.RawMessage `json:"options,omitempty"`
	Files       []vcs.File      `json:"-"` // that were read
}

// Signature is one that is attached to root or content.
type Signature struct {
	Digest  digest.Digest `json:"digest"`  // of the manifest that carries it
	Subject digest.Digest `json:"subject"` // what it signs
	ViewSigner
	PredicateType string `json:"predicateType"`
}

// ViewOrigin is an application that another was relocated from.
type ViewOrigin struct {
	Repository  string            `json:"repository"` // that it was written for
	Root        digest.Digest     `json:"root"`
	Content     digest.Digest     `json:"content"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Signatures are those of root and content that came with it.
	Signatures []Signature `json:"signatures"`
}

// View looks at everything. Repository is the name that references get, "" where
// there is none; tag is the one that the application was opened by, or "". The data of the
// files is only in the view if it is asked for.
func (a *Application) View(ctx context.Context, repository, tag string, data bool) (*View, error) {
	v := &View{
		Format: a.Format,
		Root: ViewRoot{
			Digest: a.Root.Digest, Size: a.Root.Size, Annotations: a.Index.Annotations,
		},
		Content: ViewContent{Digest: a.Content.Digest, Size: a.Layer.Size, Files: []ViewFile{}},
		Tags:    []string{}, Images: []ViewImage{}, Statements: []ViewStatement{}, Sources: []ViewSource{}, Signatures: []Signature{},
	}
	var (
		group, groupCtx = errgroup.WithContext(ctx)
		statements      []Statement
		contentTag      string
		found           bundles
		unsigned, lost  error
	)
	group.Go(func() (err error) {
		statements, err = a.Statements(groupCtx)
		return err
	})
	group.Go(func() error {
		return a.EachFile(groupCtx, func(f files.File) error {
			file := ViewFile{Name: f.Name, Size: int64(len(f.Data)), Digest: digest.FromBytes(f.Data)}
			if data {
				file.Data = f.Data
			}
			v.Content.Files = append(v.Content.Files, file)
			return nil
		})
	})
	group.Go(func() error {
		v.Tags, contentTag = a.tags(groupCtx, tag)
		return nil
	})
	group.Go(func() error {
		// What is attached may be unknown; what the root lists may not.
		found, unsigned = a.bundles(groupCtx)
		return nil
	})
	group.Go(func() error {
		v.Origins, lost = a.viewOrigins(groupCtx)
		return nil
	})
	group.Go(func() (err error) {
		v.Images, v.Warnings, err = a.images(groupCtx, repository)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if unsigned != nil {
		v.Warnings = append(v.Warnings, "signatures: unknown: "+unsigned.Error())
	}
	if lost != nil {
		v.Warnings = append(v.Warnings, "what it was relocated from: "+lost.Error())
	}
	v.Signatures = append(v.Signatures, found.signatures...)
	v.Promotions, v.Summaries, v.Reproductions = found.promotions, found.summaries, found.reproductions
	v.Root.Ref = imageref.Reference{Name: repository, Tag: cmp.Or(v.Tags...), Digest: a.Root.Digest}.String()
	v.Content.Ref = imageref.Reference{Name: repository, Tag: contentTag, Digest: a.Content.Digest}.String()
	for _, s := range statements {
		v.Statements = append(v.Statements, ViewStatement{PredicateType: s.PredicateType, Subjects: s.Subject, Predicate: s.Predicate})
	}
	v.Sources = append(v.Sources, sources(statements)...)
	v.TagReason = TagReason(predicates[vcs.Facts](statements, PredicateSource))
	v.Environments = a.Environments()
	v.inEnvironments(statements)
	v.Source = commonSource(v.Sources)
	if a.Format == FormatOriginal {
		v.Images = append(v.Images, originalImages(statements)...)
		for i := range v.Images {
			v.Images[i].Platforms, v.Images[i].Related = []ViewPlatform{}, []images.Related{}
		}
	}
	return v, nil
}

// tags returns the tags of the root that can be known without listing all tags of the
// repository, and the tag of the content. Each is asked for; a tag that cannot be asked for
// is left out.
func (a *Application) tags(ctx context.Context, tag string) (tags []string, contentTag string) {
	is := func(tag string, d digest.Digest) bool {
		desc, err := a.source.Resolve(ctx, tag)
		return err == nil && desc.Digest == d
	}
	tags = []string{}
	candidates := []string{tag, a.Index.Annotations[ocispec.AnnotationVersion], a.ConfigTag()}
	for i, candidate := range candidates {
		if candidate == "" || slices.Contains(candidates[:i], candidate) || !is(candidate, a.Root.Digest) {
			continue
		}
		tags = append(tags, candidate)
		if contentTag == "" && a.Format == Format && is(ContentTag(candidate), a.Content.Digest) {
			contentTag = ContentTag(candidate)
		}
	}
	return tags, contentTag
}

// bundles are the Sigstore bundles that are attached to manifests, by what they say. They
// are read, not verified.
type bundles struct {
	signatures    []Signature
	promotions    []ViewPromotion
	summaries     []ViewSummary
	reproductions []ViewReproduction
}

// viewOrigins reads the line that the application was relocated from.
func (a *Application) viewOrigins(ctx context.Context) ([]ViewOrigin, error) {
	line, lost := a.Origins(ctx)
	var out []ViewOrigin
	at := a
	for _, origin := range line {
		statements, err := origin.Statements(ctx)
		if err != nil {
			return out, fmt.Errorf("origin %s: %w", origin.Root.Digest, err)
		}
		v := ViewOrigin{
			Repository: Home(statements), Root: origin.Root.Digest, Content: origin.Content.Digest,
			Annotations: origin.Index.Annotations, Signatures: []Signature{},
		}
		var proofs bundles
		for _, desc := range at.Children(RoleProof) {
			if err := proofs.read(ctx, a.source, "", desc); err != nil {
				return out, fmt.Errorf("origin %s: %w", origin.Root.Digest, err)
			}
		}
		v.Signatures = append(v.Signatures, proofs.signatures...)
		out, at = append(out, v), origin
	}
	return out, lost
}

// bundles returns the bundles of root and content, with the promotions of earlier roots.
func (a *Application) bundles(ctx context.Context) (out bundles, err error) {
	for _, subject := range []digest.Digest{a.Root.Digest, a.Content.Digest} {
		if err := out.add(ctx, a.source, subject); err != nil {
			return bundles{}, err
		}
	}
	slices.SortStableFunc(out.summaries, func(a, b ViewSummary) int { return b.TimeVerified.Compare(a.TimeVerified) })
	slices.SortStableFunc(out.reproductions, func(a, b ViewReproduction) int { return b.At.Compare(a.At) })
	out.promotions, err = history(ctx, a.source, a.Root.Digest, out.promotions)
	return out, err
}

// add reads what is attached to a manifest.
func (b *bundles) add(ctx context.Context, source layout.Repository, subject digest.Digest) error {
	referrers, err := source.Referrers(ctx, subject)
	if err != nil {
		return err
	}
	for _, desc := range referrers {
		if err := b.read(ctx, source, subject, desc); err != nil {
			return err
		}
	}
	return nil
}

// read reads a referrer if it is a bundle. The subject is what it is about; if that is "", its
// manifest says so.
func (b *bundles) read(ctx context.Context, source layout.Repository, subject digest.Digest, desc ocispec.Descriptor) error {
	data, about, err := ReadBundle(ctx, source, desc)
	if err != nil || data == nil {
		return err
	}
	var bundle struct {
		VerificationMaterial struct {
			PublicKey struct {
				Hint string `json:"hint"`
			} `json:"publicKey"`
			Certificate struct {
				Raw []byte `json:"rawBytes"`
			} `json:"certificate"`
		} `json:"verificationMaterial"`
		Envelope struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	var s Statement
	if json.Unmarshal(data, &bundle) != nil || json.Unmarshal(bundle.Envelope.Payload, &s) != nil {
		return nil
	}
	record := ViewRecord{
		Subject: cmp.Or(subject, about), Digest: desc.Digest, Bundle: data,
		ViewSigner: newViewSigner(bundle.VerificationMaterial.PublicKey.Hint, bundle.VerificationMaterial.Certificate.Raw),
	}
	promotion, summary, reproduction := ViewPromotion{ViewRecord: record}, ViewSummary{ViewRecord: record}, ViewReproduction{ViewRecord: record}
	switch {
	case s.PredicateType == PredicatePromotion && json.Unmarshal(s.Predicate, &promotion.Promotion) == nil:
		b.promotions = append(b.promotions, promotion)
	case s.PredicateType == PredicateSummary && json.Unmarshal(s.Predicate, &summary.Summary) == nil:
		b.summaries = append(b.summaries, summary)
	case s.PredicateType == PredicateReproduction && json.Unmarshal(s.Predicate, &reproduction.Reproduction) == nil:
		b.reproductions = append(b.reproductions, reproduction)
	default:
		b.signatures = append(b.signatures, Signature{Digest: record.Digest, Subject: record.Subject, ViewSigner: record.ViewSigner, PredicateType: s.PredicateType})
	}
	return nil
}

// images looks at every image that the root lists. What is not there (an archive
// may hold one platform only) is a warning.
func (a *Application) images(ctx context.Context, repository string) ([]ViewImage, []string, error) {
	children := a.Children(RoleImage)
	related, err := a.related(ctx)
	if err != nil {
		return nil, nil, err
	}
	out := make([]ViewImage, len(children))
	missing := make([][]string, len(children))
	err = atonce.Each(ctx, atonce.Streams, children, func(ctx context.Context, i int, child ocispec.Descriptor) error {
		names := strings.Split(child.Annotations[AnnotationImageSource], ",")
		tag, _, _ := strings.Cut(child.Annotations[AnnotationImageTag], ",")
		ref := imageref.Reference{Name: repository, Tag: tag, Digest: child.Digest}.String()
		out[i] = ViewImage{Name: names[0], Digest: child.Digest, Ref: ref, Platforms: []ViewPlatform{}}
		if len(names) > 1 {
			out[i].Names = names
		}
		return a.image(ctx, child, related, &out[i], &missing[i])
	})
	if err != nil {
		return nil, nil, err
	}
	return out, slices.Sorted(slices.Values(slices.Concat(missing...))), nil
}

// image reads the platforms of an image, and what is attached to it.
func (a *Application) image(ctx context.Context, desc ocispec.Descriptor, related map[digest.Digest][]images.Related, out *ViewImage, missing *[]string) error {
	out.Related = append([]images.Related{}, related[desc.Digest]...)
	list, err := []ocispec.Descriptor{desc}, error(nil)
	if containerdimages.IsIndexType(desc.MediaType) {
		list, err = transfer.BelowPresent(ctx, a.source, desc, func(desc ocispec.Descriptor) {
			*missing = append(*missing, fmt.Sprintf("image %s: %s is not there", out.Name, desc.Digest))
		})
	}
	// What an index has besides manifests is not shown.
	for _, child := range list {
		switch {
		case containerdimages.IsIndexType(child.MediaType):
			out.Related = append(out.Related, related[child.Digest]...)
		case err == nil && descriptor.IsManifest(child.MediaType):
			err = a.platform(ctx, child, desc.Digest, related, out, missing)
		}
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", out.Name, err)
	}
	for i := 0; i < len(out.Related); i++ { // it grows by what signs them, and so on
		for _, r := range related[out.Related[i].Digest] {
			if !slices.Contains(out.Related, r) {
				out.Related = append(out.Related, r)
			}
		}
	}
	return nil
}

// platform reads one manifest of an image: a platform, or an attestation that
// travels inside the image.
func (a *Application) platform(ctx context.Context, desc ocispec.Descriptor, image digest.Digest, related map[digest.Digest][]images.Related, out *ViewImage, missing *[]string) error {
	var m ocispec.Manifest
	data, err := engine.Read(ctx, a.source, desc, maxManifest)
	switch {
	case errdefs.IsNotFound(err):
		*missing = append(*missing, fmt.Sprintf("image %s: %s is not there", out.Name, desc.Digest))
		if desc.Digest == image {
			return nil
		}
	case err != nil:
		return err
	default:
		if err := descriptor.Unmarshal(data, &m); err != nil {
			return fmt.Errorf("%s: %w", desc.Digest, err)
		}
	}
	if about := digest.Digest(desc.Annotations[AnnotationReferenceDigest]); about != "" {
		for _, kind := range images.InlineKindsOf(m) {
			out.Related = append(out.Related, images.Related{
				Kind: kind, Via: images.Inline, Digest: desc.Digest, To: about,
				ArtifactType: desc.ArtifactType, MediaType: desc.MediaType, Size: desc.Size,
			})
		}
		return nil
	}
	p := ViewPlatform{Digest: desc.Digest, Size: desc.Size, Bytes: m.Config.Size}
	if desc.Platform != nil {
		p.Platform = platforms.Format(*desc.Platform)
	} else if desc.Digest == image && m.Config.Size > 0 {
		p.Platform = a.configPlatform(ctx, m.Config)
	}
	for _, layer := range m.Layers {
		p.Bytes += layer.Size
	}
	out.Platforms = append(out.Platforms, p)
	if desc.Digest != image {
		out.Related = append(out.Related, related[desc.Digest]...)
	}
	return nil
}

// configPlatform returns the platform of an image that is in no index, "" where it
// does not say.
func (a *Application) configPlatform(ctx context.Context, desc ocispec.Descriptor) string {
	var p ocispec.Platform
	data, err := engine.Read(ctx, a.source, desc, maxManifest)
	if err != nil || json.Unmarshal(data, &p) != nil || p.OS == "" {
		return ""
	}
	return platforms.Format(p)
}

// related returns what the root lists beside the images, by what it is about.
func (a *Application) related(ctx context.Context) (map[digest.Digest][]images.Related, error) {
	children := a.Children(RoleRelated)
	kinds := make([][]string, len(children))
	err := atonce.Each(ctx, atonce.Streams, children, func(ctx context.Context, i int, child ocispec.Descriptor) (err error) {
		kinds[i], err = a.kindsOf(ctx, child)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := map[digest.Digest][]images.Related{}
	for i, child := range children {
		r := images.Related{
			Via: images.Referrer, Digest: child.Digest, To: digest.Digest(child.Annotations[AnnotationRelatedTo]),
			Tag: child.Annotations[AnnotationRelatedTag], ArtifactType: child.ArtifactType, MediaType: child.MediaType, Size: child.Size,
		}
		if r.Tag != "" {
			r.Via = images.Tag
		}
		for _, r.Kind = range kinds[i] {
			out[r.To] = append(out[r.To], r)
		}
	}
	return out, nil
}

// kindsOf returns the kind of a manifest attached to an image, as discover determined it.
func (a *Application) kindsOf(ctx context.Context, child ocispec.Descriptor) ([]string, error) {
	if tag := child.Annotations[AnnotationRelatedTag]; tag != "" {
		return []string{images.KindOfTag(tag)}, nil
	}
	if images.TellsKind(child) {
		return []string{images.KindOf(child.ArtifactType, child.Annotations)}, nil
	}
	m := ocispec.Manifest{ArtifactType: child.ArtifactType}
	data, err := engine.Read(ctx, a.source, child, maxManifest)
	switch {
	case errdefs.IsNotFound(err): // an archive of one platform lacks what is about the others
	case err != nil:
		return nil, fmt.Errorf("what is about %s: %w", child.Annotations[AnnotationRelatedTo], err)
	default:
		if err := descriptor.Unmarshal(data, &m); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", child.Digest, err)
		}
	}
	return images.KindsOf(m), nil
}

// sources reads where the manifests came from: one a source in the provenance,
// with what the source statement of that name says.
func sources(statements []Statement) []ViewSource {
	out := originalSources(statements)
	for _, p := range predicates[Provenance](statements, PredicateProvenance) {
		for _, source := range p.BuildDefinition.ExternalParameters.Sources {
			out = append(out, ViewSource{
				Name: source.Name, Environment: source.Environment, Path: source.Path, Reference: source.Reference, Modified: vcs.Unknown, Options: options(source.Options),
			})
		}
	}
	for _, f := range predicates[vcs.Facts](statements, PredicateSource) {
		i := slices.IndexFunc(out, func(v ViewSource) bool { return v.Name == f.Name })
		if i < 0 {
			i, out = len(out), append(out, ViewSource{Name: f.Name, Path: f.Path, Reference: f.Reference})
		}
		out[i].Modified, out[i].Files = f.Modified, f.Files
		if f.Modified == vcs.Yes {
			out[i].Changes = changes(f)
		}
		if len(f.Repositories) > 0 {
			out[i].URI, out[i].Commit = f.Repositories[0].URI, f.Repositories[0].Commit
		}
	}
	for _, t := range predicates[Transform](statements, PredicateTransform) {
		if t.Interpreter == nil {
			continue
		}
		if i := slices.IndexFunc(out, func(v ViewSource) bool { return v.Name == t.Source }); i >= 0 {
			out[i].Interpreter = strings.TrimSpace(t.Interpreter.Name + " " + t.Interpreter.Version)
		}
	}
	return out
}

// options returns what was given to an interpreter, nil where that is nothing.
func options(raw json.RawMessage) json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil || len(m) == 0 {
		return nil
	}
	return raw
}

// commonSource returns what all sources have in common.
func commonSource(list []ViewSource) ViewSource {
	if len(list) == 0 {
		return ViewSource{Modified: vcs.Unknown}
	}
	if len(list) == 1 {
		return list[0]
	}
	out := ViewSource{URI: list[0].URI, Commit: list[0].Commit, Modified: list[0].Modified}
	for _, s := range list[1:] {
		if s.URI != out.URI {
			out.URI = ""
		}
		if s.Commit != out.Commit {
			out.Commit = ""
		}
		if out.Modified != vcs.Yes && s.Modified != vcs.No {
			out.Modified = s.Modified
		}
	}
	return out
}
