// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/sign"
)

// market is a repository in which a vendor publishes an application of two images, which their
// publishers sign, and a trust file for it.
type market struct {
	env                              app.Environment
	upstream, host                   string
	shop                             *registry.Repository
	vendor, publisher, bank, forger  *app.Key
	keys                             map[string]string // files of public keys
	trust                            string
	old, now                         ocispec.Descriptor // roots of v0 and v1
	web, oldWeb, ledger, bad, nobody ocispec.Descriptor // images
}

const stall = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
      - {name: web, image: "registry.example/acme/web:1"}
      - {name: ledger, image: "registry.example/bank/ledger:1"}
`

func newMarket(t *testing.T) *market {
	t.Helper()
	m := &market{upstream: registrytest.Serve(t, registrytest.GGCR()), host: registrytest.Serve(t, registrytest.GGCR())}
	hosts := t.TempDir()
	if err := registrytest.WriteHosts(hosts, "registry.example", m.upstream); err != nil {
		t.Fatal(err)
	}
	m.env = environmentOf(t, hosts)
	m.keys = map[string]string{}
	for name, key := range map[string]**app.Key{"vendor": &m.vendor, "publisher": &m.publisher, "bank": &m.bank, "forger": &m.forger} {
		m.keys[name], *key = newKey(t)
	}
	m.trust = trustFile(t, m.keys, fmt.Sprintf(`images:
