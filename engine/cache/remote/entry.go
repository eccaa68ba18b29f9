// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
)

// The shape of an entry in its repository: a manifest with one layer, the pack, which is also
// the config, because another blob would take two more requests. The manifest's tag is derived
// from the key.
const (
	artifactPrefix = "application/vnd.tape.cache.entry."
	artifactType   = artifactPrefix + "v1"

	packType     = "application/vnd.tape.cache.pack.v1"
	packTypeGzip = packType + "+gzip"

	annotationKey       = "vnd.tape.cache.key"
	annotationExpires   = "vnd.tape.cache.expires"
	annotationSignature = "vnd.tape.cache.signature" // base64, of the statement

	tagPrefix = "tape-cache-"
)

const (
	// maxPack bounds a pack before compression. A larger one takes longer to fetch than to make
	// again.
	maxPack = 64 << 20
	// maxDocuments is how many documents an entry may have.
	maxDocuments = 10_000
	// maxIndex is the size of the largest index of a pack.
	maxIndex = 4 << 20
)

// tagOf returns the tag of a key.
func tagOf(key digest.Digest) (string, error) {
	if err := key.Validate(); err != nil {
		return "", fmt.Errorf("cache key %q: %w: %w", key, err, errdefs.ErrInvalidArgument)
	}
	if key.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("cache key %q is not a SHA-256: %w", key, errdefs.ErrInvalidArgument)
	}
	return tagPrefix + key.Encoded(), nil
}

// keyOf returns the key of a tag, and false if the tag is not that of an entry.
func keyOf(tag string) (digest.Digest, bool) {
	hex, ok := strings.CutPrefix(tag, tagPrefix)
	key := digest.NewDigestFromEncoded(digest.SHA256, hex)
	return key, ok && key.Validate() == nil
}

// statement is what the signature of an entry covers.
type statement struct {
	Key     digest.Digest `json:"key"`
	Pack    digest.Digest `json:"pack"`
	Created time.Time     `json:"created"`
	Expires time.Time     `json:"expires"`
}

// message returns the bytes to sign. They begin with their type, so that no other use of the
// key can produce the signature.
func (s statement) message() ([]byte, error) {
	data, err := engine.MarshalJSON(s)
	return append([]byte(artifactType+"\n"), data...), err
}

// entry is a manifest that was read and checked.
type entry struct {
	statement
	pack ocispec.Descriptor
}

// seal makes the manifest of an entry.
func (s statement) seal(ctx context.Context, pack ocispec.Descriptor, signer signature.Signer) (ocispec.Descriptor, []byte, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: pack, Layers: []ocispec.Descriptor{pack},
		Annotations: map[string]string{
			annotationKey:             s.Key.String(),
			annotationExpires:         s.Expires.Format(time.RFC3339),
			ocispec.AnnotationCreated: s.Created.Format(time.RFC3339),
		},
	}
	if signer != nil {
		message, err := s.message()
		if err != nil {
			return ocispec.Descriptor{}, nil, err
		}
		sig, err := signer.SignMessage(bytes.NewReader(message), options.WithContext(ctx))
		if err != nil {
			return ocispec.Descriptor{}, nil, fmt.Errorf("sign: %w", err)
		}
		m.Annotations[annotationSignature] = base64.StdEncoding.EncodeToString(sig)
	}
	data, err := engine.MarshalJSON(m)
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data, err
}

// open reads the manifest of the entry of a key. With trust, one of the keys must have
// signed it.
func open(data []byte, key digest.Digest, trust []signature.Verifier) (entry, error) {
	var m ocispec.Manifest
	if err := descriptor.Unmarshal(data, &m); err != nil {
		return entry{}, fmt.Errorf("read its manifest: %w", err)
	}
	if m.ArtifactType != artifactType || len(m.Layers) != 1 {
		return entry{}, fmt.Errorf("it is not an entry of this version (%s)", artifactType)
	}
	e := entry{pack: m.Layers[0]}
	switch {
	case e.pack.MediaType != packType && e.pack.MediaType != packTypeGzip:
		return entry{}, fmt.Errorf("its pack is of unknown type %q", e.pack.MediaType)
	case e.pack.Size < 0 || e.pack.Size > maxPack:
		return entry{}, fmt.Errorf("its pack has %d bytes, of at most %d", e.pack.Size, int64(maxPack))
	}
	e.Key, e.Pack = digest.Digest(m.Annotations[annotationKey]), e.pack.Digest
	if e.Key != key {
		return entry{}, fmt.Errorf("it belongs to the key %q", e.Key)
	}
	var err error
	if e.Created, err = time.Parse(time.RFC3339, m.Annotations[ocispec.AnnotationCreated]); err != nil {
		return entry{}, errors.New("it does not state when it was made")
	}
	if e.Expires, err = time.Parse(time.RFC3339, m.Annotations[annotationExpires]); err != nil {
		return entry{}, errors.New("it does not state when it expires")
	}
	if len(trust) == 0 {
		return e, nil
	}
	sig, err := base64.StdEncoding.DecodeString(m.Annotations[annotationSignature])
	if err != nil || len(sig) == 0 {
		return entry{}, errors.New("it is not signed")
	}
	message, err := e.message()
	if err != nil {
		return entry{}, err
	}
	for _, key := range trust {
		if key.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil {
			return e, nil
		}
	}
	return entry{}, errors.New("it is not signed by a trusted key")
}

