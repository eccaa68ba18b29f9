// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/sign"
)

// relocated relocates an application and signs the result.
func (a *signedApp) relocated(t *testing.T, o app.RelocateOptions, signer app.Signer) *app.RelocatedRoot {
	t.Helper()
	o.Environment = a.env
	result, err := app.Relocate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: result.Root.Ref, Signer: signer}); err != nil {
		t.Fatal(err)
	}
	return result.Root
}

// The publisher's signature of an application can still be verified after it was relocated twice,
// copied, saved and loaded.
func TestOrigin(t *testing.T) {
	for kind, handler := range twoRegistries() {
		t.Run(kind, func(t *testing.T) {
			a := newSignedApp(t, handler())
			dealer, dealerKey := newKey(t)
			site, siteKey := newKey(t)
			to := registrytest.Serve(t, handler())
			first := a.relocated(t, app.RelocateOptions{Source: a.ref, Repository: to + "/dealer/shop"}, dealerKey)
			second := a.relocated(t, app.RelocateOptions{Source: first.Ref, Prefix: to + "/site", Repository: to + "/site/shop"}, siteKey)

			view, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: second.Ref})
			if err != nil {
				t.Fatal(err)
			}
			if len(view.Origins) != 2 || view.Origins[0].Root != first.Digest || len(view.Origins[0].Signatures) != 2 || view.Origins[1].Root != a.root ||
				view.Origins[1].Repository != a.host+"/team/shop" || len(view.Origins[1].Signatures) != 2 || len(view.Warnings) != 0 {
				t.Errorf("%+v, warnings %q", view.Origins, view.Warnings)
			}
			refs := []string{second.Ref}
			far := to + "/far/shop:v1"
			if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: second.Ref, Target: far}}}); err != nil {
				t.Fatal(err)
			}
			archive := filepath.Join(t.TempDir(), "shop.tar")
			if _, err := app.Save(t.Context(), app.SaveOptions{Environment: a.env, Ref: far, File: archive}); err != nil {
				t.Fatal(err)
			}
			loaded := a.host + "/loaded/shop"
			if _, err := app.Load(t.Context(), app.LoadOptions{Environment: a.env, File: archive, Repository: loaded}); err != nil {
				t.Fatal(err)
			}
			refs = append(refs, far, "archive:"+archive, loaded+"@"+second.Digest.String())
			node := filepath.Join(t.TempDir(), "node.tar")
			if _, err := app.Save(t.Context(), app.SaveOptions{Environment: a.env, Ref: far, File: node, Platform: "linux/amd64"}); err != nil {
				t.Fatal(err)
			}
			refs = append(refs, "archive:"+node)
			other, _ := newKey(t)
			for i, ref := range refs {
				origins := []string{a.public, dealer, site, other}
				if i > 0 {
					origins = origins[:1] // what moves is the same
				}
				for _, origin := range origins {
					r := a.verify(t, app.VerifyOptions{Ref: ref, Key: site, OriginKey: origin})
					if reason := failing(r)["origin signature"]; r.OK != (origin != other) || !r.OK && !strings.Contains(reason, "not signed by this key") {
						t.Errorf("%s: %v", ref, failing(r))
					}
				}
			}
		})
	}
}

