// SPDX-License-Identifier: Apache-2.0

//go:build unix

package host_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// certificate returns a valid one, as encoded in the handshake.
func certificate() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return base64.RawStdEncoding.EncodeToString(der)
}

func TestCall(t *testing.T) {
	b := newBed(t, host.Options{})
	i := b.find(t, "good")
	d, err := i.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := interpreter.Description{
		Name: "good", Version: "1.2.3", Help: "behaves as its name says",
		Environment: []string{"TAPE_TEST_WANTED", "PLUGIN_CLIENT_CERT", "TMPDIR"},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}
	inputs, err := i.Inputs(t.Context(), &interpreter.InputsRequest{Root: "/r", Path: "app"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"app", "../base"}, inputs.Paths); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
	files := map[string]string{"a/é 日本.yaml": "kind: List\n", "empty": ""}
	resp, err := render(t.Context(), t, i, fakeOptions{Files: files, Size: 9<<20 + 1})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, f := range resp.Files[1:] {
		got[f.Path] = len(f.Data)
	}
	if diff := cmp.Diff(map[string]int{"a/é 日本.yaml": 11, "empty": 0, "big": 9<<20 + 1}, got); diff != "" {
		t.Errorf("sizes of files (-want +got):\n%s", diff)
	}
}

func TestSeveralCallsShareOneProcess(t *testing.T) {
	b := newBed(t, host.Options{})
	i := b.find(t, "good")
	if _, err := i.Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := strings.Count(b.log.String(), "interpreter started")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			again, err := b.Find(t.Context(), "good")
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := render(t.Context(), t, again, fakeOptions{Size: 1 << 20}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.log.String(), "interpreter started") - before; n != 1 {
		t.Errorf("%d processes were started, want 1:\n%s", n, b.log)
	}
}

// Failures are errors that state the reason, and nothing is left behind (which the bed checks).
func TestFailures(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := []struct {
		mode    string
		options fakeOptions
		limits  host.Limits
		start   time.Duration
		want    string
	}{
		{mode: "crashes-at-start", want: "describe: start: process died (exit status 3); its last output was:\n  cannot load the flux capacitor\n  giving up"},
		{mode: "hangs-at-start", start: 300 * time.Millisecond, want: "describe: start: no answer within 300ms"},
		{mode: "never-accepts", start: 300 * time.Millisecond, want: "start: no answer within 300ms"},
		{mode: "prints-first", want: `start: it printed "Hello from a library!" to stdout instead of its handshake`},
		{mode: "prints-no-line", want: "it printed \"\\x00"},
		{mode: "version-2", want: "it speaks version 2 of the interpreter protocol, this tape speaks version 1"},
		{mode: "netrpc", want: "it does not speak gRPC"},
		{mode: "no-certificate", want: "it sent no certificate"},
		{mode: "bad-certificate", want: "certificate in its handshake: x509"},
		{mode: "socket-elsewhere", want: "its socket /run/docker.sock is outside the folder it was given"},
		{mode: "listens-to-all", want: "neither a unix socket nor a loopback address"},
		{mode: "misnamed", want: `describe: its description has the name "helm"`},
		{mode: "bad-schema", want: "the schema of its options is not a JSON object"},

		{mode: "panics", want: "interpreter panics: render app: interpreter panicked: no such thing"},
		{mode: "crashes", want: "render app: process died (exit status 7); its last output was:\n  last words"},
		{mode: "crashes-badly", want: "panic: in a goroutine of its own"},
		{mode: "nothing", want: "interpreter returned nil from render"},
		{mode: "hangs", limits: host.Limits{Time: 4 * time.Second}, want: "interpreter hangs: render app: no answer within 4s"},
		{mode: "eats", limits: host.Limits{Memory: 1 << 30}, want: "interpreter eats: render app: out of memory: it used more than 1GiB; set $TAPE_INTERPRETER_MEMORY to allow more"},
		{mode: "bad-material", want: `digest "who knows"`},
		{mode: "good", options: fakeOptions{Size: 3 << 20}, limits: host.Limits{Bytes: 2 << 20}, want: "interpreter returned more than 2097152 bytes"},
		{mode: "good", options: fakeOptions{Count: 100}, limits: host.Limits{Files: 50}, want: "more than 50 files"},
		{mode: "good", options: fakeOptions{Files: map[string]string{"../x": ""}}, want: `returned a file named "../x"`},
		{mode: "good", options: fakeOptions{Files: map[string]string{"/etc/passwd": ""}}, want: `returned a file named "/etc/passwd"`},
		{mode: "good", options: fakeOptions{Files: map[string]string{"a//b": ""}}, want: `returned a file named "a//b"`},
		{mode: "good", options: fakeOptions{Files: map[string]string{`a\b`: ""}}, want: `returned a file named "a\\b"`},
		{mode: "good", options: fakeOptions{Files: map[string]string{"environment": ""}}, want: `returned two files named "environment"`},
		{mode: "good", options: fakeOptions{Files: map[string]string{long: ""}}, want: ""},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s %.20s", test.mode, test.want), func(t *testing.T) {
			b := newBed(t, host.Options{Limits: test.limits, StartTimeout: test.start})
			i := b.find(t, test.mode)
			_, err := render(t.Context(), t, i, test.options)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got error %v\nwant one with %s", err, test.want)
			}
		})
	}
}

