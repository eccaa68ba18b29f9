// SPDX-License-Identifier: Apache-2.0

//go:build unix

package host_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/plugins/serve"
)

// TestMain makes this test binary every program that the tests start: an interpreter, if it is
// started by the name of one, which also defines its behaviour; or a host that will be killed.
func TestMain(m *testing.M) {
	if mode, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "tape-interpreter-"); ok {
		startFake(mode)
	}
	if dir := os.Getenv("TAPE_TEST_HOST"); dir != "" {
		hostToKill(dir)
	}
	goleak.VerifyTestMain(m)
}

// startFake does what happens before an interpreter serves, and serves.
func startFake(mode string) {
	says := func(fields ...string) {
		fmt.Println(strings.Join(fields, "|"))
		hang()
	}
	socket := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "socket")
	switch mode {
	case "crashes-at-start":
		fmt.Fprintln(os.Stderr, "cannot load the flux capacitor")
		fmt.Fprint(os.Stderr, "giving up")
		os.Exit(3)
	case "hangs-at-start":
		hang()
	case "prints-first":
		fmt.Println("Hello from a library!")
	case "prints-no-line":
		_, _ = os.Stdout.Write(make([]byte, 1<<20))
		hang()
	case "version-2":
		says("1", "2", "unix", socket, "grpc", "")
	case "netrpc":
		says("1", "1", "unix", socket, "netrpc", "")
	case "no-certificate":
		says("1", "1", "unix", socket, "grpc", "")
	case "bad-certificate":
		says("1", "1", "unix", socket, "grpc", base64.RawStdEncoding.EncodeToString(make([]byte, 100)))
	case "socket-elsewhere":
		says("1", "1", "unix", "/run/docker.sock", "grpc", "")
	case "listens-to-all":
		says("1", "1", "tcp", "192.0.2.1:80", "grpc", "")
	case "never-accepts":
		// A valid handshake without a server.
		if _, err := net.Listen("unix", socket); err != nil {
			panic(err)
		}
		says("1", "1", "unix", socket, "grpc", certificate())
	case "stdin":
		_, err := io.Copy(io.Discard, os.Stdin)
		fmt.Fprintln(os.Stderr, "stdin ended", err)
		os.Exit(4)
	}
	serve.Interpreter(fake{mode})
}

// hang blocks until killed: in a system call, so that the runtime does not report a deadlock.
func hang() {
	for {
		_, _ = unix.Poll(nil, -1)
	}
}

// hostToKill is a process that renders with an interpreter that hangs and has a child.
func hostToKill(dir string) {
	h := host.New(host.Options{Dirs: []string{dir}})
	i, err := h.Find(context.Background(), "has-children")
	if err != nil {
		panic(err)
	}
	_, err = i.Render(context.Background(), &interpreter.RenderRequest{Options: json.RawMessage(os.Getenv("TAPE_TEST_OPTIONS"))})
	panic(fmt.Sprint("render returned: ", err))
}

// fakeOptions are the options of a render in tests.
type fakeOptions struct {
	Life  string            `json:"life"`  // a socket, connected to for as long as the process lives
	Files map[string]string `json:"files"` // to answer with
	Size  int               `json:"size"`  // of one more file
	Count int               `json:"count"` // of more files
	Host  int               `json:"host"`  // the process to inspect
}

// fake is an interpreter that behaves as its mode says, and correctly by default.
type fake struct{ mode string }

func (f fake) Describe(context.Context) (interpreter.Description, error) {
	d := interpreter.Description{
		Name:        f.mode,
		Version:     "1.2.3",
		Help:        "behaves as its name says",
		Environment: []string{"TAPE_TEST_WANTED", "PLUGIN_CLIENT_CERT", "TMPDIR"},
	}
	switch f.mode {
	case "pries-online":
		d.Network = true
	case "misnamed":
		d.Name = "helm"
	case "bad-schema":
		d.Options = json.RawMessage(`[1]`)
	}
	return d, nil
}

func (f fake) Inputs(_ context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	if f.mode == "says-no" {
		return nil, errors.New("the library is not initialised")
	}
	return &interpreter.InputsResponse{Paths: []string{req.Path, "../base"}}, nil
}

