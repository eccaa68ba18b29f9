// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/sign/sigstoretest"
)

// web is the source of the examples.
const web = "../../examples/shop/manifests/web.yaml"

// place is where the examples run: an environment with made-up images, a repository, and a
// folder.
type place struct {
	env             app.Environment
	repository, dir string
	close           func()
}

func newPlace() place {
	dir := must(os.MkdirTemp("", "example"))
	upstream := httptest.NewServer(&registrytest.Upstream{}) // has every image
	destination := httptest.NewServer(registrytest.Distribution(""))
	if err := registrytest.WriteHosts(filepath.Join(dir, "hosts"), "_default", upstream.Listener.Addr().String()); err != nil {
		panic(err)
	}
	env := must(app.Open(context.Background(), app.Settings{Store: filepath.Join(dir, "store"), HostsDir: filepath.Join(dir, "hosts")}))
	return place{
		env: *env, repository: destination.Listener.Addr().String() + "/team/shop", dir: dir,
		close: func() {
			if err := env.Close(); err != nil {
				panic(err)
			}
			upstream.Close()
			destination.Close()
			_ = os.RemoveAll(dir)
		},
	}
}

// pack packs a file as v1.4.0, or as another tag, and returns its reference.
func (p place) pack(source string, tags ...string) string {
	if tags == nil {
		tags = []string{"v1.4.0"}
	}
	result := must(app.Package(context.Background(), app.PackageOptions{
		Options:    app.Options{Environment: p.env, Sources: []app.Source{{Path: source}}},
		Repository: p.repository, Tags: tags,
	}))
	return p.repository + ":" + result.Tags[0]
}

// keys generates a key pair.
func (p place) keys() *app.KeyResult {
	return must(app.GenerateKey(context.Background(), app.KeyOptions{Prefix: filepath.Join(p.dir, "release")}))
}

func (p place) file(name, data string) string {
	name = filepath.Join(p.dir, name)
	if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
		panic(err)
	}
	return name
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// release packs a source, signs the application and verifies the result.
func release(ctx context.Context, settings app.Settings, source, repository, prefix string) (string, error) {
	env, err := app.Open(ctx, settings)
	if err != nil {
		return "", err
	}
	defer env.Close()

	packed, err := app.Package(ctx, app.PackageOptions{
		Options:    app.Options{Environment: *env, Sources: []app.Source{{Path: source}}},
		Repository: repository,
		Tags:       []string{"v1.4.0"},
	})
	if err != nil {
		return "", err
	}
	signer, err := app.LoadSigner(ctx, app.SignerOptions{Name: prefix + ".key"})
	if err != nil {
		return "", err
	}
	if _, err := app.Sign(ctx, app.SignOptions{Environment: *env, Ref: packed.Root.Ref, Signer: signer}); err != nil {
		return "", err
	}
	verified, err := app.Verify(ctx, app.VerifyOptions{Environment: *env, Ref: packed.Root.Ref, Key: prefix + ".pub"})
	if err != nil {
		return "", err
	}
	for _, link := range verified.Links {
		if !link.OK {
			return "", fmt.Errorf("%s: %s", link.Name, link.Reason)
		}
	}
	return packed.Root.Ref, nil
}

// explain distinguishes three kinds of errors.
func explain(err error) string {
	if _, ok := errors.AsType[*app.UsageError](err); ok {
		return "the options are wrong: " + err.Error()
	}
	if errors.Is(err, engine.ErrPolicy) {
		return "refused: " + err.Error()
	}
	if e, ok := errors.AsType[*registry.Error](err); ok {
		return "registry " + e.Host + ": " + e.Reason
	}
	return err.Error()
}

// A release in one function.
func Example() {
	p := newPlace()
	defer p.close()
	p.keys()
	settings := app.Settings{Store: filepath.Join(p.dir, "store"), HostsDir: filepath.Join(p.dir, "hosts")}

	ref, err := release(context.Background(), settings, web, p.repository, filepath.Join(p.dir, "release"))
	if err != nil {
		panic(err)
	}
	fmt.Println(strings.HasPrefix(ref, p.repository+":v1.4.0@sha256:"))
	_, err = release(context.Background(), settings, web, "Not/A repository", filepath.Join(p.dir, "release"))
	fmt.Println(strings.HasPrefix(explain(err), "the options are wrong: "))
	// Output:
	// true
	// true
}

