// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// machines are processes of tape with separate stores, and what they share: a repository of
// applications, an upstream, and a registry.
type machines struct {
	tape, dir, hosts string
	destination      string
	registry         atomic.Value  // of http.Handler
	asked            chan struct{} // non-empty if the upstream received a request
}

type handler struct{ http.Handler }

func newMachines(t *testing.T, applications int) *machines {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := &machines{tape: filepath.Join(t.TempDir(), "tape"), dir: t.TempDir(), hosts: t.TempDir(), asked: make(chan struct{}, 1)}
	if err := os.Symlink(self, m.tape); err != nil {
		t.Fatal(err)
	}
	m.registry.Store(handler{registrytest.Distribution("")})
	delayed := registrytest.Delay(&registrytest.Upstream{}, 5*time.Millisecond)
	upstream := registrytest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case m.asked <- struct{}{}:
		default:
		}
		delayed.ServeHTTP(w, r)
	}))
	m.destination = registrytest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.registry.Load().(handler).ServeHTTP(w, r)
	}))
	if err := errors.Join(registrytest.WriteHosts(m.hosts, "_default", upstream), registrytest.WriteHosts(m.hosts, m.destination, m.destination)); err != nil {
		t.Fatal(err)
	}
	m.write(t, fleet.FileName, "apiVersion: tape/v1\nkind: Fleet\napplications: [apps/*]\ndefaults: {output: {image: \""+m.destination+"/fleet/${name}\"}}\n"+
		"cache: {repository: "+m.destination+"/ci/cache}\nshared: {repository: "+m.destination+"/ci/shared}\n")
	for i := range applications {
		m.write(t, fmt.Sprintf("apps/app%02d/pod.yaml", i), fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: app%02d}\nspec:\n  containers:\n"+
			"  - {name: own, image: ex.io/own/app%02d:1}\n  - {name: pool, image: ex.io/pool/p%d:1}\n", i, i, i%3))
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false", "commit", "-q", "-m", "x"}} {
		if out, err := exec.Command("git", append([]string{"-C", m.dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return m
}

func (m *machines) write(t *testing.T, name, data string) {
	t.Helper()
	file := filepath.Join(m.dir, filepath.FromSlash(name))
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(data), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// command returns a tape command on a machine.
func (m *machines) command(ctx context.Context, store string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, m.tape, append([]string{"--store", store, "--hosts-dir", m.hosts, "--progress", "none", "-o", "json", "fleet"}, args...)...)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "TAPE_HOSTS_DIR=", "DOCKER_CONFIG="+store)
	return cmd
}

func (m *machines) run(t *testing.T, store string, into any, args ...string) {
	t.Helper()
	var problem bytes.Buffer
	cmd := m.command(t.Context(), store, args...)
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		t.Fatalf("tape fleet %v: %v\n%s%s", args, err, out, problem.String())
	}
}

// TestKilledShards executes a plan with four processes that are repeatedly killed and restarted
// with an empty store. Every application is packaged, with the same roots as by one process.
func TestKilledShards(t *testing.T) {
	const applications, shards = 8, 4
	m := newMachines(t, applications)
	var alone fleet.Report
	m.run(t, t.TempDir(), &alone, "package")
	m.registry.Store(handler{registrytest.Distribution("")})

	var plan struct{ Plan string }
	m.run(t, t.TempDir(), &plan, "plan")
	var (
		group sync.WaitGroup
		kills atomic.Int32
	)
	for shard := range shards {
		group.Add(1)
		go func() {
			defer group.Done()
			for try := range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				if try < 3 {
					time.AfterFunc(time.Duration(150+rand.IntN(900))*time.Millisecond, cancel)
				}
				cmd := m.command(ctx, t.TempDir(), "package", "--plan", plan.Plan, "--shard", fmt.Sprintf("%d/%d", shard+1, shards))
				out, err := cmd.CombinedOutput()
				killed := ctx.Err() != nil
				cancel()
				if err == nil {
					return
				}
				if !killed {
					t.Errorf("shard %d: %v\n%s", shard+1, err, out)
					return
				}
				kills.Add(1)
			}
			t.Errorf("shard %d never ended", shard+1)
		}()
	}
	group.Wait()
	t.Logf("%d processes were killed", kills.Load())

	var report fleet.Report
	m.run(t, t.TempDir(), &report, "report", "--plan", plan.Plan)
	if report.Totals.Done != applications {
		t.Fatalf("%+v", report.Totals)
	}
	for i, o := range report.Applications {
		if want := alone.Applications[i]; o.Name != want.Name || o.Root != want.Root {
			t.Errorf("%s is %s, want %s of one process", o.Name, o.Root, want.Root)
		}
	}
}

