// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
)

// TestRename renames images and back, in whole references and in split ones.
func TestRename(t *testing.T) {
	const name = "docker.io/istio/proxyv2:1.0"
	d := digest.FromString("proxy")
	single := Naming{Repository: "example.com/team/shop", Taped: "example.com/team/shop"}
	many := Naming{Repository: "example.org/user", OneToOne: true, Taped: single.Repository}
	here := "example.com/team/shop:proxyv2.1.0." + short(d) + "@" + d.String()
	there := "example.org/user/istio-proxyv2-f93a2cacc6cafa0474a2d6990a4dd1a0:1.0@" + d.String()

	written := "example.com/team/shop:1.0@" + d.String()

	for _, test := range []struct {
		what   string
		fields []string
		want   []string
	}{
		{"whole, with the tag as written", []string{written}, []string{there}},
		{"without the tag, as written", []string{"example.com/team/shop@" + d.String()}, []string{"example.org/user/istio-proxyv2-f93a2cacc6cafa0474a2d6990a4dd1a0@" + d.String()}},
		{"name and tag as written", []string{"example.com/team/shop", "1.0@" + d.String()},
			[]string{"example.org/user/istio-proxyv2-f93a2cacc6cafa0474a2d6990a4dd1a0", "1.0@" + d.String()}},
		{"host, path with the tag as written, hexadecimal digest", []string{"example.com", "team/shop:1.0", d.Encoded()},
			[]string{"example.org", "user/istio-proxyv2-f93a2cacc6cafa0474a2d6990a4dd1a0:1.0", d.Encoded()}},
		{"name, algorithm and hexadecimal digest", []string{"example.com/team/shop", "sha256", d.Encoded()},
			[]string{"example.org/user/istio-proxyv2-f93a2cacc6cafa0474a2d6990a4dd1a0", "sha256", d.Encoded()}},
		{"whole", []string{here}, []string{there}},
		{"name and version", []string{"example.com/team/shop", "proxyv2.1.0." + short(d) + "@" + d.String()},
			[]string{"example.org/user/istio-proxyv2-f93a2cacc6cafa0474a2d6990a4dd1a0", "1.0@" + d.String()}},
		{"host, path, tag, digest", []string{"example.com", "team/shop", "proxyv2.1.0." + short(d), d.String()},
			[]string{"example.org", "user/istio-proxyv2-f93a2cacc6cafa0474a2d6990a4dd1a0", "1.0", d.String()}},
		{"folder and image", []string{"example.com/team", "shop"},
			[]string{"example.org/user", "istio-proxyv2-f93a2cacc6cafa0474a2d6990a4dd1a0"}},
	} {
		t.Run(test.what, func(t *testing.T) {
			transform := Transform{Repository: single.Repository}
			data := ""
			for i, field := range test.fields {
				data += "field: "
				transform.Edits = append(transform.Edits, images.Edit{
					File: "a.yaml", Line: i + 1, Resolved: name + "@" + d.String(), Replaced: field, Digest: d, Offset: len(data), KeepTag: strings.Contains(test.what, "as written"),
				})
				data += field + "\n"
			}
			list := []files.File{{Name: "a.yaml", Data: []byte(data)}, {Name: "b.yaml", Data: []byte("b\n")}}
			moved, edits, err := Rename(list, transform, many)
			if err != nil {
				t.Fatal(err)
			}
			want := "field: " + strings.Join(test.want, "\nfield: ") + "\n"
			if diff := cmp.Diff(want, string(moved[0].Data)); diff != "" {
				t.Error(diff)
			}
			back, _, err := Rename(moved, Transform{Repository: many.Repository, Naming: OneToOne, Edits: edits}, single)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(list, back); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRenameAmbiguous(t *testing.T) {
	d := digest.FromString("x")
	edit := images.Edit{File: "a.yaml", Line: 1, Resolved: "docker.io/library/x:1@" + d.String(), Replaced: "elsewhere", Digest: d}
	_, _, err := Rename([]files.File{{Name: "a.yaml", Data: []byte("elsewhere\n")}},
		Transform{Repository: "example.com/app", Edits: []images.Edit{edit}}, Naming{Repository: "example.org/user", OneToOne: true})
	if err == nil || !strings.Contains(err.Error(), `line 1: "elsewhere" is a part of a reference`) {
		t.Errorf("got %v", err)
	}
}

// TestArchiveNames checks that an archive lists an image by every name that the manifests may
// use.
func TestArchiveNames(t *testing.T) {
	d := digest.FromString("x")
	image := ocispec.Descriptor{Digest: d, Annotations: map[string]string{
		AnnotationImageSource: "registry.k8s.io/pause:3.10", AnnotationImageTag: "pause.3.10." + short(d),
	}}
	for _, test := range []struct {
		names Naming
		want  []string
	}{
		{Naming{Repository: "example.com/app"}, []string{"example.com/app@" + d.String(), "example.com/app:pause.3.10." + short(d)}},
		{Naming{Repository: "example.com/user", OneToOne: true}, []string{
			"example.com/user/pause-b4b29c6749ec389f0a95c5828bdd8f6f@" + d.String(),
			"example.com/user/pause-b4b29c6749ec389f0a95c5828bdd8f6f:3.10",
		}},
	} {
		got, err := Archive{Names: test.names}.names(image)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Error(diff)
		}
	}
}
