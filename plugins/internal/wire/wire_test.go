// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/taped-dev/tape/plugins/internal/interpreterpb"
	"github.com/taped-dev/tape/plugins/interpreter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stub returns fixed responses, and records requests.
type stub struct {
	description interpreter.Description
	inputs      *interpreter.InputsResponse
	rendered    *interpreter.RenderResponse
	err         error

	inputsRequest *interpreter.InputsRequest
	renderRequest *interpreter.RenderRequest
}

func (s *stub) Describe(context.Context) (interpreter.Description, error) {
	return s.description, s.err
}

func (s *stub) Inputs(_ context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	s.inputsRequest = req
	return s.inputs, s.err
}

func (s *stub) Render(_ context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	s.renderRequest = req
	return s.rendered, s.err
}

// connect serves the server and returns a client of it.
func connect(t testing.TB, server interpreterpb.InterpreterServer) *Client {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	s := grpc.NewServer()
	interpreterpb.RegisterInterpreterServer(s, server)
	go func() { _ = s.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///x",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
	})
	return NewClient(conn, Limits{Files: 1000, Bytes: 64 << 20})
}

// Every field of the contract is transferred.
func TestEverythingArrives(t *testing.T) {
	diagnostics := []interpreter.Diagnostic{
		{Severity: interpreter.Warning, Summary: "w", Detail: "two\nlines", File: "a/b.yaml", Line: 3, Column: 7},
		{Severity: interpreter.Info, Summary: "i"},
	}
	s := &stub{
		description: interpreter.Description{
			Name: "x", Version: "1", Help: "h",
			Markers:     []interpreter.Marker{{Name: "a*", Above: true, With: "b"}, {Name: "c"}},
			Options:     json.RawMessage(`{"type":"object","x":123456789012345678901234567890}`),
			Environment: []string{"A", "B"}, Network: true, References: []string{"oci", "https"},
		},
		inputs: &interpreter.InputsResponse{Paths: []string{"a", "../b"}, Exact: true, Diagnostics: diagnostics},
		rendered: &interpreter.RenderResponse{
			Files: []interpreter.File{
				{Path: "b/c.yaml", Mode: 0o755, Origin: "src/c.tpl", Data: []byte("x\x00\xff")},
				{Path: "a"},
				{Path: "big", Data: make([]byte, 3*ChunkSize+1)},
			},
			Diagnostics: diagnostics,
			Materials:   []interpreter.Material{{URI: "oci://a/b:c", Digest: "sha256:" + strings.Repeat("a", 64)}},
		},
	}
	c := connect(t, NewServer(s))

	d, err := c.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.description, d); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}

	inputsRequest := &interpreter.InputsRequest{Root: "/r", Path: "p", Options: json.RawMessage(`{"a": 1}`)}
	inputs, err := c.Inputs(t.Context(), inputsRequest)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(inputsRequest, s.inputsRequest); diff != "" {
		t.Errorf("request for inputs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(s.inputs, inputs); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}

	renderRequest := &interpreter.RenderRequest{
		Source: "/s", Path: "p", Reference: "oci://x", Options: json.RawMessage(`{}`),
		Materials:  []interpreter.Material{{URI: "u", Digest: "sha256:0"}},
		Registries: &interpreter.Registries{HostsDir: "/h", PlainHTTP: []string{"l:5000"}, CAFile: "/ca"},
		Scratch:    "/tmp/s",
	}
	rendered, err := c.Render(t.Context(), renderRequest)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(renderRequest, s.renderRequest); diff != "" {
		t.Errorf("request for render (-want +got):\n%s", diff)
	}
	want := *s.rendered
	want.Files[1].Data = []byte{}
	if diff := cmp.Diff(&want, rendered, cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })); diff != "" {
		t.Errorf("rendered (-want +got):\n%s", diff)
	}
}

