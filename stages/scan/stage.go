// SPDX-License-Identifier: Apache-2.0

// Package scan implements the scan stage: it finds every image reference in the
// manifests, with its exact position in bytes.
//
//	manifests/<source>  files
//	→ references        images.Report
//	→ manifests         the files of all sources
//
// The stage takes milliseconds and is not cached.
//
// # What is found
//
//   - pod: the containers, initContainers, ephemeralContainers and image volumes of a
//     PodSpec, at any depth in objects of any kind.
//   - crd: image fields of other kinds. catalogue.yaml lists those of many custom
//     resources, and a pipeline may add more. A field with a name like image or
//     sidecarImage is also used if its value looks like a reference.
//   - indirect: strings that pass an image to a program: arguments, environment
//     variables, annotations, data of ConfigMaps and Secrets, scripts, and documents
//     in any of these, at any depth. Either the form of a word (registry, path, tag or
//     digest) or the name before it (--image, PROXY_IMAGE, image:) must show that it is
//     a reference.
//
// A value in an image field that something else replaces later is a placeholder. Status,
// custom resource definitions, comments and the names of objects are not searched.
//
// The scan also finds credentials that objects hold in plain text.
//
// # Which files are part of the application
//
// A file is part of the application if the report's Objects list it. Every other file is
// in Skipped with Line 0: valid YAML that is not a Kubernetes object (values,
// kustomizations), patches of a kustomization in the same source, templates of a Helm
// chart. In a file with objects, a document that is not an object is in Skipped with its
// line. A file with a document that does not parse is in Skipped as invalid, and its
// objects are not listed.
//
// References in skipped files are still reported if there are objects to find them in:
// the other documents of an invalid file, and patches, whose references are indirect. Pin
// does not change these files.
package scan

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Config configures the stage. It is `images` in a pipeline file.
type Config struct {
	// Fields are image fields of custom resources. They precede those of the catalogue.
	Fields []Field `json:"fields,omitempty"`
	// Exclude are patterns of references that are neither copied nor pinned. They are matched
	// with the reference as written and with its normalised form; * matches any characters.
	Exclude []string `json:"exclude,omitempty"`
	// SkipInvalid leaves out files that do not parse, instead of failing.
	SkipInvalid bool `json:"skipInvalid,omitempty"`
	// SkipSealed suppresses the warning about images that stay as written because the
	// object is sealed by sops or by a signature.
	SkipSealed bool `json:"skipSealed,omitempty"`
	// Accept describes credentials in plain text that cause no warning.
	Accept []Accepted `json:"accept,omitempty"`
}

// Field describes places in objects that contain image references, or that do not.
type Field struct {
	// Groups and Kinds select the objects. "" is the core group, "*" matches any characters. No
	// groups means any group that is not one of Kubernetes itself.
	Groups []string `json:"groups,omitempty"`
	Kinds  []string `json:"kinds"`
	// Paths are JSON pointers (RFC 6901) from the top of the object, in which * matches any one
	// key or index and ** any number of them, including none. A # after a key continues in the
	// YAML or JSON document in the string of that key: /data/config.yaml#/proxy/image.
	Paths []string `json:"paths"`
	// Parts is set if the reference is split over several fields. Paths then point to
	// the map that contains them, and Parts names the keys.
	Parts *Parts `json:"parts,omitempty"`
	// When restricts the field to maps in which these keys have these values. A key that begins
	// with a slash is a JSON pointer from the top of the object. A value may be several patterns
	// separated by |, in which * matches any characters.
	When map[string]string `json:"when,omitempty"`
	// Unless excludes maps that have one of these keys, which are separated by |.
	Unless string `json:"unless,omitempty"`
	// Scheme restricts the field to values that begin with Scheme and ://.
	Scheme string `json:"scheme,omitempty"`
	// Behind restricts the field to values that contain this text. The reference follows
	// it.
	Behind string `json:"behind,omitempty"`
	// Ignore reports that the value, and everything in it, is not an image.
	Ignore bool `json:"ignore,omitempty"`
	// Optional reports that the image may not exist as written, because the reader of
	// the field changes the value.
	Optional bool `json:"optional,omitempty"`
	// Pin is how to pin the reference: "" and "digest" keep the tag and add the digest, "never"
	// does not pin it.
	Pin string `json:"pin,omitempty"`
	// Reason is why the reference is never pinned, or is not an image.
	Reason string `json:"reason,omitempty"`
}