- {names: ["registry.example/acme/*"], require: publisher}
- {names: ["registry.example/bank/*"], require: bank}
applications:
- {names: [%q], require: vendor}
default: deny`, m.host+"/team/*"))
	m.oldWeb = m.image(t, "acme/web", "0", m.publisher)
	m.web = m.image(t, "acme/web", "1", m.publisher)
	m.ledger = m.image(t, "bank/ledger", "1", m.bank)
	m.bad = m.image(t, "evil/miner", "1", m.forger)
	m.nobody = m.image(t, "acme/unsigned", "1", nil)
	m.shop = m.repository(t, "team/shop")
	m.old, m.now = m.release(t, "v0", stall+"# the first\n"), m.release(t, "v1", stall)
	return m
}

func (m *market) repository(t *testing.T, name string) *registry.Repository {
	t.Helper()
	r, err := m.env.Registry.Repository(m.host + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// release packs an application, and signs it as the vendor.
func (m *market) release(t *testing.T, tag, manifest string) ocispec.Descriptor {
	t.Helper()
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "shop.yaml"), []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := app.Package(t.Context(), app.PackageOptions{Repository: m.shop.Name(), Tags: []string{tag}, Options: app.Options{
		Environment: m.env, Sources: []app.Source{{Path: source}}, Signer: m.vendor,
	}})
	if err != nil {
		t.Fatal(err)
	}
	root, err := m.shop.Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// image publishes an image of which only the name matters.
func (m *market) image(t *testing.T, name, tag string, by *app.Key) ocispec.Descriptor {
	t.Helper()
	r, err := m.env.Registry.Repository("registry.example/" + name)
	if err != nil {
		t.Fatal(err)
	}
	config := blobOf(ocispec.MediaTypeImageConfig, []byte(fmt.Sprintf(`{"os":"linux","architecture":"amd64","author":%q}`, name+tag)))
	image := manifestOf(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config.Desc, Layers: []ocispec.Descriptor{},
	})
	push(t, r, tag, config, image)
	if by != nil {
		attach(t, r, image.Desc, statementBy(t, by, image.Desc.Digest, artifact.PredicateSignature))
	}
	return image.Desc
}

func blobOf(mediaType string, data []byte) artifact.Blob {
	return artifact.Blob{Data: data, Desc: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}}
}

func manifestOf(t *testing.T, v any) artifact.Blob {
	t.Helper()
	data, err := engine.MarshalJSON(v)
	if err != nil {
		t.Fatal(err)
	}
	mediaType := ocispec.MediaTypeImageManifest
	if _, ok := v.(ocispec.Index); ok {
		mediaType = ocispec.MediaTypeImageIndex
	}
	return blobOf(mediaType, data)
}

// push pushes blobs and manifests in order, and tags the last one.
func push(t *testing.T, to *registry.Repository, tag string, blobs ...artifact.Blob) {
	t.Helper()
	for i, b := range blobs {
		var err error
		switch {
		case !descriptor.IsManifest(b.Desc.MediaType):
			err = to.PushBytes(t.Context(), b.Desc, b.Data)
		case i == len(blobs)-1:
			err = to.PushManifest(t.Context(), b.Desc, b.Data, tag)
		default:
			err = to.PushManifest(t.Context(), b.Desc, b.Data, "")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// statementBy returns a signed statement about a manifest.
func statementBy(t *testing.T, by app.Signer, subject digest.Digest, predicateType string) []byte {
	t.Helper()
	s, err := artifact.NewStatement(predicateType, struct{}{}, artifact.Resource{Digest: artifact.DigestSet(subject)})
	if err != nil {
		t.Fatal(err)
	}
	data, err := engine.MarshalJSON(s)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := by.Bundle(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

// attach attaches a bundle to a manifest, whatever its content.
func attach(t *testing.T, to *registry.Repository, subject ocispec.Descriptor, bundle []byte) ocispec.Descriptor {
	t.Helper()
	carrier, err := sign.Manifest(bundle, subject)
	if err != nil {
		t.Fatal(err)
	}
	push(t, to, "", artifact.Empty(), blobOf(sign.MediaType, bundle))
	if err := to.PushReferrer(t.Context(), carrier.Desc, carrier.Data); err != nil {
		t.Fatal(err)
	}
	return carrier.Desc
}

// parts are the components of an application, for a forger to change.
type parts struct {
	files       []files.File
	statements  []artifact.Statement
	annotations map[string]string
	children    []ocispec.Descriptor // except content and attestations
	layer       func(*artifact.Blob)
	by          app.Signer // of the root; nil is none
	// then is called when everything is pushed.
	then func(root, content ocispec.Descriptor)
}

// remake assembles an application from changed parts of one in the repository.
func remake(t *testing.T, in *registry.Repository, of ocispec.Descriptor, tag string, change func(*parts)) ocispec.Descriptor {
	t.Helper()
	was, err := artifact.OpenRoot(t.Context(), in, of)
	if err != nil {
		t.Fatal(err)
	}
	p := &parts{annotations: maps.Clone(was.Index.Annotations), layer: func(*artifact.Blob) {}, then: func(_, _ ocispec.Descriptor) {}}
	if p.files, err = was.Files(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.statements, err = was.Statements(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, child := range was.Index.Manifests {
		if role := child.Annotations[artifact.AnnotationRole]; role != artifact.RoleContent && role != artifact.RoleAttestations {
			p.children = append(p.children, child)
		}
	}
	change(p)
	layer, err := artifact.ContentLayer(p.files)
	if err != nil {
		t.Fatal(err)
	}
	p.layer(&layer)
	annotations := maps.Clone(p.annotations)
	delete(annotations, artifact.AnnotationFormat)
	content, err := artifact.ContentManifest(layer.Desc, annotations)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range p.statements {
		if len(s.Subject) == 1 && maps.Equal(s.Subject[0].Digest, artifact.DigestSet(was.Content.Digest)) {
			p.statements[i].Subject = []artifact.Resource{{Name: s.Subject[0].Name, Digest: artifact.DigestSet(content.Desc.Digest)}}
		}
	}
	attestations, err := artifact.Attestations(content.Desc, p.statements)
	if err != nil {
		t.Fatal(err)
	}
	own := slices.DeleteFunc(slices.Clone(was.Index.Manifests), func(child ocispec.Descriptor) bool {
		role := child.Annotations[artifact.AnnotationRole]
		return role != artifact.RoleContent && role != artifact.RoleAttestations
	})
	for i, made := range []artifact.Blob{content, attestations[len(attestations)-1]} {
		own[i].Digest, own[i].Size = made.Desc.Digest, made.Desc.Size
	}
	index := was.Index
	index.Annotations, index.Manifests = p.annotations, slices.Concat(own, p.children)
	root := manifestOf(t, index)
	push(t, in, tag, slices.Concat([]artifact.Blob{artifact.Empty(), layer, content}, attestations, []artifact.Blob{root})...)
	if p.by != nil {
		attach(t, in, root.Desc, statementBy(t, p.by, root.Desc.Digest, artifact.PredicateSignature))
	}
	p.then(root.Desc, content.Desc)
	return root.Desc
}

// edit replaces text in a file. If agree is set, the statements get its new digest.
func (p *parts) edit(t *testing.T, name, old, text string, agree bool) {
	t.Helper()
	i := slices.IndexFunc(p.files, func(f files.File) bool { return f.Name == name })
	before := p.files[i].Data
	if !bytes.Contains(before, []byte(old)) {
		t.Fatalf("%s does not hold %q", name, old)
	}
	p.files[i].Data = bytes.Replace(before, []byte(old), []byte(text), 1)
	if !agree {
		return
	}
	last := &p.statements[len(p.statements)-1]
	for j, subject := range last.Subject {
		if subject.Name == name {
			last.Subject[j].Digest = artifact.DigestSet(digest.FromBytes(p.files[i].Data))
		}
	}
}

// transform changes the last transform.
func (p *parts) transform(t *testing.T, change func(*artifact.Transform)) {
	t.Helper()
	last := &p.statements[len(p.statements)-1]
	var v artifact.Transform
	mustUnmarshal(t, last.Predicate, &v)
	change(&v)
	s, err := artifact.NewStatement(last.PredicateType, v, last.Subject...)
	if err != nil {
		t.Fatal(err)
	}
	*last = s
}

// provenance changes the provenance.
func (p *parts) provenance(t *testing.T, change func(*artifact.Provenance)) {
	t.Helper()
	var v artifact.Provenance
	mustUnmarshal(t, p.statements[0].Predicate, &v)
	change(&v)
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	p.statements[0].Predicate = data
}

// child returns the first child that has a digest, or is about it.
func (p *parts) child(dgst digest.Digest, role string) *ocispec.Descriptor {
	i := slices.IndexFunc(p.children, func(d ocispec.Descriptor) bool {
		return d.Annotations[artifact.AnnotationRole] == role && (d.Digest == dgst || d.Annotations[artifact.AnnotationRelatedTo] == dgst.String())
	})
	p.children[i].Annotations = maps.Clone(p.children[i].Annotations)
	return &p.children[i]
}

// drop removes the children that have a digest or are about it.
func (p *parts) drop(dgst digest.Digest, roles ...string) {
	p.children = slices.DeleteFunc(p.children, func(d ocispec.Descriptor) bool {
		return slices.Contains(roles, d.Annotations[artifact.AnnotationRole]) && (d.Digest == dgst || d.Annotations[artifact.AnnotationRelatedTo] == dgst.String())
	})
}

// list adds an image, which is copied with everything attached from where it was published.
func (m *market) list(t *testing.T, p *parts, image ocispec.Descriptor, from, source string) {
	t.Helper()
	if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: m.env, Pairs: []app.CopyPair{{
		Source: "registry.example/" + from + "@" + image.Digest.String(), Target: m.shop.Name() + ":evil-" + image.Digest.Encoded()[:8],
	}}}); err != nil {
		t.Fatal(err)
	}
	p.children = append(p.children, ocispec.Descriptor{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size, Annotations: map[string]string{
		artifact.AnnotationRole: artifact.RoleImage, artifact.AnnotationImageSource: source, artifact.AnnotationImageTag: artifact.ImageTag(source, image.Digest),
	}})
	attached, err := m.shop.Referrers(t.Context(), image.Digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range attached {
		p.children = append(p.children, relatedTo(d, image.Digest))
	}
}

func relatedTo(d ocispec.Descriptor, to digest.Digest) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: sign.MediaType, Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"},
		Annotations: map[string]string{artifact.AnnotationRole: artifact.RoleRelated, artifact.AnnotationRelatedTo: to.String()},
	}
}

// TestTamperedApplications checks that a trust file rejects what others made from an application,
// in each case for the right reason, before anything is written.
func TestTamperedApplications(t *testing.T) {
	m := newMarket(t)
	signed := func(change func(*parts)) func(*testing.T, string) {
		return func(t *testing.T, tag string) {
			remake(t, m.shop, m.now, tag, func(p *parts) {
				p.by = m.vendor
				change(p)
			})
		}
	}
	// unsigned has another root, with something attached to it.
	unsigned := func(then func(root, content ocispec.Descriptor)) func(*testing.T, string) {
		return func(t *testing.T, tag string) {
			remake(t, m.shop, m.now, tag, func(p *parts) {
				p.annotations[ocispec.AnnotationDescription] = tag
				p.then = then
			})
		}
	}
	webRef := func(p *parts) string {
		var v artifact.Transform
		mustUnmarshal(t, p.statements[len(p.statements)-1].Predicate, &v)
		return v.Edits[0].Replaced
	}
	object := files.File{Name: "zz.yaml", Data: []byte("{apiVersion: v1, kind: Namespace, metadata: {name: zz}}\n")}
	said := artifact.Resource{Name: object.Name, Digest: artifact.DigestSet(digest.FromBytes(object.Data))}
	application := "trust in application: applications rule"
	for i, c := range []struct {
		name string
		do   func(t *testing.T, tag string)
		want string // "": it is accepted
	}{
		{"nothing", signed(func(*parts) {}), ""},

		// Signatures of the root.
		{"no signature", unsigned(func(_, _ ocispec.Descriptor) {}), application},
		{"a forger's", unsigned(func(root, _ ocispec.Descriptor) {
			attach(t, m.shop, root, statementBy(t, m.forger, root.Digest, artifact.PredicateSignature))
		}), "not signed by this key"},
		{"one by an authority of another rule", unsigned(func(root, _ ocispec.Descriptor) {
			attach(t, m.shop, root, statementBy(t, m.publisher, root.Digest, artifact.PredicateSignature))
		}), "not signed by this key"},
		{"that of the content", unsigned(func(root, content ocispec.Descriptor) {
			attach(t, m.shop, root, statementBy(t, m.vendor, content.Digest, artifact.PredicateSignature))
		}), "the bundle signs sha256:"},
		{"that of the release before", unsigned(func(root, _ ocispec.Descriptor) {
			attach(t, m.shop, root, statementBy(t, m.vendor, m.old.Digest, artifact.PredicateSignature))
		}), "the bundle signs " + m.old.Digest.String()},
		{"a statement that is not a signature", unsigned(func(root, _ ocispec.Descriptor) {
			attach(t, m.shop, root, statementBy(t, m.vendor, root.Digest, artifact.PredicatePromotion))
		}), "not a signature"},
		{"one whose subject was changed", unsigned(func(root, _ ocispec.Descriptor) {
			var bundle map[string]any
			mustUnmarshal(t, statementBy(t, m.vendor, m.old.Digest, artifact.PredicateSignature), &bundle)
			other := map[string]any{}
			mustUnmarshal(t, statementBy(t, m.forger, root.Digest, artifact.PredicateSignature), &other)
			bundle["dsseEnvelope"].(map[string]any)["payload"] = other["dsseEnvelope"].(map[string]any)["payload"]
			data, err := json.Marshal(bundle)
			if err != nil {
				t.Fatal(err)
			}
			attach(t, m.shop, root, data)
		}), "not signed by this key"},
		{"one that cannot be read", unsigned(func(root, _ ocispec.Descriptor) { attach(t, m.shop, root, []byte("{")) }), "read bundle"},

		// Tags.
		{"a tag that was moved to a forger's", func(t *testing.T, tag string) {
			push(t, m.shop, tag, artifact.Blob{Desc: m.now, Data: mustGet(t, m.shop, m.now)})
			remake(t, m.shop, m.now, tag, func(p *parts) { p.by, p.annotations[ocispec.AnnotationVersion] = m.forger, "v9" })
		}, application},
		{"the tag of an image", signed(func(p *parts) {
			p.child(m.web.Digest, artifact.RoleImage).Annotations[artifact.AnnotationImageTag] = "latest"
		}), `the tag "latest", which is not one of that manifest`},
		{"the tag of a signature", signed(func(p *parts) {
			p.child(m.web.Digest, artifact.RoleRelated).Annotations[artifact.AnnotationRelatedTag] = "v1"
		}), `the tag "v1", which is not one of that manifest`},

		// Images that run.
		{"an image that was swapped", signed(func(p *parts) {
			p.edit(t, "shop.yaml", m.web.Digest.String(), m.ledger.Digest.String(), false)
		}), "shop.yaml: the statements have another digest for it"},
		{"an image that was swapped, with the file's digest", signed(func(p *parts) {
			p.edit(t, "shop.yaml", m.web.Digest.String(), m.ledger.Digest.String(), true)
		}), "is not at byte"},
		{"an image that was swapped, with the edit", signed(func(p *parts) {
			ref := webRef(p)
			p.edit(t, "shop.yaml", m.web.Digest.String(), m.bad.Digest.String(), true)
			p.transform(t, func(v *artifact.Transform) {
				v.Edits[0].Replaced, v.Edits[0].Digest = strings.Replace(ref, m.web.Digest.String(), m.bad.Digest.String(), 1), m.bad.Digest
			})
		}), "the root does not list " + m.bad.Digest.String()},
		{"an image that was swapped, with the edit and the list", signed(func(p *parts) {
			ref := webRef(p)
			p.edit(t, "shop.yaml", m.web.Digest.String(), m.bad.Digest.String(), true)
			p.transform(t, func(v *artifact.Transform) {
				v.Edits[0].Replaced, v.Edits[0].Digest = strings.Replace(ref, m.web.Digest.String(), m.bad.Digest.String(), 1), m.bad.Digest
			})
			m.list(t, p, m.bad, "evil/miner", "registry.example/acme/web:1")
		}), "images rule registry.example/acme/*"},
		{"an image from elsewhere", signed(func(p *parts) {
			p.edit(t, "shop.yaml", webRef(p), "registry.example/evil/miner:1", false)
		}), "registry.example/evil/miner:1: shop.yaml:8:29: a pod runs this image, but the root does not list it"},
		{"an image from elsewhere, which is said to be left alone", signed(func(p *parts) {
			p.edit(t, "shop.yaml", webRef(p), "registry.example/evil/miner:1", true)
			p.transform(t, func(v *artifact.Transform) { v.Edits = v.Edits[1:] })
		}), "a pod runs this image, but the root does not list it"},
		{"a byte of a comment", signed(func(p *parts) {
			p.files[0].Data = append(p.files[0].Data, "# \n"...)
		}), "shop.yaml: the statements have another digest for it"},
		{"an edit of something else", signed(func(p *parts) {
			p.edit(t, "shop.yaml", "{name: web}", "{name: wub}", true)
		}), "undo the edits of shop.yaml: the result has digest"},
		{"another object", signed(func(p *parts) { p.edit(t, "shop.yaml", "apiVersion", string(object.Data)+"---\napiVersion", true) }), "is not at byte"},
		{"another file", signed(func(p *parts) { p.files = append(p.files, object) }), "zz.yaml: no statement is about it"},
		{"another file, which is said to be edited", signed(func(p *parts) {
			p.files = append(p.files, object)
			p.transform(t, func(v *artifact.Transform) {
				v.Inputs = append(v.Inputs, artifact.Input{Name: object.Name, Digest: said.Digest, Output: object.Name})
			})
			last := &p.statements[len(p.statements)-1]
			last.Subject = append(last.Subject, said)
		}), "zz.yaml: neither an unchanged source nor a rendered file"},
		{"another name of a file", signed(func(p *parts) { p.files[0].Name = "renamed.yaml" }), "renamed.yaml: no statement is about it; shop.yaml: missing from the content"},
		{"more than files", signed(func(p *parts) {
			p.layer = func(b *artifact.Blob) { appendToTar(t, b) }
		}), "more than its"},
		{"provenance of another content", signed(func(p *parts) {
			p.statements[0].Subject = []artifact.Resource{{Digest: artifact.DigestSet(m.old.Digest)}}
		}), "it is not about the content"},
		{"a build of another type", signed(func(p *parts) {
			p.provenance(t, func(v *artifact.Provenance) { v.BuildDefinition.BuildType = "https://example.com/build" })
		}), `its build type is "https://example.com/build"`},

		// Signatures of images.
		{"an image that no rule names", signed(func(p *parts) { m.list(t, p, m.bad, "evil/miner", "registry.example/evil/miner:1") }), "no rule for images names it"},
		{"an image by a name that is trusted", signed(func(p *parts) {
			m.list(t, p, m.bad, "evil/miner", "registry.example/acme/miner:1")
		}), "images rule registry.example/acme/*"},
		{"an image that nobody signed", signed(func(p *parts) {
			m.list(t, p, m.nobody, "acme/unsigned", "registry.example/acme/unsigned:1")
		}), "no signature is attached, or it was not copied"},
		{"an image whose only signature is by an authority of another rule", signed(func(p *parts) {
			p.child(m.ledger.Digest, artifact.RoleImage).Annotations[artifact.AnnotationImageSource] = "registry.example/acme/ledger:1"
			p.child(m.ledger.Digest, artifact.RoleImage).Annotations[artifact.AnnotationImageTag] = artifact.ImageTag("registry.example/acme/ledger:1", m.ledger.Digest)
		}), "it must be signed by publisher"},
		{"an image of two names, of which one has another rule", signed(func(p *parts) {
			p.child(m.web.Digest, artifact.RoleImage).Annotations[artifact.AnnotationImageSource] = "registry.example/acme/web:1,registry.example/bank/web:1"
		}), "it must be signed by bank"},
		{"an image whose signature is left out", signed(func(p *parts) { p.drop(m.web.Digest, artifact.RoleRelated) }), "shop.yaml:8:29: images rule registry.example/acme/*"},
		{"an image with the signature of the release before", signed(func(p *parts) {
			p.drop(m.web.Digest, artifact.RoleRelated)
			p.children = append(p.children, relatedTo(attach(t, m.shop, m.web, statementBy(t, m.publisher, m.oldWeb.Digest, artifact.PredicateSignature)), m.web.Digest))
		}), "the bundle signs " + m.oldWeb.Digest.String()},
		{"an image with a signature of another image", signed(func(p *parts) {
			p.child(m.web.Digest, artifact.RoleRelated).Annotations[artifact.AnnotationRelatedTo] = m.ledger.Digest.String()
		}), "it must be signed by publisher"},

		// Completeness.
		{"an image of another size", signed(func(p *parts) { p.child(m.web.Digest, artifact.RoleImage).Size++ }), "bytes"},
		{"two contents", signed(func(p *parts) {
			p.children = append(p.children, ocispec.Descriptor{
				MediaType: m.web.MediaType, Digest: m.web.Digest, Size: m.web.Size, Annotations: map[string]string{artifact.AnnotationRole: artifact.RoleContent},
			})
		}), "it lists 2 contents, not one"},
		{"a format from the future", signed(func(p *parts) { p.annotations[artifact.AnnotationFormat] = "9" }), `format "9"`},
		{"a repository that no rule names", func(t *testing.T, tag string) {
			if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: m.env, Pairs: []app.CopyPair{{
				Source: m.shop.Name() + ":v1", Target: m.host + "/elsewhere/shop:" + tag,
			}}}); err != nil {
				t.Fatal(err)
			}
		}, "no rule for applications names it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tag := fmt.Sprintf("t%d", i)
			c.do(t, tag)
			ref := m.shop.Name() + ":" + tag
			if strings.Contains(c.name, "repository") {
				ref = m.host + "/elsewhere/shop:" + tag
			}
			m.judge(t, ref, m.trust, c.want)
		})
	}
}

// judge checks that a trust file rejects an application for a reason, with nothing written; ""
// means that it accepts it.
func (m *market) judge(t *testing.T, ref, trust, want string) {
	t.Helper()
	to := m.repository(t, fmt.Sprintf("to/%s", digest.FromString(ref).Encoded()[:12]))
	_, err := app.Copy(t.Context(), app.CopyOptions{Environment: m.env, Pairs: []app.CopyPair{{Source: ref, Target: to.Name() + ":v1"}}, Trust: trust})
	result, verifyErr := app.Verify(t.Context(), app.VerifyOptions{Environment: m.env, Ref: ref, Trust: trust})
	if verifyErr != nil {
		t.Fatal(verifyErr)
	}
	if want == "" {
		if err != nil || !result.OK {
			t.Errorf("refused: %v, %v", err, failing(result))
		}
		return
	}
	if !errors.Is(err, engine.ErrPolicy) {
		t.Errorf("copied: error %v", err)
	}
	if empty, err := to.Empty(t.Context()); err != nil || !empty {
		t.Errorf("something was written (%v)", err)
	}
	reasons := slices.Sorted(maps.Keys(failing(result)))
	for i, name := range reasons {
		reasons[i] += ": " + failing(result)[name]
	}
	if all := strings.Join(reasons, "\n"); result.OK || !strings.Contains(all, want) {
		t.Errorf("refused because\n%s\nwant %q", all, want)
	}
}

func mustGet(t *testing.T, from *registry.Repository, desc ocispec.Descriptor) []byte {
	t.Helper()
	data, err := engine.Get(t.Context(), from, desc)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
