// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/stages/files"
)

// Limits of what is read, in bytes. Registries accept manifests of 4 MiB; the others are far
// above anything known.
const (
	maxManifest = 4 << 20
	maxLayer    = 256 << 20 // of the content, compressed
	maxBundle   = 4 << 20

	// maxStatements bounds all statements of an application with their manifests; those of
	// 10,000 objects have about 10 MB. They are decoded as a whole, and maxStatementObjects
	// bounds the memory of that.
	maxStatements       = 64 << 20
	maxStatementObjects = 1 << 19
	// leastStatement is the minimum that a statement counts for, because each is requested.
	leastStatement = 4 << 10
)

// FormatOriginal is the format of the original tape, which can be read.
const FormatOriginal = "v1alpha1"

// Application is an open taped application. Its methods read from the source that it was opened
// from, and may be called concurrently.
type Application struct {
	// Format is [Format] or [FormatOriginal].
	Format string
	Root   ocispec.Descriptor
	Index  ocispec.Index
	// Content describes the content manifest. Manifest is the manifest itself, and Layer its
	// layer.
	Content  ocispec.Descriptor
	Manifest ocispec.Manifest
	Layer    ocispec.Descriptor

	source layout.Repository
}

// Open opens the application at a tag or digest. If there is something else, or an application
// of an unknown format, the error says what it is; the caller adds the reference. Children with
// an unknown role are ignored.
func Open(ctx context.Context, source layout.Repository, tagOrDigest string) (*Application, error) {
	root, err := source.Resolve(ctx, tagOrDigest)
	if err != nil {
		return nil, err
	}
	return OpenRoot(ctx, source, root)
}

