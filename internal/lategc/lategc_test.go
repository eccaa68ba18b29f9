// SPDX-License-Identifier: Apache-2.0

package lategc

import (
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

// now returns the percentage.
func now() int {
	p := debug.SetGCPercent(usual)
	debug.SetGCPercent(p)
	return p
}

// collected runs the garbage collector until it has been heard of.
func collected(t *testing.T, want int) {
	t.Helper()
	for now() != want {
		if t.Context().Err() != nil {
			t.Fatalf("the percentage is %d, want %d", now(), want)
		}
		runtime.GC()
		runtime.Gosched()
	}
}

func TestStart(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(usual))
	t.Setenv(variable, "")

	Start()
	if now() != percent {
		t.Errorf("before the first collection the percentage is %d", now())
	}
	collected(t, usual)

	// As a process that the host started.
	for _, v := range Environment() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	Start()
	if now() != percent || os.Getenv(variable) != "" || os.Getenv(mark) != "" {
		t.Errorf("the percentage is %d, and the environment has %q and %q", now(), os.Getenv(variable), os.Getenv(mark))
	}
	collected(t, usual)

	// The program or the user has chosen another.
	Start()
	debug.SetGCPercent(40)
	watch := make(chan bool)
	runtime.AddCleanup(new([64]byte), func(c chan bool) { close(c) }, watch)
	runtime.GC()
	<-watch
	if now() != 40 {
		t.Errorf("the percentage of the program became %d", now())
	}
	t.Setenv(variable, "60")
	Start()
	if now() != 40 {
		t.Errorf("the percentage of the user became %d", now())
	}
}
