// SPDX-License-Identifier: Apache-2.0

// Package serve turns an interpreter into a program. The whole main is:
//
//	func main() { serve.Interpreter(jsonnet.New()) }
//
// tape starts the program, named tape-interpreter-<name> and placed on tape's search path,
// when a source needs it. Run by hand,
//
//	tape-interpreter-jsonnet describe
//
// prints its description as JSON, without tape.
//
// The package does what is the same for every interpreter: the handshake and its versions,
// mutual TLS with keys for this one process, message limits, panics (which become the error
// of their call), signals, logging, and a guard around stdout so that a library that prints
// does not break the connection.
//
// The context of a call ends when tape abandons the call. The process itself is killed with
// SIGKILL, or exits when tape is gone, so an interpreter must not rely on cleaning up. It
// should write only to the scratch folder of the request or to os.TempDir: tape removes
// both, and on Linux prevents writing anywhere else.
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

	"github.com/taped-dev/tape/internal/lategc"
	"github.com/taped-dev/tape/plugins/internal/wire"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// Interpreter serves impl to the tape process that started this one. It does not return: it
// exits the process when that tape is done or when serving fails. What is logged with slog
// appears in tape's log at debug level.
func Interpreter(impl interpreter.Interpreter) {
	lategc.Start()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if os.Getenv(wire.Cookie) != wire.CookieValue {
		os.Exit(byHand(context.Background(), impl, os.Args, os.Stdout, os.Stderr))
	}
	if err := confine(); err != nil {
		slog.Debug("not fully confined", "missing", err)
	}
	if err := guardStdout(); err != nil {
		slog.Error("cannot guard stdout", "error", err)
		os.Exit(1)
	}
	// Anything else that is printed goes to stderr: tape shows the last lines of a process
	// that dies.
	stdout := os.Stdout
	os.Stdout = os.Stderr
	go exitWithHost(os.Stdin)
	// As the first process of a PID namespace, this one gets SIGTERM only if it has a
	// handler. Interrupts are handled by the host.
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

// serve performs the handshake and serves until the host is done.
//
// It uses go-plugin's test mode, which leaves handshake, signals, stdout and stderr to the
// caller and otherwise behaves the same. go-plugin's own handshake would generate a slow
// key (see [wire.NewCertificate]), and its redirection of stderr through the connection
// loses the last lines of a process that dies.
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

// mutualTLS returns the server half of go-plugin's AutoMTLS: a configuration that trusts
// only the client certificate given as PEM, and the server's own certificate as DER. It
// returns nil (no TLS) if client is empty.
func mutualTLS(client string) (*tls.Config, []byte, error) {
	if client == "" {
		return nil, nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(client)) {
		return nil, nil, errors.New("$PLUGIN_CLIENT_CERT contains no certificate")
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

// byHand runs the program for a person who started it in a shell, and returns the exit
// status.
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

// exitWithHost ends the process when its host is gone: the host keeps the other end of
// stdin open for as long as it lives. On systems other than Linux nothing else detects
// that.
func exitWithHost(stdin *os.File) {
	info, err := stdin.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return // another host, which does not keep stdin open
	}
	_, _ = io.Copy(io.Discard, stdin)
	os.Exit(1)
}
