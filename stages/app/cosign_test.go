// SPDX-License-Identifier: Apache-2.0

//go:build cosign

package app_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// cosign runs the program that TAPE_COSIGN names (version 3), without network requests.
func cosign(t *testing.T, args ...string) string {
	t.Helper()
	program := os.Getenv("TAPE_COSIGN")
	if program == "" {
		t.Fatal("TAPE_COSIGN names no cosign")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=secret", "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("cosign %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// cosignKey returns an encrypted key pair made by tape, for both.
func cosignKey(t *testing.T) (private, public string) {
	t.Helper()
	pair, err := app.GenerateKey(t.Context(), app.KeyOptions{Prefix: filepath.Join(t.TempDir(), "k"), Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return pair.Private, pair.Public
}

func password(bool) ([]byte, error) { return []byte("secret"), nil }

// private are flags that keep cosign from using the transparency log.
var private = []string{"--use-signing-config=false", "--tlog-upload=false", "--yes"}

// TestCosignVerifies checks that cosign accepts signatures of tape.
func TestCosignVerifies(t *testing.T) {
	for name, dst := range twoRegistries() {
		t.Run(name, func(t *testing.T) {
			a := newSignedApp(t, dst())
			r, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: a.ref, Signer: a.signer})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range r.Signatures {
				out := cosign(t, "verify", "--key", a.public, "--insecure-ignore-tlog", a.host+"/team/shop@"+s.Subject.String())
				if !strings.Contains(out, `"docker-manifest-digest":"`+s.Subject.String()+`"`) {
					t.Errorf("%s: cosign verified something else:\n%s", s.Name, out)
				}
			}
		})
	}
}

// TestVerifiesCosign checks that tape accepts signatures of cosign, with a key of either.
func TestVerifiesCosign(t *testing.T) {
	for name, dst := range twoRegistries() {
		t.Run(name, func(t *testing.T) {
			a := newSignedApp(t, dst())
			key, public := cosignKey(t)
			cosign(t, slices.Concat([]string{"sign", "--key", key}, private, []string{a.host + "/team/shop@" + a.root.String()})...)
			if r := a.verify(t, app.VerifyOptions{Key: public}); !r.OK {
				t.Errorf("signed by cosign: %v", failing(r))
			}
			// It is already signed: tape adds nothing to the root.
			signer, err := app.LoadSigner(t.Context(), app.SignerOptions{Name: key, Password: password})
			if err != nil {
				t.Fatal(err)
			}
			r, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: a.ref, Signer: signer})
			if err != nil || !r.Signatures[0].Existing {
				t.Errorf("%+v, %v", r, err)
			}

			t.Chdir(t.TempDir())
			cosign(t, "generate-key-pair", "--output-key-prefix", "theirs")
			if signer, err = app.LoadSigner(t.Context(), app.SignerOptions{Name: "theirs.key", Password: password}); err != nil {
				t.Fatal(err)
			}
			if _, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: a.ref, Signer: signer}); err != nil {
				t.Fatal(err)
			}
			if r := a.verify(t, app.VerifyOptions{Key: "theirs.pub"}); !r.OK {
				t.Errorf("signed with cosign's key: %v", failing(r))
			}
		})
	}
}

// TestImageKey verifies signatures of images, in the form of cosign before version 3 and in the
// present one.
func TestImageKey(t *testing.T) {
	for name, format := range map[string]string{"simple signing": "--new-bundle-format=false", "bundle": "--new-bundle-format=true"} {
		t.Run(name, func(t *testing.T) {
			upstream := registrytest.Serve(t, registrytest.Distribution(""))
			image, err := random.Image(100, 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := crane.Push(image, upstream+"/library/app:1", crane.Insecure); err != nil {
				t.Fatal(err)
			}
			dgst, err := image.Digest()
			if err != nil {
				t.Fatal(err)
			}
			key, public := cosignKey(t)
			cosign(t, slices.Concat([]string{"sign", "--key", key, format}, private, []string{upstream + "/library/app@" + dgst.String()})...)

			a := &signedApp{env: environmentOf(t, ""), host: registrytest.Serve(t, registrytest.GGCR())}
			a.public, a.signer = newKey(t)
			a.ref = a.host + "/team/app:v1"
			source := filepath.Join(t.TempDir(), "pod.yaml")
			manifest := "{apiVersion: v1, kind: Pod, metadata: {name: app}, spec: {containers: [{name: app, image: '" + upstream + "/library/app:1'}]}}\n"
			if err := os.WriteFile(source, []byte(manifest), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := app.Package(t.Context(), app.PackageOptions{
				Options:    app.Options{Environment: a.env, Sources: []app.Source{{Path: source}}, Signer: a.signer},
				Repository: a.host + "/team/app", Tags: []string{"v1"},
			}); err != nil {
				t.Fatal(err)
			}
			if r := a.verify(t, app.VerifyOptions{ImageKeys: []string{public}}); !r.OK {
				t.Errorf("%v", failing(r))
			}
			if r := a.verify(t, app.VerifyOptions{ImageKeys: []string{a.public}}); r.OK {
				t.Error("it verifies with another key")
			}
		})
	}
}
