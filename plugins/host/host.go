// SPDX-License-Identifier: Apache-2.0

// Package host finds interpreters, runs them as separate processes, calls them and cleans
// up after them.
//
// An interpreter is an executable named tape-interpreter-<name> in a folder of the search
// path, which the user of this machine chooses ([SearchPath]). A file checked in to a
// repository can name an interpreter, but neither a path nor a folder.
//
// # Trust
//
// The checksum of an executable is computed before it is used and verified again right
// before every start; the caller compares it to the locked one. If the caller accepts any
// checksum, the process may start meanwhile, and gets its first call when the checksum is
// known (see [Interpreter.Prepare]). Only the description may be
// read without either, from a file next to the executable (see
// [Interpreter.WriteDescription]): it is used while it fits the executable, and discarded
// if the checksum disagrees.
//
// A process gets its own temporary folder and, of tape's environment, only a short fixed
// list and the variables that its description asks for. On Linux it can write only below
// that folder, cannot read tape's memory or environment, can use the network only if its
// description says so, and has a memory limit. Restrictions that the kernel does not
// support are logged at debug level and skipped. Answers are not trusted: sizes, counts and
// paths are checked, and callers compute digests themselves.
//
// # Life of a process
//
// [Host.Find] starts no process, and neither does [Interpreter.Describe] if the description
// is next to the executable or cached. The first call that needs a process starts one, and
// all calls to the same interpreter share it. The process has its own process group and, if
// the kernel allows it, its own PID namespace, so that its children die with it; on Linux
// it also dies with tape, however tape ends. A call that fails or is cancelled retires its
// process: the process gets no new calls and is killed when its last call returns. By then
// the process, its socket and its folders are gone.
package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sync/semaphore"

	"github.com/taped-dev/tape/internal/size"
	"github.com/taped-dev/tape/internal/temporary"
)

// Options configure a host. The zero value has an empty search path; only [Host.Open] works
// with it.
type Options struct {
	// Dirs is the search path, see [SearchPath].
	Dirs []string
	// CacheDir stores checksums and descriptions between runs. If empty, they are not
	// stored.
	CacheDir string
	// Log receives the output of interpreters at debug level; nil disables logging.
	Log *slog.Logger
	// LookupEnv looks up the environment variables for interpreters; nil means
	// os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Limits bound each call.
	Limits Limits
	// StartTimeout bounds the time from the start of a process to its handshake; zero means
	// 30 s.
	StartTimeout time.Duration
}

// Limits bound a call to an interpreter. Zero fields mean the defaults.
type Limits struct {
	Files  int           // files, diagnostics and materials in a response; default 100,000
	Bytes  int64         // size of a response; default 256 MiB
	Time   time.Duration // duration of Render; default 10 min
	Ask    time.Duration // duration of Describe and Inputs; default 1 min
	Memory int64         // bytes of memory of each process; default 4 GiB
}

// The defaults far exceed known applications: the largest renders to 5,000 files and 60 MB
// within seconds.
const (
	maxFiles  = 100_000
	maxBytes  = 256 << 20
	maxTime   = 10 * time.Minute
	maxAsk    = time.Minute
	maxMemory = 4 << 30
	// leastMemory is the least that the runtime of an interpreter needs to start.
	leastMemory = 64 << 20
)

// MemoryVariable is the environment variable that sets [Limits.Memory].
const MemoryVariable = "TAPE_INTERPRETER_MEMORY"

// ReadMemory parses a memory limit in bytes or with a unit: 8GiB, 500MB.
func ReadMemory(text string) (int64, error) {
	n, err := size.Parse(text)
	if err != nil || n < leastMemory {
		return 0, fmt.Errorf("$%s is %q: want a size of at least %s, such as 8GiB", MemoryVariable, text, units.BytesSize(leastMemory))
	}
	return n, nil
}

// Host owns the interpreters of a run. Its methods may be called concurrently.
type Host struct {
	opts  Options
	cache cache

	mu        sync.Mutex
	closed    bool
	known     map[knownKey]*Interpreter
	processes map[*process]struct{}
	room      *temporary.Folder // made with the first process; holds the folders of all
	preparing sync.WaitGroup
}

// knownKey identifies one state of an executable, and whether it was opened by its path.
type knownKey struct {
	path   string
	id     fileID
	opened bool
}

