// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/taped-dev/tape/plugins/internal/interpreterpb"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// NewServer returns a server that calls impl. A panic in impl becomes the error of that
// call and is logged with its stack.
func NewServer(impl interpreter.Interpreter) interpreterpb.InterpreterServer {
	return &server{impl: impl}
}

type server struct {
	interpreterpb.UnimplementedInterpreterServer
	impl interpreter.Interpreter
}

func (s *server) Describe(ctx context.Context, _ *interpreterpb.DescribeRequest) (_ *interpreterpb.DescribeResponse, err error) {
	defer outcome(&err)
	d, err := s.impl.Describe(ctx)
	if err != nil {
		return nil, err
	}
	return descriptionToProto(d), nil
}

func (s *server) Inputs(ctx context.Context, req *interpreterpb.InputsRequest) (_ *interpreterpb.InputsResponse, err error) {
	defer outcome(&err)
	resp, err := s.impl.Inputs(ctx, &interpreter.InputsRequest{Root: req.GetRoot(), Path: req.GetPath(), Options: rawJSON(req.GetOptions())})
	if err != nil {
		return nil, err
	}
	if resp == nil {
		return nil, errors.New("interpreter returned nil from inputs")
	}
	for _, p := range resp.Paths {
		if err := checkText("input", p); err != nil {
			return nil, err
		}
	}
	return &interpreterpb.InputsResponse{Paths: resp.Paths, Exact: resp.Exact, Diagnostics: each(resp.Diagnostics, diagnosticToProto)}, nil
}

func (s *server) Render(req *interpreterpb.RenderRequest, stream grpc.ServerStreamingServer[interpreterpb.RenderResponse]) (err error) {
	defer outcome(&err)
	resp, err := s.impl.Render(stream.Context(), renderRequestFromProto(req))
	if err != nil {
		return err
	}
	if resp == nil {
		return errors.New("interpreter returned nil from render")
	}
	var parts []*interpreterpb.RenderResponse
	for _, d := range resp.Diagnostics {
		parts = append(parts, &interpreterpb.RenderResponse{Part: &interpreterpb.RenderResponse_Diagnostic{Diagnostic: diagnosticToProto(d)}})
	}
	for _, m := range resp.Materials {
		parts = append(parts, &interpreterpb.RenderResponse{Part: &interpreterpb.RenderResponse_Material{Material: materialToProto(m)}})
	}
	for _, part := range parts {
		if err := stream.Send(part); err != nil {
			return err
		}
	}
	for _, f := range resp.Files {
		if err := sendFile(stream, f); err != nil {
			return err
		}
	}
	return nil
}

func sendFile(stream grpc.ServerStreamingServer[interpreterpb.RenderResponse], f interpreter.File) error {
	if err := errors.Join(checkText("name of rendered file", f.Path), checkText("origin of rendered file", f.Origin)); err != nil {
		return err
	}
	begin := &interpreterpb.RenderResponse_File{File: &interpreterpb.File{Path: f.Path, Mode: f.Mode, Origin: f.Origin}}
	if err := stream.Send(&interpreterpb.RenderResponse{Part: begin}); err != nil {
		return err
	}
	for data := range slices.Chunk(f.Data, ChunkSize) {
		if err := stream.Send(&interpreterpb.RenderResponse{Part: &interpreterpb.RenderResponse_Chunk{Chunk: data}}); err != nil {
			return err
		}
	}
	return nil
}

// outcome, deferred, converts a call's error or panic to a gRPC status.
func outcome(err *error) {
	if p := recover(); p != nil {
		slog.Error("interpreter panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, text(fmt.Sprintf("interpreter panicked: %v", p)))
		return
	}
	switch {
	case *err == nil:
	case errors.Is(*err, context.Canceled), errors.Is(*err, context.DeadlineExceeded):
		*err = status.FromContextError(*err).Err()
	default:
		// The status of gRPC calls that the interpreter made is only text here.
		*err = status.Error(codes.Unknown, text((*err).Error()))
	}
}
