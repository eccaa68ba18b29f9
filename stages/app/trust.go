// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/app/internal/trust"
	"github.com/taped-dev/tape/stages/app/internal/verify"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// TrustSchema returns the JSON Schema of trust policies.
func TrustSchema() []byte { return trust.Schema }

// TrustOptions are the options of CheckTrust.
type TrustOptions struct {
	Environment
	// File is the file of a trust policy.
	File string
	// Ref is an application to check against the policy; "" only checks the file.
	Ref string
}

// TrustResult lists the rules of a trust policy and, for an application, whether they are
// satisfied.
type TrustResult struct {
	OK    bool        `json:"ok"`
	Rules []TrustRule `json:"rules"`
	// Default is the decision if no rule applies: allow or deny.
	Default string `json:"default"`
	// Links are the links that were checked for the application, including failed ones.
	Links    []VerifiedLink `json:"links"`
	Warnings []string       `json:"warnings,omitempty"`
}

// TrustRule is a rule of a trust policy.
type TrustRule struct {
	// Section is images, applications or origin; only origin has no names.
	Section string   `json:"section"`
	At      string   `json:"at"`
	Names   []string `json:"names"`
	Require string   `json:"require,omitempty"`
	// Attestations are the required types of statements.
	Attestations []string `json:"attestations,omitempty"`
	// Matched is the number of images or applications that the rule applies to.
	Matched int `json:"matched"`
}

// CheckTrust reads a trust policy. With a reference, it also reports for each rule whether the
// application satisfies it.
func CheckTrust(ctx context.Context, o TrustOptions) (*TrustResult, error) {
	policy, err := trust.Read(ctx, o.File)
	if err != nil {
		return nil, err
	}
	result := &TrustResult{OK: true, Rules: []TrustRule{}, Default: "allow", Links: []VerifiedLink{}}
	if policy.Deny {
		result.Default = "deny"
	}
	if o.Ref != "" {
		checked, err := Verify(ctx, VerifyOptions{Environment: o.Environment, Ref: o.Ref, Trust: o.File})
		if err != nil {
			return nil, err
		}
		result.OK, result.Warnings = checked.OK, checked.Warnings
		for _, link := range checked.Links {
			if link.Rule != "" || !link.OK {
				result.Links = append(result.Links, link)
			}
		}
	}
	for _, r := range slices.Concat(policy.Images, policy.Applications) {
		rule := TrustRule{Section: r.Section, At: r.At, Names: r.Names}
		if len(r.Of) > 0 {
			rule.Require = r.Require()
		}
		for _, a := range r.Attestations {
			rule.Attestations = append(rule.Attestations, a.Type+" by "+a.By.Name)
		}
		for _, link := range result.Links {
			if link.Rule == r.String() {
				rule.Matched++
			}
		}
		if o.Ref != "" && rule.Matched == 0 {
			result.Warnings = append(result.Warnings, r.String()+" names nothing of it")
		}
		result.Rules = append(result.Rules, rule)
	}
	if by := policy.Origin; by != nil { // this rule applies to every application
		rule := TrustRule{Section: "origin", At: policy.OriginAt, Names: []string{}, Require: by.Name}
		if o.Ref != "" {
			rule.Matched = 1
		}
		result.Rules = append(result.Rules, rule)
	}
	return result, nil
}

// TrustExportOptions are the options of ExportTrust.
type TrustExportOptions struct {
	// File is the file of a trust policy.
	File string
	// Target is what enforces the rules: flux, kyverno or policy-controller.
	Target string
}

// ExportTrust returns the rules of a trust policy as Kubernetes objects, in YAML. A rule that
// the target cannot enforce exactly is an error.
func ExportTrust(ctx context.Context, o TrustExportOptions) ([]byte, error) {
	policy, err := trust.Read(ctx, o.File)
	if err != nil {
		return nil, err
	}
	return policy.Export(trust.Target(o.Target))
}

// TrustDigest identifies the trust policy, including the keys and trusted roots that it names; ""
// if there is none.
func (o *Options) TrustDigest(ctx context.Context) (digest.Digest, error) {
	if o.Trust == "" {
		return "", nil
	}
	policy, err := trust.Read(ctx, o.Trust)
	if err != nil {
		return "", err
	}
	data, err := engine.MarshalJSON(policy.Resource())
	return digest.FromBytes(data), err
}

// checkTrust returns an error if the chain of an application, a rule of a trust policy, or the
// policy for one of its images is not satisfied. What is read by digest afterwards is what was
// checked. An empty file trusts everything.
func checkTrust(ctx context.Context, file string, at *opened, root ocispec.Descriptor) error {
	if file == "" {
		return nil
	}
	policy, err := trust.Read(ctx, file)
	if err != nil {
		return err
	}
	// The content decides whether it is an application, not the media type that a registry
	// reports.
	data, err := engine.Get(ctx, at, root)
	if err != nil {
		return err
	}
	var index ocispec.Index
	if descriptor.Unmarshal(data, &index) != nil || !artifact.IsApplication(index) {
		return checkImage(ctx, policy, at, root)
	}
	// The policy decides about images outside the application.
	checked, err := verify.Application(ctx, at.Repository, root, verify.Options{Policy: policy, Name: at.name, AllowOutside: true})
	if err != nil {
		return err
	}
	return broken(checked, "trusted")
}

// broken returns an error that names the failed links.
func broken(r *VerifyResult, what string) error {
	for _, link := range r.Links {
		if !link.OK {
			return refused{fmt.Errorf("it is not %s: %s: %s", what, link.Name, link.Reason)}
		}
	}
	return nil
}

