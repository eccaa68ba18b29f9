// SPDX-License-Identifier: Apache-2.0

//go:build unix

package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/taped-dev/tape/plugins/conformance"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/plugins/serve"
)

// TestMain makes this test binary the interpreters that the tests start.
func TestMain(m *testing.M) {
	if fault, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "tape-interpreter-note"); ok {
		fault = strings.TrimPrefix(fault, "-")
		if fault == "silent" && os.Getenv("TAPE_INTERPRETER") == "" {
			os.Exit(1)
		}
		if fault == "agrees" && os.Getenv("PLUGIN_PROTOCOL_VERSIONS") == "4711" {
			fmt.Printf("1|%s|unix|/none|grpc|\n", os.Getenv("PLUGIN_PROTOCOL_VERSIONS"))
			select {}
		}
		serve.Interpreter(&note{fault: fault})
	}
	goleak.VerifyTestMain(m)
}

// note makes a ConfigMap of every *.note in a folder: a small interpreter that conforms to the
// contract, except for its fault.
type note struct {
	fault    string
	calls    atomic.Int64
	released chan struct{} // releases interpreters that ignore cancellation, for the leak check
}

func (n *note) Describe(context.Context) (interpreter.Description, error) {
	d := interpreter.Description{
		Name: "note", Version: "1", Help: "makes config maps of notes",
		Markers: []interpreter.Marker{{Name: "*.note"}},
		Options: json.RawMessage(`{"type":"object","additionalProperties":false,"properties":{"shout":{"type":"boolean"}}}`),
	}
	if n.fault != "" {
		d.Name += "-" + n.fault
	}
	switch n.fault {
	case "changes":
		d.Version = fmt.Sprint(n.calls.Add(1))
	case "bad-marker":
		d.Markers[0].Name = "[*.note"
	case "open-schema":
		d.Options = json.RawMessage(`{"type":"object"}`)
	case "bad-schema":
		d.Options = json.RawMessage(`{"type":"object","additionalProperties":false,"properties":{"x":{"type":"boolaen"}}}`)
	case "drifts":
		d.Version = fmt.Sprint(time.Now().UnixNano())
	case "two-lines":
		d.Help = "makes\nnotes"
	}
	return d, nil
}

func (n *note) Inputs(_ context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	if n.fault == "invents" {
		return &interpreter.InputsResponse{Paths: []string{"no/such/file"}}, nil
	}
	return &interpreter.InputsResponse{}, nil
}

func (n *note) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	if n.fault == "heedless" && ctx.Err() != nil {
		<-n.released
		return nil, errors.New("released")
	}
	var opts struct {
		Shout bool `json:"shout"`
	}
	if len(req.Options) > 0 {
		if err := json.Unmarshal(req.Options, &opts); err != nil && n.fault == "options" {
			return nil, err
		} else if err != nil {
			return fail(err), nil
		}
	}
	files, err := os.ReadDir(filepath.Join(req.Source, filepath.FromSlash(req.Path)))
	if err != nil && n.fault == "sources" {
		panic(err)
	} else if err != nil {
		return fail(err), nil
	}
	resp := &interpreter.RenderResponse{}
	for _, f := range files {
		if filepath.Ext(f.Name()) != ".note" {
			if n.fault == "lists" {
				resp.Files = append(resp.Files, interpreter.File{Path: f.Name()})
			}
			continue
		}
		data, err := os.ReadFile(filepath.Join(req.Source, filepath.FromSlash(req.Path), f.Name()))
		if err != nil {
			return fail(err), nil
		}
		if opts.Shout {
			data = bytes.ToUpper(data)
		}
		if n.fault == "place" {
			data = append(data, req.Source...)
		}
		if n.fault == "random" {
			data = fmt.Append(data, n.calls.Add(1))
		}
		if bytes.Contains(data, []byte("secret")) {
			return fail(fmt.Errorf("%s: says a secret", f.Name())), nil
		}
		origin := path.Join(req.Path, f.Name())
		switch n.fault {
		case "origin-outside":
			origin = "../" + origin
		case "origin-invented":
			origin += ".yaml"
		}
		resp.Files = append(resp.Files, interpreter.File{Path: f.Name() + ".yaml", Origin: origin, Data: data})
	}
	switch n.fault {
	case "peeks":
		if other, err := os.ReadFile(filepath.Join(req.Source, "other.txt")); err == nil && len(resp.Files) > 0 {
			resp.Files[0].Data = other
		}
	case "unprintable":
		resp.Files = append(resp.Files, interpreter.File{Path: "a\nb"})
	case "file-and-folder":
		resp.Files = append(resp.Files, interpreter.File{Path: "a.note.yaml/b.yaml"})
	case "setuid":
		for i := range resp.Files {
			resp.Files[i].Mode = 0o4755
		}
	case "two-digests":
		resp.Materials = []interpreter.Material{{URI: "https://example.com/a", Digest: "sha256:a"}, {URI: "https://example.com/a", Digest: "sha256:b"}}
	}
	switch n.fault {
	case "writes":
		err = os.WriteFile(filepath.Join(req.Source, "cache"), nil, 0o644)
	case "home":
		err = os.WriteFile(filepath.Join(os.Getenv("HOME"), "cache"), nil, 0o644)
	default:
		err = os.WriteFile(filepath.Join(req.Scratch, "cache"), nil, 0o644)
	}
	return resp, err
}

