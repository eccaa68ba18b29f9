// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/files"
)

// Blob is a part of the artifact with its descriptor, as listed by its parent.
type Blob struct {
	Desc ocispec.Descriptor
	Data []byte
}

// NewBlob returns a blob of data.
func NewBlob(mediaType string, data []byte) Blob {
	return Blob{
		Desc: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))},
		Data: data,
	}
}

// Put writes the blobs into the store, in their order.
func Put(ctx context.Context, store content.Ingester, blobs ...Blob) error {
	for _, b := range blobs {
		if _, err := engine.Put(ctx, store, b.Desc.MediaType, b.Data); err != nil {
			return err
		}
	}
	return nil
}

// Empty returns the config of manifests that need none.
func Empty() Blob { return NewBlob(ocispec.MediaTypeEmptyJSON, []byte("{}")) }

// gzipLevel is a compromise: 12 MB of manifests take 0.1 s, and are 5 % larger than at the
// highest level.
const gzipLevel = 6

// ContentLayer packs files as the layer of a content manifest. The same files give the same
// bytes: the version of the compressor is pinned, and a test checks its output.
func ContentLayer(list []files.File) (Blob, error) {
	if err := files.ContentLimits().Check(list); err != nil {
		return Blob{}, fmt.Errorf("content: %w", err)
	}
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzipLevel)
	if err != nil {
		return Blob{}, fmt.Errorf("compress content: %w", err)
	}
	w.ModTime, w.OS = time.Unix(0, 0), 255
	diffID := digest.Canonical.Digester()
	if err := files.Write(io.MultiWriter(w, diffID.Hash()), list); err != nil {
		return Blob{}, err
	}
	if err := w.Close(); err != nil {
		return Blob{}, fmt.Errorf("compress content: %w", err)
	}
	layer := NewBlob(ocispec.MediaTypeImageLayerGzip, out.Bytes())
	layer.Desc.Annotations = map[string]string{
		ocispec.AnnotationTitle: ".",
		annotationUnpack:        "true",
		annotationUnpackDigest:  diffID.Digest().String(),
	}
	return layer, nil
}

// ContentManifest returns the manifest of the layer. It has no subject, because Argo CD would
// follow it. Its annotations are those of the root, and how to deploy it.
func ContentManifest(layer ocispec.Descriptor, annotations map[string]string) (Blob, error) {
	all := map[string]string{}
	maps.Copy(all, annotations)
	all[annotationInterpreter] = kubectlApply
	return NewManifest(ocispec.Manifest{
		ArtifactType: ArtifactTypeContent,
		Layers:       []ocispec.Descriptor{layer},
		Annotations:  all,
	})
}

// Attestations returns the statements about the content as blobs, followed by their manifest,
// which has one layer for each. The shape is BuildKit's. A statement that tape could not read
// is an error.
func Attestations(content ocispec.Descriptor, statements []Statement) ([]Blob, error) {
	m := ocispec.Manifest{
		ArtifactType: ArtifactTypeAttestations,
		Layers:       make([]ocispec.Descriptor, len(statements)),
		Subject:      &ocispec.Descriptor{MediaType: content.MediaType, Digest: content.Digest, Size: content.Size},
	}
	out := make([]Blob, len(statements), len(statements)+1)
	left := statementRoom{maxStatements, maxStatementObjects}
	for i, s := range statements {
		blob, err := s.Blob()
		if err == nil {
			err = left.take(blob.Desc.Size)
		}
		if err == nil {
			err = left.decode(blob.Data)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: make several applications of this one", err)
		}
		m.Layers[i], out[i] = blob.Desc, blob
	}
	made, err := NewManifest(m)
	if err == nil {
		err = left.take(made.Desc.Size)
	}
	return append(out, made), err
}

// NewManifest completes a manifest without a config: it sets the version, the media type and the
// empty config.
func NewManifest(m ocispec.Manifest) (Blob, error) {
	m.Versioned = specs.Versioned{SchemaVersion: 2}
	m.MediaType = ocispec.MediaTypeImageManifest
	m.Config = Empty().Desc
	data, err := engine.MarshalJSON(m)
	if err != nil {
		return Blob{}, err
	}
	b := NewBlob(m.MediaType, data)
	b.Desc.ArtifactType = m.ArtifactType
	return b, nil
}

// PutSignatures writes the output of sign for push: an index of the manifests that carry
// signatures, which thereby belong to the output.
func PutSignatures(ctx context.Context, store content.Ingester, signatures []ocispec.Descriptor) (ocispec.Descriptor, error) {
	return engine.PutJSON(ctx, store, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: append([]ocispec.Descriptor{}, signatures...),
	})
}

// Signatures reads what [PutSignatures] wrote.
func Signatures(ctx context.Context, store content.Provider, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var index ocispec.Index
	err := engine.GetJSON(ctx, store, desc, ocispec.MediaTypeImageIndex, &index)
	return index.Manifests, err
}