func (f fake) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	var opts fakeOptions
	if len(req.Options) > 0 {
		if err := json.Unmarshal(req.Options, &opts); err != nil {
			return nil, err
		}
	}
	if opts.Life != "" {
		if err := hold(opts.Life, f.mode == "has-children"); err != nil {
			return nil, err
		}
	}
	files := []interpreter.File{{Path: "environment", Data: []byte(strings.Join(os.Environ(), "\x00"))}}
	for _, name := range slices.Sorted(maps.Keys(opts.Files)) {
		files = append(files, interpreter.File{Path: name, Data: []byte(opts.Files[name])})
	}
	if opts.Size > 0 {
		files = append(files, interpreter.File{Path: "big", Data: make([]byte, opts.Size)})
	}
	for n := range opts.Count {
		files = append(files, interpreter.File{Path: fmt.Sprintf("%06d", n)})
	}
	resp := &interpreter.RenderResponse{Files: files}
	switch f.mode {
	case "pries", "pries-online":
		pried, err := pry(req.Scratch, opts.Host)
		if err != nil {
			return nil, err
		}
		resp.Files = []interpreter.File{{Path: "pried", Data: []byte(pried)}}
	case "eats":
		for {
			eaten = append(eaten, bytes.Repeat([]byte{1}, 1<<20))
		}
	case "hangs", "has-children":
		select {}
	case "heeds":
		<-ctx.Done()
		return nil, ctx.Err()
	case "panics":
		panic("no such thing")
	case "crashes":
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(7)
	case "crashes-badly":
		go func() { panic("in a goroutine of its own") }()
		select {}
	case "prints":
		for range 10_000 {
			fmt.Println("chatter on stdout")
		}
		_, _ = unix.Write(1, []byte("chatter on the file descriptor\n"))
		cmd := exec.Command("echo", "chatter of a child")
		cmd.Stdout = os.NewFile(1, "stdout")
		if err := cmd.Run(); err != nil {
			return nil, err
		}
	case "floods-stderr":
		for range 100 {
			fmt.Fprintln(os.Stderr, strings.Repeat("flood ", 20_000))
		}
		fmt.Fprintln(os.Stderr, `{"@message": 1, "@level": {}}`)
	case "fails":
		resp.Diagnostics = []interpreter.Diagnostic{{Severity: interpreter.Error, Summary: "no such template", File: "a.yaml", Line: 3, Column: 9}}
	case "bad-material":
		resp.Materials = []interpreter.Material{{URI: "https://example.com/x", Digest: "who knows"}}
	case "nothing":
		return nil, nil
	}
	return resp, nil
}

// hold connects to a socket for as long as the process lives, and writes "alive" to it. With a
// child, the child does so, too.
func hold(socket string, child bool) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	f, err := conn.(*net.UnixConn).File()
	if err != nil {
		return err
	}
	if child {
		cmd := exec.Command("sh", "-c", "echo alive; exec sleep 1000")
		cmd.Stdout = f
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true} // in its own session
		if err := cmd.Start(); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(f, "alive")
	held = append(held, f) // the garbage collector closes a file that is not used
	return err
}

var (
	held  []*os.File
	eaten [][]byte
)

