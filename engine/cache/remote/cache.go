// SPDX-License-Identifier: Apache-2.0

// Package remote keeps small documents under keys in a repository of a registry, for all
// machines that may read it.
//
// An entry is one manifest with one blob, tagged by the key: it takes at most three requests to
// put, two to get, and one to miss. Its digests and its key are checked, it expires, and if
// keys are trusted it must be signed by one of them. Without trusted keys, anyone who may write
// to the repository decides what readers get.
//
// A cache never changes the result of a run and takes little of its time. Any failure of the
// cache or of an entry is a miss and a warning, of which there is one per run; waiting is
// bounded; and after a few failures or a few wasted seconds, reading or writing is not tried
// again.
package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/taped-dev/tape/engine/content/registry"
)

const (
	// DefaultKeep is how long an entry is used.
	DefaultKeep = 30 * 24 * time.Hour
	// DefaultPatience is how long one operation may take: after that, making the result again
	// would have been faster.
	DefaultPatience = 5 * time.Second
	// maxFailures bounds how many operations of a kind may fail in a run.
	maxFailures = 3
)

// Options configure a cache. The zero value reads and writes entries without signatures.
type Options struct {
	// Signer signs entries; nil signs nothing.
	Signer signature.Signer
	// Trust lists the keys of which one must have signed an entry. If it is empty, signatures
	// are ignored. A cache with trusted keys and without a Signer is read-only.
	Trust []signature.Verifier
	// Keep is how long an entry is used after it was put; 0 is [DefaultKeep].
	Keep time.Duration
	// ReadOnly puts nothing.
	ReadOnly bool
	// Patience bounds an operation, and how much time of a run may be spent on operations of a
	// kind that fail or take two fifths of it; 0 is [DefaultPatience].
	Patience time.Duration
	// Log gets the warning, and at the debug level the reason of each miss. Nil is silent.
	Log *slog.Logger
	// Now is the clock; nil is that of the system.
	Now func() time.Time
}

// Cache is a cache in a repository. Its methods may be called concurrently. It serves one run,
// because operations that keep failing are given up.
type Cache struct {
	repo *registry.Repository
	o    Options
	*health
}

// health records how the cache has behaved during the run.
type health struct {
	reads, writes side
	warned        sync.Once
}

// New returns the cache in a repository. It sends no request.
func New(repo *registry.Repository, o Options) *Cache {
	o.Keep = cmp.Or(max(o.Keep, 0), DefaultKeep)
	o.Patience = cmp.Or(max(o.Patience, 0), DefaultPatience)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	if len(o.Trust) > 0 && o.Signer == nil {
		o.ReadOnly = true
	}
	return &Cache{repo: repo, o: o, health: &health{reads: side{patience: o.Patience}, writes: side{patience: o.Patience}}}
}

// ReadOnly returns the same cache, to which nothing is written.
func (c *Cache) ReadOnly() *Cache {
	only := *c
	only.o.ReadOnly = true
	return &only
}

// Name returns the name of the entry of a key, for messages.
func (c *Cache) Name(key digest.Digest) string { return c.repo.Ref(tagPrefix + key.Encoded()) }

// Get returns the documents under a key, or an error of class ErrNotFound for any reason: there
// is no entry, it has expired or is damaged, no trusted key signed it, or the registry did not
// answer in time. The error is of another class only if ctx has ended or the key is invalid.
func (c *Cache) Get(ctx context.Context, key digest.Digest) (map[string][]byte, error) {
	tag, err := tagOf(key)
	if err != nil {
		return nil, err
	}
	if c.reads.givenUp() {
		return nil, c.miss(ctx, key, errors.New("the cache is no longer read"))
	}
	bounded, timer := registry.WithTimer(ctx, c.o.Patience, fmt.Errorf("no answer within %s", c.o.Patience))
	documents, failed, err := c.get(bounded, tag, key)
	took := timer.Stop()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, cause
	}
	if c.reads.ended(failed, took) && err == nil {
		c.warn(ctx, "the cache is slow, and is no longer read", fmt.Errorf("%s took %s", c.Name(key), took))
	}
	switch {
	case failed != nil:
		c.warn(ctx, "the cache cannot be read", failed)
	case err != nil && !errors.Is(err, errAbsent) && !errors.Is(err, errExpired):
		c.warn(ctx, "ignoring an entry of the cache, and computing its result again", fmt.Errorf("%s: %w", c.Name(key), err))
	}
	if err != nil {
		return nil, c.miss(ctx, key, err)
	}
	return documents, nil
}

