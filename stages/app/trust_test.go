// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/sign/sigstoretest"
)

// trustFile writes a trust file whose authorities have keys.
func trustFile(t *testing.T, keys map[string]string, rules string) string {
	t.Helper()
	text := "apiVersion: tape/v1\nkind: Trust\nauthorities:\n"
	for name, public := range keys {
		text += fmt.Sprintf("  %s: {key: %q}\n", name, public)
	}
	file := filepath.Join(t.TempDir(), "trust.yaml")
	if err := os.WriteFile(file, []byte(text+rules+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// untagged fails if a repository has a tag.
func (a *signedApp) untagged(t *testing.T, name, tag string) {
	t.Helper()
	repository, err := a.env.Registry.Repository(name)
	if err != nil {
		t.Fatal(err)
	}
	if empty, err := repository.Empty(t.Context()); err != nil || !empty {
		t.Errorf("%s: something was written (%v)", name, err)
	}
	if _, err := repository.Resolve(t.Context(), tag); !errdefs.IsNotFound(err) {
		t.Errorf("%s:%s: error %v", name, tag, err)
	}
}

func TestTrust(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	other, _ := newKey(t)
	keys := map[string]string{"vendor": a.public, "stranger": other}
	rule := func(section, glob, require string) string {
		return fmt.Sprintf("%s: [{names: [%q], require: %s}]\n", section, glob, require)
	}
	for name, c := range map[string]struct {
		rules string
		want  string // "": it is accepted
	}{
		"signed":                   {rule("applications", a.host+"/team/*", "vendor"), ""},
		"signed by another":        {rule("applications", a.host+"/team/*", "stranger"), "applications rule " + a.host + "/team/*"},
		"no rule":                  {rule("applications", a.host+"/elsewhere/*", "stranger"), "no rule of trust.yaml names this application or one of its images"},
		"no rule, allowed":         {rule("applications", a.host+"/elsewhere/*", "stranger") + "default: allow", ""},
		"no rule, denied":          {rule("applications", a.host+"/elsewhere/*", "vendor") + "default: deny", "no rule for applications names it"},
		"image":                    {rule("images", "registry.example/*", "vendor"), "shop.yaml:9:29: images rule registry.example/*"},
		"image by no rule, denied": {rule("applications", a.host+"/team/*", "vendor") + "default: deny", "no rule for images names it"},
	} {
		t.Run(name, func(t *testing.T) {
			file := trustFile(t, keys, c.rules)
			to := a.host + "/to/" + strings.ToLower(strings.NewReplacer(" ", "-", ",", "").Replace(name))
			result, err := app.Verify(t.Context(), app.VerifyOptions{Environment: a.env, Ref: a.ref, Trust: file})
			if err != nil || result.OK != (c.want == "") {
				t.Errorf("verify: %v, %v", result, err)
			}
			explained, err := app.CheckTrust(t.Context(), app.TrustOptions{Environment: a.env, File: file, Ref: a.ref})
			if err != nil || explained.OK != (c.want == "") {
				t.Errorf("check: %v, %v", explained, err)
			}
			layout := "oci:" + a.layout(t)
			dir := filepath.Join(t.TempDir(), "manifests")
			for verb, do := range map[string]func() error{
				"pull": func() error {
					_, err := app.Pull(t.Context(), app.PullOptions{Environment: a.env, Ref: a.ref, Dir: dir, Trust: file})
					return err
				},
				"copy": func() error {
					_, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: a.ref, Target: to + "/copied:v1"}}, Trust: file})
					return err
				},
				"load": func() error {
					_, err := app.Load(t.Context(), app.LoadOptions{Environment: a.env, File: layout, Repository: to + "/loaded", Trust: file})
					return err
				},
				"relocate": func() error {
					_, err := app.Relocate(t.Context(), app.RelocateOptions{
						Options: app.Options{Environment: a.env, Trust: file}, Source: a.ref, Repository: to + "/relocated",
					})
					return err
				},
			} {
				err := do()
				if c.want == "" {
					if err != nil {
						t.Errorf("%s: %v", verb, err)
					}
					continue
				}
				if !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: error %v, want %q", verb, err, c.want)
				}
			}
			if c.want == "" {
				return
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("pull wrote %s: %v", dir, err)
			}
			for _, name := range []string{"/copied", "/loaded", "/relocated"} {
				a.untagged(t, to+name, "v1")
			}
		})
	}
}

