// SPDX-License-Identifier: Apache-2.0

// Package wire transports package interpreter over gRPC: it has the server that
// plugins/serve runs in an interpreter's process, the client that plugins/host runs in
// tape's, and what both must agree on. The messages are defined in
// plugins/proto/interpreter/v1.
package wire

import (
	"context"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/taped-dev/tape/plugins/internal/interpreterpb"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// Version is the protocol version of interpreter.v1 in go-plugin's handshake.
//
//	version  proto package   since
//	1        interpreter.v1  tape 1.0
const Version = 1

// Cookie and CookieValue are the environment variable, and its value, that show an
// interpreter that tape started it, not a person. They are not a secret.
const (
	Cookie      = "TAPE_INTERPRETER"
	CookieValue = "5b0d6f4e-interpreter"
)

// ChunkSize is the maximum number of bytes of a file in one message. By default, gRPC
// implementations reject messages larger than 4 MiB on both sides.
const ChunkSize = 1 << 20

// name is the name of the only plugin in go-plugin's set.
const name = "interpreter"

// Handshake returns go-plugin's configuration for both sides.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{MagicCookieKey: Cookie, MagicCookieValue: CookieValue}
}

// Served returns the plugins of a process that serves impl.
func Served(impl interpreter.Interpreter) map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{Version: {name: &grpcPlugin{impl: impl}}}
}

// Called returns the plugins of a host.
func Called(limits Limits) map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{Version: {name: &grpcPlugin{limits: limits}}}
}

// Dispense returns the client of a connection made with [Called].
func Dispense(p plugin.ClientProtocol) (*Client, error) {
	client, err := p.Dispense(name)
	if err != nil {
		return nil, err
	}
	return client.(*Client), nil
}

// grpcPlugin adapts [NewServer] and [NewClient] to go-plugin.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	impl   interpreter.Interpreter
	limits Limits
}

func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	interpreterpb.RegisterInterpreterServer(s, NewServer(p.impl))
	return nil
}

func (p *grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(conn, p.limits), nil
}

var _ plugin.GRPCPlugin = (*grpcPlugin)(nil)
