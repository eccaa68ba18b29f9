// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"flag"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/testsuite"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/store"
)

// ours are the tests of containerd's suite about reading and writing blobs. The others are
// about labels, and about ingests that are visible to and resumed by others, which are not
// supported: UpdateStatus, Resume…, Labels, CommitErrorState.
var ours = []string{"Writer", "CommitExists", "SmallBlob"}

// TestContainerdSuite runs containerd's own tests of a content store. The flag of a separate
// process selects them.
func TestContainerdSuite(t *testing.T) {
	if run := flag.Lookup("test.run").Value.String(); strings.Contains(run, "/") {
		suite(t)
		return
	}
	exe, err := os.Executable()
	check(t, err)
	for name := range suites {
		cmd := exec.CommandContext(t.Context(), exe, "-test.v", "-test.run", "^TestContainerdSuite$/^"+name+"$/^("+strings.Join(ours, "|")+")$")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		for _, part := range ours {
			if !regexp.MustCompile("--- PASS: TestContainerdSuite/" + name + "/" + part + " ").Match(out) {
				t.Errorf("%s: %s did not run:\n%s", name, part, out)
			}
		}
	}
}

// suites are the stores under test.
var suites = map[string]func(ctx context.Context, root string) (store.Blobs, func() error, error){
	"disk": func(ctx context.Context, root string) (store.Blobs, func() error, error) {
		s, err := store.Open(ctx, root, store.Options{})
		if err != nil {
			return nil, nil, err
		}
		return s, s.Close, nil
	},
	"memory": func(context.Context, string) (store.Blobs, func() error, error) {
		return store.NewOverlay(nil), func() error { return nil }, nil
	},
	"layer": func(ctx context.Context, root string) (store.Blobs, func() error, error) {
		s, err := store.Open(ctx, root, store.Options{})
		if err != nil {
			return nil, nil, err
		}
		return store.NewOverlay(s), s.Close, nil
	},
	"hold": func(context.Context, string) (store.Blobs, func() error, error) {
		return store.NewOverlay(nil).Hold(), func() error { return nil }, nil
	},
}

func suite(t *testing.T) {
	for name, open := range suites {
		t.Run(name, func(t *testing.T) {
			testsuite.ContentSuite(t, name, func(ctx context.Context, root string) (context.Context, content.Store, func() error, error) {
				s, end, err := open(ctx, root)
				return ctx, &labelled{Blobs: s, labels: map[digest.Digest]map[string]string{}}, end, err
			})
		})
	}
}

// labelled gives blobs the labels that the suite requires.
type labelled struct {
	store.Blobs
	content.Manager // not implemented
	content.IngestManager

	mu     sync.Mutex
	labels map[digest.Digest]map[string]string
}

func (l *labelled) Info(ctx context.Context, dgst digest.Digest) (content.Info, error) {
	info, err := l.Blobs.Info(ctx, dgst)
	l.mu.Lock()
	defer l.mu.Unlock()
	info.Labels = l.labels[dgst]
	return info, err
}

func (l *labelled) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	w, err := l.Blobs.Writer(ctx, opts...)
	return labelling{w, l}, err
}

type labelling struct {
	content.Writer
	store *labelled
}

func (w labelling) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	var info content.Info
	for _, opt := range opts {
		if err := opt(&info); err != nil {
			return err
		}
	}
	err := w.Writer.Commit(ctx, size, expected, opts...)
	if err == nil && info.Labels != nil {
		w.store.mu.Lock()
		defer w.store.mu.Unlock()
		w.store.labels[w.Digest()] = maps.Clone(info.Labels)
	}
	return err
}
