// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// PromoteOptions are the options of Promote.
type PromoteOptions struct {
	Environment
	// Source is a signed application.
	Source string
	// Target is REPOSITORY[:TAG], by default with the tag of the source.
	Target string
	// Key is the public key that signed the source. Trust is the file of a trust policy that the
	// source must satisfy. At least one of them is required.
	Key, Trust string
	// Keys opens Key once for several promotions; if nil, it is opened each time.
	Keys *Verifiers
	// Signer signs the record. It must not be the signer of the source.
	Signer Signer
	// Env is the environment to record; "" means all.
	Env string
	// Reason is the reason to record.
	Reason string
	// At is the time to record; zero means now.
	At time.Time
	// Force promotes a source even if it is older than the root that the tag leads to.
	Force bool
	// Immutable refuses to move a tag, before anything is copied.
	Immutable bool
}

// PromoteResult describes what was promoted.
type PromoteResult struct {
	CopyResult
	// Previous is the root that the tag led to before, or "" if there was none.
	Previous digest.Digest `json:"previous,omitempty"`
	// Record is the digest of the manifest that carries the record.
	Record digest.Digest `json:"record"`
	// Existing reports that the source had been promoted before, so that no record was added.
	Existing bool `json:"existing"`
}

// Promote verifies an application, copies it with everything attached to it, signs a record of
// the promotion, and sets the tag, in this order. It refuses a source that is older than the root
// that the tag leads to. Promoting it again changes nothing.
func Promote(ctx context.Context, o PromoteOptions) (*PromoteResult, error) {
	result, err := o.promote(ctx)
	if err != nil {
		return nil, fmt.Errorf("promote %s to %s: %w", o.Source, o.Target, err)
	}
	return result, nil
}

// promotion is one promotion.
type promotion struct {
	*PromoteOptions
	app    *artifact.Application // the source
	record artifact.Promotion
	to     *registry.Repository
	done   digest.Digest // of the manifest with the record, if there is one
	found  bool          // set if done existed before
}

func (o *PromoteOptions) promote(ctx context.Context) (result *PromoteResult, err error) {
	if o.Signer == nil {
		return nil, usagef("a promotion must be signed: a key is missing")
	}
	if o.Key == "" && o.Trust == "" {
		return nil, usagef("an application is verified before it is promoted: the public key of its signer or a trust file is missing")
	}
	app, at, err := application(ctx, o.Registry, o.Source)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	p := &promotion{PromoteOptions: o, app: app}
	tag, err := p.target(at)
	if err != nil {
		return nil, err
	}
	if err := p.verify(ctx, at); err != nil {
		return nil, err
	}
	if err := p.compare(ctx, tag); err != nil {
		return nil, err
	}
	copied, err := copyPair(ctx, CopyOptions{Environment: o.Environment, Immutable: o.Immutable},
		CopyPair{Source: o.Source, Target: p.record.To}, "promote", serial(o.Events), p.sign)
	if err != nil {
		return nil, err
	}
	return &PromoteResult{CopyResult: *copied, Previous: p.record.Previous, Record: p.done, Existing: p.found}, nil
}

// target parses the destination, and returns its tag.
func (p *promotion) target(at *opened) (tag string, err error) {
	to, err := parseReference(p.Target)
	if err != nil {
		return "", err
	}
	if to.Digest != "" {
		return "", usagef("%s: an application is promoted to a tag, not to a digest", p.Target)
	}
	if tag = cmp.Or(to.Tag, at.tag); tag == "" {
		return "", usagef("%s: name the tag to promote to, such as %s:prod", p.Target, to.Name)
	}
	if p.to, err = p.Registry.Repository(to.Name); err != nil {
		return "", err
	}
	if p.Env != "" {
		if err := p.app.Environments().Check(p.Env); err != nil {
			return "", asUsage(err)
		}
	}
	p.record = artifact.Promotion{
		To: to.Name + ":" + tag, Root: p.app.Root.Digest, Environment: p.Env, Reason: p.Reason, At: stated(p.At),
	}
	if at.name != "" {
		p.record.From = imageref.Reference{Name: at.name, Tag: at.tag}.String()
	}
	return tag, nil
}