func fail(err error) *interpreter.RenderResponse {
	return &interpreter.RenderResponse{Diagnostics: []interpreter.Diagnostic{{Severity: interpreter.Error, Summary: err.Error()}}}
}

// cases returns cases of notes; those with a big one take time.
func cases(big bool) fs.FS {
	files := fstest.MapFS{}
	for name, text := range map[string]string{
		"simple": "# a comment\n-- in/a.note --\nhello\n-- in/README --\n-- out/a.note.yaml --\nhello\n",
		"shout":  "path: sub\noptions: {\"shout\": true}\n-- in/other.txt --\nother\n-- in/sub/a.note --\nhello\n-- out/a.note.yaml --\nHELLO\n",
		"secret": "error: says a secret\n-- in/a.note --\nsecret\n",
		"big":    "fill: in/big.note 5000000\n-- in/a.note --\n",
	} {
		if name == "big" && !big {
			continue
		}
		files["cases/"+name+".txtar"] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

func TestCheck(t *testing.T) {
	if err := conformance.Check(t.Context(), &note{}, conformance.Options{Cases: cases(true)}); err != nil {
		t.Fatal(err)
	}
}

func TestCheckWithoutCases(t *testing.T) {
	report, err := conformance.Run(t.Context(), &note{}, conformance.Options{})
	if err != nil || report.Err() != nil {
		t.Fatal(err, report.Err())
	}
	i := slices.IndexFunc(report.Results, func(r conformance.Result) bool { return r.Check == "over gRPC: big output" })
	if i < 0 || report.Results[i].Reason == "" {
		t.Errorf("report does not say that big output was not checked: %+v", report)
	}
}

// Every fault is found by the check of its name.
func TestFaults(t *testing.T) {
	tests := []struct{ fault, check, want string }{
		{"changes", "describe", "answers differ"},
		{"bad-marker", "describe", `marker "[*.note"`},
		{"open-schema", "describe", "additionalProperties"},
		{"bad-schema", "describe", "schema of options"},
		{"two-lines", "describe", "want one line"},
		{"invents", "case cases/simple", `input "no/such/file" does not exist`},
		{"random", "case cases/simple", "a.note.yaml differs: line 2 is"},
		{"place", "case cases/simple", "a.note.yaml differs"},
		{"lists", "case cases/simple", "README is not expected"},
		{"origin-outside", "case cases/simple", "a.note.yaml: origin \"../a.note\" is not a clean relative path"},
		{"origin-invented", "case cases/simple", "a.note.yaml: origin \"a.note.yaml\" is not a file"},
		{"peeks", "case cases/shout", "render reads a file that inputs does not return: with all files, a.note.yaml differs"},
		{"unprintable", "case cases/simple", `file name "a\nb" has a character that cannot be printed`},
		{"file-and-folder", "case cases/simple", `"a.note.yaml" is both a file and a folder`},
		{"setuid", "case cases/simple", "a.note.yaml has mode 04755"},
		{"two-digests", "case cases/simple", `material "https://example.com/a" has two digests`},
		{"writes", "case cases/simple", "render wrote outside of its scratch folder"},
		{"options", "bad options", "want a diagnostic, got an error"},
		{"sources", "bad sources", "folder that does not exist: render: want a diagnostic, got an error: panicked"},
		{"heedless", "cancel", "did not return within"},
	}
	for _, test := range tests {
		t.Run(test.fault, func(t *testing.T) {
			opts := conformance.Options{Cases: cases(false)}
			n := &note{fault: test.fault, released: make(chan struct{})}
			defer close(n.released)
			if test.fault == "heedless" {
				opts.Timeout = time.Second
			}
			report, err := conformance.Run(t.Context(), n, opts)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range report.Results {
				if r.Check == "in process: "+test.check {
					if r.OK || !strings.Contains(r.Reason, test.want) {
						t.Errorf("got %+v, want %s", r, test.want)
					}
					return
				}
			}
			t.Errorf("no check %q in %+v", test.check, report)
		})
	}
}

func TestBadCases(t *testing.T) {
	tests := map[string]string{
		"paht: x\n-- in/a --\n":       `unknown key "paht"`,
		"-- a --\n":                   "neither below in/ nor below out/",
		"-- in/../a --\n":             "want a path below",
		"path: ../x\n-- in/a --\n":    "want a path below in/",
		"options: {\n-- in/a --\n":    "want a JSON object",
		"fill: big many\n-- in/a --":  "want in/NAME SIZE",
		"# nothing\n-- out/a.yaml --": "no file below in/",
	}
	for text, want := range tests {
		files := fstest.MapFS{"x.txtar": {Data: []byte(text)}}
		err := conformance.Check(t.Context(), &note{}, conformance.Options{Cases: files})
		if err == nil || !strings.Contains(err.Error(), "case x.txtar") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestCheckStops(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if err := conformance.Check(ctx, &note{}, conformance.Options{Cases: cases(false)}); !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
}

func TestCheckBinary(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ fault, check, want string }{
		{},
		{fault: "silent", check: "by hand", want: "does not print a description"},
		{fault: "agrees", check: "version", want: "it claims to speak version 4711"},
		{fault: "random", check: "process: case cases/simple", want: "a.note.yaml differs"},
		{fault: "drifts", check: "describe again", want: "two processes answer differently"},
		{fault: "home", check: "home", want: "wrote cache to the home folder"},
	}
	for _, test := range tests {
		t.Run(test.fault, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), strings.TrimSuffix("tape-interpreter-note-"+test.fault, "-"))
			if err := os.Symlink(exe, path); err != nil {
				t.Fatal(err)
			}
			report, err := conformance.CheckBinary(t.Context(), path, conformance.Options{Cases: cases(test.fault == "")}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.fault == "" {
				if err := report.Err(); err != nil {
					t.Error(err)
				}
				return
			}
			// If the kernel confines it, the write fails in the first place.
			if denied := "cache: permission denied"; test.fault == "home" && strings.Contains(fmt.Sprint(report), denied) {
				return
			}
			i := slices.IndexFunc(report.Results, func(r conformance.Result) bool { return r.Check == test.check })
			if i < 0 || report.Results[i].OK || !strings.Contains(report.Results[i].Reason, test.want) {
				t.Errorf("got %+v, want that %s fails with %s", report, test.check, test.want)
			}
		})
	}
	if _, err := conformance.CheckBinary(t.Context(), filepath.Join(t.TempDir(), "none"), conformance.Options{}, nil); err == nil {
		t.Error("checked a program that does not exist")
	}
}
