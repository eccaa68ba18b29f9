// SPDX-License-Identifier: Apache-2.0

package resolve

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

	containerdimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/stages/images"
)

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

// run runs the stage on references and returns its list and warnings.
func run(t *testing.T, c *registry.Client, config Config, references ...images.Reference) (list images.List, warnings []string, err error) {
	t.Helper()
	stage, err := New(config, images.Origins{Registry: c}, "")
	if err != nil {
		t.Fatal(err)
	}
	result, err := newCase(t, stage, references...).Run(t.Context())
	for _, e := range result.Events {
		if e.Level == engine.Warning {
			warnings = append(warnings, e.Message)
		}
	}
	if err != nil {
		return images.List{}, warnings, err
	}
	if err := result.Outputs["images"].Decode(&list); err != nil {
		t.Fatal(err)
	}
	return list, warnings, nil
}

func newCase(t *testing.T, stage *Stage, references ...images.Reference) stagetest.Case {
	t.Helper()
	report, err := stagetest.JSON(images.MediaTypeReport, images.Report{References: references})
	if err != nil {
		t.Fatal(err)
	}
	return stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{"references": report}}
}

// The stage keeps the contract of stages, also when a reference stays unpinned.
func TestContract(t *testing.T) {
	up := &registrytest.Upstream{Image: func(name, tag string) (registrytest.Image, bool) { return registrytest.Published(), tag != "missing" }}
	stage, err := New(Config{}, images.Origins{Registry: client(t, up)}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := newCase(t, stage, ref("app:1", images.Pod, 1), ref("app:missing", images.Indirect, 2)).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// ref returns a reference located at app.yaml:line:12.
func ref(source string, class images.Class, line int) images.Reference {
	return images.Reference{
		Source: source, Name: normalise(source),
		Locations: []images.Location{{File: "app.yaml", Line: line, Column: 12, Offset: 100 * line, Class: class, Value: source}},
	}
}

func mustResolve(t *testing.T, up *registrytest.Upstream, name, tag string) ocispec.Descriptor {
	t.Helper()
	desc, err := up.Resolve(name, tag)
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

func TestNames(t *testing.T) {
	up := &registrytest.Upstream{}
	nginx := mustResolve(t, up, "docker.io/library/nginx", "latest")
	pause := mustResolve(t, up, "registry.k8s.io/pause", "3.10")
	local := mustResolve(t, up, "localhost:5000/team/x", "1")
	const other = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	list, warnings, err := run(t, client(t, up), Config{},
		ref("registry.k8s.io/pause:3.10", images.Pod, 5),
		ref("nginx", images.Pod, 9),
		ref("docker.io/library/nginx:latest", images.CRD, 3),
		ref("localhost:5000/team/x:1@"+local.Digest.String(), images.Pod, 7),
		ref("localhost:5000/team/x@"+local.Digest.String(), images.Indirect, 8),
		ref("ghcr.io/gone/x@"+other, images.Indirect, 10),
	)
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		Ref, Source, Name string
		Provided          bool
		Lines             []int
		Manifests         int
	}
	var got []entry
	for _, image := range list.Images {
		e := entry{image.Ref, image.Source, image.Name, image.DigestProvided, nil, len(image.Manifests)}
		for _, l := range image.Locations {
			e.Lines = append(e.Lines, l.Line)
		}
		got = append(got, e)
		if image.MediaType != ocispec.MediaTypeImageIndex || image.Size == 0 {
			t.Errorf("%s is %s of %d bytes", image.Source, image.MediaType, image.Size)
		}
	}
	want := []entry{
		{"docker.io/library/nginx:latest@" + nginx.Digest.String(), "docker.io/library/nginx:latest", "docker.io/library/nginx:latest", false, []int{3, 9}, 4},
		{"localhost:5000/team/x:1@" + local.Digest.String(), "localhost:5000/team/x:1@" + local.Digest.String(), "localhost:5000/team/x:1@" + local.Digest.String(), true, []int{7}, 4},
		{"localhost:5000/team/x@" + local.Digest.String(), "localhost:5000/team/x@" + local.Digest.String(), "localhost:5000/team/x@" + local.Digest.String(), true, []int{8}, 4},
		{"registry.k8s.io/pause:3.10@" + pause.Digest.String(), "registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10", false, []int{5}, 4},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if len(warnings) != 1 || len(list.Unpinned) != 1 || list.Unpinned[0].Source != "ghcr.io/gone/x@"+other {
		t.Errorf("unpinned %+v, warnings %q", list.Unpinned, warnings)
	}
}

// The manifests of an index are listed with its attestations.
func TestManifests(t *testing.T) {
	up := &registrytest.Upstream{Image: func(name, tag string) (registrytest.Image, bool) {
		return registrytest.Image{Platforms: []string{"linux/amd64", "linux/arm/v7"}, Inline: 2, Docker: tag == "docker", Single: tag == "single"}, true
	}}
	list, _, err := run(t, client(t, up), Config{},
		ref("app:docker", images.Pod, 1), ref("app:oci", images.Pod, 2), ref("app:single", images.Pod, 3))
	if err != nil {
		t.Fatal(err)
	}
	type child struct {
		MediaType, Platform string
		About               int // the child that this one is about, from 1
	}
	var got [][]child
	for _, image := range list.Images {
		var children []child
		for _, m := range image.Manifests {
			c := child{m.MediaType, m.Platform, 0}
			for i, other := range image.Manifests {
				if m.Reference == other.Digest {
					c.About = i + 1
				}
			}
			children = append(children, c)
			if up.Manifest("docker.io/library/app", m.Digest) == nil || m.Size == 0 {
				t.Errorf("%s: no manifest %s of %d bytes", image.Source, m.Digest, m.Size)
			}
		}
		got = append(got, children)
	}
	want := [][]child{
		{
			{containerdimages.MediaTypeDockerSchema2Manifest, "linux/amd64", 0}, {containerdimages.MediaTypeDockerSchema2Manifest, "linux/arm/v7", 0},
			{ocispec.MediaTypeImageManifest, "unknown/unknown", 1}, {ocispec.MediaTypeImageManifest, "unknown/unknown", 2},
		},
		{
			{ocispec.MediaTypeImageManifest, "linux/amd64", 0}, {ocispec.MediaTypeImageManifest, "linux/arm/v7", 0},
			{ocispec.MediaTypeImageManifest, "unknown/unknown", 1}, {ocispec.MediaTypeImageManifest, "unknown/unknown", 2},
		},
		{{ocispec.MediaTypeImageManifest, "", 0}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifests (-want +got):\n%s", diff)
	}
}

func TestPlatform(t *testing.T) {
	up := &registrytest.Upstream{Image: func(name, tag string) (registrytest.Image, bool) {
		img := registrytest.Image{Inline: 1, Platforms: []string{"linux/386", "linux/amd64", "linux/arm/v6", "linux/arm/v5", "linux/arm64", "windows/amd64"}}
		img.Single = tag == "single"
		return img, true
	}}
	index := mustResolve(t, up, "docker.io/library/app", "1")
	for _, tt := range []struct {
		platform, source, want, err string
	}{
		{"linux/amd64", "app:1", "linux/amd64", ""},
		{"linux/arm64", "app:1", "linux/arm64", ""},
		{"linux/arm64/v8", "app:1", "linux/arm64", ""},
		{"linux/arm/v7", "app:1", "linux/arm/v6", ""},
		{"linux/amd64", "app:1@" + index.Digest.String(), "linux/amd64", ""},
		{"linux/386", "app:single", "", ""},
		{"linux/amd64", "app:single", "", "it has no linux/amd64, only linux/386"},
		{"linux/s390x", "app:1", "", "it has no linux/s390x, only linux/386, linux/amd64, linux/arm/v6, linux/arm/v5, linux/arm64, windows/amd64"},
	} {
		t.Run(tt.platform+" "+tt.source, func(t *testing.T) {
			list, _, err := run(t, client(t, up), Config{Platform: tt.platform}, ref(tt.source, images.Pod, 1))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			image := list.Images[0]
			if len(image.Manifests) != 1 || image.Manifests[0].Digest != image.Digest || image.Manifests[0].Platform != tt.want ||
				image.Platform != tt.platform || !strings.HasSuffix(image.Ref, "@"+image.Digest.String()) || strings.Count(image.Ref, "@") != 1 {
				t.Errorf("chose %+v", image)
			}
			if indexed := tt.want != ""; indexed != (image.IndexDigest == index.Digest) {
				t.Errorf("index %s", image.IndexDigest)
			}
		})
	}
}

func TestBadPlatform(t *testing.T) {
	for _, platform := range []string{"amd64", "linux", "linux/amd64/v1/x", "li nux/amd64"} {
		if _, err := New(Config{Platform: platform}, images.Origins{Registry: nil}, ""); err == nil || !strings.Contains(err.Error(), "give it as os/arch") {
			t.Errorf("platform %q: %v", platform, err)
		}
	}
}

func TestLockedDigestsComeFirst(t *testing.T) {
	salt := ""
	up := &registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) { return registrytest.Image{Salt: salt}, true }}
	old := mustResolve(t, up, "docker.io/library/nginx", "1")
	salt = "pushed again"
	mustResolve(t, up, "docker.io/library/nginx", "1")
	count := registrytest.Count(up)
	list, _, err := run(t, client(t, count), Config{Digests: map[string]digest.Digest{"docker.io/library/nginx:1": old.Digest}}, ref("nginx:1", images.Pod, 1))
	if err != nil {
		t.Fatal(err)
	}
	if image := list.Images[0]; image.Digest != old.Digest || image.DigestProvided {
		t.Errorf("resolved to %s, locked %s", image.Digest, old.Digest)
	}
	if diff := cmp.Diff(map[string]int{"GET manifests": 1}, count.Stats().Requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestOffline(t *testing.T) {
	const d = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	count := registrytest.Count(http.NotFoundHandler())
	list, _, err := run(t, client(t, count), Config{Offline: true}, ref("nginx:1", images.Pod, 1), ref("nginx:2@"+d, images.Pod, 2))
	if err != nil {
		t.Fatal(err)
	}
	want := []images.Image{
		{Ref: "nginx:1", Source: "nginx:1", Name: "docker.io/library/nginx:1"},
		{Ref: "nginx:2@" + d, Source: "nginx:2@" + d, Name: "docker.io/library/nginx:2@" + d, Digest: d, DigestProvided: true},
	}
	if diff := cmp.Diff(want, list.Images, cmpopts.IgnoreFields(images.Image{}, "Locations"), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if n := count.Stats().Total(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// Two tags of one image, one of them spelled in two ways, cost one request each.
func TestRequests(t *testing.T) {
	up := &registrytest.Upstream{}
	count := registrytest.Count(up)
	if _, _, err := run(t, client(t, count), Config{}, ref("app:1", images.Pod, 1), ref("docker.io/library/app:1", images.Pod, 2), ref("app:2", images.Pod, 3)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"GET manifests": 2}, count.Stats().Requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestEveryFailureIsReported(t *testing.T) {
	up := &registrytest.Upstream{Image: func(name, tag string) (registrytest.Image, bool) {
		return registrytest.Image{Schema1: tag == "ancient"}, !strings.HasPrefix(tag, "missing")
	}}
	private := registrytest.Misbehave(up, registrytest.Of("/private/", registrytest.Is(registrytest.Manifests)), registrytest.Status(http.StatusForbidden))
	twice := ref("ghcr.io/team/app:missing", images.Pod, 4)
	for line := 5; line < 9; line++ {
		twice.Locations = append(twice.Locations, ref("", images.Indirect, line).Locations...)
	}
	_, warnings, err := run(t, client(t, private), Config{},
		ref("quay.io/private/app:1", images.CRD, 3), twice, ref("fine", images.Pod, 1),
		ref("docker.io/old/app:ancient", images.Pod, 2), ref("ghcr.io/perhaps:missing", images.Indirect, 20))
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	want := []string{
		"3 of 5 images:",
		"image docker.io/old/app:ancient (app.yaml:2:12): ",
		"image ghcr.io/team/app:missing (app.yaml:4:12, app.yaml:5:12, app.yaml:6:12 and 2 more): ",
		"image quay.io/private/app:1 (app.yaml:3:12): ",
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), err)
	}
	for i, prefix := range want {
		if !strings.HasPrefix(lines[i], prefix) {
			t.Errorf("line %d is %q, want %q…", i, lines[i], prefix)
		}
	}
	for i, part := range map[int]string{1: "schema 1", 2: "not found", 3: "log in to quay.io"} {
		if !strings.Contains(lines[i], part) {
			t.Errorf("line %d is %q, without %q", i, lines[i], part)
		}
	}
	if !errdefs.IsNotFound(err) {
		t.Error("the class of the failures is lost")
	}
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], "ghcr.io/perhaps:missing (app.yaml:20:12) stays as written: ") {
		t.Errorf("warnings %q", warnings)
	}
}

// An indirect reference may not be an image. If its registry does not have it or
// denies access, it stays as written. An unreachable registry is still an error.
func TestIndirect(t *testing.T) {
	notFound := http.NotFoundHandler()
	hub := &registrytest.Bearer{Next: notFound}
	for _, tt := range []struct {
		name    string
		handler http.Handler
		fails   bool
	}{
		{"not found", notFound, false},
		{"a registry that denies access to what does not exist", hub, false},
		{"forbidden", registrytest.Basic(notFound, "u", "p"), false},
		{"schema 1", &registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) { return registrytest.Image{Schema1: true}, true }}, false},
		{"not implemented", registrytest.Misbehave(notFound, registrytest.Is(registrytest.Manifests), registrytest.Status(http.StatusNotImplemented)), true},
		{"bad request", registrytest.Misbehave(notFound, registrytest.Is(registrytest.Manifests), registrytest.Status(http.StatusBadRequest)), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, class := range []images.Class{images.Indirect, images.Pod, images.CRD} {
				list, warnings, err := run(t, client(t, tt.handler), Config{}, ref("team/app:1", class, 1))
				if fails := tt.fails || class != images.Indirect; fails {
					if err == nil {
						t.Errorf("%s: no error", class)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", class, err)
				}
				if len(list.Images) != 0 || len(list.Unpinned) != 1 || len(warnings) != 1 || list.Unpinned[0].Reason == "" {
					t.Errorf("%s: %+v, warnings %q", class, list, warnings)
				}
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	if err := registrytest.WriteHosts(dir, "down.example", registrytest.Unreachable(t)); err != nil {
		t.Fatal(err)
	}
	c, err := registry.New(registry.Options{HostsDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(t, c, Config{}, ref("down.example/app:1", images.Indirect, 1)); err == nil || !errdefs.IsUnavailable(err) {
		t.Errorf("an indirect reference to a registry that is down: %v", err)
	}
}

func TestAbsent(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{errdefs.ErrNotFound, true},
		{errdefs.ErrUnauthenticated, true},
		{errdefs.ErrPermissionDenied, true},
		{errdefs.ErrNotImplemented, true},
		{fmt.Errorf("lookup: %w: %w", errdefs.ErrUnavailable, &net.DNSError{IsNotFound: true}), true},
		{fmt.Errorf("lookup: %w: %w", errdefs.ErrUnavailable, &net.DNSError{IsTemporary: true}), false},
		{errdefs.ErrUnavailable, false},
		{errdefs.ErrDataLoss, false},
		{errors.New("whatever"), false},
	} {
		if got := absent(tt.err); got != tt.want {
			t.Errorf("absent(%v) = %v", tt.err, got)
		}
	}
}

// A location that must not be pinned is listed, and its image is still copied if it
// exists.
func TestNever(t *testing.T) {
	up := &registrytest.Upstream{Image: func(name, tag string) (registrytest.Image, bool) { return registrytest.Image{}, tag != "missing" }}
	never := func(r images.Reference) images.Reference {
		r.Locations[0].Never = "the operator appends the version"
		return r
	}
	both := never(ref("app:1", images.CRD, 1))
	both.Locations = append(both.Locations, ref("app:1", images.Pod, 2).Locations...)
	list, warnings, err := run(t, client(t, up), Config{}, both, never(ref("app:missing", images.CRD, 3)))
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Images) != 1 || len(list.Images[0].Locations) != 2 {
		t.Errorf("images %+v", list.Images)
	}
	if len(list.Unpinned) != 2 || list.Unpinned[0].Reason != "the operator appends the version" || len(list.Unpinned[0].Locations) != 1 {
		t.Errorf("unpinned %+v", list.Unpinned)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "app:missing") {
		t.Errorf("warnings %q", warnings)
	}
}

func TestInvalidReference(t *testing.T) {
	_, _, err := run(t, client(t, http.NotFoundHandler()), Config{}, ref("Not/Lower", images.Pod, 6))
	if err == nil || !strings.Contains(err.Error(), "image Not/Lower (app.yaml:6:12): ") || !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
}

func TestCancelled(t *testing.T) {
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	asked := registrytest.Misbehave(http.NotFoundHandler(), registrytest.Is(registrytest.Manifests), func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			cancel(interrupted)
			<-r.Context().Done()
		})
	})
	stage, err := New(Config{}, images.Origins{Registry: client(t, asked)}, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = newCase(t, stage, ref("app:1", images.Pod, 1)).Run(ctx)
	if !errors.Is(err, interrupted) {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestKind(t *testing.T) {
	kind := Kind(images.Origins{}, "", "", nil)
	if _, err := kind.New(json.RawMessage(`{"platform":"linux/arm64","digests":{"a":"sha256:0"}}`)); err != nil {
		t.Error(err)
	}
	if _, err := kind.New(json.RawMessage(`{"platform":1}`)); err == nil {
		t.Error("a number was accepted as platform")
	}
	if !json.Valid(kind.Schema) {
		t.Error("the schema is not JSON")
	}
}

// A registry whose host name does not exist is not an outage.
func TestNoSuchHost(t *testing.T) {
	c, err := registry.New(registry.Options{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "typo.example", IsNotFound: true}
	}})
	if err != nil {
		t.Fatal(err)
	}
	list, warnings, err := run(t, c, Config{}, ref("typo.example/app:1", images.Indirect, 1))
	if err != nil || len(list.Unpinned) != 1 || len(warnings) != 1 || !strings.Contains(warnings[0], "no such host") {
		t.Errorf("%+v, warnings %q, %v", list, warnings, err)
	}
	if _, _, err := run(t, c, Config{}, ref("typo.example/app:1", images.Pod, 1)); err == nil || !strings.Contains(err.Error(), "typo.example: no such host") {
		t.Errorf("got %v", err)
	}
}

// A manifest that readers disagree on is refused, and one that no node can run is a warning.
func TestOddManifests(t *testing.T) {
	const index, manifest = ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest
	config := `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`
	for _, test := range []struct{ mediaType, text, warning, err string }{
		{manifest, config + `,"layers":[]`, "", ""},
		{manifest, config + `,"layers":[],"manifests":[]`, "", "it is an image manifest with a list of manifests"},
		{index, `"manifests":[],"layers":[]`, "", "it is an index with layers or a config"},
		{index, `"manifests":[]`, "its index lists no manifests", ""},
		{index, `"manifests":null`, "its index lists no manifests", ""},
		{manifest, `"config":null,"layers":[]`, "its manifest has no config", ""},
		{manifest, config + `,"layers":null`, "its manifest has no list of layers", ""},
		{manifest, config, "its manifest has no list of layers", ""},
	} {
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", test.mediaType)
			fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,%s}`, test.mediaType, test.text)
		})
		_, warnings, err := run(t, client(t, h), Config{}, ref("registry.example/web:1", images.Pod, 1))
		if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: got %v, want %q", test.text, err, test.err)
		}
		if want := "image registry.example/web:1: no node can run it: " + test.warning; test.warning == "" && len(warnings) > 0 || test.warning != "" && !slices.Equal(warnings, []string{want}) {
			t.Errorf("%s: warnings %q, want %q", test.text, warnings, test.warning)
		}
	}
}