// TestLibraryPage checks that every Go block of docs/library.md is in this file, which is
// compiled and run.
func TestLibraryPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/library.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	if len(blocks) == 0 {
		t.Error("the page has no Go block")
	}
	for _, b := range blocks {
		if block, _, _ := strings.Cut(b, "```"); !strings.Contains(string(code), block) {
			t.Errorf("this block is not in example_test.go:\n%s", block)
		}
	}
}

// Open returns what the tape command uses: registries with the credentials of docker, mirrors,
// Docker and containerd, interpreters, and a store.
func ExampleOpen() {
	dir := must(os.MkdirTemp("", "example"))
	defer os.RemoveAll(dir)

	env, err := app.Open(context.Background(), app.Settings{Store: dir})
	if err != nil {
		panic(err)
	}
	defer env.Close()
	plain := must(env.Interpreters.Find(context.Background(), app.BuiltIn))
	fmt.Println(must(plain.Describe(context.Background())).Name)
	// Output: plain
}

// Render returns the manifests before references are pinned.
func ExampleRender() {
	p := newPlace()
	defer p.close()

	result, err := app.Render(context.Background(), app.RenderOptions{
		Options: app.Options{Environment: p.env, Sources: []app.Source{{Path: web}}},
	})
	if err != nil {
		panic(err)
	}
	for _, f := range result.Files {
		fmt.Println(f.Name)
	}
	// Output: web.yaml
}

// Images lists the images that the manifests reference, where, and their current digests.
func ExampleImages() {
	p := newPlace()
	defer p.close()

	result, err := app.Images(context.Background(), app.ImagesOptions{
		Options: app.Options{Environment: p.env, Sources: []app.Source{{Path: web}}},
		Resolve: true,
	})
	if err != nil {
		panic(err)
	}
	for _, image := range result.Images {
		fmt.Println(image.Name, image.Digest != "", image.Locations[0].Line)
	}
	// Output: registry.shop.example/web:1.4.0 true 18
}

// Package packs a file of manifests with all their images.
func ExamplePackage() {
	p := newPlace()
	defer p.close()

	result, err := app.Package(context.Background(), app.PackageOptions{
		Options:    app.Options{Environment: p.env, Sources: []app.Source{{Path: web}}},
		Repository: p.repository,
		Tags:       []string{"v1.4.0"},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Tags, len(result.Images), result.Images[0].Source)
	// Output: [v1.4.0] 1 registry.shop.example/web:1.4.0
}

func ExampleView() {
	p := newPlace()
	defer p.close()
	ref := p.pack(web)

	view, err := app.View(context.Background(), app.ViewOptions{Environment: p.env, Ref: ref})
	if err != nil {
		panic(err)
	}
	fmt.Println(view.Images[0].Name, len(view.Images[0].Platforms), len(view.Statements))
	// Output: registry.shop.example/web:1.4.0 2 4
}

func ExampleManifests() {
	p := newPlace()
	defer p.close()
	ref := p.pack(web)

	result, err := app.Manifests(context.Background(), app.ViewOptions{Environment: p.env, Ref: ref})
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Files[0].Name, strings.Contains(string(result.Files[0].Data), p.repository+":web.1.4.0."))
	// Output: web.yaml true
}

func ExampleStatements() {
	p := newPlace()
	defer p.close()
	ref := p.pack(web)

	list, err := app.Statements(context.Background(), app.ViewOptions{Environment: p.env, Ref: ref})
	if err != nil {
		panic(err)
	}
	for _, s := range list {
		fmt.Println(s.PredicateType)
	}
	// Output:
	// https://slsa.dev/provenance/v1
	// https://github.com/taped-dev/tape/attestation/source/v1
	// https://github.com/taped-dev/tape/attestation/transform/v1
	// https://github.com/taped-dev/tape/attestation/transform/v1
}

func ExampleList() {
	p := newPlace()
	defer p.close()
	p.pack(web)

	result, err := app.List(context.Background(), app.ListOptions{Environment: p.env, Repository: p.repository})
	if err != nil {
		panic(err)
	}
	for _, a := range result.Applications {
		fmt.Println(a.Tag, a.Images, a.Signed)
	}
	// Output: v1.4.0 1 false
}

