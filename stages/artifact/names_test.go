// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

const podinfo = digest.Digest("sha256:92d43edf253c30782a1a9ceb970a718e6cb0454cff32a473e4f8a62dac355559")

func TestImageTag(t *testing.T) {
	x := strings.Repeat("x", 128)
	for _, c := range []struct{ name, want string }{
		{"ghcr.io/stefanprodan/podinfo:6.4.1", "podinfo.6.4.1.92d43edf"},
		{"localhost:5000/podinfo:6.4.1", "podinfo.6.4.1.92d43edf"},
		{"docker.io/library/nginx", "nginx.latest.92d43edf"},
		{"ghcr.io/stefanprodan/podinfo@" + podinfo.String(), "podinfo.92d43edf"},
		{"ghcr.io/stefanprodan/podinfo:6.4.1@" + podinfo.String(), "podinfo.6.4.1.92d43edf"},
		{"example.com/a/b:" + x, x[:119] + ".92d43edf"},
		{"example.com/a/b:.-" + x[:117], x[:117] + ".92d43edf"}, // the rest does not start with .-
		{"example.com/a/" + x + ":" + x[:10], x[:108] + "." + x[:10] + ".92d43edf"},
		{"example.com/a/o dd*:1+2", "o-dd-.1-2.92d43edf"},
		{"ex.io/sha256-92d43edf253c30782a1a9ceb970a718e6cb045a2:1", "_sha256-92d43edf253c30782a1a9ceb970a718e6cb045a2.1.92d43edf"},
	} {
		got := ImageTag(c.name, podinfo)
		if got != c.want {
			t.Errorf("ImageTag(%q) = %q, want %q", c.name, got, c.want)
		}
	}
}

func TestImageRef(t *testing.T) {
	const repo = "registry.example.com/team/shop"
	at := "@" + podinfo.String()
	for _, c := range []struct{ name, want string }{
		{"ghcr.io/stefanprodan/podinfo:6.4.1", repo + ":podinfo.6.4.1.92d43edf" + at},
		{repo + ":podinfo.6.4.1.92d43edf" + at, repo + ":podinfo.6.4.1.92d43edf" + at},
		{repo + ":podinfo.6.4.1.92d43edf", repo + ":podinfo.6.4.1.92d43edf" + at},
		{repo + ":podinfo.6.4.1.00000000", repo + ":shop.podinfo.6.4.1.00000000.92d43edf" + at},
		{repo + "2:podinfo.6.4.1.92d43edf", repo + ":shop2.podinfo.6.4.1.92d43edf.92d43edf" + at},
	} {
		got := ImageRef(repo, images.Image{Name: c.name, Digest: podinfo})
		if got != c.want {
			t.Errorf("ImageRef(%q) = %q, want %q", c.name, got, c.want)
		}
	}
}

func TestCheckTag(t *testing.T) {
	for tag, ok := range map[string]bool{
		"v1.2.3": true, "_x": true, strings.Repeat("a", 118): true,
		"": false, ".a": false, "-a": false, "a b": false, "a/b": false, "ä": false, "a+b": false, strings.Repeat("a", 119): false,
		"manifests": true, "manifests.1": false,
	} {
		if err := CheckTag(tag); (err == nil) != ok {
			t.Errorf("CheckTag(%q) = %v, want ok: %v", tag, err, ok)
		}
	}
}

func TestCheckRepository(t *testing.T) {
	for name, want := range map[string]string{
		"registry.example.com/team/shop":       "",
		"localhost:5000/shop":                  "",
		"localhost/shop":                       "",
		"docker.io/library/nginx":              "",
		"":                                     "invalid reference format",
		"nginx":                                "give it with its registry: docker.io/library/nginx",
		"example.com/Shop":                     "lowercase",
		"https://example.com/shop":             "without a scheme: example.com/shop",
		"localhost:5000":                       "give it with its registry and without a tag",
		"example.com/shop:v1":                  "without a tag or digest: example.com/shop",
		"example.com/shop@" + podinfo.String(): "without a tag or digest: example.com/shop",
	} {
		err := CheckRepository(name)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("CheckRepository(%q) = %v, want %q", name, err, want)
		}
	}
}

