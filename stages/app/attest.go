// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/package-url/packageurl-go"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// AttestOptions are the options of Attest.
type AttestOptions struct {
	// VerifyOptions select what is verified. Trust is required, because a summary names the
	// policy.
	VerifyOptions
	// Signer signs the summaries. It must not be the signer of the application.
	Signer Signer
	// Images also makes a summary for each image if the verification passes.
	Images bool
	// To is a repository for the summaries; if empty, they are attached to the application where
	// it is.
	To string
	// Force also attaches a summary to an image whose only signature was made by cosign before
	// version 3, although cosign and other tools then no longer find that signature.
	Force bool
	// At is the time of the verification; zero means now. Version is the version of tape.
	At      time.Time
	Version string
}

// AttestResult is the result of the verification, with its summaries.
type AttestResult struct {
	VerifyResult
	Summaries []Attested `json:"summaries,omitempty"`
}

// Attested describes a summary.
type Attested struct {
	Name    string        `json:"name"` // root, or the name of the image
	Subject digest.Digest `json:"subject"`
	// Result is PASSED or FAILED.
	Result string `json:"result"`
	// Digest is the digest of the manifest that carries the summary.
	Digest digest.Digest `json:"digest"`
}

// Attest verifies an application and signs summaries of the result, for readers that accept them
// instead of verifying again: one for the root, whether or not the verification passes, and, if
// it passes and Images is set, one for each image.
func Attest(ctx context.Context, o AttestOptions) (result *AttestResult, err error) {
	switch {
	case o.Signer == nil:
		return nil, usagef("a summary must be signed: a key is missing")
	case o.Trust == "":
		return nil, usagef("a summary records the policy of the verification: a trust file is missing")
	case o.AllowOutside:
		return nil, usagef("a summary cannot record that images outside the application were accepted: let the trust file decide")
	case o.Summary != "" || !o.SummaryIdentity.IsZero():
		return nil, usagef("a summary is made from a verification, not from another summary")
	}
	options, at, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	verified, err := o.verify(ctx, at, options)
	if err != nil {
		return nil, err
	}
	result = &AttestResult{VerifyResult: *verified, Summaries: []Attested{}}
	if verified.Policy == nil { // no root was found in the archive
		return result, nil
	}
	if err := o.attest(ctx, at, result); err != nil {
		return nil, fmt.Errorf("attest %s: %w", o.Ref, err)
	}
	return result, nil
}

// subject is a manifest that gets a summary.
type subject struct {
	name, repository string
	desc             ocispec.Descriptor
}

func (o *AttestOptions) attest(ctx context.Context, at *opened, r *AttestResult) error {
	attach, err := attacher(at)
	if o.To != "" {
		var repository *registry.Repository
		if repository, err = repositoryOf(o.Registry, o.To); err == nil {
			attach, err = attacher(&opened{Repository: repository})
		}
	}
	if attach == nil && err == nil {
		err = advice.Add(errors.New("an archive cannot be changed"), advice.AttestElsewhere)
	}
	if err != nil {
		return err
	}
	// cosign and Flux take any bundle that is attached to a root for its signature.
	own, err := signedBy(ctx, o.Signer, at, r.Root)
	if err != nil {
		return err
	}
	if own {
		return refused{errors.New("the signer of the summary also signed the application: attest with another key or identity")}
	}
	root, err := at.Resolve(ctx, r.Root.String())
	if err != nil {
		return err
	}
	app, err := artifact.OpenRoot(ctx, at, root)
	if err != nil && r.OK {
		return err
	}
	// An application outside a registry is judged by the rules for the repository that it was
	// packed for.
	name := at.name
	if name == "" && err == nil {
		if statements, err := app.Statements(ctx); err == nil {
			name = artifact.Home(statements)
		}
	}
	subjects := []subject{{"root", name, root}}
	template := artifact.Summary{
		Verifier:     artifact.SummaryVerifier{ID: artifact.VerifierID, Version: map[string]string{"tape": cmp.Or(o.Version, "devel")}},
		TimeVerified: stated(o.At), Policy: *r.Policy, SLSAVersion: artifact.SummaryVersion,
		VerificationResult: artifact.SummaryFailed, VerifiedLevels: []string{artifact.SummaryFailed},
	}
	var images int
	if r.OK {
		template.VerificationResult, template.VerifiedLevels = artifact.SummaryPassed, []string{artifact.LevelUnevaluated}
		children := app.Children(artifact.RoleImage)
		images = len(children)
		if o.Images {
			list, err := o.images(ctx, at, name, children)
			if err != nil {
				return err
			}
			subjects = append(subjects, list...)
		}
	}
	for _, s := range subjects {
		summary := template
		summary.ResourceURI = packageURL(s.repository, s.desc.Digest)
		if s.name == "root" && images > 0 {
			summary.DependencyLevels = map[string]json.Number{artifact.LevelUnevaluated: json.Number(strconv.Itoa(images))}
		}
		made, err := attach.state(ctx, o.Signer, s.desc, artifact.PredicateSummary, summary)
		if err != nil {
			return fmt.Errorf("summary of %s: %w", s.name, err)
		}
		r.Summaries = append(r.Summaries, Attested{s.name, s.desc.Digest, summary.VerificationResult, made})
	}
	return nil
}

// images returns the images of an application as subjects. It checks for signatures by cosign
// before version 3: readers that look for bundles first would no longer find them beside a
// summary.
func (o *AttestOptions) images(ctx context.Context, at *opened, repository string, children []ocispec.Descriptor) ([]subject, error) {
	var out []subject
	for _, child := range children {
		name, _, _ := strings.Cut(child.Annotations[artifact.AnnotationImageSource], ",")
		if hidden, err := o.hides(ctx, at, child.Digest); err != nil {
			return nil, err
		} else if hidden {
			return nil, refused{advice.Add(fmt.Errorf("image %s has a signature of cosign before version 3 and no bundle: a summary beside it would hide that signature from cosign, Flux and Kyverno", name), advice.HideSignature)}
		}
		out = append(out, subject{"image " + name, repository, ocispec.Descriptor{MediaType: child.MediaType, Digest: child.Digest, Size: child.Size}})
	}
	return out, nil
}

// hides reports whether a summary would hide a signature of an image.
func (o *AttestOptions) hides(ctx context.Context, at *opened, image digest.Digest) (bool, error) {
	if o.Force || o.To != "" {
		return false, nil
	}
	if _, err := at.Resolve(ctx, registry.AttachedTag(image, ".sig")); err != nil {
		if errdefs.IsNotFound(err) {
			err = nil
		}
		return false, err
	}
	referrers, err := at.Referrers(ctx, image)
	if err != nil {
		return false, err
	}
	for _, desc := range referrers {
		if bundle, err := sign.Attached(ctx, at, desc); err == nil && bundle != nil {
			return false, nil
		}
	}
	return true, nil
}

// packageURL returns the package URL of a manifest in a repository, or "" if there is no
// repository.
func packageURL(repository string, manifest digest.Digest) string {
	qualifiers := map[string]string{}
	if repository != "" {
		qualifiers["repository_url"] = repository
	}
	return packageurl.NewPackageURL(packageurl.TypeOCI, "", path.Base(cmp.Or(repository, "application")), manifest.String(),
		packageurl.QualifiersFromMap(qualifiers), "").ToString()
}