// Images are checked with the rules for images before any is copied. The image of this
// application is another application: it is signed where it was published.
func TestTrustPackage(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	other, _ := newKey(t)
	keys := map[string]string{"vendor": a.public, "stranger": other}
	source := t.TempDir()
	pod := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: a, image: %q}\n", a.ref)
	if err := os.WriteFile(filepath.Join(source, "pod.yaml"), []byte(pod), 0o644); err != nil {
		t.Fatal(err)
	}
	pack := func(to, rules string) error {
		_, err := app.Package(t.Context(), app.PackageOptions{Repository: to, Tags: []string{"v1"}, Options: app.Options{
			Environment: a.env, Sources: []app.Source{{Path: source}}, Trust: trustFile(t, keys, rules),
		}})
		return err
	}
	if err := pack(a.host+"/packed/good", fmt.Sprintf("images: [{names: [%q], require: vendor}]\ndefault: deny", a.host+"/team/*")); err != nil {
		t.Error(err)
	}
	to := a.host + "/packed/unnamed"
	if err := pack(to, "images: [{names: [elsewhere.example/*], require: vendor}]"); !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), "no rule of trust.yaml names one of the images") {
		t.Errorf("error %v", err)
	}
	a.untagged(t, to, "v1")
	for i, rules := range []string{"images: [{names: [elsewhere.example/*], require: vendor}]\ndefault: allow", "applications: [{names: [elsewhere.example/*], require: vendor}]"} {
		if err := pack(fmt.Sprintf("%s/packed/allowed%d", a.host, i), rules); err != nil {
			t.Error(err)
		}
	}
	// Nor is an image copied that no rule names.
	to = a.host + "/copied/image"
	for _, rules := range []string{"images: [{names: [elsewhere.example/*], require: vendor}]", "origin: vendor"} {
		_, err := app.Copy(t.Context(), app.CopyOptions{
			Environment: a.env, Pairs: []app.CopyPair{{Source: "registry.example/web:1", Target: to + ":v1"}}, Trust: trustFile(t, keys, rules),
		})
		if !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), "no rule of trust.yaml names image registry.example/web") {
			t.Errorf("error %v", err)
		}
	}
	a.untagged(t, to, "v1")
	to = a.host + "/packed/bad"
	err := pack(to, fmt.Sprintf("images: [{names: [%q], require: stranger}]", a.host+"/team/*"))
	if !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), "pod.yaml:6:23") || !strings.Contains(err.Error(), "images rule "+a.host+"/team/*") {
		t.Errorf("error %v", err)
	}
	a.untagged(t, to, "v1")
}

// A pipeline does not evade a trust file by leaving out the images that it is about.
func TestTrustExcluded(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	dir := t.TempDir()
	write(t, filepath.Join(dir, "app", "pod.yaml"), "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: a, image: \"registry.example/web:1\"}\n")
	for name, c := range map[string]struct{ exclude, rules, want string }{
		"not excluded":   {"", "images: [{names: [registry.example/*], require: vendor}]", "it must be signed by vendor"},
		"excluded":       {"registry.example/*", "images: [{names: [registry.example/*], require: vendor}]", "app/pod.yaml:6:23 names: a pod runs it, and the trust file covers it, but it is excluded"},
		"denied":         {"registry.example/*", "default: deny", "it is excluded"},
		"about no image": {"registry.example/*", "images: [{names: [elsewhere.example/*], require: vendor}]", ""},
	} {
		t.Run(name, func(t *testing.T) {
			pipeline := "apiVersion: tape/v1\nkind: Pipeline\nsources: [{path: app}]\n"
			if c.exclude != "" {
				pipeline += fmt.Sprintf("images: {exclude: [%q]}\n", c.exclude)
			}
			write(t, filepath.Join(dir, "tape.yaml"), pipeline)
			to := a.host + "/excluded/" + strings.ReplaceAll(name, " ", "-")
			_, err := app.Package(t.Context(), app.PackageOptions{Repository: to, Tags: []string{"v1"}, Options: app.Options{
				Environment: a.env, Pipeline: filepath.Join(dir, "tape.yaml"), Trust: trustFile(t, map[string]string{"vendor": a.public}, c.rules),
			}})
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			a.untagged(t, to, "v1")
		})
	}
}

