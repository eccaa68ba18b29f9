// SPDX-License-Identifier: Apache-2.0

// Package scan implements the scan stage: it finds every image reference in the
// manifests, and says to the byte where it stands.
//
// Inputs: manifests (a folder of files from every source). Outputs: references
// (an images.Report) and manifests (the folders as one). It is not kept: it
// takes milliseconds.
//
// # What is found
//
//   - pod: the containers, initContainers, ephemeralContainers and image volumes
//     of a PodSpec, in whatever kind and at whatever depth it stands.
//   - crd: image fields of other kinds. catalogue.yaml knows those of many custom
//     resources, and a pipeline adds its own; a field that is called image,
//     sidecarImage and the like is taken where its value looks like a reference.
//   - indirect: strings that name an image to a program: arguments, environment,
//     annotations, ConfigMap and Secret data, scripts, and documents in any of
//     these, to any depth. A word must say by itself that it is a reference
//     (registry, path, tag or digest), or the name before it must (--image,
//     PROXY_IMAGE, image:).
//
// What stands in an image field and is filled in later by something else is a
// placeholder. Not looked at are status, custom resource definitions, comments,
// and what names an object.
//
// # Which files count
//
// A file is part of the application where the report's Objects name it. Every
// other one is in Skipped with Line 0: valid YAML that is no Kubernetes object
// (values, kustomizations), patches that a kustomization beside them names,
// templates of a Helm chart. A document that is no object, in a file that has
// others, is in Skipped with its line. A file of which any document does not
// parse is in Skipped as invalid and not in Objects.
//
// The references in what is skipped are still reported where there are objects
// to find them in: the other documents of an invalid file, and patches, whose
// references are indirect. Pin leaves those files alone.
package scan

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Config of the stage: `images` in a pipeline file.
type Config struct {
	// Fields are image fields of custom resources, looked at before those of
	// the catalogue.
	Fields []Field `json:"fields,omitempty"`
	// Exclude leaves references out: they are neither copied nor pinned. A
	// pattern is matched against the reference as written and as normalised;
	// * stands for any characters.
	Exclude []string `json:"exclude,omitempty"`
	// SkipInvalid leaves out files that do not parse, instead of failing.
	SkipInvalid bool `json:"skipInvalid,omitempty"`
	// SkipSealed accepts that images stay as they are written in objects that sops
	// or a signature seals, without a warning.
	SkipSealed bool `json:"skipSealed,omitempty"`
}

// Field says that places in objects hold image references, or that they do not.
type Field struct {
	// Groups and Kinds of the objects. "" is the core group, "*" stands for any
	// characters. No groups: any but the core group's and Kubernetes' own.
	Groups []string `json:"groups,omitempty"`
	Kinds  []string `json:"kinds"`
	// Paths are JSON pointers (RFC 6901) from the object's top, in which * is
	// any one key or index and ** any number of them, none included. A # behind a
	// key leads into the YAML or JSON document that its string holds:
	// /data/config.yaml#/proxy/image.
	Paths []string `json:"paths"`
	// Parts is set where the reference is split over several fields: Paths then
	// name the object that holds them, and Parts which of its keys holds what.
	Parts *Parts `json:"parts,omitempty"`
	// When narrows it to places beside which keys have these values. A key that
	// begins with a slash is a JSON pointer from the object's top. A value may be
	// several, separated by |, in which * stands for any characters.
	When map[string]string `json:"when,omitempty"`
	// Unless leaves out places beside which one of these keys stands, separated by |.
	Unless string `json:"unless,omitempty"`
	// Scheme narrows it to values that begin with it and ://.
	Scheme string `json:"scheme,omitempty"`
	// Behind narrows it to values that hold this text; the reference stands behind it.
	Behind string `json:"behind,omitempty"`
	// Ignore says that this is no image, nor anything in it.
	Ignore bool `json:"ignore,omitempty"`
	// Optional says that what the field names need not exist as it stands there,
	// because its reader changes it.
	Optional bool `json:"optional,omitempty"`
	// Pin says how: "" and "digest" by the tag as written and the digest, "never"
	// not at all.
	Pin string `json:"pin,omitempty"`
	// Reason why it is never pinned or no image.
	Reason string `json:"reason,omitempty"`
}

