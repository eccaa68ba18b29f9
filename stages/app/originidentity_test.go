// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
)

// A vendor signs as an identity, without a key. After two relocations, signed with keys, a
// trust file proves the identity of the vendor, without a request to the Sigstore.
func TestOriginIdentity(t *testing.T) {
	m := newMarket(t)
	const who = "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v1"
	vendors, other := newSigstore(t, m.env), newSigstore(t, m.env)
	vendor := vendors.signer(t, who)
	site, siteKey := newKey(t)
	relocate := func(source, repository string) *app.RelocatedRoot {
		t.Helper()
		result, err := app.Relocate(t.Context(), app.RelocateOptions{Options: app.Options{Environment: m.env}, Source: source, Repository: m.host + repository})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := app.Sign(t.Context(), app.SignOptions{Environment: m.env, Ref: result.Root.Ref, Signer: siteKey}); err != nil {
			t.Fatal(err)
		}
		return result.Root
	}
	// release publishes an application, calls then to attach its only signature, and relocates it
	// twice.
	release := func(tag string, then func(root ocispec.Descriptor)) (made ocispec.Descriptor, ref string) {
		t.Helper()
		made = remake(t, m.shop, m.now, tag, func(p *parts) {
			p.annotations[ocispec.AnnotationDescription] = tag
			p.then = func(root, _ ocispec.Descriptor) { then(root) }
		})
		first := relocate(m.shop.Name()+":"+tag, "/dealer/shop")
		return made, relocate(first.Ref, "/site/shop").Ref
	}
	signed := func(by app.Signer) func(ocispec.Descriptor) {
		return func(root ocispec.Descriptor) {
			attach(t, m.shop, root, statementBy(t, by, root.Digest, artifact.PredicateSignature))
		}
	}
	published, good := release("good", signed(vendor))
	_, unsigned := release("unsigned", func(ocispec.Descriptor) {})
	_, ofAnother := release("of-another", func(root ocispec.Descriptor) {
		attach(t, m.shop, root, statementBy(t, vendor, published.Digest, artifact.PredicateSignature))
	})
	_, byKey := release("by-key", signed(m.vendor))
	_, byAnother := release("by-another", signed(vendors.signer(t, "https://github.com/evil/shop/.github/workflows/release.yml@refs/tags/v1")))
	_, elsewhere := release("elsewhere", signed(other.signer(t, who)))
	in := m.repository(t, "site/shop")
	root, err := in.Resolve(t.Context(), "good")
	if err != nil {
		t.Fatal(err)
	}
	remake(t, in, root, "dropped", func(p *parts) {
		p.by = siteKey
		p.children = slices.DeleteFunc(p.children, func(d ocispec.Descriptor) bool { return d.Annotations[artifact.AnnotationRole] == artifact.RoleOrigin })
	})
	vendors.Close()
	other.Close()

	archive := "archive:" + filepath.Join(t.TempDir(), "shop.tar")
	if _, err := app.Save(t.Context(), app.SaveOptions{Environment: m.env, Ref: good, File: strings.TrimPrefix(archive, "archive:")}); err != nil {
		t.Fatal(err)
	}
	trust := func(from *sigstore, issuer, identity, more string) string {
		file := filepath.Join(t.TempDir(), "trust.yaml")
		text := fmt.Sprintf(`apiVersion: tape/v1
kind: Trust
roots: {vendors: {file: %q}}
authorities:
  vendor: {root: vendors, issuer: %q, identity: %q%s}
origin: vendor
`, from.trusted, issuer, identity, more)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	mine := trust(vendors, vendors.URL, "https://github.com/acme/shop/*", "")
	for name, c := range map[string]struct {
		ref, trust, want string // want "": it is proven
	}{
		"pattern":                   {good, mine, ""},
		"exact":                     {good, trust(vendors, vendors.URL, who, ""), ""},
		"archive":                   {archive, mine, ""},
		"another identity":          {good, trust(vendors, vendors.URL, "https://github.com/acme/bank/*", ""), "it is signed by " + who + ", which is not https://github.com/acme/bank/*"},
		"another issuer":            {good, trust(vendors, "https://issuer.example", who, ""), "whose issuer is " + vendors.URL + " and not https://issuer.example"},
		"another claim":             {good, trust(vendors, vendors.URL, who, ", sourceRepositoryRef: refs/heads/main"), `has sourceRepositoryRef "", not "refs/heads/main"`},
		"another Sigstore":          {good, trust(other, vendors.URL, who, ""), "of another Sigstore"},
		"signed at another":         {elsewhere, trust(vendors, other.URL, who, ""), "of another Sigstore"},
		"not signed":                {unsigned, mine, "no signature is attached"},
		"signature of another root": {ofAnother, mine, "the bundle signs " + published.Digest.String()},
		"signed with a key":         {byKey, mine, "it is signed with a key, not by an identity"},
		"signed by another":         {byAnother, mine, "it is signed by https://github.com/evil/shop/"},
		"origin left out":           {in.Name() + ":dropped", mine, "no signature by vendor"},
	} {
		t.Run(name, func(t *testing.T) {
			o := app.VerifyOptions{Environment: m.env, Ref: c.ref, Key: site, Trust: c.trust, Offline: strings.HasPrefix(c.ref, "archive:")}
			r, err := app.Verify(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			failed := failing(r)
			if r.OK != (c.want == "") || !strings.Contains(failed["origin signature"], c.want) {
				t.Errorf("%v, want %q", failed, c.want)
			}
			if c.want == "" {
				i := slices.IndexFunc(r.Links, func(l app.VerifiedLink) bool { return l.Name == "origin signature" })
				if l := r.Links[i]; l.Subject != published.Digest || l.Authority != "vendor" || l.Identity != who || l.Issuer != vendors.URL || l.SignedAt == nil || l.Log != vendors.URL {
					t.Errorf("%+v", l)
				}
				return
			}
			if len(failed) != 1 && name != "origin left out" {
				t.Errorf("%v", failed)
			}
			to := m.repository(t, "to/"+strings.ReplaceAll(strings.ToLower(name), " ", "-"))
			_, err = app.Copy(t.Context(), app.CopyOptions{Environment: m.env, Pairs: []app.CopyPair{{Source: c.ref, Target: to.Name() + ":v1"}}, Trust: c.trust})
			if empty, emptyErr := to.Empty(t.Context()); !errors.Is(err, engine.ErrPolicy) || emptyErr != nil || !empty {
				t.Errorf("copy: %v, empty %v, %v", err, empty, emptyErr)
			}
		})
	}
}
