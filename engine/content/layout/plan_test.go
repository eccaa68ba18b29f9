// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// source is a set of blobs that counts how often each is opened.
type source struct {
	mu     sync.Mutex
	blobs  map[digest.Digest][]byte
	opened map[digest.Digest]int
	broken digest.Digest // returns half of it
}

func newSource(contents ...string) (*source, []ocispec.Descriptor) {
	s := &source{blobs: map[digest.Digest][]byte{}, opened: map[digest.Digest]int{}}
	var descs []ocispec.Descriptor
	for _, c := range contents {
		d := digest.FromString(c)
		s.blobs[d] = []byte(c)
		descs = append(descs, ocispec.Descriptor{Digest: d, Size: int64(len(c))})
	}
	return s, descs
}

func (s *source) open(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened[desc.Digest]++
	data, ok := s.blobs[desc.Digest]
	if !ok {
		return nil, errors.New("no such blob")
	}
	if desc.Digest == s.broken {
		data = data[:len(data)/2]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func TestWriteFileAndStreamAgree(t *testing.T) {
	ctx := context.Background()
	big := strings.Repeat("0123456789abcdef", 100_000)
	s, descs := newSource("", "a", "manifest", big)
	plan, err := NewPlan([]byte(`{"schemaVersion":2}`), append(descs, descs[1]))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.tar")
	var reported int64
	var mu sync.Mutex
	if err := plan.WriteFile(ctx, file, s.open, PlanOptions{Report: func(n int64) { mu.Lock(); reported += n; mu.Unlock() }}); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if err := plan.Write(ctx, &stream, s.open, nil); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, stream.Bytes()) || int64(len(got)) != plan.Size() {
		t.Errorf("the file has %d bytes, the stream %d, the plan says %d", len(got), stream.Len(), plan.Size())
	}
	if want := int64(len(big)+1+len("manifest")) + int64(len(`{"schemaVersion":2}`)+len(`{"imageLayoutVersion":"1.0.0"}`)); reported != want {
		t.Errorf("reported %d bytes, want %d", reported, want)
	}
	// Read it with the standard library.
	tr := tar.NewReader(bytes.NewReader(got))
	last := ""
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			if n != 6 {
				t.Errorf("%d entries, want 6", n)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name <= last {
			t.Errorf("%s comes after %s", h.Name, last)
		}
		last = h.Name
		data, _ := io.ReadAll(tr)
		if hex, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok && digest.FromBytes(data).Encoded() != hex {
			t.Errorf("%s holds something else", h.Name)
		}
	}
	if _, err := os.Stat(file + PartialSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a partial file is left: %v", err)
	}
}

func TestResume(t *testing.T) {
	ctx := context.Background()
	var contents []string
	for i := range 20 {
		contents = append(contents, fmt.Sprintf("blob %d %s", i, strings.Repeat("x", i*1000)))
	}
	s, descs := newSource(contents...)
	s.broken = descs[7].Digest
	plan, err := NewPlan([]byte(`{}`), descs)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.tar")
	err = plan.WriteFile(ctx, file, s.open, PlanOptions{Concurrency: 1})
	if err == nil || !strings.Contains(err.Error(), "got") {
		t.Fatalf("a blob that is cut off: %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a file has the name of a whole one: %v", err)
	}
	done := len(s.opened)
	s.broken = ""
	if err := plan.WriteFile(ctx, file, s.open, PlanOptions{Concurrency: 1, Resume: true}); err != nil {
		t.Fatal(err)
	}
	again := 0
	for _, n := range s.opened {
		if n > 1 {
			again++
		}
	}
	if again != 1 || done == len(descs) {
		t.Errorf("%d blobs were fetched twice, want the broken one only", again)
	}
	var stream bytes.Buffer
	if err := plan.Write(ctx, &stream, s.open, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(file); !bytes.Equal(got, stream.Bytes()) {
		t.Error("the resumed file differs from one written in one go")
	}
}

func TestBadBlobs(t *testing.T) {
	ctx := context.Background()
	s, descs := newSource("right")
	s.blobs[descs[0].Digest] = []byte("too long")
	plan, err := NewPlan([]byte(`{}`), descs)
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Write(ctx, io.Discard, s.open, nil); err == nil || !strings.Contains(err.Error(), "not 5") {
		t.Errorf("too much content: %v", err)
	}
	if _, err := NewPlan(nil, []ocispec.Descriptor{{Digest: "sha256:../../x"}}); err == nil {
		t.Error("a digest that is a path was taken")
	}
	if _, err := NewPlan(nil, []ocispec.Descriptor{descs[0], {Digest: descs[0].Digest, Size: 1}}); err == nil {
		t.Error("one digest with two sizes was taken")
	}
	cancelled, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("enough"))
	if err := plan.WriteFile(cancelled, filepath.Join(t.TempDir(), "x"), s.open, PlanOptions{}); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("cancelled: %v", err)
	}
}

// TestWritersOfOneFile has several processes write to one file at the same time: it is the
// complete file of one of them.
func TestWritersOfOneFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.tar")
	whole := map[string]bool{}
	var plans []*Plan
	var sources []*source
	for i := range 4 {
		s, descs := newSource(strings.Repeat("x", 1000*i), strings.Repeat(string(rune('a'+i)), 300_000))
		plan, err := NewPlan([]byte(`{"schemaVersion":2}`), descs)
		if err != nil {
			t.Fatal(err)
		}
		var stream bytes.Buffer
		if err := plan.Write(t.Context(), &stream, s.open, nil); err != nil {
			t.Fatal(err)
		}
		whole[stream.String()] = true
		plans, sources = append(plans, plan), append(sources, s)
	}
	var wait sync.WaitGroup
	for i := range 12 {
		wait.Go(func() {
			if err := plans[i%4].WriteFile(t.Context(), file, sources[i%4].open, PlanOptions{Resume: i%3 == 0}); err != nil {
				t.Error(err)
			}
			if data, err := os.ReadFile(file); err != nil || !whole[string(data)] {
				t.Errorf("after one was done the file is not one that was written: %v", err)
			}
		})
	}
	wait.Wait()
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}

	// A cancelled writer does not wait for another forever.
	ctx, cancel := context.WithCancel(t.Context())
	waiting := func(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
		wait.Go(func() { cancel() })
		err := plans[1].WriteFile(ctx, file, sources[1].open, PlanOptions{})
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "wait for another process") {
			t.Errorf("cancelled while waiting: %v", err)
		}
		return nil, errors.New("done")
	}
	if err := plans[0].WriteFile(t.Context(), file, waiting, PlanOptions{Concurrency: 1}); err == nil {
		t.Error("it was written from nothing")
	}
	wait.Wait()
}