func TestDefaultTags(t *testing.T) {
	facts := func(path string, modified vcs.Tristate, tags ...string) vcs.Facts {
		repo := vcs.Repository{Dir: ".", Commit: "c0ffee0123456789"}
		for _, tag := range tags {
			repo.Tags = append(repo.Tags, vcs.GitTag{Name: tag})
		}
		return vcs.Facts{Path: path, Modified: modified, Repositories: []vcs.Repository{repo}}
	}
	config := []string{"config.92d43edf253c"} // of no commit
	at := []string{"config.92d43edf253c.c0ffee012345"}
	dirty := []string{"config.92d43edf253c.c0ffee012345-dirty"}
	for name, c := range map[string]struct {
		facts []vcs.Facts
		want  []string
	}{
		"none":              {nil, config},
		"no repository":     {[]vcs.Facts{{Path: ".", Modified: vcs.Unknown}}, config},
		"clean":             {[]vcs.Facts{facts(".", vcs.No, "v1.2.3", "6.4.1", "latest", "v1", "v1.2", "vv1.2.3")}, []string{"6.4.1", "v1.2.3"}},
		"dirty":             {[]vcs.Facts{facts(".", vcs.Yes, "v1.2.3")}, dirty},
		"unknown":           {[]vcs.Facts{facts(".", vcs.Unknown, "v1.2.3")}, at},
		"pre-release":       {[]vcs.Facts{facts(".", vcs.No, "v1.2.3-rc.1+b7")}, []string{"v1.2.3-rc.1_b7"}},
		"scoped":            {[]vcs.Facts{facts("a/b", vcs.No, "v9.0.0", "a/v2.0.0", "a/b/v1.0.0", "a/c/v3.0.0")}, []string{"v1.0.0"}},
		"scoped from above": {[]vcs.Facts{facts("a/b", vcs.No, "a/v2.0.0", "b/v1.0.0", "a/bb/v1.0.0")}, []string{"v2.0.0"}},
		"scoped elsewhere":  {[]vcs.Facts{facts("a", vcs.No, "b/v1.2.3")}, at},
		"too long":          {[]vcs.Facts{facts(".", vcs.No, "v1.2.3-"+strings.Repeat("x", 118))}, at},
		"two sources":       {[]vcs.Facts{facts("a", vcs.No, "v1.0.0", "v2.0.0"), facts("b", vcs.No, "v1.0.0")}, []string{"v1.0.0"}},
		"two, one dirty":    {[]vcs.Facts{facts("a", vcs.No, "v1.0.0"), facts("b", vcs.Yes, "v1.0.0")}, dirty},
		"two, one without":  {[]vcs.Facts{facts("a", vcs.No, "v1.0.0"), {Path: "b", Modified: vcs.No}}, at},
	} {
		if diff := cmp.Diff(c.want, DefaultTags(c.facts, podinfo)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The reason why a version is not used names files.
func TestTagReason(t *testing.T) {
	facts := func(name string, tags string, modified vcs.Tristate, files ...vcs.File) vcs.Facts {
		repo := vcs.Repository{Dir: ".", Commit: "c0ffee0123456789"}
		for _, tag := range strings.Fields(tags) {
			repo.Tags = append(repo.Tags, vcs.GitTag{Name: tag})
		}
		return vcs.Facts{Name: name, Path: ".", Modified: modified, Files: files, Repositories: []vcs.Repository{repo}}
	}
	file := func(path string, modified vcs.Tristate, untracked bool) vcs.File {
		return vcs.File{Path: path, Modified: modified, Untracked: untracked}
	}
	removed := facts("a", "v1.0.0", vcs.Yes)
	removed.Repositories[0].Removed = []string{"gone.yaml"}
	for name, test := range map[string]struct {
		facts []vcs.Facts
		want  string
	}{
		"none":      {nil, ""},
		"no tag":    {[]vcs.Facts{facts("a", "nightly", vcs.Yes, file("x", vcs.Yes, false))}, ""},
		"used":      {[]vcs.Facts{facts("a", "v1.0.0", vcs.No)}, ""},
		"untracked": {[]vcs.Facts{facts("a", "6.14.1", vcs.Yes, file("charts/x.tgz", vcs.Yes, true), file("charts/y.tgz", vcs.Yes, true))}, "tag 6.14.1 not used: charts/x.tgz is untracked (2 files)"},
		"both":      {[]vcs.Facts{facts("a", "v1.0.0 v1.0.1", vcs.Yes, file("a", vcs.Yes, false), file("b", vcs.Yes, true), file("c", vcs.No, false))}, "tags v1.0.0, v1.0.1 not used: a is modified, b is untracked"},
		"removed":   {[]vcs.Facts{removed}, "tag v1.0.0 not used: gone.yaml is removed"},
		"unknown":   {[]vcs.Facts{facts("a", "v1.0.0", vcs.Unknown, file("a", vcs.Unknown, false))}, "tag v1.0.0 not used: a may differ from the commit"},
		"submodule": {[]vcs.Facts{facts("a", "v1.0.0", vcs.Yes)}, "tag v1.0.0 not used: a submodule or link is not as committed"},
		"another":   {[]vcs.Facts{facts("a", "v1.0.0", vcs.No), facts("b", "", vcs.No)}, "tag v1.0.0 not used: b has no version tag"},
		"remote":    {[]vcs.Facts{facts("a", "v1.0.0", vcs.No), {Name: "c", Reference: "oci://x"}}, "tag v1.0.0 not used: c is not in git"},
		"different": {[]vcs.Facts{facts("a", "v1.0.0", vcs.No), facts("b", "v2.0.0", vcs.No)}, "tags v1.0.0, v2.0.0 not used: the sources have none in common"},
	} {
		if got := TagReason(test.facts); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// The vectors are those of image relocation since 2019.
func TestRelocatedName(t *testing.T) {
	const prefix = "example.com/user"
	for _, c := range []struct{ in, want string }{
		{"nginx", "library-nginx-dba37485fee3d4d76d5d82609cc9bccb"},
		{"istio/proxyv2:1.0", "istio-proxyv2-f93a2cacc6cafa0474a2d6990a4dd1a0:1.0"},
		{"docker.io/istio/proxyv2@" + podinfo.String(), "istio-proxyv2-f93a2cacc6cafa0474a2d6990a4dd1a0@" + podinfo.String()},
		{"istio/proxyv2:1.0@" + podinfo.String(), "istio-proxyv2-f93a2cacc6cafa0474a2d6990a4dd1a0:1.0@" + podinfo.String()},
		{"projectriff/builder:v1", "projectriff-builder-a4a25a99d48adad8310050be267a10ce:v1"},
		{"docker.io/projectriff/builder:v1", "projectriff-builder-a4a25a99d48adad8310050be267a10ce:v1"},
		{"ghcr.io/stefanprodan/podinfo:6.4.1", "stefanprodan-podinfo-89f45335dc39e60966e19b7adb836ca8:6.4.1"},
		{"registry.k8s.io/pause:3.10", "pause-b4b29c6749ec389f0a95c5828bdd8f6f:3.10"},
		{"gcr.io/cf-elafros/knative-releases/github.com/knative/serving/cmd/autoscaler", "cf-elafros-knative-releases-github.com-knative-serving-cmd-autoscaler-a4d329c86bb7cfab702ceb547f8aa927"},
	} {
		got, err := relocatedName(prefix, c.in)
		if err != nil || got != prefix+"/"+c.want {
			t.Errorf("relocatedName(%q) = %q, %v, want %q", c.in, got, err, prefix+"/"+c.want)
		}
	}
	for _, bad := range []string{"", "Nginx", "a b", "nginx@sha256:1"} {
		if got, err := relocatedName(prefix, bad); err == nil {
			t.Errorf("relocatedName(%q) = %q, want an error", bad, got)
		}
	}
}

func TestRelocatedNameIsNeverTooLong(t *testing.T) {
	ref := "example.com/" + strings.Repeat("a", 60) + "/" + strings.Repeat("b", 60) + "/" + strings.Repeat("c", 60)
	last := -1
	for n := len("e.com/p"); n < 300; n++ {
		prefix := "e.com/" + strings.Repeat("p", n-len("e.com/"))
		got, err := relocatedName(prefix, ref)
		if fits := n+1+32 <= maxName; fits != (err == nil) {
			t.Fatalf("a prefix of %d: %v", n, err)
		}
		if err != nil {
			continue
		}
		if len(got) > maxName || !strings.HasPrefix(got, prefix+"/") {
			t.Fatalf("a prefix of %d gives %d characters: %s", n, len(got), got)
		}
		if length := len(got) - n; last != -1 && length > last {
			t.Fatalf("a prefix of %d keeps more of the name than a shorter one: %s", n, got)
		} else {
			last = length
		}
	}
	got, err := relocatedName("e.com/"+strings.Repeat("p", 60), ref)
	if want := "/" + strings.Repeat("a", 60) + "---" + strings.Repeat("c", 60) + "-"; err != nil || !strings.Contains(got, want) {
		t.Errorf("got %q, %v: the middle goes first", got, err)
	}
}

// FuzzNames checks that, whatever a reference is, registries accept its names here, and the
// names of the same image are consistent.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{
		"nginx", "istio/proxyv2:1.0", "docker.io/library/nginx:1.25.3", "localhost:5000/a/b/c:x@" + podinfo.String(),
		"gcr.io/cf-elafros/knative-releases/github.com/knative/serving/cmd/autoscaler", "registry.k8s.io/pause:3.10",
		"quay.io/a/b@sha512:" + strings.Repeat("0", 128), "a__b/c--d.e:T_.-", "ko://x", "[::1]:5000/a",
		"ex.io/sha256-92d43edf253c30782a1a9ceb970a718e6cb045a2:1", "ex.io/manifests.v1:1", "ex.com/" + strings.Repeat("a/", 100) + "b",
	} {
		f.Add(seed)
	}
	const prefix = "example.com/user"
	f.Fuzz(func(t *testing.T, ref string) {
		if err := CheckTag(ImageTag(ref, podinfo)); err != nil && len(ImageTag(ref, podinfo)) <= maxAppTag {
			t.Errorf("ImageTag(%q): %v", ref, err)
		}
		if n := len(ImageTag(ref, podinfo)); n > 128 {
			t.Errorf("ImageTag(%q) has %d characters", ref, n)
		}
		got, err := relocatedName(prefix, ref)
		if err != nil {
			return
		}
		named, err := reference.ParseNormalizedNamed(got)
		if err != nil {
			t.Fatalf("relocatedName(%q) = %q: %v", ref, got, err)
		}
		if !strings.HasPrefix(named.Name(), prefix+"/") || len(named.Name()) > 255 {
			t.Errorf("relocatedName(%q) = %q", ref, got)
		}
		from, err := reference.ParseNormalizedNamed(ref)
		if err != nil {
			t.Fatal(err)
		}
		again, err := relocatedName(prefix, from.String())
		if err != nil || again != got {
			t.Errorf("relocatedName(%q) = %q, of its normal form %q, %v", ref, got, again, err)
		}
		if suffix := strings.TrimPrefix(from.String(), from.Name()); !strings.HasSuffix(got, suffix) {
			t.Errorf("relocatedName(%q) = %q lost %q", ref, got, suffix)
		}
	})
}
