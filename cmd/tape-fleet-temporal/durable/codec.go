// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	common "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"

	"github.com/taped-dev/tape/internal/regular"
)

const (
	// sealedEncoding is the encoding of an encrypted payload. keyField is the metadata field with
	// the ID of its key.
	sealedEncoding = "binary/vnd.tape.aes-256-gcm"
	keyField       = "tape-key"

	keySize = 32
)

// sealing encrypts payloads with AES-256-GCM, each with a random nonce: only holders of the key
// can read what Temporal stores.
type sealing struct {
	aead cipher.AEAD
	id   []byte // of the key
}

// readSecret reads the value of a flag: the content of a file, or of a variable for env://NAME.
func readSecret(from string) (string, error) {
	if name, ok := strings.CutPrefix(from, "env://"); ok {
		if value := os.Getenv(name); value != "" {
			return value, nil
		}
		return "", fmt.Errorf("the variable %q is not set", name)
	}
	data, err := regular.ReadArgument(from)
	return strings.TrimSpace(string(data)), err
}

// newSealing returns a codec with a hexadecimal key.
func newSealing(text string) (*sealing, error) {
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != keySize { // the error would reveal the key
		return nil, fmt.Errorf("the key is not %d bytes in hex, as 'openssl rand -hex %d' makes them", keySize, keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte("tape payload key "), key...))
	return &sealing{aead: aead, id: []byte(hex.EncodeToString(sum[:4]))}, nil
}

// Encode implements [converter.PayloadCodec].
func (s *sealing) Encode(payloads []*common.Payload) ([]*common.Payload, error) {
	out := make([]*common.Payload, len(payloads))
	for i, p := range payloads {
		open, err := proto.Marshal(p)
		if err != nil {
			return nil, err
		}
		nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(open)+s.aead.Overhead())
		_, _ = rand.Read(nonce) // Read never fails
		out[i] = &common.Payload{
			Metadata: map[string][]byte{converter.MetadataEncoding: []byte(sealedEncoding), keyField: s.id},
			Data:     s.aead.Seal(nonce, nonce, open, s.id),
		}
	}
	return out, nil
}

// Decode implements [converter.PayloadCodec]. It rejects payloads that are not encrypted,
// because their writer does not have the key.
func (s *sealing) Decode(payloads []*common.Payload) ([]*common.Payload, error) {
	out := make([]*common.Payload, len(payloads))
	for i, p := range payloads {
		if string(p.GetMetadata()[converter.MetadataEncoding]) != sealedEncoding {
			return nil, errors.New("the run has data that is not encrypted, although a payload key is given: give tape and every worker the same key")
		}
		if !bytes.Equal(p.GetMetadata()[keyField], s.id) {
			return nil, errors.New("the run has data encrypted with another payload key: give tape and every worker the same key")
		}
		n := s.aead.NonceSize()
		if len(p.GetData()) < n {
			return nil, errors.New("data from Temporal is damaged")
		}
		open, err := s.aead.Open(nil, p.GetData()[:n], p.GetData()[n:], s.id)
		if err != nil {
			return nil, errors.New("data from Temporal is damaged")
		}
		out[i] = &common.Payload{}
		if err := proto.Unmarshal(open, out[i]); err != nil {
			return nil, fmt.Errorf("decode data from Temporal: %w", err)
		}
	}
	return out, nil
}
