// SPDX-License-Identifier: Apache-2.0

//go:build release

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/taped-dev/tape/stages/artifact"
)

// tag is the version that the tests release.
const tag = "v0.1.0"

// platforms returns the platforms of the release; fewer in $PLATFORMS take less time.
func platforms() []string {
	if p := os.Getenv("PLATFORMS"); p != "" {
		return strings.Fields(p)
	}
	return []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}
}

// releases is a folder with two clones of HEAD, each with its release: one, and
// some/where/else.
var releases string

const one, two = "one", "some/where/else"

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runTests makes the releases, unless $TAPE_RELEASES is a folder that already has them.
func runTests(m *testing.M) (code int, err error) {
	if releases = os.Getenv("TAPE_RELEASES"); releases == "" {
		if releases, err = os.MkdirTemp("", "tape-releases"); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(releases)) }()
	}
	for _, name := range []string{one, two} {
		dir := filepath.Join(releases, name)
		if _, err := os.Stat(filepath.Join(dir, "bin/dist")); err == nil {
			continue
		}
		for _, args := range [][]string{
			{"git", "clone", "-q", "..", dir},
			{"git", "-C", dir, "-c", "tag.gpgSign=false", "tag", tag},
			{"make", "-C", dir, "release", "VERSION=" + tag, "PLATFORMS=" + strings.Join(platforms(), " ")},
		} {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			if err := cmd.Run(); err != nil {
				return 0, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
			}
		}
	}
	return m.Run(), nil
}

func dist(name string) string { return filepath.Join(releases, name, "bin/dist") }

