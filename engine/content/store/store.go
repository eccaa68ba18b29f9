// SPDX-License-Identifier: Apache-2.0

// Package store is where blobs lie: containerd's local content store made fit
// for several processes and for tampering, and a layer in memory
// over it.
//
// The interface is containerd's content.Store; there is none of our own. What
// [Open] adds to the local store is this. A blob is hashed before it is read: a
// wrong one is removed and counts as absent, so that it is made again. Every
// ingest has a name of its own, since two processes that write under one name
// spoil each other's blob; the rename at its end is the only meeting point. An
// ingest that fails is removed, and none is resumed.
//
// The folder also holds the cache of node results, and a lock: shared while a
// process uses the store, exclusive for [Prune].
package store

import (
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

	"github.com/taped-dev/tape/engine/cache"
	"github.com/taped-dev/tape/engine/content/internal/blob"
)

// lockRetry is how often a store that is being pruned is asked for again.
const lockRetry = 50 * time.Millisecond

// ingestTries is how often the folder of unfinished blobs is made again.
const ingestTries = 10

// Names below a store's folder; blobs and ingest are containerd's.
const (
	blobsDir = "blobs"
	// IngestDir is the folder of blobs that are being written.
	IngestDir = "ingest"
	// ProbePrefix begins the name of the folder in which containerd's store looks, for as
	// long as it opens, what the file system can do.
	ProbePrefix = ".fsverity-check-"
	keysDir     = "keys"
	lockFile    = "lock"
)

// Store is a content.Store on disk. Its methods may be called concurrently, and
// several processes may have one folder open.
type Store struct {
	content.Store // containerd's; what is not overridden below

	dir   string
	lock  *flock.Flock
	cache *cache.Cache
	log   *slog.Logger

	sound blob.Sound
}

// Options of a store; the zero value is useful.
type Options struct {
	Log *slog.Logger // nil: silent
}

// DefaultDir is $XDG_CACHE_HOME/tape, or what the system has in its place.
func DefaultDir() (string, error) {
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tape"), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the store, name one with --store: %w", err)
	}
	return filepath.Join(dir, "tape"), nil
}

// Open opens the store in a folder, which it makes where there is none, private
// to the user: rendered manifests may hold secrets. It waits while the store is
// being pruned, until ctx ends. The caller closes the store.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store, name another with --store: %w", err)
	}
	if err := makePrivate(dir); err != nil {
		return nil, fmt.Errorf("make the store %s private to this user: %w", dir, err)
	}
	lock := flock.New(filepath.Join(dir, lockFile))
	if _, err := lock.TryRLockContext(ctx, lockRetry); err != nil {
		return nil, fmt.Errorf("lock store %s, or name another with --store: %w", dir, err)
	}
	inner, err := openLocal(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s, name another with --store: %w", dir, err), lock.Close())
	}
	s := newStore(inner, dir)
	s.lock, s.log = lock, o.Log
	return s, nil
}

// makePrivate makes the folders of a store, for this user alone whatever the umask is.
// Where others could look into one, what is in it is made private too. A folder that has
// something else in it stays as it is, but for what is the store's.
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
		foreign := false
		for _, entry := range entries {
			if name := entry.Name(); !slices.Contains(ownNames(), name) && !strings.HasPrefix(name, ProbePrefix) {
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
		err := os.Mkdir(folder, 0o700)
		if errors.Is(err, fs.ErrExist) {
			info, statErr := os.Stat(folder)
			if errors.Is(statErr, fs.ErrNotExist) { // another process removed it, being empty
				continue
			}
			if err = statErr; err == nil && info.Mode().Perm() == 0o700 {
				continue
			}
		}
		if err == nil {
			err = os.Chmod(folder, 0o700)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// ownNames are what stands in the folder of a store.
func ownNames() []string {
	return []string{blobsDir, IngestDir, keysDir, lockFile, "interpreters", "manifests"}
}

// closeToOthers makes folders and files private.
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

// newStore has neither lock nor log.
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

// openLocal keeps containerd's store from printing, on every start, a warning
// that the file system has no fs-verity: most have none, and blobs are verified
// here. It logs with a global logger before it takes any context.
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

// OpenBlobs opens a folder that holds blobs and nothing else of a store: it is neither
// locked nor made private, and has no cache.
func OpenBlobs(dir string) (*Store, error) {
	inner, err := openLocal(dir)
	if err != nil {
		return nil, err
	}
	return newStore(inner, dir), nil
}

// Close gives the store free for pruning.
func (s *Store) Close() error { return s.lock.Close() }

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

// Cache is the cache of node results in the store's folder.
func (s *Store) Cache() *cache.Cache { return s.cache }

// ReaderAt implements [content.Provider]. The blob is hashed first, once as
// long as its file stays the same.
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
		s.log.Warn("removing a blob that is not what its name says", "digest", desc.Digest, "reason", err)
		err = s.remove(file, r.Info)
		return nil, errors.Join(fmt.Errorf("%w (it was damaged)", notFound(desc.Digest)), err, r.Close())
	}
	return r, nil
}

// remove removes the file that info is of; another process may have put a sound
// one in its place.
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

// Writer implements [content.Ingester]. A sound blob that is there already is
// an error of class ErrAlreadyExists. The writer must be closed.
func (s *Store) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var wanted content.WriterOpts
	for _, opt := range opts {
		if err := opt(&wanted); err != nil {
			return nil, err
		}
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
		// Another process found the folder empty, and removed it.
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

// absent is nil where no sound blob of the digest is there. A damaged one is
// removed: containerd's store looks at names only and would keep it.
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

// writer removes its ingest unless it was committed.
type writer struct {
	content.Writer
	store  *Store
	ref    string // the caller's
	ingest string // containerd's
	done   bool
}

func (w *writer) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	dgst := expected
	if dgst == "" {
		dgst = w.Writer.Digest()
	}
	err := w.store.absent(ctx, dgst)
	if err == nil {
		err = w.Writer.Commit(ctx, size, expected, opts...)
	}
	if err != nil {
		return errors.Join(err, w.Close())
	}
	w.done = true
	// containerd's store lets everyone read it.
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
	// The ingest goes even where the run was cancelled.
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