// Parts are the keys of the parts of a reference, relative to the path of the field. Each is a
// key or a JSON pointer, or several separated by |; the first that exists is used. A
// pointer that begins with // is relative to the top of the object.
type Parts struct {
	Registry string `json:"registry,omitempty"` // host
	// Repository is host and path. With a Registry it is only the path, and with an Image it
	// lacks the last element.
	Repository string `json:"repository,omitempty"`
	Image      string `json:"image,omitempty"` // last element of the path
	Tag        string `json:"tag,omitempty"`
	Digest     string `json:"digest,omitempty"`  // algorithm:hex
	Version    string `json:"version,omitempty"` // a tag or a digest
	// Algorithm is the algorithm of the digest whose hex is the Version. If there is none,
	// Version is a tag.
	Algorithm string `json:"algorithm,omitempty"`
	// Literal is the last element of the path if the reader of the object adds it. It is not in a
	// field, so the reference cannot be pinned.
	Literal string `json:"literal,omitempty"`
}

// Kind describes the stage to the table of stages.
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

// Stage is the scan stage. It is safe for concurrent use.
type Stage struct {
	config     Config
	catalogue  func() *catalogue
	imagesOnly bool         // do not look for credentials
	limits     files.Limits // of the manifests of all sources together
}

// New returns the stage, or an error that describes what is wrong with the configuration.
func New(c Config) (*Stage, error) {
	if err := check(c.Fields); err != nil {
		return nil, engine.Mistaken("fields", err)
	}
	known := sync.OnceValue(func() *catalogue { return newCatalogue(c.Fields) })
	return &Stage{config: c, catalogue: known, limits: files.DefaultLimits()}, nil
}

// Run implements [engine.Stage].
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	folders := t.Many("manifests")
	var all []files.File
	for i, desc := range folders {
		some, err := files.Get(ctx, t.Store, desc)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if err := s.limits.Check(all); err != nil { // before reading more
			return nil, fmt.Errorf("the manifests of %s: %w: make several applications", count(i+1, "source"), err)
		}
	}
	b := newBudget(all)
	report, err := s.scan(ctx, all, b)
	if err != nil {
		return nil, err
	}
	if err := s.check(report); err != nil {
		return nil, err
	}
	for _, skipped := range report.Skipped {
		if skipped.Invalid {
			t.Report(engine.Event{Level: engine.Warning, Message: fmt.Sprintf("%s is left out: %s", position(skipped), skipped.Reason)})
		}
	}
	for _, sentence := range hooks(report) {
		t.Report(engine.Event{Level: engine.Note, Message: sentence})
	}
	for _, sentence := range slices.Concat(Rewriters(report), s.sealed(report)) {
		t.Report(engine.Event{Level: engine.Warning, Message: sentence})
	}
	for _, warning := range s.unused(report, b) {
		t.Report(warning)
	}
	var merged ocispec.Descriptor
	if len(folders) == 1 {
		merged = folders[0]
	} else if merged, err = files.Put(ctx, t.Store, all); err != nil {
		return nil, err
	}
	references, err := engine.PutJSON(ctx, t.Store, images.MediaTypeReport, report)
	return engine.Outputs{"references": references, "manifests": merged}, err
}

// check returns an error if the report has no objects or, unless SkipInvalid is set, if a
// file does not parse.
func (s *Stage) check(r *images.Report) error {
	var invalid []string
	for _, skipped := range r.Skipped {
		if skipped.Invalid {
			invalid = append(invalid, position(skipped)+": "+skipped.Reason)
		}
	}
	switch {
	case len(invalid) > 0 && !s.config.SkipInvalid:
		return advice.Add(errors.New(strings.Join(invalid, "; ")), advice.SkipInvalid)
	case len(r.Objects) > manifests.MaxDocuments:
		return fmt.Errorf("%s: more than %d Kubernetes objects", position(images.Skipped{File: r.Objects[manifests.MaxDocuments].File, Line: r.Objects[manifests.MaxDocuments].Line}), manifests.MaxDocuments)
	case len(r.Objects)+len(r.References) > 0:
		return nil
	case len(r.Skipped) > 0:
		none := func(first images.Skipped) error {
			return fmt.Errorf("no Kubernetes object in %s: %s: %s", count(len(r.Skipped), "file"), position(first), first.Reason)
		}
		if i := slices.IndexFunc(r.Skipped, func(s images.Skipped) bool { return s.Reason == manifests.ReadBy("tape") }); i >= 0 {
			return advice.Add(none(r.Skipped[i]), advice.TakePipeline, r.Skipped[i].File)
		}
		return fmt.Errorf("%w (is this the folder of the manifests?)", none(r.Skipped[0]))
	}
	return errors.New("no manifests: no file ends in .yaml, .yml or .json (is this the folder of the manifests?)")
}

