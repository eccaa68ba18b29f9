// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/taped-dev/tape/engine/content/layout"
)

// Promotion is the predicate of PredicatePromotion: which records that a root was brought to a tag.
// Its bundle is attached to the root there, and made by another key than the root's.
type Promotion struct {
	// From is what was promoted, REPOSITORY:TAG; "" if it was in no registry.
	From string `json:"from,omitempty"`
	// To is REPOSITORY:TAG.
	To   string        `json:"to"`
	Root digest.Digest `json:"root"`
	// Environment is the one that it was promoted for, "" for all.
	Environment string `json:"environment,omitempty"`
	// Policy is the digest of the policy that it was verified with, "" if it was a key.
	Policy digest.Digest `json:"policy,omitempty"`
	// Previous is the root that the tag led to before, "" if there was none.
	Previous digest.Digest `json:"previous,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	// At is when it was signed, by the clock of who did.
	At time.Time `json:"at"`
}

// ViewRecord is a bundle that is attached to a manifest. It is read, not verified.
type ViewRecord struct {
	Subject digest.Digest `json:"subject"` // what it is attached to
	Digest  digest.Digest `json:"digest"`  // of the manifest that carries it
	ViewSigner
	Bundle []byte `json:"-"`
}

// ViewPromotion is a record of a promotion.
type ViewPromotion struct {
	Promotion
	ViewRecord
}

// maxHistory is how many roots the history of a tag is followed through.
const maxHistory = 256

// History returns the records of a root, and of the roots before it, the latest first. It
// ends with a root that is not there anymore.
func History(ctx context.Context, source layout.Repository, root digest.Digest) ([]ViewPromotion, error) {
	var b bundles
	if err := b.add(ctx, source, root); err != nil {
		return nil, err
	}
	return history(ctx, source, root, b.promotions)
}

// history follows records of a root to those of the roots before it.
func history(ctx context.Context, source layout.Repository, root digest.Digest, records []ViewPromotion) ([]ViewPromotion, error) {
	seen := map[digest.Digest]bool{root: true}
	for i := 0; i < len(records) && len(seen) < maxHistory; i++ {
		previous := records[i].Previous
		if previous == "" || seen[previous] || previous.Validate() != nil {
			continue
		}
		seen[previous] = true
		var more bundles
		err := more.add(ctx, source, previous)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		records = append(records, more.promotions...)
	}
	slices.SortFunc(records, func(a, b ViewPromotion) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Digest, b.Digest))
	})
	return records, nil
}

// Reproduction is the predicate of PredicateReproduction: whether a root could be made again
// of its source. Its bundle is attached to the root, and made by another key than the root's.
type Reproduction struct {
	Root digest.Digest `json:"root"`
	// Made is the root that was made, of the commit of the repository at URI ("" if that is
	// not known) by this version of tape.
	Made   digest.Digest `json:"made"`
	Same   bool          `json:"same"`
	URI    string        `json:"uri,omitempty"`
	Commit string        `json:"commit"`
	Tape   string        `json:"tape"`
	// At is when it was signed, by the clock of who did.
	At time.Time `json:"at"`
}

// ViewReproduction is a statement of a reproduction.
type ViewReproduction struct {
	Reproduction
	ViewRecord
}

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

// ViewSummary is a summary of a verification.
type ViewSummary struct {
	Summary
	ViewRecord
}

// ViewSigner is who signed a bundle, as that says; it is not verified.
type ViewSigner struct {
	KeyHint string `json:"keyHint"`
	// Identity is the identity in the certificate, and Issuer its issuer; "" if it was signed
	// with a key.
	Identity string `json:"identity,omitempty"`
	Issuer   string `json:"issuer,omitempty"`
}

// By names the signer.
func (s ViewSigner) By() string {
	if s.Identity != "" {
		return fmt.Sprintf("%s (of %s)", s.Identity, cmp.Or(s.Issuer, "an unknown issuer"))
	}
	return "key " + cmp.Or(s.KeyHint, "unknown")
}

// newViewSigner reads the certificate of a bundle, if it has one.
func newViewSigner(keyHint string, der []byte) ViewSigner {
	s := ViewSigner{KeyHint: keyHint}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return s
	}
	if summary, err := certificate.SummarizeCertificate(cert); err == nil {
		s.Identity, s.Issuer = summary.SubjectAlternativeName, summary.Issuer
	}
	return s
}
