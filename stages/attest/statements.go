// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"cmp"
	"encoding/json"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/package-url/packageurl-go"

	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/vcs"
)

// Values of Transform.Order.
const (
	orderRender   = 1
	orderImageRef = 2
)

// statements returns the statements in order: provenance, sources, renders, edits, secrets, SBOM.
// content is the digest of the content manifest.
func (k *known) statements(content digest.Digest) ([]artifact.Statement, error) {
	var out []artifact.Statement
	var failed error
	add := func(predicateType string, predicate any, subject ...artifact.Resource) {
		if len(subject) == 0 {
			return // a remote source has no files, and in-toto requires a subject
		}
		s, err := artifact.NewStatement(predicateType, predicate, subject...)
		out, failed = append(out, s), errors.Join(failed, err)
	}
	add(artifact.PredicateProvenance, k.provenance(), resource(k.Repository, content))
	for _, f := range k.facts {
		predicate, subject := source(f)
		add(artifact.PredicateSource, predicate, subject...)
	}
	for _, r := range k.renderings {
		predicate, subject := k.render(r)
		add(artifact.PredicateTransform, predicate, subject...)
	}
	predicate, subject := k.imageRef()
	add(artifact.PredicateTransform, predicate, subject...)
	secrets, subject := k.secrets()
	add(artifact.PredicateSecrets, secrets, subject...)
	if k.SBOM {
		add(artifact.PredicateSPDX, k.sbom(content), resource(k.Repository, content))
	}
	return out, failed
}

func resource(name string, d digest.Digest) artifact.Resource {
	return artifact.Resource{Name: name, Digest: artifact.DigestSet(d)}
}

// provenance returns the SLSA provenance predicate.
func (k *known) provenance() artifact.Provenance {
	p := artifact.Provenance{
		BuildDefinition: artifact.BuildDefinition{
			BuildType:            artifact.BuildType,
			ExternalParameters:   artifact.Parameters{Repository: k.Repository, Sources: []artifact.SourceParameters{}},
			ResolvedDependencies: k.dependencies(),
		},
		RunDetails: artifact.RunDetails{Builder: artifact.Builder{ID: artifact.BuilderID}},
	}
	if k.Version != "" {
		p.RunDetails.Builder.Version = map[string]string{"tape": k.Version}
	}
	parameters := &p.BuildDefinition.ExternalParameters
	parameters.Platform = k.platform()
	for _, f := range k.facts {
		s := artifact.SourceParameters{Name: f.Name, Environment: f.Environment, Path: f.Path, Reference: f.Reference}
		if i := slices.IndexFunc(k.renderings, func(r rendering.Rendering) bool { return r.Source == f.Name }); i >= 0 {
			s.Folder, s.Interpreter, s.Options = k.renderings[i].Folder, k.renderings[i].Interpreter.Name, shown(k.renderings[i].Options)
		}
		parameters.Sources = append(parameters.Sources, s)
	}
	return p
}

// platform returns the platform chosen for all images, or "" if there is none. It ignores images
// that are not in a registry, because they may exist for one platform only.
func (k *known) platform() string {
	var platform string
	for _, image := range k.images.Images {
		if image.From != "" {
			continue
		}
		if image.Platform == "" {
			return ""
		}
		platform = image.Platform
	}
	return platform
}

// shown returns the options, or nil if they are empty.
func shown(options json.RawMessage) json.RawMessage {
	if string(options) == "null" || string(options) == "{}" {
		return nil
	}
	return options
}