// Files that are executable, but cannot be executed.
func TestNoProgram(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "exec format error: it was built for another platform"},
		{"\x7fELF\x02\x01", "exec format error: it was built for another platform"},
		{"#!/no/such/python\n", "no such file or directory: the interpreter or loader named in its #! line"},
		{"#!/bin/sh\necho oops >&2\nexit 9\n", "process died (exit status 9); its last output was:\n  oops"},
		{"#!/bin/sh\ntrue\n", "process died without output (exit status 0)"},
	}
	for _, test := range tests {
		b := newBed(t, host.Options{})
		if _, err := host.Install(t.Context(), strings.NewReader(test.text), "program", b.dir, ""); err != nil {
			t.Fatal(err)
		}
		_, err := b.findAgain(t, "program").Describe(t.Context())
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %s", test.text, err, test.want)
		}
	}
}

func TestErrorOfInterpreter(t *testing.T) {
	b := newBed(t, host.Options{})
	i := b.find(t, "says-no")
	_, err := i.Inputs(t.Context(), &interpreter.InputsRequest{Root: "/r", Path: "app"})
	if want := "interpreter says-no: inputs of app: the library is not initialised"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestDiagnosticOfErrorDropsFiles(t *testing.T) {
	b := newBed(t, host.Options{})
	resp, err := render(t.Context(), t, b.find(t, "fails"), fakeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := &interpreter.RenderResponse{Diagnostics: []interpreter.Diagnostic{
		{Severity: interpreter.Error, Summary: "no such template", File: "a.yaml", Line: 3, Column: 9},
	}}
	if diff := cmp.Diff(want, resp); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A process that crashed, panicked or was cancelled is replaced.
func TestNextCallStartsAnotherProcess(t *testing.T) {
	b := newBed(t, host.Options{})
	i := b.find(t, "crashes")
	for range 2 {
		_, err := render(t.Context(), t, i, fakeOptions{})
		if err == nil || !strings.Contains(err.Error(), "process died (exit status 7)") && !strings.Contains(err.Error(), "process died without output (exit status 7)") {
			t.Fatalf("got %v, want that it died", err)
		}
	}
	if _, err := i.Inputs(t.Context(), &interpreter.InputsRequest{Path: "app"}); err != nil {
		t.Fatal(err)
	}
}

func TestOutput(t *testing.T) {
	for _, mode := range []string{"prints", "floods-stderr"} {
		t.Run(mode, func(t *testing.T) {
			b := newBed(t, host.Options{})
			if _, err := render(t.Context(), t, b.find(t, mode), fakeOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if mode != "prints" {
				return
			}
			for _, want := range []string{"chatter on the file descriptor", "chatter of a child"} {
				if !strings.Contains(b.log.String(), want) {
					t.Errorf("log has no %q", want)
				}
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	set := map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": "/home/me", "LC_ALL": "C", "https_proxy": "http://proxy", "GOGC": "50",
		"TAPE_TEST_WANTED": "yes", "TAPE_TEST_SECRET": "no", "TMPDIR": "/elsewhere", "PLUGIN_CLIENT_CERT": "mine",
	}
	b := newBed(t, host.Options{Limits: host.Limits{Memory: 1 << 30}, LookupEnv: func(name string) (string, bool) {
		value, ok := set[name]
		return value, ok
	}})
	resp, err := render(t.Context(), t, b.find(t, "good"), fakeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for variable := range strings.SplitSeq(string(resp.Files[0].Data), "\x00") {
		name, value, ok := strings.Cut(variable, "=")
		if ok && !strings.HasPrefix(name, "PLUGIN_") {
			got[name] = value
		}
		if name == "PLUGIN_CLIENT_CERT" && value == "mine" {
			t.Error("a variable of the handshake was overridden")
		}
	}
	if !strings.HasPrefix(got["TMPDIR"], b.tmp+"/") {
		t.Errorf("TMPDIR is %s, want one of its own", got["TMPDIR"])
	}
	delete(got, "TMPDIR")
	delete(got, "TAPE_INTERPRETER")
	want := map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": "/home/me", "LC_ALL": "C", "https_proxy": "http://proxy", "TAPE_TEST_WANTED": "yes",
		"GOGC": "50", "GOMEMLIMIT": "966367638", // nine tenths
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}

	delete(set, "GOGC")
	b = newBed(t, host.Options{LookupEnv: func(name string) (string, bool) { value, ok := set[name]; return value, ok }})
	if resp, err = render(t.Context(), t, b.find(t, "good"), fakeOptions{}); err != nil {
		t.Fatal(err)
	}
	if env := string(resp.Files[0].Data); strings.Contains(env, "GOGC") || strings.Contains(env, "TAPE_LATE_GC") {
		t.Errorf("programs that an interpreter starts inherit %q", env)
	}
}

func TestDescriptionIsRemembered(t *testing.T) {
	cache := t.TempDir()
	for run := range 2 {
		t.Run(fmt.Sprint(run), func(t *testing.T) {
			b := newBed(t, host.Options{CacheDir: cache})
			if _, err := b.find(t, "good").Describe(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if started := strings.Contains(b.log.String(), "interpreter started"); started != (run == 0) {
				t.Errorf("run %d: started is %v", run, started)
			}
		})
	}
	// Damaged cache entries are replaced.
	err := filepath.WalkDir(cache, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.WriteFile(path, []byte("{"), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	b := newBed(t, host.Options{CacheDir: cache})
	if _, err := b.find(t, "good").Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	addTo(t, first, "good")
	addTo(t, second, "good")
	addTo(t, second, "other")
	write := func(dir, name string, mode os.FileMode) {
		path := filepath.Join(dir, "tape-interpreter-"+name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(first, "plain-file", 0o644)
	write(second, "plain-file", 0o755) // not skipped
	write(first, "open", 0o777)
	write(first, "Bad_Name", 0o755)
	if err := os.Mkdir(filepath.Join(first, "tape-interpreter-folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(first, "tape-interpreter-broken")); err != nil {
		t.Fatal(err)
	}
	h := host.New(host.Options{Dirs: []string{first, filepath.Join(first, "none"), second}})
	defer h.Close()

	tests := []struct{ name, path, want string }{
		{name: "good", path: filepath.Join(first, "tape-interpreter-good")},
		{name: "other", path: filepath.Join(second, "tape-interpreter-other")},
		{name: "missing", want: "no interpreter \"missing\": looked for tape-interpreter-missing in " + first},
		{name: "plain-file", want: "not executable (mode -rw-r--r--); run chmod +x"},
		{name: "open", want: "writable by everyone on this machine"},
		{name: "folder", want: "not a regular file"},
		{name: "broken", want: "no such file"},
		{name: "./evil", want: "is a path: give the interpreter by name"},
		{name: "../../bin/sh", want: "is a path: give the interpreter by name"},
		{name: "Bad_Name", want: "is not a valid name"},
		{name: "", want: "is not a valid name"},
	}
	for _, test := range tests {
		i, err := h.Find(t.Context(), test.name)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want == "" && i.Path() != test.path:
			t.Errorf("%s: found %s, want %s", test.name, i.Path(), test.path)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got error %v, want one with %s", test.name, err, test.want)
		}
	}
	var missing *host.NotFoundError
	if _, err := h.Find(t.Context(), "missing"); !errors.As(err, &missing) || missing.Name != "missing" {
		t.Errorf("got %v, want a NotFoundError", err)
	}

	list, err := h.List(t.Context())
	var names []string
	for _, i := range list {
		names = append(names, i.Name())
	}
	if diff := cmp.Diff([]string{"good", "other"}, names); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if n := strings.Count(fmt.Sprint(err), "\n") + 1; err == nil || n != 4 {
		t.Errorf("list tells of %d that cannot be used, want 4: %v", n, err)
	}
}

func TestSearchPath(t *testing.T) {
	dir := t.TempDir()
	exe := filepath.Join(dir, "bin", "tape")
	if err := os.MkdirAll(filepath.Join(dir, "opt"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(exe), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "opt", "tape"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../opt/tape", exe); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"TAPE_INTERPRETERS": "/a:relative::/b/:/a", "HOME": "/home/me"}
	got := host.SearchPath(exe, func(name string) string { return env[name] })
	want := []string{filepath.Join(dir, "bin"), filepath.Join(dir, "opt"), "/a", "/b", "/home/me/.local/share/tape/interpreters"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	env["XDG_DATA_HOME"] = "/data"
	if got := host.UserDir(func(name string) string { return env[name] }); got != "/data/tape/interpreters" {
		t.Errorf("user's folder is %s", got)
	}
}

// copyTo makes a copy of this test binary that can be changed.
func copyTo(t *testing.T, dir, mode string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := host.Install(t.Context(), f, mode, dir, ""); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "tape-interpreter-"+mode)
}

func TestInstall(t *testing.T) {
	b := newBed(t, host.Options{CacheDir: t.TempDir()})
	path := copyTo(t, b.dir, "good")
	i, err := b.Find(t.Context(), "good")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A replaced file is rejected, when it is found and when it starts.
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := render(t.Context(), t, i, fakeOptions{}); err == nil || !strings.Contains(err.Error(), "when tape first read it") {
		t.Errorf("start of a changed file: got %v, want that it changed", err)
	}
	if _, err := b.Find(t.Context(), "good"); err == nil || !strings.Contains(err.Error(), "when it was installed") {
		t.Errorf("find of a changed file: got %v, want that it changed", err)
	}
	// A wrong checksum leaves the installed files unchanged.
	before, err := os.ReadFile(path + ".sha256")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := i.Checksum(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = host.Install(t.Context(), strings.NewReader("#!/bin/sh\n"), "good", b.dir, sum)
	if err == nil || !strings.Contains(err.Error(), "want "+sum.String()) {
		t.Errorf("got %v, want a checksum mismatch", err)
	}
	after, err := os.ReadFile(path + ".sha256")
	if err != nil || string(before) != string(after) {
		t.Errorf("the failed install changed the record: %q, %v", after, err)
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("folder has %v, %v; want the binary and its checksum", entries, err)
	}
	// After it is installed again it is valid again.
	copyTo(t, b.dir, "good")
	if _, err := b.Find(t.Context(), "good"); err != nil {
		t.Error(err)
	}
}

func TestInstallRefuses(t *testing.T) {
	tests := []struct {
		name, dir, want string
		r               io.Reader
	}{
		{name: "../x", dir: t.TempDir(), r: strings.NewReader(""), want: "invalid name"},
		{name: "x", dir: "relative", r: strings.NewReader(""), want: "no folder to install to"},
		{name: "x", dir: t.TempDir(), r: io.MultiReader(strings.NewReader("abc"), brokenReader{}), want: "connection lost"},
	}
	for _, test := range tests {
		_, err := host.Install(t.Context(), test.r, test.name, test.dir, "")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s to %s: got %v, want %s", test.name, test.dir, err, test.want)
		}
		if filepath.IsAbs(test.dir) {
			if left, err := os.ReadDir(test.dir); err != nil || len(left) > 0 {
				t.Errorf("%s: left %v, %v", test.want, left, err)
			}
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("connection lost") }

func TestClosed(t *testing.T) {
	b := newBed(t, host.Options{})
	i := b.find(t, "good")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := render(t.Context(), t, i, fakeOptions{}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got %v, want that it is closed", err)
	}
	if _, err := b.Find(t.Context(), "good"); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got %v, want that it is closed", err)
	}
}

func TestCancel(t *testing.T) {
	for _, mode := range []string{"hangs", "heeds", "has-children"} {
		t.Run(mode, func(t *testing.T) {
			b := newBed(t, host.Options{})
			i := b.find(t, mode)
			if _, err := i.Describe(t.Context()); err != nil {
				t.Fatal(err)
			}
			l := newLife(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			failed := make(chan error, 1)
			go func() {
				_, err := render(ctx, t, i, fakeOptions{Life: l.path})
				failed <- err
			}()
			processes := 1
			if mode == "has-children" {
				processes = 2
			}
			l.begins(t, processes)
			reason := errors.New("changed my mind")
			cancel(reason)
			if err := <-failed; !errors.Is(err, reason) {
				t.Errorf("got %v, want %v", err, reason)
			}
			l.ends(t)
		})
	}
}

// The end of one call does not end another.
func TestCancelOneOfTwo(t *testing.T) {
	b := newBed(t, host.Options{})
	i := b.find(t, "heeds")
	first, cancelFirst := context.WithCancelCause(t.Context())
	second, cancelSecond := context.WithCancelCause(t.Context())
	failed := make(chan error, 2)
	one, two := newLife(t), newLife(t)
	for ctx, l := range map[context.Context]*life{first: one, second: two} {
		go func() {
			_, err := render(ctx, t, i, fakeOptions{Life: l.path})
			failed <- err
		}()
		l.begins(t, 1)
	}
	stop := errors.New("stop")
	cancelFirst(stop)
	if err := <-failed; !errors.Is(err, stop) {
		t.Fatalf("got %v", err)
	}
	if _, err := i.Inputs(t.Context(), &interpreter.InputsRequest{Path: "app"}); err != nil {
		t.Fatal(err)
	}
	cancelSecond(stop)
	if err := <-failed; !errors.Is(err, stop) {
		t.Fatalf("got %v", err)
	}
	one.ends(t)
	two.ends(t)
}

// Close ends calls in progress.
func TestCloseDuringCall(t *testing.T) {
	b := newBed(t, host.Options{})
	i := b.find(t, "has-children")
	l := newLife(t)
	failed := make(chan error, 1)
	go func() {
		_, err := render(t.Context(), t, i, fakeOptions{Life: l.path})
		failed <- err
	}()
	l.begins(t, 2)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got %v, want that it is closed", err)
	}
	l.ends(t)
}

// Folders of killed hosts are removed by the next.
func TestSweep(t *testing.T) {
	b := newBed(t, host.Options{})
	abandoned := filepath.Join(b.tmp, "tape-host-1")
	if err := os.MkdirAll(filepath.Join(abandoned, "2"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(abandoned, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.find(t, "good").Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(abandoned); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	// The folder of a running host is not.
	other := host.New(host.Options{Dirs: []string{b.dir}, Log: slog.New(slog.DiscardHandler)})
	defer other.Close()
	i, err := other.Find(t.Context(), "good")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []*host.Interpreter{i, b.findAgain(t, "good")} {
		if _, err := render(t.Context(), t, i, fakeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	rooms, err := filepath.Glob(filepath.Join(b.tmp, "tape-host-*"))
	if err != nil || len(rooms) != 2 {
		t.Errorf("rooms %s, %v; want two", slices.Sorted(slices.Values(rooms)), err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) findAgain(t *testing.T, mode string) *host.Interpreter {
	t.Helper()
	i, err := b.Find(t.Context(), mode)
	if err != nil {
		t.Fatal(err)
	}
	return i
}