func ExampleTags() {
	p := newPlace()
	defer p.close()
	p.pack(web)

	fmt.Println(must(app.Tags(context.Background(), app.ListOptions{Environment: p.env, Repository: p.repository})))
	// Output: [v1.4.0]
}

func ExampleDiff() {
	p := newPlace()
	defer p.close()
	first, second := p.pack(web), p.pack("../../examples/shop/manifests/catalog.yaml", "v1.5.0")

	diff, err := app.Diff(context.Background(), app.DiffOptions{Environment: p.env, A: first, B: second})
	if err != nil {
		panic(err)
	}
	fmt.Println(diff.Images.Removed[0].Name, diff.Images.Added[0].Name, diff.Empty())
	// Output: registry.shop.example/web:1.4.0 registry.shop.example/catalog:1.4.0 false
}

// Pull writes manifests to a folder; with a key, only if that key signed them.
func ExamplePull() {
	p := newPlace()
	defer p.close()
	ref := p.pack(web)

	result, err := app.Pull(context.Background(), app.PullOptions{Environment: p.env, Ref: ref, Dir: filepath.Join(p.dir, "pulled")})
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Files)
	// Output: [web.yaml]
}

func ExampleCopy() {
	p := newPlace()
	defer p.close()
	ref := p.pack(web)

	results, err := app.Copy(context.Background(), app.CopyOptions{
		Environment: p.env,
		Pairs:       []app.CopyPair{{Source: ref, Target: "oci:" + filepath.Join(p.dir, "layout")}},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(len(results), results[0].Moved.Blobs > 0)
	// Output: 1 true
}

// Save writes one file, and Load reads it, without access to the first registry.
func ExampleSave() {
	p := newPlace()
	defer p.close()
	ref := p.pack(web)

	result, err := app.Save(context.Background(), app.SaveOptions{Environment: p.env, Ref: ref, File: filepath.Join(p.dir, "shop.tar")})
	if err != nil {
		panic(err)
	}
	fmt.Println(filepath.Base(result.File), result.Images)
	// Output: shop.tar 1
}

func ExampleLoad() {
	p := newPlace()
	defer p.close()
	file := filepath.Join(p.dir, "shop.tar")
	must(app.Save(context.Background(), app.SaveOptions{Environment: p.env, Ref: p.pack(web), File: file}))

	result, err := app.Load(context.Background(), app.LoadOptions{Environment: p.env, File: file, Repository: p.repository + "-inside"})
	if err != nil {
		panic(err)
	}
	fmt.Println(result.PointsTo == p.repository) // Relocate makes one that points to itself
	// Output: true
}

func ExampleRelocate() {
	p := newPlace()
	defer p.close()
	ref := p.pack(web)

	result, err := app.Relocate(context.Background(), app.RelocateOptions{
		Options: app.Options{Environment: p.env},
		Source:  ref, Repository: p.repository + "-inside",
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(strings.HasPrefix(result.Root.Ref, p.repository+"-inside:v1.4.0@"))
	// Output: true
}

func ExampleGenerateKey() {
	p := newPlace()
	defer p.close()

	pair, err := app.GenerateKey(context.Background(), app.KeyOptions{Prefix: filepath.Join(p.dir, "release")})
	if err != nil {
		panic(err)
	}
	fmt.Println(filepath.Base(pair.Private), filepath.Base(pair.Public))
	// Output: release.key release.pub
}

func ExampleLoadSigner() {
	p := newPlace()
	defer p.close()
	file := p.keys().Private
	os.Setenv("RELEASE_KEY", string(must(os.ReadFile(file))))
	defer os.Unsetenv("RELEASE_KEY")

	for _, name := range []string{file, "env://RELEASE_KEY"} {
		signer, err := app.LoadSigner(context.Background(), app.SignerOptions{Name: name})
		fmt.Println(signer != nil, err)
	}
	// A key in a KMS is used through a program.
	_, err := app.LoadSigner(context.Background(), app.SignerOptions{Name: "mykms://release"})
	fmt.Println(err)
	// Output:
	// true <nil>
	// true <nil>
	// key mykms://release: there is no program sigstore-kms-mykms on the PATH: install the sigstore plugin of that name
}

// OpenSigstore signs without a long-lived key.
func ExampleOpenSigstore() {
	p := newPlace()
	defer p.close()
	ref := p.pack(web)
	test := must(sigstoretest.New(time.Now))
	defer test.Close()
	config := p.file("signing_config.json", string(test.SigningConfig()))
	trusted := p.file("trusted_root.json", string(must(test.TrustedRoot())))
	token := p.file("token", test.Token(sigstoretest.Identity{Subject: "release@example.com"}))

	sigstore, err := app.OpenSigstore(context.Background(), app.SigstoreOptions{Environment: p.env, SigningConfig: config, TrustedRoot: trusted})
	if err != nil {
		panic(err)
	}
	result := must(app.Sign(context.Background(), app.SignOptions{Environment: p.env, Ref: ref, Signer: must(sigstore.Keyless(token))}))
	fmt.Println(len(result.Signatures))
	// Output: 2
}

func ExampleSign() {
	p := newPlace()
	defer p.close()
	ref := p.pack(web)

	signer := must(app.LoadSigner(context.Background(), app.SignerOptions{Name: p.keys().Private}))
	result, err := app.Sign(context.Background(), app.SignOptions{Environment: p.env, Ref: ref, Signer: signer})
	if err != nil {
		panic(err)
	}
	for _, s := range result.Signatures {
		fmt.Println(s.Name, s.Existing)
	}
	// Output:
	// root false
	// content false
}

// Verify verifies the chain from the signature down to every image.
func ExampleVerify() {
	p := newPlace()
	defer p.close()
	ref, keys := p.pack(web), p.keys()
	must(app.Sign(context.Background(), app.SignOptions{Environment: p.env, Ref: ref, Signer: must(app.LoadSigner(context.Background(), app.SignerOptions{Name: keys.Private}))}))

	result, err := app.Verify(context.Background(), app.VerifyOptions{Environment: p.env, Ref: ref, Key: keys.Public})
	if err != nil {
		panic(err)
	}
	fmt.Println(result.OK)
	// Output: true
}

// Promote verifies an application, copies it, and signs a record of that.
func ExamplePromote() {
	p := newPlace()
	defer p.close()
	ref, keys := p.pack(web), p.keys()
	must(app.Sign(context.Background(), app.SignOptions{Environment: p.env, Ref: ref, Signer: must(app.LoadSigner(context.Background(), app.SignerOptions{Name: keys.Private}))}))
	promoter := must(app.GenerateKey(context.Background(), app.KeyOptions{Prefix: filepath.Join(p.dir, "promoter")}))

	result, err := app.Promote(context.Background(), app.PromoteOptions{
		Environment: p.env, Source: ref, Target: p.repository + "-prod", Key: keys.Public,
		Signer: must(app.LoadSigner(context.Background(), app.SignerOptions{Name: promoter.Private})),
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Tags, result.Existing)
	// Output: [manifests.v1.4.0 v1.4.0] false
}

// Attest verifies an application, and signs a summary for others.
func ExampleAttest() {
	p := newPlace()
	defer p.close()
	ref, keys := p.pack(web), p.keys()
	must(app.Sign(context.Background(), app.SignOptions{Environment: p.env, Ref: ref, Signer: must(app.LoadSigner(context.Background(), app.SignerOptions{Name: keys.Private}))}))
	auditor := must(app.GenerateKey(context.Background(), app.KeyOptions{Prefix: filepath.Join(p.dir, "auditor")}))
	trust := p.file("trust.yaml", fmt.Sprintf(`apiVersion: tape/v1
kind: Trust
authorities: {release: {key: %q}}
applications: [{names: [%q], require: release}]
`, keys.Public, strings.Split(ref, ":v")[0]))

	must(app.Attest(context.Background(), app.AttestOptions{
		VerifyOptions: app.VerifyOptions{Environment: p.env, Ref: ref, Trust: trust},
		Signer:        must(app.LoadSigner(context.Background(), app.SignerOptions{Name: auditor.Private})),
	}))
	result, err := app.Verify(context.Background(), app.VerifyOptions{Environment: p.env, Ref: ref, Trust: trust, Summary: auditor.Public})
	if err != nil {
		panic(err)
	}
	fmt.Println(result.OK, result.Summary.Policy.URI)
	// Output: true trust.yaml
}

// CheckTrust explains rule by rule who must have signed what, and whether they have.
func ExampleCheckTrust() {
	p := newPlace()
	defer p.close()
	ref, keys := p.pack(web), p.keys()
	file := p.file("trust.yaml", fmt.Sprintf(`apiVersion: tape/v1
kind: Trust
authorities: {release: {key: %q}}
applications: [{names: [%q], require: release}]
`, keys.Public, strings.Split(ref, ":v")[0]))

	result, err := app.CheckTrust(context.Background(), app.TrustOptions{Environment: p.env, File: file, Ref: ref})
	if err != nil {
		panic(err)
	}
	fmt.Println(result.OK, result.Rules[0].Require, result.Rules[0].Matched)
	// Output: false release 1
}

// ExportTrust writes what a cluster needs to enforce a trust file.
func ExampleExportTrust() {
	p := newPlace()
	defer p.close()
	file := p.file("trust.yaml", fmt.Sprintf(`apiVersion: tape/v1
kind: Trust
authorities: {release: {key: %q}}
applications: [{names: [registry.example.com/team/shop], require: release}]
`, p.keys().Public))

	objects, err := app.ExportTrust(context.Background(), app.TrustExportOptions{File: file, Target: "flux"})
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(objects)) {
		if strings.HasPrefix(line, "kind:") {
			fmt.Print(line)
		}
	}
	// Output:
	// kind: Secret
	// kind: OCIRepository
}

// Init inspects a folder and writes a pipeline file for its sources.
func ExampleInit() {
	p := newPlace()
	defer p.close()
	if err := os.CopyFS(p.dir, os.DirFS("../../examples/shop/manifests")); err != nil {
		panic(err)
	}

	result, err := app.Init(context.Background(), app.InitOptions{Environment: p.env, Dir: p.dir, Repository: "registry.example.com/team/shop"})
	if err != nil {
		panic(err)
	}
	fmt.Println(filepath.Base(result.File))
	// Output: tape.yaml
}

// pipeline writes a pipeline file and its source.
func (p place) pipeline() app.Options {
	file := filepath.Join(p.dir, "tape.yaml")
	for name, data := range map[string]string{
		file:                             "apiVersion: tape/v1\nkind: Pipeline\nsources: [{path: web.yaml}]\noutput: {image: registry.example.com/team/shop}\n",
		filepath.Join(p.dir, "web.yaml"): string(must(os.ReadFile(web))),
	} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			panic(err)
		}
	}
	return app.Options{Environment: p.env, Pipeline: file}
}

// Expand returns the nodes of a run, without running them.
func ExampleFind() {
	p := newPlace()
	defer p.close()
	found := must(app.Find(context.Background(), app.FindOptions{Environment: p.env, Dir: "../../examples/shop"}))
	for _, s := range found.Sources {
		fmt.Println(s.Path, s.Interpreter)
	}
	// Output: manifests plain
}

func ExampleMakeSurvey() {
	p := newPlace()
	defer p.close()
	survey := must(app.MakeSurvey(context.Background(), app.SurveyOptions{
		PackageOptions: app.PackageOptions{
			Options:    app.Options{Environment: p.env, Sources: []app.Source{{Path: web}}},
			Repository: "registry.example.com/team/shop",
		},
		Render: true,
	}))
	fmt.Println(survey.Sources[0].Interpreter, survey.References)
	// Output: plain 1 [registry.shop.example/web:1.4.0]
}

func ExampleAskImage() {
	p := newPlace()
	defer p.close()
	answer := must(app.AskImage(context.Background(), app.AskOptions{Environment: p.env, Name: "docker.io/library/nginx:1.27.3"}))
	fmt.Println(len(answer.Image.Manifests), "platforms,", len(answer.Image.Related), "beside them")
	// Output: 4 platforms, 6 beside them
}

func ExampleExpand() {
	p := newPlace()
	defer p.close()

	result, err := app.Expand(context.Background(), p.pipeline())
	if err != nil {
		panic(err)
	}
	for _, node := range result.Graph.Nodes()[:3] {
		fmt.Println(node.Name)
	}
	// Output:
	// source/web.yaml
	// render/web.yaml
	// scan
}

func ExampleValidate() {
	p := newPlace()
	defer p.close()

	result, err := app.Validate(context.Background(), p.pipeline())
	if err != nil {
		panic(err)
	}
	fmt.Println(filepath.Base(result.File), result.OK)
	// Output: tape.yaml true
}

func ExampleSchema() {
	p := newPlace()
	defer p.close()

	schema := must(app.Schema(context.Background(), app.Options{Environment: p.env}))
	fmt.Println(strings.Contains(string(schema), `"sources"`))
	// Output: true
}

// bundle is a CNAB bundle of one image.
const bundle = `{"schemaVersion":"v1.0.0","name":"shop","version":"1.0.0",` +
	`"invocationImages":[{"image":"registry.shop.example/installer:1","imageType":"docker"}]}`

func ExampleFixupBundle() {
	p := newPlace()
	defer p.close()

	result, err := app.FixupBundle(context.Background(), app.BundleOptions{Environment: p.env, Bundle: []byte(bundle), Target: p.repository + ":v1"})
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Images[0].Source, result.Digest == "")
	// Output: registry.shop.example/installer:1 true
}

func ExamplePushBundle() {
	p := newPlace()
	defer p.close()

	result, err := app.PushBundle(context.Background(), app.BundleOptions{Environment: p.env, Bundle: []byte(bundle), Target: p.repository + ":v1"})
	if err != nil {
		panic(err)
	}
	fmt.Println(strings.HasPrefix(result.Ref, p.repository+":v1@"), len(result.Images))
	// Output: true 1
}

func ExamplePullBundle() {
	p := newPlace()
	defer p.close()
	pushed := must(app.PushBundle(context.Background(), app.BundleOptions{Environment: p.env, Bundle: []byte(bundle), Target: p.repository + ":v1"}))

	result, err := app.PullBundle(context.Background(), app.PullBundleOptions{Environment: p.env, Ref: p.repository + ":v1"})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(result.Bundle) == string(pushed.Bundle))
	// Output: true
}

