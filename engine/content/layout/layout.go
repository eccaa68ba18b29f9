// SPDX-License-Identifier: Apache-2.0

// Package layout reads and writes OCI image layouts (image-spec 1.1, image-layout.md),
// as folders and as archives.
//
// The sizes of all blobs of an archive are known before anything is written, and so are
// their positions: blobs are fetched concurrently and written in place, and after an
// interruption those that are complete are not fetched again. Entries are sorted, and the
// file does not depend on when, where or by whom it was written: the same index gives the
// same bytes.
package layout

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/internal/blob"
	"github.com/taped-dev/tape/engine/content/internal/class"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/internal/replace"
)

const (
	// maxIndex bounds index.json, which lists what registries have as tags: a thousand
	// images take about 500 KB.
	maxIndex = 16 << 20

	// indexPrefix is the prefix of temporary files for index.json.
	indexPrefix = "." + ocispec.ImageIndexFile + "-"
)

// Repository is a source of manifests and blobs: a repository in a registry, a layout, an
// archive, an image in Docker or containerd, or the store of a run. Implementations return
// content with the requested digest only.
type Repository interface {
	content.Provider
	// Blob reads a whole blob.
	Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// Resolve returns the descriptor of a manifest by tag or digest.
	Resolve(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, error)
	// Referrers returns the manifests whose subject has the digest, with any artifact type.
	Referrers(ctx context.Context, dgst digest.Digest) ([]ocispec.Descriptor, error)
}

// Layout is an OCI image layout (image-spec 1.1, image-layout.md), in a folder or a tar,
// opened for reading. Blobs are verified when read. Its methods may be called concurrently.
type Layout struct {
	name  string // the path, for errors
	index ocispec.Index
	data  []byte // index.json
	blobs blobs
	sound blob.Sound

	mu        sync.Mutex
	referrers map[digest.Digest][]ocispec.Descriptor // by subject; nil until needed
}

// blobs is the storage of a layout's blobs.
type blobs interface {
	// open returns fs.ErrNotExist if there is no such blob.
	open(dgst digest.Digest) (*blob.Reader, error)
	list() ([]digest.Digest, error)
	io.Closer
}

// Open opens a layout in a folder. The caller closes it.
func Open(dir string) (*Layout, error) {
	l, err := openLayout(dir, folder(dir), func(name string, limit int64) ([]byte, error) {
		r, err := openRegular(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		data, err := readLimited(r, limit)
		return data, errors.Join(err, r.Close())
	})
	if err != nil {
		return nil, fmt.Errorf("open OCI layout %s: %w", dir, err)
	}
	return l, nil
}

// openLayout reads and checks oci-layout and index.json.
func openLayout(name string, blobs blobs, read func(name string, limit int64) ([]byte, error)) (*Layout, error) {
	data, err := read(ocispec.ImageLayoutFile, descriptor.MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, class.Errorf(errdefs.ErrInvalidArgument, "no file %s", ocispec.ImageLayoutFile)
	}
	var version ocispec.ImageLayout
	if err == nil {
		err = json.Unmarshal(data, &version)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ocispec.ImageLayoutFile, err)
	}
	if major, _, _ := strings.Cut(version.Version, "."); major != "1" {
		return nil, class.Errorf(errdefs.ErrInvalidArgument, "its version is %q, not %s", version.Version, ocispec.ImageLayoutVersion)
	}
	if data, err = read(ocispec.ImageIndexFile, maxIndex); err != nil {
		return nil, fmt.Errorf("read %s, the layout may be incomplete: %w", ocispec.ImageIndexFile, err)
	}
	l := &Layout{name: name, blobs: blobs, data: data}
	if err := descriptor.UnmarshalUpTo(data, descriptor.MaxIndexObjects, &l.index); err != nil {
		return nil, fmt.Errorf("read %s: %w", ocispec.ImageIndexFile, err)
	}
	for _, desc := range l.index.Manifests {
		if err := descriptor.Check(desc); err != nil {
			return nil, class.Errorf(errdefs.ErrDataLoss, "read %s: %w", ocispec.ImageIndexFile, err)
		}
	}
	return l, nil
}

