// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"
)

// Summary is the predicate of PredicateSummary: that a manifest was verified, or failed to
// be (https://slsa.dev/spec/v1.2/verification_summary). Its bundle is attached to the
// manifest, and made by another key than that which signed the root.
type Summary struct {
	Verifier     SummaryVerifier `json:"verifier"`
	TimeVerified time.Time       `json:"timeVerified"`
	ResourceURI  string          `json:"resourceUri"`
	// Policy is the policy of the verification: its name, its digest and, as annotations, the
	// digests of the files that it names.
	Policy             Resource `json:"policy"`
	VerificationResult string   `json:"verificationResult"`
	VerifiedLevels     []string `json:"verifiedLevels"`
	// DependencyLevels count the images of a root by their levels. They are numbers, but
	// other programs have written them as texts, which are read too.
	DependencyLevels map[string]json.Number `json:"dependencyLevels,omitempty"`
	SLSAVersion      string                 `json:"slsaVersion"`
}

// SummaryVerifier is which program verified.
type SummaryVerifier struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

// What summaries say.
const (
	SummaryPassed = "PASSED"
	SummaryFailed = "FAILED"

	// VerifierID is tape, as one that has verified the whole chain of an application.
	VerifierID = "https://github.com/taped-dev/tape/verify"
	// SummaryVersion is that of SLSA which a summary follows.
	SummaryVersion = "1.2"
	// LevelUnevaluated is the level of an application that was verified, but not evaluated
	// against SLSA's build levels.
	LevelUnevaluated = "SLSA_BUILD_LEVEL_UNEVALUATED"
)

// ViewSummary is a summary of a verification. It is read, not verified.
type ViewSummary struct {
	Summary
	Subject digest.Digest `json:"subject"` // what it is attached to
	Digest  digest.Digest `json:"digest"`  // of the manifest that carries it
	ViewSigner
}