// sealed returns a warning for each image that Kubernetes reads but that cannot be pinned
// because its object is sealed.
func (s *Stage) sealed(r *images.Report) []string {
	var out []string
	for _, reference := range r.References {
		for _, l := range reference.Locations {
			if !s.config.SkipSealed && l.Class != images.Indirect && (l.Never == bySops || l.Never == bySigstore) {
				out = append(out, fmt.Sprintf("%s: image %s stays as written: %s; or accept that it is not pinned (skipSealed)", l.Place(), l.Value, l.Never))
			}
		}
	}
	return out
}

// Rewriters returns a warning for each object that makes the cluster change the images of pods to
// images that no manifest names.
func Rewriters(r *images.Report) []string {
	var out []string
	for _, o := range r.Objects {
		if o.Kind == "AssignImage" && strings.HasPrefix(o.APIVersion, "mutations.gatekeeper.sh/") {
			out = append(out, fmt.Sprintf("%s: %s %s rewrites the images of pods in the cluster; what those then run is unknown here",
				images.Place(o.File, o.Line, 0), o.Kind, o.Name))
		}
	}
	return out
}

// atOnce are the events of Helm and Argo CD that are part of applying the manifests.
var atOnce = set("pre-install post-install pre-upgrade post-upgrade PreSync Sync PostSync")

