// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// chartFleet plans a fleet of charts, which renders all of them, and compares that with running
// `helm template` for one after the other.
func chartFleet(t *testing.T, rows *table) {
	const charts = 400
	helm := buildHelm(t)
	l := newLab(t, 0, registrytest.Image{Layers: []int64{1000}})
	hosts, dir := t.TempDir(), t.TempDir()
	if err := registrytest.WriteHosts(hosts, "_default", l.upAddr); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "tape.fleet.yaml"), "apiVersion: tape/v1\nkind: Fleet\napplications: [\"charts/*\"]\n"+
		"defaults: {output: {image: \""+l.dstAddr+"/fleet/${name}\"}}\n")
	var dirs []string
	for n := range charts {
		name := fmt.Sprintf("shop%d", n)
		dirs = append(dirs, filepath.Join(dir, "charts", name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(dirs[n]), 0o755), os.Rename(newChart(t, name, 1, 0), dirs[n])); err != nil {
			t.Fatal(err)
		}
	}
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "first")

	loop := "set -e; for dir do " + helm + " template shop $dir >/dev/null; done"
	theirs := new(lab).run(t, "", append([]string{"/bin/sh", "-c", loop, "sh"}, dirs...)...)
	var problem bytes.Buffer
	cmd := exec.Command(filepath.Join(bin(t), "tape"), "--store", l.store, "--progress", "none", "--hosts-dir", hosts, "fleet", "plan", filepath.Join(dir, "tape.fleet.yaml"))
	cmd.Env, cmd.Stderr = append(os.Environ(), "DOCKER_CONFIG="+l.store), &problem
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	seen := make(chan family)
	go func() { seen <- watch(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	mine := time.Since(start)
	close(ended)
	all := <-seen
	if err != nil {
		t.Fatalf("%v\n%s", err, problem.String())
	}
	rows.ratio("400 charts in one plan of a fleet: time, against helm template in a loop", 0.33, mine.Seconds(), theirs.Wall.Seconds(), "s")
	rows.count(t, "  interpreters at once", 2, all.interpreters)
	rows.most("  memory of all processes", 400, float64(all.memory)/1e6, "MB")
}

// family is the peak of a process and its descendants.
type family struct {
	interpreters int
	memory       int64 // resident bytes
}

// watch observes a process and its descendants until it ends.
func watch(pid int, ended <-chan struct{}) (most family) {
	for {
		select {
		case <-ended:
			return most
		case <-time.After(20 * time.Millisecond):
		}
		var now family
		for _, p := range append(descendants(pid), pid) {
			if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p)); err == nil && strings.HasPrefix(string(name), "tape-interpret") {
				now.interpreters++
			}
			if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p)); err == nil {
				if fields := strings.Fields(string(data)); len(fields) > 1 {
					pages, _ := strconv.ParseInt(fields[1], 10, 64)
					now.memory += pages * int64(os.Getpagesize())
				}
			}
		}
		most.interpreters, most.memory = max(most.interpreters, now.interpreters), max(most.memory, now.memory)
	}
}

// descendants returns the process ids of all descendants of a process.
func descendants(pid int) (all []int) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // of any of its threads
	for _, file := range threads {
		data, _ := os.ReadFile(file) // it may have ended already
		for _, text := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(text); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}
