// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
)

// TestForeignTags reads untrusted roots that name tags which they may not set: every reader
// rejects them, and no tag moves.
func TestForeignTags(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	repository, err := a.env.Registry.Repository(a.host + "/team/shop")
	if err != nil {
		t.Fatal(err)
	}
	desc, _, err := repository.Manifest(t.Context(), a.root.String())
	if err != nil {
		t.Fatal(err)
	}
	child := func(index *ocispec.Index, role string) map[string]string {
		i := slices.IndexFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Annotations[artifact.AnnotationRole] == role })
		return index.Manifests[i].Annotations
	}
	sig := func(index *ocispec.Index) map[string]string {
		i := slices.IndexFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Annotations[artifact.AnnotationRelatedTag] != "" })
		return index.Manifests[i].Annotations
	}
	imageTag := func(tag string) func(index *ocispec.Index) {
		return func(index *ocispec.Index) {
			child(index, artifact.RoleImage)[artifact.AnnotationImageTag] = tag
		}
	}
	relatedTag := func(tag string) func(index *ocispec.Index) {
		return func(index *ocispec.Index) { sig(index)[artifact.AnnotationRelatedTag] = tag }
	}
	about := func(d digest.Digest, suffix string) func(index *ocispec.Index) {
		return func(index *ocispec.Index) {
			sig(index)[artifact.AnnotationRelatedTo] = d.String()
			sig(index)[artifact.AnnotationRelatedTag] = registry.FallbackTag(d) + suffix
		}
	}
	var index ocispec.Index
	if err := engine.GetJSON(t.Context(), repository, desc, desc.MediaType, &index); err != nil {
		t.Fatal(err)
	}
	good := child(&index, artifact.RoleImage)[artifact.AnnotationImageTag]
	hex := good[strings.LastIndexByte(good, '.')+1:]
	for name, test := range map[string]struct {
		change func(index *ocispec.Index)
		copies bool // only commands that write tags must reject it
	}{
		"the root's tag":                    {imageTag("v1"), false},
		"another root's tag":                {imageTag("stable"), false},
		"one of its own and another":        {imageTag(good + ",stable"), false},
		"a content's tag":                   {imageTag("manifests.v1"), false},
		"a content's tag with the digest":   {imageTag("manifests.v1." + hex), false},
		"the digest of another":             {imageTag("web.1.00000000"), false},
		"a name that is not the image's":    {imageTag("other.1." + hex), false},
		"the digest alone":                  {imageTag(hex), false},
		"the tag of what is about the root": {imageTag("sha256-" + a.root.Encoded() + ".sig"), false},
		"a source that makes a content's tag": {func(i *ocispec.Index) {
			child(i, artifact.RoleImage)[artifact.AnnotationImageSource] = "registry.example/manifests:v1"
			child(i, artifact.RoleImage)[artifact.AnnotationImageTag] = "manifests.v1." + hex
		}, false},
		"a source in the repository": {func(i *ocispec.Index) {
			child(i, artifact.RoleImage)[artifact.AnnotationImageSource] = a.host + "/team/shop:v1"
			child(i, artifact.RoleImage)[artifact.AnnotationImageTag] = "v1"
		}, false},
		"a related tag of a root":           {relatedTag("v1"), false},
		"a related tag of a content":        {relatedTag("manifests.v1"), false},
		"a related tag of another subject":  {relatedTag("sha256-" + a.root.Encoded() + ".sig"), false},
		"a related tag of another kind":     {relatedTag(registry.FallbackTag(digest.FromString("x")) + ".foo"), false},
		"what is about a root":              {about(a.root, ".sig"), true},
		"what is about an image of another": {about(digest.FromString("x"), ".att"), true},
		"what is about the content":         {about(index.Manifests[0].Digest, ".sbom"), true},
		"two images by one tag, and one of them": {func(i *ocispec.Index) {
			for j := range i.Manifests {
				if i.Manifests[j].Annotations[artifact.AnnotationRole] == artifact.RoleRelated {
					i.Manifests[j].Annotations = map[string]string{
						artifact.AnnotationRole: artifact.RoleImage, artifact.AnnotationImageTag: good,
						artifact.AnnotationImageSource: child(i, artifact.RoleImage)[artifact.AnnotationImageSource],
					}
				}
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var index ocispec.Index
			if err := engine.GetJSON(t.Context(), repository, desc, desc.MediaType, &index); err != nil {
				t.Fatal(err)
			}
			test.change(&index)
			changed, err := engine.MarshalJSON(index)
			if err != nil {
				t.Fatal(err)
			}
			bad := ocispec.Descriptor{MediaType: desc.MediaType, Digest: digest.FromBytes(changed), Size: int64(len(changed))}
			if err := repository.PushManifest(t.Context(), bad, changed, "bad"); err != nil {
				t.Fatal(err)
			}
			ref := a.host + "/team/shop:bad"
			to := a.host + "/team/to"
			victim, err := a.env.Registry.Repository(to)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: a.ref, Target: to}}}); err != nil {
				t.Fatal(err)
			}
			before := tagsOf(t, victim)
			_, copyErr := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: ref, Target: to + ":evil"}}})
			layout := "oci:" + filepath.Join(t.TempDir(), "l")
			_, layoutErr := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: ref, Target: layout}}})
			o := app.RelocateOptions{Source: ref, Repository: to, Tags: []string{"evil"}}
			o.Environment = a.env
			_, relocateErr := app.Relocate(t.Context(), o)
			_, pullErr := app.Pull(t.Context(), app.PullOptions{Environment: a.env, Ref: ref, Dir: filepath.Join(t.TempDir(), "out")})
			_, viewErr := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: ref})
			_, saveErr := app.Save(t.Context(), app.SaveOptions{Environment: a.env, Ref: ref, File: filepath.Join(t.TempDir(), "a.tar")})
			for what, err := range map[string]error{"copy": copyErr, "copy to a layout": layoutErr, "relocate": relocateErr, "pull": pullErr, "view": viewErr, "save": saveErr} {
				if reads := what == "pull" || what == "view" || what == "save"; !errors.Is(err, engine.ErrPolicy) && !(test.copies && reads) {
					t.Errorf("%s: %v, want a refusal", what, err)
				}
			}
			if r := a.verify(t, app.VerifyOptions{Ref: ref}); r.OK {
				t.Error("it verifies")
			}
			if after := tagsOf(t, victim); !slices.Equal(before, after) {
				t.Errorf("tags were %q and are %q", before, after)
			}
		})
	}
}

