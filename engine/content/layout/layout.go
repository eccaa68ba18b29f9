// SPDX-License-Identifier: Apache-2.0

// Package layout reads and writes OCI image layouts (image-spec 1.1, image-layout.md),
// as folders and as archives.
//
// The sizes of all blobs of an archive are known before the first byte moves, so the
// place of each in the file is too: blobs are fetched side by side and written where
// they belong, and after an interruption the ones that are there and whole are not
// fetched again. Entries are sorted, and nothing in the file depends on when, where or
// by whom it was written: same index, same bytes.
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
	"github.com/containerd/errdefs"
	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/internal/blob"
	"github.com/taped-dev/tape/engine/content/internal/class"
	"github.com/taped-dev/tape/engine/content/store"
)

const (
	// maxIndex bounds index.json, which lists what registries keep as tags: a
	// thousand images take about 500 KB.
	maxIndex = 16 << 20

	// indexPrefix begins the name of an index.json that is being written.
	indexPrefix = "." + ocispec.ImageIndexFile + "-"

	// annotationImageName is how containerd names the images of a layout: in full.
	annotationImageName = "io.containerd.image.name"
)

// Repository is a place that manifests and blobs are read from: a repository in a
// registry, a layout, an archive, an image in Docker or containerd, or the store of a
// run. What it gives has the digest that it was asked for.
type Repository interface {
	content.Provider
	// Blob reads a blob from its beginning.
	Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// Resolve finds the manifest of a tag or digest.
	Resolve(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, error)
	// Referrers lists the manifests whose subject has the digest, whatever
	// their artifact type.
	Referrers(ctx context.Context, dgst digest.Digest) ([]ocispec.Descriptor, error)
}

// Layout is an OCI image layout (image-spec 1.1, image-layout.md), a folder or a
// tar of one, opened for reading. What it says is not believed: a blob is hashed
// before it is read. Its methods may be called concurrently.
type Layout struct {
	name  string // the path, for errors
	index ocispec.Index
	data  []byte // of index.json
	blobs blobs
	sound blob.Sound

	mu        sync.Mutex
	referrers map[digest.Digest][]ocispec.Descriptor // by subject; nil until asked for
}

// blobs is where a layout's blobs lie.
type blobs interface {
	// open fails with fs.ErrNotExist for what is not there.
	open(dgst digest.Digest) (*blob.Reader, error)
	list() ([]digest.Digest, error)
	io.Closer
}

// Open opens a folder. The caller closes the layout.
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