// checkImage checks an image, and what is attached to it, against the rules for images.
func checkImage(ctx context.Context, policy *trust.Policy, at *opened, image ocispec.Descriptor) error {
	name := cmp.Or(at.name, image.Annotations[ocispec.AnnotationRefName])
	findings, err := policy.Check(ctx, trust.Subject{Names: []string{name}, Digest: image.Digest, Evidence: func(ctx context.Context) (*trust.Evidence, error) {
		attached, err := at.Referrers(ctx, image.Digest)
		if err != nil {
			return nil, err
		}
		for _, suffix := range []string{".sig", ".att"} {
			desc, err := at.Resolve(ctx, registry.AttachedTag(image.Digest, suffix))
			if err == nil {
				attached = append(attached, desc)
			} else if !errdefs.IsNotFound(err) {
				return nil, err
			}
		}
		return trust.Collect(ctx, at, attached)
	}})
	if err != nil {
		return err
	}
	if err := policy.Unnamed("image " + name); err != nil && len(findings) == 0 {
		return refused{fmt.Errorf("it is not trusted: %w", err)}
	}
	return untrusted("image "+name, findings)
}

// untrusted returns an error if a finding is not OK.
func untrusted(what string, findings []trust.Finding) error {
	for _, f := range findings {
		if f.OK {
			continue
		}
		if f.Rule != nil {
			what += ": " + f.Rule.String()
		}
		return refused{fmt.Errorf("it is not trusted: %s: %s", what, f.Reason)}
	}
	return nil
}

// gate checks images against a policy as soon as they are known, before anything is copied.
type gate struct {
	engine.Executor
	policy  *trust.Policy
	origins images.Origins
}

// gated returns an executor that checks images, or executor itself if there is no trust policy.
func (o *Options) gated(ctx context.Context, executor engine.Executor) (engine.Executor, error) {
	if o.Trust == "" {
		return executor, nil
	}
	policy, err := trust.Read(ctx, o.Trust)
	if err != nil {
		return nil, err
	}
	return &gate{executor, policy, o.origins()}, nil
}

// Run implements [engine.Executor].
func (g *gate) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	outputs, err := g.Executor.Run(ctx, t)
	if err == nil {
		err = g.check(ctx, t, outputs)
	}
	if err != nil {
		return nil, err
	}
	return outputs, nil
}

// Replay implements [engine.Executor].
func (g *gate) Replay(ctx context.Context, t *engine.Task, outputs engine.Outputs) error {
	if err := g.Executor.Replay(ctx, t, outputs); err != nil {
		return err
	}
	return g.check(ctx, t, outputs)
}

func (g *gate) check(ctx context.Context, t *engine.Task, outputs engine.Outputs) error {
	switch t.Node.Kind {
	case "scan":
		return g.checkExcluded(ctx, t, outputs)
	case "discover":
		return g.checkImages(ctx, t, outputs)
	}
	return nil
}

// checkExcluded rejects images that pods run and the policy covers, but that are excluded from
// the application, because nothing about them can be verified.
func (g *gate) checkExcluded(ctx context.Context, t *engine.Task, outputs engine.Outputs) error {
	var report images.Report
	if err := engine.GetJSON(ctx, t.Store, outputs["references"], images.MediaTypeReport, &report); err != nil {
		return err
	}
	var refusals []error
	for _, ref := range report.Excluded {
		i := slices.IndexFunc(ref.Locations, func(l images.Location) bool { return l.Class == images.Pod })
		if i >= 0 && g.policy.Names(ref.Name) {
			refusals = append(refusals, refused{fmt.Errorf("it is not trusted: image %s, which %s names: a pod runs it, and the trust file covers it, but it is excluded from the application: include it", ref.Name, ref.Locations[i].Place())})
		}
	}
	return errors.Join(refusals...)
}

func (g *gate) checkImages(ctx context.Context, t *engine.Task, outputs engine.Outputs) error {
	var list images.List
	if err := engine.GetJSON(ctx, t.Store, outputs["images"], images.MediaTypeList, &list); err != nil {
		return err
	}
	var (
		refusals []error
		named    bool
	)
	for _, image := range list.Images {
		s := trust.Subject{Names: []string{image.Name}, Digest: image.Digest, Evidence: func(ctx context.Context) (*trust.Evidence, error) {
			return g.evidence(ctx, image)
		}}
		for _, l := range image.Locations {
			s.Where = append(s.Where, l.Place())
		}
		findings, err := g.policy.Check(ctx, s)
		if err != nil {
			return fmt.Errorf("image %s: %w", image.Source, err)
		}
		if err := untrusted("image "+s.String(), findings); err != nil {
			refusals = append(refusals, err)
		}
		named = named || len(findings) > 0
	}
	if len(list.Images) == 0 || named {
		return errors.Join(refusals...)
	}
	if len(g.policy.Images) == 0 {
		t.Report(engine.Event{Level: engine.Note, Message: "the trust file has no rules for images, and its other rules are for existing applications: no image was checked"})
		return nil
	}
	if err := g.policy.Unnamed("one of the images"); err != nil {
		return refused{fmt.Errorf("it is not trusted: %w", err)}
	}
	return nil
}

// evidence returns what was found with an image.
func (g *gate) evidence(ctx context.Context, image images.Image) (*trust.Evidence, error) {
	place, err := g.origins.Open(ctx, image.Name, image.From)
	if err != nil {
		return nil, err
	}
	var attached []ocispec.Descriptor
	for _, r := range image.Related {
		if r.To == image.Digest && r.Via != images.Inline {
			attached = append(attached, ocispec.Descriptor{MediaType: r.MediaType, ArtifactType: r.ArtifactType, Digest: r.Digest, Size: r.Size})
		}
	}
	return trust.Collect(ctx, place, attached)
}
