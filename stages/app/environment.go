// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

// Environment is what every verb stands on, and may serve several at once. [Open]
// makes one; one that is put together by hand has what its verbs need: to look at an
// application takes a Registry, to render takes Interpreters.
type Environment struct {
	// Store keeps results between runs. Nil is the store that Open was asked for,
	// which is opened when something first renders, or none.
	Store *store.Store
	// Registry reaches registries.
	Registry *registry.Client
	// Local finds images that are in none; nil: there are no others.
	Local *local.Places
	// Interpreters finds what renders.
	Interpreters Interpreters
	// Host runs those of the Interpreters that are programs.
	Host *host.Host
	// Registries says to interpreters how registries are reached; nil: as usual.
	Registries *interpreter.Registries
	// TempDir makes the folders that sources are laid out in for interpreters; nil
	// makes them where the system has its own. What it makes is removed, but not
	// where the process is killed.
	TempDir func() (string, error)
	// Kinds are stages of one's own, beside the standard ones.
	Kinds []pipeline.Kind
	// Executor makes what runs the nodes of a graph, given what would run them in
	// this process; nil is the latter.
	Executor func(here engine.Stages) engine.Executor
	// Secrets returns what references in a pipeline stand for (secret://NAME); nil
	// knows none.
	Secrets engine.Secrets
	// Known is what is known of images already: nobody is asked about them.
	Known images.Known
	// Together is what verbs that run together have in common; nil: each stands alone.
	Together *Together
	// Log may be nil.
	Log *slog.Logger
	// Events is told what happens, one event at a time; may be nil.
	Events func(engine.Event)
	// Workers is how many stages run at once; 0 is a number that fits the machine.
	Workers int

	opened *opening
}

// Together is what the packages of one run have in common: blobs that several need are
// sent to a registry once, and all see one state of git's repositories. The zero value
// is ready. It must be closed by the caller.
type Together struct {
	blobs        transfer.Shared
	repositories vcs.Opened
	schemas      pipeline.Schemas
}

// Through has the images that are wanted go through a repository of their destination's
// registry, so that processes that know nothing of each other send them there once. It is
// called before anything is packaged.
func (t *Together) Through(client *registry.Client, repository string, wanted func(image digest.Digest) bool) error {
	through, err := client.Repository(repository)
	if err != nil {
		return asUsage(err)
	}
	t.blobs.Through(client, through, wanted)
	return nil
}

// Close closes the repositories.
func (t *Together) Close() { t.repositories.Close() }

// Settings say what an [Environment] is made of. What is zero is as the tape command
// has it without flags: from the variables that docs/configuration.md lists, the
// user's folders, and the credentials of docker and podman.
type Settings struct {
	// Store is the folder that is kept between runs; "" is tape's in the user's
	// cache folder.
	Store string
	// HostsDir is a folder of containerd's hosts.toml files; "" is
	// $TAPE_HOSTS_DIR.
	HostsDir string
	// PlainHTTP names hosts, with their port, that are spoken to without TLS.
	// Loopback addresses need not be named.
	PlainHTTP []string
	// CAFile holds certificates to trust, in PEM, besides those of the system.
	CAFile string
	// Concurrency is how many requests a registry gets at once; 0 is found out.
	Concurrency int
	// Limits are how many requests a second registries get, by host.
	Limits registry.Limits
	// Credentials of a registry; nil is what docker and podman have.
	Credentials func(host string) (user, secret string, err error)
	// DockerHost, Containerd and Namespace say where images are that are in no
	// registry; "" is $DOCKER_HOST, $CONTAINERD_ADDRESS and $CONTAINERD_NAMESPACE.
	DockerHost, Containerd, Namespace string
	// InterpreterDirs are folders of programs that render; nil is the one of this
	// program, those of $TAPE_INTERPRETERS, and the user's.
	InterpreterDirs []string
	// InterpreterMemory is how much of it such a program may have, in bytes; 0 is
	// $TAPE_INTERPRETER_MEMORY.
	InterpreterMemory int64

	// Kinds, Secrets, Log, Events and Workers are those of the Environment.
	Kinds   []pipeline.Kind
	Secrets engine.Secrets
	Log     *slog.Logger
	Events  func(engine.Event)
	Workers int
}

// opening is what Open opened, or is to open.
type opening struct {
	dir   string // of the store
	log   *slog.Logger
	mu    sync.Mutex
	store *store.Store
	close []func() error
}

