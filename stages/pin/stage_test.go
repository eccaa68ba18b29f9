// SPDX-License-Identifier: Apache-2.0

package pin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
	"github.com/taped-dev/tape/stages/pin"
	"github.com/taped-dev/tape/stages/scan"
)

const repository = "registry.example.com:5000/team/app"

// resolve returns an image for every reference, with a made-up digest if it has none.
func resolve(report *images.Report) *images.List {
	list := &images.List{}
	for _, r := range report.References {
		d := digest.FromString(strings.TrimPrefix(r.Name, repository))
		if _, given, ok := strings.Cut(r.Name, "@"); ok {
			d = digest.Digest(given)
		}
		list.Images = append(list.Images, images.Image{Source: r.Source, Name: r.Name, Digest: d, Locations: r.Locations})
	}
	return list
}

func scanner(t testing.TB) *scan.Stage {
	t.Helper()
	stage, err := scan.New(scan.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return stage
}

func pinner(t testing.TB) *pin.Stage {
	t.Helper()
	stage, err := pin.New(pin.Config{Repository: repository})
	if err != nil {
		t.Fatal(err)
	}
	return stage
}

// run scans, resolves and pins one file.
func run(t *testing.T, in string) (string, *images.Edits) {
	t.Helper()
	all := []files.File{{Name: "f.yaml", Data: []byte(in)}}
	report, err := scanner(t).Scan(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	out, edits, err := pinner(t).Pin(all, report, resolve(report))
	if err != nil {
		t.Fatal(err)
	}
	return string(out[0].Data), edits
}

// ref returns what pin writes for a reference in a PodSpec.
func ref(name, tag string) string {
	d := digest.FromString(name)
	return repository + ":" + tag + "." + d.Encoded()[:8] + "@" + d.String()
}

// written returns what pin writes for a reference whose tag is kept.
func written(name, tag string) string {
	return repository + tag + "@" + digest.FromString(name).String()
}

func pod(rest string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n" + rest
}

func TestPin(t *testing.T) {
	nginx1, nginx2 := ref("docker.io/library/nginx:1", "nginx.1"), ref("docker.io/library/nginx:2", "nginx.2")
	written1, written2 := written("docker.io/library/nginx:1", ":1"), written("docker.io/library/nginx:2", ":2")
	digest1, digest2 := written("docker.io/library/nginx:1", ""), written("docker.io/library/nginx:2", "")
	wide := func(s string) string {
		out := "\xff\xfe"
		for _, c := range []byte(s) {
			out += string([]byte{c, 0})
		}
		return out
	}
	for _, c := range []struct{ name, in, want string }{
		{"tags of one repository", pod("  containers:   # kept\n    - {image: nginx:1}\n    - image:   'nginx:2'   # too\n"),
			pod("  containers:   # kept\n    - {image: " + nginx1 + "}\n    - image:   '" + nginx2 + "'   # too\n")},
		{"CR LF, and a byte order mark", "\ufeff" + strings.ReplaceAll(pod("  containers:\n  - image: nginx:1\n"), "\n", "\r\n"),
			"\ufeff" + strings.ReplaceAll(pod("  containers:\n  - image: "+nginx1+"\n"), "\n", "\r\n")},
		{"escapes", pod("  containers: [{\"image\": \"\\x6eginx:\\\n    1\"}]\n"), pod("  containers: [{\"image\": \"" + nginx1 + "\"}]\n")},
		{"folded", pod("  containers:\n  - image: >-\n\n      nginx:1\n    name: x\n"), pod("  containers:\n  - image: >-\n\n      " + nginx1 + "\n    name: x\n")},
		{"alias", pod("  containers:\n  - image: &i nginx:1\n  - image: *i\n"), pod("  containers:\n  - image: &i " + nginx1 + "\n  - image: *i\n")},
		{"merge key", "x: &c {image: nginx:1}\n" + pod("  containers:\n  - <<: *c\n  - <<: *c\n"), "x: &c {image: " + written1 + "}\n" + pod("  containers:\n  - <<: *c\n  - <<: *c\n")},
		{"JSON", `{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"image":"docker.io\/nginx:1"},{"image":"nginx:2"}]}}`,
			`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"image":"` + nginx1 + `"},{"image":"` + nginx2 + `"}]}}`},
		{"JSON in YAML in JSON", `{"apiVersion":"v1","kind":"ConfigMap","data":{"x":"y: \"{\\\"image\\\": \\\"nginx:1\\\"}\"\n"}}`,
			`{"apiVersion":"v1","kind":"ConfigMap","data":{"x":"y: \"{\\\"image\\\": \\\"` + written1 + `\\\"}\"\n"}}`},
		{"argument", pod("  containers: [{args: [--image=nginx:1, --image, nginx:2]}]\n"), pod("  containers: [{args: [--image=" + written1 + ", --image, " + written2 + "]}]\n")},
		{"what takes no tag beside a digest", pod("  containers: [{command: [skopeo, inspect, 'docker://docker.io/nginx:1'], args: ['skopeo inspect docker://docker.io/library/nginx:2; crane digest docker.io/library/nginx:1']}]\n"),
			pod("  containers: [{command: [skopeo, inspect, 'docker://" + digest1 + "'], args: ['skopeo inspect docker://" + digest2 + "; crane digest " + written1 + "']}]\n")},
		{"a disk that is imported", "apiVersion: cdi.kubevirt.io/v1beta1\nkind: DataVolume\nspec: {source: {registry: {url: 'docker://nginx:1'}}}\n",
			"apiVersion: cdi.kubevirt.io/v1beta1\nkind: DataVolume\nspec: {source: {registry: {url: 'docker://" + digest1 + "'}}}\n"},
		{"a tag that is read", "apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nspec: {imageName: 'ghcr.io/x/postgresql:17.2'}\n",
			"apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nspec: {imageName: '" + repository + ":17.2@" + digest.FromString("ghcr.io/x/postgresql:17.2").String() + "'}\n"},
		{"UTF-16", wide(pod("  containers:\n  - image: nginx:1\n")), wide(pod("  containers:\n  - image: " + nginx1 + "\n"))},
		{"several documents", "# c\n---\n" + pod("  containers: [{image: nginx:1}]\n") + "---\n" + pod("  containers: [{image: nginx:2}]\n"),
			"# c\n---\n" + pod("  containers: [{image: "+nginx1+"}]\n") + "---\n" + pod("  containers: [{image: "+nginx2+"}]\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, edits := run(t, c.in)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if len(edits.Files) != 1 {
				t.Fatalf("got edits of %d files", len(edits.Files))
			}
			before, err := edits.Files[0].Undo([]byte(got))
			if err != nil || string(before) != c.in {
				t.Errorf("undone: %q, %v", before, err)
			}
			if again, edits := run(t, got); again != got || len(edits.Files) != 0 {
				t.Errorf("pinned twice: %s", cmp.Diff(got, again))
			}
		})
	}
}

func TestPinKeepsWhatIsThere(t *testing.T) {
	d := digest.FromString("x")
	ours := repository + ":nginx.1." + d.Encoded()[:8] + "@" + d.String()
	in := pod("  containers: [{image: '" + ours + "'}]\n")
	if got, edits := run(t, in); got != in || len(edits.Files) != 0 {
		t.Error(got)
	}
}

func TestPinParts(t *testing.T) {
	of := func(name string) string { return digest.FromString(name).String() }
	resource := func(apiVersion, kind, spec string) string {
		return "apiVersion: " + apiVersion + "\nkind: " + kind + "\nspec:\n" + spec
	}
	for _, c := range []struct{ name, in, want, reason string }{
		{"repository, image and version",
			resource("nvidia.com/v1", "ClusterPolicy", "  dcgm: {repository: nvcr.io/x, image: dcgm, version: '4.6'} # c\n"),
			resource("nvidia.com/v1", "ClusterPolicy", "  dcgm: {repository: registry.example.com:5000/team, image: app, version: '"+of("nvcr.io/x/dcgm:4.6")+"'} # c\n"), ""},
		{"repository and tag",
			resource("helm.toolkit.fluxcd.io/v2", "HelmRelease", "  values: {image: {repository: ghcr.io/x/y, tag: 1.20}}\n"),
			resource("helm.toolkit.fluxcd.io/v2", "HelmRelease", "  values: {image: {repository: "+repository+", tag: 1.20@"+of("ghcr.io/x/y:1.20")+"}}\n"), ""},
		{"registry, repository, tag and an empty digest",
			resource("helm.toolkit.fluxcd.io/v2", "HelmRelease", "  values: {image: {registry: docker.io, repository: x/y, tag: v1, digest: \"\"}}\n"),
			resource("helm.toolkit.fluxcd.io/v2", "HelmRelease", "  values: {image: {registry: registry.example.com:5000, repository: team/app, tag: v1, digest: \""+of("docker.io/x/y:v1")+"\"}}\n"), ""},
		{"a digest that is null",
			resource("helm.toolkit.fluxcd.io/v2", "HelmRelease", "  values: {image: {repository: ghcr.io/x/y, tag: v1, digest: null}}\n"),
			resource("helm.toolkit.fluxcd.io/v2", "HelmRelease", "  values: {image: {repository: "+repository+", tag: v1, digest: "+of("ghcr.io/x/y:v1")+"}}\n"), ""},
		{"the hexadecimal digits of a digest",
			resource("helm.toolkit.fluxcd.io/v2", "HelmRelease", "  values: {image: {repository: ghcr.io/x/y, tag: v1, sha: ''}}\n"),
			resource("helm.toolkit.fluxcd.io/v2", "HelmRelease", "  values: {image: {repository: "+repository+", tag: v1, sha: '"+of("ghcr.io/x/y:v1")[7:]+"'}}\n"), ""},
		{"a digest beside a whole reference",
			resource("x.io/v1", "X", "  image: 'ghcr.io/x/y:v1'\n  imageDigest: ''\n"),
			resource("x.io/v1", "X", "  image: '"+repository+":v1'\n  imageDigest: '"+of("ghcr.io/x/y:v1")+"'\n"), ""},
		{"a digest in a variable",
			"apiVersion: v1\nkind: Pod\nspec: {containers: [{env: [{name: A_IMAGE, value: ghcr.io/x/y}, {name: A_TAG, value: v1}, {name: A_DIGEST, value: ''}]}]}\n",
			"apiVersion: v1\nkind: Pod\nspec: {containers: [{env: [{name: A_IMAGE, value: " + repository + "}, {name: A_TAG, value: v1}, {name: A_DIGEST, value: '" + of("ghcr.io/x/y:v1") + "'}]}]}\n", ""},
		{"an algorithm, and the version is the digest",
			resource("kiali.io/v1alpha1", "Kiali", "  deployment: {image_name: ghcr.io/x/y, image_version: v1, image_digest: \"\"}\n"),
			resource("kiali.io/v1alpha1", "Kiali", "  deployment: {image_name: "+repository+", image_version: "+of("ghcr.io/x/y:v1")[7:]+", image_digest: \"sha256\"}\n"), ""},
		{"no field for the algorithm", resource("kiali.io/v1alpha1", "Kiali", "  deployment: {image_name: ghcr.io/x/y, image_version: v1}\n"), "", "add image_digest"},
		{"unexplained", resource("x.io/v1", "X", "  image: {repository: ghcr.io/x/y, tag: v1}\n"), "", "images.fields"},
		{"never", resource("nvidia.com/v1", "ClusterPolicy", "  driver: {repository: nvcr.io/x, image: driver, version: '4.6'}\n"), "", "operating system"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, edits := run(t, c.in)
			if c.want == "" {
				c.want = c.in
				if len(edits.Unpinned) != 1 || !strings.Contains(edits.Unpinned[0].Reason, c.reason) || len(edits.Unpinned[0].Locations) != 1 {
					t.Errorf("unpinned: %+v", edits.Unpinned)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if len(edits.Files) > 0 {
				if before, err := edits.Files[0].Undo([]byte(got)); err != nil || string(before) != c.in {
					t.Errorf("undone: %q, %v", before, err)
				}
			}
		})
	}
}

func TestPinEdit(t *testing.T) {
	in := pod("  containers:\n  - image: nginx:1\n")
	got, edits := run(t, in)
	d := digest.FromString("docker.io/library/nginx:1")
	want := []images.FileEdits{{
		File: "f.yaml", Before: digest.FromString(in), After: digest.FromString(got),
		Edits: []images.Edit{{
			File: "f.yaml", Pointer: "/spec/containers/0/image", Line: 6, Column: 12, Original: "nginx:1", Offset: strings.Index(in, "nginx:1"),
			Resolved: "docker.io/library/nginx:1@" + d.String(), Digest: d, Replaced: ref("docker.io/library/nginx:1", "nginx.1"),
		}},
	}}
	if diff := cmp.Diff(want, edits.Files); diff != "" {
		t.Error(diff)
	}
}

func TestPinRefuses(t *testing.T) {
	in := []files.File{{Name: "f.yaml", Data: []byte(pod("  containers: [{image: nginx:1}]\n"))}}
	good := func() *images.Report {
		report, err := scanner(t).Scan(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	for _, c := range []struct {
		name  string
		spoil func(*images.Report, *images.List)
		want  string
	}{
		{"not resolved", func(_ *images.Report, l *images.List) { l.Images = nil }, "not resolved"},
		{"another file", func(r *images.Report, _ *images.List) { r.References[0].Locations[0].File = "g.yaml" }, "not among the manifests"},
		{"other bytes", func(r *images.Report, _ *images.List) {
			r.References[0].Locations[0].FileDigest = digest.FromString("x")
		}, "were found in sha256:"},
		{"outside", func(r *images.Report, _ *images.List) { r.References[0].Locations[0].Length = 1 << 20 }, "outside of the file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			report := good()
			list := resolve(report)
			c.spoil(report, list)
			if _, _, err := pinner(t).Pin(in, report, list); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	for _, repository := range []string{"", "app", "r.io/x:tag", "r.io/X", "docker.io/x@sha256:1"} {
		if _, err := pin.New(pin.Config{Repository: repository}); err == nil {
			t.Errorf("%q is taken for a repository", repository)
		}
	}
}

// TestPinLeaves checks what pin must not change: references that did not resolve, and
// files that are not part of the application.
func TestPinLeaves(t *testing.T) {
	in := []files.File{
		{Name: "bad.yaml", Data: []byte(pod("  containers: [{image: nginx:1}]\n") + "---\n{{ x }}-y\n")},
		{Name: "f.yaml", Data: []byte(pod("  containers: [{env: [{name: X_IMAGE, value: gone/away:1}]}]\n"))},
	}
	report, err := scanner(t).Scan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	list := resolve(report)
	for i, image := range list.Images {
		if image.Source == "gone/away:1" {
			list.Images = append(list.Images[:i:i], list.Images[i+1:]...)
			list.Unpinned = append(list.Unpinned, images.Unpinned{Reference: report.References[i], Reason: "not found"})
			break
		}
	}
	out, edits, err := pinner(t).Pin(in, report, list)
	if err != nil || len(edits.Files) != 0 {
		t.Fatal(edits, err)
	}
	if diff := cmp.Diff(in, out); diff != "" {
		t.Error(diff)
	}
}

func TestRun(t *testing.T) {
	in := []files.File{{Name: "f.yaml", Data: []byte(pod("  containers: [{image: nginx:1}]\n"))}}
	report, err := scanner(t).Scan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var tar strings.Builder
	if err := files.Write(&tar, in); err != nil {
		t.Fatal(err)
	}
	references, err := stagetest.JSON(images.MediaTypeReport, report)
	if err != nil {
		t.Fatal(err)
	}
	list, err := stagetest.JSON(images.MediaTypeList, resolve(report))
	if err != nil {
		t.Fatal(err)
	}
	stage, err := pin.Kind().New([]byte(`{"repository": "` + repository + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	c := stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{
		"manifests": {MediaType: files.MediaType, Data: []byte(tar.String())}, "references": references, "images": list,
	}}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	result, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var edits images.Edits
	if err := result.Outputs["edits"].Decode(&edits); err != nil || len(edits.Files) != 1 {
		t.Error(edits, err)
	}
}

// check pins files and checks that only references changed: undoing the edits gives
// the input, and the values in the documents are equal except for references. It also
// checks that pinning again changes nothing.
func check(t testing.TB, in []files.File) {
	t.Helper()
	report, err := scanner(t).Scan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	list := resolve(report)
	out, edits, err := pinner(t).Pin(in, report, list)
	if err != nil && strings.HasSuffix(err.Error(), "the reference is not valid UTF-8") {
		return // which no registry has, and so resolve finds none
	}
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]images.FileEdits{}
	for _, e := range edits.Files {
		byName[e.File] = e
	}
	for i := range in {
		e, edited := byName[in[i].Name]
		if !edited {
			if string(in[i].Data) != string(out[i].Data) {
				t.Fatalf("%s changed without an edit", in[i].Name)
			}
			continue
		}
		before, err := e.Undo(out[i].Data)
		if err != nil || string(before) != string(in[i].Data) {
			t.Fatalf("%s cannot be undone: %v", in[i].Name, err)
		}
		a, b := values(in[i]), values(out[i])
		if len(a) != len(b) {
			t.Fatalf("%s had %d values and has %d", in[i].Name, len(a), len(b))
		}
		masked := mask(report, e)
		for j := range a {
			if a[j] != b[j] && masked.Replace(a[j]) != masked.Replace(b[j]) {
				t.Fatalf("%s: %q became %q", in[i].Name, a[j], b[j])
			}
		}
	}
	again, err := scanner(t).Scan(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Objects) != len(report.Objects) {
		t.Fatalf("%d objects became %d", len(report.Objects), len(again.Objects))
	}
	second := resolve(again)
	_, edits, err = pinner(t).Pin(out, again, second)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range edits.Files {
		for _, e := range f.Edits {
			t.Fatalf("pinned twice: %s:%d: %s became %s", f.File, e.Line, e.Original, e.Replaced)
		}
	}
}

// mask replaces all references, and the parts of split ones.
func mask(report *images.Report, e images.FileEdits) *strings.Replacer {
	var texts []string
	for _, r := range report.References {
		for _, l := range r.Locations {
			texts = append(texts, l.Value)
			for _, p := range l.Parts {
				texts = append(texts, p.Value)
			}
		}
	}
	for _, edit := range e.Edits {
		texts = append(texts, strings.ReplaceAll(edit.Replaced, "\x00", "")) // of UTF-16
	}
	slices.SortFunc(texts, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, text := range texts {
		if text != "" {
			pairs = append(pairs, text, "")
		}
	}
	return strings.NewReplacer(pairs...)
}

// values returns the keys and scalars of a file's documents, in order.
func values(f files.File) []string {
	var out []string
	var walk func(n *manifests.Node)
	walk = func(n *manifests.Node) {
		out = append(out, fmt.Sprint(n.Kind, n.Value))
		for i := range n.Fields {
			out = append(out, n.Fields[i].Key)
			walk(&n.Fields[i].Value)
		}
		for i := range n.Items {
			walk(&n.Items[i])
		}
	}
	for _, piece := range manifests.Open(f.Name, f.Data).Text.Split() {
		docs, _ := manifests.Parse(piece)
		for i := range docs {
			walk(&docs[i].Root)
		}
	}
	return out
}

func FuzzPin(f *testing.F) {
	for _, seed := range []string{
		pod("  containers: [{image: nginx:1, args: [--image=a/b:1, '--x-image', \"c\\x2fd\"]}, {image: &i 'x/y:2'}, {image: *i}]\n"),
		"apiVersion: v1\nkind: ConfigMap\ndata:\n  c.yaml: |\n    proxy: {image: 'a/b:1', nested: \"{\\\"image\\\": \\\"c/d:2\\\"}\"}\n  s: >\n    IMAGE=a/b:1\n    docker run nginx:1\n",
		"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"image\":\"a\\/b:1\"}]}}\n",
		"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"image\":\"a\\/G:\xa5\"}]}}\n",
		"apiVersion: nvidia.com/v1\nkind: ClusterPolicy\nspec: {dcgm: {repository: nvcr.io/x, image: dcgm, version: 4.6.0}}\n",
		"apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec: {values: {image: {registry: r.io, repository: x/y, tag: 1, digest: ''}}}\n",
		"\ufeff" + strings.ReplaceAll(pod("  containers:\n  - image: >-\n      a/b:1\n"), "\n", "\r\n"),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { check(t, []files.File{{Name: "f.yaml", Data: data}}) })
}
