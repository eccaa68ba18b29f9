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
// are tape's to remove. On Linux tape lets it write nowhere else.
package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"

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
	if os.Getenv(wire.Cookie) != wire.CookieValue {
		os.Exit(byHand(context.Background(), impl, os.Args, os.Stdout, os.Stderr))
	}
	if err := confine(); err != nil {
		slog.Debug("not wholly confined", "missing", err)
	}
	if err := guardStdout(); err != nil {
		slog.Error("cannot guard stdout", "error", err)
		os.Exit(1)
	}
	// Whatever else is printed goes to stderr: tape shows the last lines of a process
	// that dies.
	stdout := os.Stdout
	os.Stdout = os.Stderr
	go exitWithHost(os.Stdin)
	// The first process of a PID namespace does not heed SIGTERM unless it asks for
	// it. (An interrupt is the host's to deal with.)
	signal.Ignore(os.Interrupt)
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		os.Exit(1)
	}()
	if err := serve(impl, stdout); err != nil {
		slog.Error("cannot serve", "error", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve serves until the host is done, after the handshake.
//
// What go-plugin calls its test mode leaves handshake, signals, stdout and stderr to
// its caller. All else is the same. With its own handshake comes its own key, which
// is slow (see [wire.NewCertificate]); and its redirection of stderr through the
// connection loses the last words of a process that dies.
func serve(impl interpreter.Interpreter, stdout io.Writer) error {
	config, certificate, err := mutualTLS(os.Getenv("PLUGIN_CLIENT_CERT"))
	if err != nil {
		return err
	}
	ready := make(chan *plugin.ReattachConfig, 1)
	go func() {
		at := <-ready
		fmt.Fprintf(stdout, "%d|%d|%s|%s|%s|%s\n", plugin.CoreProtocolVersion, at.ProtocolVersion,
			at.Addr.Network(), at.Addr.String(), at.Protocol, base64.RawStdEncoding.EncodeToString(certificate))
	}()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: wire.Served(impl),
		TLSProvider:      func() (*tls.Config, error) { return config, nil },
		GRPCServer:       plugin.DefaultGRPCServer,
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr}),
		Test:             &plugin.ServeTestConfig{ReattachConfigCh: ready},
	})
	return nil
}

// mutualTLS is the server's half of go-plugin's AutoMTLS: the one root is the
// client's certificate, and the server's own goes back to it. Without one of the
// client there is no TLS.
func mutualTLS(client string) (*tls.Config, []byte, error) {
	if client == "" {
		return nil, nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(client)) {
		return nil, nil, errors.New("$PLUGIN_CLIENT_CERT holds no certificate")
	}
	cert, err := wire.NewCertificate()
	if err != nil {
		return nil, nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    roots,
		MinVersion:   tls.VersionTLS12,
	}, cert.Certificate[0], nil
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