// dependencies lists repositories, interpreters, what interpreters fetched, and images. Each kind
// is sorted and without duplicates.
func (k *known) dependencies() []artifact.Resource {
	var repositories, interpreters, materials, pulled []artifact.Resource
	for _, f := range k.facts {
		for _, r := range f.Repositories {
			if r.Commit == "" {
				continue
			}
			d := artifact.Resource{Name: r.Dir, URI: gitURI(r), Digest: map[string]string{gitHash("gitCommit", r.Commit): r.Commit}}
			if r.Tree != "" {
				d.Digest[gitHash("gitTree", r.Tree)] = r.Tree
			}
			repositories = append(repositories, d)
		}
	}
	for _, r := range k.renderings {
		interpreters = append(interpreters, artifact.Resource{
			Name: r.Interpreter.Name,
			URI:  packageurl.NewPackageURL(packageurl.TypeGeneric, "", "tape-interpreter-"+r.Interpreter.Name, r.Interpreter.Version, nil, "").ToString(),
		})
		for _, m := range r.Materials {
			d := artifact.Resource{URI: m.URI}
			if algorithm, hex, ok := strings.Cut(m.Digest, ":"); ok {
				d.Digest = map[string]string{algorithm: hex}
			}
			materials = append(materials, d)
		}
	}
	for _, image := range k.images.Images {
		taken := artifact.Resource{Name: image.Name, URI: purl(image), Digest: artifact.DigestSet(image.Digest)}
		if image.From != "" {
			taken.Annotations = map[string]string{artifact.AnnotationImageFrom: image.From.Kind()}
		}
		pulled = append(pulled, taken)
	}
	out := []artifact.Resource{}
	for _, list := range [][]artifact.Resource{repositories, interpreters, materials, pulled} {
		slices.SortFunc(list, compareResources)
		out = append(out, slices.CompactFunc(list, func(a, b artifact.Resource) bool { return compareResources(a, b) == 0 })...)
	}
	return out
}

func compareResources(a, b artifact.Resource) int {
	return cmp.Or(
		strings.Compare(a.Name, b.Name),
		strings.Compare(a.URI, b.URI),
		slices.Compare(digests(a), digests(b)),
	)
}

func digests(r artifact.Resource) []string {
	var out []string
	for algorithm, hex := range r.Digest {
		out = append(out, algorithm+":"+hex)
	}
	slices.Sort(out)
	return out
}

// gitHash returns the name of the hash of a git object in a DigestSet. Readers that check
// the length assume that the plain name means SHA-1.
func gitHash(name, hex string) string {
	if len(hex) == 40 {
		return name
	}
	return name + "Sha256"
}

// gitURI returns the name of a repository in the form of SLSA, git+https://host/path, without the
// branch.
func gitURI(r vcs.Repository) string {
	uri := r.URI
	if uri == "" {
		return ""
	}
	if host, dir, scp := strings.Cut(uri, ":"); scp && !strings.HasPrefix(dir, "//") {
		uri = "ssh://" + host + "/" + strings.TrimPrefix(dir, "/") // git@host:path
	}
	return "git+" + uri
}

// purl returns the package URL of an image, of type oci.
func purl(image images.Image) string {
	name, tag := image.Repository()
	qualifiers := map[string]string{}
	if image.From == "" { // otherwise the image is not in a repository
		qualifiers["repository_url"] = name
	}
	if tag != "" {
		qualifiers["tag"] = tag
	}
	if _, arch, ok := strings.Cut(image.Platform, "/"); ok {
		qualifiers["arch"], _, _ = strings.Cut(arch, "/")
	}
	return packageurl.NewPackageURL(packageurl.TypeOCI, "", path.Base(name), image.Digest.String(),
		packageurl.QualifiersFromMap(qualifiers), "").ToString()
}

// source returns the predicate and subjects of a source statement. It leaves out the time of the
// commit, which the commit records, and the branch, which depends on the clone: a build of a tag
// has no branch checked out, but must give the same root.
func source(f vcs.Facts) (vcs.Facts, []artifact.Resource) {
	f.Repositories = slices.Clone(f.Repositories)
	for i := range f.Repositories {
		f.Repositories[i].CommitTime = time.Time{}
		f.Repositories[i].Ref = ""
	}
	var subject []artifact.Resource
	for _, file := range f.Files {
		subject = append(subject, resource(file.Path, file.Digest))
	}
	return f, subject
}

// render returns the predicate and subjects of the statement about one render.
func (k *known) render(r rendering.Rendering) (artifact.Transform, []artifact.Resource) {
	out := artifact.Transform{
		Kind:        artifact.TransformRender,
		Order:       orderRender,
		Inputs:      []artifact.Input{},
		Source:      r.Source,
		Reference:   r.Reference,
		Interpreter: &r.Interpreter,
		Options:     shown(r.Options),
		Materials:   r.Materials,
	}
	for _, f := range k.facts {
		if f.Name != r.Source {
			continue
		}
		out.Environment = f.Environment
		for _, file := range f.Files {
			out.Inputs = append(out.Inputs, artifact.Input{Name: file.Path, Digest: artifact.DigestSet(file.Digest)})
		}
	}
	var subject []artifact.Resource
	for _, file := range r.Files {
		subject = append(subject, resource(file.Path, file.Digest))
	}
	return out, subject
}