// isEntry reports whether a manifest is that of an entry, of this or another version.
func isEntry(data []byte) bool {
	var m ocispec.Manifest
	return descriptor.Unmarshal(data, &m) == nil && strings.HasPrefix(m.ArtifactType, artifactPrefix)
}

// packed is a document in the index of a pack.
type packed struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// pack makes one blob of documents: a line that lists them, sorted by name, and their bytes
// in that order. It is compressed if that makes it smaller by a tenth.
func pack(documents map[string][]byte) (ocispec.Descriptor, []byte, error) {
	if len(documents) > maxDocuments {
		return ocispec.Descriptor{}, nil, fmt.Errorf("%d documents are more than the %d of an entry: %w", len(documents), maxDocuments, errdefs.ErrOutOfRange)
	}
	index := []packed{}
	var size int64
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		index = append(index, packed{name, int64(len(documents[name]))})
		size += int64(len(documents[name]))
	}
	line, err := engine.MarshalJSON(index)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	if size += int64(len(line)) + 1; size > maxPack || len(line) > maxIndex {
		return ocispec.Descriptor{}, nil, fmt.Errorf("%d bytes are more than the %d of an entry: %w", size, int64(maxPack), errdefs.ErrOutOfRange)
	}
	data := make([]byte, 0, size)
	data = append(append(data, line...), '\n')
	for _, p := range index {
		data = append(data, documents[p.Name]...)
	}
	mediaType := packType
	var small bytes.Buffer
	w := gzip.NewWriter(&small)
	if _, err = w.Write(data); err == nil {
		err = w.Close()
	}
	if err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("compress: %w", err)
	}
	if small.Len() < len(data)*9/10 {
		data, mediaType = small.Bytes(), packTypeGzip
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data, nil
}

// unpack returns the documents of a pack.
func unpack(mediaType string, data []byte) (map[string][]byte, error) {
	if mediaType == packTypeGzip {
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err == nil {
			data, err = io.ReadAll(io.LimitReader(r, maxPack+1))
		}
		if err != nil {
			return nil, fmt.Errorf("its pack does not decompress: %w", err)
		}
	}
	if len(data) > maxPack {
		return nil, fmt.Errorf("its pack has more than %d bytes", int64(maxPack))
	}
	line, err := bufio.NewReader(io.LimitReader(bytes.NewReader(data), maxIndex+1)).ReadBytes('\n')
	if err != nil {
		return nil, errors.New("its pack has no index")
	}
	var index []packed
	if err := descriptor.UnmarshalUpTo(line, 2*maxDocuments, &index); err != nil {
		return nil, fmt.Errorf("read the index of its pack: %w", err)
	}
	if len(index) > maxDocuments {
		return nil, fmt.Errorf("it has %d documents, of at most %d", len(index), maxDocuments)
	}
	data = data[len(line):]
	documents := make(map[string][]byte, len(index))
	for i, p := range index {
		switch {
		case p.Size < 0 || p.Size > int64(len(data)):
			return nil, fmt.Errorf("document %q is incomplete", p.Name)
		case i > 0 && p.Name <= index[i-1].Name:
			return nil, fmt.Errorf("document %q is not in order", p.Name)
		}
		documents[p.Name] = data[:p.Size:p.Size]
		data = data[p.Size:]
	}
	if len(data) > 0 {
		return nil, fmt.Errorf("its pack has %d more bytes than documents", len(data))
	}
	return documents, nil
}
