// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// audited is a signed application, a policy that it complies with, and a verifier.
type audited struct {
	*signedApp
	trust, public string
	signer        *app.Key
}

func newAudited(t *testing.T) *audited {
	t.Helper()
	a := &audited{signedApp: newSignedApp(t, registrytest.GGCR())}
	a.trust = trustFile(t, map[string]string{"vendor": a.signedApp.public}, fmt.Sprintf("applications: [{names: [%q], require: vendor}]", a.host+"/team/*"))
	a.public, a.signer = newKey(t)
	return a
}

func (a *audited) attest(t *testing.T, change func(*app.AttestOptions)) (*app.AttestResult, error) {
	t.Helper()
	o := app.AttestOptions{Signer: a.signer, VerifyOptions: app.VerifyOptions{Environment: a.env, Ref: a.ref, Trust: a.trust}}
	if change != nil {
		change(&o)
	}
	return app.Attest(t.Context(), o)
}

// taken verifies with a summary.
func (a *audited) taken(t *testing.T, change func(*app.VerifyOptions)) *app.VerifyResult {
	t.Helper()
	o := app.VerifyOptions{Environment: a.env, Ref: a.ref, Trust: a.trust, Summary: a.public}
	if change != nil {
		change(&o)
	}
	r, err := app.Verify(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (a *audited) resolve(t *testing.T, version string) (*registry.Repository, ocispec.Descriptor) {
	t.Helper()
	repository, err := a.env.Registry.Repository(a.host + "/team/shop")
	if err != nil {
		t.Fatal(err)
	}
	desc, err := repository.Resolve(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	return repository, desc
}

// put attaches a statement to a manifest, which need not be its subject.
func (a *audited) put(t *testing.T, to string, signer app.Signer, about digest.Digest, predicateType string, predicate any) {
	t.Helper()
	repository, desc := a.resolve(t, to)
	blobs, err := sign.Statement(t.Context(), signer, ocispec.Descriptor{MediaType: desc.MediaType, Digest: about, Size: desc.Size}, predicateType, predicate)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := sign.Manifest(blobs[1].Data, desc)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs[:2] {
		if _, err := repository.PushBlob(t.Context(), b.Desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Data)), nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := repository.PushReferrer(t.Context(), manifest.Desc, manifest.Data); err != nil {
		t.Fatal(err)
	}
}

// TestAttest verifies an application once, and accepts the summary afterwards.
func TestAttest(t *testing.T) {
	a := newAudited(t)
	if r := a.taken(t, nil); r.OK || !strings.Contains(failing(r)["summary"], "no summary of a verification is attached") {
		t.Errorf("before: %v", failing(r))
	}
	at := time.Date(2026, 5, 5, 9, 0, 0, 0, time.UTC)
	made, err := a.attest(t, func(o *app.AttestOptions) { o.At, o.Images, o.Force, o.Version = at, true, true, "v1" })
	if err != nil {
		t.Fatal(err)
	}
	if !made.OK || len(made.Summaries) != 2 || made.Summaries[0].Subject != a.root || made.Summaries[1].Name != "image registry.example/web:1" || made.Summaries[1].Result != "PASSED" {
		t.Fatalf("%+v", made)
	}
	copied := a.host + "/team/copied:v1"
	if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: a.ref, Target: copied}}}); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{a.ref, copied, "oci:" + a.layout(t), "archive:" + a.save(t)} {
		r := a.taken(t, func(o *app.VerifyOptions) { o.Ref = ref })
		if !r.OK || r.Summary == nil || r.Summary.Digest != made.Summaries[0].Digest || !r.Summary.TimeVerified.Equal(at) || r.Summary.Policy.URI != "trust.yaml" {
			t.Errorf("%s: %v, %+v", ref, failing(r), r.Summary)
		}
		for _, link := range r.Links {
			if link.Name != "summary" && !strings.HasPrefix(link.Name, "tag ") {
				t.Errorf("%s: %s was looked at", ref, link.Name)
			}
		}
	}
	// The signature of the root can be required as well, and nothing else.
	if r := a.taken(t, func(o *app.VerifyOptions) { o.Key = a.signedApp.public }); !r.OK || r.Links[0].Name != "signature" {
		t.Errorf("%v", r.Links)
	}
	// A summary is not a signature, and the application is still signed by its vendor.
	if r := a.verify(t, app.VerifyOptions{Key: a.public}); r.OK || !strings.Contains(failing(r)["signature"], "not a signature") {
		t.Errorf("as a signature: %v", failing(r))
	}
	if r := a.verify(t, app.VerifyOptions{}); !r.OK || r.Summary != nil {
		t.Errorf("by its vendor: %v", failing(r))
	}
	view, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: a.ref})
	if err != nil {
		t.Fatal(err)
	}
	if len(view.Signatures) != 2 || len(view.Summaries) != 1 || view.Summaries[0].VerificationResult != "PASSED" || view.Summaries[0].KeyHint == "" {
		t.Fatalf("%+v, %+v", view.Signatures, view.Summaries)
	}
	// Counts are numbers, as SLSA specifies.
	data, err := json.Marshal(view.Summaries[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"dependencyLevels":{"SLSA_BUILD_LEVEL_UNEVALUATED":1}`, `"slsaVersion":"1.2"`, `"timeVerified":"2026-05-05T09:00:00Z"`, `"version":{"tape":"v1"}`,
		`"verifiedLevels":["SLSA_BUILD_LEVEL_UNEVALUATED"]`, fmt.Sprintf(`"resourceUri":"pkg:oci/shop@%s?repository_url=%s%%2Fteam%%2Fshop"`, a.root, a.host),
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("no %s in %s", want, data)
		}
	}
	// Other programs write them as strings.
	var s artifact.Summary
	if err := json.Unmarshal([]byte(`{"dependencyLevels":{"SLSA_BUILD_LEVEL_3":"7"}}`), &s); err != nil || s.DependencyLevels["SLSA_BUILD_LEVEL_3"] != "7" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestSummariesTravel attaches summaries to root and image, and a signature of cosign before
// version 3 by tag, after the application was packed. They are copied with it.
func TestSummariesTravel(t *testing.T) {
	for kind, handler := range twoRegistries() {
		t.Run(kind, func(t *testing.T) {
			a := &audited{signedApp: newSignedApp(t, handler())}
			a.trust = trustFile(t, map[string]string{"vendor": a.signedApp.public}, fmt.Sprintf("applications: [{names: [%q], require: vendor}]", a.host+"/team/*"))
			a.public, a.signer = newKey(t)
			made, err := a.attest(t, func(o *app.AttestOptions) { o.Images, o.Force = true, true })
			if err != nil {
				t.Fatal(err)
			}
			image := made.Summaries[1]
			repository, _ := a.resolve(t, "v1")
			here := shelf{t, repository}
			later := registry.AttachedTag(image.Digest, ".sig")
			here.put(ocispec.MediaTypeImageManifest, later, map[string]any{
				"config": here.blob(ocispec.MediaTypeImageConfig, "{}"), "layers": []ocispec.Descriptor{here.blob("application/x", "signature of the summary")},
			})

			to := registrytest.Serve(t, handler())
			a.copyTo(t, a.ref, to+"/copied/shop")
			if _, err := app.Load(t.Context(), app.LoadOptions{Environment: a.env, File: a.save(t), Repository: to + "/loaded/shop"}); err != nil {
				t.Fatal(err)
			}
			_, keeper := newKey(t)
			if _, err := app.Promote(t.Context(), app.PromoteOptions{
				Environment: a.env, Source: a.ref, Target: to + "/promoted/shop:v1", Trust: a.trust, Signer: keeper,
			}); err != nil {
				t.Fatal(err)
			}
			names := []string{"copied/shop", "loaded/shop", "promoted/shop", "relocated/shop", "site/shop"}
			for _, o := range []app.RelocateOptions{{Repository: to + "/relocated/shop"}, {Repository: to + "/site/shop", Prefix: to + "/site"}, {Prefix: to + "/images"}} {
				o.Environment, o.Source = a.env, a.ref
				result, err := app.Relocate(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				name, _, _ := strings.Cut(strings.TrimPrefix(result.Mapping["registry.example/web:1"], to+"/"), ":")
				names = append(names, name)
			}
			for _, name := range names {
				there, err := a.env.Registry.Repository(to + "/" + name)
				if err != nil {
					t.Fatal(err)
				}
				list, err := there.Referrers(t.Context(), image.Subject)
				if err != nil || !slices.ContainsFunc(list, func(d ocispec.Descriptor) bool { return d.Digest == image.Digest }) {
					t.Errorf("%s: the summary of the image is left behind: %v, %v", name, list, err)
				}
				if _, err := there.Resolve(t.Context(), later); err != nil && name != "loaded/shop" { // save reports that
					t.Errorf("%s: the signature of the summary is left behind: %v", name, err)
				}
			}
		})
	}
}

// A summary that does not state that this root was verified, with this policy, by this
// verifier, is rejected.
func TestSummaryRefused(t *testing.T) {
	base := newAudited(t)
	copied := base.host + "/team/copied:v1"
	if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: base.env, Pairs: []app.CopyPair{{Source: base.ref, Target: copied}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := base.attest(t, func(o *app.AttestOptions) { o.Ref = copied }); err != nil {
		t.Fatal(err)
	}
	view, err := app.View(t.Context(), app.ViewOptions{Environment: base.env, Ref: copied})
	if err != nil {
		t.Fatal(err)
	}
	good := view.Summaries[0].Summary
	strange, stranger := newKey(t)
	otherRoot := digest.FromString("another root")
	weaker := trustFile(t, map[string]string{"vendor": strange}, "default: deny")
	later := good.TimeVerified.Add(time.Hour)
	for name, c := range map[string]struct {
		put    func(t *testing.T, a *audited, s artifact.Summary)
		verify func(*app.VerifyOptions)
		want   string
	}{
		"of another root": {func(t *testing.T, a *audited, s artifact.Summary) {
			a.put(t, "v1", a.signer, otherRoot, artifact.PredicateSummary, s)
		}, nil, "the bundle signs " + otherRoot.String()},
		"attached to the content": {func(t *testing.T, a *audited, s artifact.Summary) {
			a.put(t, "manifests.v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, nil, "no summary of a verification is attached to the root"},
		"of the content": {func(t *testing.T, a *audited, s artifact.Summary) {
			_, content := a.resolve(t, "manifests.v1")
			a.put(t, "v1", a.signer, content.Digest, artifact.PredicateSummary, s)
		}, nil, "the bundle signs sha256:"},
		"by another key": {func(t *testing.T, a *audited, s artifact.Summary) {
			a.put(t, "v1", stranger, a.root, artifact.PredicateSummary, s)
			s.TimeVerified = later
			a.put(t, "v1", stranger, a.root, artifact.PredicateSummary, s)
		}, nil, "not signed by this key"},
		"another policy": {func(t *testing.T, a *audited, s artifact.Summary) {
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, func(o *app.VerifyOptions) { o.Trust = weaker }, "with another policy, trust.yaml sha256:"},
		"another key in the policy": {func(t *testing.T, a *audited, s artifact.Summary) {
			s.Policy.Annotations = map[string]string{"authorities.vendor": otherRoot.String()}
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, nil, "with another policy: in it authorities.vendor was " + otherRoot.String()},
		"where other rules are": {func(t *testing.T, a *audited, s artifact.Summary) {
			s.ResourceURI = good.ResourceURI
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, nil, "/team/copied\", for which the policy has other rules than for 127.0.0.1:"},
		"of no resource": {func(t *testing.T, a *audited, s artifact.Summary) {
			s.ResourceURI = ""
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, nil, "resourceUri"},
		"failed": {func(t *testing.T, a *audited, s artifact.Summary) {
			s.VerificationResult = artifact.SummaryFailed
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, nil, "says FAILED"},
		"failed later": {func(t *testing.T, a *audited, s artifact.Summary) {
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
			s.VerificationResult, s.TimeVerified = artifact.SummaryFailed, later
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, nil, "says FAILED"},
		"failed at the same time": {func(t *testing.T, a *audited, s artifact.Summary) {
			s.VerificationResult = artifact.SummaryFailed
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
			s.VerificationResult = artifact.SummaryPassed
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, nil, "says FAILED"},
		"another verifier": {func(t *testing.T, a *audited, s artifact.Summary) {
			s.Verifier.ID = "https://example.com/scanner"
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, nil, `by the program "https://example.com/scanner"`},
		"another predicate": {func(t *testing.T, a *audited, s artifact.Summary) {
			a.put(t, "v1", a.signer, a.root, artifact.PredicatePromotion, s)
		}, nil, "no summary of a verification is attached to the root"},
		"not a summary": {func(t *testing.T, a *audited, _ artifact.Summary) {
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, map[string]any{"verifier": "tape"})
		}, nil, "read bundle: predicate"},
		"too old": {func(t *testing.T, a *audited, s artifact.Summary) {
			s.TimeVerified = s.TimeVerified.Add(-48 * time.Hour)
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, func(o *app.VerifyOptions) { o.SummaryAge = 24 * time.Hour }, "more than 24h0m0s ago"},
		"of a negative age": {func(t *testing.T, a *audited, s artifact.Summary) {
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, func(o *app.VerifyOptions) { o.SummaryAge = -time.Hour }, "more than -1h0m0s ago"},
		"from the future": {func(t *testing.T, a *audited, s artifact.Summary) {
			s.TimeVerified = s.TimeVerified.Add(48 * time.Hour)
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, func(o *app.VerifyOptions) { o.SummaryAge = 24 * time.Hour }, "which is in the future"},
		"without a time": {func(t *testing.T, a *audited, s artifact.Summary) {
			s.TimeVerified = time.Time{}
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, nil, "does not say when"},
		"by who signed the root": {func(t *testing.T, a *audited, s artifact.Summary) {
			a.put(t, "v1", a.signedApp.signer, a.root, artifact.PredicateSummary, s)
		}, func(o *app.VerifyOptions) { o.Summary = base.signedApp.public }, "made the summary and also signed the root"},
		"in another repository": {func(t *testing.T, a *audited, s artifact.Summary) {
			a.put(t, "v1", a.signer, a.root, artifact.PredicateSummary, s)
		}, func(o *app.VerifyOptions) { o.SummaryFrom = base.host + "/elsewhere" }, "no summary of a verification is attached to the root"},
	} {
		t.Run(name, func(t *testing.T) {
			// Each has its own copy of the application.
			a := *base
			a.signedApp = &signedApp{env: base.env, host: registrytest.Serve(t, registrytest.GGCR()), root: base.root, signer: base.signedApp.signer}
			a.ref = a.host + "/team/shop:v1"
			if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: base.ref, Target: a.ref}}}); err != nil {
				t.Fatal(err)
			}
			s := good
			s.ResourceURI = strings.Replace(strings.Replace(s.ResourceURI, base.host, a.host, 1), "copied", "shop", 2)
			c.put(t, &a, s)
			r := a.taken(t, c.verify)
			if r.OK || r.Summary != nil || strings.Count(failing(r)["summary"], c.want) != 1 {
				t.Errorf("%v, want %q once", failing(r), c.want)
			}
		})
	}
}

// Attest does not sign a summary that would claim too much or hide something.
func TestAttestRefuses(t *testing.T) {
	a := newAudited(t)
	for name, c := range map[string]struct {
		change func(*app.AttestOptions)
		policy bool
		want   string
	}{
		"by who signed it":        {func(o *app.AttestOptions) { o.Signer = a.signedApp.signer }, true, "attest with another key"},
		"no key":                  {func(o *app.AttestOptions) { o.Signer = nil }, false, "a key is missing"},
		"no policy":               {func(o *app.AttestOptions) { o.Trust, o.Key = "", a.signedApp.public }, false, "a trust file is missing"},
		"with images outside":     {func(o *app.AttestOptions) { o.AllowOutside = true }, false, "let the trust file decide"},
		"of a summary":            {func(o *app.AttestOptions) { o.Summary = a.public }, false, "not from another summary"},
		"an archive":              {func(o *app.AttestOptions) { o.Ref = "archive:" + a.save(t) }, false, "an archive cannot be changed"},
		"to a tag":                {func(o *app.AttestOptions) { o.To = a.ref }, false, "without tag and digest"},
		"beside an old signature": {func(o *app.AttestOptions) { o.Images = true }, true, "would hide that signature from cosign"},
	} {
		_, err := a.attest(t, c.change)
		if err == nil || errors.Is(err, engine.ErrPolicy) != c.policy || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Summaries may be in another repository, also for an application in an archive. If the
// verification fails, only the root gets one.
func TestAttestElsewhere(t *testing.T) {
	a := newAudited(t)
	strange, _ := newKey(t)
	denied := trustFile(t, map[string]string{"vendor": strange}, fmt.Sprintf("applications: [{names: [%q], require: vendor}]", a.host+"/team/*"))
	to := a.host + "/audit/shop"
	from := func(o *app.VerifyOptions) { o.SummaryFrom = to }
	for _, c := range []struct {
		trust, ref, result string
		summaries          int
	}{{a.trust, "archive:" + a.save(t), "PASSED", 2}, {denied, a.ref, "FAILED", 1}} {
		made, err := a.attest(t, func(o *app.AttestOptions) { o.Ref, o.Trust, o.To, o.Images = c.ref, c.trust, to, true })
		if err != nil {
			t.Fatal(err)
		}
		if len(made.Summaries) != c.summaries || made.Summaries[0].Result != c.result || made.OK != (c.result == "PASSED") {
			t.Errorf("%s: %+v, %v", c.result, made.Summaries, failing(&made.VerifyResult))
		}
	}
	if r := a.taken(t, from); !r.OK || r.Summary == nil { // with its policy
		t.Errorf("%v", failing(r))
	}
	if r := a.taken(t, func(o *app.VerifyOptions) { from(o); o.Trust = denied }); r.OK || !strings.Contains(failing(r)["summary"], "says FAILED") {
		t.Errorf("%v", failing(r))
	}
	if r := a.taken(t, nil); r.OK {
		t.Error("there is a summary beside the application")
	}
}

// A certified identity may verify for others, unless it signed the application.
func TestAttestKeyless(t *testing.T) {
	a := newAudited(t)
	s := newSigstore(t, a.env)
	auditor, release := s.signer(t, "auditor@example.com"), s.signer(t, "release@example.com")
	if _, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: a.ref, Signer: release}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.attest(t, func(o *app.AttestOptions) { o.Signer = release }); !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), "attest with another key or identity") {
		t.Errorf("by who signed it: %v", err)
	}
	if _, err := a.attest(t, func(o *app.AttestOptions) { o.Signer = auditor }); err != nil {
		t.Fatal(err)
	}
	view, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: a.ref})
	if err != nil {
		t.Fatal(err)
	}
	if len(view.Summaries) != 1 || view.Summaries[0].By() != "auditor@example.com (of "+s.URL+")" {
		t.Errorf("%+v", view.Summaries)
	}
	s.Close()
	take := func(pattern string) *app.VerifyResult {
		return a.taken(t, func(o *app.VerifyOptions) {
			o.Summary, o.SummaryIdentity = "", app.Identity{TrustedRoot: s.trusted, Issuer: s.URL, Pattern: pattern}
		})
	}
	if r := take("auditor@example.com"); !r.OK || r.Links[len(r.Links)-1].Identity != "auditor@example.com" {
		t.Errorf("%v, %+v", failing(r), r.Links)
	}
	if r := take("release@example.com"); r.OK || !strings.Contains(failing(r)["summary"], "signed by auditor@example.com") {
		t.Errorf("%v", failing(r))
	}
}

// A promotion or a verification does not count as a signature, whether or not the registry
// lists referrers.
func TestListSigned(t *testing.T) {
	for name, dst := range twoRegistries() {
		t.Run(name, func(t *testing.T) {
			a := newSignedApp(t, dst())
			source := t.TempDir()
			if err := os.WriteFile(filepath.Join(source, "a.yaml"), []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := app.Package(t.Context(), app.PackageOptions{Repository: a.host + "/team/shop", Tags: []string{"unsigned"}, Options: app.Options{
				Environment: a.env, Sources: []app.Source{{Path: source}},
			}}); err != nil {
				t.Fatal(err)
			}
			_, signer := newKey(t)
			trust := trustFile(t, map[string]string{"vendor": a.public}, "images: [{names: [registry.example/*], require: vendor}]")
			if _, err := app.Attest(t.Context(), app.AttestOptions{Signer: signer, VerifyOptions: app.VerifyOptions{
				Environment: a.env, Ref: a.host + "/team/shop:unsigned", Trust: trust,
			}}); err != nil {
				t.Fatal(err)
			}
			list, err := app.List(t.Context(), app.ListOptions{Environment: a.env, Repository: a.host + "/team/shop"})
			if err != nil {
				t.Fatal(err)
			}
			for _, listed := range list.Applications {
				if listed.Signed != (listed.Tag == "v1") {
					t.Errorf("%s: signed %v", listed.Tag, listed.Signed)
				}
			}
			if len(list.Applications) != 2 {
				t.Errorf("%+v", list.Applications)
			}
		})
	}
}
