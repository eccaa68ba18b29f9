// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/cache"
)

var (
	key   = digest.FromString("key")
	other = digest.FromString("other key")
)

func outputs(text string) map[string]ocispec.Descriptor {
	return map[string]ocispec.Descriptor{
		"files": {MediaType: "text/plain", Digest: digest.FromString(text), Size: int64(len(text)), Annotations: map[string]string{"a": "b"}},
	}
}

// entryFile returns the only file below dir.
func entryFile(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("files in the cache: %q, %v", found, err)
	}
	return found[0]
}

func TestPutGet(t *testing.T) {
	c := cache.Open(filepath.Join(t.TempDir(), "made", "when", "needed"))
	if _, err := c.Get(t.Context(), key); !errdefs.IsNotFound(err) {
		t.Fatalf("get from nothing: %v", err)
	}
	for _, text := range []string{"first", "second"} {
		if err := c.Put(t.Context(), key, outputs(text)); err != nil {
			t.Fatal(err)
		}
		got, err := c.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(outputs(text), got); diff != "" {
			t.Errorf("outputs differ (-want +got):\n%s", diff)
		}
	}
	if _, err := c.Get(t.Context(), other); !errdefs.IsNotFound(err) {
		t.Errorf("get of another key: %v", err)
	}
	if _, err := c.Get(t.Context(), "sha256:../../etc/passwd"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("get of no key: %v", err)
	}
}

func TestDamagedEntryIsAbsent(t *testing.T) {
	damage := map[string]func(data []byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"cut off":   func(data []byte) []byte { return data[:len(data)-5] },
		"flipped":   func(data []byte) []byte { data[len(data)/2] ^= 1; return data },
		"no header": func(data []byte) []byte { return data[bytes.IndexByte(data, '\n')+1:] },
		"no digest": func([]byte) []byte {
			body := fmt.Sprintf(`{"key":%q,"outputs":{"files":{"digest":"sha256:0"}}}`, key)
			return []byte(digest.FromString(body).String() + "\n" + body)
		},
		"another's": func([]byte) []byte {
			body := fmt.Sprintf(`{"key":%q,"outputs":{}}`, other)
			return []byte(digest.FromString(body).String() + "\n" + body)
		},
	}
	for name, change := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := cache.Open(dir)
			if err := c.Put(t.Context(), key, outputs("x")); err != nil {
				t.Fatal(err)
			}
			file := entryFile(t, dir)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, change(data), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := c.Get(t.Context(), key); !errdefs.IsNotFound(err) {
				t.Errorf("get: %v, %v", got, err)
			}
			if entries, err := c.Entries(); len(entries) != 0 || err != nil {
				t.Errorf("entries: %v, %v", entries, err)
			}
			if err := c.Put(t.Context(), key, outputs("y")); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Get(t.Context(), key); err != nil {
				t.Errorf("get after it was made again: %v", err)
			}
		})
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	c := cache.Open(dir)
	if err := c.Put(t.Context(), key, outputs("x")); err != nil {
		t.Fatal(err)
	}
	file := entryFile(t, dir)
	long := time.Now().Add(-48 * time.Hour)
	for name, used := range map[string]time.Time{".tmp-old": long, ".tmp-new": time.Now(), "damaged": time.Now()} {
		path := filepath.Join(filepath.Dir(file), name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, used, used); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Put(t.Context(), other, outputs("y")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, long, long); err != nil {
		t.Fatal(err)
	}

	entries, err := c.Entries()
	if err != nil {
		t.Fatal(err)
	}
	var order []digest.Digest
	for _, e := range entries {
		order = append(order, e.Key)
	}
	if diff := cmp.Diff([]digest.Digest{key, other}, order); diff != "" {
		t.Errorf("order of use differs (-want +got):\n%s", diff)
	}

	if err := c.Sweep(func(e cache.Entry) bool { return e.Key == key }); err != nil {
		t.Fatal(err)
	}
	var left []string
	found, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		left = append(left, filepath.Base(f))
	}
	if diff := cmp.Diff([]string{".tmp-new", key.Encoded()}, left); diff != "" {
		t.Errorf("what is left differs (-want +got):\n%s", diff)
	}
}

func TestGetRemembersUse(t *testing.T) {
	dir := t.TempDir()
	c := cache.Open(dir)
	if err := c.Put(t.Context(), key, outputs("x")); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(entryFile(t, dir), long, long); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	entries, err := c.Entries()
	if err != nil || len(entries) != 1 || !entries[0].Used.After(long.Add(time.Hour)) {
		t.Errorf("entries: %v, %v", entries, err)
	}
}

// Readers and writers of one key never see half an entry.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	if err := cache.Open(dir).Put(t.Context(), key, outputs("0")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			c := cache.Open(dir)
			for n := range 50 {
				if err := c.Put(t.Context(), key, outputs(fmt.Sprint(i, n))); err != nil {
					t.Error(err)
				}
				if _, err := c.Get(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	entryFile(t, dir)
}

func TestPutLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	// A folder in place of the entry makes the rename fail.
	if err := os.MkdirAll(filepath.Join(dir, key.Encoded()[:2], key.Encoded()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := cache.Open(dir).Put(t.Context(), key, outputs("x")); err == nil {
		t.Fatal("put over a folder succeeded")
	}
	if file := entryFile(t, dir); filepath.Base(file) != key.Encoded() {
		t.Errorf("left behind: %s", file)
	}
}

// Whatever the file of an entry contains, the entry is a miss, or all of its outputs have valid
// descriptors.
func FuzzEntry(f *testing.F) {
	key := digest.FromString("key")
	for _, body := range []string{
		`{"key":"` + key.String() + `","outputs":{"a":{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}}}`,
		`{"key":"` + key.String() + `","outputs":{"a":{"digest":"` + key.String() + `","size":-1}}}`,
		`{"key":"` + key.String() + `","outputs":{"a":{"digest":"../../x","size":-1}}}`,
	} {
		f.Add([]byte(digest.FromString(body).String() + "\n" + body))
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		c := cache.Open(dir)
		if err := c.Put(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, key.Encoded()[:2], key.Encoded())
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		// Most data has no valid checksum: also try it with one.
		for _, data := range [][]byte{data, append([]byte(digest.FromBytes(data).String()+"\n"), data...)} {
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			outputs, err := c.Get(t.Context(), key)
			if err != nil && !errdefs.IsNotFound(err) {
				t.Errorf("get: %v", err)
			}
			for name, desc := range outputs {
				if desc.Digest.Validate() != nil || desc.Size < 0 {
					t.Errorf("output %s: %+v", name, desc)
				}
			}
		}
	})
}
