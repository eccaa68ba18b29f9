// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/store"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), dir, store.Options{})
	check(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func blob(data string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: "text/plain", Digest: digest.FromString(data), Size: int64(len(data))}
}

func put(t *testing.T, s content.Ingester, data string) ocispec.Descriptor {
	t.Helper()
	desc := blob(data)
	check(t, content.WriteBlob(t.Context(), s, "ref", strings.NewReader(data), desc))
	return desc
}

func get(t *testing.T, s content.Provider, desc ocispec.Descriptor) string {
	t.Helper()
	data, err := content.ReadBlob(t.Context(), s, desc)
	check(t, err)
	return string(data)
}

// digests returns the blobs on disk; an overlay has none.
func digests(t *testing.T, s store.Blobs) []digest.Digest {
	t.Helper()
	var out []digest.Digest
	disk, ok := s.(content.Manager)
	if !ok {
		return nil
	}
	check(t, disk.Walk(t.Context(), func(info content.Info) error {
		out = append(out, info.Digest)
		return nil
	}))
	slices.Sort(out)
	return out
}

// files returns the paths of all files below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	check(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			out = append(out, filepath.ToSlash(rel))
		}
		return err
	}))
	return out
}

func blobFile(dir string, dgst digest.Digest) string {
	return filepath.Join(dir, "blobs", dgst.Algorithm().String(), dgst.Encoded())
}

func tamper(t *testing.T, file, data string) {
	t.Helper()
	check(t, os.Chmod(file, 0o600))
	check(t, os.WriteFile(file, []byte(data), 0o600))
}

// stores returns the implementations that must behave alike.
func stores(t *testing.T) map[string]store.Blobs {
	return map[string]store.Blobs{
		"disk":   open(t, t.TempDir()),
		"memory": store.NewOverlay(nil),
		"layer":  store.NewOverlay(open(t, t.TempDir())),
	}
}

func TestWriteRead(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			desc := blob("hello")
			if _, err := s.ReaderAt(ctx, desc); !errdefs.IsNotFound(err) {
				t.Errorf("read of nothing: %v", err)
			}
			if _, err := s.Info(ctx, desc.Digest); !errdefs.IsNotFound(err) {
				t.Errorf("info of nothing: %v", err)
			}
			if got := digests(t, s); len(got) != 0 {
				t.Errorf("walk of nothing: %v", got)
			}
			put(t, s, "hello")
			put(t, s, "hello")
			put(t, s, "")
			if got := get(t, s, desc); got != "hello" {
				t.Errorf("read %q", got)
			}
			if got := get(t, s, blob("")); got != "" {
				t.Errorf("read %q", got)
			}
			info, err := s.Info(ctx, desc.Digest)
			if err != nil || info.Size != 5 || info.Digest != desc.Digest {
				t.Errorf("info %+v, %v", info, err)
			}
			if disk, ok := s.(content.Manager); ok {
				want := []digest.Digest{desc.Digest, blob("").Digest}
				slices.Sort(want)
				if diff := cmp.Diff(want, digests(t, s)); diff != "" {
					t.Errorf("blobs differ (-want +got):\n%s", diff)
				}
				defer func() {
					check(t, disk.Delete(ctx, desc.Digest))
					if _, err := s.ReaderAt(ctx, desc); !errdefs.IsNotFound(err) {
						t.Errorf("read after delete: %v", err)
					}
				}()
			}
			if _, err := s.Writer(ctx, content.WithRef("x"), content.WithDescriptor(desc)); !errdefs.IsAlreadyExists(err) {
				t.Errorf("writer of what exists: %v", err)
			}
			for _, dgst := range []digest.Digest{"", "sha256:../../x", "sha257:00"} {
				if _, err := s.ReaderAt(ctx, ocispec.Descriptor{Digest: dgst}); err == nil {
					t.Errorf("read of %q succeeded", dgst)
				}
			}
			if _, err := s.Writer(ctx, content.WithRef("x"), content.WithDescriptor(ocispec.Descriptor{Digest: "sha256:../../x"})); !errdefs.IsInvalidArgument(err) {
				t.Errorf("writer of no digest: %v", err)
			}
		})
	}
}

