// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/interpreters/plain"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/sign"
)

// twoRegistries are the kinds of registry that everything is tested with.
func twoRegistries() map[string]func() http.Handler {
	return map[string]func() http.Handler{
		"without referrers API": func() http.Handler { return registrytest.Distribution("") },
		"with referrers API":    registrytest.GGCR,
	}
}

// onlyPlain finds the interpreter that needs no process.
type onlyPlain struct{ *plain.Interpreter }

func (onlyPlain) Name() string { return "plain" }

func (onlyPlain) Checksum(context.Context) (digest.Digest, error) {
	return digest.FromString("plain"), nil
}

func (p onlyPlain) Find(context.Context, string) (rendering.Interpreter, error) { return p, nil }
func (p onlyPlain) List(context.Context) ([]rendering.Interpreter, error) {
	return []rendering.Interpreter{p}, nil
}

// signedApp is an application of one image, packaged and signed.
type signedApp struct {
	env    app.Environment
	host   string
	ref    string
	root   digest.Digest
	public string // key file
	signer app.Signer
}

const shop = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {}
  template:
    spec:
      containers:
      - {name: web, image: "registry.example/web:1"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {MISSING_IMAGE: registry.example/missing/tool:1}
`

func newSignedApp(t *testing.T, dst http.Handler) *signedApp {
	t.Helper()
	return newSignedAppAt(t, registrytest.Serve(t, dst), app.Options{})
}

// newSignedAppAt packages into the registry at host.
func newSignedAppAt(t *testing.T, host string, o app.Options) *signedApp {
	t.Helper()
	hosts := t.TempDir()
	upstream := &registrytest.Upstream{Image: func(name, _ string) (registrytest.Image, bool) {
		return registrytest.Published(), !strings.Contains(name, "missing")
	}}
	if err := registrytest.WriteHosts(hosts, "registry.example", registrytest.Serve(t, upstream)); err != nil {
		t.Fatal(err)
	}
	a := &signedApp{host: host}
	a.env = environmentOf(t, hosts)
	a.public, a.signer = newKey(t)

	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "shop.yaml"), []byte(shop), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(source, "service.json"), []byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	o.Environment, o.Sources, o.Signer = a.env, []app.Source{{Path: source}}, a.signer
	result, err := app.Package(t.Context(), app.PackageOptions{Options: o, Repository: a.host + "/team/shop", Tags: []string{"v1"}})
	if err != nil {
		t.Fatal(err)
	}
	a.ref, a.root = a.host+"/team/shop:v1", result.Root.Digest
	return a
}

func environmentOf(t *testing.T, hosts string) app.Environment {
	t.Helper()
	client, err := registry.New(registry.Options{
		HostsDir: hosts, ManifestFile: filepath.Join(t.TempDir(), "manifests"),
		Credentials: func(string) (string, string, error) { return "", "", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return app.Environment{Registry: client, Interpreters: onlyPlain{plain.New()}}
}

func newKey(t *testing.T) (public string, signer *app.Key) {
	t.Helper()
	pair, err := app.GenerateKey(t.Context(), app.KeyOptions{Prefix: filepath.Join(t.TempDir(), "k"), Password: nil})
	if err != nil {
		t.Fatal(err)
	}
	if signer, err = app.LoadSigner(t.Context(), app.SignerOptions{Name: pair.Private}); err != nil {
		t.Fatal(err)
	}
	return pair.Public, signer
}

// layout copies the application into a folder.
func (a *signedApp) layout(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: a.ref, Target: "oci:" + dir}}}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (a *signedApp) verify(t *testing.T, o app.VerifyOptions) *app.VerifyResult {
	t.Helper()
	o.Environment = a.env
	if o.Key == "" {
		o.Key = a.public
	}
	if o.Ref == "" {
		o.Ref = a.ref
	}
	result, err := app.Verify(t.Context(), o)
	if err != nil {
		t.Fatalf("verify %s: %v", o.Ref, err)
	}
	return result
}

// failing returns the names of the links that failed, with their reasons.
func failing(r *app.VerifyResult) map[string]string {
	out := map[string]string{}
	for _, link := range r.Links {
		if !link.OK {
			out[link.Name] = link.Reason
		}
	}
	return out
}

func TestVerify(t *testing.T) {
	for name, dst := range twoRegistries() {
		t.Run(name, func(t *testing.T) {
			a := newSignedApp(t, dst())
			for _, o := range []app.VerifyOptions{{}, {Deep: true}, {Ref: a.host + "/team/shop@" + a.root.String()}, {Ref: "oci:" + a.layout(t), Offline: true}} {
				if r := a.verify(t, o); !r.OK || r.Root != a.root || len(r.Warnings) != 0 {
					t.Errorf("%+v: %v, warnings %q", o, failing(r), r.Warnings)
				}
			}
			other, _ := newKey(t)
			if r := a.verify(t, app.VerifyOptions{Key: other}); r.OK || !strings.Contains(failing(r)["signature"], "not signed by this key") {
				t.Errorf("another key: %v", failing(r))
			}
			if r := a.verify(t, app.VerifyOptions{Source: "https://example.com/elsewhere"}); r.OK || len(failing(r)) != 1 || failing(r)["source"] == "" {
				t.Errorf("another source: %v", failing(r))
			}
			if r := a.verify(t, app.VerifyOptions{ImageKeys: []string{a.public}}); r.OK || !strings.Contains(failing(r)["signature of image registry.example/web:1"], "not signed by this key") {
				t.Errorf("the image's own signature: %v", failing(r))
			}
		})
	}
}

func TestSignAgain(t *testing.T) {
	for name, dst := range twoRegistries() {
		t.Run(name, func(t *testing.T) {
			a := newSignedApp(t, dst())
			layout := a.layout(t)
			bundle := filepath.Join(t.TempDir(), "bundle.json")
			public, signer := newKey(t)
			for _, ref := range []string{a.ref, "oci:" + layout} {
				for _, c := range []struct {
					signer   app.Signer
					existing bool
				}{{a.signer, true}, {signer, false}, {signer, true}} {
					r, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: ref, Signer: c.signer, BundleOut: bundle})
					if err != nil {
						t.Fatal(err)
					}
					if len(r.Signatures) != 2 || r.Signatures[0].Existing != c.existing || r.Signatures[1].Existing != c.existing {
						t.Errorf("%s: %+v, want existing %v", ref, r.Signatures, c.existing)
					}
				}
				for _, key := range []string{a.public, public} {
					if r := a.verify(t, app.VerifyOptions{Ref: ref, Key: key}); !r.OK {
						t.Errorf("%s: %v", ref, failing(r))
					}
				}
			}
			view, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: a.ref})
			if err != nil {
				t.Fatal(err)
			}
			if len(view.Signatures) != 4 {
				t.Errorf("%d signatures, want two by each key", len(view.Signatures))
			}

			if r := a.verify(t, app.VerifyOptions{Key: public, Bundle: bundle}); !r.OK {
				t.Errorf("by its bundle: %v", failing(r))
			}
			wrong, err := sign.Bundle(t.Context(), signer, digest.FromString("something else"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(bundle, wrong, 0o600); err != nil {
				t.Fatal(err)
			}
			if r := a.verify(t, app.VerifyOptions{Key: public, Bundle: bundle}); r.OK || !strings.Contains(failing(r)["signature"], "the bundle signs") {
				t.Errorf("a bundle for another digest: %v", failing(r))
			}
		})
	}
}

// TestTampered flips a byte in every part of an application in turn, and removes every part.
func TestTampered(t *testing.T) {
	a := newSignedApp(t, registrytest.Distribution(""))
	dir := unpackTar(t, a.save(t))
	contentSignature := a.signatureOf(t, "content")
	blobs := filepath.Join(dir, "blobs", "sha256")
	entries, err := os.ReadDir(blobs)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) < 20 {
		t.Fatalf("only %d blobs", len(entries))
	}
	broken := func(what string) {
		t.Helper()
		if r := a.verify(t, app.VerifyOptions{Ref: "oci:" + dir}); r.OK {
			t.Errorf("%s: it verifies", what)
		}
	}
	brokenArchive := func(what string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "a.tar")
		tarUp(t, dir, file)
		if r := a.verify(t, app.VerifyOptions{Ref: "archive:" + file}); r.OK {
			t.Errorf("%s: the archive verifies", what)
		}
	}
	packed := filepath.Join(t.TempDir(), "a.tar")
	tarUp(t, dir, packed)
	if r := a.verify(t, app.VerifyOptions{Ref: "archive:" + packed}); !r.OK {
		t.Fatalf("packed again, byte for byte: %v", failing(r))
	}
	for _, entry := range entries {
		file := filepath.Join(blobs, entry.Name())
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []int{0, len(whole) / 2, len(whole) - 1} {
			flipped := bytes.Clone(whole)
			flipped[i] ^= 1
			rewrite(t, file, flipped)
			if i == len(whole)/2 {
				brokenArchive("byte " + entry.Name())
			} else {
				broken("byte " + entry.Name())
			}
		}
		rewrite(t, file, whole[:len(whole)-1])
		broken("cut off " + entry.Name())
		brokenArchive("cut off " + entry.Name())
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if entry.Name() != contentSignature.Encoded() { // the root's covers it
			broken("gone " + entry.Name())
			brokenArchive("gone " + entry.Name())
		}
		rewrite(t, file, whole)
	}
	if r := a.verify(t, app.VerifyOptions{Ref: "oci:" + dir}); !r.OK {
		t.Errorf("put back together: %v", failing(r))
	}
}

// TestIncomplete has a registry lose every part of an application in turn.
func TestIncomplete(t *testing.T) {
	for name, dst := range twoRegistries() {
		t.Run(name, func(t *testing.T) {
			var lost atomic.Value
			lost.Store("nothing")
			whole := dst()
			a := newSignedApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, lost.Load().(string)) {
					http.NotFound(w, r)
					return
				}
				whole.ServeHTTP(w, r)
			}))
			l, err := layout.Open(a.layout(t))
			if err != nil {
				t.Fatal(err)
			}
			opened, err := artifact.Open(t.Context(), l, "v1")
			if err != nil {
				t.Fatal(err)
			}
			parts := []digest.Digest{opened.Layer.Digest}
			for _, child := range opened.Index.Manifests {
				parts = append(parts, child.Digest)
				data, err := engine.Get(t.Context(), l, child)
				if err != nil {
					t.Fatal(err)
				}
				var m struct{ Layers, Manifests []ocispec.Descriptor }
				mustUnmarshal(t, data, &m)
				for _, below := range slices.Concat(m.Layers, m.Manifests) {
					parts = append(parts, below.Digest)
				}
			}
			if len(parts) < 10 {
				t.Fatalf("only %d parts", len(parts))
			}
			for _, part := range parts {
				lost.Store(part.String())
				a.env = environmentOf(t, "") // nothing is cached
				if r := a.verify(t, app.VerifyOptions{}); r.OK {
					t.Errorf("without %s: it verifies", part)
				}
			}
			lost.Store("nothing")
			if r := a.verify(t, app.VerifyOptions{}); !r.OK {
				t.Errorf("with everything: %v", failing(r))
			}
		})
	}
}

// signatureOf returns the manifest with the signature of root or content.
func (a *signedApp) signatureOf(t *testing.T, name string) digest.Digest {
	t.Helper()
	r, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: a.ref, Signer: a.signer})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Signatures, func(s app.Signed) bool { return s.Name == name })
	return r.Signatures[i].Digest
}

// rewrite replaces a file by a new one, because its content is cached by file and time.
func rewrite(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func unpackTar(t *testing.T, file string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, e := range entries(t, file) {
		at := filepath.Join(dir, e.header.Name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		rewrite(t, at, e.data)
	}
	return dir
}

func tarUp(t *testing.T, dir, file string) {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Size: int64(len(data)), Mode: 0o644}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = os.WriteFile(file, buf.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// forged is an application made from changed parts, and signed with the right key.
type forged struct {
	files      []files.File
	provenance artifact.Provenance
	sources    []artifact.Statement
	render     artifact.Transform
	rendered   []artifact.Resource
	edits      artifact.Transform
	edited     []artifact.Resource
	children   []ocispec.Descriptor // images, and manifests attached to them
	layer      func(*artifact.Blob)
	statement  func(n int, data []byte) []byte                                                // replacements of statements
	about      func(content ocispec.Descriptor) (provenance, attestations ocispec.Descriptor) // their subjects
}

// forge makes the layout that results from the change.
func (a *signedApp) forge(t *testing.T, change func(*forged)) string {
	t.Helper()
	ctx := t.Context()
	dir := a.layout(t)
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := artifact.Open(ctx, l, "v1")
	if err != nil {
		t.Fatal(err)
	}
	f := &forged{
		layer:     func(*artifact.Blob) {},
		statement: func(_ int, data []byte) []byte { return data },
		about: func(content ocispec.Descriptor) (provenance, attestations ocispec.Descriptor) {
			return content, content
		},
	}
	if f.files, err = opened.Files(ctx); err != nil {
		t.Fatal(err)
	}
	statements, err := opened.Statements(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		var transform artifact.Transform
		switch s.PredicateType {
		case artifact.PredicateProvenance:
			mustUnmarshal(t, s.Predicate, &f.provenance)
		case artifact.PredicateSource:
			f.sources = append(f.sources, s)
		default:
			mustUnmarshal(t, s.Predicate, &transform)
			if transform.Kind == artifact.TransformRender {
				f.render, f.rendered = transform, s.Subject
			} else {
				f.edits, f.edited = transform, s.Subject
			}
		}
	}
	f.children = slices.Concat(opened.Children(artifact.RoleImage), opened.Children(artifact.RoleRelated))
	change(f)
	must := func(b artifact.Blob, err error) artifact.Blob {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	layer := must(artifact.ContentLayer(f.files))
	f.layer(&layer)
	content := must(artifact.ContentManifest(layer.Desc, nil))
	blobs := []artifact.Blob{artifact.Empty(), layer, content}
	provenance, about := f.about(content.Desc)
	var said []artifact.Statement
	say := func(predicateType string, predicate any, subject ...artifact.Resource) {
		s, err := artifact.NewStatement(predicateType, predicate, subject...)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, s)
	}
	say(artifact.PredicateProvenance, f.provenance, artifact.Resource{Digest: artifact.DigestSet(provenance.Digest)})
	for _, s := range f.sources {
		say(s.PredicateType, s.Predicate, s.Subject...)
	}
	say(artifact.PredicateTransform, f.render, f.rendered...)
	say(artifact.PredicateTransform, f.edits, f.edited...)
	attestations, err := artifact.Attestations(about, said)
	if err != nil {
		t.Fatal(err)
	}
	attestations = f.said(t, attestations)
	root := must(artifact.Root(a.host+"/team/shop", content.Desc, attestations[len(attestations)-1].Desc, nil, nil))
	var index ocispec.Index
	mustUnmarshal(t, root.Data, &index)
	index.Manifests = append(index.Manifests, f.children...)
	if root.Data, err = engine.MarshalJSON(index); err != nil {
		t.Fatal(err)
	}
	root.Desc.Digest, root.Desc.Size = digest.FromBytes(root.Data), int64(len(root.Data))
	signature, err := sign.Blobs(ctx, a.signer, root.Desc)
	if err != nil {
		t.Fatal(err)
	}
	w, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := artifact.Put(ctx, w.Store(), slices.Concat(blobs, attestations, []artifact.Blob{root}, signature)...); err != nil {
		t.Fatal(err)
	}
	root.Desc.Annotations = map[string]string{ocispec.AnnotationRefName: "v2"}
	w.Add(root.Desc)
	w.Add(signature[len(signature)-1].Desc)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir + ":v2"
}

// said returns the changed statements, and their manifest.
func (f *forged) said(t *testing.T, blobs []artifact.Blob) []artifact.Blob {
	t.Helper()
	last := &blobs[len(blobs)-1]
	var m ocispec.Manifest
	mustUnmarshal(t, last.Data, &m)
	for i := range m.Layers {
		blobs[i].Data = f.statement(i, blobs[i].Data)
		m.Layers[i].Digest, m.Layers[i].Size = digest.FromBytes(blobs[i].Data), int64(len(blobs[i].Data))
	}
	var err error
	if last.Data, err = engine.MarshalJSON(m); err != nil {
		t.Fatal(err)
	}
	last.Desc.Digest, last.Desc.Size = digest.FromBytes(last.Data), int64(len(last.Data))
	return blobs
}

func mustUnmarshal(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

// TestUnreadableSignature attaches content that cannot be read, as anyone who may push can. A
// signature next to it verifies, and without one the signature is missing.
func TestUnreadableSignature(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	repository, err := a.env.Registry.Repository(a.host + "/team/shop")
	if err != nil {
		t.Fatal(err)
	}
	root, err := repository.Resolve(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	attach := func(subject ocispec.Descriptor) {
		t.Helper()
		empty := ocispec.DescriptorEmptyJSON
		data, err := json.Marshal(ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: sign.MediaType, Subject: &subject, Config: empty,
			Layers: []ocispec.Descriptor{{MediaType: sign.MediaType, Digest: digest.FromString("huge"), Size: 1 << 30}},
		})
		if err != nil {
			t.Fatal(err)
		}
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(data), Size: int64(len(data))}
		if err := repository.PushReferrer(t.Context(), desc, data); err != nil {
			t.Fatal(err)
		}
	}
	attach(root)
	if r := a.verify(t, app.VerifyOptions{Ref: a.ref}); !r.OK {
		t.Errorf("beside a good signature: %v", failing(r))
	}
	other, _ := newKey(t)
	if r := a.verify(t, app.VerifyOptions{Ref: a.ref, Key: other}); r.OK || !strings.Contains(failing(r)["signature"], "more than the") {
		t.Errorf("by another key: %v", failing(r))
	}
}

// TestForeignContent reads content that tape did not pack: files that other tools working in the
// folder would not read as manifests. Every reader rejects it.
func TestForeignContent(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	for _, name := range []string{
		".git/config", ".git/hooks/post-checkout", "d/.git/config.yaml", ".GIT/config.yaml", ".github/workflows/a.yaml", ".gitmodules",
		".envrc", "Makefile", "GNUmakefile", "kustomization.yaml", "d/kustomization.yml", "Kustomization", "Chart.yaml", "Chart.lock",
		".argocd-source.yaml", "d/.argocd-source-shop.yaml", ".sourceignore", ".sops.yaml", "a.json", "a.YAML", "a.yaml.sh", "yaml", ".yaml/x",
		"a.yaml\n", "values.yaml ", strings.Repeat("a/", 255) + "a.yaml", strings.Repeat("a", 4092) + ".yaml",
	} {
		t.Run(fmt.Sprintf("%.40q", name), func(t *testing.T) {
			t.Parallel() // each waits for a disk
			data := []byte("{apiVersion: v1, kind: Namespace, metadata: {name: other}}\n")
			ref := a.forge(t, func(f *forged) {
				f.layer = func(layer *artifact.Blob) {
					var packed, buf bytes.Buffer
					w := tar.NewWriter(&packed)
					err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644})
					if err == nil {
						_, err = w.Write(data)
					}
					z := gzip.NewWriter(&buf)
					if err == nil {
						err = w.Close()
					}
					if err == nil {
						_, err = packed.WriteTo(z)
					}
					if err == nil {
						err = z.Close()
					}
					if err != nil {
						t.Fatal(err)
					}
					layer.Data = buf.Bytes()
					layer.Desc.Digest, layer.Desc.Size = digest.FromBytes(layer.Data), int64(len(layer.Data))
				}
			})
			if r := a.verify(t, app.VerifyOptions{Ref: ref}); failing(r)["layer"] == "" {
				t.Errorf("%.40q verifies: %v", name, failing(r))
			}
			out := filepath.Join(t.TempDir(), "out")
			_, err := app.Pull(t.Context(), app.PullOptions{Environment: a.env, Ref: ref, Dir: out})
			if long := len(name) > 255; err == nil || !long && !errors.Is(err, engine.ErrPolicy) {
				t.Errorf("pull of %.40q: %v, want a refusal", name, err)
			}
			if _, err := os.Stat(out); err == nil {
				t.Errorf("pull of %.40q wrote something", name)
			}
			if _, err := app.Manifests(t.Context(), app.ViewOptions{Environment: a.env, Ref: ref}); err == nil {
				t.Errorf("view of %.40q shows manifests", name)
			}
		})
	}
}

// TestForged signs inconsistent applications with the right key.
func TestForged(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	other := files.File{Name: "other.yaml", Data: []byte("{apiVersion: v1, kind: Namespace, metadata: {name: other}}\n")}
	resource := func(f files.File) artifact.Resource {
		return artifact.Resource{Name: f.Name, Digest: artifact.DigestSet(digest.FromBytes(f.Data))}
	}
	at := func(f *forged, name string) int {
		return slices.IndexFunc(f.files, func(file files.File) bool { return file.Name == name })
	}
	// without undoes the edits, so that manifests and statements agree.
	without := func(f *forged) {
		i := at(f, "shop.yaml")
		f.files[i].Data = []byte(shop)
		for j := range f.edited {
			if f.edited[j].Name == "shop.yaml" {
				f.edited[j] = resource(f.files[i])
			}
		}
		f.edits.Edits = nil
	}
	trusted := trustFile(t, map[string]string{"vendor": a.public}, fmt.Sprintf("applications: [{names: [%q], require: vendor}]", a.host+"/team/*"))
	for i, c := range []struct {
		name   string
		change func(*forged)
		want   map[string]string // link → part of the reason
	}{
		{"nothing", func(*forged) {}, map[string]string{}},
		{"an environment that the root does not name", func(f *forged) {
			f.provenance.BuildDefinition.ExternalParameters.Sources[0].Environment = "dev"
		}, map[string]string{"files": `the root names the environments [], the statements ["dev"]`}},
		{"an extra file", func(f *forged) { f.files = append(f.files, other) }, map[string]string{
			"files": "other.yaml: no statement is about it", "edits": "other.yaml: no statement names its manifest",
		}},
		{"an extra file that is said to be edited", func(f *forged) {
			f.files = append(f.files, other)
			f.edited = append(f.edited, resource(other))
			f.edits.Inputs = append(f.edits.Inputs, artifact.Input{Name: other.Name, Digest: resource(other).Digest, Output: other.Name})
		}, map[string]string{"origin": "other.yaml: neither an unchanged source nor a rendered file"}},
		{"an extra file that is said to be rendered from one that no source has", func(f *forged) {
			f.files = append(f.files, other)
			f.edited = append(f.edited, resource(other))
			f.rendered = append(f.rendered, resource(other))
			input := artifact.Input{Name: other.Name, Digest: resource(other).Digest}
			f.render.Inputs = append(f.render.Inputs, input)
			input.Output = other.Name
			f.edits.Inputs = append(f.edits.Inputs, input)
		}, map[string]string{"origin": "other.yaml: input of a render that is not in any source"}},
		{"a missing file", func(f *forged) {
			f.files = slices.Delete(f.files, at(f, "service.json.yaml"), at(f, "service.json.yaml")+1)
		}, map[string]string{
			"files": "service.json.yaml: missing from the content",
		}},
		{"a byte beside the edits", func(f *forged) {
			i := at(f, "shop.yaml")
			f.files[i].Data = bytes.Replace(f.files[i].Data, []byte("name: settings"), []byte("name: settinga"), 1)
		}, map[string]string{"files": "shop.yaml: the statements have another digest for it", "edits": "the result has digest"}},
		{"an edit that was another", func(f *forged) { f.edits.Edits[0].Original = "registry.example/web:2" }, map[string]string{"edits": "undo the edits of shop.yaml"}},
		{"a reference that was left alone", without, map[string]string{"references": "registry.example/web:1 is outside the root"}},
		{"an image that the root lacks", func(f *forged) {
			f.children = slices.DeleteFunc(f.children, func(d ocispec.Descriptor) bool {
				return d.Annotations[artifact.AnnotationRole] == artifact.RoleImage
			})
		}, map[string]string{"images": "the root does not list", "references": "is outside the root"}},
		{"no transform", func(f *forged) { f.edits.Kind, f.edits.Inputs = artifact.TransformRender, nil }, map[string]string{
			"provenance": "no statement says how the content was edited", "files": "not checked", "edits": "", "origin": "", "images": "", "references": "",
		}},
		{"a provenance of other content", func(f *forged) {
			f.about = func(content ocispec.Descriptor) (provenance, attestations ocispec.Descriptor) {
				return artifact.Empty().Desc, content
			}
		}, map[string]string{
			"provenance": "it is not about the content", "files": "", "edits": "", "origin": "", "images": "", "references": "",
		}},
		{"statements of other content", func(f *forged) {
			f.about = func(content ocispec.Descriptor) (provenance, attestations ocispec.Descriptor) {
				return content, artifact.Empty().Desc
			}
		}, map[string]string{
			"provenance": "is not about the content", "files": "", "edits": "", "origin": "", "images": "", "references": "",
		}},
		{"an archive that holds more than its files", func(f *forged) {
			f.layer = func(b *artifact.Blob) { appendToTar(t, b) }
		}, map[string]string{"layer": "more than its", "files": "", "edits": "", "origin": "", "images": "", "references": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ref := a.forge(t, c.change)
			r := a.verify(t, app.VerifyOptions{Ref: ref})
			got := failing(r)
			// A trust file that accepts the key accepts no more than the key itself.
			to := fmt.Sprintf("%s/forged/%d", a.host, i)
			_, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: ref, Target: to + ":v1"}}, Trust: trusted})
			if r.OK != (err == nil) || err != nil && !errors.Is(err, engine.ErrPolicy) {
				t.Errorf("copy: %v", err)
			}
			if err != nil {
				a.untagged(t, to, "v1")
			}
			if strings.Contains(c.want["references"], "outside") {
				maps.DeleteFunc(got, func(link, _ string) bool { return strings.HasPrefix(link, "image outside ") })
			}
			if r.OK != (len(c.want) == 0) || !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(c.want))) {
				t.Errorf("what fails is %v, want %v", got, c.want)
			}
			for link, reason := range c.want {
				if !strings.Contains(got[link], reason) {
					t.Errorf("%s: %q, want %q", link, got[link], reason)
				}
			}
		})
	}
}

// Nothing hides an image of a pod: neither the pipeline, nor that it looks like a placeholder.
func TestOutside(t *testing.T) {
	pod := func(image string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: a, image: registry.example/in:1}\n  - {name: b, image: \"" + image + "\"}\n"
	}
	const pipeline = "apiVersion: tape/v1\nkind: Pipeline\nsources: [{name: s, path: s}]\n"
	for _, c := range []struct {
		name, image, pipeline string
		warning               string
		runs                  bool // a reference
	}{
		{"nothing", "registry.example/web:1", "", "", false},
		{"excluded", "registry.example/web:1", "images: {exclude: [\"*/web:*\"]}\n", "is excluded by the pipeline", true},
		{"ignored", "registry.example/web:1", "images: {fields: [{groups: [\"\"], kinds: [Pod], paths: [/spec/containers/1/image], ignore: true}]}\n", "is excluded by the pipeline", true},
		{"ignored with all around it", "registry.example/web:1", "images: {fields: [{groups: [\"*\"], kinds: [\"*\"], paths: [\"/spec/containers/1\"], ignore: true}]}\n", "is excluded by the pipeline", true},
		{"filled in", "auto", "", `image "auto" is a placeholder`, true},
		{"in capitals", "WEB.EXAMPLE/web:1", "", `image "WEB.EXAMPLE/web:1" is a placeholder`, true},
		{"capitals without a dot", "WEB/web:1", "", `image "WEB/web:1" is a placeholder`, true},
		{"a variable", "$(IMAGE)", "", `image "$(IMAGE)" is a placeholder`, false},
		{"none", "", "", `image "" is a placeholder`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range map[string]string{"tape.yaml": pipeline + c.pipeline, "s/pod.yaml": pod(c.image)} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			a := &signedApp{}
			a.host = registrytest.Serve(t, registrytest.GGCR())
			hosts := t.TempDir()
			upstream := &registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) { return registrytest.Published(), true }}
			if err := registrytest.WriteHosts(hosts, "registry.example", registrytest.Serve(t, upstream)); err != nil {
				t.Fatal(err)
			}
			a.env = environmentOf(t, hosts)
			a.public, a.signer = newKey(t)
			o := app.PackageOptions{
				Options:    app.Options{Environment: a.env, Pipeline: filepath.Join(dir, "tape.yaml"), Signer: a.signer},
				Repository: a.host + "/team/shop", Tags: []string{"v1"},
			}
			result, err := app.Package(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(result.Warnings, "\n"); (c.warning == "") != (got == "") || !strings.Contains(got, c.warning) {
				t.Errorf("warnings are %q, want %q", got, c.warning)
			}
			a.ref = a.host + "/team/shop:v1"
			link := "image outside " + c.image
			if r := a.verify(t, app.VerifyOptions{}); r.OK == c.runs || c.runs && !strings.Contains(failing(r)[link], "pod.yaml:7:23") {
				t.Errorf("verify says %v: %v", r.OK, failing(r))
			}
			r := a.verify(t, app.VerifyOptions{AllowOutside: true})
			if listed := slices.ContainsFunc(r.Links, func(l app.VerifiedLink) bool { return l.Name == link }); !r.OK || listed != c.runs {
				t.Errorf("where it is allowed, verify says %v: %v", r.OK, r.Links)
			}
			o.Strict = true
			if _, err := app.Package(t.Context(), o); (err == nil) != (c.warning == "") || err != nil && !strings.Contains(err.Error(), c.warning) {
				t.Errorf("with Strict: %v", err)
			}
		})
	}
}

// appendToTar adds content to a layer that readers of files do not see.
func appendToTar(t *testing.T, layer *artifact.Blob) {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(layer.Data))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := r.WriteTo(w); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1024)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer.Data = out.Bytes()
	layer.Desc.Digest, layer.Desc.Size = digest.FromBytes(layer.Data), int64(out.Len())
}
