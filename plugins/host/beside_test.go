// SPDX-License-Identifier: Apache-2.0

//go:build unix

package host_test

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/plugins/host"
)

// starts returns how many processes have been started.
func (b *bed) starts() int { return strings.Count(b.log.String(), "interpreter started") }

// list returns the only interpreter in the bed, before it is read.
func (b *bed) list(t *testing.T) *host.Interpreter {
	t.Helper()
	list, err := b.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("list is %v, %v", list, err)
	}
	return list[0]
}

// describe returns the version in the interpreter's description, and whether it was started for
// that.
func (b *bed) describe(t *testing.T, i *host.Interpreter) (version string, started bool) {
	t.Helper()
	before := b.starts()
	d, err := i.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d.Version, b.starts() > before
}

// padding is space in the executable for a change that neither shows at its ends nor affects
// it.
const padding = 256 << 10

// written returns a bed with a copy of the interpreter good, which was not installed, and its
// description, with the version "written" to tell it apart.
func written(t *testing.T, opts host.Options) (b *bed, exe string) {
	t.Helper()
	b = newBed(t, opts)
	exe = copyTo(t, b.dir, "good")
	if err := os.Remove(exe + ".sha256"); err != nil {
		t.Fatal(err)
	}
	edit(t, exe, func(data []byte) []byte { return append(data, make([]byte, padding)...) })
	i, err := b.Open(t.Context(), exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.WriteDescription(t.Context()); err != nil {
		t.Fatal(err)
	}
	edit(t, exe+".json", replace(`"version": "1.2.3"`, `"version": "written"`))
	return b, exe
}

// edit rewrites a file in place.
func edit(t *testing.T, file string, f func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, f(data), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// replace is an edit that replaces a text.
func replace(before, after string) func([]byte) []byte {
	return func(data []byte) []byte {
		if !bytes.Contains(data, []byte(before)) {
			panic("no " + before)
		}
		return bytes.Replace(data, []byte(before), []byte(after), 1)
	}
}

// change is an edit of one byte, counted from the end.
func change(fromEnd int) func([]byte) []byte {
	return func(data []byte) []byte {
		data[len(data)-fromEnd]++
		return data
	}
}

// A description file is used, and nothing is started.
func TestDescriptionBeside(t *testing.T) {
	b, exe := written(t, host.Options{})
	if version, started := b.describe(t, b.list(t)); version != "written" || started {
		t.Errorf("version %s, started is %v", version, started)
	}
	// With the right checksum nothing changes.
	i, err := b.Find(t.Context(), "good")
	if err != nil {
		t.Fatal(err)
	}
	if version, started := b.describe(t, i); version != "written" || started {
		t.Errorf("after its checksum: version %s, started is %v", version, started)
	}
	// One process starts, for the call.
	before := b.starts()
	if _, err := render(t.Context(), t, i, fakeOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := b.starts() - before; n != 1 {
		t.Errorf("%d processes were started, want 1", n)
	}
	// Installing another one replaces the description.
	defer func() {
		copyTo(t, b.dir, "good")
		if _, err := os.Stat(exe + ".json"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after an install the description is still there: %v", err)
		}
	}()
	// Opened by its path, the interpreter itself is asked.
	if i, err = b.Open(t.Context(), exe); err != nil {
		t.Fatal(err)
	}
	if version, _ := b.describe(t, i); version != "1.2.3" {
		t.Errorf("opened by its path: version %s", version)
	}
}

// A description of another executable, or an invalid one, is ignored: the interpreter is asked,
// as without a file.
func TestDescriptionBesideIsRefused(t *testing.T) {
	tests := map[string]func(exe string) error{
		"there is none":         func(exe string) error { return os.Remove(exe + ".json") },
		"everyone may write it": func(exe string) error { return os.Chmod(exe+".json", 0o666) },
		"a folder": func(exe string) error {
			return errors.Join(os.Remove(exe+".json"), os.Mkdir(exe+".json", 0o700))
		},
		"installed since": func(exe string) error {
			return os.WriteFile(exe+".sha256", []byte(strings.Repeat("0", 64)), 0o600)
		},
	}
	for name, f := range map[string]func([]byte) []byte{
		"cut off":        func(data []byte) []byte { return data[:len(data)/2] },
		"no checksum":    replace("sha256:", "sha256-"),
		"another's name": replace(`"name": "good"`, `"name": "other"`),
	} {
		tests[name] = func(exe string) error { edit(t, exe+".json", f); return nil }
	}
	for name, f := range map[string]func([]byte) []byte{
		"the executable is longer":      func(data []byte) []byte { return append(data, 0) },
		"the executable ends otherwise": change(1),
	} {
		tests[name] = func(exe string) error { edit(t, exe, f); return nil }
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			b, exe := written(t, host.Options{})
			if err := spoil(exe); err != nil {
				t.Fatal(err)
			}
			i := b.list(t)
			if name == "installed since" {
				if _, err := i.Describe(t.Context()); err == nil || !strings.Contains(err.Error(), "when it was installed") {
					t.Errorf("got %v", err)
				}
				return
			}
			if version, started := b.describe(t, i); version != "1.2.3" || !started {
				t.Errorf("version %s, started is %v", version, started)
			}
		})
	}
}

// A change that does not show in size and ends is detected before the executable starts, and
// the description is requested again.
func TestDescriptionBesideIsStale(t *testing.T) {
	cache := t.TempDir()
	b, exe := written(t, host.Options{CacheDir: cache})
	edit(t, exe, change(padding/2))
	i := b.list(t)
	if version, started := b.describe(t, i); version != "written" || started {
		t.Fatalf("at a glance: version %s, started is %v", version, started)
	}
	if _, err := i.Checksum(t.Context()); err != nil {
		t.Fatal(err)
	}
	if version, started := b.describe(t, i); version != "1.2.3" || !started {
		t.Errorf("with its checksum: version %s, started is %v", version, started)
	}
	if _, err := render(t.Context(), t, i, fakeOptions{}); err != nil {
		t.Error(err)
	}
	// The next run neither reads nor starts it.
	before := b.starts()
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	next := host.New(host.Options{Dirs: []string{b.dir}, CacheDir: cache, Log: log})
	defer next.Close()
	list, err := next.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d, err := list[0].Describe(t.Context()); err != nil || d.Version != "1.2.3" || b.starts() > before {
		t.Errorf("in the next run: version %s, %v, %d starts", d.Version, err, b.starts()-before)
	}
}

// A call determines the program, even if its checksum was never requested.
func TestCallOfStaleDescription(t *testing.T) {
	t.Setenv("TAPE_TEST_WANTED", "yes")
	b, exe := written(t, host.Options{})
	edit(t, exe+".json", replace("TAPE_TEST_WANTED", "TAPE_TEST_BEFORE"))
	edit(t, exe, change(padding/2))
	resp, err := render(t.Context(), t, b.list(t), fakeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(resp.Files[0].Data, []byte("TAPE_TEST_WANTED=yes")) {
		t.Errorf("it got the environment of the one before: %q", resp.Files[0].Data)
	}
}

// fresh returns another host for the same folder, which knows no checksum yet, and the
// interpreter that it lists.
func (b *bed) fresh(t *testing.T) (*host.Host, *host.Interpreter) {
	t.Helper()
	h := host.New(host.Options{Dirs: []string{b.dir}, Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	t.Cleanup(func() { _ = h.Close() })
	list, err := h.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := list[0].Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h, list[0]
}

// The first call uses the process that Prepare started.
func TestPrepare(t *testing.T) {
	b, exe := written(t, host.Options{})
	_, i := b.fresh(t)
	before := b.starts()
	i.Prepare(t.Context())
	i.Prepare(t.Context())
	if _, err := render(t.Context(), t, i, fakeOptions{}); err != nil {
		t.Fatal(err)
	}
	i.Prepare(t.Context())
	if n := b.starts() - before; n != 1 {
		t.Errorf("%d processes were started, want 1", n)
	}

	// It is not used if the executable has changed.
	_, i = b.fresh(t)
	i.Prepare(t.Context())
	if _, err := i.Checksum(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(exe)
	if err == nil {
		// A running program cannot be written to, only replaced.
		err = errors.Join(os.WriteFile(exe+".new", append(data, 0), 0o700), os.Rename(exe+".new", exe))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := render(t.Context(), t, i, fakeOptions{}); err == nil || !strings.Contains(err.Error(), "when tape first read it") {
		t.Errorf("call of a changed executable: got %v, want that it changed", err)
	}
}

// If the expected checksum is recorded, no process starts before the checksum is known.
func TestPrepareInstalled(t *testing.T) {
	b, exe := written(t, host.Options{})
	h, i := b.fresh(t)
	if err := os.WriteFile(exe+".sha256", []byte(strings.Repeat("0", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	before := b.starts()
	i.Prepare(t.Context())
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if n := b.starts() - before; n != 0 {
		t.Errorf("%d processes were started", n)
	}
}

// A process that was prepared with a description of another program does not get the call.
func TestPrepareStale(t *testing.T) {
	t.Setenv("TAPE_TEST_WANTED", "yes")
	b, exe := written(t, host.Options{})
	edit(t, exe+".json", replace("TAPE_TEST_WANTED", "TAPE_TEST_BEFORE"))
	edit(t, exe, change(padding/2))
	_, i := b.fresh(t)
	i.Prepare(t.Context())
	resp, err := render(t.Context(), t, i, fakeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(resp.Files[0].Data, []byte("TAPE_TEST_WANTED=yes")) {
		t.Errorf("it got the environment of the one before: %q", resp.Files[0].Data)
	}
}

// A release lists its other builds, as long as the executable is part of it.
func TestBuilds(t *testing.T) {
	b, exe := written(t, host.Options{})
	i := b.list(t)
	d, err := i.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sum, err := i.Checksum(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	builds := map[string]digest.Digest{runtime.GOOS + "/" + runtime.GOARCH: sum, "plan9/mips": digest.FromString("another")}
	if err := host.WriteBuilt(t.Context(), exe, d, builds); err != nil {
		t.Fatal(err)
	}
	if _, i = b.fresh(t); !maps.Equal(mustBuilds(t, i), builds) {
		t.Errorf("got %v, want %v", mustBuilds(t, i), builds)
	}
	builds[runtime.GOOS+"/"+runtime.GOARCH] = digest.FromString("not this one")
	if err := host.WriteBuilt(t.Context(), exe, d, builds); err != nil {
		t.Fatal(err)
	}
	if _, i = b.fresh(t); mustBuilds(t, i) != nil {
		t.Errorf("builds of another release are believed: %v", mustBuilds(t, i))
	}
}

func mustBuilds(t *testing.T, i *host.Interpreter) map[string]digest.Digest {
	t.Helper()
	builds, err := i.Builds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return builds
}