// imageRef returns the predicate and subjects of the statement about the edits, which
// also maps each content file to its manifest.
func (k *known) imageRef() (artifact.Transform, []artifact.Resource) {
	out := artifact.Transform{
		Kind:       artifact.TransformImageRef,
		Order:      orderImageRef,
		Inputs:     []artifact.Input{},
		Repository: k.Repository,
		Fields:     k.Fields,
	}
	stored, before := k.stored(), k.before()
	var subject []artifact.Resource
	for _, file := range k.listing {
		subject = append(subject, resource(file.Name, file.Digest))
		out.Inputs = append(out.Inputs, artifact.Input{
			Name: file.From, Digest: artifact.DigestSet(before[file.From]), Output: file.Name,
		})
	}
	slices.SortFunc(out.Inputs, func(a, b artifact.Input) int { return strings.Compare(a.Name, b.Name) })

	for _, file := range k.edits.Files {
		into, ok := stored[file.File]
		if !ok {
			continue
		}
		for _, edit := range file.Edits {
			edit.File = into.Name
			out.Edits = append(out.Edits, edit)
		}
	}
	slices.SortStableFunc(out.Edits, func(a, b images.Edit) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Offset, b.Offset))
	})
	rename := func(r images.Reference) (images.Reference, bool) {
		var here []images.Location
		for _, location := range r.Locations {
			if file, ok := stored[location.File]; ok {
				location.File = file.Name
				here = append(here, location)
			}
		}
		r.Locations = here
		return r, len(here) > 0
	}
	// resolve lists what the registries do not have, and pin what it could not change.
	for _, u := range slices.Concat(k.images.Unpinned, k.edits.Unpinned) {
		if r, ok := rename(u.Reference); ok {
			out.Unpinned = append(out.Unpinned, images.Unpinned{Reference: r, Reason: u.Reason})
		}
	}
	slices.SortStableFunc(out.Unpinned, func(a, b images.Unpinned) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), strings.Compare(a.Name, b.Name), strings.Compare(a.Reason, b.Reason))
	})
	for _, e := range k.report.Excluded {
		if r, ok := rename(e); ok {
			out.Excluded = append(out.Excluded, r)
		}
	}
	return out, subject
}

// secrets returns the predicate and subjects of the statement about credentials that the pipeline
// accepts in plain text. There is no subject if there are no such credentials.
func (k *known) secrets() (out artifact.Secrets, subject []artifact.Resource) {
	stored := k.stored()
	for _, c := range k.report.Credentials {
		file, ok := stored[c.File]
		if !ok || c.Reason == "" {
			continue
		}
		if len(subject) == 0 || subject[len(subject)-1].Name != file.Name {
			subject = append(subject, resource(file.Name, file.Digest))
		}
		c.File = file.Name
		out.Accepted = append(out.Accepted, c)
	}
	return out, subject
}

// stored returns the files of the content by the names of their manifests.
func (k *known) stored() map[string]artifact.ListedFile {
	out := make(map[string]artifact.ListedFile, len(k.listing))
	for _, file := range k.listing {
		out[file.From] = file
	}
	return out
}

// before returns the digest of each manifest before it was pinned.
func (k *known) before() map[string]digest.Digest {
	out := map[string]digest.Digest{}
	for _, file := range k.listing {
		out[file.From] = file.Digest
	}
	for _, file := range k.edits.Files {
		out[file.File] = file.Before
	}
	return out
}

// unexplained lists the manifests that the statements do not explain: undoing the edits does not
// give what was rendered, or they were changed after the edits.
func (k *known) unexplained() []string {
	rendered := map[string]digest.Digest{}
	for _, r := range k.renderings {
		for _, file := range r.Files {
			rendered[file.Path] = file.Digest
		}
	}
	edited := map[string]digest.Digest{}
	for _, file := range k.edits.Files {
		edited[file.File] = file.After
	}
	before := k.before()
	var out []string
	for _, file := range k.listing {
		if after, ok := edited[file.From]; rendered[file.From] != before[file.From] || ok && after != file.Digest {
			out = append(out, file.From)
		}
	}
	slices.Sort(out)
	return out
}