// openLayout reads what a layout says of itself.
func openLayout(name string, blobs blobs, read func(name string, limit int64) ([]byte, error)) (*Layout, error) {
	data, err := read(ocispec.ImageLayoutFile, descriptor.MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, class.Errorf(errdefs.ErrInvalidArgument, "it has no file %s", ocispec.ImageLayoutFile)
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
		return nil, fmt.Errorf("read %s, is it whole: %w", ocispec.ImageIndexFile, err)
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

// Close closes the layout. What was read from it stays usable for a folder, and
// does not for an archive.
func (l *Layout) Close() error { return l.blobs.Close() }

// Path is the folder or the file that was opened.
func (l *Layout) Path() string { return l.name }

// Index is the layout's index.json.
func (l *Layout) Index() ocispec.Index { return l.index }

// IndexData is the layout's index.json as it was read.
func (l *Layout) IndexData() []byte { return l.data }

// Archive is the tar that the layout was read from; ok is false for a folder.
func (l *Layout) Archive() (tar *io.SectionReader, ok bool) {
	a, ok := l.blobs.(*archive)
	if !ok {
		return nil, false
	}
	return io.NewSectionReader(a.file, 0, a.info.Size()), true
}

// Unexpected is what an archive has beside the files of a layout, and what in it some
// programs read otherwise than others, such as bytes behind its end. Nothing of it is
// read. Folders, times, owners and what macOS adds are not told of; a folder has none.
func (l *Layout) Unexpected() []string {
	if a, ok := l.blobs.(*archive); ok {
		return a.unexpected
	}
	return nil
}

// Blobs lists every blob there is, sorted, whether anything names it or not.
func (l *Layout) Blobs() ([]digest.Digest, error) {
	list, err := l.blobs.list()
	if err != nil {
		return nil, fmt.Errorf("list blobs of %s: %w", l.name, err)
	}
	slices.Sort(list)
	return list, nil
}

// ReaderAt implements [content.Provider]. The whole blob is hashed first, once.
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

// Blob reads a blob from its beginning and verifies it on the way: the last
// bytes come with an error where the digest is another. It suits large blobs,
// which ReaderAt reads twice.
func (l *Layout) Blob(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := l.open(desc)
	if err != nil {
		return nil, err
	}
	return &verifyingReader{layout: l, dgst: desc.Digest, verifier: desc.Digest.Verifier(), r: r}, nil
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

// Resolve finds a manifest by digest, or by its tag: the annotation
// org.opencontainers.image.ref.name, else the tag of a whole name in it or in
// io.containerd.image.name. With "" it finds the only manifest that has a
// ref.name, or the only one there is.
func (l *Layout) Resolve(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, error) {
	if strings.Contains(tagOrDigest, ":") {
		return l.resolveDigest(ctx, tagOrDigest)
	}
	rules := []func(ocispec.Descriptor) bool{
		func(d ocispec.Descriptor) bool { return d.Annotations[ocispec.AnnotationRefName] == tagOrDigest },
		func(d ocispec.Descriptor) bool { return tagOf(d.Annotations[ocispec.AnnotationRefName]) == tagOrDigest },
		func(d ocispec.Descriptor) bool { return tagOf(d.Annotations[annotationImageName]) == tagOrDigest },
	}
	if tagOrDigest == "" {
		rules = []func(ocispec.Descriptor) bool{
			func(d ocispec.Descriptor) bool { return d.Annotations[ocispec.AnnotationRefName] != "" },
			func(ocispec.Descriptor) bool { return true },
		}
	}
	for _, rule := range rules {
		var found []ocispec.Descriptor
		for _, desc := range l.index.Manifests {
			if rule(desc) && !slices.ContainsFunc(found, func(d ocispec.Descriptor) bool { return d.Digest == desc.Digest }) {
				found = append(found, desc)
			}
		}
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1 && tagOrDigest == "":
			return ocispec.Descriptor{}, class.Errorf(errdefs.ErrInvalidArgument, "%s holds %d manifests, name a tag or digest, %s", l.name, len(found), l.has())
		case len(found) > 1:
			return ocispec.Descriptor{}, class.Errorf(errdefs.ErrInvalidArgument, "%s has %d manifests of tag %q, name a digest", l.name, len(found), tagOrDigest)
		}
	}
	if tagOrDigest == "" {
		return ocispec.Descriptor{}, class.Errorf(errdefs.ErrNotFound, "%s holds no manifest", l.name)
	}
	return ocispec.Descriptor{}, class.Errorf(errdefs.ErrNotFound, "%s has no tag %q, %s", l.name, tagOrDigest, l.has())
}

// resolveDigest knows what is listed, and looks at what is not.
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
		return ocispec.Descriptor{}, class.Errorf(errdefs.ErrInvalidArgument, "blob %s in %s is no manifest", dgst, l.name)
	}
	desc.Size, desc.ArtifactType = size, m.ArtifactType
	return desc, nil
}

// has lists the tags, for an error.
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

// tagOf is the tag of a whole image name; "" where it has none.
func tagOf(name string) string {
	name, _, _ = strings.Cut(name, "@")
	i := strings.LastIndexByte(name, ':')
	if i < 0 || strings.Contains(name[i:], "/") {
		return ""
	}
	return name[i+1:]
}

// Referrers implements [Repository]. It looks at every manifest that can be
// reached from index.json, by way of indexes; what is missing (a layout may
// leave platforms out) is passed over. The descriptors are as a registry gives
// them, with artifact type and annotations of the manifest, sorted by digest.
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
		// What is of a type that is not known may be about something all the same.
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

// verifyingReader hashes as it reads.
type verifyingReader struct {
	layout   *Layout
	dgst     digest.Digest
	verifier digest.Verifier
	r        *blob.Reader
}