// verify verifies the whole chain of the source, and that it was signed with another key. cosign
// and Flux take any bundle attached to a root for its signature, so a record must not look like a
// signature by the vendor.
func (p *promotion) verify(ctx context.Context, at *opened) error {
	verified, err := Verify(ctx, VerifyOptions{Environment: p.Environment, Ref: p.Source, Key: p.Key, Keys: p.Keys, Trust: p.Trust})
	if err != nil {
		return err
	}
	if err := broken(verified, "verified"); err != nil {
		return err
	}
	if verified.Root != p.app.Root.Digest {
		return refused{fmt.Errorf("it was %s, and is %s now", p.app.Root.Digest, verified.Root)}
	}
	if verified.Policy != nil {
		p.record.Policy = digest.NewDigestFromEncoded(digest.SHA256, verified.Policy.Digest["sha256"])
	}
	own, err := signedBy(ctx, p.Signer, at, p.app.Root.Digest)
	if err == nil && own {
		err = errors.New("the signer of the record also signed the application: promote with another key or identity")
	}
	return err
}

// compare compares the source with the root that the tag leads to, and returns an error if the
// source is older.
func (p *promotion) compare(ctx context.Context, tag string) error {
	now, err := p.to.Resolve(ctx, tag)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	history, err := artifact.History(ctx, p.to, now.Digest)
	if err != nil {
		return err
	}
	for _, record := range history {
		own, err := p.own(ctx, record)
		if err != nil {
			return err
		}
		if record.To != p.record.To || record.Root != p.app.Root.Digest {
			continue
		}
		switch {
		case now.Digest != p.app.Root.Digest && !p.Force:
			return p.older("it was promoted before %s, according to the record %s", now.Digest, record.Digest)
		case now.Digest == p.app.Root.Digest && own && record.Environment == p.Env:
			p.done, p.found = record.Digest, true
		}
	}
	if now.Digest == p.app.Root.Digest {
		return nil
	}
	p.record.Previous = now.Digest
	if p.Force {
		return nil
	}
	current, err := artifact.OpenRoot(ctx, p.to, now)
	if err != nil { // the tag leads to something else
		return fmt.Errorf("the tag does not point to an application: %w", err)
	}
	if created, than := p.app.Index.Annotations, current.Index.Annotations; created[ocispec.AnnotationSource] == than[ocispec.AnnotationSource] && before(created, than) {
		return p.older("its commit is of %s, but the commit of %s, which the tag leads to, is of %s",
			created[ocispec.AnnotationCreated], now.Digest, than[ocispec.AnnotationCreated])
	}
	return nil
}

// before reports whether the first root was created before the second.
func before(a, b map[string]string) bool {
	one, err := time.Parse(time.RFC3339, a[ocispec.AnnotationCreated])
	if err != nil {
		return false
	}
	two, err := time.Parse(time.RFC3339, b[ocispec.AnnotationCreated])
	return err == nil && one.Before(two)
}

func (p *promotion) older(format string, args ...any) error {
	return refused{advice.Add(fmt.Errorf("it is older than what the tag leads to: "+format, args...), advice.PromoteAnyway)}
}

// own reports whether this signer made a record. It returns an error for a record that claims to
// be by this signer but is invalid, or is about another root than the one that it is attached to.
func (p *promotion) own(ctx context.Context, record artifact.ViewPromotion) (bool, error) {
	own, err := p.Signer.MadeStatement(ctx, record.Bundle, record.Subject, artifact.PredicatePromotion)
	if err != nil && !errors.Is(err, sign.ErrForged) {
		return false, err
	}
	if err == nil && own && record.Root != record.Subject {
		err = fmt.Errorf("it is about %s", record.Root)
	}
	if err != nil {
		return false, refused{fmt.Errorf("the record %s of an earlier promotion, attached to %s, cannot be relied on: %w", record.Digest, record.Subject, err)}
	}
	return own, nil
}

// sign attaches the record to the copy.
func (p *promotion) sign(ctx context.Context, c *copying) (err error) {
	if c.root.Digest != p.app.Root.Digest {
		return refused{fmt.Errorf("%s was verified, and %s was copied", p.app.Root.Digest, c.root.Digest)}
	}
	if p.found {
		return nil
	}
	attach, err := attacher(&opened{Repository: p.to})
	if err == nil {
		p.done, err = attach.state(ctx, p.Signer, p.app.Root, artifact.PredicatePromotion, p.record)
	}
	return err
}
