// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// fleetSize is the number of applications in the measured fleet.
const fleetSize = 600

// TestBenchFleet is what `make bench-fleet` runs.
func TestBenchFleet(t *testing.T) {
	var rows table
	t.Run("fleet", func(t *testing.T) { wholeFleet(t, &rows) })
	t.Run("quota", func(t *testing.T) { quotaFleet(t, &rows) })
	t.Run("charts", func(t *testing.T) { chartFleet(t, &rows) })
	t.Log("\n" + rows.String())
}

// newFleet writes a repository of applications of 5 images, 3 of them from a pool of 30.
func newFleet(t *testing.T, l *lab, applications int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, "tape.fleet.yaml"), "apiVersion: tape/v1\nkind: Fleet\napplications: [\"apps/*\"]\n"+
		"defaults: {output: {image: \""+l.dstAddr+"/fleet/${name}\"}}\n")
	for i := range applications {
		fleetApplication(t, dir, i, "1.0")
	}
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "first")
	return dir
}

func fleetApplication(t *testing.T, dir string, i int, tag string) {
	t.Helper()
	var b strings.Builder
	for n := range 2 {
		fmt.Fprintf(&b, workload, fmt.Sprintf("own%d", n), fmt.Sprintf("ex.io/own/app%d-%d:%s", i, n, tag))
	}
	for n := range 3 {
		fmt.Fprintf(&b, workload, fmt.Sprintf("pool%d", n), fmt.Sprintf("ex.io/pool/p%d:1.0", (i+n*10)%30))
	}
	write(t, filepath.Join(dir, "apps", fmt.Sprintf("app%d", i), "app.yaml"), b.String())
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=b", "-c", "user.email=b@example.com", "-c", "commit.gpgsign=false"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// apart is the number of requests to each registry in the last run.
type apart struct{ source, destination int }

// wholeFleet packages a fleet, and then again after a small change.
func wholeFleet(t *testing.T, rows *table) {
	l := newLab(t, 0, registrytest.Image{Layers: []int64{20_000, 8_000}, Inline: 1, Signatures: 1})
	l.dst.Store(holder{registrytest.Distribution("")}) // it supports mounts
	l.delay(20 * time.Millisecond)
	hosts := t.TempDir()
	if err := registrytest.WriteHosts(hosts, "_default", l.upAddr); err != nil {
		t.Fatal(err)
	}
	dir := newFleet(t, l, fleetSize)
	run := func(args ...string) (sample, apart) {
		t.Helper()
		l.up.Reset()
		l.down.Reset()
		s := l.launched(t, append([]string{filepath.Join(bin(t), "tape"), "--store", l.store, "--progress", "none", "--hosts-dir", hosts, "fleet"}, args...)...)
		up, down := l.up.Reset(), l.down.Reset()
		s.uploaded = down.Bytes["POST uploads"] + down.Bytes["PATCH uploads"] + down.Bytes["PUT uploads"]
		return s, apart{up.Total(), down.Total()}
	}
	file := filepath.Join(dir, "tape.fleet.yaml")
	first, asked := run("package", file)
	each := func(n int) float64 { return float64(n) / fleetSize }
	rows.most("600 applications, 20 ms a request: time each", 0.16, first.Wall.Seconds()/fleetSize, "s")
	rows.most("  processor time each", 90, milliseconds(first.CPU)/fleetSize, "ms")
	rows.most("  peak memory", 200, float64(first.Memory)/1e6, "MB")
	rows.most("  source requests each", 66, each(asked.source), "")
	rows.most("  destination requests each", 180, each(asked.destination), "")
	report := l.fleetReport(t, hosts, file)
	sent, shared := report.Totals.Moved.Blobs, report.Totals.Moved.Mounted
	rows.most("  blobs sent, of those without sharing", 0.42, float64(sent)/float64(sent+shared), "")
	again, asked := run("package", file)
	rows.most("  again, nothing changed: time", 6, again.Wall.Seconds(), "s")
	rows.count(t, "  again: requests", fleetSize*2+30+fleetSize+20, asked.source+asked.destination)
	rows.count(t, "  again: bytes written", 0, int(again.uploaded))
	fleetApplication(t, dir, 7, "1.1")
	git(t, dir, "commit", "-q", "-a", "-m", "change")
	one, asked := run("package", file)
	rows.most("  one changed: time", 3, one.Wall.Seconds(), "s")
	rows.most("  one changed: requests", 2000, float64(asked.source+asked.destination), "")

	// A runner with an empty store has the cache in the registry.
	cache := l.dstAddr + "/ci/cache"
	run("package", file, "--cache", cache)
	fleetApplication(t, dir, 8, "1.1")
	git(t, dir, "commit", "-q", "-a", "-m", "change")
	l.store = t.TempDir()
	fresh, asked := run("package", file, "--cache", cache)
	rows.most("  one changed, fresh runner with the cache: time", 3, fresh.Wall.Seconds(), "s")
	rows.most("  fresh runner: requests", 6000, float64(asked.source+asked.destination), "")
}

// fleetReport returns the report of the latest plan.
func (l *lab) fleetReport(t *testing.T, hosts, file string) (r fleet.Report) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin(t), "tape"), "--store", l.store, "--progress", "none", "--hosts-dir", hosts, "fleet", "report", file, "-o", "json")
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// quotaFleet packages a fleet with four shards that share a quota of 300 requests a second.
func quotaFleet(t *testing.T, rows *table) {
	const applications, shards, quota = 60, 4, 300
	l := newLab(t, 0, registrytest.Image{Layers: []int64{20_000, 8_000}, Inline: 1, Signatures: 1})
	hosts := t.TempDir()
	if err := registrytest.WriteHosts(hosts, "_default", l.upAddr); err != nil {
		t.Fatal(err)
	}
	limited := registrytest.NewQuota(newRegistry(), quota, time.Second)
	l.dst.Store(holder{limited})
	dir := newFleet(t, l, applications)
	cache, limit := l.dstAddr+"/ci/cache", fmt.Sprintf("%s=%d/s", l.dstAddr, quota)
	tape := func(args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin(t), "tape"), append([]string{"--store", t.TempDir(), "--progress", "none", "--hosts-dir", hosts, "--limit", limit, "fleet"}, args...)...)
		cmd.Dir = dir
		return cmd
	}
	out, err := tape("plan", "-o", "json", "--cache", cache).Output()
	var plan struct{ Plan string }
	if err == nil {
		err = json.Unmarshal(out, &plan)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.down.Reset()
	start := time.Now()
	var group errgroup.Group
	for i := range shards {
		cmd := tape("package", "--plan", plan.Plan, "--cache", cache, "--shard", fmt.Sprintf("%d/%d", i+1, shards))
		group.Go(func() error {
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w\n%s", err, out)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	wall, asked := time.Since(start), l.down.Reset().Total()
	rows.most("60 applications, 4 shards, quota 300/s: refused", 0.001, float64(limited.Stats().Refused)/float64(asked), "of all")
	rows.ratio("  time, against requests / 300", 1.1, wall.Seconds(), float64(asked)/quota, "s")
}

// launched is run without counting requests.
func (l *lab) launched(t *testing.T, command ...string) sample {
	t.Helper()
	cmd := exec.Command(os.Args[0], command...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+l.store, launchJob+"=1")
	var problem strings.Builder
	cmd.Stderr = &problem
	out, err := cmd.Output()
	var s sample
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, problem.String())
	}
	return s
}
