// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/taped-dev/tape/plugins/internal/interpreterpb"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// Limits bound the response to one call.
type Limits struct {
	Files int   // files, diagnostics and materials of a render; paths of inputs
	Bytes int64 // total size
}

// maxInputs is the maximum size of a response to Inputs, which is a single message: 100,000
// paths of 160 bytes.
const maxInputs = 16 << 20

// Client calls the interpreter at the other end of a connection. It validates responses:
// paths must be relative, clean and unique, and the limits must be kept.
type Client struct {
	rpc    interpreterpb.InterpreterClient
	limits Limits
}

// NewClient returns a client that calls over conn.
func NewClient(conn grpc.ClientConnInterface, limits Limits) *Client {
	return &Client{rpc: interpreterpb.NewInterpreterClient(conn), limits: limits}
}

// ownTime hides a context's deadline from gRPC. The server would otherwise end the call by
// its own clock, sometimes just before the caller can report its own reason.
type ownTime struct{ context.Context }

// Deadline implements [context.Context].
func (ownTime) Deadline() (time.Time, bool) { return time.Time{}, false }

// Describe implements [interpreter.Interpreter].
func (c *Client) Describe(ctx context.Context) (interpreter.Description, error) {
	resp, err := c.rpc.Describe(ownTime{ctx}, &interpreterpb.DescribeRequest{})
	if err != nil {
		return interpreter.Description{}, callError(ctx, err)
	}
	return descriptionFromProto(resp), nil
}

// Inputs implements [interpreter.Interpreter].
func (c *Client) Inputs(ctx context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	if err := errors.Join(checkText("folder", req.Root), checkText("path", req.Path), checkText("options", string(req.Options))); err != nil {
		return nil, err
	}
	msg := &interpreterpb.InputsRequest{Root: req.Root, Path: req.Path, Options: string(req.Options)}
	resp, err := c.rpc.Inputs(ownTime{ctx}, msg, grpc.MaxCallRecvMsgSize(maxInputs))
	if err != nil {
		return nil, callError(ctx, err)
	}
	if n := len(resp.GetPaths()) + len(resp.GetDiagnostics()); n > c.limits.Files {
		return nil, fmt.Errorf("interpreter returned %d inputs, more than %d", n, c.limits.Files)
	}
	return &interpreter.InputsResponse{Paths: resp.GetPaths(), Exact: resp.GetExact(), Diagnostics: each(resp.GetDiagnostics(), diagnosticFromProto)}, nil
}

// Render implements [interpreter.Interpreter].
func (c *Client) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	msg, err := renderRequestToProto(req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(context.Canceled) // ends the stream if a response is rejected
	stream, err := c.rpc.Render(ownTime{ctx}, msg)
	if err != nil {
		return nil, callError(ctx, err)
	}
	a := answer{limits: c.limits, seen: map[string]bool{}}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return a.finish(), nil
		}
		if err != nil {
			return nil, callError(ctx, err)
		}
		if err := a.add(part); err != nil {
			return nil, err
		}
	}
}

// answer assembles the parts of a render.
type answer struct {
	limits Limits
	parts  int // without chunks
	bytes  int64
	seen   map[string]bool
	data   bytes.Buffer // of the last file, while it is incomplete
	resp   interpreter.RenderResponse
}

func (a *answer) add(part *interpreterpb.RenderResponse) error {
	if a.bytes += int64(proto.Size(part)); a.bytes > a.limits.Bytes {
		return fmt.Errorf("interpreter returned more than %d bytes", a.limits.Bytes)
	}
	if chunk, ok := part.GetPart().(*interpreterpb.RenderResponse_Chunk); ok {
		if len(a.resp.Files) == 0 {
			return errors.New("interpreter sent a chunk before its file")
		}
		a.data.Write(chunk.Chunk)
		return nil
	}
	if a.parts++; a.parts > a.limits.Files {
		return fmt.Errorf("interpreter returned more than %d files, diagnostics and materials", a.limits.Files)
	}
	switch p := part.GetPart().(type) {
	case *interpreterpb.RenderResponse_File:
		a.endFile()
		path := p.File.GetPath()
		switch {
		case !cleanPath(path):
			return fmt.Errorf("interpreter returned a file named %q: want a clean, relative, slash-separated path inside the root", path)
		case a.seen[path]:
			return fmt.Errorf("interpreter returned two files named %q", path)
		}
		a.seen[path] = true
		origin := p.File.GetOrigin()
		if origin != "" && !cleanPath(origin) {
			return fmt.Errorf("interpreter returned origin %q for %s: want a clean, relative, slash-separated path inside the root", origin, path)
		}
		a.resp.Files = append(a.resp.Files, interpreter.File{Path: path, Mode: p.File.GetMode(), Origin: origin})
	case *interpreterpb.RenderResponse_Diagnostic:
		a.resp.Diagnostics = append(a.resp.Diagnostics, diagnosticFromProto(p.Diagnostic))
	case *interpreterpb.RenderResponse_Material:
		m := materialFromProto(p.Material)
		if m.URI == "" || !digestRegexp.MatchString(m.Digest) {
			return fmt.Errorf("interpreter returned material %q with digest %q: want a URI and algorithm:hex", m.URI, m.Digest)
		}
		a.resp.Materials = append(a.resp.Materials, m)
	}
	return nil // ignore parts that a later minor version added
}

var digestRegexp = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*:[0-9a-f]{40,128}$`)

func cleanPath(path string) bool {
	return fs.ValidPath(path) && path != "." && !strings.ContainsAny(path, "\x00\\")
}

func (a *answer) endFile() {
	if n := len(a.resp.Files); n > 0 {
		a.resp.Files[n-1].Data = bytes.Clone(a.data.Bytes())
		a.data.Reset()
	}
}

func (a *answer) finish() *interpreter.RenderResponse {
	a.endFile()
	if slices.ContainsFunc(a.resp.Diagnostics, func(d interpreter.Diagnostic) bool { return d.Severity == interpreter.Error }) {
		a.resp.Files = nil
	}
	return &a.resp
}

// ErrConnection is wrapped by the error of a call whose connection broke, usually because
// the process at the other end died.
var ErrConnection = errors.New("lost the interpreter")

// callError returns the cause if ctx has ended, and the interpreter's message otherwise.
func callError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	st := status.Convert(err)
	switch st.Code() {
	case codes.Unavailable:
		return fmt.Errorf("%w: %s", ErrConnection, st.Message())
	case codes.Unimplemented:
		return fmt.Errorf("program does not serve interpreter.v1: %s", st.Message())
	}
	return errors.New(st.Message())
}

var _ interpreter.Interpreter = (*Client)(nil)
