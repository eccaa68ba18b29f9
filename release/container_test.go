// SPDX-License-Identifier: Apache-2.0

//go:build release && containerd

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine/content/local/containerdtest"
)

// TestContainer imports the image into containerd, and packages a commit of this repository
// with it: not as root, with only /tmp writable, and without privileges.
func TestContainer(t *testing.T) {
	images, err := filepath.Glob(filepath.Join(dist(one), "tape_*_image.tar"))
	if err != nil || len(images) != 1 {
		t.Fatalf("images %q, %v", images, err)
	}
	m := newMachine(t)
	host := m.shop()
	m.run(m.tape, "sign", "--generate-key", "shop")
	if err := os.Chmod(filepath.Join(m.home, "shop.key"), 0o644); err != nil { // the image's user must be able to read it
		t.Fatal(err)
	}
	ctr, socket := containerdtest.Start(t)
	image := "ghcr.io/taped-dev/tape:" + tag
	ctr(t, "images", "import", "--base-name", "ghcr.io/taped-dev/tape", images[0])
	// run runs a program of the image.
	run := func(args ...string) (string, error) {
		t.Helper()
		out, err := exec.Command("ctr", append([]string{
			"-a", socket, "run", "--rm", "--net-host", "--seccomp", "--read-only",
			"--mount", "type=tmpfs,dst=/tmp,options=rw:nosuid:nodev:noexec",
			"--mount", "type=bind,src=" + filepath.Join(releases, one) + ",dst=/work,options=rbind:ro",
			"--mount", "type=bind,src=" + m.home + ",dst=/home/tape,options=rbind:ro",
			"--env", "TAPE_HOSTS_DIR=/home/tape/hosts", "--env", "COSIGN_PASSWORD=", image, "tape",
		}, args...)...).CombinedOutput()
		return string(out), err
	}
	for _, tt := range []struct {
		args, want, not string
	}{
		{args: "tape version", want: "tape " + tag + " "},
		{args: "tape-fleet-temporal --version", want: tag},
		// go-git reads the checkout, which belongs to another user.
		{args: "tape package examples/shop/manifests --tag v1 --sign --key /home/tape/shop.key -O " + host + "/team/shop", want: "/team/shop:v1@sha256:", not: "git state"},
		{args: "tape verify --key /home/tape/shop.pub " + host + "/team/shop:v1", want: "verified sha256:"},
		// Interpreters, confined.
		{args: "tape package -p examples/pipeline/tape.yaml --arg registry=" + host + "/team --tag v2", want: "/team/shop:v2@sha256:", not: "git state"},
		{args: "tape view " + host + "/team/shop:v2", want: "github.com/taped-dev/tape"},
	} {
		out, err := run(strings.Fields(tt.args)...)
		if err != nil || !strings.Contains(out, tt.want) || tt.not != "" && strings.Contains(out, tt.not) {
			t.Errorf("%s: %v\n%s", tt.args, err, out)
		}
	}
	for _, program := range []string{"sh", "git"} {
		if out, err := run(program); err == nil || !strings.Contains(out, "executable file not found") {
			t.Errorf("%s: %v\n%s", program, err, out)
		}
	}
}
