// SPDX-License-Identifier: Apache-2.0

package host

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	plugin "github.com/hashicorp/go-plugin"

	"github.com/taped-dev/tape/plugins/internal/wire"
)

// checkHandshake says whether a line is the handshake of an interpreter that can
// be connected to:
//
//	1|<version of the protocol>|unix|<socket below dir>|grpc|<certificate>
//
// (or tcp and a loopback address). go-plugin checks most of this too, in words
// that are meant for programmers.
func checkHandshake(line, dir string) error {
	parts := strings.Split(line, "|")
	if len(parts) < 4 || parts[0] != strconv.Itoa(plugin.CoreProtocolVersion) {
		return errNoHandshake(line)
	}
	if want := strconv.Itoa(wire.Version); parts[1] != want {
		return &VersionError{Speaks: parts[1], Want: want}
	}
	if err := checkAddress(parts[2], parts[3], dir); err != nil {
		return err
	}
	if len(parts) < 5 || parts[4] != string(plugin.ProtocolGRPC) {
		return errors.New("it does not speak gRPC; an interpreter must")
	}
	if len(parts) < 6 || parts[5] == "" {
		return errors.New("it sent no certificate; an interpreter must serve with TLS, see $PLUGIN_CLIENT_CERT")
	}
	der, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err == nil {
		_, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return fmt.Errorf("certificate in its handshake: %w", err)
	}
	return nil
}

// errNoHandshake explains what was printed in the place of one.
func errNoHandshake(line string) error {
	const most = 200
	if len(line) > most {
		line = line[:most] + "…"
	}
	return fmt.Errorf("it printed %q to stdout where its handshake should be; "+
		"it is no interpreter of tape, or prints something before it serves", line)
}

// checkAddress admits what is certainly the process's own and goes away with it.
func checkAddress(network, addr, dir string) error {
	switch network {
	case "unix":
		if rel, err := filepath.Rel(dir, addr); err == nil && filepath.IsLocal(rel) {
			return nil
		}
		return fmt.Errorf("its socket %s is outside the folder it was given in $%s", addr, plugin.EnvUnixSocketDir)
	case "tcp":
		if host, _, err := net.SplitHostPort(addr); err == nil && net.ParseIP(host).IsLoopback() {
			return nil
		}
	}
	return fmt.Errorf("it listens on %s %s, which is neither a unix socket nor a loopback address", network, addr)
}

// mutualTLS makes the client's half of go-plugin's AutoMTLS. The certificate goes
// to the interpreter, as PEM; the interpreter's own, in its handshake, becomes the
// one root.
func mutualTLS() (*tls.Config, []byte, error) {
	cert, err := wire.NewCertificate()
	if err != nil {
		return nil, nil, err
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{cert},
		RootCAs:      x509.NewCertPool(), // replaced by go-plugin
		ServerName:   "localhost",
		MinVersion:   tls.VersionTLS12,
	}
	return config, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), nil
}
