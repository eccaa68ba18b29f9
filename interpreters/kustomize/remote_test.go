// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/plugins/interpreter"
)

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n"
}

// outcome is the result of a render.
type outcome struct {
	Objects   []string
	Materials []interpreter.Material
	Problems  []string
}

func outcomeOf(t *testing.T, req *interpreter.RenderRequest) outcome {
	t.Helper()
	resp := rendered(t, req)
	o := outcome{Materials: resp.Materials, Problems: summaries(resp.Diagnostics)}
	for _, f := range resp.Files {
		o.Objects = append(o.Objects, strings.TrimSuffix(f.Path, ".yaml"))
	}
	return o
}

func sum(data string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(data))) }

func TestRemoteFiles(t *testing.T) {
	files := map[string]string{
		"/a.yaml":     configMap("a"),
		"/patch.yaml": configMap("a") + "data:\n  patched: \"yes\"\n",
		"/page.html":  "<h1>hello</h1>\n",
		"/bad.yaml":   "a: b: c\n",
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, data)
	}))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")

	root := t.TempDir()
	write(t, filepath.Join(root, "kustomization.yaml"), `
resources: [`+s.URL+`/a.yaml]
patches: [{path: "`+s.URL+`/patch.yaml"}]
configMapGenerator:
- name: generated
  files: ["`+s.URL+`/page.html", "other.html=`+s.URL+`/page.html"]
  options: {disableNameSuffixHash: true}
`)
	want := outcome{
		Objects: []string{"configmap-a", "configmap-generated"},
		Materials: []interpreter.Material{
			{URI: s.URL + "/a.yaml", Digest: sum(files["/a.yaml"])},
			{URI: s.URL + "/page.html", Digest: sum(files["/page.html"])},
			{URI: s.URL + "/patch.yaml", Digest: sum(files["/patch.yaml"])},
		},
	}
	if diff := cmp.Diff(want, outcomeOf(t, &interpreter.RenderRequest{Source: root, Path: "."})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	resp := rendered(t, &interpreter.RenderRequest{Source: root, Path: "."})
	if got, want := string(resp.Files[1].Data), "apiVersion: v1\ndata:\n  other.html: |\n    <h1>hello</h1>\n  page.html: |\n    <h1>hello</h1>\nkind: ConfigMap\nmetadata:\n  name: generated\n"; got != want {
		t.Errorf("generated from remote files:\n%s\nwant:\n%s", got, want)
	}

	locked := []interpreter.Material{{URI: s.URL + "/a.yaml", Digest: sum("another")}}
	want = outcome{Problems: []string{fmt.Sprintf("kustomization.yaml:2: %s/a.yaml is locked to %s but now has %s: updating the materials of the lock accepts the new one", s.URL, sum("another"), sum(files["/a.yaml"]))}}
	if diff := cmp.Diff(want, outcomeOf(t, &interpreter.RenderRequest{Source: root, Path: ".", Materials: locked})); diff != "" {
		t.Errorf("locked to something else (-want +got):\n%s", diff)
	}

	write(t, filepath.Join(root, "kustomization.yaml"), "resources:\n- "+s.URL+"/none.yaml\n- http://me:secret@"+host+"/none.yml\n")
	want = outcome{Problems: []string{
		"kustomization.yaml:2: fetch " + s.URL + "/none.yaml: " + host + " returned 404 Not Found",
		"kustomization.yaml:3: fetch " + s.URL + "/none.yml: " + host + " returned 404 Not Found",
	}}
	if diff := cmp.Diff(want, outcomeOf(t, &interpreter.RenderRequest{Source: root, Path: "."})); diff != "" {
		t.Errorf("absent (-want +got):\n%s", diff)
	}

	write(t, filepath.Join(root, "kustomization.yaml"), "resources:\n- "+s.URL+"/bad.yaml\n")
	got := outcomeOf(t, &interpreter.RenderRequest{Source: root, Path: "."})
	if len(got.Problems) != 1 || !strings.Contains(got.Problems[0], "not valid YAML") {
		t.Errorf("no YAML: %q", got.Problems)
	}

	write(t, filepath.Join(root, "kustomization.yaml"), "resources: [a.yaml, "+s.URL+"/a.yaml]\n")
	write(t, filepath.Join(root, "a.yaml"), configMap("local"))
	in, err := New().Inputs(t.Context(), &interpreter.InputsRequest{Root: root, Path: "."})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a.yaml", "kustomization.yaml"}, in.Paths); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
}

func TestRemoteFilesThroughTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, configMap("a")) }))
	t.Cleanup(s.Close)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	root := t.TempDir()
	write(t, filepath.Join(root, "kustomization.yaml"), "resources: ["+s.URL+"/a.yaml]\n")
	if got := outcomeOf(t, &interpreter.RenderRequest{Source: root, Path: "."}); len(got.Problems) != 1 || !strings.Contains(got.Problems[0], "certificate") {
		t.Errorf("without the CA file: %+v", got)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	if got := outcomeOf(t, &interpreter.RenderRequest{Source: root, Path: ".", Registries: &interpreter.Registries{CAFile: ca}}); len(got.Objects) != 1 {
		t.Errorf("with the CA file: %+v", got)
	}
}

