//go:build cases

// SPDX-License-Identifier: Apache-2.0

// Package cases tests the built tape with a folder of small inputs that it once got wrong:
// `make cases CASES=DIR`.
//
// DIR has manifests/run.py and a folder for each of its cases, registry/<case>/case.py,
// security/yaml/* and security/forge.py. Each case prints one line.
package cases

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// nowhere is an address at which no registry listens.
const nowhere = "127.0.0.1:1"

// timeout bounds one case, so that a hanging tape only fails that case.
const timeout = 8 * time.Minute

// report prints the line of a case, and fails the test if it is wrong.
func report(t *testing.T, name, wrong string) {
	t.Helper()
	if wrong == "" {
		fmt.Fprintf(os.Stdout, "%-44s pass\n", name)
		return
	}
	fmt.Fprintf(os.Stdout, "%-44s FAIL  %s\n", name, strings.SplitN(wrong, "\n", 2)[0])
	t.Error(wrong)
}

// bench is the environment of the cases.
type bench struct {
	cases string // the folder of the cases
	bin   string // the folder of tape
	env   []string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{cases: os.Getenv("TAPE_CASES")}
	if _, err := os.Stat(filepath.Join(b.cases, "manifests", "run.py")); err != nil {
		t.Fatalf("TAPE_CASES %q: %v", b.cases, err)
	}
	var err error
	if b.bin, err = filepath.Abs("../../../bin"); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	b.env = append(os.Environ(), "PATH="+b.bin+":"+os.Getenv("PATH"), "HOME="+home, "XDG_CACHE_HOME="+filepath.Join(home, "cache"), "COSIGN_PASSWORD=")
	return b
}

// run runs a program to its end and returns its exit status and its output.
func (b *bench) run(t *testing.T, name string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), timeout, fmt.Errorf("%s takes longer than %s", name, timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = b.env, t.TempDir()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func (b *bench) tape(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return b.run(t, filepath.Join(b.bin, "tape"), append(args, "--progress", "none")...)
}

// registries serves the images of the cases and a destination, until the test ends.
// It returns the address of the destination.
func (b *bench) registries(t *testing.T) string {
	t.Helper()
	upstream := httptest.NewServer(&registrytest.Upstream{})
	t.Cleanup(upstream.Close)
	hosts := t.TempDir()
	if err := registrytest.WriteMirror(hosts, "_default", upstream.Listener.Addr().String(), "pull", "resolve"); err != nil {
		t.Fatal(err)
	}
	destination := exec.CommandContext(t.Context(), filepath.Join(b.bin, "tape"), "registry", "serve", "--addr", "127.0.0.1:0", "--data", t.TempDir())
	destination.Env = b.env
	stdout, err := destination.StdoutPipe()
	if err == nil {
		err = destination.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = destination.Process.Kill(); _ = destination.Wait() })
	var addr string
	if _, err := fmt.Fscanf(stdout, "serving a registry at %s\n", &addr); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "TAPE_HOSTS_DIR="+hosts, "REG="+addr)
	return addr
}

// portsOfCase is how many ports a case of registry/ uses, from $BASE.
const portsOfCase = 40

// freePorts returns the first of n consecutive free ports, below those that systems assign to
// clients.
func freePorts(t *testing.T, n int) int {
	t.Helper()
search:
	for range 100 {
		first := 10_000 + rand.IntN(20_000-n)
		for port := first; port < first+n; port++ {
			l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
			if err != nil {
				continue search
			}
			_ = l.Close()
		}
		return first
	}
	t.Fatalf("no %d free ports in a row", n)
	return 0
}

// TestManifests compares what tape finds, pins and leaves alone in manifests with what each
// case expects.
func TestManifests(t *testing.T) {
	b := newBench(t)
	b.registries(t)
	expected, err := filepath.Glob(filepath.Join(b.cases, "manifests", "*", "expected.json"))
	if err != nil || len(expected) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range expected {
		id := filepath.Base(filepath.Dir(file))
		t.Run(id, func(t *testing.T) {
			_, out, errs := b.run(t, "python3", filepath.Join(b.cases, "manifests", "run.py"), id)
			line, _, _ := strings.Cut(out, "\n")
			fields := strings.SplitN(line, "\t", 4)
			switch {
			case len(fields) < 3 || fields[0] != id:
				report(t, "manifests/"+id, "run.py: "+out+errs)
			case fields[2] != "pass":
				report(t, "manifests/"+id, strings.Join(fields[3:], " "))
			default:
				report(t, "manifests/"+id, "")
			}
		})
	}
}

// TestRegistry runs tape against faulty registries.
func TestRegistry(t *testing.T) {
	b := newBench(t)
	scripts, err := filepath.Glob(filepath.Join(b.cases, "registry", "*", "case.py"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	base := freePorts(t, portsOfCase*len(scripts))
	for i, script := range scripts {
		id := filepath.Base(filepath.Dir(script))
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			b := *b
			b.env = append(slices.Clone(b.env), "TAPE_BIN="+b.bin, fmt.Sprint("BASE=", base+portsOfCase*i), "CASE_TMP="+t.TempDir())
			status, out, errs := b.run(t, "python3", script)
			if status == 0 {
				report(t, "registry/"+id, "")
				return
			}
			var wrong []string
			for line := range strings.Lines(out) {
				if what, ok := strings.CutPrefix(strings.TrimSpace(line), "WRONG: "); ok {
					wrong = append(wrong, what)
				}
			}
			report(t, "registry/"+id, strings.Join(wrong, "; ")+"\n"+out+errs)
		})
	}
}