// Invalid UTF-8 is replaced in texts for people, and rejected in names.
func TestInvalidUTF8(t *testing.T) {
	s := &stub{rendered: &interpreter.RenderResponse{Diagnostics: []interpreter.Diagnostic{{Severity: interpreter.Error, Summary: "byte \xff"}}}}
	c := connect(t, NewServer(s))
	resp, err := c.Render(t.Context(), &interpreter.RenderRequest{Path: "."})
	if err != nil || resp.Diagnostics[0].Summary != "byte \uFFFD" {
		t.Errorf("got %+v, %v", resp, err)
	}
	if _, err := c.Render(t.Context(), &interpreter.RenderRequest{Path: "a\xff"}); err == nil || !strings.Contains(err.Error(), `path "a\xff" is not valid UTF-8`) {
		t.Errorf("got %v", err)
	}
	s.rendered = &interpreter.RenderResponse{Files: []interpreter.File{{Path: "a\xff"}}}
	if _, err := c.Render(t.Context(), &interpreter.RenderRequest{}); err == nil || !strings.Contains(err.Error(), `"a\xff" is not valid UTF-8`) {
		t.Errorf("got %v", err)
	}
	s.err = errors.New("bad byte \xff")
	if _, err := c.Describe(t.Context()); err == nil || err.Error() != "bad byte \uFFFD" {
		t.Errorf("got %v", err)
	}
}

func TestErrors(t *testing.T) {
	c := connect(t, NewServer(&stub{err: errors.New("cannot")}))
	if _, err := c.Describe(t.Context()); err == nil || err.Error() != "cannot" {
		t.Errorf("got %v, want the interpreter's own words", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("changed my mind")
	cancel(reason)
	if _, err := c.Render(ctx, &interpreter.RenderRequest{}); !errors.Is(err, reason) {
		t.Errorf("got %v, want %v", err, reason)
	}
	c = connect(t, interpreterpb.UnimplementedInterpreterServer{})
	if _, err := c.Describe(t.Context()); err == nil || !strings.Contains(err.Error(), "does not serve interpreter.v1") {
		t.Errorf("got %v", err)
	}
}

// raw responds to a render with the given parts.
type raw struct {
	interpreterpb.UnimplementedInterpreterServer
	parts []*interpreterpb.RenderResponse
}

func (r *raw) Render(_ *interpreterpb.RenderRequest, stream grpc.ServerStreamingServer[interpreterpb.RenderResponse]) error {
	for _, p := range r.parts {
		if err := stream.Send(p); err != nil {
			return err
		}
	}
	return nil
}

func chunk(s string) *interpreterpb.RenderResponse {
	return &interpreterpb.RenderResponse{Part: &interpreterpb.RenderResponse_Chunk{Chunk: []byte(s)}}
}

func begin(path string) *interpreterpb.RenderResponse {
	return &interpreterpb.RenderResponse{Part: &interpreterpb.RenderResponse_File{File: &interpreterpb.File{Path: path}}}
}

func TestStrangeStreams(t *testing.T) {
	tests := []struct {
		name  string
		parts []*interpreterpb.RenderResponse
		want  string
	}{
		{"chunk first", []*interpreterpb.RenderResponse{chunk("x")}, "a chunk before its file"},
		{"chunk too large", []*interpreterpb.RenderResponse{begin("a"), chunk(strings.Repeat("x", 5<<20))}, "larger than max"},
		{"origin outside", []*interpreterpb.RenderResponse{{Part: &interpreterpb.RenderResponse_File{
			File: &interpreterpb.File{Path: "a", Origin: "../a"}}}}, "want a clean, relative"},
		{"unknown part", []*interpreterpb.RenderResponse{{}, begin("a"), {}, chunk("x")}, ""},
		{"unknown severity", []*interpreterpb.RenderResponse{begin("a"), {Part: &interpreterpb.RenderResponse_Diagnostic{
			Diagnostic: &interpreterpb.Diagnostic{Severity: 99, Summary: "s", Line: 1 << 31}}}}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resp, err := connect(t, &raw{parts: test.parts}).Render(t.Context(), &interpreter.RenderRequest{})
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %s", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if test.name == "unknown severity" && (len(resp.Files) > 0 || resp.Diagnostics[0].Severity != interpreter.Error) {
				t.Errorf("an unknown severity is not taken as an error: %+v", resp)
			}
			if test.name == "unknown part" && string(resp.Files[0].Data) != "x" {
				t.Errorf("got %+v", resp)
			}
		})
	}
}

// Only the log has the stack of a panic.
func TestPanic(t *testing.T) {
	c := connect(t, NewServer(panicking{}))
	if _, err := c.Describe(t.Context()); err == nil || err.Error() != "interpreter panicked: oh" {
		t.Errorf("got %v", err)
	}
	if _, err := c.Render(t.Context(), &interpreter.RenderRequest{}); err == nil || err.Error() != "interpreter panicked: oh" {
		t.Errorf("got %v", err)
	}
}