// A relocating signer can change nothing but the names of images, and cannot replace the origin
// by another application.
func TestTamperedOrigins(t *testing.T) {
	m := newMarket(t)
	site, siteKey := newKey(t)
	relocate := func(source, repository string) *app.RelocatedRoot {
		t.Helper()
		result, err := app.Relocate(t.Context(), app.RelocateOptions{Options: app.Options{Environment: m.env}, Source: source, Repository: m.host + repository})
		if err != nil {
			t.Fatal(err)
		}
		return result.Root
	}
	relocate(m.shop.Name()+":v1", "/site/shop")
	in := m.repository(t, "site/shop")
	root, err := in.Resolve(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	trust := trustFile(t, map[string]string{"site": site, "vendor": m.keys["vendor"]}, fmt.Sprintf("applications: [{names: [%q], require: site}]\norigin: vendor", in.Name()))
	otherOrigin := func(p *parts, named bool) {
		// The previous release is in the repository, with its signature.
		if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: m.env, Pairs: []app.CopyPair{{Source: m.shop.Name() + ":v0", Target: in.Name() + ":old"}}}); err != nil {
			t.Fatal(err)
		}
		origin := p.child(m.now.Digest, artifact.RoleOrigin)
		origin.Digest, origin.Size = m.old.Digest, m.old.Size
		if named {
			p.provenance(t, func(v *artifact.Provenance) {
				v.BuildDefinition.ResolvedDependencies[0].Digest = artifact.DigestSet(m.old.Digest)
			})
		}
	}
	recorded := func(p *parts) {
		p.edit(t, "shop.yaml", "name: web}\n", "name: wub}\n", true)
		data := string(p.files[0].Data)
		p.transform(t, func(v *artifact.Transform) {
			edit := v.Edits[0]
			edit.Original, edit.Replaced, edit.Offset, edit.Line, edit.Column = "web", "wub", strings.Index(data, "wub"), 3, 18
			v.Edits = append([]images.Edit{edit}, v.Edits...)
		})
	}
	for i, c := range []struct {
		name   string
		change func(p *parts)
		want   string
	}{
		{"nothing", func(*parts) {}, ""},
		{"a byte that is recorded as an edit", recorded, "shop.yaml: it differs from the origin's in more than the names of images"},
		{"a byte that is not recorded", func(p *parts) { p.edit(t, "shop.yaml", "name: web}\n", "name: wub}\n", true) }, "edits: undo the edits of shop.yaml"},
		{"an edit that is not recorded", func(p *parts) {
			p.transform(t, func(v *artifact.Transform) { v.Edits = v.Edits[:1] })
		}, "relocation: shop.yaml:9:32: an edit is not recorded"},
		{"an edit that is recorded otherwise", func(p *parts) {
			p.transform(t, func(v *artifact.Transform) {
				v.Edits[0].Resolved = "registry.example/acme/web:9@" + m.web.Digest.String()
			})
		}, "relocation: shop.yaml:8:29: the edit that is recorded is not one of the name of an image"},
		{"another file", func(p *parts) {
			p.files = append(p.files, files.File{Name: "zz.yaml", Data: []byte("{apiVersion: v1, kind: Namespace, metadata: {name: zz}}\n")})
		}, "zz.yaml: the origin has no such file"},
		{"a file that is left out", func(p *parts) {
			p.files[0].Name = "a.yaml"
		}, "a.yaml: the origin has no such file"},
		{"another version", func(p *parts) { p.annotations[ocispec.AnnotationVersion] = "v9" }, `relocation: the content says org.opencontainers.image.version "v9", and the origin nothing`},
		{"another statement", func(p *parts) {
			i := slices.IndexFunc(p.statements, func(s artifact.Statement) bool { return s.PredicateType == artifact.PredicateSource })
			p.statements[i].Predicate = []byte(`{"path":"elsewhere"}`)
		}, "relocation: statement 2 (https://github.com/taped-dev/tape/attestation/source/v1) differs from the origin's"},
		{"a statement that is left out", func(p *parts) { p.statements = slices.Delete(p.statements, 1, 2) }, "relocation: it has 4 statements, and the origin leads to 5"},
		{"an image that is left out", func(p *parts) {
			p.drop(m.ledger.Digest, artifact.RoleImage, artifact.RoleRelated)
		}, "relocation: the origin lists " + m.ledger.Digest.String()},
		{"a signature of an image that is left out", func(p *parts) { p.drop(m.ledger.Digest, artifact.RoleRelated) }, "relocation: the origin lists"},
		{"an image by another name", func(p *parts) {
			p.child(m.web.Digest, artifact.RoleImage).Annotations[artifact.AnnotationImageSource] = "registry.example/acme/web:1,registry.example/acme/webb:1"
		}, "relocation: the root lists " + m.web.Digest.String()},
		{"an origin of another release", func(p *parts) { otherOrigin(p, false) }, "relocation: its provenance does not say that it was made of " + m.old.Digest.String()},
		{"an origin of another release, which is said", func(p *parts) { otherOrigin(p, true) }, "shop.yaml: it differs from the origin's"},
		{"two origins", func(p *parts) {
			p.children = append(p.children, *p.child(m.now.Digest, artifact.RoleOrigin))
		}, "lists 2 origins, not one"},
		{"no origin", func(p *parts) {
			p.drop(m.now.Digest, artifact.RoleOrigin)
		}, "origin signature: no signature by vendor: not signed by this key"},
		{"an origin that is an image", func(p *parts) {
			p.child(m.now.Digest, artifact.RoleOrigin).Digest = m.web.Digest
			p.child(m.web.Digest, artifact.RoleOrigin).Size = m.web.Size
		}, "it is not a taped application"},
		{"an origin of another size", func(p *parts) { p.child(m.now.Digest, artifact.RoleOrigin).Size = 5 << 20 }, "has 5242880 bytes, more than the 4194304 allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tag := fmt.Sprintf("t%d", i)
			remake(t, in, root, tag, func(p *parts) {
				p.by = siteKey
				c.change(p)
			})
			m.judge(t, in.Name()+":"+tag, trust, c.want)
		})
	}

	// An application that the vendor did not sign has an origin, but no proof.
	for i, c := range []struct {
		name string
		then func(root, content ocispec.Descriptor)
		want string
	}{
		{"nothing", func(_, _ ocispec.Descriptor) {}, "no signature is attached"},
		{"of the content", func(root, content ocispec.Descriptor) {
			attach(t, m.shop, root, statementBy(t, m.vendor, content.Digest, artifact.PredicateSignature))
		}, "the bundle signs sha256:"},
		{"of the release before", func(root, _ ocispec.Descriptor) {
			attach(t, m.shop, root, statementBy(t, m.vendor, m.old.Digest, artifact.PredicateSignature))
		}, "the bundle signs " + m.old.Digest.String()},
		{"a statement", func(root, _ ocispec.Descriptor) {
			attach(t, m.shop, root, statementBy(t, m.vendor, root.Digest, artifact.PredicatePromotion))
		}, "not a signature"},
		{"by another", func(root, _ ocispec.Descriptor) {
			attach(t, m.shop, root, statementBy(t, m.bank, root.Digest, artifact.PredicateSignature))
		}, "not signed by this key"},
	} {
		t.Run("signature: "+c.name, func(t *testing.T) {
			tag := fmt.Sprintf("s%d", i)
			remake(t, m.shop, m.now, tag, func(p *parts) { p.annotations[ocispec.AnnotationDescription], p.then = tag, c.then })
			made := relocate(m.shop.Name()+":"+tag, "/site/shop")
			if _, err := app.Sign(t.Context(), app.SignOptions{Environment: m.env, Ref: made.Ref, Signer: siteKey}); err != nil {
				t.Fatal(err)
			}
			m.judge(t, in.Name()+":"+tag, trust, c.want)
		})
	}
}

