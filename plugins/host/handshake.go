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

// checkHandshake checks that a line is the handshake of an interpreter:
//
//	1|<protocol version>|unix|<socket below dir>|grpc|<certificate>
//
// or the same with tcp and a loopback address. go-plugin checks most of this too, but its
// errors are written for programmers.
func checkHandshake(line, dir string) error {
	parts := strings.Split(line, "|")
	if len(parts) < 4 || parts[0] != strconv.Itoa(plugin.CoreProtocolVersion) {
		const most = 200
		if len(line) > most {
			line = line[:most] + "…"
		}
		return fmt.Errorf("it printed %q to stdout instead of its handshake; "+
			"it is not an interpreter of tape, or prints something before it serves", line)
	}
	if want := strconv.Itoa(wire.Version); parts[1] != want {
		return fmt.Errorf("it speaks version %s of the interpreter protocol, this tape speaks version %s; install the interpreter that belongs to this tape", parts[1], want)
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

// checkAddress accepts only addresses that must belong to the process and vanish with it.
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

// mutualTLS returns the client half of go-plugin's AutoMTLS: the configuration, and the
// certificate for the interpreter as PEM. The interpreter sends its own certificate in the
// handshake; it becomes the only root.
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
