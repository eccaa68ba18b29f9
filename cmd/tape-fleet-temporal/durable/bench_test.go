// SPDX-License-Identifier: Apache-2.0

//go:build bench

package durable

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/taped-dev/tape/cmd/tape/cli"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// workerVariable turns the test binary into a worker of the Temporal server at its value.
const workerVariable = "TAPE_TEST_WORKER"

// sleeper takes 50 ms for each application.
type sleeper struct{}

func (sleeper) Do(_ context.Context, name string) (fleet.Outcome, error) {
	time.Sleep(50 * time.Millisecond)
	return fleet.Outcome{
		Name: name, State: fleet.Done, Images: 5, Tags: []string{"config.0123456789ab"}, Warnings: []string{}, Seconds: 0.05,
		Root: "registry.example.com/fleet/" + name + ":config.0123456789ab@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	}, nil
}

func (sleeper) Unsigned(context.Context) ([]string, error) { return nil, nil }

func TestMain(m *testing.M) {
	address := os.Getenv(workerVariable)
	if address == "" {
		os.Exit(m.Run())
	}
	ctx := context.Background()
	c, err := connect(ctx, benchOptions(address), slog.New(slog.DiscardHandler), true)
	if err == nil {
		w := &work{name: strconv.Itoa(os.Getpid()), batch: batch, silence: silence, limit: func(registry.Limits) {}, open: func(context.Context, task) (runner, error) { return sleeper{}, nil }}
		err = w.serve(ctx, c, benchQueue(), 24, time.Second)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func benchOptions(address string) client.Options {
	if err := os.Setenv("PAYLOAD_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"); err != nil {
		panic(err)
	}
	o, err := clientOptions(cli.EngineFlags{Address: address, PayloadKey: "env://PAYLOAD_KEY"}, variables{"TEMPORAL_CONFIG_FILE": os.DevNull})
	if err != nil {
		panic(err)
	}
	return o
}

func benchQueue() string { j := job(0); return queue(j.Fleet, j.Version) }

// TestBenchTemporal executes 2,000 activities of 50 ms with four workers.
func TestBenchTemporal(t *testing.T) {
	s := startServer(t)
	for range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), workerVariable+"="+s.address())
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	o := benchOptions(s.address())
	c, err := connect(t.Context(), o, slog.New(slog.DiscardHandler), true)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	j := job(2000)
	before, began := s.bytes(t), time.Now()
	started, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: j.Plan.String(), TaskQueue: benchQueue()}, workflowName, run{Job: j})
	if err != nil {
		t.Fatal(err)
	}
	ended := map[string]bool{}
	if err := follow(t.Context(), c, o, j.Plan.String(), started.GetRunID(), func(o fleet.Outcome) { ended[o.Name] = o.State == fleet.Done }); err != nil {
		t.Fatal(err)
	}
	wall := time.Since(began)
	if len(ended) != len(j.Names) {
		t.Errorf("%d outcomes of %d", len(ended), len(j.Names))
	}
	size := s.bytes(t)
	s.kill()
	t.Logf("Temporal, 2,000 activities of 50 ms, window %d, 4 workers:\n"+
		"wall         ≤ 60 s   %.1f s\nserver CPU   ≤ 25 s   %.1f s\ndatabase     ≤ 5 MB   %.2f MB, %.2f before", window, wall.Seconds(), s.cpu.Seconds(), mb(size), mb(before))
	if mb(size) > 5 {
		t.Errorf("the database has %.2f MB, at most 5", mb(size))
	}
}

func mb(n int64) float64 { return float64(n) / 1e6 }
