// SPDX-License-Identifier: Apache-2.0

package discover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/stages/images"
)

const name = "registry.example/team/app"

// upstream returns a registry in which every image is as described.
func upstream(img registrytest.Image) *registrytest.Upstream {
	return &registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) { return img, true }}
}

// client returns a client that sends requests for every registry to the handler.
func client(t *testing.T, h http.Handler) *registry.Client {
	t.Helper()
	dir := t.TempDir()
	if err := registrytest.WriteHosts(dir, "_default", registrytest.Serve(t, h)); err != nil {
		t.Fatal(err)
	}
	c, err := registry.New(registry.Options{HostsDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// image returns what resolve returns for a tag.
func image(t *testing.T, up *registrytest.Upstream, tag string) images.Image {
	t.Helper()
	desc, err := up.Resolve(name, tag)
	if err != nil {
		t.Fatal(err)
	}
	out := images.Image{
		Ref: name + ":" + tag + "@" + desc.Digest.String(), Source: name + ":" + tag, Name: name + ":" + tag,
		Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size,
	}
	var index ocispec.Index
	if err := json.Unmarshal(up.Manifest(name, desc.Digest), &index); err != nil {
		t.Fatal(err)
	}
	for _, m := range index.Manifests {
		out.Manifests = append(out.Manifests, images.Manifest{
			Digest: m.Digest, MediaType: m.MediaType, Size: m.Size, Platform: m.Platform.OS + "/" + m.Platform.Architecture,
			Reference: digest.Digest(m.Annotations["vnd.docker.reference.digest"]),
		})
	}
	if index.Manifests == nil {
		out.Manifests = []images.Manifest{{Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size}}
	}
	return out
}

func run(t *testing.T, c *registry.Client, config Config, list ...images.Image) (out images.List, warnings []string, err error) {
	t.Helper()
	stage, err := New(config, images.Origins{Registry: c})
	if err != nil {
		t.Fatal(err)
	}
	result, err := newCase(t, stage, list...).Run(t.Context())
	for _, e := range result.Events {
		if e.Level == engine.Warning {
			warnings = append(warnings, e.Message)
		}
	}
	if err != nil {
		return images.List{}, warnings, err
	}
	if err := result.Outputs["images"].Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out, warnings, nil
}

func newCase(t *testing.T, stage *Stage, list ...images.Image) stagetest.Case {
	t.Helper()
	input, err := stagetest.JSON(images.MediaTypeList, images.List{Images: list})
	if err != nil {
		t.Fatal(err)
	}
	return stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{"images": input}}
}

func TestContract(t *testing.T) {
	up := upstream(registrytest.Published())
	stage, err := New(Config{}, images.Origins{Registry: client(t, up)})
	if err != nil {
		t.Fatal(err)
	}
	if err := newCase(t, stage, image(t, up, "1"), image(t, up, "2")).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// entry is a related manifest without its digest. About is "index" or a platform.
type entry struct {
	About, Kind, Via, Tag, ArtifactType string
}

// entries lists the related manifests of an image without their digests.
func entries(t *testing.T, up *registrytest.Upstream, img images.Image) []entry {
	t.Helper()
	var out []entry
	for i, r := range img.Related {
		e := entry{"index", r.Kind, r.Via, "", r.ArtifactType}
		for _, m := range img.Manifests {
			if m.Digest == r.To && m.Digest != img.Digest {
				e.About = m.Platform
			}
		}
		if r.Tag != "" {
			prefix := "sha256-" + r.To.Encoded()
			if !strings.HasPrefix(r.Tag, prefix) {
				t.Errorf("tag %s is not about %s", r.Tag, r.To)
			}
			e.Tag = strings.TrimPrefix(r.Tag, prefix)
		}
		if data := up.Manifest(name, r.Digest); data == nil || int64(len(data)) != r.Size || r.MediaType != ocispec.MediaTypeImageManifest {
			t.Errorf("%+v is not what its registry has", r)
		}
		if i > 0 && (r.To < img.Related[i-1].To || r.To == img.Related[i-1].To && r.Digest < img.Related[i-1].Digest) {
			t.Errorf("entry %d is out of order", i)
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return out
}

func TestFinds(t *testing.T) {
	const bundle, notation = registrytest.SigstoreBundle, "application/vnd.cncf.notary.signature"
	signature := registrytest.Bundle("https://sigstore.dev/cosign/sign/v1")
	for _, tt := range []struct {
		name    string
		img     registrytest.Image
		related string
		want    []entry
	}{
		{"nothing", registrytest.Image{}, "", nil},
		{"published", registrytest.Published(), "", []entry{
			{"index", images.SBOM, images.Referrer, "", registrytest.SPDX},
			{"index", images.Signature, images.Tag, ".sig", ""},
			{"linux/amd64", images.Attestation, images.Inline, "", ""},
			{"linux/amd64", images.SBOM, images.Inline, "", ""},
			{"linux/arm64", images.Attestation, images.Inline, "", ""},
			{"linux/arm64", images.SBOM, images.Inline, "", ""},
		}},
		{"none but what is inline", registrytest.Published(), None, []entry{
			{"linux/amd64", images.Attestation, images.Inline, "", ""},
			{"linux/amd64", images.SBOM, images.Inline, "", ""},
			{"linux/arm64", images.Attestation, images.Inline, "", ""},
			{"linux/arm64", images.SBOM, images.Inline, "", ""},
		}},
		{"several of each", registrytest.Image{Inline: 4, Signatures: 2, Attestations: 3, SBOMs: 2, Deep: true, Platforms: []string{"linux/amd64"}}, "", []entry{
			{"index", images.Attestation, images.Tag, ".att", ""},
			{"index", images.SBOM, images.Tag, ".sbom", ""},
			{"index", images.Signature, images.Tag, ".sig", ""},
			{"linux/amd64", images.Attestation, images.Inline, "", ""},
			{"linux/amd64", images.Attestation, images.Tag, ".att", ""},
			{"linux/amd64", images.SBOM, images.Inline, "", ""},
			{"linux/amd64", images.SBOM, images.Tag, ".sbom", ""},
			{"linux/amd64", images.Signature, images.Tag, ".sig", ""},
		}},
		{"provenance alone", registrytest.Image{Inline: 1, Platforms: []string{"linux/amd64"}}, "", []entry{
			{"linux/amd64", images.Attestation, images.Inline, "", ""},
		}},
		{"one manifest", registrytest.Image{Single: true, Signatures: 1, Referrers: []registrytest.Artifact{signature}}, "", []entry{
			{"index", images.Signature, images.Referrer, "", bundle},
			{"index", images.Signature, images.Tag, ".sig", ""},
		}},
		{"referrers of every kind", registrytest.Image{Referrers: []registrytest.Artifact{
			signature, signature, registrytest.Bundle("https://slsa.dev/provenance/v1"), {Type: notation}, {Type: "application/vnd.cyclonedx+json"},
			{Type: "application/vnd.acme.scan+json"}, {Type: registrytest.InToto},
		}}, "", []entry{
			{"index", images.Attestation, images.Referrer, "", bundle},
			{"index", images.Attestation, images.Referrer, "", registrytest.InToto},
			{"index", images.SBOM, images.Referrer, "", "application/vnd.cyclonedx+json"},
			{"index", images.Signature, images.Referrer, "", notation},
			{"index", images.Signature, images.Referrer, "", bundle},
			{"index", images.Signature, images.Referrer, "", bundle},
		}},
		{"all", registrytest.Image{Referrers: []registrytest.Artifact{{Type: "application/vnd.acme.scan+json"}}}, All, []entry{
			{"index", images.Other, images.Referrer, "", "application/vnd.acme.scan+json"},
		}},
		{"referrers of platforms", registrytest.Image{Deep: true, Referrers: []registrytest.Artifact{signature}}, "", []entry{
			{"index", images.Signature, images.Referrer, "", bundle},
			{"linux/amd64", images.Signature, images.Referrer, "", bundle},
			{"linux/arm64", images.Signature, images.Referrer, "", bundle},
		}},
	} {
		for _, api := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, referrers API %v", tt.name, api), func(t *testing.T) {
				up := upstream(tt.img)
				up.NoReferrersAPI = !api
				list, warnings, err := run(t, client(t, up), Config{Related: tt.related}, image(t, up, "1"))
				if err != nil {
					t.Fatal(err)
				}
				if len(warnings) != 0 || len(list.Unknown) != 0 {
					t.Errorf("warnings %q, unknown %q", warnings, list.Unknown)
				}
				if diff := cmp.Diff(tt.want, entries(t, up, list.Images[0])); diff != "" {
					t.Errorf("related (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A registry may list a referrer without its artifact type and annotations.
func TestReadsWhatTheListDoesNotSay(t *testing.T) {
	up := upstream(registrytest.Image{Single: true, Referrers: []registrytest.Artifact{
		registrytest.Bundle("https://sigstore.dev/cosign/sign/v1"), registrytest.Bundle("https://spdx.dev/Document"),
	}})
	img := image(t, up, "1")
	// As go-containerregistry's registry does.
	poor := registrytest.Misbehave(up, registrytest.Is(registrytest.Referrers), func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&poorList{w}, r)
		})
	})
	list, _, err := run(t, client(t, poor), Config{}, img)
	if err != nil {
		t.Fatal(err)
	}
	want := []entry{
		{"index", images.Attestation, images.Referrer, "", registrytest.SigstoreBundle},
		{"index", images.Signature, images.Referrer, "", registrytest.SigstoreBundle},
	}
	if diff := cmp.Diff(want, entries(t, up, list.Images[0])); diff != "" {
		t.Errorf("related (-want +got):\n%s", diff)
	}
}

type poorList struct{ http.ResponseWriter }

func (w *poorList) Write(p []byte) (int, error) {
	var index ocispec.Index
	if err := json.Unmarshal(p, &index); err != nil {
		return 0, err
	}
	for i := range index.Manifests {
		index.Manifests[i].ArtifactType, index.Manifests[i].Annotations = ocispec.MediaTypeEmptyJSON, nil
	}
	data, err := json.Marshal(index)
	if err != nil {
		return 0, err
	}
	w.Header().Del("Content-Length")
	if _, err := w.ResponseWriter.Write(data); err != nil {
		return 0, err
	}
	return len(p), nil
}

// A manifest that cosign publishes by tag and as a referrer is listed once, by tag.
func TestFoundTwice(t *testing.T) {
	up := upstream(registrytest.Image{Single: true, Referrers: []registrytest.Artifact{registrytest.Bundle("https://sigstore.dev/cosign/sign/v1")}})
	img := image(t, up, "1")
	both := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sig") {
			list, _, err := run(t, client(t, up), Config{}, img)
			if err != nil {
				t.Error(err)
				return
			}
			r.URL.Path = strings.Replace(r.URL.Path, "sha256-"+img.Digest.Encoded()+".sig", list.Images[0].Related[0].Digest.String(), 1)
		}
		up.ServeHTTP(w, r)
	})
	list, _, err := run(t, client(t, both), Config{}, img)
	if err != nil {
		t.Fatal(err)
	}
	want := []entry{{"index", images.Signature, images.Tag, ".sig", registrytest.SigstoreBundle}}
	if diff := cmp.Diff(want, entries(t, up, list.Images[0])); diff != "" {
		t.Errorf("related (-want +got):\n%s", diff)
	}
}

// Each question costs one request, even if several images ask it.
func TestRequests(t *testing.T) {
	for _, tt := range []struct {
		name    string
		related string
		want    map[string]int
	}{
		// Three subjects, three tags and a list each; two inline manifests.
		{"default", Default, map[string]int{"GET manifests": 3, "HEAD manifests": 8, "GET referrers": 3}},
		{"none", None, map[string]int{"GET manifests": 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := upstream(registrytest.Image{Inline: 2, Signatures: 1})
			img := image(t, up, "1")
			again := img
			again.Source, again.Name = name+":latest", name+":latest"
			count := registrytest.Count(up)
			list, _, err := run(t, client(t, count), Config{Related: tt.related}, img, again)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(list.Images[0].Related, list.Images[1].Related); diff != "" {
				t.Errorf("two names of one image differ:\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, count.Stats().Requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// If one platform of an image was chosen, nothing about the index is taken.
func TestChosenPlatform(t *testing.T) {
	up := upstream(registrytest.Image{Inline: 2, Signatures: 1, Deep: true})
	img := image(t, up, "1")
	img.IndexDigest, img.Platform = img.Digest, "linux/amd64"
	img.Manifests = img.Manifests[:1]
	img.Digest = img.Manifests[0].Digest
	list, _, err := run(t, client(t, up), Config{}, img)
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Images[0].Related) != 1 || list.Images[0].Related[0].To != img.Digest {
		t.Errorf("related %+v", list.Images[0].Related)
	}
}

// A mirror without the referrers API in front of an unreachable registry causes a
// warning, and the related manifests are unknown, not absent.
func TestUnknown(t *testing.T) {
	up := upstream(registrytest.Published())
	img := image(t, up, "1")
	dir := t.TempDir()
	if err := registrytest.WriteMirror(dir, "_default", registrytest.Serve(t, registrytest.NoReferrers(up)), "pull", "resolve"); err != nil {
		t.Fatal(err)
	}
	mirrored := registrytest.Serve(t, up)
	if err := registrytest.WriteMirror(dir, "registry.example", mirrored, "pull", "resolve"); err != nil {
		t.Fatal(err)
	}
	c, err := registry.New(registry.Options{HostsDir: dir, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != mirrored {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}}
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	if err != nil {
		t.Fatal(err)
	}
	list, warnings, err := run(t, c, Config{}, img)
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Unknown) != 1 || !strings.HasPrefix(list.Unknown[0], name+":1: which signatures, attestations and SBOMs it has is not known: ") {
		t.Errorf("unknown %q", list.Unknown)
	}
	if diff := cmp.Diff(list.Unknown, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if got := entries(t, up, list.Images[0]); !slices.Contains(got, entry{"index", images.Signature, images.Tag, ".sig", ""}) {
		t.Errorf("what the mirror has is not found: %+v", got)
	}
}

// A referrer that a registry lists and does not have causes a warning; the others are taken.
func TestMissingReferrer(t *testing.T) {
	up := upstream(registrytest.Published())
	img := image(t, up, "1")
	whole, _, err := run(t, client(t, up), Config{}, img)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(whole.Images[0].Related, func(r images.Related) bool { return r.Via == images.Referrer })
	gone := whole.Images[0].Related[i]
	lost := registrytest.Misbehave(up, registrytest.Of(gone.Digest.String(), registrytest.Is(registrytest.Manifests)), registrytest.Status(http.StatusNotFound))
	list, warnings, err := run(t, client(t, lost), Config{}, img)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], name+":1: ") || !strings.Contains(warnings[0], gone.Digest.String()+" is listed") {
		t.Errorf("warnings %q", warnings)
	}
	want := slices.DeleteFunc(whole.Images[0].Related, func(r images.Related) bool { return r.Digest == gone.Digest || r.To == gone.Digest })
	if diff := cmp.Diff(want, list.Images[0].Related); diff != "" {
		t.Errorf("related (-want +got):\n%s", diff)
	}
}

func TestFails(t *testing.T) {
	up := upstream(registrytest.Published())
	img := image(t, up, "1")
	for _, tt := range []struct {
		name string
		when registrytest.Match
		how  registrytest.Fault
	}{
		{"a tag", registrytest.Of(".sig", registrytest.Is(registrytest.Manifests)), registrytest.Status(http.StatusNotImplemented)},
		{"an attestation manifest", registrytest.Of(img.Manifests[2].Digest.String(), registrytest.Is(registrytest.Manifests)), registrytest.Status(http.StatusBadRequest)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := run(t, client(t, registrytest.Misbehave(up, tt.when, tt.how)), Config{}, img); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// An attestation manifest that its registry has lost is listed; mirror reports it.
func TestLostInline(t *testing.T) {
	up := upstream(registrytest.Image{Inline: 2, Platforms: []string{"linux/amd64"}})
	img := image(t, up, "1")
	lost := registrytest.Misbehave(up, registrytest.Of(img.Manifests[1].Digest.String(), registrytest.Is(registrytest.Manifests)), registrytest.Status(http.StatusNotFound))
	list, _, err := run(t, client(t, lost), Config{}, img)
	if err != nil {
		t.Fatal(err)
	}
	want := []entry{{"linux/amd64", images.Attestation, images.Inline, "", ""}}
	if diff := cmp.Diff(want, entries(t, up, list.Images[0])); diff != "" {
		t.Errorf("related (-want +got):\n%s", diff)
	}
}

func TestCancelled(t *testing.T) {
	up := upstream(registrytest.Published())
	img := image(t, up, "1")
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	asked := registrytest.Misbehave(up, registrytest.Is(registrytest.Referrers), func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			cancel(interrupted)
			<-r.Context().Done()
		})
	})
	stage, err := New(Config{}, images.Origins{Registry: client(t, asked)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newCase(t, stage, img).Run(ctx); !errors.Is(err, interrupted) {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{Related: "some"}, images.Origins{Registry: nil}); err == nil || !strings.Contains(err.Error(), `"some"`) {
		t.Errorf("got %v", err)
	}
	kind := Kind(images.Origins{})
	if _, err := kind.New(json.RawMessage(`{"related":"all"}`)); err != nil {
		t.Error(err)
	}
	if !json.Valid(kind.Schema) {
		t.Error("the schema is not JSON")
	}
}