// Parts are the keys that hold the parts of a reference, relative to the path of
// the field: a key or a JSON pointer, or several separated by |, of which the first
// that is there counts. One that begins with // is relative to the object's top.
type Parts struct {
	Registry string `json:"registry,omitempty"` // host
	// Repository is host and path, or the path where there is a Registry, or all
	// of it but the last element where there is an Image.
	Repository string `json:"repository,omitempty"`
	Image      string `json:"image,omitempty"` // last element of the path
	Tag        string `json:"tag,omitempty"`
	Digest     string `json:"digest,omitempty"`  // algorithm:hex
	Version    string `json:"version,omitempty"` // a tag or a digest
	// Literal is a last element of the path that the object's reader adds. No field
	// holds it, and so the reference cannot be pinned.
	Literal string `json:"literal,omitempty"`
}

// Kind is the stage's entry in the table of stages.
func Kind() pipeline.Kind {
	return pipeline.Kind{
		Name:    "scan",
		Help:    "find every image reference in the manifests",
		Inputs:  []pipeline.Port{{Name: "manifests", Many: true}},
		Outputs: []string{"references", "manifests"},
		Schema:  configSchema,
		New:     pipeline.Configured(New),
	}
}

// Stage finds image references. It is safe for use by several runs at once.
type Stage struct {
	catalogue   *catalogue
	exclude     patterns
	skipInvalid bool
	skipSealed  bool
}

// New makes the stage. An error names what is wrong with the configuration.
func New(c Config) (*Stage, error) {
	known, err := newCatalogue(c.Fields)
	if err != nil {
		return nil, engine.Mistaken("fields", err)
	}
	return &Stage{catalogue: known, exclude: c.Exclude, skipInvalid: c.SkipInvalid, skipSealed: c.SkipSealed}, nil
}

// Run implements [engine.Stage].
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	folders := t.Many("manifests")
	var all []files.File
	for _, desc := range folders {
		some, err := files.Get(ctx, t.Store, desc)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	report, err := s.Scan(ctx, all)
	if err != nil {
		return nil, err
	}
	if err := s.check(report); err != nil {
		return nil, err
	}
	for _, skipped := range report.Skipped {
		if skipped.Invalid {
			t.Report(engine.Event{Level: "warning", Message: fmt.Sprintf("%s is left out: %s", position(skipped), skipped.Reason)})
		}
	}
	for _, sentence := range hooks(report) {
		t.Report(engine.Event{Level: engine.Note, Message: sentence})
	}
	for _, sentence := range s.sealed(report) {
		t.Report(engine.Event{Level: engine.Warning, Message: sentence})
	}
	var merged ocispec.Descriptor
	if len(folders) == 1 {
		merged = folders[0]
	} else if merged, err = files.Put(ctx, t.Store, all); err != nil {
		return nil, err
	}
	references, err := engine.PutJSON(ctx, t.Store, images.MediaTypeReport, report)
	if err != nil {
		return nil, err
	}
	return engine.Outputs{"references": references, "manifests": merged}, nil
}

// check refuses manifests that nothing is in, or, unless told otherwise, that
// cannot all be read.
func (s *Stage) check(r *images.Report) error {
	var invalid []string
	for _, skipped := range r.Skipped {
		if skipped.Invalid {
			invalid = append(invalid, position(skipped)+": "+skipped.Reason)
		}
	}
	switch {
	case len(invalid) > 0 && !s.skipInvalid:
		return fmt.Errorf("%s (mend it, or leave such files out with --skip-invalid)", strings.Join(invalid, "; "))
	case len(r.Objects) > manifests.MaxDocuments:
		return fmt.Errorf("%s: more than %d Kubernetes objects", position(images.Skipped{File: r.Objects[manifests.MaxDocuments].File, Line: r.Objects[manifests.MaxDocuments].Line}), manifests.MaxDocuments)
	case len(r.Objects)+len(r.References) > 0:
		return nil
	case len(r.Skipped) > 0:
		first, hint := r.Skipped[0], "is this the folder of the manifests?"
		if i := slices.IndexFunc(r.Skipped, func(s images.Skipped) bool { return s.Reason == manifests.ReadBy("tape") }); i >= 0 {
			first, hint = r.Skipped[i], "if it is the pipeline that you mean: -p "+r.Skipped[i].File
		}
		return fmt.Errorf("no Kubernetes object in %s: %s: %s (%s)", count(len(r.Skipped), "file"), position(first), first.Reason, hint)
	}
	return errors.New("no manifests: no file ends in .yaml, .yml or .json (is this the folder of the manifests?)")
}