// get also returns a failure of the registry, as opposed to one of the entry.
func (c *Cache) get(ctx context.Context, tag string, key digest.Digest) (documents map[string][]byte, failed, err error) {
	_, data, err := c.repo.Manifest(ctx, tag)
	if errdefs.IsNotFound(err) {
		return nil, nil, errAbsent
	}
	if err != nil {
		return nil, err, err
	}
	e, err := open(data, key, c.o.Trust)
	if err != nil {
		return nil, nil, err
	}
	if !c.o.Now().Before(e.Expires) {
		return nil, nil, errExpired
	}
	body, err := c.repo.Blob(ctx, e.pack)
	if err == nil {
		data, err = io.ReadAll(body)
		err = errors.Join(err, body.Close())
	}
	if err != nil {
		return nil, err, err
	}
	documents, err = unpack(e.pack.MediaType, data)
	return documents, nil, err
}

// Reasons that do not deserve a warning.
var (
	errAbsent  = errors.New("there is no entry")
	errExpired = errors.New("the entry has expired")
)

// miss logs why an entry is not used, and returns that reason as an error.
func (c *Cache) miss(ctx context.Context, key digest.Digest, reason error) error {
	c.o.Log.DebugContext(ctx, "no entry to use", "entry", c.Name(key), "reason", reason)
	return fmt.Errorf("cache entry %s: %w: %w", c.Name(key), reason, errdefs.ErrNotFound)
}

// warn logs the only warning of a run: more would repeat the same failure.
func (c *Cache) warn(ctx context.Context, message string, reason error) {
	c.warned.Do(func() { c.o.Log.WarnContext(ctx, message, "reason", reason) })
}

// Put puts documents under a key. An error means that the next run will not find them. It has
// been logged, and callers that lose only time by it may ignore it.
func (c *Cache) Put(ctx context.Context, key digest.Digest, documents map[string][]byte) error {
	tag, err := tagOf(key)
	if err != nil {
		return err
	}
	switch {
	case c.o.ReadOnly:
		return fmt.Errorf("put cache entry %s: the cache is read-only: %w", c.Name(key), errdefs.ErrPermissionDenied)
	case c.writes.givenUp():
		return fmt.Errorf("put cache entry %s: the cache is no longer written: %w", c.Name(key), errdefs.ErrUnavailable)
	}
	bounded, timer := registry.WithTimer(ctx, c.o.Patience, fmt.Errorf("not done within %s", c.o.Patience))
	err = c.put(bounded, tag, key, documents)
	took := timer.Stop()
	if errdefs.IsAlreadyExists(err) { // the registry moves no tags: another put it
		err = nil
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if errdefs.IsOutOfRange(err) { // nothing is wrong with the cache
		c.o.Log.DebugContext(ctx, "entry not put", "entry", c.Name(key), "reason", err)
		return fmt.Errorf("put cache entry %s: %w", c.Name(key), err)
	}
	last := c.writes.ended(err, took)
	if err == nil {
		return nil
	}
	c.o.Log.DebugContext(ctx, "entry not put", "entry", c.Name(key), "reason", err)
	switch {
	case !denied(err):
		c.warn(ctx, "a result was not added to the cache", err)
	case last:
		c.o.Log.InfoContext(ctx, "the cache cannot be written, and is used read-only", "cache", c.repo.Name(), "reason", err)
	}
	return fmt.Errorf("put cache entry %s: %w", c.Name(key), err)
}

func (c *Cache) put(ctx context.Context, tag string, key digest.Digest, documents map[string][]byte) error {
	desc, data, err := pack(documents)
	if err != nil {
		return err
	}
	now := c.o.Now().UTC().Truncate(time.Second)
	manifest, body, err := statement{Key: key, Pack: desc.Digest, Created: now, Expires: now.Add(c.o.Keep)}.seal(ctx, desc, c.o.Signer)
	if err != nil {
		return err
	}
	if err := c.repo.PushBytes(ctx, desc, data); err != nil {
		return err
	}
	return c.repo.PushManifest(ctx, manifest, body, tag)
}

// side is one side of a cache, reading or writing.
type side struct {
	patience time.Duration

	mu       sync.Mutex
	failures int
	wasted   time.Duration
	denied   bool
}

// ended counts an operation that took some time, and failed unless err is nil. It reports
// whether the side is given up because of it. A denied operation is enough.
func (s *side) ended(err error, took time.Duration) (last bool) {
	before := s.givenUp()
	s.mu.Lock()
	if err != nil {
		s.failures++
		s.denied = s.denied || denied(err)
	}
	if err != nil || took > s.patience*2/5 {
		s.wasted += took
	}
	s.mu.Unlock()
	return !before && s.givenUp()
}

func (s *side) givenUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.denied || s.failures >= maxFailures || s.wasted >= s.patience
}

// denied reports whether the registry denied an operation.
func denied(err error) bool {
	return errdefs.IsPermissionDenied(err) || errdefs.IsUnauthorized(err)
}