// listed returns the names of the files of a release.
func listed(t *testing.T, name string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dist(name))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		// GoReleaser's own metadata contains its folder, and is not published.
		if !e.IsDir() && e.Name() != "config.yaml" && e.Name() != "metadata.json" && e.Name() != "artifacts.json" {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestReproducible compares the files of two releases of one commit.
func TestReproducible(t *testing.T) {
	names := listed(t, one)
	for _, name := range names {
		a, err := sum(filepath.Join(dist(one), name))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := sum(filepath.Join(dist(two), name)); err != nil || a != b {
			t.Errorf("%s differs, %v", name, err)
		}
	}
	if other := listed(t, two); !slices.Equal(names, other) || len(names) < 5+2*len(platforms()) {
		t.Errorf("one has %q, the other %q", names, other)
	}
}

// readFiles returns the files in the checksums of the release.
func readFiles(t *testing.T) []artifact.Resource {
	t.Helper()
	files, err := readChecksums(filepath.Join(dist(one), checksums))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestChecksums checks that the checksums cover everything that is published, and that the
// provenance and the SBOMs are correct.
func TestChecksums(t *testing.T) {
	dir, files := dist(one), readFiles(t)
	covered := map[string]bool{checksums: true}
	for _, f := range files {
		covered[f.Name] = true
		if d, err := sum(filepath.Join(dir, f.Name)); err != nil || d.Encoded() != f.Digest["sha256"] {
			t.Errorf("%s has %s, %v", f.Name, d, err)
		}
	}
	for _, name := range listed(t, one) {
		if !covered[name] {
			t.Errorf("%s has no checksum", name)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, provenance))
	if err != nil {
		t.Fatal(err)
	}
	subjects := slices.DeleteFunc(slices.Clone(files), func(f artifact.Resource) bool { return f.Name == provenance })
	p := checkProvenance(t, data, subjects)
	commit, err := exec.Command("git", "-C", filepath.Join(releases, one), "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	from := p.BuildDefinition.ResolvedDependencies[0]
	if from.Uri != "git+https://github.com/taped-dev/tape@refs/tags/"+tag || from.Digest["gitCommit"] != strings.TrimSpace(string(commit)) || from.Annotations != nil {
		t.Errorf("it is of %v", from)
	}
	archives := archivesOf(files)
	if len(archives) != len(platforms()) {
		t.Errorf("%d archives for %d platforms", len(archives), len(platforms()))
	}
	for _, a := range archives {
		d := checkSBOM(t, filepath.Join(dir, a.Name), filepath.Join(dir, a.Name+".spdx.json"))
		for _, needed := range []string{"github.com/taped-dev/tape", "helm.sh/helm/v3", "cuelang.org/go", "stdlib"} {
			if !slices.ContainsFunc(d.Packages, func(p *spdx.Package) bool { return p.PackageName == needed }) {
				t.Errorf("the SBOM of %s lacks %s", a.Name, needed)
			}
		}
	}
}

// TestHomebrew runs the formula with Ruby, with the parts of Homebrew that it uses.
func TestHomebrew(t *testing.T) {
	m := newMachine(t)
	formula, err := filepath.Abs(filepath.Join(dist(one), formulaOf))
	if err != nil {
		t.Fatal(err)
	}
	brew, err := filepath.Abs("testdata/brew.rb")
	if err != nil {
		t.Fatal(err)
	}
	m.run("ruby", "-wc", formula)
	chosen := strings.Fields(m.run("ruby", brew, formula, map[string]string{"linux": "linux", "darwin": "macos"}[runtime.GOOS], map[string]string{"amd64": "intel", "arm64": "arm"}[runtime.GOARCH]))
	a := m.archive
	if want := []string{url(tag, a.Name), a.SHA256}; !slices.Equal(chosen, want) {
		t.Errorf("it takes %q, want %q", chosen, want)
	}
	for _, file := range []string{"bash_completion/tape", "zsh_completion/_tape", "fish_completion/tape.fish", "man1/tape-package.1"} {
		if _, err := os.Stat(filepath.Join(m.home, "prefix", file)); err != nil {
			t.Error(err)
		}
	}
	m.tape = filepath.Join(m.home, "prefix/bin/tape")
	m.checkVersion()
}

// TestKrew installs the plugin with krew itself, for each platform.
func TestKrew(t *testing.T) {
	m := newMachine(t)
	install := exec.Command("go", "install", "sigs.k8s.io/krew/cmd/krew@v0.4.3")
	install.Env = append(os.Environ(), "GOBIN="+m.home)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	krew := filepath.Join(m.home, "krew")
	manifest, err := filepath.Abs(filepath.Join(dist(one), krewOf))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range archivesOf(readFiles(t)) {
		root := filepath.Join(m.home, a.OS+a.Arch)
		m.env = append(m.env, "KREW_NO_UPGRADE_CHECK=1", "KREW_ROOT="+root, "KREW_OS="+a.OS, "KREW_ARCH="+a.Arch)
		file, err := filepath.Abs(filepath.Join(dist(one), a.Name))
		if err != nil {
			t.Fatal(err)
		}
		m.run(krew, "install", "--manifest="+manifest, "--archive="+file)
		if a.OS == runtime.GOOS && a.Arch == runtime.GOARCH {
			m.tape = filepath.Join(root, "bin/kubectl-tape")
			m.checkVersion()
		}
	}
}

// TestHeaders checks the programs for other systems, which cannot run here: that they are for
// their platform, and only need what every such system has.
func TestHeaders(t *testing.T) {
	for _, a := range archivesOf(readFiles(t)) {
		programs := 0
		err := walk(filepath.Join(dist(one), a.Name), func(p packed) error {
			if p.build == nil {
				return nil
			}
			programs++
			if err := checkHeaders(a.OS, a.Arch, p.data); err != nil {
				t.Errorf("%s in %s: %v", p.name, a.Name, err)
			}
			return nil
		})
		if err != nil || programs != 2+len(interpreters) {
			t.Errorf("%s has %d programs, %v", a.Name, programs, err)
		}
	}
	// For a system that this release does not include, only tape is built, like `make vet-os`.
	for _, system := range []string{"darwin", "windows"} {
		if strings.Contains(strings.Join(platforms(), " "), system+"/") {
			continue
		}
		file := filepath.Join(t.TempDir(), "tape")
		build := exec.Command("go", "build", "-o", file, "../cmd/tape")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkHeaders(system, runtime.GOARCH, data); err != nil {
			t.Errorf("tape for %s: %v", system, err)
		}
	}
}

// machine is a user's machine: an empty home folder with an unpacked release.
type machine struct {
	*testing.T
	home, tape string
	archive    archive
	env        []string
}

// newMachine unpacks the archive of this platform.
func newMachine(t *testing.T) *machine {
	t.Helper()
	home, all := t.TempDir(), archivesOf(readFiles(t))
	i := slices.IndexFunc(all, func(a archive) bool { return a.OS == runtime.GOOS && a.Arch == runtime.GOARCH })
	if i < 0 {
		t.Fatalf("none of the archives is for this platform: %v", all)
	}
	m := &machine{T: t, home: home, archive: all[i], env: []string{"HOME=" + home, "PATH=/usr/bin:/bin", "COSIGN_PASSWORD="}}
	m.run("tar", "xzf", filepath.Join(dist(one), all[i].Name), "--strip-components=1")
	m.tape = filepath.Join(home, "tape")
	return m
}

// run runs a command at home, and returns what it prints.
func (m *machine) run(args ...string) string {
	m.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (m *machine) try(args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = m.home, m.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

// shop starts the release's registry with the images of the example shop, and returns its
// address. Tape then finds registry.shop.example there.
func (m *machine) shop() string {
	m.Helper()
	serve := exec.Command(m.tape, "registry", "serve", "--addr", "127.0.0.1:0")
	serve.Env = m.env
	said, err := serve.StdoutPipe()
	if err != nil {
		m.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _, _ = serve.Process.Kill(), serve.Wait() })
	line := make([]byte, 200)
	n, err := said.Read(line)
	if err != nil {
		m.Fatal(err)
	}
	go io.Copy(io.Discard, said)
	_, host, ok := strings.Cut(strings.TrimSpace(string(line[:n])), " at ")
	if !ok {
		m.Fatalf("the registry says %q", line[:n])
	}
	if out, err := exec.Command("go", "run", "../examples/shop/images", host, "../examples/shop/manifests").CombinedOutput(); err != nil {
		m.Fatalf("%v\n%s", err, out)
	}
	hosts := filepath.Join(m.home, "hosts/registry.shop.example")
	if err := os.MkdirAll(hosts, 0o755); err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hosts, "hosts.toml"), []byte("server = \"http://"+host+"\"\n"), 0o644); err != nil {
		m.Fatal(err)
	}
	m.env = append(m.env, "TAPE_HOSTS_DIR="+filepath.Dir(hosts))
	return host
}

// TestArchive packages and verifies with nothing but an archive.
func TestArchive(t *testing.T) {
	m := newMachine(t)
	host := m.shop()
	if got := m.run(m.tape, "--version"); !strings.HasPrefix(got, "tape version "+tag) {
		t.Errorf("it says %q", got)
	}
	m.checkVersion()
	examples, err := filepath.Abs("../examples")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	m.run(m.tape, "sign", "--generate-key", "shop")
	m.run(m.tape, "package", filepath.Join(examples, "shop/manifests"), "-O", host+"/team/shop", "--tag", "v1", "--sign", "--key", "shop.key")
	m.run(m.tape, "verify", host+"/team/shop:v1", "--key", "shop.pub")
	t.Logf("packaged, signed and verified in %s", time.Since(began))
	// A lock written here is valid on all platforms of the release.
	chart := filepath.Join(m.home, "chart.yaml")
	pipeline := "apiVersion: tape/v1\nkind: Pipeline\nsources: [{path: charts/storefront}]\noutput: {image: " + host + "/team/chart}\n"
	if err := errors.Join(os.CopyFS(filepath.Join(m.home, "charts"), os.DirFS(filepath.Join(examples, "helm"))),
		os.WriteFile(chart, []byte(pipeline), 0o644)); err != nil {
		t.Fatal(err)
	}
	m.run(m.tape, "package", "-p", chart, "--update", "--tag", "v1")
	var lock struct{ Interpreters map[string]published }
	data, err := os.ReadFile(filepath.Join(m.home, "chart.lock"))
	if err == nil {
		err = json.Unmarshal(data, &lock)
	}
	if want := readPublished(t)["helm"]; err != nil || !reflect.DeepEqual(lock.Interpreters["helm"], want) {
		t.Errorf("the lock has %v, %v; want %v", lock.Interpreters, err, want)
	}
	// Interpreters are found in the folder of tape, by their descriptions.
	if got := m.run(m.tape, "render", filepath.Join(examples, "helm/storefront")); !strings.Contains(got, "kind: Deployment") {
		t.Errorf("the chart renders as\n%s", got)
	}
}

// TestSelf packages examples/self with the image of the release, and verifies that it deploys
// that image.
func TestSelf(t *testing.T) {
	images, err := filepath.Glob(filepath.Join(dist(one), "tape_*_image.tar"))
	if err != nil || len(images) != 1 {
		t.Fatalf("images %q, %v", images, err)
	}
	m := newMachine(t)
	host := m.shop()
	for _, name := range []string{"ghcr.io", "registry.k8s.io"} {
		dir := filepath.Join(m.home, "hosts", name)
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte("server = \"http://"+host+"\"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	m.run(m.tape, "copy", "archive:"+images[0], host+"/taped-dev/tape:"+tag)
	m.run(m.tape, "copy", host+"/web:1.4.0", host+"/git-sync/git-sync:v4.4.0") // replaces it
	m.run(m.tape, "sign", "--generate-key", "self")
	self, err := filepath.Abs("../examples/self/tape.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m.run(m.tape, "package", "-p", self, "--arg", "version="+tag, "--arg", "registry="+host+"/self", "--sign", "--key", "self.key")
	root := host + "/self/tape-deployment:" + tag
	m.run(m.tape, "verify", root, "--key", "self.pub")
	var published struct {
		Images []struct {
			Name, Digest string
			Related      []struct{ Kind string }
		}
	}
	if err := json.Unmarshal([]byte(m.run(m.tape, "view", root, "-o", "json")), &published); err != nil {
		t.Fatal(err)
	}
	var pinned string
	for _, i := range published.Images {
		if i.Name == "ghcr.io/taped-dev/tape:"+tag {
			pinned = i.Digest
			if len(i.Related) != 1+strings.Count(strings.Join(platforms(), " "), "linux/") { // provenance, and one SBOM each
				t.Errorf("with the image came %v", i.Related)
			}
		}
	}
	if manifests := m.run(m.tape, "view", root, "--manifests"); pinned == "" || strings.Count(manifests, "@"+pinned) != 2 {
		t.Errorf("the image is %q, the manifests are\n%s", pinned, manifests)
	}
}

// TestDebian installs the package below a folder, and uses it.
func TestDebian(t *testing.T) {
	packages, err := filepath.Glob(filepath.Join(dist(one), "tape_*_linux_"+runtime.GOARCH+".deb"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("packages %q, %v", packages, err)
	}
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg/info"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := &machine{T: t, home: t.TempDir(), env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}}
	m.run("dpkg", "--root="+root, "--force-not-root", "--install", packages[0])
	m.env = append(m.env, "HOME="+m.home)
	m.tape = filepath.Join(root, "usr/bin/tape")
	m.checkVersion()
}

// checkVersion checks the output of tape version, and its interpreters.
func (m *machine) checkVersion() {
	m.Helper()
	var version struct {
		Version, Commit, Go string
		Interpreters        []struct {
			Name, Version, Error string
			Checksum             digest.Digest
		}
	}
	if err := json.Unmarshal([]byte(m.run(m.tape, "version", "-o", "json")), &version); err != nil {
		m.Fatal(err)
	}
	commit, err := exec.Command("git", "-C", filepath.Join(releases, one), "rev-parse", "HEAD").Output()
	if err != nil {
		m.Fatal(err)
	}
	if version.Version != tag || version.Commit != strings.TrimSpace(string(commit)) || version.Go == "" {
		m.Errorf("it says that it is %+v", version)
	}
	all := readPublished(m.T)
	for _, i := range version.Interpreters {
		if i.Name == "plain" {
			continue
		}
		p := all[i.Name]
		if i.Error != "" || i.Version != p.Version || i.Checksum != p.Checksums[runtime.GOOS+"/"+runtime.GOARCH] {
			m.Errorf("it has %+v, and %+v is published", i, p)
		}
		delete(all, i.Name)
	}
	if len(all) > 0 {
		m.Errorf("it lacks %v", all)
	}
}

// readPublished returns the published checksums of the interpreters.
func readPublished(t *testing.T) map[string]published {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dist(one), "interpreters.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]published
	if err := json.Unmarshal(data, &all); err != nil || len(all) != 4 {
		t.Fatalf("%d interpreters, %v", len(all), err)
	}
	return all
}
