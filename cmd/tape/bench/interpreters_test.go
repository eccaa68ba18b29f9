// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taped-dev/tape/interpreters/plain"
	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/plugins/interpreter"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// startUp measures the time from finding an interpreter to its first response over the wire,
// with a known checksum: a process, its handshake with mutual TLS, and a call.
func startUp(t *testing.T, rows *table) {
	sources := map[string]string{
		"kustomize": "kustomization.yaml", "cue": "a.cue", "cnab": "bundle.json", "plain": "a.yaml", "helm": "Chart.yaml",
	}
	for _, name := range []string{"kustomize", "cue", "cnab", "plain", "helm"} {
		root, cache := t.TempDir(), t.TempDir()
		// The source need not be valid: a diagnostic is a response too.
		write(t, filepath.Join(root, sources[name]), "{}\n")
		var samples []sample
		for range 5 * rounds {
			samples = append(samples, sample{Wall: firstReply(t, name, root, cache)})
		}
		bound := 60.0
		if name == "helm" {
			bound = 120
		}
		rows.most(name+": start to first reply", bound, milliseconds(median(samples[1:]).Wall), "ms") // the first call computes the checksum
	}
}

func firstReply(t *testing.T, name, root, cache string) time.Duration {
	t.Helper()
	h := host.New(host.Options{Dirs: []string{bin(t)}, CacheDir: cache})
	defer h.Close()
	start := time.Now()
	i, err := h.Find(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Inputs(t.Context(), &interpreter.InputsRequest{Root: root, Path: "."}); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

// charts compares with `helm template`: with an empty store each time, so that tape reads, checks
// and renders everything, and with one that has only the checksum of the interpreter, as after
// the first run on a machine.
func charts(t *testing.T, rows *table) {
	helm := buildHelm(t)
	for _, c := range []struct {
		what      string
		templates int
		bound     float64 // ms
	}{{"small chart", 1, 45}, {"chart of 150 objects", 50, 150}} {
		dir := newChart(t, "shop", c.templates, 0)
		known := &lab{store: t.TempDir()}
		known.tape(t, "render", dir)
		var mine, later, theirs []sample
		for range 3 * rounds {
			theirs = append(theirs, new(lab).run(t, "", helm, "template", "shop", dir))
			mine = append(mine, (&lab{store: t.TempDir()}).tape(t, "render", dir))
			later = append(later, known.tape(t, "render", "--no-cache", dir))
		}
		rows.over("render of a "+c.what+", against helm template of it", c.bound, median(mine).Wall, median(theirs).Wall)
		rows.over("  if the interpreter's checksum is known", c.bound, median(later).Wall, median(theirs).Wall)
	}
	// A hundred charts in one run, which share a process.
	var dirs []string
	for n := range 100 {
		dirs = append(dirs, newChart(t, fmt.Sprintf("shop%d", n), 1, 0))
	}
	loop := "set -e; for dir do " + helm + " template shop $dir >/dev/null; done"
	theirs := new(lab).run(t, "", append([]string{"/bin/sh", "-c", loop, "sh"}, dirs...)...)
	mine := (&lab{store: t.TempDir()}).tape(t, append([]string{"render"}, dirs...)...)
	rows.ratio("100 charts in one run: time, against 100 runs of helm template", 0.35, mine.Wall.Seconds(), theirs.Wall.Seconds(), "s")
}

// environments packs a chart of 60 objects and 20 images for three environments with different
// values, and for one.
func environments(t *testing.T, rows *table) {
	const templates, delay = 20, 20 * time.Millisecond
	var one, three []sample
	for range rounds {
		for _, all := range []bool{false, true} {
			l := newLab(t, 0, registrytest.Image{Layers: []int64{20_000, 8_000}, Inline: 1, Signatures: 1})
			chart := newChart(t, "shop", templates, 0)
			file := filepath.Join(filepath.Dir(chart), "tape.yaml")
			pipeline := "apiVersion: tape/v1\nkind: Pipeline\nsources:\n  - name: shop\n    path: shop\n    options: {set: [image.registry=" + l.upAddr + "]}\nenvironments:\n  dev:\n"
			if all {
				for i, name := range []string{"stage", "prod"} {
					pipeline += fmt.Sprintf("  %s: {sources: {shop: {options: {set: [image.registry=%s, replicas=%d]}}}}\n", name, l.upAddr, i+3)
				}
			}
			write(t, file, pipeline)
			l.delay(delay)
			s := l.tape(t, "package", "--pipeline", file, "-O", l.dstAddr+"/tape")
			if all {
				three = append(three, s)
			} else {
				one = append(one, s)
			}
		}
	}
	rows.ratio("three environments of a chart with 20 images, 20 ms a request: time, against one", 1.3, median(three).Wall.Seconds(), median(one).Wall.Seconds(), "s")
	rows.ratio("  processor time", 1.6, median(three).CPU.Seconds(), median(one).CPU.Seconds(), "s")
	rows.count(t, "  requests more than for one: two statements of each environment", 4, median(three).requests-median(one).requests)
}

// unchanged counts how often interpreters start: tape finds a script that logs its start before
// it executes the real one. It can only write to tape, which logs it.
func unchanged(t *testing.T, rows *table) {
	dir := t.TempDir()
	tape := filepath.Join(dir, "tape")
	program, err := os.ReadFile(filepath.Join(bin(t), "tape"))
	if err == nil {
		err = os.WriteFile(tape, program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	const started = "an interpreter starts here"
	write(t, filepath.Join(dir, "tape-interpreter-helm"),
		fmt.Sprintf("#!/bin/sh\necho '%s' >&2\nexec '%s'\n", started, filepath.Join(bin(t), "tape-interpreter-helm")))
	if err := os.Chmod(filepath.Join(dir, "tape-interpreter-helm"), 0o755); err != nil {
		t.Fatal(err)
	}
	chart, store := newChart(t, "shop", 50, 0), t.TempDir()
	count := func() int {
		var log bytes.Buffer
		cmd := exec.Command(tape, "--store", store, "--progress", "none", "--log-level", "debug", "render", chart)
		cmd.Env, cmd.Stderr = append(os.Environ(), "DOCKER_CONFIG="+store), &log
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, &log)
		}
		return bytes.Count(log.Bytes(), []byte(started))
	}
	first := count()
	if first == 0 {
		t.Fatal("no interpreter said that it starts")
	}
	rows.count(t, fmt.Sprintf("render again, nothing changed: processes of interpreters (first: %d)", first), 0, count())
}

// largeOutput measures the cost of receiving 12 MB from another process.
func largeOutput(t *testing.T, rows *table) {
	root := t.TempDir()
	line := strings.Repeat("x", 99) + "\n"
	for n := range 12 {
		write(t, filepath.Join(root, fmt.Sprintf("%02d.yaml", n)),
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\ndata:\n  text: |\n"+strings.Repeat("    "+line, 1_000_000/(4+len(line))))
	}
	h := host.New(host.Options{Dirs: []string{bin(t)}})
	defer h.Close()
	process, err := h.Find(t.Context(), "plain")
	if err != nil {
		t.Fatal(err)
	}
	render := func(i interpreter.Interpreter) time.Duration {
		start := time.Now()
		resp, err := i.Render(t.Context(), &interpreter.RenderRequest{Source: root, Path: ".", Scratch: t.TempDir()})
		if err != nil || len(resp.Files) != 12 {
			t.Fatalf("%v, %v", resp, err)
		}
		return time.Since(start)
	}
	render(process) // starts the process
	var mine, theirs []sample
	for range 3 * rounds {
		theirs = append(theirs, sample{Wall: render(plain.New())})
		mine = append(mine, sample{Wall: render(process)})
	}
	rows.over("12 MB of output from a process, against rendering in tape", 200, median(mine).Wall, median(theirs).Wall)
}

// sideBySide renders four charts in one run.
func sideBySide(t *testing.T, rows *table) {
	var dirs []string
	for n := range 4 {
		dirs = append(dirs, newChart(t, fmt.Sprintf("shop%d", n), 50, 40))
	}
	var one, four []sample
	for range rounds {
		one = append(one, (&lab{store: t.TempDir()}).tape(t, "render", dirs[0]))
		four = append(four, (&lab{store: t.TempDir()}).tape(t, append([]string{"render"}, dirs...)...))
	}
	rows.ratio("four charts in one run: time, against four runs of one", 0.75,
		median(four).Wall.Seconds(), 4*median(one).Wall.Seconds(), "s")
}

// buildHelm builds the helm command from the packages that the interpreter uses.
func buildHelm(t *testing.T) string {
	t.Helper()
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "helm.sh/helm/v3").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command("go", "install", "-trimpath", "-ldflags", "-s -w", "helm.sh/helm/v3/cmd/helm@"+strings.TrimSpace(string(version)))
	cmd.Env = append(os.Environ(), "GOBIN="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build helm: %v\n%s", err, out)
	}
	return filepath.Join(dir, "helm")
}

// newChart makes a typical chart: templates of three objects each, with names and labels from a
// library of definitions, and the given number of additional settings for each container.
func newChart(t *testing.T, name string, templates, settings int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	write(t, filepath.Join(dir, "Chart.yaml"), "apiVersion: v2\nname: "+name+"\nversion: 1.2.3\nappVersion: 1.2.3\n")
	write(t, filepath.Join(dir, "templates", "_helpers.tpl"), chartHelpers)
	values := "replicas: 2\nimage: {registry: registry.example, tag: \"\"}\nresources: {requests: {cpu: 100m, memory: 64Mi}}\nsettings:\n  LOG_LEVEL: info\n"
	for n := range settings {
		values += fmt.Sprintf("  SETTING_%d: \"the value of {{ .Release.Name }} for %d\"\n", n, n)
	}
	write(t, filepath.Join(dir, "values.yaml"), values)
	for n := range templates {
		write(t, filepath.Join(dir, "templates", fmt.Sprintf("part%d.yaml", n)), strings.ReplaceAll(chartTemplate, "PART", fmt.Sprintf("part%d", n)))
	}
	return dir
}

const chartHelpers = `{{- define "name" -}}{{ printf "%s-%s" .root.Release.Name .part | trunc 63 | trimSuffix "-" }}{{- end }}
{{- define "selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}
{{- define "labels" -}}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{ include "selector" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}
`

const chartTemplate = `{{- $part := dict "root" . "part" "PART" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "name" $part }}
  labels: {{- include "labels" $part | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels: {{- include "selector" $part | nindent 6 }}
  template:
    metadata:
      labels: {{- include "labels" $part | nindent 8 }}
    spec:
      containers:
        - name: main
          image: "{{ .Values.image.registry }}/shop/PART:{{ .Values.image.tag | default .Chart.AppVersion }}"
          ports: [{name: http, containerPort: 8080}]
          envFrom: [{configMapRef: {name: {{ include "name" $part }}}}]
          resources: {{- toYaml .Values.resources | nindent 12 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "name" $part }}
  labels: {{- include "labels" $part | nindent 4 }}
spec:
  selector: {{- include "selector" $part | nindent 4 }}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "name" $part }}
  labels: {{- include "labels" $part | nindent 4 }}
data:
  {{- range $name, $value := .Values.settings }}
  {{ $name }}: {{ tpl $value $ | quote }}
  {{- end }}
`

func write(t *testing.T, file, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// bin returns the folder with the commands built by make.
func bin(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../../bin")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