func (v *verifyingReader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	_, _ = v.verifier.Write(p[:n])
	if errors.Is(err, io.EOF) && !v.verifier.Verified() {
		err = v.layout.damaged(v.dgst, blob.ErrWrongDigest)
	}
	return n, err
}

func (v *verifyingReader) Close() error { return v.r.Close() }

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

// openRegular opens a file, and nothing that would block or never end.
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

// readLimited reads all of r, or fails where that is more than limit bytes.
func readLimited(r io.Reader, limit int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return b.Bytes(), err
}

// Writer writes an OCI image layout into a folder: blobs by way of
// [content.Ingester], then, with Close, the index that names them. Until then
// the folder is as good as it was: new blobs that nothing names. Several writers,
// of several processes, may have one folder: what each adds is kept.
type Writer struct {
	store *store.Store
	begun ocispec.Index // what the layout listed then
	added []ocispec.Descriptor
}

// Create begins a layout in a folder that is new, empty, or a layout
// already; what that lists stays listed.
func Create(dir string) (*Writer, error) {
	w := &Writer{}
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("create OCI layout: %w", err)
	}
	switch {
	case slices.ContainsFunc(files, func(f fs.DirEntry) bool { return f.Name() == ocispec.ImageIndexFile }):
		// What is wrong with it is known before anything is written.
		l, err := Open(dir)
		if err != nil {
			return nil, err
		}
		w.begun = l.Index()
	case len(files) > 0 && !slices.ContainsFunc(files, madeByWriter):
		return nil, class.Errorf(errdefs.ErrFailedPrecondition, "create OCI layout %s: the folder holds other files", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create OCI layout: %w", err)
	}
	if w.store, err = store.OpenBlobs(dir); err != nil {
		return nil, fmt.Errorf("create OCI layout %s: %w", dir, err)
	}
	return w, nil
}

// madeByWriter reports whether a writer made a file, or left it behind: another one may
// be at work in the folder.
func madeByWriter(f fs.DirEntry) bool {
	switch name := f.Name(); name {
	case ocispec.ImageBlobsDir, store.IngestDir, ocispec.ImageLayoutFile:
		return true
	default:
		return strings.HasPrefix(name, store.ProbePrefix) || strings.HasPrefix(name, indexPrefix)
	}
}

// Store takes the blobs, and tells which are there.
func (w *Writer) Store() content.Store { return w.store }

// Resolve finds the manifest that was listed under a tag when the writer began.
func (w *Writer) Resolve(tag string) (ocispec.Descriptor, error) {
	for _, listed := range w.begun.Manifests {
		if listed.Annotations[ocispec.AnnotationRefName] == tag {
			return listed, nil
		}
	}
	return ocispec.Descriptor{}, class.Errorf(errdefs.ErrNotFound, "tag %q is not in the layout %s", tag, w.store.Dir())
}

// Add lists a manifest. One that is listed under the same names, or without any
// and has the same digest, is replaced.
func (w *Writer) Add(desc ocispec.Descriptor) { w.added = append(w.added, desc) }

// enter is Add into an index.
func enter(index *ocispec.Index, desc ocispec.Descriptor) {
	key := func(d ocispec.Descriptor) [3]string {
		names := [3]string{d.Annotations[ocispec.AnnotationRefName], d.Annotations[annotationImageName]}
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

// layoutPatience is how long another process may take to write an index, which it
// does in milliseconds.
const layoutPatience = time.Minute

var errLayoutBusy = errors.New("another process writes the layout and does not end")

// Close writes the index: what it lists by then, and what was added. A layout that
// is not closed has its blobs, for the next attempt.
func (w *Writer) Close() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write OCI layout %s: %w", w.store.Dir(), err)
		}
	}()
	// The lock is on the one file that is never replaced.
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
		err = replaceFile(file, indexPrefix, data)
	}
	// Only where no other process is writing is it empty.
	_ = os.Remove(filepath.Join(w.store.Dir(), store.IngestDir))
	return err
}

// replaceFile writes beside and renames.
func replaceFile(name, prefix string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), prefix+"*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

var _ Repository = (*Layout)(nil)