// A chain of relocations is no longer than readers accept.
func TestOriginsBound(t *testing.T) {
	m := newMarket(t)
	ref := m.shop.Name() + ":v1"
	for n := range artifact.MaxOrigins {
		result, err := app.Relocate(t.Context(), app.RelocateOptions{Options: app.Options{Environment: m.env}, Source: ref, Repository: fmt.Sprintf("%s/line/%d", m.host, n)})
		if err != nil {
			t.Fatal(err)
		}
		ref = result.Root.Ref
	}
	if _, err := app.Sign(t.Context(), app.SignOptions{Environment: m.env, Ref: ref, Signer: m.bank}); err != nil {
		t.Fatal(err)
	}
	trust := trustFile(t, map[string]string{"bank": m.keys["bank"], "vendor": m.keys["vendor"]}, fmt.Sprintf("applications: [{names: [%q], require: bank}]\norigin: vendor", m.host+"/line/*"))
	m.judge(t, ref, trust, "")
	_, err := app.Relocate(t.Context(), app.RelocateOptions{Options: app.Options{Environment: m.env}, Source: ref, Repository: m.host + "/line/more"})
	if err == nil || !strings.Contains(err.Error(), "it was relocated 8 times, which is the limit") {
		t.Errorf("error %v", err)
	}

	// Another program makes a longer one.
	in := m.repository(t, fmt.Sprintf("line/%d", artifact.MaxOrigins-1))
	last, err := in.Resolve(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	remake(t, in, last, "longer", func(p *parts) {
		p.by = m.bank
		p.children = slices.DeleteFunc(p.children, func(d ocispec.Descriptor) bool { return d.Annotations[artifact.AnnotationRole] == artifact.RoleOrigin })
		p.children = append(p.children, ocispec.Descriptor{
			MediaType: last.MediaType, Digest: last.Digest, Size: last.Size, Annotations: map[string]string{artifact.AnnotationRole: artifact.RoleOrigin},
		})
	})
	m.judge(t, in.Name()+":longer", trust, "it was relocated more than 8 times")
}

// A summary replaces verifying the chain, but not the proof of the application's origin: the
// origin in a trust file is required as well, whatever the verifier states.
func TestOriginBesidesSummary(t *testing.T) {
	m := newMarket(t)
	site, siteKey := newKey(t)
	auditor, auditorKey := newKey(t)
	if _, err := app.Relocate(t.Context(), app.RelocateOptions{Options: app.Options{Environment: m.env}, Source: m.shop.Name() + ":v1", Repository: m.host + "/site/shop"}); err != nil {
		t.Fatal(err)
	}
	in := m.repository(t, "site/shop")
	root, err := in.Resolve(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	attach(t, in, root, statementBy(t, siteKey, root.Digest, artifact.PredicateSignature))
	remake(t, in, root, "dropped", func(p *parts) {
		p.by = siteKey
		p.children = slices.DeleteFunc(p.children, func(d ocispec.Descriptor) bool { return d.Annotations[artifact.AnnotationRole] == artifact.RoleOrigin })
	})
	keys := map[string]string{"site": site, "vendor": m.keys["vendor"], "forger": m.keys["forger"]}
	rules := fmt.Sprintf("applications: [{names: [%q], require: site}]\n", in.Name())
	trust, byAnother, weaker := trustFile(t, keys, rules+"origin: vendor"), trustFile(t, keys, rules+"origin: forger"), trustFile(t, keys, rules)
	// claim has the auditor state that a root passed with a policy.
	claim := func(tag, policy string) {
		t.Helper()
		made, err := app.Attest(t.Context(), app.AttestOptions{Signer: auditorKey, VerifyOptions: app.VerifyOptions{Environment: m.env, Ref: in.Name() + ":" + tag, Trust: policy}})
		if err != nil {
			t.Fatal(err)
		}
		if made.OK {
			return
		}
		if made.Summaries[0].Result != artifact.SummaryFailed {
			t.Errorf("%s: %+v", tag, made.Summaries)
		}
		about, err := in.Resolve(t.Context(), tag)
		if err != nil {
			t.Fatal(err)
		}
		lie := artifact.Summary{
			Verifier: artifact.SummaryVerifier{ID: artifact.VerifierID}, TimeVerified: time.Now().UTC().Add(time.Minute), Policy: *made.Policy, SLSAVersion: artifact.SummaryVersion,
			ResourceURI: "pkg:oci/shop?repository_url=" + in.Name(), VerificationResult: artifact.SummaryPassed, VerifiedLevels: []string{artifact.LevelUnevaluated},
		}
		blobs, err := sign.Statement(t.Context(), auditorKey, about, artifact.PredicateSummary, lie)
		if err != nil {
			t.Fatal(err)
		}
		attach(t, in, about, blobs[1].Data)
	}
	for _, c := range []struct{ name, tag, claimed, trust, originKey, link, want string }{
		{"a policy without the origin", "v1", weaker, trust, "", "summary", "with another policy"},
		{"proven", "v1", trust, trust, "", "", ""},
		{"proven, by key", "v1", trust, "", m.keys["vendor"], "", ""},
		{"another origin by key", "v1", trust, trust, m.keys["forger"], "origin signature", "not signed by this key"},
		{"another origin, and a lie", "v1", byAnother, byAnother, "", "origin signature", "no signature by forger"},
		{"no origin, and a lie", "dropped", trust, trust, "", "origin signature", "it lists no application that it was relocated from"},
	} {
		t.Run(c.name, func(t *testing.T) {
			claim(c.tag, c.claimed)
			r, err := app.Verify(t.Context(), app.VerifyOptions{Environment: m.env, Ref: in.Name() + ":" + c.tag, Summary: auditor, Trust: c.trust, OriginKey: c.originKey})
			if err != nil {
				t.Fatal(err)
			}
			if failed := failing(r); r.OK != (c.want == "") || c.want != "" && !strings.Contains(failed[c.link], c.want) {
				t.Errorf("%v, want %q", failed, c.want)
			}
			if !slices.ContainsFunc(r.Links, func(l app.VerifiedLink) bool { return l.Name == "origin signature" }) {
				t.Errorf("%+v", r.Links)
			}
			for _, l := range r.Links {
				if strings.HasPrefix(l.Name, "image ") {
					t.Errorf("%s was looked at", l.Name)
				}
			}
		})
	}
}

// A relocated application differs in nothing from what its vendor published, and is promoted
// with its line: the vendor is verified first, and proven at every target.
func TestOriginDiffAndPromote(t *testing.T) {
	m := newMarket(t)
	site, siteKey := newKey(t)
	_, keeper := newKey(t)
	relocate := func(source string, o app.RelocateOptions) string {
		t.Helper()
		o.Environment, o.Source = m.env, source
		result, err := app.Relocate(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := app.Sign(t.Context(), app.SignOptions{Environment: m.env, Ref: result.Root.Ref, Signer: siteKey}); err != nil {
			t.Fatal(err)
		}
		return result.Root.Ref
	}
	vendors := m.shop.Name() + ":v1"
	once := relocate(vendors, app.RelocateOptions{Repository: m.host + "/dealer/shop"})
	twice := relocate(once, app.RelocateOptions{Repository: m.host + "/site/shop", Prefix: m.host + "/mirror"})
	for _, pair := range [][2]string{{vendors, once}, {once, vendors}, {vendors, twice}, {twice, once}} {
		d, err := app.Diff(t.Context(), app.DiffOptions{Environment: m.env, A: pair[0], B: pair[1]})
		if err != nil {
			t.Fatal(err)
		}
		if !d.Empty() || len(d.Matters) > 0 {
			t.Errorf("%s and %s differ: %+v", pair[0], pair[1], d)
		}
	}
	keys := map[string]string{"site": site, "vendor": m.keys["vendor"], "forger": m.keys["forger"]}
	promote := func(origin string) (*app.PromoteResult, error) {
		return app.Promote(t.Context(), app.PromoteOptions{
			Environment: m.env, Source: twice, Target: m.host + "/prod/shop:live", Signer: keeper,
			Trust: trustFile(t, keys, fmt.Sprintf("applications: [{names: [%q], require: site}]\norigin: %s", m.host+"/site/*", origin)),
		})
	}
	prod := m.repository(t, "prod/shop")
	_, err := promote("forger")
	if empty, emptyErr := prod.Empty(t.Context()); !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), "origin signature: ") || !strings.Contains(err.Error(), "no signature by forger") || emptyErr != nil || !empty {
		t.Errorf("error %v, empty %v, %v", err, empty, emptyErr)
	}
	if _, err := promote("vendor"); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "prod.tar")
	if _, err := app.Save(t.Context(), app.SaveOptions{Environment: m.env, Ref: prod.Name() + ":live", File: archive}); err != nil {
		t.Fatal(err)
	}
	on := relocate(prod.Name()+":live", app.RelocateOptions{Repository: m.host + "/edge/shop"})
	for ref, length := range map[string]int{prod.Name() + ":live": 2, "archive:" + archive: 2, on: 3} {
		for origin, ok := range map[string]bool{"vendor": true, "site": true, "forger": false} {
			r, err := app.Verify(t.Context(), app.VerifyOptions{Environment: m.env, Ref: ref, Key: site, OriginKey: keys[origin]})
			if err != nil {
				t.Fatal(err)
			}
			if r.OK != ok {
				t.Errorf("%s, origin %s: %v", ref, origin, failing(r))
			}
		}
		view, err := app.View(t.Context(), app.ViewOptions{Environment: m.env, Ref: ref})
		if err != nil {
			t.Fatal(err)
		}
		if len(view.Origins) != length || view.Origins[length-1].Root != m.now.Digest || len(view.Warnings) > 0 {
			t.Errorf("%s: origins %+v, warnings %q", ref, view.Origins, view.Warnings)
		}
	}
}
