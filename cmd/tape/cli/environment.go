// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/app"
)

// environment opens what a run of stages stands on; close closes it.
func (a *program) environment(ctx context.Context) (app.Environment, error) {
	log, err := a.log()
	if err != nil {
		return app.Environment{}, err
	}
	client, err := a.registry()
	if err != nil {
		return app.Environment{}, err
	}
	dir, err := a.storeDir()
	if err != nil {
		return app.Environment{}, err
	}
	kept, err := store.Open(ctx, dir, store.Options{Log: log})
	if err != nil {
		return app.Environment{}, err
	}
	a.closers = append(a.closers, kept.Close)
	h, err := a.host()
	if err != nil {
		return app.Environment{}, err
	}
	return app.Environment{
		Store:        kept,
		Registry:     client,
		Local:        a.places(),
		Interpreters: interpreters{h},
		Registries: &interpreter.Registries{
			HostsDir: a.hostsDir(), PlainHTTP: a.flags.plainHTTP, CAFile: a.flags.caFile,
		},
		TempDir: h.TempDir,
		Kinds:   a.kinds,
		Log:     log,
		Events:  func(e engine.Event) { a.progress.Event(e) },
	}, nil
}

// registry makes the client that the flags describe.
func (a *program) registry() (*registry.Client, error) {
	log, err := a.log()
	if err != nil {
		return nil, err
	}
	dir, err := a.storeDir()
	if err != nil {
		return nil, err
	}
	// Without its mirrors, other images than meant might be asked for.
	if hosts := a.hostsDir(); hosts != "" {
		if info, err := os.Stat(hosts); err != nil || !info.IsDir() {
			return nil, usagef("%s is no folder: --hosts-dir (or $TAPE_HOSTS_DIR) names one that has a HOST/hosts.toml for each registry", hosts)
		}
	}
	return registry.New(registry.Options{
		ManifestFile: store.ManifestFile(dir),
		HostsDir:     a.hostsDir(),
		PlainHTTP:    a.flags.plainHTTP,
		CAFile:       a.flags.caFile,
		Concurrency:  a.flags.concurrency,
		Log:          log,
		Waiting: func(host string, waited time.Duration) {
			a.progress.Event(engine.Event{At: time.Now(), Message: fmt.Sprintf("waiting for %s, which has done nothing for %s", host, waited)})
		},
	})
}

// places are where images are that are in no registry; close closes them.
func (a *program) places() *local.Places {
	places := local.New(local.Options{
		DockerHost: os.Getenv("DOCKER_HOST"),
		Containerd: os.Getenv("CONTAINERD_ADDRESS"),
		Namespace:  os.Getenv("CONTAINERD_NAMESPACE"),
	})
	a.closers = append(a.closers, places.Close)
	return places
}

func (a *program) hostsDir() string {
	if a.flags.hostsDir != "" {
		return a.flags.hostsDir
	}
	return os.Getenv("TAPE_HOSTS_DIR")
}

// settle ends the live view before a result is printed.
func (a *program) settle() {
	a.progress.Close()
	a.progress = quiet{a.Err}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
