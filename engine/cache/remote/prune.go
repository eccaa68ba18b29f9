// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/internal/atonce"
)

// State is the state of an entry.
type State string

// The states.
const (
	Usable   State = "usable"
	Expired  State = "expired"
	Unusable State = "unusable" // damaged, of another version, or not signed by a trusted key
)

// Entry is an entry of a cache.
type Entry struct {
	Tag     string        `json:"tag"`
	Key     digest.Digest `json:"key"`
	Digest  digest.Digest `json:"digest"` // of the manifest
	Created time.Time     `json:"created,omitzero"`
	Expires time.Time     `json:"expires,omitzero"`
	Bytes   int64         `json:"bytes"` // of its pack
	State   State         `json:"state"`
	Reason  string        `json:"reason,omitempty"` // why it is unusable
}

// Entries reads all entries, oldest first. It takes one request per entry, and unlike Get it
// fails if the registry does.
func (c *Cache) Entries(ctx context.Context) ([]Entry, error) {
	tags, err := c.repo.Tags(ctx)
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, err
	}
	tags = slices.DeleteFunc(tags, func(tag string) bool { _, ok := keyOf(tag); return !ok })
	found := make([]*Entry, len(tags))
	if err := atonce.Each(ctx, atonce.Requests, tags, func(ctx context.Context, i int, tag string) (err error) {
		found[i], err = c.entry(ctx, tag)
		return err
	}); err != nil {
		return nil, err
	}
	entries := []Entry{}
	for _, e := range found {
		if e != nil {
			entries = append(entries, *e)
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Tag, b.Tag))
	})
	return entries, nil
}

// entry reads the entry of a tag. It returns nil if the tag was removed meanwhile or is not an
// entry.
func (c *Cache) entry(ctx context.Context, tag string) (*Entry, error) {
	desc, data, err := c.repo.Manifest(ctx, tag)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !isEntry(data) {
		return nil, nil
	}
	key, _ := keyOf(tag)
	out := &Entry{Tag: tag, Key: key, Digest: desc.Digest, State: Usable}
	e, err := open(data, key, c.o.Trust)
	if err != nil {
		out.State, out.Reason = Unusable, err.Error()
		return out, nil
	}
	out.Created, out.Expires, out.Bytes = e.Created, e.Expires, e.pack.Size
	if !c.o.Now().Before(e.Expires) {
		out.State = Expired
	}
	return out, nil
}

// Info describes the contents of a cache.
type Info struct {
	Repository string        `json:"repository"`
	Entries    int           `json:"entries"`
	Bytes      int64         `json:"bytes"` // of the packs
	States     map[State]int `json:"states"`
	// Oldest and Newest are the times at which the usable entries were made.
	Oldest time.Time `json:"oldest,omitzero"`
	Newest time.Time `json:"newest,omitzero"`
}

// Info reads all entries, as [Cache.Entries] does, and counts them.
func (c *Cache) Info(ctx context.Context) (*Info, error) {
	entries, err := c.Entries(ctx)
	if err != nil {
		return nil, err
	}
	info := &Info{Repository: c.repo.Name(), Entries: len(entries), States: map[State]int{}}
	for _, state := range []State{Usable, Expired, Unusable} {
		info.States[state] = 0
	}
	for _, e := range entries {
		info.Bytes += e.Bytes
		info.States[e.State]++
		if e.State != Usable {
			continue
		}
		if info.Newest = e.Created; info.Oldest.IsZero() {
			info.Oldest = e.Created
		}
	}
	return info, nil
}

// PruneOptions select what Prune removes in addition to unusable entries.
type PruneOptions struct {
	// MaxAge removes entries that are older; 0 sets no limit.
	MaxAge time.Duration
	// All removes every entry.
	All bool
	// DryRun removes nothing.
	DryRun bool
}

// Pruned reports what was removed.
type Pruned struct {
	Removed []Entry `json:"removed"`
	Left    int     `json:"left"`
	// Bytes is the size of the packs of removed entries. The registry frees them at its next
	// garbage collection.
	Bytes int64 `json:"bytes"`
}

// Prune removes the tags of entries that have expired or cannot be used. The error is of class
// ErrNotImplemented if the registry does not support deletion.
func (c *Cache) Prune(ctx context.Context, o PruneOptions) (*Pruned, error) {
	entries, err := c.Entries(ctx)
	if err != nil {
		return nil, err
	}
	pruned := &Pruned{Removed: []Entry{}}
	for _, e := range entries {
		old := o.MaxAge > 0 && !e.Created.IsZero() && c.o.Now().Sub(e.Created) >= o.MaxAge
		if e.State == Usable && !old && !o.All {
			pruned.Left++
			continue
		}
		pruned.Removed = append(pruned.Removed, e)
		pruned.Bytes += e.Bytes
	}
	if o.DryRun {
		return pruned, nil
	}
	if err := atonce.Each(ctx, atonce.Requests, pruned.Removed, func(ctx context.Context, _ int, e Entry) error { return c.remove(ctx, e) }); err != nil {
		return nil, err
	}
	return pruned, nil
}

// remove removes the tag of an entry, or its manifest if the registry deletes only by digest.
func (c *Cache) remove(ctx context.Context, e Entry) error {
	err := c.repo.Delete(ctx, e.Tag)
	if errdefs.IsNotImplemented(err) {
		err = c.repo.Delete(ctx, e.Digest.String())
	}
	if errdefs.IsNotFound(err) {
		return nil // it was already removed
	}
	if errdefs.IsNotImplemented(err) {
		return fmt.Errorf("%w; configure the registry to remove old tags %s*", err, tagPrefix)
	}
	return err
}