// Close closes the layout. Readers of a folder remain usable, those of an archive do not.
func (l *Layout) Close() error { return l.blobs.Close() }

// Path returns the path of the folder or file.
func (l *Layout) Path() string { return l.name }

// Index returns the content of index.json.
func (l *Layout) Index() ocispec.Index { return l.index }

// IndexData returns the bytes of index.json.
func (l *Layout) IndexData() []byte { return l.data }

// Archive returns the tar of the layout; ok is false for a folder.
func (l *Layout) Archive() (tar *io.SectionReader, ok bool) {
	a, ok := l.blobs.(*archive)
	if !ok {
		return nil, false
	}
	return io.NewSectionReader(a.file, 0, a.info.Size()), true
}

// Unexpected describes what an archive contains besides the files of a layout, and what
// programs read differently, such as bytes after its end. None of it is used. Folders,
// times, owners and macOS metadata are not reported. It is empty for a layout in a folder.
func (l *Layout) Unexpected() []string {
	if a, ok := l.blobs.(*archive); ok {
		return a.unexpected
	}
	return nil
}

// Blobs returns the digests of all blobs, sorted, whether or not a manifest refers to them.
func (l *Layout) Blobs() ([]digest.Digest, error) {
	list, err := l.blobs.list()
	if err != nil {
		return nil, fmt.Errorf("list blobs of %s: %w", l.name, err)
	}
	slices.Sort(list)
	return list, nil
}

// ReaderAt implements [content.Provider]. It first verifies the whole blob, once.
func (l *Layout) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	r, err := l.open(desc)
	if err != nil {
		return nil, err
	}
	if err := l.sound.Verify(ctx, r, desc.Digest); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, errors.Join(cause, r.Close())
		}
		return nil, errors.Join(l.damaged(desc.Digest, err), r.Close())
	}
	return r, nil
}

// Blob reads a blob and verifies it on the way: the end of a blob with another digest is an
// error. It suits large blobs, which ReaderAt reads twice.
func (l *Layout) Blob(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := l.open(desc)
	if err != nil {
		return nil, err
	}
	return blob.Verify(r, r, desc.Digest, func(err error) error { return l.damaged(desc.Digest, err) }), nil
}

func (l *Layout) open(desc ocispec.Descriptor) (*blob.Reader, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, class.Errorf(errdefs.ErrInvalidArgument, "blob %q: %w", desc.Digest, err)
	}
	r, err := l.blobs.open(desc.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, class.Errorf(errdefs.ErrNotFound, "blob %s is not in %s", desc.Digest, l.name)
	}
	if err != nil {
		return nil, fmt.Errorf("read blob %s from %s: %w", desc.Digest, l.name, err)
	}
	if desc.Size > 0 && desc.Size != r.Size() {
		return nil, errors.Join(l.damaged(desc.Digest, fmt.Errorf("it has %d bytes, not %d", r.Size(), desc.Size)), r.Close())
	}
	return r, nil
}

func (l *Layout) damaged(dgst digest.Digest, reason error) error {
	return class.Errorf(errdefs.ErrDataLoss, "blob %s in %s is damaged, copy it again: %w", dgst, l.name, reason)
}

