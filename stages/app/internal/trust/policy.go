// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// Policy determines who must have signed what.
type Policy struct {
	Authorities  map[string]*Authority
	Images       []*Rule
	Applications []*Rule
	// Origin must have signed each application, or one that it was relocated from; nil allows
	// anyone. OriginAt is its position in the file.
	Origin   *Authority
	OriginAt string
	// Deny rejects a subject that no rule applies to. Allow accepts an application even if no
	// rule applies to any part of it.
	Deny, Allow bool
	// Name is the name of the file, without its folder, and Digest the digest of its text.
	// Digests has those of the keys (in DER) and trusted roots that it names.
	Name    string
	Digest  digest.Digest
	Digests map[string]digest.Digest
}

// Resource describes the policy in statements. Equal resources mean the same policy.
func (p *Policy) Resource() artifact.Resource {
	r := artifact.Resource{URI: p.Name, Digest: artifact.DigestSet(p.Digest)}
	for name, sum := range p.Digests {
		if r.Annotations == nil {
			r.Annotations = map[string]string{}
		}
		r.Annotations[name] = sum.String()
	}
	return r
}

// Rule applies to repositories. All rules that apply to a repository must be satisfied.
type Rule struct {
	At      string   // where it is in the file
	Section string   // images or applications
	Names   []string // globs
	// Of are the authorities, at least Threshold of which must have signed.
	Of        []*Authority
	Threshold int
	// Attestations are additionally required statements.
	Attestations []Attestation
}

// Attestation is a required statement about an image or application.
type Attestation struct {
	Type string
	By   *Authority
	// Fields maps paths in the predicate, such as verificationResult or a.b, to required values.
	Fields map[string]string
}

// String names the rule in messages.
func (r *Rule) String() string {
	return fmt.Sprintf("%s rule %s (%s)", r.Section, strings.Join(r.Names, ", "), r.At)
}

// Require describes who must have signed.
func (r *Rule) Require() string {
	var names []string
	for _, a := range r.Of {
		names = append(names, a.Name)
	}
	list := strings.Join(names, ", ")
	switch {
	case len(r.Of) == 1:
		return list
	case r.Threshold == 1:
		return "one of " + list
	case r.Threshold == len(r.Of):
		return "all of " + list
	}
	return fmt.Sprintf("%d of %s", r.Threshold, list)
}

// matches reports whether the rule applies to a repository.
func (r *Rule) matches(repository string) bool {
	return slices.ContainsFunc(r.Names, func(glob string) bool { return matchGlob(glob, repository) })
}

// Subject is something that a policy judges.
type Subject struct {
	// Application selects the rules for applications instead of those for images.
	Application bool
	// Names are its references, of which the repositories matter.
	Names  []string
	Digest digest.Digest
	// Where lists places that name it, for messages.
	Where []string
	// Evidence returns what is attached to it.
	Evidence func(ctx context.Context) (*Evidence, error)
}

// String names the subject in messages.
func (s *Subject) String() string {
	name := cmp.Or(strings.Join(s.Names, ", "), "(of no repository)")
	if len(s.Where) == 0 {
		return name
	}
	return fmt.Sprintf("%s, which %s names", name, s.Where[0])
}

// Finding is the result of a rule for a subject.
type Finding struct {
	Rule *Rule // nil if none applies to it
	OK   bool
	// Reason is why it is not OK.
	Reason string
	Proof  Proof // the first one that was sufficient
}

// Evidence is what is attached to a manifest.
type Evidence struct {
	bundles    [][]byte
	attested   [][]byte // bundles of attestations of cosign before version 3
	simple     []simpleSignature
	unreadable []error
}

type simpleSignature struct {
	payload     []byte
	annotations map[string]string
}

// Add adds a bundle.
func (e *Evidence) Add(bundle []byte) { e.bundles = append(e.bundles, bundle) }

const (
	// maxEvidence is the maximum size of a bundle or payload, in bytes.
	maxEvidence = 4 << 20
	// mostEvidence bounds the signatures and statements that are read for one manifest.
	mostEvidence = 256
)

