// SPDX-License-Identifier: Apache-2.0

// Package wire carries package interpreter over gRPC: the server that
// plugins/serve runs in an interpreter's process, the client that plugins/host
// runs in tape's, and what both must agree on beforehand. The messages are those
// of plugins/proto/interpreter/v1.
package wire

import (
	"context"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/taped-dev/tape/plugins/internal/interpreterpb"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// Version is the number of interpreter.v1 in go-plugin's handshake.
//
//	version  proto package   since
//	1        interpreter.v1  tape 1.0
const Version = 1

// Cookie and CookieValue tell an interpreter that tape started it and not a
// person. They are a courtesy, not a secret.
const (
	Cookie      = "TAPE_INTERPRETER"
	CookieValue = "5b0d6f4e-interpreter"
)

// ChunkSize is the most bytes of a file in one message. gRPC implementations
// refuse messages of more than 4 MiB unless told otherwise, on both sides.
const ChunkSize = 1 << 20

// name of the one plugin in go-plugin's set.
const name = "interpreter"

// Handshake is go-plugin's configuration on both sides.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{MagicCookieKey: Cookie, MagicCookieValue: CookieValue}
}

// Served is the set of plugins of a process that serves impl.
func Served(impl interpreter.Interpreter) map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{Version: {name: &grpcPlugin{impl: impl}}}
}

// Called is the set of plugins of a host.
func Called(limits Limits) map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{Version: {name: &grpcPlugin{limits: limits}}}
}

// Dispense answers with the client of a connection made with [Called].
func Dispense(p plugin.ClientProtocol) (*Client, error) {
	client, err := p.Dispense(name)
	if err != nil {
		return nil, err
	}
	return client.(*Client), nil
}

// grpcPlugin is [NewServer] and [NewClient] in go-plugin's words.
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