// Resolve returns the descriptor of a manifest by digest or by tag: the annotation
// org.opencontainers.image.ref.name, or else the tag of a full name in that annotation or
// in io.containerd.image.name. With "" it returns the only manifest with a ref.name, or the
// only manifest.
func (l *Layout) Resolve(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, error) {
	if strings.Contains(tagOrDigest, ":") {
		return l.resolveDigest(ctx, tagOrDigest)
	}
	rules := []func(ocispec.Descriptor) bool{
		func(d ocispec.Descriptor) bool { return d.Annotations[ocispec.AnnotationRefName] == tagOrDigest },
		func(d ocispec.Descriptor) bool {
			return imageref.Split(d.Annotations[ocispec.AnnotationRefName]).Tag == tagOrDigest
		},
		func(d ocispec.Descriptor) bool {
			return imageref.Split(d.Annotations[images.AnnotationImageName]).Tag == tagOrDigest
		},
	}
	if tagOrDigest == "" {
		rules = []func(ocispec.Descriptor) bool{
			func(d ocispec.Descriptor) bool { return d.Annotations[ocispec.AnnotationRefName] != "" },
			func(ocispec.Descriptor) bool { return true },
		}
	}
	for _, rule := range rules {
		one, n := Only(l.index, rule)
		switch {
		case n == 1:
			return one, nil
		case n > 1 && tagOrDigest == "":
			return ocispec.Descriptor{}, class.Errorf(errdefs.ErrInvalidArgument, "%s has %d manifests, name a tag or digest; %s", l.name, n, l.has())
		case n > 1:
			return ocispec.Descriptor{}, class.Errorf(errdefs.ErrInvalidArgument, "%s has %d manifests with tag %q, name a digest", l.name, n, tagOrDigest)
		}
	}
	if tagOrDigest == "" {
		return ocispec.Descriptor{}, class.Errorf(errdefs.ErrNotFound, "%s has no manifest", l.name)
	}
	return ocispec.Descriptor{}, class.Errorf(errdefs.ErrNotFound, "%s has no tag %q; %s", l.name, tagOrDigest, l.has())
}

// Only returns a manifest in an index for which rule holds, and how many different ones there are.
func Only(index ocispec.Index, rule func(ocispec.Descriptor) bool) (one ocispec.Descriptor, n int) {
	found := map[digest.Digest]bool{}
	for _, desc := range index.Manifests {
		if rule(desc) && !found[desc.Digest] {
			found[desc.Digest], one = true, desc
		}
	}
	return one, len(found)
}

// resolveDigest resolves a digest in the index, or else among the blobs.
func (l *Layout) resolveDigest(ctx context.Context, text string) (ocispec.Descriptor, error) {
	dgst, err := digest.Parse(text)
	if err != nil {
		return ocispec.Descriptor{}, class.Errorf(errdefs.ErrInvalidArgument, "%q: %w", text, err)
	}
	for _, desc := range l.index.Manifests {
		if desc.Digest == dgst {
			return desc, nil
		}
	}
	desc := ocispec.Descriptor{Digest: dgst}
	m, size, err := l.manifest(ctx, desc)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if desc.MediaType = m.Type(); desc.MediaType == "" {
		return ocispec.Descriptor{}, class.Errorf(errdefs.ErrInvalidArgument, "blob %s in %s is not a manifest", dgst, l.name)
	}
	desc.Size, desc.ArtifactType = size, m.ArtifactType
	return desc, nil
}

// has lists the tags for an error message.
func (l *Layout) has() string {
	var tags []string
	for _, desc := range l.index.Manifests {
		if name := desc.Annotations[ocispec.AnnotationRefName]; name != "" && !slices.Contains(tags, name) {
			tags = append(tags, name)
		}
	}
	if len(tags) == 0 {
		return "it has no tags"
	}
	slices.Sort(tags)
	return "it has " + strings.Join(tags, ", ")
}