// Collect reads the signatures and statements in manifests. Unreadable ones are ignored,
// because everyone who may push can attach them, unless the place cannot be accessed.
func Collect(ctx context.Context, place content.Provider, attached []ocispec.Descriptor) (*Evidence, error) {
	e := &Evidence{}
	for _, desc := range attached {
		if err := e.collect(ctx, place, desc); err != nil {
			if errdefs.IsUnavailable(err) || errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) || context.Cause(ctx) != nil {
				return nil, err
			}
			e.unreadable = append(e.unreadable, err)
		}
		if len(e.bundles)+len(e.attested)+len(e.simple)+len(e.unreadable) > mostEvidence {
			return nil, fmt.Errorf("more than %d signatures and statements are attached: %w", mostEvidence, errdefs.ErrInvalidArgument)
		}
	}
	return e, nil
}

func (e *Evidence) collect(ctx context.Context, place content.Provider, desc ocispec.Descriptor) error {
	data, err := engine.Read(ctx, place, desc, maxEvidence)
	if err != nil {
		return err
	}
	var m ocispec.Manifest
	if err := descriptor.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	for _, layer := range m.Layers {
		if layer.MediaType != SimpleSigning && layer.MediaType != sign.MediaType && layer.MediaType != envelopeType {
			continue
		}
		data, err := engine.Read(ctx, place, layer, maxEvidence)
		if err != nil {
			return err
		}
		switch layer.MediaType {
		case SimpleSigning:
			e.simple = append(e.simple, simpleSignature{data, layer.Annotations})
		case envelopeType:
			if bundle, err := attestationBundle(data, layer.Annotations); err != nil {
				e.unreadable = append(e.unreadable, fmt.Errorf("%s: %w", layer.Digest, err))
			} else {
				e.attested = append(e.attested, bundle)
			}
		default:
			e.bundles = append(e.bundles, data)
		}
	}
	return nil
}

// Names reports whether a rule for images applies to a reference, or references without a rule
// are refused.
func (p *Policy) Names(reference string) bool {
	repository := repositoryOf(reference)
	return p.Deny || slices.ContainsFunc(p.Images, func(r *Rule) bool { return r.matches(repository) })
}

// repositoryOf returns the repository of a reference, in full.
func repositoryOf(reference string) string {
	if name, err := repository(reference); err == nil {
		return name
	}
	return imageref.Split(reference).Name
}

// repository returns the repository of a valid reference, in full, and the same for all
// spellings of its registry: a rule must not be evaded by one.
func repository(reference string) (string, error) {
	r, err := imageref.Parse(reference)
	if err != nil {
		return "", err
	}
	host, path, _ := strings.Cut(r.Name, "/")
	host, port, hasPort := strings.Cut(strings.ToLower(host), ":")
	if port = strings.TrimLeft(port, "0"); hasPort && port != "443" {
		host += ":" + port
	}
	return host + "/" + path, nil
}

// Alike reports whether the same rules apply to applications in two repositories.
func (p *Policy) Alike(a, b string) bool {
	a, b = repositoryOf(a), repositoryOf(b)
	return !slices.ContainsFunc(p.Applications, func(r *Rule) bool { return r.matches(a) != r.matches(b) })
}

// Unnamed returns why a subject must not be used if no rule applies to it or to any part of it:
// otherwise nothing would be checked, unnoticed. It is nil if the policy allows that.
func (p *Policy) Unnamed(what string) error {
	if p.Allow {
		return nil
	}
	return fmt.Errorf("no rule of %s names %s, so nothing of it would be checked: name it in a rule, or write default: allow if that is meant", p.Name, what)
}

// Check judges a subject by every rule that applies to it. It must not be used if any finding
// is not OK. The error means that this could not be determined.
func (p *Policy) Check(ctx context.Context, s Subject) ([]Finding, error) {
	rules, what := p.Images, "images"
	if s.Application {
		rules, what = p.Applications, "applications"
	}
	var matching []*Rule
	for _, r := range rules {
		if slices.ContainsFunc(s.Names, func(name string) bool { return r.matches(repositoryOf(name)) }) {
			matching = append(matching, r)
		}
	}
	if len(matching) == 0 {
		if p.Deny {
			return []Finding{{Reason: fmt.Sprintf("no rule for %s names it, and the default is deny: add a rule to allow it", what)}}, nil
		}
		return nil, nil
	}
	evidence, err := s.Evidence(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Finding, 0, len(matching))
	for _, r := range matching {
		out = append(out, r.check(ctx, s.Digest, evidence))
	}
	return out, nil
}