// TestYAML checks that tape rejects a document, or finds every image that readers using
// Kubernetes' own YAML library would run.
func TestYAML(t *testing.T) {
	b := newBench(t)
	files, err := filepath.Glob(filepath.Join(b.cases, "security", "yaml", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		id := filepath.Base(file)
		t.Run(id, func(t *testing.T) {
			runs, err := containerImages(file)
			if err != nil {
				t.Logf("the reader of Kubernetes refuses it too: %v", err)
			}
			// The error names the file and the line.
			refusal := regexp.MustCompile(regexp.QuoteMeta(id) + `:\d+`)
			packed, _, why := b.tape(t, "package", file, "--dry-run", "-O", nowhere+"/cases/yaml")
			if packed != 0 && refusal.MatchString(why) && !strings.Contains(why, "connection refused") {
				report(t, "security/yaml/"+id, "")
				return
			}
			status, out, errs := b.tape(t, "images", "--no-resolve", "-o", "json", file)
			if status != 0 {
				report(t, "security/yaml/"+id, "refused without file and line: "+errs)
				return
			}
			var found struct{ Images []struct{ Source string } }
			if err := json.Unmarshal([]byte(out), &found); err != nil {
				t.Fatal(err)
			}
			var missing []string
			for _, image := range runs {
				if !slices.ContainsFunc(found.Images, func(i struct{ Source string }) bool { return i.Source == image }) {
					missing = append(missing, image)
				}
			}
			if len(missing) > 0 {
				report(t, "security/yaml/"+id, "runs unseen: "+strings.Join(missing, ", "))
				return
			}
			report(t, "security/yaml/"+id, "")
		})
	}
}

// containerImages returns the images of every container in a file, as a
// Kubernetes client reads it, at any depth.
func containerImages(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var images []string
	for docs := kyaml.NewDocumentDecoder(f); ; {
		buf := make([]byte, 1<<20)
		n, err := docs.Read(buf)
		if errors.Is(err, io.EOF) {
			return images, nil
		}
		if err != nil {
			return images, err
		}
		var doc any
		if err := yaml.Unmarshal(buf[:n], &doc); err != nil {
			return images, err
		}
		images = append(images, imagesIn(doc)...)
	}
}

// imagesIn returns the images of the containers of every spec below v.
func imagesIn(v any) []string {
	var images []string
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			images = append(images, imagesIn(e)...)
		}
	case map[string]any:
		for key, e := range v {
			images = append(images, imagesIn(e)...)
			if spec, ok := e.(map[string]any); ok && key == "spec" {
				images = append(images, containers(spec)...)
			}
		}
	}
	return images
}

// containers returns the images of the containers in the spec of a pod.
func containers(spec map[string]any) []string {
	var images []string
	for _, key := range []string{"containers", "initContainers", "ephemeralContainers"} {
		list, _ := spec[key].([]any)
		for _, c := range list {
			container, _ := c.(map[string]any)
			if image, ok := container["image"].(string); ok {
				images = append(images, image)
			}
		}
	}
	return images
}

// TestForgedArchives checks that verify and load reject an archive that was changed by someone
// without the key.
func TestForgedArchives(t *testing.T) {
	b := newBench(t)
	destination := b.registries(t)
	dir := t.TempDir()
	app, key, archive, repo := filepath.Join(dir, "app"), filepath.Join(dir, "k"), filepath.Join(dir, "app.tar"), destination+"/cases/forged"
	if err := os.MkdirAll(app, 0o755); err != nil {
		t.Fatal(err)
	}
	const pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: web\n    image: docker.io/library/nginx:1.29\n"
	if err := os.WriteFile(filepath.Join(app, "pod.yaml"), []byte(pod), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"sign", "--generate-key", key},
		{"package", app, "-O", repo, "--tag", "v1", "--sign", "--key", key + ".key"},
		{"save", repo + ":v1", archive},
		{"verify", "archive:" + archive, "--key", key + ".pub"},
		{"load", archive, repo},
	} {
		if status, _, errs := b.tape(t, args...); status != 0 {
			t.Fatalf("tape %v: status %d: %s", args, status, errs)
		}
	}
	for _, mode := range []string{"swap-name", "add-name", "foreign-name", "second-root", "ref-full", "unref-blob", "rename-tag"} {
		t.Run(mode, func(t *testing.T) {
			forged := filepath.Join(dir, mode+".tar")
			if status, out, errs := b.run(t, "python3", filepath.Join(b.cases, "security", "forge.py"), archive, forged, mode); status != 0 {
				t.Fatalf("forge.py: %s%s", out, errs)
			}
			var wrong []string
			if status, out, errs := b.tape(t, "verify", "archive:"+forged, "--key", key+".pub"); status != 3 {
				wrong = append(wrong, fmt.Sprintf("verify: status %d: %s%s", status, out, errs))
			}
			if status, out, errs := b.tape(t, "load", forged, destination+"/cases/"+mode); status == 0 {
				wrong = append(wrong, fmt.Sprintf("load: status %d: %s%s", status, out, errs))
			}
			report(t, "security/forge/"+mode, strings.Join(wrong, "; "))
		})
	}
}