// tagsOf returns the tags of a repository and the digests that they point to.
func tagsOf(t *testing.T, repository *registry.Repository) []string {
	t.Helper()
	host, path, _ := strings.Cut(repository.Name(), "/")
	resp, err := http.Get("http://" + host + "/v2/" + path + "/tags/list")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var list struct{ Tags []string }
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, tag := range list.Tags {
		desc, err := repository.Resolve(t.Context(), tag)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, tag+"@"+desc.Digest.String())
	}
	slices.Sort(out)
	return out
}

// TestMovedTags moves several tags with each command that can: it names all of them with their
// old digests or, if tags are immutable, fails and moves none.
func TestMovedTags(t *testing.T) {
	p := newPromoted(t)
	_, first := p.release(t, "v1", 1)
	_, second := p.release(t, "v2", 2)
	archive := map[string]string{}
	for _, tag := range []string{"v1", "v2"} {
		archive[tag] = (&signedApp{env: p.env, ref: p.dst + "/dev/shop:" + tag}).save(t)
	}
	for name, c := range map[string]struct {
		tags []string
		move func(repository, from string, immutable bool) ([]transfer.MovedTag, error)
	}{
		"package": {[]string{"live", "manifests.live", "manifests.stable", "stable"}, func(repository, from string, immutable bool) ([]transfer.MovedTag, error) {
			o := p.options()
			o.Created = time.Date(2026, 1, int(from[1]-'0'), 0, 0, 0, 0, time.UTC)
			r, err := app.Package(t.Context(), app.PackageOptions{Options: o, Repository: repository, Tags: []string{"live", "stable"}, Immutable: immutable})
			if err != nil {
				return nil, err
			}
			return r.MovedTags, nil
		}},
		"copy": {[]string{"live", "manifests.live"}, func(repository, from string, immutable bool) ([]transfer.MovedTag, error) {
			r, err := app.Copy(t.Context(), app.CopyOptions{Environment: p.env, Pairs: []app.CopyPair{{Source: p.dst + "/dev/shop:" + from, Target: repository + ":live"}}, Immutable: immutable})
			if err != nil {
				return nil, err
			}
			return r[0].MovedTags, nil
		}},
		"load": {[]string{"live", "manifests.live"}, func(repository, from string, immutable bool) ([]transfer.MovedTag, error) {
			r, err := app.Load(t.Context(), app.LoadOptions{Environment: p.env, File: archive[from], Repository: repository + ":live", Immutable: immutable})
			if err != nil {
				return nil, err
			}
			return r.MovedTags, nil
		}},
		"relocate": {[]string{"live", "manifests.live", "manifests.stable", "stable"}, func(repository, from string, immutable bool) ([]transfer.MovedTag, error) {
			r, err := app.Relocate(t.Context(), app.RelocateOptions{Options: app.Options{Environment: p.env}, Source: p.dst + "/dev/shop:" + from, Repository: repository, Tags: []string{"live", "stable"}, Immutable: immutable})
			if err != nil {
				return nil, err
			}
			return r.MovedTags, nil
		}},
		"promote": {[]string{"live", "manifests.live"}, func(repository, from string, immutable bool) ([]transfer.MovedTag, error) {
			r, err := p.promote(t.Context(), p.dst+"/dev/shop:"+from, func(o *app.PromoteOptions) { o.Target, o.Immutable = repository+":live", immutable })
			if err != nil {
				return nil, err
			}
			return r.MovedTags, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			repository, err := p.env.Registry.Repository(p.dst + "/moved/" + name)
			if err != nil {
				t.Fatal(err)
			}
			led := func() (out []string) {
				for _, tag := range c.tags {
					desc, err := repository.Resolve(t.Context(), tag)
					if err != nil {
						t.Fatal(err)
					}
					out = append(out, tag+" "+desc.Digest.String())
				}
				return out
			}
			move := func(from string, immutable bool) ([]transfer.MovedTag, error) {
				return c.move(p.dst+"/moved/"+name, from, immutable)
			}
			if moved, err := move("v1", true); err != nil || len(moved) > 0 {
				t.Fatalf("new tags: %v, %v", moved, err)
			}
			before := led()
			_, err = move("v2", true)
			if !errdefs.IsAlreadyExists(err) || errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), "tags must not move") {
				t.Errorf("immutable: %v", err)
			}
			for _, tag := range c.tags {
				if err != nil && !strings.Contains(err.Error(), tag+" (sha256:") {
					t.Errorf("immutable: %s is not named in %v", tag, err)
				}
			}
			if after := led(); !slices.Equal(after, before) {
				t.Errorf("refused, and moved %q to %q", before, after)
			}
			if moved, err := move("v1", true); err != nil || len(moved) > 0 {
				t.Errorf("to what it leads to: %v, %v", moved, err)
			}
			moved, err := move("v2", false)
			if err != nil {
				t.Fatal(err)
			}
			var was, is []string
			for _, m := range moved {
				was, is = append(was, m.Tag+" "+m.Was.String()), append(is, m.Tag+" "+m.Is.String())
			}
			if after := led(); !slices.Equal(was, before) || !slices.Equal(is, after) || slices.Equal(before, after) {
				t.Errorf("moved %+v, before %q, after %q", moved, before, after)
			}
		})
	}
	if first == second {
		t.Error("both releases are the same")
	}
}