func (r *Rule) check(ctx context.Context, subject digest.Digest, e *Evidence) Finding {
	f := Finding{Rule: r}
	var (
		signers [][]string // of each authority that signed
		why     []string
	)
	for _, by := range r.Of {
		proofs, reasons := by.Signed(ctx, subject, e, r.Threshold > 1)
		if len(proofs) == 0 {
			if reasons == nil {
				reasons = []string{"no signature is attached, or it was not copied"}
			}
			why = append(why, by.Name+": "+strings.Join(reasons, "; "))
			continue
		}
		if len(signers) == 0 {
			f.Proof = proofs[0]
		}
		var names []string
		for _, proof := range proofs {
			names = append(names, cmp.Or(strings.TrimSpace(proof.Identity+" "+proof.Issuer), "the key of "+by.Name))
		}
		signers = append(signers, names)
	}
	if signed := distinct(signers); signed < r.Threshold {
		if len(signers) > signed {
			why = append([]string{fmt.Sprintf("%s counts once", signers[0][0])}, why...)
		}
		f.Proof, f.Reason = Proof{}, fmt.Sprintf("it must be signed by %s: %s", r.Require(), strings.Join(why, "; "))
		return f
	}
	for _, a := range r.Attestations {
		if reasons := a.check(ctx, subject, e); reasons != nil {
			f.Reason = fmt.Sprintf("%s must have attested %s: %s", a.By.Name, a.Type, strings.Join(reasons, "; "))
			return f
		}
	}
	f.OK = true
	return f
}

// mostReasons is how many signatures a message explains.
const mostReasons = 3

// distinct returns how many authorities can be given different signers: identities may match
// several authorities, and each signer counts once.
func distinct(signers [][]string) int {
	given := map[string]int{} // signers to authorities
	var give func(authority int, asked map[string]bool) bool
	give = func(authority int, asked map[string]bool) bool {
		for _, name := range signers[authority] {
			if asked[name] {
				continue
			}
			asked[name] = true
			if other, taken := given[name]; !taken || give(other, asked) {
				given[name] = authority
				return true
			}
		}
		return false
	}
	n := 0
	for authority := range signers {
		if give(authority, map[string]bool{}) {
			n++
		}
	}
	return n
}

// Signed returns the proof that the authority signed a manifest, or those of all its signers, or
// the reasons why what is attached is not one: nil if nothing is.
func (a *Authority) Signed(ctx context.Context, subject digest.Digest, e *Evidence, all bool) (proofs []Proof, reasons []string) {
	// more reports whether to look further.
	more := func(proof Proof, err error) bool {
		if err == nil {
			proofs = append(proofs, proof)
			return all
		}
		if text := err.Error(); !slices.Contains(reasons, text) && len(reasons) < mostReasons {
			reasons = append(reasons, text)
		}
		return true
	}
	for _, bundle := range e.bundles {
		if !more(a.Signature(ctx, bundle, subject)) {
			return proofs, nil
		}
	}
	for _, s := range e.simple {
		if !more(a.Simple(ctx, s.payload, s.annotations, subject)) {
			return proofs, nil
		}
	}
	for _, err := range e.unreadable {
		more(Proof{}, err)
	}
	return proofs, reasons
}

// check returns why there is no such statement, nil if there is one.
func (a Attestation) check(ctx context.Context, subject digest.Digest, e *Evidence) []string {
	reasons := []string{}
	for _, bundle := range slices.Concat(e.bundles, e.attested) {
		if _, err := a.By.Statement(ctx, bundle, subject, a.Type); err != nil {
			if claim, readErr := sign.Read(bundle); readErr == nil && claim.PredicateType == a.Type && len(reasons) < mostReasons {
				reasons = append(reasons, err.Error())
			}
			continue
		}
		err := a.fields(bundle)
		if err == nil {
			return nil
		}
		reasons = append(reasons, err.Error())
	}
	for _, err := range e.unreadable[:min(len(e.unreadable), mostReasons)] {
		reasons = append(reasons, err.Error())
	}
	if len(reasons) == 0 {
		reasons = append(reasons, "no such statement is attached, or it was not copied")
	}
	return reasons
}

// fields compares fields of the predicate of a verified statement.
func (a Attestation) fields(bundle []byte) error {
	var predicate map[string]any
	if err := sign.Predicate(bundle, &predicate); err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(a.Fields)) {
		var at any = predicate
		for name := range strings.SplitSeq(path, ".") {
			object, _ := at.(map[string]any)
			at = object[name]
		}
		var is string
		switch v := at.(type) {
		case string:
			is = v
		case bool, float64:
			is = fmt.Sprint(v)
		}
		if want := a.Fields[path]; at == nil || is != want {
			return fmt.Errorf("%s is %q, not %q", path, is, want)
		}
	}
	return nil
}
