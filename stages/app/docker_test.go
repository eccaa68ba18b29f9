// SPDX-License-Identifier: Apache-2.0

//go:build docker

package app_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// TestDockerFrom reads an image from a private Docker daemon. It needs root, and dockerd and
// containerd on the PATH.
func TestDockerFrom(t *testing.T) {
	host, client := startDocker(t)
	a := newLocalApp(t)
	image, err := random.Image(100_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(webRef)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "web.tar")
	if err := tarball.WriteToFile(file, tag, image); err != nil {
		t.Fatal(err)
	}
	loadDocker(t, client, file)

	taken := func(place local.Place) string {
		t.Helper()
		places := local.New(local.Options{DockerHost: host, TempDir: t.TempDir()})
		defer places.Close()
		a.env.Local = places
		result, err := app.Package(t.Context(), app.PackageOptions{
			Options: a.options(place), Repository: registrytest.Serve(t, registrytest.Distribution("")) + "/app", Tags: []string{"v1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(result.Warnings, "\n"); !strings.Contains(got, "keeps no digests") {
			t.Errorf("warnings %q", got)
		}
		pushed, err := crane.Pull(result.Images[0].Ref, crane.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(pushed); err != nil {
			t.Error(err)
		}
		before, err := image.Layers()
		if err != nil {
			t.Fatal(err)
		}
		after, err := pushed.Layers()
		if err != nil || len(after) != len(before) {
			t.Fatalf("%d layers, want %d: %v", len(after), len(before), err)
		}
		for i := range before {
			want, _ := before[i].DiffID()
			if got, err := after[i].DiffID(); got != want || err != nil {
				t.Errorf("layer %d is %s, want %s: %v", i, got, want, err)
			}
		}
		return result.Images[0].Digest.String()
	}
	if first, again := taken(local.Docker), taken(local.Docker); first != again {
		t.Errorf("digest %s, and %s the next time", first, again)
	}

	// If a registry does not have an image that Docker has, the error says so.
	o := a.options("")
	o.From = nil
	if err := registrytest.WriteHosts(a.hosts, "_default", registrytest.Serve(t, registrytest.GGCR())); err != nil {
		t.Fatal(err)
	}
	o.Environment = environmentOf(t, a.hosts)
	places := local.New(local.Options{DockerHost: host})
	defer places.Close()
	o.Local = places
	_, err = app.Images(t.Context(), app.ImagesOptions{Options: o, Resolve: true})
	if err == nil || !strings.Contains(err.Error(), "docker-daemon has it: take "+webRef+" from there") {
		t.Errorf("without --from: %v", err)
	}
}

// startDocker starts a daemon with its own folders and socket, and returns its address and a
// client.
func startDocker(t *testing.T) (string, *http.Client) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dkrd") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket := filepath.Join(dir, "d.sock")
	var log strings.Builder
	server := exec.Command("dockerd", "--iptables=false", "--ip6tables=false", "--userland-proxy=false", "--bridge=none", "--storage-driver=vfs", "--config-file=",
		"--data-root="+filepath.Join(dir, "data"), "--exec-root="+filepath.Join(dir, "exec"), "--pidfile="+filepath.Join(dir, "pid"), "-H", "unix://"+socket)
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		resp, err := client.Get("http://docker/_ping")
		if err == nil {
			resp.Body.Close()
			return "unix://" + socket, client
		}
		if time.Now().After(deadline) {
			t.Fatal("dockerd did not come up")
		}
	}
}

func loadDocker(t *testing.T, client *http.Client, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	resp, err := client.Post("http://docker/images/load", "application/x-tar", f)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(answer), "Loaded image") {
		t.Fatalf("load: %s %v\n%s", resp.Status, err, answer)
	}
}
