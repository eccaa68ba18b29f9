// SPDX-License-Identifier: Apache-2.0

//go:build fleet

package durable

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// namespace is a network namespace that is reached through a link.
type namespace struct{ name, link, here, there string }

// newNamespace makes one. It needs root.
func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := os.Getpid() % 250
	m := &namespace{name: fmt.Sprintf("tape%d", os.Getpid()), here: fmt.Sprintf("198.18.%d.1", n), there: fmt.Sprintf("198.18.%d.2", n)}
	m.link = m.name
	ip(t, "netns", "add", m.name)
	t.Cleanup(func() { ip(t, "netns", "delete", m.name) }) // this also removes the link
	ip(t, "link", "add", m.link, "type", "veth", "peer", "name", "eth0", "netns", m.name)
	ip(t, "address", "add", m.here+"/30", "dev", m.link)
	ip(t, "-netns", m.name, "address", "add", m.there+"/30", "dev", "eth0")
	ip(t, "link", "set", m.link, "up")
	ip(t, "-netns", m.name, "link", "set", "eth0", "up")
	ip(t, "-netns", m.name, "link", "set", "lo", "up")
	return m
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// forward makes a server on loopback reachable at another address.
func forward(t *testing.T, at, to string) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(at, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer from.Close()
				c, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(c, from); _ = c.Close() }()
				_, _ = io.Copy(from, c)
			}()
		}
	}()
	return listener.Addr().String()
}

// TestCutOff takes down the link of a worker in the middle of its work. Other workers take
// over; when the link is up again, the worker ends on a signal.
func TestCutOff(t *testing.T) {
	away := newNamespace(t)
	const applications = 40
	l := newLab(t, away.here, applications, "")
	want := roots(report(t, l.command(t, "tape", "alone", "fleet", "package", "-o", "json")))

	second := l.reset()
	var asked atomic.Int32 // requests of the worker that is cut off
	handler := second.handler
	began := make(chan struct{})
	second.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.RemoteAddr, away.there+":") && strings.HasPrefix(r.URL.Path, "/v2/team/") && asked.Add(1) == 30 {
			close(began)
		}
		handler.ServeHTTP(w, r)
	})
	l.start(t)
	l.temporal = forward(t, away.here, l.server.address())
	cut := l.worker(t, "cut", "ip", "netns", "exec", away.name)
	l.worker(t, "one")
	l.worker(t, "two")
	plan := string(report(t, l.command(t, "tape", "alone", "fleet", "plan", "-o", "json")).Plan)
	run := func(machine string) *fleet.Report {
		return report(t, l.command(t, "tape", machine, l.with("fleet", "package", "--plan", plan, "--engine", "temporal", "-o", "json")...))
	}
	first := make(chan *fleet.Report)
	go func() { first <- run("submitter") }()
	select {
	case <-began:
	case <-time.After(time.Minute):
		t.Fatal("the worker that is to be cut off does nothing")
	}
	ip(t, "link", "set", away.link, "down")
	time.Sleep(time.Second) // for work in progress
	reached := asked.Load()
	lost := lostOf(t, <-first)
	if n := asked.Load() - reached; n != 0 {
		t.Errorf("%d requests came from the worker that is cut off", n)
	}
	ip(t, "link", "set", away.link, "up")
	if diff := cmp.Diff(want, roots(run("submitter2"))); diff != "" {
		t.Errorf("roots differ from those of one process (-want +got):\n%s", diff)
	}
	t.Logf("of %d, %d were pushed more than once and %d lost three workers", applications, second.again(t), lost)
	cut.signal(t, syscall.SIGTERM)
	if err := cut.cmd.Wait(); err != nil {
		t.Errorf("the worker that was cut off, told to end: %v", err)
	}
}

// TestBudget has four workers, some of them late, share a quota of 300 requests a second:
// practically none is rejected.
func TestBudget(t *testing.T) {
	const applications, quota = 30, 300
	l := newLab(t, loopback, applications, fmt.Sprintf("limits: {\"HOST\": %d/s}\n", quota))
	limited := registrytest.NewQuota(registrytest.Distribution(""), quota, time.Second)
	var asked atomic.Int64
	l.current.Store(&destination{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		limited.ServeHTTP(w, r)
	}), pushed: map[string]int{}})
	l.start(t)
	for _, name := range []string{"one", "two", "three", "four"} {
		l.worker(t, name)
	}
	plan := string(report(t, l.command(t, "tape", "submitter", "fleet", "plan", "-o", "json")).Plan)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) { // until one of them polls
		r := report(t, l.command(t, "tape", "submitter", l.with("fleet", "status", "--plan", plan, "--engine", "temporal", "-o", "json")...))
		if r.Run != nil && len(r.Run.Workers) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no worker is there: %+v", r.Run)
		}
	}
	began, before := time.Now(), asked.Load()
	r := report(t, l.command(t, "tape", "submitter", l.with("fleet", "package", "--plan", plan, "--engine", "temporal", "-o", "json")...))
	wall, n := time.Since(began), asked.Load()-before
	if lost := lostOf(t, r); lost > 0 {
		t.Errorf("%d applications lost three workers", lost)
	}
	refused := limited.Stats().Refused
	t.Logf("%d requests in %.1f s, %d refused", n, wall.Seconds(), refused)
	if float64(refused) > 0.001*float64(n) {
		t.Errorf("%d of %d requests were refused, at most 0.1 %% may be", refused, n)
	}
}