type panicking struct{ interpreter.Interpreter }

func (panicking) Describe(context.Context) (interpreter.Description, error) { panic("oh") }
func (panicking) Render(context.Context, *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	panic("oh")
}

// FuzzAnswer checks that, whatever parts arrive, a response is within the limits and its paths
// are inside the root.
func FuzzAnswer(f *testing.F) {
	for _, parts := range [][]*interpreterpb.RenderResponse{
		{begin("a/b.yaml"), chunk("x"), begin("c"), chunk("y"), chunk("z")},
		{begin("../a")}, {begin("/a")}, {begin("a"), begin("a")}, {chunk("x")}, {{}},
		{{Part: &interpreterpb.RenderResponse_Material{Material: &interpreterpb.Material{Uri: "u", Digest: "d"}}}},
		{{Part: &interpreterpb.RenderResponse_Diagnostic{Diagnostic: &interpreterpb.Diagnostic{Severity: 1}}}},
	} {
		var seed []byte
		for _, p := range parts {
			data, err := proto.Marshal(p)
			if err != nil {
				f.Fatal(err)
			}
			seed = append(append(seed, byte(len(data))), data...)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		limits := Limits{Files: 8, Bytes: 256}
		a := answer{limits: limits, seen: map[string]bool{}}
		for len(data) > 0 { // a byte of length before each part
			n := min(int(data[0]), len(data)-1)
			var part interpreterpb.RenderResponse
			err := proto.Unmarshal(data[1:1+n], &part)
			data = data[1+n:]
			if err != nil {
				continue
			}
			if a.add(&part) != nil {
				return
			}
		}
		resp := a.finish()
		total, seen := 0, map[string]bool{}
		for _, file := range resp.Files {
			total += len(file.Data)
			if !fs.ValidPath(file.Path) || file.Path == "." || seen[file.Path] {
				t.Errorf("let through the path %q", file.Path)
			}
			seen[file.Path] = true
		}
		if total > int(limits.Bytes) || len(resp.Files)+len(resp.Diagnostics)+len(resp.Materials) > limits.Files {
			t.Errorf("let through %d bytes in %d files", total, len(resp.Files))
		}
	})
}

// Errors of an interpreter's own gRPC calls must not be taken for ours.
func TestForeignStatus(t *testing.T) {
	foreign := status.Error(14, "registry is down")
	c := connect(t, NewServer(&stub{err: fmt.Errorf("fetch: %w", foreign)}))
	if _, err := c.Describe(t.Context()); err == nil || errors.Is(err, ErrConnection) || !strings.Contains(err.Error(), "registry is down") {
		t.Errorf("got %v", err)
	}
}

// clock records which calls have a deadline.
type clock struct {
	stub
	dated []string
}

func (c *clock) note(ctx context.Context, call string) {
	if _, dated := ctx.Deadline(); dated {
		c.dated = append(c.dated, call)
	}
}

func (c *clock) Describe(ctx context.Context) (interpreter.Description, error) {
	c.note(ctx, "describe")
	return c.stub.Describe(ctx)
}

func (c *clock) Inputs(ctx context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	c.note(ctx, "inputs")
	return c.stub.Inputs(ctx, req)
}

func (c *clock) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	c.note(ctx, "render")
	return c.stub.Render(ctx, req)
}

// Deadlines are not sent: otherwise the other side would end the call first, with less
// information.
func TestDeadlineStays(t *testing.T) {
	s := &clock{stub: stub{inputs: &interpreter.InputsResponse{}, rendered: &interpreter.RenderResponse{}}}
	c := connect(t, NewServer(s))
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, errors.New("late"))
	defer cancel()
	_, err := c.Describe(ctx)
	_, inputsErr := c.Inputs(ctx, &interpreter.InputsRequest{})
	_, renderErr := c.Render(ctx, &interpreter.RenderRequest{})
	if err := errors.Join(err, inputsErr, renderErr); err != nil {
		t.Fatal(err)
	}
	if len(s.dated) > 0 {
		t.Errorf("these knew of the deadline: %q", s.dated)
	}
}
