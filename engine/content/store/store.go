// SPDX-License-Identifier: Apache-2.0

// Package store provides containerd's local content store, made safe for several processes
// and against tampering, and an in-memory overlay.
//
// The interface is containerd's content.Store. [Open] changes the local store as follows. A
// blob is verified before it is read; a damaged one is removed and counts as absent, so
// that it is created again. Every ingest has a unique name, because two processes that
// write under the same name would corrupt each other's data; only the final rename can
// collide. An ingest that fails is removed, and none is resumed.
//
// The folder also holds the cache of node results, and a lock: shared while a process uses
// the store, exclusive for [Prune].
package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/cache"
	"github.com/taped-dev/tape/engine/content/internal/blob"
)

// lockRetry is the interval of attempts to open a store that is being pruned.
const lockRetry = 50 * time.Millisecond

// ingestTries is how often to recreate the folder of unfinished blobs.
const ingestTries = 10

// Names in a store's folder. containerd's store determines blobs and ingest.
const (
	blobsDir = "blobs"
	// IngestDir is the folder of unfinished blobs.
	IngestDir = "ingest"
	// ProbePrefix is the prefix of the temporary folder in which containerd's store, when
	// opened, probes the file system.
	ProbePrefix = ".fsverity-check-"
	keysDir     = "keys"
	lockFile    = "lock"
)

// Store is a content.Store on disk. Its methods may be called concurrently, and several
// processes may use the same folder.
type Store struct {
	content.Store // containerd's, for methods that are not overridden below

	dir   string
	lock  *flock.Flock
	cache *cache.Cache
	log   *slog.Logger

	sound blob.Sound
}

// Options configure a store. The zero value is usable.
type Options struct {
	Log *slog.Logger // nil disables logging
}

// DefaultDir returns $XDG_CACHE_HOME/tape, or tape in the system's default cache folder.
func DefaultDir() (string, error) {
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tape"), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", advice.Add(fmt.Errorf("find a folder for the store: %w", err), advice.ChooseStore)
	}
	return filepath.Join(dir, "tape"), nil
}

// Open opens the store in a folder. It creates the folder, accessible only to the user
// because rendered manifests may contain secrets. If the store is being pruned, Open waits
// until ctx ends. The caller closes the store.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, advice.Add(fmt.Errorf("open store: %w", err), advice.ChooseStore)
	}
	if err := makePrivate(dir); err != nil {
		return nil, fmt.Errorf("make the store %s private to this user: %w", dir, err)
	}
	lock := flock.New(filepath.Join(dir, lockFile))
	if _, err := lock.TryRLockContext(ctx, lockRetry); err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("wait for the lock of the store %s: %w", dir, context.Cause(ctx))
	} else if err != nil {
		return nil, advice.Add(fmt.Errorf("lock store %s: %w", dir, err), advice.ChooseStore)
	}
	inner, err := openLocal(dir)
	if err != nil {
		return nil, errors.Join(advice.Add(fmt.Errorf("open store %s: %w", dir, err), advice.ChooseStore), lock.Close())
	}
	s := newStore(inner, dir)
	s.lock, s.log = lock, cmp.Or(o.Log, s.log)
	return s, nil
}

