// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/package-url/packageurl-go"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/stages/app/internal/trust"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// SummaryOptions say which summary of an earlier verification is taken instead of walking
// the chain.
type SummaryOptions struct {
	// By is who must have verified. It must not be who signed the root.
	By *trust.Authority
	// Place holds the summaries; nil is where the root is.
	Place layout.Repository
	// MaxAge is how old it may be at Now; 0 is any age.
	MaxAge time.Duration
	Now    time.Time
}

// Summary is the summary that was taken instead of walking the chain.
type Summary struct {
	Digest       digest.Digest            `json:"digest"` // of the manifest that carries it
	TimeVerified time.Time                `json:"timeVerified"`
	Verifier     artifact.SummaryVerifier `json:"verifier"`
	Policy       artifact.Resource        `json:"policy"`
}

// summarized is a summary by the authority.
type summarized struct {
	artifact.Summary
	digest digest.Digest
	proof  trust.Proof
}

// summary checks that the latest summary by the authority states that the root was verified.
func (c *chain) summary(ctx context.Context) []Link {
	root := c.app.Root.Digest
	latest, err := c.latestSummary(ctx)
	if err == nil {
		err = c.accept(ctx, latest)
	}
	if err != nil {
		return []Link{c.link("summary", root, err)}
	}
	c.summarized = &Summary{latest.digest, latest.TimeVerified, latest.Verifier, latest.Policy}
	link := c.proven("summary", root, latest.proof, nil)
	link.Reason = fmt.Sprintf("verified at %s with the policy %s; its chain was not walked again", utc(latest.TimeVerified), latest.Policy.URI)
	return []Link{link}
}

// latestSummary returns the latest summary of the root by the authority, and of two of the
// same time the one that is worse. Those with another policy, or by another program, do not
// count.
func (c *chain) latestSummary(ctx context.Context) (latest summarized, err error) {
	o, root := c.o.Summary, c.app.Root.Digest
	place := c.place
	if o.Place != nil {
		place = o.Place
	}
	referrers, err := place.Referrers(ctx, root)
	if err != nil {
		return latest, err
	}
	var others []string
	for _, desc := range referrers {
		bundle, err := sign.Attached(ctx, place, desc)
		if c.stop(err); err != nil {
			others = append(others, fmt.Sprintf("%s: %v", desc.Digest, err))
		}
		if claim, err := sign.Read(bundle); bundle == nil || err != nil || claim.PredicateType != artifact.PredicateSummary {
			continue
		}
		found := summarized{digest: desc.Digest}
		if found.proof, err = o.By.Statement(ctx, bundle, root, artifact.PredicateSummary); err == nil {
			err = c.readSummary(ctx, bundle, &found.Summary)
		}
		switch {
		case err != nil:
			others = append(others, err.Error())
		case latest.digest == "" || found.TimeVerified.After(latest.TimeVerified) || found.TimeVerified.Equal(latest.TimeVerified) && found.VerificationResult != artifact.SummaryPassed:
			latest = found
		}
	}
	switch {
	case latest.digest != "":
		return latest, nil
	case others != nil:
		return latest, some(others)
	}
	return latest, errors.New("no summary of a verification is attached to the root")
}

// readSummary reads a summary, whose signature was verified, and reports whether it is one
// that is asked for.
func (c *chain) readSummary(ctx context.Context, bundle []byte, s *artifact.Summary) error {
	if err := sign.Predicate(bundle, s); err != nil {
		return err
	}
	if s.Verifier.ID != artifact.VerifierID {
		return fmt.Errorf("a summary by the program %q, which does not verify a whole application as %s does", s.Verifier.ID, artifact.VerifierID)
	}
	if c.o.Policy == nil {
		return nil
	}
	want := c.o.Policy.Resource()
	if !maps.Equal(s.Policy.Digest, want.Digest) {
		return fmt.Errorf("a summary of %s with another policy, %s sha256:%s and not %s %s", utc(s.TimeVerified), s.Policy.URI, s.Policy.Digest["sha256"], want.URI, c.o.Policy.Digest)
	}
	for _, name := range slices.Sorted(maps.Keys(want.Annotations)) {
		if is := s.Policy.Annotations[name]; is != want.Annotations[name] {
			return fmt.Errorf("a summary of %s with another policy: in it %s was %s and not %s", utc(s.TimeVerified), name, cmp.Or(is, "something unknown"), want.Annotations[name])
		}
	}
	// The rules are those for the repository that it was verified in.
	there, err := packageurl.FromString(s.ResourceURI)
	if err != nil {
		return fmt.Errorf("a summary of %s: resourceUri: %w", utc(s.TimeVerified), err)
	}
	if was, is := there.Qualifiers.Map()["repository_url"], c.repository(ctx); !c.o.Policy.Alike(was, is) {
		return fmt.Errorf("a summary of %s in %q, for which the policy has other rules than for %s", utc(s.TimeVerified), was, is)
	}
	return nil
}

// accept reports why a summary does not replace verifying again.
func (c *chain) accept(ctx context.Context, s summarized) error {
	o := c.o.Summary
	switch age := o.Now.Sub(s.TimeVerified); {
	case s.VerificationResult != artifact.SummaryPassed:
		return fmt.Errorf("the verification of %s says %s", utc(s.TimeVerified), s.VerificationResult)
	case s.TimeVerified.IsZero():
		return errors.New("it does not say when it was verified")
	case o.MaxAge != 0 && age > o.MaxAge:
		return fmt.Errorf("it was verified at %s, more than %s ago: verify it again", utc(s.TimeVerified), o.MaxAge)
	case o.MaxAge != 0 && age < 0:
		return fmt.Errorf("it was verified at %s, which is in the future: a clock is wrong", utc(s.TimeVerified))
	}
	// A summary by the signer of the root has no value.
	referrers, err := c.place.Referrers(ctx, c.app.Root.Digest)
	if err != nil {
		return err
	}
	for _, desc := range referrers {
		bundle, err := sign.Attached(ctx, c.place, desc)
		if c.stop(err); bundle == nil {
			continue
		}
		proof, err := o.By.Signature(ctx, bundle, c.app.Root.Digest)
		if err == nil && proof.Issuer == s.proof.Issuer && proof.Identity == s.proof.Identity {
			return fmt.Errorf("%s made the summary and also signed the root: the verifier must be another", cmp.Or(proof.Identity, o.By.String()))
		}
	}
	return nil
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }
