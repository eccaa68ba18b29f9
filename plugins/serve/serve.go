// SPDX-License-Identifier: Apache-2.0

// Package serve makes a program of an interpreter. It is an author's whole main:
//
//	func main() { serve.Interpreter(jsonnet.New()) }
//
// The program, named tape-interpreter-<name> and put where tape looks for it,
// is started by tape when a source needs it. It also answers to
//
//	tape-interpreter-jsonnet describe
//
// with its description as JSON, without tape.
//
// What is the same for every interpreter is done here: the handshake and its
// versions, mutual TLS with keys made for this one process, limits on messages,
// panics (which become the error of their call), signals, logging, and a guard
// around stdout, so that a library that prints does not break the connection.
//
// The calls' contexts end when tape gives a call up. The process itself is ended
// with SIGKILL, or when tape is gone: keep nothing that must be tidied up, and
// write to the scratch folder of the request or to os.TempDir only, which both
// are tape's to remove.
package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/taped-dev/tape/plugins/internal/wire"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// Option changes how an interpreter is served.
type Option func(*config)

type config struct {
	level slog.Leveler
}

// WithLogLevel sets the least level of slog's default logger that is passed on
// to tape, which logs it as debug. Without it that is [slog.LevelInfo].
func WithLogLevel(level slog.Leveler) Option {
	return func(c *config) { c.level = level }
}

// Interpreter serves impl to the tape that started this process until that tape
// is done with it; then, or when nothing can be served, it exits the process.
func Interpreter(impl interpreter.Interpreter, opts ...Option) {
	c := config{level: slog.LevelInfo}
	for _, opt := range opts {
		opt(&c)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.level})))
	// An interpreter lives for a few renders: it is worth more memory to spend
	// less of that time collecting garbage (a fifth of it on large charts).
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}

	if os.Getenv(wire.Cookie) != wire.CookieValue {
		os.Exit(byHand(context.Background(), impl, os.Args, os.Stdout, os.Stderr))
	}
	if err := guardStdout(); err != nil {
		slog.Error("cannot guard stdout", "error", err)
		os.Exit(1)
	}
	go exitWithHost(os.Stdin)
	// The first process of a PID namespace does not heed SIGTERM unless it asks for
	// it. (An interrupt is the host's to deal with.)
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		os.Exit(1)
	}()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: wire.Served(impl),
		GRPCServer:       newServer,
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr}),
	})
	os.Exit(0)
}

// newServer makes go-plugin's server, and undoes what go-plugin does right before
// the first call: it sends os.Stdout and os.Stderr over the connection, and so
// loses the last words of a process that dies. Here both are stderr.
func newServer(opts []grpc.ServerOption) *grpc.Server {
	stderr := os.Stderr
	undo := sync.OnceFunc(func() { os.Stdout, os.Stderr = stderr, stderr })
	return grpc.NewServer(append(opts,
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			undo()
			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			undo()
			return handler(srv, stream)
		}))...)
}

// byHand is what a person who runs the program gets. It answers with the status
// to exit with.
func byHand(ctx context.Context, impl interpreter.Interpreter, args []string, stdout, stderr io.Writer) int {
	path := "tape-interpreter"
	if len(args) > 0 {
		path = args[0]
	}
	program := filepath.Base(path)
	d, err := impl.Describe(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "%s: describe: %v\n", program, err)
		return 1
	}
	if len(args) == 2 && args[1] == "describe" {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(d); err != nil {
			fmt.Fprintf(stderr, "%s: describe: %v\n", program, err)
			return 1
		}
		return 0
	}
	fmt.Fprintf(stderr, `%s %s: %s

This is an interpreter of tape, which starts it when a source needs it:

  tape interpreter install %s
  tape render --interpreter %s SOURCE

  %s describe     prints what it is, as JSON
`, program, d.Version, d.Help, path, d.Name, program)
	return 2
}

// exitWithHost ends the process when its host is gone: the host holds the other
// end of stdin open for as long as it lives. It is the only such watch where the
// system has none of its own.
func exitWithHost(stdin *os.File) {
	info, err := stdin.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return // some other host, which does not promise that
	}
	_, _ = io.Copy(io.Discard, stdin)
	os.Exit(1)
}