func TestFetchStopsWithItsContext(t *testing.T) {
	gone := errors.New("the user went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel(gone)
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	root := t.TempDir()
	write(t, filepath.Join(root, "kustomization.yaml"), "resources: ["+s.URL+"/a.yaml, "+s.URL+"/org/repo.git]\n")
	_, err := New().Render(ctx, &interpreter.RenderRequest{Source: root, Path: ".", Scratch: t.TempDir()})
	if !errors.Is(err, gone) {
		t.Errorf("error %v, want %v", err, gone)
	}
}

// gitServer serves the repositories in a folder over HTTP.
func gitServer(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(&cgi.Handler{
		Path:   filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:    []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"},
		Stderr: io.Discard,
	})
	t.Cleanup(s.Close)
	return s.URL
}

// commit commits files to a repository, creating it if needed, and returns the commit.
func commit(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, data := range files {
		write(t, filepath.Join(dir, name), data)
	}
	var out []byte
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"config", "uploadpack.allowReachableSHA1InWant", "true"},
		{"add", "--all"},
		{"commit", "--quiet", "--message=change"},
		{"rev-parse", "HEAD"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		var err error
		if out, err = cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return strings.TrimSpace(string(out))
}

func TestRemoteBases(t *testing.T) {
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	repos := t.TempDir()
	server := gitServer(t, repos)
	first := commit(t, filepath.Join(repos, "org/app"), map[string]string{
		"deploy/base/kustomization.yaml":    "resources: [a.yaml]\n",
		"deploy/base/a.yaml":                configMap("first"),
		"deploy/overlay/kustomization.yaml": "resources: [../base]\nnamePrefix: over-\n",
		"bad/kustomization.yaml":            "resources: [none.yaml]\n",
		"escaping/kustomization.yaml":       "resources: [../../source]\n",
	})
	second := commit(t, filepath.Join(repos, "org/app"), map[string]string{"deploy/base/a.yaml": configMap("second")})
	component := commit(t, filepath.Join(repos, "org/component.git"), map[string]string{
		"kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnameSuffix: -c\n",
	})
	app := "git+" + server + "/org/app@"
	for _, tt := range []struct {
		name, kustomization string
		locked              []interpreter.Material
		want                outcome
	}{
		{
			name: "branch", kustomization: "resources:\n- " + server + "/org/app/deploy/overlay?ref=main",
			want: outcome{Objects: []string{"configmap-over-second"}, Materials: []interpreter.Material{{URI: app + "main", Digest: "gitCommit:" + second}}},
		},
		{
			name: "head, by its double slash", kustomization: "resources:\n- " + server + "/org/app//deploy/base",
			want: outcome{Objects: []string{"configmap-second"}, Materials: []interpreter.Material{{URI: app + "HEAD", Digest: "gitCommit:" + second}}},
		},
		{
			name: "commit", kustomization: "bases:\n- " + server + "/org/app//deploy/base?ref=" + first,
			want: outcome{Objects: []string{"configmap-first"}, Materials: []interpreter.Material{{URI: app + first, Digest: "gitCommit:" + first}}},
		},
		{
			name: "component", kustomization: "resources:\n- " + server + "/org/app//deploy/base\ncomponents:\n- " + server + "/org/component.git",
			want: outcome{Objects: []string{"configmap-second-c"}, Materials: []interpreter.Material{
				{URI: app + "HEAD", Digest: "gitCommit:" + second},
				{URI: "git+" + server + "/org/component.git@HEAD", Digest: "gitCommit:" + component},
			}},
		},
		{
			name: "locked, and the branch has moved", kustomization: "resources:\n- " + server + "/org/app//deploy/base?ref=main",
			locked: []interpreter.Material{{URI: app + "main", Digest: "gitCommit:" + first}},
			want:   outcome{Objects: []string{"configmap-first"}, Materials: []interpreter.Material{{URI: app + "main", Digest: "gitCommit:" + first}}},
		},
		{
			name: "locked, and gone", kustomization: "resources:\n- " + server + "/org/app//deploy/base?ref=main",
			locked: []interpreter.Material{{URI: app + "main", Digest: "gitCommit:" + strings.Repeat("1", 40)}},
			want:   outcome{Problems: []string{fmt.Sprintf("app/kustomization.yaml:2: %smain is locked to gitCommit:%s but now has gitCommit:%s: updating the materials of the lock accepts the new one", app, strings.Repeat("1", 40), second)}},
		},
		{
			name: "no such branch", kustomization: "resources:\n- " + server + "/org/app//deploy/base?ref=none",
			want: outcome{Problems: []string{"app/kustomization.yaml:2: fetch " + app + "none: git fetch: fatal: couldn't find remote ref none"}},
		},
		{
			name: "no such repository", kustomization: "resources:\n- " + server + "/org/none.git",
			want: outcome{Problems: []string{"app/kustomization.yaml:2: fetch git+" + server + "/org/none.git@HEAD: git fetch: fatal: repository '" + server + "/org/none.git/' not found"}},
		},
		{
			name: "no such folder", kustomization: "resources:\n- " + server + "/org/app//none?ref=main",
			want: outcome{Problems: []string{"app/kustomization.yaml:2: " + app + "main has no folder none"}},
		},
		{
			name: "an option for git", kustomization: "resources:\n- " + server + "/org/app//deploy?ref=--upload-pack=touch",
			want: outcome{Problems: []string{"app/kustomization.yaml:2: fetch " + app + "--upload-pack=touch: a repository or ref must not begin with a dash"}},
		},
		{
			name: "a mistake in it", kustomization: "resources:\n- " + server + "/org/app//bad?ref=main",
			want: outcome{Problems: []string{": " + app + "main/bad/kustomization.yaml: none.yaml: no such file or folder"}},
		},
		{
			name: "out of it", kustomization: "resources:\n- " + server + "/org/app//escaping?ref=main",
			want: outcome{Problems: []string{": " + app + "main/escaping/kustomization.yaml: ../../source leads outside the source"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "app/kustomization.yaml"), tt.kustomization+"\n")
			write(t, filepath.Join(root, "source/kustomization.yaml"), "resources: [a.yaml]\n")
			write(t, filepath.Join(root, "source/a.yaml"), configMap("secret"))
			got := outcomeOf(t, &interpreter.RenderRequest{Source: root, Path: "app", Materials: tt.locked})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRepository(t *testing.T) {
	for entry, want := range map[string]repository{
		"https://github.com/org/repo":                             {"https://github.com/org/repo", ".", "HEAD", true},
		"https://github.com/org/repo/a/b?ref=v1":                  {"https://github.com/org/repo", "a/b", "v1", true},
		"github.com/org/repo?version=v1&submodules=false":         {"https://github.com/org/repo", ".", "v1", false},
		"GitHub.com/org/repo.git/a?version=v1&ref=v2":             {"https://github.com/org/repo.git", "a", "v2", true},
		"https://user@github.com/org/repo":                        {"user@github.com:org/repo", ".", "HEAD", true},
		"git@github.com:org/repo//a":                              {"git@github.com:org/repo", "a", "HEAD", true},
		"ssh://git@github.com/org/repo":                           {"git@github.com:org/repo", ".", "HEAD", true},
		"git::https://gitlab.com/group/sub/repo.git//a?ref=main":  {"https://gitlab.com/group/sub/repo.git", "a", "main", true},
		"https://gitlab.com/group/sub/repo//a":                    {"https://gitlab.com/group/sub/repo", "a", "HEAD", true},
		"https://me@dev.azure.com/org/project/_git/repo/a?ref=v1": {"https://me@dev.azure.com/org/project/_git/repo", "a", "v1", true},
		"git@gitlab.com:group/repo.git":                           {"git@gitlab.com:group/repo.git", ".", "HEAD", true},
		"file:///srv/repo//a":                                     {"file:///srv/repo", "a", "HEAD", true},
	} {
		got, ok := parseRepository(entry)
		if !ok || got != want {
			t.Errorf("%s: %+v %t, want %+v", entry, got, ok, want)
		}
	}
	for _, entry := range []string{"../base", "base", "a/b/c.yaml", "/etc", "https://example.com/a", "https://github.com/org/repo//../../x", "ftp://example.com/a/b", ""} {
		if got, ok := parseRepository(entry); ok {
			t.Errorf("%q is taken for %+v", entry, got)
		}
	}
}

func TestRemoteFile(t *testing.T) {
	for entry, want := range map[string]bool{
		"https://example.com/a.yaml":                                     true,
		"https://raw.githubusercontent.com/org/repo/main/a.yml?x=1":      true,
		"https://github.com/org/repo/releases/download/v1/manifest.json": true,
		"https://example.com/manifests":                                  true,
		"https://github.com/org/repo":                                    false,
		"https://github.com/org/repo//a.yaml?ref=main":                   false,
		"git@github.com:org/repo":                                        false,
		"a.yaml":                                                         false,
		"apiVersion: v1":                                                 false,
	} {
		if got := remoteFile(entry); got != want {
			t.Errorf("%s: %t, want %t", entry, got, want)
		}
	}
}

func TestMaterialsHoldNoCredentials(t *testing.T) {
	for entry, want := range map[string]string{
		"https://me:token@gitlab.com/group/repo.git?ref=v1": "git+https://gitlab.com/group/repo.git@v1",
		"git@github.com:org/repo?ref=v1":                    "git+ssh://git@github.com/org/repo@v1",
		"ssh://git@example.com/org/repo":                    "git+ssh://git@example.com/org/repo@HEAD",
	} {
		r, ok := parseRepository(entry)
		if got := r.uri(); !ok || got != want {
			t.Errorf("%s: %s %t, want %s", entry, got, ok, want)
		}
	}
}
