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

// Environment is shared by all verbs, and may serve several at once. [Open] creates one. An
// environment that is created directly only needs the fields that its verbs use: Registry to
// inspect an application, Interpreters to render.
type Environment struct {
	// Store keeps results between runs. If nil, the store of [Open] is used, which is opened
	// before the first rendering; without Open, there is none.
	Store *store.Store
	// Registry is the client of registries.
	Registry *registry.Client
	// Local finds images that are not in a registry; nil if there are none.
	Local *local.Places
	// Interpreters finds interpreters; if nil, only the [BuiltIn] one is used.
	Interpreters Interpreters
	// Host runs the Interpreters that are programs.
	Host *host.Host
	// Registries tells interpreters how to reach registries; nil means the default.
	Registries *interpreter.Registries
	// TempDir creates the folders in which sources are laid out for interpreters; if nil, they
	// are created in the system's temporary folder. They are removed afterwards, unless the
	// process is killed.
	TempDir func() (string, error)
	// Kinds are additional stages.
	Kinds []pipeline.Kind
	// Executor returns what runs the nodes of a graph, given the executor of this process; if
	// nil, that executor is used.
	Executor func(here engine.Stages) engine.Executor
	// Secrets returns the values of references in a pipeline (secret://NAME); nil if there are
	// none.
	Secrets engine.Secrets
	// Known is what is already known about images, so that registries need not be asked.
	Known images.Known
	// Together is shared by verbs that run together; if nil, nothing is shared.
	Together *Together
	// Log may be nil.
	Log *slog.Logger
	// Events is called for each event, one at a time. It may be nil.
	Events func(engine.Event)
	// Workers is the number of stages that run concurrently; 0 chooses one for the machine.
	Workers int

	opened *opening
}

// Together is shared by the packages of one run: a blob that several of them need is sent to a
// registry once, and all see the same state of git repositories. The zero value is ready to use.
// The caller must close it.
type Together struct {
	blobs        transfer.Shared
	repositories vcs.Opened
	schemas      pipeline.Schemas
}

// Through sends wanted images through a repository in the same registry as the destination, so
// that independent processes send them there only once. It must be called before anything is
// packaged.
func (t *Together) Through(client *registry.Client, repository string, wanted func(image digest.Digest) bool) error {
	through, err := client.Repository(repository)
	if err != nil {
		return asUsage(err)
	}
	t.blobs.Through(client, through, wanted)
	return nil
}

// Close closes the git repositories.
func (t *Together) Close() { t.repositories.Close() }

// Settings configure an [Environment]. Zero values mean the defaults of the tape command: the
// variables in docs/configuration.md, the user's folders, and the credentials of docker and
// podman.
type Settings struct {
	// Store is the folder of the cache; by default the one of tape in the user's cache folder.
	Store string
	// HostsDir is a folder of containerd's hosts.toml files; by default $TAPE_HOSTS_DIR.
	HostsDir string
	// PlainHTTP lists hosts, including their ports, that are accessed without TLS. Loopback
	// addresses need not be listed; their certificates are not verified.
	PlainHTTP []string
	// CAFile is a PEM file of certificates to trust in addition to those of the system.
	CAFile string
	// Concurrency is the number of concurrent requests per registry; 0 adapts it automatically.
	Concurrency int
	// Limits are the numbers of requests per second, by host of the registry.
	Limits registry.Limits
	// Credentials returns the credentials of a registry; nil uses those of docker and podman.
	Credentials func(host string) (user, secret string, err error)
	// DockerHost, Containerd and Namespace locate images that are not in a registry; by default
	// $DOCKER_HOST, $CONTAINERD_ADDRESS and $CONTAINERD_NAMESPACE.
	DockerHost, Containerd, Namespace string
	// InterpreterDirs are folders of interpreters; by default the folder of this program, those
	// in $TAPE_INTERPRETERS, and the user's.
	InterpreterDirs []string
	// InterpreterMemory is the memory limit of an interpreter in bytes; by default
	// $TAPE_INTERPRETER_MEMORY.
	InterpreterMemory int64

	// Kinds, Secrets, Log, Events and Workers are the same as in [Environment].
	Kinds   []pipeline.Kind
	Secrets engine.Secrets
	Log     *slog.Logger
	Events  func(engine.Event)
	Workers int
}

// opening holds what Open opened or will open.
type opening struct {
	dir   string // of the store
	log   *slog.Logger
	mu    sync.Mutex
	store *store.Store
	close []func() error // nil once closed
}

// Open returns an environment, which the caller must close. Open itself starts nothing and sends
// no request: Docker, containerd, interpreters and the store are accessed by the first verb that
// needs them.
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

// interpreters returns the interpreters of the environment.
func (e *Environment) interpreters() Interpreters {
	if e.Interpreters == nil {
		return interpreters{}
	}
	return e.Interpreters
}

// Close stops the interpreters that were started, and releases the store. All verbs must have
// returned; later ones fail. Close does nothing to an environment that was not created by [Open].
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

// OpenStore opens the store of the environment if it is not open yet. It returns nil if there is
// none.
func (e *Environment) OpenStore(ctx context.Context) (*store.Store, error) {
	if e.Store != nil || e.opened == nil {
		return e.Store, nil
	}
	e.opened.mu.Lock()
	defer e.opened.mu.Unlock()
	if e.opened.close == nil {
		return nil, errors.New("the environment is closed")
	}
	if e.opened.store == nil {
		s, err := store.Open(ctx, e.opened.dir, store.Options{Log: e.opened.log})
		if err != nil {
			return nil, err
		}
		e.opened.store, e.opened.close = s, append([]func() error{s.Close}, e.opened.close...)
	}
	return e.opened.store, nil
}

// StoreDir returns the folder of the cache.
func (s Settings) StoreDir() (string, error) {
	if s.Store != "" {
		return s.Store, nil
	}
	return store.DefaultDir()
}

func (s Settings) hostsDir() string { return cmp.Or(s.HostsDir, os.Getenv("TAPE_HOSTS_DIR")) }

// registry returns a client with these settings.
func (s Settings) registry(storeDir string) (*registry.Client, error) {
	// A missing folder must not be ignored: without its mirrors, images would be requested from
	// the wrong hosts.
	if hosts := s.hostsDir(); hosts != "" {
		if info, err := os.Stat(hosts); err != nil || !info.IsDir() {
			return nil, asUsage(advice.Add(fmt.Errorf("%s is not a folder of hosts", hosts), advice.NameHosts))
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

// host returns the host of interpreters.
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

// origins returns the origins of images.
func (e *Environment) origins() images.Origins {
	return images.Origins{Registry: e.Registry, Local: e.Local, Check: checkedOnce(), Known: e.Known}
}

// say reports a message that does not belong to a node.
func (e *Environment) say(level, message string) {
	if e.Events != nil {
		e.Events(engine.Event{Level: level, At: time.Now(), Message: message})
	}
}