// TestFleetKeepsSecrets plants secrets where a fleet uses them, and finds none in what it
// stores, sends or prints: the plan, the records, the cache, the applications, the reports.
func TestFleetKeepsSecrets(t *testing.T) {
	m := newMachines(t, 1)
	held := t.TempDir()
	m.registry.Store(handler{registrytest.Distribution(held)})
	private := registrytest.Serve(t, registrytest.Basic(&registrytest.Upstream{}, "somebody", "planted-registry"))
	if err := registrytest.WriteHosts(m.hosts, "private.example", private); err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string]string{
		"kept":   `options: {password: planted-option}`,
		"fed":    `options: {password: "${token}"}`,
		"failed": `options: {password: planted-failure, fail: true}`,
	} {
		m.write(t, "apps/"+name+"/src/keeper.txt", "x")
		m.write(t, "apps/"+name+"/tape.yaml", "apiVersion: tape/v1\nkind: Pipeline\nargs: {token: planted-argument}\nsources: [{path: src, interpreter: keeper, "+options+"}]\n")
	}
	m.write(t, "apps/chart/tape.yaml", "apiVersion: tape/v1\nkind: Pipeline\nsources: [{path: c, interpreter: helm, options: {set: [\"token=planted-value\"]}}]\n")
	m.write(t, "apps/chart/c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n")
	m.write(t, "apps/chart/c/templates/pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: c, labels: {token: \"{{ if .Values.token }}set{{ end }}\"}}\nspec: {containers: [{name: a, image: \"private.example/x:1\"}]}\n")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	store, config, interpreters := t.TempDir(), t.TempDir(), built(t, self)
	auth := base64.StdEncoding.EncodeToString([]byte("somebody:planted-registry"))
	if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(`{"auths":{"private.example":{"auth":"`+auth+`"},"`+private+`":{"auth":"`+auth+`"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var all []byte
	run := func(want string, args ...string) {
		cmd := m.command(t.Context(), store, args...)
		cmd.Env = append(cmd.Env, "DOCKER_CONFIG="+config, "TAPE_INTERPRETERS="+interpreters)
		cmd.Args = append(cmd.Args, "--log-level", "debug")
		out, _ := cmd.CombinedOutput() // one application fails
		if !bytes.Contains(out, []byte(want)) {
			t.Fatalf("tape fleet %v: no %q in\n%s", args, want, out)
		}
		all = append(all, out...)
	}
	run(`"done":4,"unchanged":0,"failed":1,`, "package")
	run("(secret)", "report", "-o", "html")
	run("(secret)", "report", "-o", "junit")
	for _, dir := range []string{store, held} {
		err := filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(file)
			all = append(all, data...)
			// Compressed content is searched, too.
			if r, zErr := zstd.NewReader(bytes.NewReader(data)); zErr == nil {
				plain, _ := io.ReadAll(r)
				all = append(all, plain...)
				r.Close()
			}
			if r, zErr := gzip.NewReader(bytes.NewReader(data)); zErr == nil {
				plain, _ := io.ReadAll(r)
				all = append(all, plain...)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if at := bytes.Index(all, []byte("planted")); at >= 0 {
		t.Errorf("a secret is in what was kept, sent or printed: …%s…", all[max(at-200, 0):min(at+100, len(all))])
	}
	if bytes.Contains(all, []byte(auth)) {
		t.Error("a credential of a registry is in what was kept, sent or printed")
	}
}

// TestInterruptedFleet presses Ctrl-C: the command ends within its grace period and tells how
// to continue.
func TestInterruptedFleet(t *testing.T) {
	m := newMachines(t, 30)
	cmd := m.command(t.Context(), t.TempDir(), "package", "--concurrency", "1")
	var problem bytes.Buffer
	cmd.Stderr = &problem
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-m.asked // so the run has started
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 && code != 1 {
		t.Fatalf("exit %d: %v\n%s", code, err, problem.String())
	}
	if text := problem.String(); !regexp.MustCompile(`interrupted`).MatchString(text) || strings.Contains(text, "goroutine") {
		t.Errorf("it says %q", text)
	}
}

// TestExampleFleet checks that the script of the example writes the files that are checked in,
// and plans them.
func TestExampleFleet(t *testing.T) {
	example, err := filepath.Abs("../../examples/fleet")
	if err != nil {
		t.Fatal(err)
	}
	made := t.TempDir()
	if out, err := exec.Command(filepath.Join(example, "generate.sh"), made).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command("diff", "-r", filepath.Join(example, "apps"), filepath.Join(made, "apps")).CombinedOutput(); err != nil {
		t.Errorf("generate.sh writes something else than the example has: %v\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := newMachines(t, 0)
	cmd := m.command(t.Context(), t.TempDir(), "plan", example)
	cmd.Env = append(cmd.Env, "TAPE_INTERPRETERS="+built(t, self))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var plan struct {
		Applications []struct{ Name, State, Reason string }
		Images       int
	}
	if err := json.Unmarshal(out, &plan); err != nil || len(plan.Applications) != 40 || plan.Images != 4 {
		t.Fatalf("%d applications, %d images, %v", len(plan.Applications), plan.Images, err)
	}
	for _, a := range plan.Applications {
		if a.State != "package" || a.Reason != "it is new" {
			t.Errorf("%+v", a)
		}
	}
}