// Open makes an environment, which the caller closes. It starts nothing and asks
// nobody yet: Docker, containerd, interpreters and the store wait for the first
// verb that needs them.
func Open(_ context.Context, s Settings) (*Environment, error) {
	dir, err := s.StoreDir()
	if err != nil {
		return nil, err
	}
	client, err := s.registry(dir)
	if err != nil {
		return nil, err
	}
	h, err := s.host(dir)
	if err != nil {
		return nil, err
	}
	places := local.New(local.Options{
		DockerHost: cmp.Or(s.DockerHost, os.Getenv("DOCKER_HOST")),
		Containerd: cmp.Or(s.Containerd, os.Getenv("CONTAINERD_ADDRESS")),
		Namespace:  cmp.Or(s.Namespace, os.Getenv("CONTAINERD_NAMESPACE")),
	})
	return &Environment{
		Registry:     client,
		Local:        places,
		Interpreters: interpreters{h},
		Host:         h,
		Registries:   &interpreter.Registries{HostsDir: s.hostsDir(), PlainHTTP: s.PlainHTTP, CAFile: s.CAFile},
		TempDir:      h.TempDir,
		Kinds:        s.Kinds,
		Secrets:      s.Secrets,
		Log:          s.Log,
		Events:       s.Events,
		Workers:      s.Workers,
		opened:       &opening{dir: dir, log: s.Log, close: []func() error{places.Close, h.Close}},
	}, nil
}

// Close ends what Open started. It does nothing to an environment that was put
// together by hand.
func (e *Environment) Close() error {
	if e.opened == nil {
		return nil
	}
	e.opened.mu.Lock()
	defer e.opened.mu.Unlock()
	var err error
	for _, c := range slices.Backward(e.opened.close) {
		err = errors.Join(err, c())
	}
	e.opened.close, e.opened.store = nil, nil
	return err
}

// kept opens the store where that is still to be done; nil is none.
func (e *Environment) kept(ctx context.Context) (*store.Store, error) {
	if e.Store != nil || e.opened == nil {
		return e.Store, nil
	}
	e.opened.mu.Lock()
	defer e.opened.mu.Unlock()
	if e.opened.store == nil {
		s, err := store.Open(ctx, e.opened.dir, store.Options{Log: e.opened.log})
		if err != nil {
			return nil, err
		}
		e.opened.store, e.opened.close = s, append([]func() error{s.Close}, e.opened.close...)
	}
	return e.opened.store, nil
}

// OpenStore opens the environment's store; it is nil where there is to be none.
func (e *Environment) OpenStore(ctx context.Context) (*store.Store, error) { return e.kept(ctx) }

// StoreDir returns the folder that is kept between runs.
func (s Settings) StoreDir() (string, error) {
	if s.Store != "" {
		return s.Store, nil
	}
	return store.DefaultDir()
}

func (s Settings) hostsDir() string { return cmp.Or(s.HostsDir, os.Getenv("TAPE_HOSTS_DIR")) }

// registry makes the client that the settings describe.
func (s Settings) registry(storeDir string) (*registry.Client, error) {
	// Without its mirrors, other images than meant might be asked for.
	if hosts := s.hostsDir(); hosts != "" {
		if info, err := os.Stat(hosts); err != nil || !info.IsDir() {
			return nil, asUsage(advice.Add(fmt.Errorf("%s is no folder of hosts", hosts), advice.NameHosts))
		}
	}
	o := registry.Options{
		ManifestFile: store.ManifestFile(storeDir),
		HostsDir:     s.hostsDir(),
		PlainHTTP:    s.PlainHTTP,
		CAFile:       s.CAFile,
		Concurrency:  s.Concurrency,
		Limits:       s.Limits,
		Credentials:  s.Credentials,
		Log:          s.Log,
	}
	if s.Events != nil {
		o.Waiting = func(host string, waited time.Duration) {
			s.Events(engine.Event{At: time.Now(), Message: fmt.Sprintf("waiting for %s, which has done nothing for %s", host, waited)})
		}
	}
	return registry.New(o)
}

// host finds and runs interpreters.
func (s Settings) host(storeDir string) (*host.Host, error) {
	limits := host.Limits{Memory: s.InterpreterMemory}
	if text := os.Getenv(host.MemoryVariable); text != "" && limits.Memory == 0 {
		var err error
		if limits.Memory, err = host.ReadMemory(text); err != nil {
			return nil, asUsage(err)
		}
	}
	dirs := s.InterpreterDirs
	if dirs == nil {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the folder of this program: %w", err)
		}
		dirs = host.SearchPath(exe, os.Getenv)
	}
	return host.New(host.Options{Limits: limits, Dirs: dirs, CacheDir: filepath.Join(storeDir, "interpreters"), Log: s.Log}), nil
}

// origins are what images are taken from.
func (e *Environment) origins() images.Origins {
	return images.Origins{Registry: e.Registry, Local: e.Local, Check: checkedOnce(), Known: e.Known}
}