// OpenRoot is Open for a manifest that was resolved.
func OpenRoot(ctx context.Context, source layout.Repository, root ocispec.Descriptor) (*Application, error) {
	data, err := engine.Read(ctx, source, root, maxManifest)
	if err != nil {
		return nil, err
	}
	a := &Application{Root: root, source: source}
	if a.Format, err = formatOf(root, data, &a.Index); err != nil {
		return nil, err
	}
	if err := a.checkTags(); err != nil {
		return nil, err
	}
	if err := a.openContent(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// IsApplication reports whether an index says that it is an application, of any format.
func IsApplication(index ocispec.Index) bool {
	_, ok := index.Annotations[AnnotationFormat]
	return ok || slices.ContainsFunc(index.Manifests, isOriginalContent)
}

// formatOf returns the format of a root.
func formatOf(desc ocispec.Descriptor, data []byte, index *ocispec.Index) (string, error) {
	if err := descriptor.Unmarshal(data, index); err != nil {
		return "", fmt.Errorf("it is not a taped application: %w", err)
	}
	for _, child := range index.Manifests {
		if err := child.Digest.Validate(); err != nil {
			return "", fmt.Errorf("it lists %q: %w", child.Digest, err)
		}
	}
	switch format, ok := index.Annotations[AnnotationFormat]; {
	case ok && format == Format:
		return Format, nil
	case ok:
		return "", fmt.Errorf("it is a taped application of format %q, and this tape reads %s: a newer tape is needed", format, Format)
	case slices.ContainsFunc(index.Manifests, isOriginalContent):
		return FormatOriginal, nil
	}
	return "", fmt.Errorf("it is not a taped application, but %s", whatIs(desc, data))
}

func (a *Application) openContent(ctx context.Context) error {
	layerType := ocispec.MediaTypeImageLayerGzip
	if a.Format == FormatOriginal {
		layerType = originalContent
	}
	contents := a.Children(RoleContent)
	if len(contents) != 1 {
		return fmt.Errorf("it lists %d contents, not one", len(contents))
	}
	a.Content = contents[0]
	data, err := engine.Read(ctx, a.source, a.Content, maxManifest)
	if err != nil {
		return fmt.Errorf("content: %w", err)
	}
	if err := descriptor.Unmarshal(data, &a.Manifest); err != nil {
		return fmt.Errorf("content manifest %s: %w", a.Content.Digest, err)
	}
	if n := len(a.Manifest.Layers); n != 1 {
		return fmt.Errorf("content manifest %s has %d layers, not one", a.Content.Digest, n)
	}
	if a.Layer = a.Manifest.Layers[0]; a.Layer.MediaType != layerType {
		return fmt.Errorf("content is %s, not %s", a.Layer.MediaType, layerType)
	}
	return nil
}

// Children returns the root's children of one role, in its order.
func (a *Application) Children(role string) []ocispec.Descriptor {
	original := map[string]string{originalContent: RoleContent, originalAttestations: RoleAttestations}
	var out []ocispec.Descriptor
	for _, child := range a.Index.Manifests {
		has := child.Annotations[AnnotationRole]
		if a.Format == FormatOriginal {
			has = original[child.ArtifactType]
		}
		if has == role {
			out = append(out, child)
		}
	}
	return out
}

// Files reads the content.
func (a *Application) Files(ctx context.Context) ([]files.File, error) {
	var list []files.File
	err := a.EachFile(ctx, func(f files.File) error {
		list = append(list, f)
		return nil
	})
	return list, err
}

// EachFile is Files for files that need not be in memory together: it calls visit with each.
// They match the digest of the content only if EachFile returns nil.
func (a *Application) EachFile(ctx context.Context, visit func(files.File) error) error {
	return a.unpack(ctx, func(tar io.Reader) error { return a.visit(tar, visit) })
}

// CanonicalFiles is Files for an archive that contains nothing else: its bytes must be those
// that [files.Write] makes from its files.
func (a *Application) CanonicalFiles(ctx context.Context) (list []files.File, err error) {
	err = a.unpack(ctx, func(tar io.Reader) error {
		found, canonical := sha256.New(), sha256.New()
		tar = io.TeeReader(tar, found)
		err := a.visit(tar, func(f files.File) error {
			list = append(list, f)
			return nil
		})
		if err == nil {
			_, err = io.Copy(io.Discard, tar) // after the end
		}
		if err == nil {
			err = files.Write(canonical, list)
		}
		if err == nil && !bytes.Equal(found.Sum(nil), canonical.Sum(nil)) {
			err = fmt.Errorf("the archive is not in canonical form, or contains more than its %d files", len(list))
		}
		return err
	})
	return list, err
}

// unpack calls do with the tar of the content, which ends after the largest size that content
// may have. The digest of the layer is verified when do has returned, so the layer is never in
// memory as a whole.
func (a *Application) unpack(ctx context.Context, do func(tar io.Reader) error) error {
	err := descriptor.Check(a.Layer)
	if err == nil && a.Layer.Size > maxLayer {
		err = fmt.Errorf("%s has %d bytes, more than the %d allowed", a.Layer.Digest, a.Layer.Size, maxLayer)
	}
	if err != nil {
		return fmt.Errorf("read content: %w", err)
	}
	body, err := a.source.Blob(ctx, a.Layer)
	if err != nil {
		return fmt.Errorf("read content: %w", err)
	}
	defer body.Close()
	verifier := a.Layer.Digest.Verifier()
	layer := io.TeeReader(body, verifier)
	limits := files.ContentLimits()
	// What the tar reader skips, such as headers of its own, is bounded as well.
	tar := &io.LimitedReader{N: limits.Bytes + int64(limits.Files)*2048}
	unpacked, err := gzip.NewReader(layer)
	if err == nil {
		tar.R = unpacked
		if err = do(tar); err != nil && tar.N <= 0 { // it ended in headers
			err = refused{fmt.Errorf("archive unpacks to more than %d bytes", limits.Bytes)}
		}
	} else {
		err = refused{err}
	}
	// If the layer is damaged, that is the cause of the error.
	if _, broken := io.Copy(io.Discard, layer); broken != nil {
		return fmt.Errorf("read content %s: %w", a.Layer.Digest, broken)
	}
	if !verifier.Verified() {
		return fmt.Errorf("read content: %s came with another digest: %w", a.Layer.Digest, errdefs.ErrDataLoss)
	}
	if err != nil {
		return fmt.Errorf("content %s: %w", a.Layer.Digest, err)
	}
	return nil
}

// visit calls visit with the files of a tar. Their names never lead outside.
func (a *Application) visit(tar io.Reader, visit func(files.File) error) error {
	var stopped error
	err := files.Each(tar, files.ContentLimits(), func(f files.File) error {
		if stopped = a.checkContent(f.Name); stopped == nil {
			stopped = visit(f)
		}
		return stopped
	})
	if err != nil && stopped == nil {
		err = refused{err}
	}
	return err
}

// Statements reads the statements about the content.
func (a *Application) Statements(ctx context.Context) ([]Statement, error) {
	var out []Statement
	left := statementRoom{maxStatements, maxStatementObjects}
	for _, child := range a.Children(RoleAttestations) {
		data, err := left.read(ctx, a.source, child, maxManifest)
		if err != nil {
			return nil, fmt.Errorf("read statements: %w", err)
		}
		var m ocispec.Manifest
		if err := descriptor.Unmarshal(data, &m); err != nil {
			return nil, fmt.Errorf("attestation manifest %s: %w", child.Digest, err)
		}
		for _, layer := range m.Layers {
			if layer.MediaType != MediaTypeStatement && layer.MediaType != originalAttestations {
				continue
			}
			data, err := left.read(ctx, a.source, layer, maxStatements)
			if err != nil {
				return nil, fmt.Errorf("read statements: %w", err)
			}
			if layer.MediaType == originalAttestations {
				data, err = left.unpack(data)
			}
			if err == nil {
				err = left.decode(data)
			}
			var list []Statement
			if err == nil {
				list, err = parseStatements(data)
			}
			if err != nil {
				return nil, fmt.Errorf("statements %s: %w", layer.Digest, err)
			}
			out = append(out, list...)
		}
	}
	return out, nil
}

// statementRoom is the remaining space for statements.
type statementRoom struct{ bytes, objects int }

func (r *statementRoom) take(bytes int64) error {
	if r.bytes -= int(max(min(bytes, maxStatements+1), leastStatement)); r.bytes < 0 {
		return fmt.Errorf("the statements have more than %d bytes: %w", maxStatements, errdefs.ErrInvalidArgument)
	}
	return nil
}

func (r *statementRoom) read(ctx context.Context, source content.Provider, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := r.take(desc.Size); err != nil {
		return nil, err
	}
	return engine.Read(ctx, source, desc, limit)
}

func (r *statementRoom) unpack(data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if data, err = io.ReadAll(io.LimitReader(z, int64(r.bytes)+1)); err == nil {
		err = r.take(int64(len(data)))
	}
	return data, err
}

// decode accounts for the memory of decoded JSON.
func (r *statementRoom) decode(data []byte) error {
	if r.objects -= descriptor.Objects(data); r.objects < 0 {
		return fmt.Errorf("the statements have more than %d objects: %w", maxStatementObjects, errdefs.ErrInvalidArgument)
	}
	return nil
}

// parseStatements parses consecutive JSON documents.
func parseStatements(data []byte) ([]Statement, error) {
	var out []Statement
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var raw json.RawMessage
		switch err := dec.Decode(&raw); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, err
		}
		var s Statement
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, err
		}
		if !strings.HasPrefix(s.Type, statementTypePrefix) {
			return nil, fmt.Errorf("a document of type %q is not an in-toto statement", s.Type)
		}
		s.raw = raw
		out = append(out, s)
	}
}

// WriteStatements writes the statements as JSON lines, with the original bytes of those that
// are one line.
func WriteStatements(w io.Writer, list []Statement) error {
	for _, s := range list {
		var line bytes.Buffer
		if err := json.Compact(&line, s.raw); err != nil {
			return err
		}
		line.WriteByte('\n')
		if _, err := w.Write(line.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// ReadBundle reads the Sigstore bundle in a referrer, and what its manifest says that it is
// about; nil if it has none. The manifest decides, because not every registry reports the type
// of a referrer.
func ReadBundle(ctx context.Context, source content.Provider, referrer ocispec.Descriptor) (bundle []byte, subject digest.Digest, err error) {
	data, err := engine.Read(ctx, source, referrer, maxManifest)
	if err != nil {
		return nil, "", err
	}
	var m ocispec.Manifest
	if descriptor.Unmarshal(data, &m) != nil || len(m.Layers) != 1 || m.Layers[0].MediaType != MediaTypeBundle {
		return nil, "", nil
	}
	if m.Subject != nil {
		subject = m.Subject.Digest
	}
	bundle, err = engine.Read(ctx, source, m.Layers[0], maxBundle)
	return bundle, subject, err
}
