// SPDX-License-Identifier: Apache-2.0

// Package serve runs the registry of CNCF distribution that is linked into tape, for
// experiments and tests: plain http, no authentication, deletion allowed, no referrers API.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // driver "filesystem"
	"github.com/sirupsen/logrus"

	"github.com/taped-dev/tape/internal/temporary"
)

// Options configure the registry.
type Options struct {
	Addr string // host:port; port 0 selects a free one
	// Data is the folder of its content, which is created if missing; empty: a temporary one,
	// which is removed at the end.
	Data string
	// Ready, if not nil, is called with the address once the registry accepts requests.
	Ready func(addr string)
}

// drain is how long requests in progress may take when the registry is stopped: an interrupted
// tape must end within a second.
const drain = 500 * time.Millisecond

// Serve runs the registry until ctx ends, which is not an error. Nothing is logged, because
// that is a global setting of logrus.
func Serve(ctx context.Context, opts Options) (err error) {
	if opts.Data == "" {
		// Not in memory: distribution's driver copies the whole blob for every part that it
		// receives, which takes minutes for a blob of 100 MB.
		folder, makeErr := temporary.New("", "tape-registry-")
		if makeErr != nil {
			return fmt.Errorf("make a folder for the registry: %w", makeErr)
		}
		defer func() { err = errors.Join(err, folder.Remove()) }()
		opts.Data = folder.Dir()
	}
	app, err := newApp(opts.Data)
	if err != nil {
		return err
	}
	defer app.Shutdown() //nolint:errcheck // it closes pull-through caches only, of which there is none

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", opts.Addr)
	if err != nil {
		return fmt.Errorf("serve a registry at %s: %w; choose another address with --addr", opts.Addr, err)
	}
	server := &http.Server{Handler: app, ReadHeaderTimeout: time.Minute}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		limit, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), drain, errors.New("registry is stopping"))
		defer cancel()
		if err := server.Shutdown(limit); err != nil {
			server.Close() //nolint:errcheck // what still runs is cut off, as wanted
		}
		close(stopped)
	})
	defer stop()
	if opts.Ready != nil {
		opts.Ready(listener.Addr().String())
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve a registry at %s: %w", listener.Addr(), err)
	}
	<-stopped
	return nil
}

// newApp makes the registry. It panics if it is misconfigured, which is an error here.
func newApp(data string) (app *handlers.App, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("make a registry: %v", p)
		}
	}()
	logrus.SetLevel(logrus.PanicLevel)
	dir, err := filepath.Abs(data)
	if err != nil {
		return nil, fmt.Errorf("find the registry's folder: %w", err)
	}
	// distribution would only notice this at the first push.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the registry's folder: %w", err)
	}
	storage := configuration.Storage{
		"filesystem":  configuration.Parameters{"rootdirectory": dir},
		"delete":      configuration.Parameters{"enabled": true},
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}
	config := &configuration.Configuration{Storage: storage}
	config.Catalog.MaxEntries = 1000
	return handlers.NewApp(context.Background(), config), nil
}
