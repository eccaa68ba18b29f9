// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/taped-dev/tape/plugins/internal/interpreterpb"
	"github.com/taped-dev/tape/plugins/internal/wire"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// overWire serves impl over gRPC within this process and returns a client for it.
func overWire(impl interpreter.Interpreter) (_ interpreter.Interpreter, closeAll func(), err error) {
	listener := bufconn.Listen(64 << 10)
	server := grpc.NewServer()
	interpreterpb.RegisterInterpreterServer(server, wire.NewServer(impl))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	conn, err := grpc.NewClient("passthrough:///interpreter",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		server.Stop()
		return nil, nil, errors.Join(err, <-served)
	}
	closeAll = func() {
		_ = conn.Close()
		server.Stop()
		<-served
	}
	return wire.NewClient(conn, wire.Limits{Files: 100_000, Bytes: 256 << 20}), closeAll, nil
}
