// SPDX-License-Identifier: Apache-2.0

//go:build fleet

package durable

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app/fleet"
)

const loopback = "127.0.0.1"

// Secrets that only workers and registries may see.
const (
	password   = "planted-7f3a"
	payloadKey = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// lab is a repository with a fleet, registries, and Temporal.
type lab struct {
	dir, scratch string
	host         string // of the destination
	current      atomic.Pointer[destination]
	server       *server
	temporal     string // address of the server
	env          []string
}

// destination is a registry that counts how often each tag was pushed to it.
type destination struct {
	handler http.Handler
	mu      sync.Mutex
	pushed  map[string]int // by application
}

var tagPushed = regexp.MustCompile(`^/v2/team/(app[0-9]+)/manifests/`)

func (d *destination) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m := tagPushed.FindStringSubmatch(r.URL.Path); m != nil && r.Method == http.MethodPut && !strings.Contains(r.URL.Path, "/sha256") {
		d.mu.Lock()
		d.pushed[m[1]+" "+r.URL.Path]++
		d.mu.Unlock()
	}
	d.handler.ServeHTTP(w, r)
}

// again returns how many tags were pushed more than once.
func (d *destination) again(t *testing.T) (again int) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for tag, n := range d.pushed {
		if n > 1 {
			again++
		}
		if n > attempts {
			t.Errorf("%s was pushed %d times", tag, n)
		}
	}
	return again
}

// reset replaces the destination by an empty registry.
func (l *lab) reset() *destination {
	d := &destination{handler: registrytest.Basic(registrytest.Delay(registrytest.Distribution(""), 10*time.Millisecond), "ci", password), pushed: map[string]int{}}
	l.current.Store(d)
	return d
}

