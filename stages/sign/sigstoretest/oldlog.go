// SPDX-License-Identifier: Apache-2.0

package sigstoretest

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/sigstore/rekor/pkg/generated/models"
	"github.com/sigstore/rekor/pkg/types"
	_ "github.com/sigstore/rekor/pkg/types/dsse/v0.0.1" // for the entries that are made
	_ "github.com/sigstore/rekor/pkg/types/hashedrekord/v0.0.1"
	"github.com/sigstore/rekor/pkg/util"
	"github.com/transparency-dev/merkle/rfc6962"
)

func (s *Sigstore) oldEntry(body []byte) ([]byte, error) {
	var proposed models.ProposedEntry = &models.DSSE{}
	if bytes.Contains(body, []byte(`"hashedrekord"`)) { // by cosign before version 3
		proposed = &models.Hashedrekord{}
	}
	if err := json.Unmarshal(body, proposed); err != nil {
		return nil, err
	}
	logged, err := s.oldLog(context.Background(), proposed)
	if err != nil {
		return nil, err
	}
	return json.Marshal(logged)
}

// oldLog makes an entry of a Rekor v1 log that has no other entry.
func (s *Sigstore) oldLog(ctx context.Context, proposed models.ProposedEntry) (models.LogEntry, error) {
	entry, err := types.CreateVersionedEntry(proposed)
	if err != nil {
		return nil, err
	}
	body, err := types.CanonicalizeEntry(ctx, entry)
	if err != nil {
		return nil, err
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(body)
	checkpoint, err := util.CreateAndSignCheckpoint(ctx, s.host(), 1, 1, leaf, s.log)
	if err != nil {
		return nil, err
	}
	logID, at, index, size := hex.EncodeToString(s.logID), s.Now().Unix(), int64(0), int64(1)
	promised, err := json.Marshal(map[string]any{"body": body, "integratedTime": at, "logIndex": index, "logID": logID})
	if err != nil {
		return nil, err
	}
	if promised, err = jsoncanonicalizer.Transform(promised); err != nil {
		return nil, err
	}
	promise, err := s.log.SignMessage(bytes.NewReader(promised))
	if err != nil {
		return nil, err
	}
	root, note := hex.EncodeToString(leaf), string(checkpoint)
	return models.LogEntry{hex.EncodeToString(leaf): models.LogEntryAnon{
		Body: body, IntegratedTime: &at, LogIndex: &index, LogID: &logID,
		Verification: &models.LogEntryAnonVerification{
			SignedEntryTimestamp: promise,
			InclusionProof:       &models.InclusionProof{Hashes: []string{}, LogIndex: &index, RootHash: &root, TreeSize: &size, Checkpoint: &note},
		},
	}}, nil
}