// Referrers implements [Repository]. It reads every manifest reachable from index.json
// through indexes, and skips missing ones (a layout may omit platforms). The descriptors
// have artifact type and annotations of the manifest, as from a registry, and are sorted by
// digest.
func (l *Layout) Referrers(ctx context.Context, dgst digest.Digest) ([]ocispec.Descriptor, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.referrers == nil {
		found := map[digest.Digest][]ocispec.Descriptor{}
		if err := l.findReferrers(ctx, l.index.Manifests, map[digest.Digest]bool{}, found); err != nil {
			return nil, err
		}
		for _, list := range found {
			slices.SortFunc(list, func(a, b ocispec.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
		}
		l.referrers = found
	}
	return slices.Clone(l.referrers[dgst]), nil
}

func (l *Layout) findReferrers(ctx context.Context, list []ocispec.Descriptor, seen map[digest.Digest]bool, found map[digest.Digest][]ocispec.Descriptor) error {
	for _, desc := range list {
		// Content of an unknown type may have a subject too.
		if seen[desc.Digest] || desc.Size > descriptor.MaxManifest {
			continue
		}
		seen[desc.Digest] = true
		m, size, err := l.manifest(ctx, desc)
		if errdefs.IsNotFound(err) || err != nil && !descriptor.IsManifest(desc.MediaType) {
			continue
		}
		if err != nil {
			return err
		}
		if m.Subject != nil {
			found[m.Subject.Digest] = append(found[m.Subject.Digest], ocispec.Descriptor{
				MediaType:    desc.MediaType,
				Digest:       desc.Digest,
				Size:         size,
				ArtifactType: m.Artifact(),
				Annotations:  m.Annotations,
			})
		}
		if err := l.findReferrers(ctx, m.Manifests, seen, found); err != nil {
			return err
		}
	}
	return nil
}

func (l *Layout) manifest(ctx context.Context, desc ocispec.Descriptor) (descriptor.Manifest, int64, error) {
	ra, err := l.ReaderAt(ctx, desc)
	if err != nil {
		return descriptor.Manifest{}, 0, err
	}
	defer ra.Close()
	data, err := readLimited(io.NewSectionReader(ra, 0, ra.Size()), descriptor.MaxManifest)
	var m descriptor.Manifest
	if err == nil {
		err = descriptor.Unmarshal(data, &m)
	}
	if err != nil {
		return descriptor.Manifest{}, 0, fmt.Errorf("read manifest %s from %s: %w", desc.Digest, l.name, err)
	}
	return m, int64(len(data)), nil
}

// folder is the blobs of a layout in a folder.
type folder string

func (dir folder) open(dgst digest.Digest) (*blob.Reader, error) {
	return openRegular(filepath.Join(string(dir), ocispec.ImageBlobsDir, dgst.Algorithm().String(), dgst.Encoded()))
}

func (dir folder) list() ([]digest.Digest, error) {
	var list []digest.Digest
	algorithms, err := os.ReadDir(filepath.Join(string(dir), ocispec.ImageBlobsDir))
	for _, algorithm := range algorithms {
		files, listErr := os.ReadDir(filepath.Join(string(dir), ocispec.ImageBlobsDir, algorithm.Name()))
		err = errors.Join(err, listErr)
		for _, file := range files {
			dgst := digest.NewDigestFromEncoded(digest.Algorithm(algorithm.Name()), file.Name())
			if dgst.Validate() == nil {
				list = append(list, dgst)
			}
		}
	}
	return list, err
}

func (folder) Close() error { return nil }

// openRegular opens a regular file; others may block or never end.
func openRegular(name string) (*blob.Reader, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, class.Errorf(errdefs.ErrInvalidArgument, "%s is not a file", name)
	}
	return blob.Open(name)
}

// readLimited reads all of r. It fails if that is more than limit bytes.
func readLimited(r io.Reader, limit int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return b.Bytes(), err
}

// Writer writes an OCI image layout to a folder: blobs through its Store and, with Close,
// the index that refers to them. Until then the layout is unchanged except for additional
// blobs. Several writers and processes may write to one folder; all their additions are
// kept.
type Writer struct {
	store *store.Store
	begun ocispec.Index // the index at Create
	added []ocispec.Descriptor
}

// Create starts writing a layout to a folder that is new, empty, or a layout, whose
// manifests are kept.
func Create(dir string) (*Writer, error) {
	w := &Writer{}
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("create OCI layout: %w", err)
	}
	switch {
	case slices.ContainsFunc(files, func(f fs.DirEntry) bool { return f.Name() == ocispec.ImageIndexFile }):
		// Report problems of the existing layout before anything is written.
		l, err := Open(dir)
		if err != nil {
			return nil, err
		}
		w.begun = l.Index()
	case len(files) > 0 && !slices.ContainsFunc(files, madeByWriter):
		return nil, class.Errorf(errdefs.ErrFailedPrecondition, "create OCI layout %s: the folder contains other files", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create OCI layout: %w", err)
	}
	if w.store, err = store.OpenBlobs(dir); err != nil {
		return nil, fmt.Errorf("create OCI layout %s: %w", dir, err)
	}
	return w, nil
}

// madeByWriter reports whether a file may belong to a writer: another one may be active in
// the folder, or have left files behind.
func madeByWriter(f fs.DirEntry) bool {
	switch name := f.Name(); name {
	case ocispec.ImageBlobsDir, store.IngestDir, ocispec.ImageLayoutFile:
		return true
	default:
		return strings.HasPrefix(name, store.ProbePrefix) || strings.HasPrefix(name, indexPrefix)
	}
}

// Store returns the store for the blobs of the layout.
func (w *Writer) Store() content.Store { return w.store }

// Resolve returns the manifest that had a tag when the writer was created.
func (w *Writer) Resolve(tag string) (ocispec.Descriptor, error) {
	for _, listed := range w.begun.Manifests {
		if listed.Annotations[ocispec.AnnotationRefName] == tag {
			return listed, nil
		}
	}
	return ocispec.Descriptor{}, class.Errorf(errdefs.ErrNotFound, "tag %q is not in the layout %s", tag, w.store.Dir())
}

// Add adds a manifest to the index. It replaces one with the same names or, if it has no
// names, the same digest.
func (w *Writer) Add(desc ocispec.Descriptor) { w.added = append(w.added, desc) }

// enter adds a manifest to an index as described at Add.
func enter(index *ocispec.Index, desc ocispec.Descriptor) {
	key := func(d ocispec.Descriptor) [3]string {
		names := [3]string{d.Annotations[ocispec.AnnotationRefName], d.Annotations[images.AnnotationImageName]}
		if names == ([3]string{}) {
			names[2] = d.Digest.String()
		}
		return names
	}
	for i, listed := range index.Manifests {
		if key(listed) == key(desc) {
			index.Manifests[i] = desc
			return
		}
	}
	index.Manifests = append(index.Manifests, desc)
}

// layoutPatience is how long to wait for another process that writes an index, which takes
// milliseconds.
const layoutPatience = time.Minute

var errLayoutBusy = errors.New("another process is writing the layout and does not finish")

// Close writes the index: the current one with the added manifests. If it is not called,
// the blobs remain for the next attempt.
func (w *Writer) Close() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write OCI layout %s: %w", w.store.Dir(), err)
		}
	}()
	// Lock the one file that is never replaced.
	name := filepath.Join(w.store.Dir(), ocispec.ImageLayoutFile)
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return class.Errorf(errdefs.ErrFailedPrecondition, "%s is not a file", name)
	}
	lock := flock.New(name, flock.SetPermissions(0o644))
	ctx, cancel := context.WithTimeoutCause(context.Background(), layoutPatience, errLayoutBusy)
	defer cancel()
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return fmt.Errorf("lock %s: %w", name, cmp.Or(context.Cause(ctx), err))
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	if info, err := os.Stat(name); err != nil {
		return err
	} else if info.Size() == 0 {
		data, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
		if err == nil {
			err = os.WriteFile(name, data, 0o644)
		}
		if err != nil {
			return err
		}
	}
	index := ocispec.Index{Versioned: ocispecs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	file := filepath.Join(w.store.Dir(), ocispec.ImageIndexFile)
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		there, err := Open(w.store.Dir())
		if err != nil {
			return err
		}
		index = there.Index()
	}
	for _, desc := range w.added {
		enter(&index, desc)
	}
	data, err := json.Marshal(index)
	if err == nil {
		err = replace.Durable(file, indexPrefix, data, 0o644)
	}
	// This fails while another process is writing, since the folder is then not empty.
	_ = os.Remove(filepath.Join(w.store.Dir(), store.IngestDir))
	return err
}

var _ Repository = (*Layout)(nil)