// sealed says which images that Kubernetes reads cannot be pinned because the object
// around them is sealed, and what to do.
func (s *Stage) sealed(r *images.Report) []string {
	var out []string
	for _, reference := range r.References {
		for _, l := range reference.Locations {
			if !s.skipSealed && l.Class != images.Indirect && (l.Never == bySops || l.Never == bySigstore) {
				out = append(out, fmt.Sprintf("%s: image %s stays as it is written: %s; or accept that it is not pinned (skipSealed)", l.Place(), l.Value, l.Never))
			}
		}
	}
	return out
}

// hooks returns a line for each object that is a Helm hook which no installation
// runs: Helm keeps it for later, and a tool that applies manifests does not.
func hooks(r *images.Report) []string {
	var out []string
	for _, o := range r.Objects {
		if o.Hook != "" && !strings.Contains(o.Hook, "-install") && !strings.Contains(o.Hook, "-upgrade") {
			out = append(out, fmt.Sprintf("%s: %s %s is a hook of Helm's (%s), which kubectl and Flux apply at once, with everything else",
				images.Place(o.File, o.Line, 0), o.Kind, o.Name, o.Hook))
		}
	}
	return out
}

func position(s images.Skipped) string { return images.Place(s.File, s.Line, 0) }

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Scan says what the files hold. An error is the context's: what is wrong with a
// file is in the report.
func (s *Stage) Scan(ctx context.Context, in []files.File) (*images.Report, error) {
	set := newFolder(in)
	found := make([]fileReport, len(in))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, f := range in {
		scan := &fileScan{name: f.Name, reason: set.notForClusters(f.Name)}
		if !readable(f.Name) {
			scan.reason = "its name ends in neither .yaml, .yml nor .json"
			found[i] = scan.report()
			continue
		}
		scan.file = manifests.Open(f.Name, f.Data)
		pieces := scan.file.Text.Split()
		err := scan.file.Dispute()
		if len(pieces) > manifests.MaxDocuments {
			err = fmt.Errorf("more than %d documents", manifests.MaxDocuments)
		}
		if err != nil {
			scan.batches = []batchScan{{err: invalid(scan.file, scan.file.Text, err)}}
			found[i] = scan.report()
			continue
		}
		work := batches(pieces)
		scan.batches = make([]batchScan, len(work))
		scan.left.Store(int32(len(work)))
		for j, batch := range work {
			group.Go(func() error {
				if err := context.Cause(ctx); err != nil {
					return err
				}
				s.scanBatch(scan.file, batch, &scan.batches[j])
				if scan.left.Add(-1) == 0 {
					found[i] = scan.report()
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return merge(found, s.exclude), nil
}

// fileScan is the work on a file.
type fileScan struct {
	name    string
	reason  string // why it is not applied, whatever is in it
	file    *manifests.File
	batches []batchScan
	left    atomic.Int32 // batches that are not done
}

// batchScan is what was found in some documents of a file, which are counted
// from 0.
type batchScan struct {
	findings
	documents int
	objects   []object
	strangers []stranger // documents that are no objects
	empty     string     // why there is no object, where there is one that could be
	err       *images.Skipped
}

type object struct {
	images.Object
	offset int
}

type stranger struct {
	offset int
	reason string
}

// batchSize is how much text is worth a goroutine.
const batchSize = 64 << 10

// batches groups the pieces of a file.
func batches(pieces []*manifests.Text) [][]*manifests.Text {
	var out [][]*manifests.Text
	size := batchSize
	for _, p := range pieces {
		if size >= batchSize {
			out, size = append(out, nil), 0
		}
		out[len(out)-1] = append(out[len(out)-1], p)
		size += len(p.String)
	}
	return out
}

// scanBatch parses pieces of a file and walks their objects.
func (s *Stage) scanBatch(f *manifests.File, pieces []*manifests.Text, b *batchScan) {
	for _, piece := range pieces {
		docs, err := manifests.Parse(piece)
		if err != nil && b.err == nil {
			b.err = invalid(f, piece, err)
		}
		for i := range docs {
			if dispute := docs[i].Dispute(); dispute != nil && b.err == nil {
				b.err = invalid(f, piece, dispute)
			}
			s.scanDocument(f, &docs[i], b)
		}
		if err != nil {
			b.documents++
		}
	}
}

// invalid says where in the file a piece does not parse.
func invalid(f *manifests.File, piece *manifests.Text, err error) *images.Skipped {
	out := &images.Skipped{File: f.Name, Reason: err.Error(), Invalid: true}
	var parse *manifests.ParseError
	if errors.As(err, &parse) {
		out.Reason = parse.Reason
		before, _ := f.Positions().At(piece.Span(0, 0).Offset)
		out.Line = before + max(parse.Line, 1) - 1
	}
	return out
}

func (s *Stage) scanDocument(f *manifests.File, doc *manifests.Document, b *batchScan) {
	document := b.documents
	b.documents++
	if doc.Empty() {
		return
	}
	found, reason := doc.Objects()
	if reason != "" {
		inner := doc.Inner()
		if len(inner) > 0 {
			reason = "objects in a map or list, which no cluster takes"
		} else if o, ok := doc.Unversioned(); ok {
			inner = []manifests.Object{o}
		}
		b.strangers = append(b.strangers, stranger{doc.Offset(&doc.Root), reason})
		s.walk(f, doc, document, inner, b)
		return
	}
	if len(found) == 0 {
		b.empty = "a list without items"
	}
	for _, o := range found {
		b.objects = append(b.objects, object{
			Object: images.Object{
				File: f.Name, Document: document,
				APIVersion: o.APIVersion, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name,
				Hook: o.Get("metadata").Get("annotations").Get("helm.sh/hook").Text(),
			},
			offset: doc.Offset(o.Node),
		})
	}
	if o, ok := doc.Unversioned(); ok {
		found = append(found, o)
	}
	s.walk(f, doc, document, found, b)
}

func (s *Stage) walk(f *manifests.File, doc *manifests.Document, document int, objects []manifests.Object, b *batchScan) {
	before := len(b.references)
	defer func() { markShared(b.references[before:]) }()
	room := manifests.MaxGrowth*doc.Written() + 16*manifests.FreeGrowth
	for _, o := range objects {
		w := walker{catalogue: s.catalogue, out: &b.findings, doc: doc, room: &room, file: f.Name, document: document, object: o.String(), sealed: sealed(&doc.Root)}
		w.enter(o.Pointer)
		w.resource(o)
	}
}

// markShared notes which of a document's references stand in bytes that are also
// read as something else: more places use them than references were found there.
func markShared(references []found) {
	here := map[images.Range]int{}
	each := func(visit func(at images.Range, uses int, shared *bool)) {
		for i := range references {
			f := &references[i]
			if len(f.Parts) == 0 && f.uses > 1 {
				visit(images.Range{Offset: f.Offset, Length: f.Length}, f.uses, &f.Shared)
			}
			for j := range f.Parts {
				if p := &f.Parts[j]; f.partUses[j] > 1 {
					visit(images.Range{Offset: p.Offset, Length: p.Length}, f.partUses[j], &p.Shared)
				}
			}
		}
	}
	each(func(at images.Range, _ int, _ *bool) { here[at]++ })
	each(func(at images.Range, uses int, shared *bool) { *shared = here[at] < uses })
}

// folder knows what files say of each other.
type folder struct {
	charts map[string]bool // folders of Helm charts
	// ingredients of kustomizations: file → what it is of which one
	ingredients map[string]string
}

func newFolder(in []files.File) folder {
	set := folder{charts: map[string]bool{}, ingredients: map[string]string{}}
	for _, f := range in {
		dir, base := path.Split(f.Name)
		switch base {
		case "Chart.yaml":
			set.charts[path.Clean(dir)] = true
		case "kustomization.yaml", "kustomization.yml", "Kustomization":
			patches, contents := manifests.Ingredients(f.Data)
			for _, name := range contents {
				set.ingredients[path.Join(dir, name)] = "content of a ConfigMap or Secret of " + f.Name
			}
			for _, name := range patches {
				set.ingredients[path.Join(dir, name)] = "a patch of " + f.Name
			}
		}
	}
	return set
}

// notForClusters says why a file is not applied, whatever is in it.
func (s folder) notForClusters(name string) string {
	if reason := s.ingredients[name]; reason != "" {
		return reason
	}
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if path.Base(dir) == "templates" && s.charts[path.Dir(dir)] {
			return "a template of the Helm chart " + path.Dir(dir) + ": tape the chart itself"
		}
	}
	return ""
}

// readable says whether a file's name says YAML or JSON.
func readable(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

var _ engine.Stage = (*Stage)(nil)
