// SPDX-License-Identifier: Apache-2.0

// Package host finds interpreters, starts them as processes of their own, calls
// them and makes sure that nothing of them is left.
//
// An interpreter is an executable named tape-interpreter-<name> in one of a few
// folders that the user of this machine chose ([SearchPath]); what is checked
// in to a repository can name an interpreter, but neither a path nor a folder.
//
// # Trust
//
// The checksum of an executable is known before it starts, and verified again
// right before every start; the caller compares it to what it has locked. Only
// what an interpreter says of itself may be known without either, from a file
// beside it (see [Interpreter.WriteDescription]): it is believed for as long as it
// fits the executable, and the checksum has the last word. The
// process gets a temporary folder of its own and none of tape's environment but
// a short fixed list and the variables its description asks for. On Linux it can
// write only below that folder, read no memory and no environment of tape's, use the
// network only where its description says so, and have so much memory; what of this the
// kernel does not offer is logged, as debug, and done without. Nothing it
// answers is believed: sizes, counts and paths are checked, and digests are the
// caller's to compute.
//
// # Life of a process
//
// [Host.Find] starts nothing, and neither does [Interpreter.Describe] when the
// answer is beside the executable or remembered from an earlier run. The first call that needs a process
// starts one, and all calls at the same interpreter share it. The process is in a
// group of its own and, where the kernel allows, in a PID namespace of its own,
// so that what it starts dies with it; on Linux it dies with tape too, however
// tape ends. A call that fails or is cancelled condemns its process: no new
// call goes there, and it is killed as soon as no other call is on it. When the
// call returns, process, socket and folders are gone.
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
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
)

// Options say where interpreters are and how much they may take. The zero value
// finds none, but is good for [Host.Open].
type Options struct {
	// Dirs are searched in order, see [SearchPath].
	Dirs []string
	// CacheDir keeps checksums and descriptions between runs; empty: they are
	// not kept.
	CacheDir string
	// Log gets what interpreters print, as debug. Nil: nothing is logged.
	Log *slog.Logger
	// LookupEnv is where their variables come from; nil means os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Limits on what one call may take.
	Limits Limits
	// StartTimeout bounds the time from starting a process to its handshake; zero
	// means 30 s.
	StartTimeout time.Duration
}

// Limits bound one call. A zero field means its default.
type Limits struct {
	Files  int           // files, diagnostics and materials of an answer; 100,000
	Bytes  int64         // of an answer; 1 GiB
	Time   time.Duration // that a render may take; 10 min
	Ask    time.Duration // that Describe and Inputs may take; 1 min
	Memory int64         // bytes that each process of an interpreter may have; 4 GiB
}

// The defaults are far above any application: the largest known renders to
// 5,000 files and 60 MB, in seconds.
const (
	maxFiles  = 100_000
	maxBytes  = 1 << 30
	maxTime   = 10 * time.Minute
	maxAsk    = time.Minute
	maxMemory = 4 << 30
	// leastMemory is what the runtime of an interpreter needs to start.
	leastMemory = 64 << 20
)

// MemoryVariable is the environment variable that sets [Limits.Memory].
const MemoryVariable = "TAPE_INTERPRETER_MEMORY"

// ReadMemory reads a limit on memory as a person writes one: 8GiB, 512MiB or bytes.
func ReadMemory(text string) (int64, error) {
	n, err := units.RAMInBytes(text)
	if err != nil || n < leastMemory {
		return 0, fmt.Errorf("$%s is %q: want a size of at least %s, such as 8GiB", MemoryVariable, text, units.BytesSize(leastMemory))
	}
	return n, nil
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Files:  cmp.Or(max(l.Files, 0), maxFiles),
		Bytes:  cmp.Or(max(l.Bytes, 0), maxBytes),
		Time:   cmp.Or(max(l.Time, 0), maxTime),
		Ask:    cmp.Or(max(l.Ask, 0), maxAsk),
		Memory: cmp.Or(max(l.Memory, 0), maxMemory),
	}
}

// Host owns the interpreters of a run. Its methods may be called concurrently.
type Host struct {
	opts  Options
	cache cache

	mu        sync.Mutex
	closed    bool
	known     map[knownKey]*Interpreter
	processes map[*process]struct{}
	room      *room // made with the first process
}

// knownKey is one state of an executable, and how it came here.
type knownKey struct {
	path   string
	id     fileID
	opened bool
}

// New makes a host. Close it.
func New(opts Options) *Host {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.LookupEnv == nil {
		opts.LookupEnv = os.LookupEnv
	}
	if opts.StartTimeout <= 0 {
		opts.StartTimeout = 30 * time.Second
	}
	opts.Limits = opts.Limits.withDefaults()
	return &Host{opts: opts, cache: cache{dir: opts.CacheDir}, known: map[knownKey]*Interpreter{}, processes: map[*process]struct{}{}}
}

// Find answers with the interpreter of that name from the first folder that has
// one. It starts nothing. Without one the error is a [NotFoundError]; one that
// must not be started (it is not executable, or not what was installed) is an
// error too, and not passed over.
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

// Open answers with the interpreter at a path, wherever that is. The path comes
// from a person, never from a file that somebody checked in. What lies beside it
// is not believed.
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

// List answers with every interpreter that Find would find, by name, and reads
// none of them: one that was changed since it was installed is refused when its
// checksum is taken. Others that Find would refuse are in the error, which may
// come with interpreters.
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

// get answers with the interpreter that an executable is now.
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
		i = &Interpreter{host: h, name: name, exe: exe, opened: opened, turn: make(chan struct{}, 1)}
		h.known[key] = i
	}
	return i, nil
}

// Close kills every process and removes what they had. Calls that are still
// under way fail. It may be called more than once.
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
	return room.remove()
}

// admit makes a process with a folder of its own, which Close ends from now on.
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

// TempDir makes a folder for whoever calls interpreters. It goes with Close at the
// latest and, should this process be killed, when the next host needs one.
func (h *Host) TempDir() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.folder()
}

// folder makes one in the room. The lock is held.
func (h *Host) folder() (string, error) {
	if h.closed {
		return "", errClosed
	}
	if h.room == nil {
		r, err := newRoom()
		if err != nil {
			return "", err
		}
		h.room = r
	}
	return h.room.folder()
}

// dismiss is the end of admit.
func (h *Host) dismiss(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.processes, p)
}