// pry tries what an interpreter must not be able to do, and returns what succeeded.
func pry(scratch string, host int) (string, error) {
	var worked []string
	elsewhere := filepath.Join(os.Getenv("HOME"), "pried")
	for what, err := range map[string]error{
		"write": os.WriteFile(elsewhere, nil, 0o600),
		"append": func() error {
			_, err := os.OpenFile(filepath.Join(os.Getenv("HOME"), "kept"), os.O_WRONLY|os.O_APPEND, 0)
			return err
		}(),
		"truncate": os.Truncate(filepath.Join(os.Getenv("HOME"), "kept"), 0),
		"remove":   os.Remove(filepath.Join(os.Getenv("HOME"), "kept")),
		"folder":   os.Mkdir(elsewhere+".d", 0o700),
		"link":     os.Link(filepath.Join(os.Getenv("HOME"), "kept"), filepath.Join(scratch, "link")),
		"rename":   os.Rename(filepath.Join(os.Getenv("HOME"), "kept"), filepath.Join(scratch, "moved")),
		"network":  func() error { _, err := net.Dial("tcp", os.Getenv("TAPE_TEST_WANTED")); return err }(),
		"udp":      func() error { _, err := net.Dial("udp", os.Getenv("TAPE_TEST_WANTED")); return err }(),
		"descriptor": func() error {
			_, err := unix.FcntlInt(99, unix.F_GETFD, 0)
			return err
		}(),
		"raise": unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}),
	} {
		if err == nil {
			worked = append(worked, what)
		}
	}
	for _, file := range []string{"environ", "mem"} {
		names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/%s", host, file))
		if err != nil || len(names) == 0 {
			return "", fmt.Errorf("look for threads of %d: %w", host, err)
		}
		for _, name := range append(names, fmt.Sprintf("/proc/%d/%s", host, file)) {
			f, err := os.Open(name)
			if err != nil {
				continue
			}
			// Address 0 is not mapped, which is an error other than the end of the file: the
			// latter is what kernels before 6.16 return for a thread that has just ended.
			if _, err := f.ReadAt(make([]byte, 1), 0); err == nil || file == "mem" && !errors.Is(err, io.EOF) {
				worked = append(worked, name)
			}
		}
	}
	slices.Sort(worked)
	sub := filepath.Join(scratch, "sub")
	err := errors.Join(os.Mkdir(sub, 0o700), os.WriteFile(filepath.Join(scratch, "file"), nil, 0o600),
		os.Rename(filepath.Join(scratch, "file"), filepath.Join(sub, "file")), // between folders, like git
		os.WriteFile(os.DevNull, nil, 0))
	return strings.Join(worked, " "), err
}

// life is the other end of such connections.
type life struct {
	path     string
	listener *net.UnixListener
	r        *bufio.Reader
}

func newLife(t *testing.T) *life {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "tl") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	l := &life{path: filepath.Join(dir, "socket")}
	if l.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: l.path, Net: "unix"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(l.listener.Close(), os.RemoveAll(dir)) })
	// Interpreters of other users connect, too.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(l.path, 0o777)); err != nil {
		t.Fatal(err)
	}
	return l
}

// begins waits until n processes are connected.
func (l *life) begins(t *testing.T, n int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	if err := l.listener.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	conn, err := l.listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	l.r = bufio.NewReader(conn)
	for range n {
		if _, err := l.r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
}

// ends waits until no process is connected.
func (l *life) ends(t *testing.T) {
	t.Helper()
	if rest, err := io.ReadAll(l.r); err != nil || len(rest) > 0 {
		t.Fatalf("processes still live: %q, %v", rest, err)
	}
}

// bed is a folder of interpreters, all of them this test binary, and a host.
type bed struct {
	*host.Host
	dir string
	tmp string
	log *journal
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// pid returns the id of the process started last.
func (j *journal) pid(t *testing.T) int {
	t.Helper()
	pids := regexp.MustCompile(`pid=(\d+)`).FindAllStringSubmatch(j.String(), -1)
	pid, err := strconv.Atoi(pids[len(pids)-1][1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// newBed makes a host. At the end of the test, nothing may be left of it.
func newBed(t *testing.T, opts host.Options) *bed {
	t.Helper()
	b := &bed{dir: t.TempDir(), log: &journal{}}
	// Short, because of the sockets.
	tmp, err := os.MkdirTemp("/tmp", "th")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	b.tmp = tmp
	opts.Dirs = append(opts.Dirs, b.dir)
	opts.Log = slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.Host = host.New(opts)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		left, err := os.ReadDir(tmp)
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		_ = os.RemoveAll(tmp)
	})
	return b
}

// find adds an interpreter to the bed and finds it.
func (b *bed) find(t *testing.T, mode string) *host.Interpreter {
	t.Helper()
	b.add(t, mode)
	i, err := b.Find(t.Context(), mode)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (b *bed) add(t *testing.T, mode string) string {
	t.Helper()
	return addTo(t, b.dir, mode)
}

func addTo(t testing.TB, dir, mode string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tape-interpreter-"+mode)
	if err := os.Symlink(exe, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func options(t testing.TB, o fakeOptions) json.RawMessage {
	t.Helper()
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// render calls [host.Interpreter.Render] with options.
func render(ctx context.Context, t testing.TB, i *host.Interpreter, o fakeOptions) (*interpreter.RenderResponse, error) {
	t.Helper()
	return i.Render(ctx, &interpreter.RenderRequest{Source: "/src", Path: "app", Options: options(t, o)})
}