// makePrivate creates the folders of a store for this user alone, whatever the umask is. If
// others had access to a folder, its content is made private too. A folder that also has
// files of others is not changed itself.
func makePrivate(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm() != 0o700 {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		own, foreign := []string{blobsDir, IngestDir, keysDir, lockFile, "interpreters", "manifests"}, false
		for _, entry := range entries {
			if name := entry.Name(); !slices.Contains(own, name) && !strings.HasPrefix(name, ProbePrefix) {
				foreign = true
			} else if err := closeToOthers(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
		if !foreign {
			if err := os.Chmod(dir, 0o700); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{blobsDir, filepath.Join(blobsDir, digest.SHA256.String()), IngestDir} {
		folder := filepath.Join(dir, name)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		// Another process may have removed the empty folder.
		if err := os.Chmod(folder, 0o700); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// closeToOthers makes a folder and everything in it private.
func closeToOthers(top string) error {
	return filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
		mode := fs.FileMode(0o600)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // another process removed it
		case err != nil:
			return err
		case entry.IsDir():
			mode = 0o700
		case !entry.Type().IsRegular():
			return nil
		}
		if err := os.Chmod(name, mode); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// newStore returns a store without lock and log.
func newStore(inner content.Store, dir string) *Store {
	return &Store{
		Store: inner,
		dir:   dir,
		cache: cache.Open(filepath.Join(dir, keysDir)),
		log:   slog.New(slog.DiscardHandler),
	}
}

// quiet guards the level of containerd's global logger.
var quiet sync.Mutex

// openLocal opens containerd's store without its warning, on every start, that the file
// system has no fs-verity: most have none, and this package verifies blobs. containerd logs
// it to the global logger, without a context.
func openLocal(dir string) (content.Store, error) {
	quiet.Lock()
	defer quiet.Unlock()
	level := log.GetLevel()
	if err := log.SetLevel(log.ErrorLevel); err != nil {
		return nil, err
	}
	inner, err := local.NewStore(dir)
	return inner, errors.Join(err, log.SetLevel(level))
}

// OpenBlobs opens a folder with only the blobs of a store. It is neither locked nor made
// private, and has no cache.
func OpenBlobs(dir string) (*Store, error) {
	inner, err := openLocal(dir)
	if err != nil {
		return nil, err
	}
	return newStore(inner, dir), nil
}

// Close releases the store for pruning.
func (s *Store) Close() error { return s.lock.Close() }

// Dir returns the store's folder.
func (s *Store) Dir() string { return s.dir }

// Cache returns the cache of node results in the store's folder.
func (s *Store) Cache() *cache.Cache { return s.cache }

// ReaderAt implements [content.Provider]. It verifies the blob before the first read, and
// again if its file changes.
func (s *Store) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	file, err := s.blobFile(desc.Digest)
	if err != nil {
		return nil, err
	}
	r, err := blob.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(desc.Digest)
	}
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", desc.Digest, err)
	}
	if err := s.sound.Verify(ctx, r, desc.Digest); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, errors.Join(cause, r.Close())
		}
		s.log.Warn("removing a blob that does not match its digest", "digest", desc.Digest, "reason", err)
		err = s.remove(file, r.Info)
		return nil, errors.Join(fmt.Errorf("%w (it was damaged)", notFound(desc.Digest)), err, r.Close())
	}
	return r, nil
}

// remove removes a file unless another process has replaced it.
func (s *Store) remove(file string, info os.FileInfo) error {
	now, err := os.Stat(file)
	if err == nil && os.SameFile(now, info) {
		err = os.Remove(file)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a damaged blob: %w", err)
	}
	return nil
}

func (s *Store) blobFile(dgst digest.Digest) (string, error) {
	if err := dgst.Validate(); err != nil {
		return "", fmt.Errorf("blob %q: %w: %w", dgst, err, errdefs.ErrInvalidArgument)
	}
	return filepath.Join(s.dir, blobsDir, dgst.Algorithm().String(), dgst.Encoded()), nil
}

// Walk implements [content.Manager].
func (s *Store) Walk(ctx context.Context, fn content.WalkFunc, filters ...string) error {
	if _, err := os.Stat(filepath.Join(s.dir, blobsDir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.Store.Walk(ctx, fn, filters...)
}

func writerOpts(opts []content.WriterOpt) (wanted content.WriterOpts, err error) {
	for _, opt := range opts {
		if err := opt(&wanted); err != nil {
			return wanted, err
		}
	}
	return wanted, nil
}

// Writer implements [content.Ingester]. It returns an error of class ErrAlreadyExists if
// the store has a valid blob of the digest. The caller must close the writer.
func (s *Store) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	wanted, err := writerOpts(opts)
	if err != nil {
		return nil, err
	}
	name := wanted.Ref
	if dgst := wanted.Desc.Digest; dgst != "" {
		if err := s.absent(ctx, dgst); err != nil {
			return nil, err
		}
		name = dgst.String()
	}
	w := &writer{store: s, ref: wanted.Ref, ingest: name + "-" + rand.Text()}
	inner, err := s.Store.Writer(ctx, content.WithRef(w.ingest), content.WithDescriptor(wanted.Desc))
	for try := 1; errors.Is(err, fs.ErrNotExist) && try < ingestTries; try++ {
		// Another process removed the folder because it was empty.
		if err = os.MkdirAll(filepath.Join(s.dir, IngestDir), 0o700); err == nil {
			inner, err = s.Store.Writer(ctx, content.WithRef(w.ingest), content.WithDescriptor(wanted.Desc))
		}
	}
	if err != nil {
		return nil, errors.Join(err, w.abort(ctx))
	}
	w.Writer = inner
	return w, nil
}

// absent returns an error of class ErrAlreadyExists if the store has a valid blob. It
// removes a damaged one: containerd's store checks only the name and would keep it.
func (s *Store) absent(ctx context.Context, dgst digest.Digest) error {
	ra, err := s.ReaderAt(ctx, ocispec.Descriptor{Digest: dgst})
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	ra.Close()
	return fmt.Errorf("blob %s: %w", dgst, errdefs.ErrAlreadyExists)
}

// writer removes its ingest unless it is committed.
type writer struct {
	content.Writer
	store  *Store
	ref    string // the caller's
	ingest string // containerd's
	done   bool
}

func (w *writer) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	dgst := cmp.Or(expected, w.Writer.Digest())
	err := w.store.absent(ctx, dgst)
	if err == nil {
		err = w.Writer.Commit(ctx, size, expected, opts...)
	}
	if err != nil {
		return errors.Join(err, w.Close())
	}
	w.done = true
	// containerd's store makes it readable for everyone.
	if file, err := w.store.blobFile(dgst); err == nil {
		if err := os.Chmod(file, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make blob %s private: %w", dgst, err)
		}
	}
	return nil
}

func (w *writer) Close() error {
	if w.done {
		return nil
	}
	w.done = true
	err := w.Writer.Close()
	// Remove the ingest even if the run was cancelled.
	return errors.Join(err, w.abort(context.Background()))
}

func (w *writer) abort(ctx context.Context) error {
	if err := w.store.Store.Abort(ctx, w.ingest); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove an unfinished blob: %w", err)
	}
	return nil
}

func (w *writer) Status() (content.Status, error) {
	status, err := w.Writer.Status()
	status.Ref = w.ref
	return status, err
}

var _ content.Store = (*Store)(nil)