// TestVerbs checks that every function of a context and options returns a result and an error,
// and has an example above.
func TestVerbs(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	verbs, examples := map[string]bool{}, map[string]bool{}
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			if verb, ok := strings.CutPrefix(f.Name.Name, "Example"); ok {
				examples[verb] = true
			}
			if !ast.IsExported(f.Name.Name) || strings.HasSuffix(name, "_test.go") || f.Type.Params.NumFields() == 0 || !isContext(f.Type.Params.List[0].Type) {
				continue
			}
			if f.Type.Params.NumFields() != 2 || f.Type.Results.NumFields() != 2 {
				t.Errorf("%s is not of the form func(ctx, Options) (Result, error)", f.Name.Name)
			}
			verbs[f.Name.Name] = true
		}
	}
	if len(verbs) < 20 {
		t.Errorf("only %d verbs were found", len(verbs))
	}
	for verb := range verbs {
		if !examples[verb] {
			t.Errorf("%s has no example", verb)
		}
	}
}

func isContext(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && s.Sel.Name == "Context"
}

// Reproduce packages an application of a repository again.
func ExampleReproduce() {
	p := newPlace()
	defer p.close()
	top := filepath.Join(p.dir, "clone")
	must(0, os.Mkdir(top, 0o755))
	must(0, os.WriteFile(filepath.Join(top, "web.yaml"), must(os.ReadFile(web)), 0o644))
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "x"}} {
		must(exec.Command("git", append([]string{"-C", top}, args...)...).CombinedOutput())
	}
	ref := p.pack(filepath.Join(top, "web.yaml"))

	result := must(app.Reproduce(context.Background(), app.ReproduceOptions{Environment: p.env, Ref: ref, Source: top}))
	fmt.Println(result.Same)

	must(0, os.WriteFile(filepath.Join(top, "web.yaml"), append(must(os.ReadFile(web)), ' '), 0o644))
	result = must(app.Reproduce(context.Background(), app.ReproduceOptions{Environment: p.env, Ref: ref, Source: top}))
	fmt.Println(result.Same, result.Differs[0].What, result.Differs[0].Name)
	// Output:
	// true
	// false file web.yaml:34
}