// newLab starts registries at an address of this machine. more is appended to the fleet file;
// HOST in it stands for the destination.
func newLab(t *testing.T, at string, applications int, more string) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir(), scratch: t.TempDir()}
	l.reset()
	l.host = serve(t, at, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.current.Load().ServeHTTP(w, r) }))
	hosts := filepath.Join(l.scratch, "hosts")
	if err := registrytest.WriteHosts(hosts, "ex.io", serve(t, at, &registrytest.Upstream{})); err != nil {
		t.Fatal(err)
	}
	write := func(name, data string) {
		t.Helper()
		file := filepath.Join(l.dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("tape.fleet.yaml", strings.ReplaceAll("apiVersion: tape/v1\nkind: Fleet\napplications: [apps/*]\n"+
		"defaults: {output: {image: \"HOST/team/${name}\", tags: [v1]}}\ncache: {repository: HOST/ci/cache}\n"+more, "HOST", l.host))
	for i := range applications {
		write(fmt.Sprintf("apps/app%d/pod.yaml", i), fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: app%d}\nspec:\n  containers:\n"+
			"  - {name: own, image: ex.io/own/app%d:1}\n  - {name: pool, image: ex.io/pool/sidecar%d:2.0}\n", i, i, i%7))
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"commit", "-q", "-m", "first"}} {
		cmd := exec.Command("git", append([]string{"-C", l.dir, "-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	login, err := json.Marshal(map[string]any{"auths": map[string]any{l.host: map[string]string{"username": "ci", "password": password}}})
	if err != nil {
		t.Fatal(err)
	}
	l.env = append(os.Environ(), "TAPE_HOSTS_DIR="+hosts, "DOCKER_AUTH_CONFIG="+string(login), "PAYLOAD_KEY="+payloadKey, "TEMPORAL_CONFIG_FILE="+os.DevNull)
	return l
}

// serve serves at an address until the test ends.
func serve(t *testing.T, at string, h http.Handler) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(at, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: listener, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return listener.Addr().String()
}

// command is a command on a machine, which has its own store.
func (l *lab) command(t *testing.T, file, machine string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program(t, file), append(args, "--store", filepath.Join(l.scratch, machine), "--plain-http", l.host, "--progress", "none")...)
	cmd.Dir, cmd.Env = l.dir, l.env
	return cmd
}

// with appends the flags for Temporal.
func (l *lab) with(args ...string) []string {
	return append(args, "--temporal-address", l.temporal, "--payload-key", "env://PAYLOAD_KEY")
}

// process is a worker on its own machine.
type process struct {
	start func() *exec.Cmd
	mu    sync.Mutex
	cmd   *exec.Cmd
	log   *os.File
}

// worker starts a worker. wrap, if any, is a command that runs it in another environment.
func (l *lab) worker(t *testing.T, machine string, wrap ...string) *process {
	t.Helper()
	log, err := os.Create(filepath.Join(l.scratch, machine+".log"))
	if err != nil {
		t.Fatal(err)
	}
	w := &process{log: log, start: func() *exec.Cmd {
		cmd := l.command(t, "tape-fleet-temporal", machine, l.with("worker", "--concurrency", "2")...)
		if len(wrap) > 0 {
			wrapped := exec.Command(wrap[0], append(wrap[1:], cmd.Args...)...)
			wrapped.Dir, wrapped.Env = cmd.Dir, cmd.Env
			cmd = wrapped
		}
		cmd.Stderr, cmd.Stdout = log, log
		if err := cmd.Start(); err != nil {
			t.Error(err)
		}
		return cmd
	}}
	w.cmd = w.start()
	t.Cleanup(func() {
		w.kill()
		if t.Failed() {
			data, _ := os.ReadFile(log.Name())
			t.Logf("%s:\n%s", machine, data)
		}
	})
	return w
}

func (w *process) kill() {
	_ = w.cmd.Process.Kill() // it may have ended already
	_ = w.cmd.Wait()
}

func (w *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := w.cmd.Process.Signal(s); err != nil {
		t.Error(err)
	}
}

// report runs tape fleet and decodes its output. An application during which three workers were
// killed is in the report, and makes tape fail.
func report(t *testing.T, cmd *exec.Cmd) *fleet.Report {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && !strings.Contains(stderr.String(), " applications failed\n") {
		t.Errorf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	if bytes.Contains(append(out, stderr.Bytes()...), []byte(password)) {
		t.Error("the password is shown")
	}
	var r fleet.Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return &r
}

func roots(r *fleet.Report) map[string]string {
	out := map[string]string{}
	for _, o := range r.Applications {
		out[o.Name] = string(o.State) + " " + o.Root
		if o.Error != nil {
			out[o.Name] += o.Error.Message
		}
	}
	return out
}

// lostOf returns how many applications failed because three workers were lost, which another
// run packages. All others must be done.
func lostOf(t *testing.T, r *fleet.Report) (lost int) {
	t.Helper()
	for _, o := range r.Applications {
		if o.Error != nil && strings.HasPrefix(o.Error.Message, "3 workers started it") {
			lost++
		} else if o.State != fleet.Done {
			t.Errorf("%s is %s: %+v", o.Name, o.State, o.Error)
		}
	}
	return lost
}

// start starts Temporal.
func (l *lab) start(t *testing.T) {
	t.Helper()
	l.server = startServer(t)
	l.temporal = l.server.address()
}

// TestTemporal packages a fleet with four workers, of which one is killed every 2 seconds and
// one is frozen for 8, while the server is killed once.
func TestTemporal(t *testing.T) {
	const applications = 150
	l := newLab(t, loopback, applications, "")
	alone := report(t, l.command(t, "tape", "alone", "fleet", "package", "-o", "json"))
	want := roots(alone)

	second := l.reset()
	l.start(t)
	workers := []*process{l.worker(t, "one"), l.worker(t, "two"), l.worker(t, "three"), l.worker(t, "frozen")}
	ended := make(chan struct{})
	var chaos sync.WaitGroup
	every := func(first, interval time.Duration, what func(i int) bool) {
		chaos.Go(func() {
			timer := time.NewTimer(first)
			defer timer.Stop()
			for i := 0; ; i++ {
				select {
				case <-ended:
					return
				case <-timer.C:
				}
				if !what(i) {
					return
				}
				timer.Reset(interval)
			}
		})
	}
	var killed, restarted, frozen atomic.Int32
	every(3*time.Second, 2*time.Second, func(i int) bool {
		w := workers[i%3]
		w.kill()
		w.cmd = w.start()
		killed.Add(1)
		return true
	})
	every(5*time.Second, 8*time.Second, func(i int) bool {
		workers[3].signal(t, []os.Signal{syscall.SIGSTOP, syscall.SIGCONT}[i])
		frozen.Add(1)
		return i == 0
	})
	every(8*time.Second, time.Second, func(i int) bool {
		if i == 0 {
			l.server.kill()
			return true
		}
		l.server.start(t)
		restarted.Add(1)
		return false
	})
	// Submitting a plan again follows the existing run.
	plan := string(report(t, l.command(t, "tape", "alone", "fleet", "plan", "-o", "json")).Plan)
	reports := make([]*fleet.Report, 2)
	var following sync.WaitGroup
	for i := range reports {
		following.Go(func() {
			reports[i] = report(t, l.command(t, "tape", fmt.Sprint("submitter", i), l.with("fleet", "package", "--plan", plan, "--engine", "temporal", "-o", "json")...))
		})
	}
	following.Wait()
	close(ended)
	chaos.Wait()
	if killed.Load() < 3 || frozen.Load() < 2 || restarted.Load() != 1 {
		t.Errorf("%d were killed, %d signals froze and woke one, the server was restarted %d times: too little happened", killed.Load(), frozen.Load(), restarted.Load())
	}
	if diff := cmp.Diff(roots(reports[0]), roots(reports[1])); diff != "" {
		t.Errorf("two who follow one run are told different things:\n%s", diff)
	}
	lost := lostOf(t, reports[0])
	last := report(t, l.command(t, "tape", "submitter2", l.with("fleet", "package", "--plan", plan, "--engine", "temporal", "-o", "json")...))
	if diff := cmp.Diff(want, roots(last)); diff != "" {
		t.Errorf("roots differ from those of one process (-want +got):\n%s", diff)
	}
	again := second.again(t)
	t.Logf("of %d, %d were pushed more than once and %d lost three workers; %d workers were killed", applications, again, lost, killed.Load())

	// Temporal stores nothing unencrypted.
	files, err := filepath.Glob(l.server.database + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{password, payloadKey, "team/app", "app149"} {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s holds %q", filepath.Base(file), secret)
			}
		}
	}
}

// TestCancelRun reads the progress of a run, and cancels it.
func TestCancelRun(t *testing.T) {
	l := newLab(t, loopback, 60, "")
	l.start(t)
	one := l.worker(t, "one")
	cmd := l.command(t, "tape", "alone", l.with("fleet", "package", "--engine", "temporal")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		out, err := l.command(t, "tape", "alone", l.with("fleet", "status", "--engine", "temporal", "-o", "json")...).Output()
		var r fleet.Report
		if err == nil {
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatal(err)
			}
			if r.Run.State == "running" && len(r.Run.Workers) == 1 && r.Totals.Done > 0 {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the run does not begin: %s\n%s", out, stderr.String())
		}
		time.Sleep(200 * time.Millisecond)
	}
	if out, err := l.command(t, "tape", "alone", l.with("fleet", "cancel")...).CombinedOutput(); err != nil {
		t.Fatalf("cancel: %v\n%s", err, out)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(stderr.String(), "the run was canceled") {
		t.Errorf("the submitter ended with %v:\n%s", err, stderr.String())
	}
	out, err := l.command(t, "tape", "alone", l.with("fleet", "status", "--engine", "temporal")...).Output()
	if err != nil || !strings.Contains(string(out), "run        canceled; workers: 1") || !strings.Contains(string(out), " waiting") {
		t.Errorf("status: %v\n%s", err, out)
	}
	if out, err := l.command(t, "tape", "alone", l.with("fleet", "cancel")...).CombinedOutput(); err == nil || !strings.Contains(string(out), "no run of plan") {
		t.Errorf("a second cancel: %v\n%s", err, out)
	}

	// A worker ends on SIGTERM.
	one.signal(t, syscall.SIGTERM)
	if err := one.cmd.Wait(); err != nil {
		t.Errorf("a worker that was told to end: %v", err)
	}
}
