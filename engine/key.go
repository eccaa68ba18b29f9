// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// nodeKey returns the key under which the outputs of a Keyer are kept: its own key together
// with the name and digest of every input. The key does not depend on the node's name or on
// what made the inputs, so an output that is the same as last time stops the rebuild of
// everything below it.
func nodeKey(stage digest.Digest, inputs map[string]ocispec.Descriptor) (digest.Digest, error) {
	definition := struct {
		Version int           `json:"version"` // of this encoding
		Stage   digest.Digest `json:"stage"`
		Inputs  [][2]string   `json:"inputs"` // name, digest
	}{Version: 1, Stage: stage}
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		definition.Inputs = append(definition.Inputs, [2]string{name, inputs[name].Digest.String()})
	}
	data, err := MarshalJSON(definition)
	if err != nil {
		return "", err
	}
	return digest.FromBytes(data), nil
}