func TestSHA512(t *testing.T) {
	desc := ocispec.Descriptor{Digest: digest.SHA512.FromString("hello"), Size: 5}
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			check(t, content.WriteBlob(t.Context(), s, "ref", strings.NewReader("hello"), desc))
			if got := get(t, s, desc); got != "hello" {
				t.Errorf("read %q", got)
			}
			// A digest that is only known at the end.
			late := ocispec.Descriptor{Digest: digest.SHA512.FromString("late"), Size: 4}
			w, err := s.Writer(t.Context(), content.WithRef("late"))
			check(t, err)
			_, err = io.WriteString(w, "late")
			check(t, err)
			check(t, w.Commit(t.Context(), 0, late.Digest))
			if got := get(t, s, late); got != "late" {
				t.Errorf("read %q", got)
			}
		})
	}
}

func TestWriterWithoutDigest(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			for i, want := range []bool{true, false} {
				w, err := s.Writer(t.Context(), content.WithRef("mine"))
				check(t, err)
				_, err = io.WriteString(w, "spoilt")
				check(t, err)
				check(t, w.Truncate(0))
				_, err = io.WriteString(w, "hello")
				check(t, err)
				if status, err := w.Status(); err != nil || status.Ref != "mine" || status.Offset != 5 {
					t.Errorf("status %+v, %v", status, err)
				}
				if got := w.Digest(); got != blob("hello").Digest {
					t.Errorf("digest %s", got)
				}
				err = w.Commit(t.Context(), 0, "")
				if want && err != nil || !want && !errdefs.IsAlreadyExists(err) {
					t.Errorf("commit %d: %v", i, err)
				}
				check(t, w.Close())
			}
			if got := get(t, s, blob("hello")); got != "hello" {
				t.Errorf("read %q", got)
			}
		})
	}
}

func TestBadCommitLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	disk := open(t, dir)
	for name, s := range map[string]store.Blobs{"disk": disk, "layer": store.NewOverlay(disk)} {
		t.Run(name, func(t *testing.T) {
			attempts := map[string]func(w content.Writer) error{
				"wrong digest": func(w content.Writer) error { return w.Commit(t.Context(), 0, blob("other").Digest) },
				"wrong size":   func(w content.Writer) error { return w.Commit(t.Context(), 4, blob("hello").Digest) },
				"abandoned":    func(w content.Writer) error { return errors.Join(errors.New("no commit"), w.Close()) },
			}
			for name, attempt := range attempts {
				w, err := s.Writer(t.Context(), content.WithRef("x"), content.WithDescriptor(ocispec.Descriptor{Digest: blob("hello").Digest}))
				check(t, err)
				_, err = io.WriteString(w, "hello")
				check(t, err)
				if err := attempt(w); err == nil {
					t.Errorf("%s: committed", name)
				}
				check(t, w.Close())
				if err := w.Commit(t.Context(), 0, ""); err == nil {
					t.Errorf("%s: committed after it was closed", name)
				}
				if got := digests(t, s); len(got) != 0 {
					t.Errorf("%s: blobs %v", name, got)
				}
				if diff := cmp.Diff([]string{"lock"}, files(t, dir)); diff != "" {
					t.Errorf("%s: files differ (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

func TestIngestIsRemovedWhenTheRunIsCancelled(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ctx, cancel := context.WithCancelCause(t.Context())
	w, err := s.Writer(ctx, content.WithRef("x"))
	check(t, err)
	_, err = io.WriteString(w, "half")
	check(t, err)
	cancel(errors.New("interrupted"))
	check(t, w.Close())
	if diff := cmp.Diff([]string{"lock"}, files(t, dir)); diff != "" {
		t.Errorf("files differ (-want +got):\n%s", diff)
	}
}

func TestTamperedBlobIsRemovedAndMadeAgain(t *testing.T) {
	for name, data := range map[string]string{"flipped": "jello", "longer": "hello!", "empty": ""} {
		for _, reader := range []string{"reader", "writer", "commit"} {
			t.Run(name+" "+reader, func(t *testing.T) {
				dir := t.TempDir()
				desc := put(t, open(t, dir), "hello")
				file := blobFile(dir, desc.Digest)
				tamper(t, file, data)
				var log bytes.Buffer
				s, err := store.Open(t.Context(), dir, store.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
				check(t, err)
				defer s.Close()
				switch reader {
				case "reader":
					if _, err := s.ReaderAt(t.Context(), desc); !errdefs.IsNotFound(err) || !strings.HasSuffix(err.Error(), "not found (it was damaged)") {
						t.Errorf("read: %v", err)
					}
					if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("the blob is still there: %v", err)
					}
					put(t, s, "hello")
				case "writer":
					put(t, s, "hello")
				case "commit":
					w, err := s.Writer(t.Context(), content.WithRef("x"))
					check(t, err)
					_, err = io.WriteString(w, "hello")
					check(t, err)
					check(t, w.Commit(t.Context(), 0, ""))
				}
				if got := get(t, s, desc); got != "hello" {
					t.Errorf("read %q", got)
				}
				if !strings.Contains(log.String(), desc.Digest.String()) {
					t.Errorf("log: %s", log.String())
				}
			})
		}
	}
}

// A file that changes after it was verified is hashed again.
func TestTamperedWhileOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	desc := put(t, s, "hello")
	get(t, s, desc)
	file := blobFile(dir, desc.Digest)
	tamper(t, file, "jello")
	later := time.Now().Add(time.Minute) // clocks of file systems are coarse
	check(t, os.Chtimes(file, later, later))
	if _, err := s.ReaderAt(t.Context(), desc); !errdefs.IsNotFound(err) {
		t.Errorf("read: %v", err)
	}
}

func TestVerifyingStopsWithItsContext(t *testing.T) {
	s := open(t, t.TempDir())
	desc := put(t, s, "hello")
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupted)
	if _, err := s.ReaderAt(ctx, desc); !errors.Is(err, interrupted) {
		t.Errorf("read: %v", err)
	}
	if got := get(t, s, desc); got != "hello" {
		t.Errorf("read %q", got)
	}
}

// Many processes write the same blobs into one folder concurrently.
func TestConcurrentWriters(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := store.Open(t.Context(), dir, store.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for n := range 20 {
				data := strings.Repeat(fmt.Sprint(n), 1000)
				desc := blob(data)
				// All under one ref, as in engine.Put.
				if err := content.WriteBlob(t.Context(), s, desc.Digest.String(), strings.NewReader(data), desc); err != nil {
					t.Error(err)
				}
				got, err := content.ReadBlob(t.Context(), s, desc)
				if err != nil || string(got) != data {
					t.Errorf("read %d bytes, %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
	s := open(t, dir)
	usage, err := s.Usage(t.Context())
	if err != nil || usage.Blobs != 20 || usage.Ingests != 0 {
		t.Errorf("usage %+v, %v", usage, err)
	}
}

func TestOpenIsQuietAndPrivate(t *testing.T) {
	var printed bytes.Buffer
	was := logrus.StandardLogger().Out
	logrus.SetOutput(&printed)
	defer logrus.SetOutput(was)
	level := logrus.GetLevel()

	dir := filepath.Join(t.TempDir(), "a", "b")
	put(t, open(t, dir), "hello")
	if printed.Len() > 0 {
		t.Errorf("printed: %s", printed.String())
	}
	if logrus.GetLevel() != level {
		t.Errorf("level is %s, was %s", logrus.GetLevel(), level)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A folder that others may read becomes private if it is a store's, even while another process
// opens it, and is left alone if it is not.
func TestOpenMakesPrivate(t *testing.T) {
	for name, want := range map[string]os.FileMode{"blobs": 0o700, ".fsverity-check-1": 0o700, "others": 0o755} {
		dir := t.TempDir()
		check(t, os.Chmod(dir, 0o755))
		check(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		open(t, dir)
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != want {
			t.Errorf("with %s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o600))
	if _, err := store.Open(t.Context(), file, store.Options{}); err == nil || !strings.Contains(err.Error(), "choose another folder for the store") {
		t.Errorf("store in a file: %v", err)
	}
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, "lock"), 0o700))
	if _, err := store.Open(t.Context(), dir, store.Options{}); err == nil || !strings.Contains(err.Error(), "choose another folder for the store") {
		t.Errorf("store without a lock: %v", err)
	}
}

func TestDefaultDir(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	for env, want := range map[string]string{"/x/cache": "/x/cache/tape", "": "/home/me/.cache/tape"} {
		t.Setenv("XDG_CACHE_HOME", env)
		if got, err := store.DefaultDir(); err != nil || got != want {
			t.Errorf("with %q: %q, %v", env, got, err)
		}
	}
	t.Setenv("XDG_CACHE_HOME", "relative")
	if got, err := store.DefaultDir(); err == nil || !strings.Contains(err.Error(), "choose another folder for the store") {
		t.Errorf("with a relative folder: %q, %v", got, err)
	}
}

func TestOverlay(t *testing.T) {
	ctx := t.Context()
	base := open(t, t.TempDir())
	below := put(t, base, "below")
	o := store.NewOverlay(base)
	put(t, o, "below")
	above := put(t, o, "above")
	if got := get(t, o, below) + get(t, o, above); got != "belowabove" {
		t.Errorf("read %q", got)
	}
	if data, ok := o.Bytes(above.Digest); string(data) != "above" || !ok {
		t.Errorf("in memory is %q", data)
	}
	if data, ok := o.Bytes(below.Digest); ok {
		t.Errorf("what lies below is in memory: %q", data)
	}
	if diff := cmp.Diff([]digest.Digest{below.Digest}, digests(t, base)); diff != "" {
		t.Errorf("what was written below differs (-want +got):\n%s", diff)
	}
	check(t, o.Keep(ctx, above))
	check(t, o.Keep(ctx, above))
	check(t, o.Keep(ctx, below))
	if got := get(t, base, above); got != "above" {
		t.Errorf("kept %q", got)
	}
	if err := o.Keep(ctx, blob("nowhere")); !errdefs.IsNotFound(err) {
		t.Errorf("keep of nothing: %v", err)
	}
	if err := store.NewOverlay(nil).Keep(ctx, above); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("keep without base: %v", err)
	}

	// An ingest is private to its writer.
	mine, err := o.Writer(ctx, content.WithRef("mine"))
	check(t, err)
	check(t, mine.Close())
	if _, err := io.WriteString(mine, "late"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("write after close: %v", err)
	}
	interrupted := errors.New("interrupted")
	cancelled, cancel := context.WithCancelCause(ctx)
	w, err := o.Writer(cancelled, content.WithRef("x"))
	check(t, err)
	cancel(interrupted)
	if err := w.Commit(cancelled, 0, ""); !errors.Is(err, interrupted) {
		t.Errorf("commit: %v", err)
	}
	if _, err := o.ReaderAt(cancelled, above); !errors.Is(err, interrupted) {
		t.Errorf("read: %v", err)
	}
	if _, err := o.Writer(cancelled, content.WithRef("x")); !errors.Is(err, interrupted) {
		t.Errorf("write: %v", err)
	}
}

// Bytes in memory are not copied, and are kept as long as they are referenced.
func TestKeepBytes(t *testing.T) {
	ctx := t.Context()
	base := open(t, t.TempDir())
	below := put(t, base, "below")
	o := store.NewOverlay(base)
	data := []byte("above")
	first, second := o.Hold(), o.Hold()
	var above ocispec.Descriptor
	for _, hold := range []*store.Hold{first, second} {
		var err error
		above, err = engine.Put(ctx, hold, "text/plain", data)
		check(t, err)
		_, err = engine.Put(ctx, hold, "text/plain", []byte("below"))
		check(t, err)
	}
	if got, ok := o.Bytes(above.Digest); !ok || &got[0] != &data[0] {
		t.Errorf("in memory is a copy: %q", got)
	}
	if got, ok := o.Bytes(below.Digest); ok {
		t.Errorf("what lies below is in memory: %q", got)
	}
	first.LetGo()
	if got := get(t, o, above); got != "above" {
		t.Errorf("read %q", got)
	}
	second.LetGo()
	if _, ok := o.Bytes(above.Digest); ok {
		t.Error("it is in memory, and nobody holds it")
	}
}

// Data in the entry itself is kept as long as the entry is used.
func TestPruneKeepsWhatNeedsNoBlob(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s, err := store.Open(ctx, dir, store.Options{})
	check(t, err)
	desc := blob("in the entry")
	desc.Data = []byte("in the entry")
	key := digest.FromString("remembered")
	check(t, s.Cache().Put(t.Context(), key, map[string]ocispec.Descriptor{"answer": desc}))
	check(t, s.Close())
	pruned, err := store.Prune(ctx, dir, store.PruneOptions{MaxBytes: 1})
	if err != nil || pruned != (store.Pruned{}) {
		t.Errorf("pruned %+v, %v", pruned, err)
	}
	s = open(t, dir)
	if got, err := s.Cache().Get(t.Context(), key); err != nil || string(got["answer"].Data) != "in the entry" {
		t.Errorf("left %v, %v", got, err)
	}
}

// An ended context is not the fault of the folder.
func TestOpenWithEndedContext(t *testing.T) {
	stop := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	_, err := store.Open(ctx, t.TempDir(), store.Options{})
	if _, advised := errors.AsType[advice.Advised](err); !errors.Is(err, stop) || advised {
		t.Errorf("got %v", err)
	}
}

func TestUsageAndPrune(t *testing.T) {
	ctx := t.Context()
	hour := time.Hour
	// Results, the newest first: their references, and the time since their last use.
	type result struct {
		key   string
		blobs []string
		age   time.Duration
	}
	results := []result{
		{"new", []string{"aaaa", "bbbb"}, 0},
		{"old", []string{"bbbb", "cccc"}, 50 * hour},
		{"oldest", []string{"dddd"}, 100 * hour},
		{"torn", []string{"eeee", "never written"}, 10 * hour},
	}
	tests := []struct {
		name   string
		o      store.PruneOptions
		blobs  []string
		pruned store.Pruned
	}{
		{"nothing named", store.PruneOptions{}, []string{"aaaa", "bbbb", "cccc", "dddd"}, store.Pruned{Results: 1, Blobs: 2, Ingests: 1, Bytes: 8 + 4}},
		{"age", store.PruneOptions{MaxAge: 60 * hour}, []string{"aaaa", "bbbb", "cccc"}, store.Pruned{Results: 2, Blobs: 3, Ingests: 1, Bytes: 12 + 4}},
		{"size", store.PruneOptions{MaxBytes: 12}, []string{"aaaa", "bbbb", "cccc"}, store.Pruned{Results: 2, Blobs: 3, Ingests: 1, Bytes: 12 + 4}},
		{"small", store.PruneOptions{MaxBytes: 11}, []string{"aaaa", "bbbb"}, store.Pruned{Results: 3, Blobs: 4, Ingests: 1, Bytes: 16 + 4}},
		{"tiny", store.PruneOptions{MaxBytes: 1}, nil, store.Pruned{Results: 4, Blobs: 6, Ingests: 1, Bytes: 24 + 4}},
		{"all", store.PruneOptions{All: true}, nil, store.Pruned{Results: 4, Blobs: 6, Ingests: 1, Bytes: 24 + 4}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := store.Open(ctx, dir, store.Options{})
			check(t, err)
			put(t, s, "ffff") // nothing refers to it
			for _, r := range results {
				outputs := map[string]ocispec.Descriptor{}
				for i, data := range r.blobs {
					outputs[fmt.Sprint(i)] = blob(data)
					if data != "never written" {
						put(t, s, data)
					}
				}
				key := digest.FromString(r.key)
				check(t, s.Cache().Put(t.Context(), key, outputs))
				used := time.Now().Add(-r.age)
				check(t, os.Chtimes(filepath.Join(dir, "keys", key.Encoded()[:2], key.Encoded()), used, used))
			}
			for name, age := range map[string]time.Duration{"lost": 25 * hour, "busy": 0} {
				ingest := filepath.Join(dir, "ingest", name)
				check(t, os.MkdirAll(ingest, 0o700))
				check(t, os.WriteFile(filepath.Join(ingest, "data"), []byte("1234"), 0o600))
				at := time.Now().Add(-age)
				check(t, os.Chtimes(filepath.Join(ingest, "data"), at, at))
				check(t, os.Chtimes(ingest, at, at))
			}
			usage, err := s.Usage(ctx)
			check(t, err)
			want := store.Usage{Dir: dir, Results: 4, Blobs: 6, Bytes: 24, Ingests: 2, IngestBytes: 8}
			if diff := cmp.Diff(want, usage); diff != "" {
				t.Errorf("usage differs (-want +got):\n%s", diff)
			}
			if _, err := store.Prune(ctx, dir, tt.o); !errdefs.IsUnavailable(err) {
				t.Errorf("prune of a store in use: %v", err)
			}
			check(t, s.Close())

			pruned, err := store.Prune(ctx, dir, tt.o)
			check(t, err)
			if diff := cmp.Diff(tt.pruned, pruned); diff != "" {
				t.Errorf("pruned differs (-want +got):\n%s", diff)
			}
			s = open(t, dir)
			var left []digest.Digest
			for _, data := range tt.blobs {
				left = append(left, blob(data).Digest)
			}
			slices.Sort(left)
			if diff := cmp.Diff(left, digests(t, s)); diff != "" {
				t.Errorf("blobs differ (-want +got):\n%s", diff)
			}
			entries, err := s.Cache().Entries()
			if err != nil || len(entries) != 4-pruned.Results {
				t.Errorf("%d entries, %v", len(entries), err)
			}
		})
	}
	if pruned, err := store.Prune(ctx, filepath.Join(t.TempDir(), "none"), store.PruneOptions{}); err != nil || pruned != (store.Pruned{}) {
		t.Errorf("prune of nothing: %+v, %v", pruned, err)
	}
}
