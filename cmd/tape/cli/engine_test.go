// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages/app/fleet"
)

// recorder is an engine with a worker that packages a, fails with b, and gets no further.
type recorder struct {
	job      fleet.Job
	canceled digest.Digest
}

func (r *recorder) Package(_ context.Context, job fleet.Job, ended func(fleet.Outcome)) error {
	r.job = job
	ended(fleet.Outcome{Name: "a", State: fleet.Done, Root: "ex.io/a@sha256:aa", Seconds: 1.5})
	ended(fleet.Outcome{Name: "b", State: fleet.Failed, Error: &fleet.Failure{Message: "broken", Final: true}})
	ended(fleet.Outcome{Name: "other", State: fleet.Done})
	return nil
}

func (r *recorder) Status(_ context.Context, job fleet.Job) (*fleet.Run, error) {
	r.job = job
	return &fleet.Run{State: "running", Workers: []string{"worker-7"}, Running: []fleet.Running{{Name: "c", Worker: "worker-7", Attempt: 2, Doing: "mirror 3/5"}}}, nil
}

func (r *recorder) Cancel(_ context.Context, plan digest.Digest) error {
	r.canceled = plan
	return nil
}

// TestCompanion uses a program with an engine to package a fleet, show the progress of the run and
// cancel it.
func TestCompanion(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	file := filepath.Join(dir, fleet.FileName)
	for name, text := range map[string]string{
		file:                                 "apiVersion: tape/v1\nkind: Fleet\napplications: [\"apps/*\"]\ndefaults: {output: {image: \"127.0.0.1:1/engine/${name}\"}}\nlimits: {a.example: 5/s}\n",
		filepath.Join(dir, "apps/a/cm.yaml"): "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
		filepath.Join(dir, "apps/b/cm.yaml"): "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n",
		filepath.Join(dir, "apps/c/cm.yaml"): "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	engine := &recorder{}
	var given EngineFlags
	companion := Companion{
		Name: "tape-fleet-test",
		Engine: func(_ *Program, flags *EngineFlags) (fleet.Engine, error) {
			given = *flags
			return engine, nil
		},
		Commands: func(*Program) []*cobra.Command { return nil },
	}
	run := func(want int, command string) (stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		args := append(strings.Fields(command), file)
		if code := companion.Run(t.Context(), args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs}); code != want {
			t.Fatalf("%s: status %d, want %d: %s", command, code, want, errs.String())
		}
		return out.String(), errs.String()
	}
	contains := func(text string, all ...string) {
		t.Helper()
		for _, want := range all {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		}
	}

	out, errs := run(exitFailed, "fleet package --engine temporal --temporal-address there:7233 --limit b.example=60/m --again -o json")
	contains(out, `"name":"a","path":"apps/a","state":"done","reason":"it is new","root":"ex.io/a@sha256:aa"`,
		`"name":"b","path":"apps/b","state":"failed","reason":"it is new"`, `"message":"broken"`, `"done":1,"unchanged":0,"failed":1,"waiting":1`)
	contains(errs, "done       a  1.5s", "tape-fleet-test: 1 of 3 applications failed\n")
	if strings.Contains(out, "other") {
		t.Errorf("an application of another run is reported: %s", out)
	}
	if given.Address != "there:7233" {
		t.Errorf("the engine was given %+v", given)
	}
	plan := engine.job.Plan
	if err := plan.Validate(); err != nil {
		t.Error(err)
	}
	want := fleet.Job{
		Fleet: engine.job.Fleet, Version: readVersion().Version, Plan: plan, Names: []string{"a", "b", "c"},
		Limits: map[string]float64{"a.example": 5, "b.example": 1}, Again: true,
	}
	if diff := cmp.Diff(want, engine.job); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}

	out, _ = run(0, "fleet status --engine temporal")
	contains(out, "\nrunning    c  attempt 2 at worker-7  mirror 3/5\n", "\nrun        running; workers: 1\n")
	out, _ = run(0, "fleet status --engine temporal -o json")
	contains(out, `"run":{"state":"running","workers":["worker-7"]`)
	if diff := cmp.Diff(fleet.Job{Fleet: want.Fleet, Version: want.Version, Plan: plan}, engine.job); diff != "" {
		t.Errorf("job of a status (-want +got):\n%s", diff)
	}
	out, _ = run(0, "fleet cancel")
	contains(out, "canceled   "+plan.String()+"\n")
	if engine.canceled != plan {
		t.Errorf("%s was canceled, not %s", engine.canceled, plan)
	}
}