// What verbs read as an application is checked as one: one of the original format, and one that a
// registry reports as an image.
func TestTrustIsApplication(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	other, _ := newKey(t)
	dir := filepath.Join(t.TempDir(), "original")
	original(t, dir, "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: 'registry.example/web:1'}]}\n")
	a.copyTo(t, "oci:"+dir, a.host+"/old/shop:v1")
	inner := registrytest.GGCR()
	lying := registrytest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/manifests/v1") && r.Method != http.MethodPut {
			w = &typed{w}
		}
		inner.ServeHTTP(w, r)
	}))
	a.copyTo(t, a.ref, lying+"/lying/shop:v1")
	for name, ref := range map[string]string{"original": a.host + "/old/shop:v1", "lying": lying + "/lying/shop:v1"} {
		trust := trustFile(t, map[string]string{"stranger": other}, fmt.Sprintf("applications: [{names: [%q], require: stranger}]\ndefault: allow", strings.TrimSuffix(ref, ":v1")))
		for verb, do := range map[string]func(to string) error{
			"copy": func(to string) error {
				_, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: ref, Target: to + ":v1"}}, Trust: trust})
				return err
			},
			"relocate": func(to string) error {
				_, err := app.Relocate(t.Context(), app.RelocateOptions{Options: app.Options{Environment: a.env, Trust: trust}, Source: ref, Repository: to})
				return err
			},
		} {
			to := a.host + "/is/" + name + "-" + verb
			if err := do(to); !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), "it must be signed by stranger") {
				t.Errorf("%s %s: %v", verb, name, err)
			}
			a.untagged(t, to, "v1")
		}
	}
}

// typed reports every manifest as an image.
type typed struct{ http.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *typed) WriteHeader(status int) {
	w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *typed) Write(data []byte) (int, error) {
	w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	return w.ResponseWriter.Write(data)
}

// sigstore is a Sigstore instance, and its files.
type sigstore struct {
	*sigstoretest.Sigstore
	dir, trusted string
	opened       *app.Sigstore
}

func newSigstore(t *testing.T, env app.Environment) *sigstore {
	t.Helper()
	s := &sigstore{dir: t.TempDir()}
	var err error
	if s.Sigstore, err = sigstoretest.New(time.Now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	root, err := s.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	s.trusted = s.file(t, "trusted_root.json", root)
	if s.opened, err = app.OpenSigstore(t.Context(), app.SigstoreOptions{
		Environment: env, SigningConfig: s.file(t, "signing_config.json", s.SigningConfig()), TrustedRoot: s.trusted,
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sigstore) file(t *testing.T, name string, data []byte) string {
	t.Helper()
	name = filepath.Join(s.dir, name)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// signer returns a signer that signs as an identity.
func (s *sigstore) signer(t *testing.T, who string) app.Signer {
	t.Helper()
	signer, err := s.opened.Keyless(s.file(t, "token-"+digest.FromString(who).Encoded(), []byte(s.Token(sigstoretest.Identity{Subject: who}))))
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// A certified identity signs, and verifying makes no request to the Sigstore.
func TestVerifyIdentity(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	sigstore := newSigstore(t, a.env)
	const who = "https://github.com/acme/shop/.github/workflows/ci.yml@refs/heads/main"
	signer := sigstore.signer(t, who)
	if _, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: a.ref, Signer: signer}); err != nil {
		t.Fatal(err)
	}
	sigstore.Close()
	verify := func(pattern string) *app.VerifyResult {
		t.Helper()
		r, err := app.Verify(t.Context(), app.VerifyOptions{Environment: a.env, Ref: a.ref, Identity: app.Identity{
			TrustedRoot: sigstore.trusted, Issuer: sigstore.URL, Pattern: pattern,
		}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := verify("https://github.com/acme/*"); !r.OK || r.Links[0].Identity != who || r.Links[0].Issuer != sigstore.URL || r.Links[0].SignedAt == nil || r.Links[0].Log == "" {
		t.Errorf("%+v, %v", r.Links[0], failing(r))
	}
	if r := verify("https://github.com/other/*"); r.OK || !strings.Contains(failing(r)["signature"], "it is signed by "+who) {
		t.Errorf("%v", failing(r))
	}
}