// hooks returns a note for each hook that does not run when the manifests are applied. Helm
// or Argo CD would run it later, but other tools apply it immediately.
func hooks(r *images.Report) []string {
	var out []string
	for _, o := range r.Objects {
		events := strings.FieldsFunc(o.Hook, func(r rune) bool { return r == ',' || r == ' ' })
		if o.Hook == "" || slices.ContainsFunc(events, func(e string) bool { return atOnce[e] }) {
			continue
		}
		whose := "a Helm hook"
		if o.Hook != strings.ToLower(o.Hook) {
			whose = "an Argo CD hook"
		}
		out = append(out, fmt.Sprintf("%s: %s %s is %s (%s); kubectl and Flux apply it immediately, with everything else",
			images.Place(o.File, o.Line, 0), o.Kind, o.Name, whose, o.Hook))
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

// Scan returns what the files contain. Problems with files are in the report; the error is the
// cause of the context, or that the files exceed a limit of an application.
func (s *Stage) Scan(ctx context.Context, in []files.File) (*images.Report, error) {
	return s.scan(ctx, in, newBudget(in))
}

// ScanEach scans each file separately, independently of the others, and only for images. The
// files belong to one application, and together must not exceed its limits.
func (s *Stage) ScanEach(ctx context.Context, in []files.File, visit func(*images.Report)) error {
	each, b := *s, newBudget(in)
	each.imagesOnly = true
	for _, f := range in {
		report, err := each.scan(ctx, []files.File{f}, b)
		if err != nil {
			return err
		}
		visit(report)
	}
	return nil
}

func (s *Stage) scan(ctx context.Context, in []files.File, b *budget) (*images.Report, error) {
	in = slices.SortedStableFunc(slices.Values(in), func(a, b files.File) int { return cmp.Compare(a.Name, b.Name) })
	set := newFolder(in)
	found := make([]fileReport, len(in))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, f := range in {
		scan := &fileScan{name: f.Name, reason: set.notForClusters(f.Name)}
		if !readable(f.Name) {
			scan.reason = "the file name does not end in .yaml, .yml or .json"
			found[i] = scan.report()
			continue
		}
		scan.file = manifests.Open(f.Name, f.Data)
		pieces := scan.file.Text.Split()
		err := scan.file.Dispute()
		if len(pieces) > manifests.MaxDocuments {
			err = fmt.Errorf("more than %d documents", manifests.MaxDocuments)
		}
		if bytes.HasPrefix(f.Data, []byte(largeFile)) {
			err = errors.New("it is a Git LFS pointer instead of the file, which 'git lfs pull' fetches")
		}
		if err != nil {
			scan.batches = []findings{{err: invalid(scan.file, scan.file.Text, err)}}
			found[i] = scan.report()
			continue
		}
		work := batches(pieces)
		scan.batches = make([]findings, len(work))
		scan.left.Store(int32(len(work)))
		for j, batch := range work {
			group.Go(func() error {
				if err := cmp.Or(context.Cause(ctx), b.err()); err != nil {
					return err
				}
				if err := b.parse(ctx, batch, func() { s.scanBatch(scan.file, batch, &scan.batches[j], b) }); err != nil {
					return err
				}
				if scan.left.Add(-1) == 0 {
					found[i] = scan.report()
				}
				return nil
			})
		}
	}
	if err := cmp.Or(group.Wait(), b.err()); err != nil {
		return nil, err
	}
	return merge(found, s.config.Exclude), nil
}

// fileScan is the state of scanning one file.
type fileScan struct {
	name    string
	reason  string // why the file is not applied, whatever it contains
	file    *manifests.File
	batches []findings
	left    atomic.Int32 // batches in progress
}

// batchSize is the size in bytes of the text that one goroutine scans.
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
func (s *Stage) scanBatch(f *manifests.File, pieces []*manifests.Text, out *findings, left *budget) {
	for _, piece := range pieces {
		docs, err := manifests.Parse(piece)
		if err != nil {
			out.fail(invalid(f, piece, err))
		}
		for i := range docs {
			if dispute := docs[i].Dispute(); dispute != nil {
				out.fail(invalid(f, piece, dispute))
			}
			if !left.growth.take(f.Name, docs[i].Added()) {
				return
			}
			s.scanDocument(f, &docs[i], out, left)
		}
		if err != nil {
			out.documents++
		}
	}
}

// largeFile is the beginning of the file that git stores instead of one in Git LFS.
const largeFile = "version https://git-lfs.github.com/spec/"

// invalid returns the entry of Skipped for a piece of a file that does not parse.
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

func (s *Stage) scanDocument(f *manifests.File, doc *manifests.Document, out *findings, left *budget) {
	document := out.documents
	out.documents++
	if doc.Empty() {
		return
	}
	found, reason := doc.Objects()
	if reason != "" {
		inner := doc.Inner()
		if len(inner) > 0 {
			reason = "objects in a map or list, which no cluster accepts"
		} else if o, ok := doc.Unversioned(); ok {
			inner = []manifests.Object{o}
		}
		out.strangers = append(out.strangers, located[images.Skipped]{images.Skipped{File: f.Name, Reason: reason}, doc.Offset(&doc.Root)})
		s.walk(f, doc, document, inner, out, left)
		return
	}
	if len(found) == 0 {
		out.empty = "a list without items"
	}
	if len(found) > manifests.MaxDocuments {
		out.fail(&images.Skipped{File: f.Name, Invalid: true, Reason: fmt.Sprintf("more than %d objects", manifests.MaxDocuments)})
		return
	}
	for _, o := range found {
		if !left.places.take(f.Name, len(f.Name)+len(o.APIVersion)+len(o.Kind)) {
			return
		}
		annotations := o.Get("metadata").Get("annotations")
		out.objects = append(out.objects, located[images.Object]{images.Object{
			File: f.Name, Document: document,
			APIVersion: o.APIVersion, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name,
			Hook: cmp.Or(annotations.Get("helm.sh/hook").Text(), annotations.Get("argocd.argoproj.io/hook").Text()),
		}, doc.Offset(o.Node)})
		if !s.imagesOnly {
			s.credentials(f, doc, o, out, left)
		}
	}
	if o, ok := doc.Unversioned(); ok {
		found = append(found, o)
	}
	s.walk(f, doc, document, found, out, left)
}

func (s *Stage) walk(f *manifests.File, doc *manifests.Document, document int, objects []manifests.Object, out *findings, left *budget) {
	before := len(out.references)
	defer func() { markShared(out.references[before:]) }()
	room := manifests.MaxGrowth*doc.Written() + 16*manifests.FreeGrowth
	for _, o := range objects {
		w := walker{catalogue: s.catalogue(), out: out, budget: left, indexes: map[*manifests.Node]map[string]*manifests.Node{}, doc: doc, room: &room, file: f, document: document, object: o.String(), sealed: sealed(&doc.Root)}
		w.enter(o.Pointer())
		w.resource(o)
	}
}

// markShared sets Shared of the references in a document whose bytes are also part of
// something else: more nodes use these bytes than references were found in them.
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

// folder records what files imply about other files.
type folder struct {
	charts map[string]bool // folders of Helm charts
	// ingredients maps a file to its role in a kustomization.
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

// notForClusters returns the reason why a file is not applied, whatever it contains, or "".
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

// readable reports whether a file has the name of a YAML or JSON file.
func readable(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}
