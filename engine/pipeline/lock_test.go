// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/pipeline"
)

func sum(s string) digest.Digest { return digest.FromString(s) }

func lock() *pipeline.Lock {
	return &pipeline.Lock{
		Images: map[string]digest.Digest{"docker.io/library/nginx:1": sum("nginx"), "docker.io/library/redis:7": sum("redis")},
		Interpreters: map[string]pipeline.LockedInterpreter{
			"helm": {Version: "3.22.0", Checksums: map[string]digest.Digest{"linux/amd64": sum("amd"), "linux/arm64": sum("arm")}},
		},
		Materials: map[string]string{
			"oci://example.com/charts/web:1":     sum("web").String(),
			"git+https://example.com/base@v1.&2": "gitCommit:0123456789abcdef0123456789abcdef01234567",
		},
	}
}

func TestLockFile(t *testing.T) {
	dir := t.TempDir()
	file := pipeline.LockFile(filepath.Join(dir, "tape.yaml"))
	if l, err := pipeline.ReadLock(file); l != nil || err != nil {
		t.Errorf("no lock: %v, %v", l, err)
	}
	if err := lock().Write(file); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "version": 1,
  "images": {
    "docker.io/library/nginx:1": "` + sum("nginx").String() + `",
    "docker.io/library/redis:7": "` + sum("redis").String() + `"
  },
  "interpreters": {
    "helm": {
      "version": "3.22.0",
      "checksums": {
        "linux/amd64": "` + sum("amd").String() + `",
        "linux/arm64": "` + sum("arm").String() + `"
      }
    }
  },
  "materials": {
    "git+https://example.com/base@v1.&2": "gitCommit:0123456789abcdef0123456789abcdef01234567",
    "oci://example.com/charts/web:1": "` + sum("web").String() + `"
  }
}
`
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("file differs (-want +got):\n%s", diff)
	}
	got, err := pipeline.ReadLock(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lock(), got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}

	// Writing the same again changes nothing.
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Write(file); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(file)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was replaced: %v", err)
	}
	if after.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", after.Mode())
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}

	var none *pipeline.Lock
	if err := none.Write(file); err != nil {
		t.Fatal(err)
	}
	if l, err := pipeline.ReadLock(file); err != nil || !cmp.Equal(l, &pipeline.Lock{}) {
		t.Errorf("empty lock: %v, %v", l, err)
	}
	if err := lock().Write(filepath.Join(dir, "none", "tape.lock")); err == nil {
		t.Error("wrote into a folder that does not exist")
	}
	if err := lock().Write(dir); err == nil {
		t.Error("wrote over a folder")
	}
	if files, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".*")); err != nil || len(files) != 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestReadLockRefuses(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"empty":    {"", "tape.lock:1: EOF; write the lock again"},
		"conflict": {"{\n<<<<<<< HEAD\n", "tape.lock:2: invalid character '<' looking for beginning of object key string; write the lock again"},
		"unknown":  {"{\n  \"version\": 1,\n  \"imags\": {}\n}", `unknown field "imags"; write the lock again`},
		"type":     {"{\n  \"version\": 1,\n  \"images\": []\n}", "tape.lock:3: cannot unmarshal array into Go struct field"},
		"more":     {"{\"version\": 1}\n{}", "tape.lock:2: unexpected data after the end"},
		"version":  {`{"version": 2}`, "tape.lock: the lock has version 2, this tape reads version 1"},
		"image":    {`{"version": 1, "images": {"a": "sha256:x"}}`, `tape.lock: image a: "sha256:x": invalid checksum digest`},
		"program":  {`{"version": 1, "interpreters": {"helm": {"version": "1", "checksums": {"linux/amd64": "x"}}}}`, `tape.lock: interpreter helm for linux/amd64: "x": invalid checksum digest`},
		"material": {`{"version": 1, "materials": {"oci://x": "x"}}`, `tape.lock: material oci://x: "x" is not a digest`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if err := os.WriteFile("tape.lock", []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := pipeline.ReadLock("tape.lock"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	if _, err := pipeline.ReadLock(t.TempDir()); err == nil {
		t.Error("read a folder")
	}
}

func TestUpdate(t *testing.T) {
	found := &pipeline.Lock{
		Images:       map[string]digest.Digest{"docker.io/library/nginx:1": sum("new")},
		Interpreters: map[string]pipeline.LockedInterpreter{"helm": {Version: "3.22.0", Checksums: map[string]digest.Digest{"darwin/arm64": sum("mac")}}},
		Materials:    map[string]string{"oci://new": sum("m").String()},
	}
	helm := lock().Interpreters["helm"]
	helm.Checksums["darwin/arm64"] = sum("mac")
	tests := []struct {
		what string
		want func(l *pipeline.Lock)
	}{
		{"all", func(l *pipeline.Lock) {
			l.Images["docker.io/library/nginx:1"] = sum("new")
			l.Materials["oci://new"] = sum("m").String()
			l.Interpreters["helm"] = helm
		}},
		{"images", func(l *pipeline.Lock) { l.Images["docker.io/library/nginx:1"] = sum("new") }},
		{"interpreters", func(l *pipeline.Lock) { l.Interpreters["helm"] = helm }},
		{"materials", func(l *pipeline.Lock) { l.Materials["oci://new"] = sum("m").String() }},
		{"docker.io/library/nginx:1", func(l *pipeline.Lock) { l.Images["docker.io/library/nginx:1"] = sum("new") }},
		{"helm", func(l *pipeline.Lock) { l.Interpreters["helm"] = helm }},
		{"oci://new", func(l *pipeline.Lock) { l.Materials["oci://new"] = sum("m").String() }},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			was, want := lock(), lock()
			tt.want(want)
			got, err := was.Update(found, tt.what)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("lock differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(lock(), was); diff != "" {
				t.Errorf("the old lock was changed:\n%s", diff)
			}
		})
	}
	if _, err := lock().Update(found, "redis"); err == nil || err.Error() != `update lock: nothing named "redis" is used; want images, interpreters, materials, or the name of one of these` {
		t.Errorf("update of nothing: %v", err)
	}
	if _, err := lock().Update(found, "nginx"); err == nil || err.Error() != `update lock: nothing named "nginx" is used; did you mean docker.io/library/nginx:1?` {
		t.Errorf("update of part of a name: %v", err)
	}
	if _, err := lock().Update(found, "nginx"); err == nil || err.Error() != `update lock: nothing named "nginx" is used; did you mean docker.io/library/nginx:1?` {
		t.Errorf("update of part of a name: %v", err)
	}
	if _, err := lock().Update(found, "nginx"); err == nil || err.Error() != `update lock: nothing named "nginx" is used; did you mean docker.io/library/nginx:1?` {
		t.Errorf("update of part of a name: %v", err)
	}
	var none *pipeline.Lock
	got, err := none.Update(found, "all")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(found, got); diff != "" {
		t.Errorf("first lock differs (-want +got):\n%s", diff)
	}
	other := &pipeline.Lock{Interpreters: map[string]pipeline.LockedInterpreter{"helm": {Version: "4", Checksums: map[string]digest.Digest{"linux/amd64": sum("4")}}}}
	got, err = lock().Update(other, "helm")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(other.Interpreters["helm"], got.Interpreters["helm"]); diff != "" {
		t.Errorf("another version keeps old checksums:\n%s", diff)
	}
}