// New returns a host. The caller must close it.
func New(opts Options) *Host {
	opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	if opts.LookupEnv == nil {
		opts.LookupEnv = os.LookupEnv
	}
	opts.StartTimeout = cmp.Or(max(opts.StartTimeout, 0), 30*time.Second)
	limits := opts.Limits
	opts.Limits = Limits{
		Files:  cmp.Or(max(limits.Files, 0), maxFiles),
		Bytes:  cmp.Or(max(limits.Bytes, 0), maxBytes),
		Time:   cmp.Or(max(limits.Time, 0), maxTime),
		Ask:    cmp.Or(max(limits.Ask, 0), maxAsk),
		Memory: cmp.Or(max(limits.Memory, 0), maxMemory),
	}
	return &Host{opts: opts, cache: cache{dir: opts.CacheDir}, known: map[knownKey]*Interpreter{}, processes: map[*process]struct{}{}}
}

// Find returns the interpreter of that name in the first folder that has one. It starts no
// process. It returns a [NotFoundError] if there is none. An executable that must not be
// started (not executable, or not the one that was installed) is an error; later folders
// are not searched.
func (h *Host) Find(ctx context.Context, name string) (*Interpreter, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	for _, dir := range h.opts.Dirs {
		path := filepath.Join(dir, fileName(name))
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			continue
		}
		i, err := h.get(name, path, false)
		if err == nil {
			_, err = i.Checksum(ctx)
		}
		return i, err
	}
	return nil, &NotFoundError{Name: name, Dirs: slices.Clone(h.opts.Dirs)}
}

// Open returns the interpreter at any path. The path must come from a person, never from a
// checked-in file. A description next to the executable is ignored.
func (h *Host) Open(ctx context.Context, path string) (*Interpreter, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("interpreter %s: %w", path, err)
	}
	name, _ := interpreterName(filepath.Base(abs))
	i, err := h.get(name, abs, true)
	if err == nil {
		_, err = i.Checksum(ctx)
	}
	return i, err
}

// List returns all interpreters that Find would find, sorted by name. It does not read the
// executables, so one that was changed since it was installed is reported only when its
// checksum is computed. The error joins the reasons why others cannot be used; it may come
// with a non-empty list.
func (h *Host) List(context.Context) ([]*Interpreter, error) {
	var (
		list []*Interpreter
		errs []error
		seen = map[string]bool{}
	)
	for _, dir := range h.opts.Dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("look for interpreters: %w", err))
		}
		for _, e := range entries {
			name, ok := interpreterName(e.Name())
			if !ok || seen[name] {
				continue
			}
			seen[name] = true
			i, err := h.get(name, filepath.Join(dir, e.Name()), false)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b *Interpreter) int { return strings.Compare(a.name, b.name) })
	return list, errors.Join(errs...)
}

// get returns the interpreter for the current state of an executable.
func (h *Host) get(name, path string, opened bool) (*Interpreter, error) {
	id, err := inspect(path)
	if err != nil {
		return nil, fmt.Errorf("interpreter %s: %w", path, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed
	}
	key := knownKey{path, id, opened}
	i, ok := h.known[key]
	if !ok {
		exe := &executable{path: path, id: id, cache: h.cache}
		i = &Interpreter{host: h, name: name, exe: exe, opened: opened, turn: semaphore.NewWeighted(1)}
		h.known[key] = i
	}
	return i, nil
}

// Close kills every process and removes its files. Pending calls fail. Close may be called
// more than once.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	processes := slices.Collect(maps.Keys(h.processes))
	room := h.room
	h.room = nil
	h.mu.Unlock()

	var wg sync.WaitGroup
	for _, p := range processes {
		wg.Go(p.stop)
	}
	wg.Wait()
	h.preparing.Wait()
	if room == nil {
		return nil
	}
	return room.Remove()
}

// background runs f unless the host is closed, and reports whether it does. Close waits
// for f.
func (h *Host) background(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.preparing.Go(f)
	return true
}

// admit creates a process with its own folder. From now on Close ends it.
func (h *Host) admit(i *Interpreter) (*process, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	dir, err := h.folder()
	if err != nil {
		return nil, err
	}
	p := newProcess(i, dir)
	h.processes[p] = struct{}{}
	return p, nil
}

// TempDir creates a temporary folder for a caller. Close removes it; if this process is
// killed, the next host does.
func (h *Host) TempDir() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.folder()
}

const (
	roomPrefix = "tape-host-"
	// maxSocketDir leaves space for "/123456789/plugin123456789" in the 104 bytes that the
	// address of a unix socket may have on macOS (108 on Linux).
	maxSocketDir = 70
)

// folder creates a folder in the room. The caller holds the lock.
func (h *Host) folder() (string, error) {
	if h.closed {
		return "", errClosed
	}
	if h.room == nil {
		parent := os.TempDir()
		if runtime.GOOS != "windows" && len(parent)+len(roomPrefix)+10 > maxSocketDir {
			parent = "/tmp"
		}
		room, err := temporary.New(parent, roomPrefix)
		if err != nil {
			return "", err
		}
		h.room = room
	}
	return os.MkdirTemp(h.room.Dir(), "")
}
