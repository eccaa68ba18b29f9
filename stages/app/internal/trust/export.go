// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/stages/artifact"
)

// Target is a program that enforces rules in a cluster.
type Target string

// The targets of [Policy.Export].
const (
	Flux             Target = "flux"
	Kyverno          Target = "kyverno"
	PolicyController Target = "policy-controller"
)

// object is a Kubernetes object. YAML sorts its fields, so that the same policy gives the same
// bytes.
type object = map[string]any

// Export returns the rules as Kubernetes objects, in YAML: those for applications for Flux,
// those for images for the other targets. Rules that the target cannot enforce are named in the
// error, because an object that enforces less would look like the rule.
func (p *Policy) Export(to Target) ([]byte, error) {
	var (
		rules   = p.Images
		section = "images"
		write   func(n int, r *Rule) ([]object, error)
	)
	switch to {
	case Flux:
		rules, section, write = p.Applications, "applications", p.flux
	case Kyverno:
		write = kyverno
	case PolicyController:
		write = policyController
	default:
		return nil, fmt.Errorf("export to %q: it is %s, %s or %s", to, Flux, Kyverno, PolicyController)
	}
	var problems []error
	refuse := func(what string, err error) {
		problems = append(problems, fmt.Errorf("export %s to %s: %w", what, to, err))
	}
	if p.Deny {
		refuse("default: deny", errors.New("an object is for what it names: deny the rest with a policy of the cluster, and leave it out of the file to export"))
	}
	if p.Origin != nil && to == Flux {
		refuse("origin: "+p.Origin.Name, errors.New("it does not know where an application was relocated from"))
	}
	if len(rules) == 0 {
		refuse("rules", fmt.Errorf("the file has no rule for %s", section))
	}
	var objects []object
	for i, r := range rules {
		var made []object
		err := r.plain()
		if err == nil {
			made, err = write(i+1, r)
		}
		if err != nil {
			refuse(r.String(), err)
		}
		objects = append(objects, made...)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	var out bytes.Buffer
	if to != PolicyController {
		fmt.Fprintf(&out, "# %s counts any bundle about a digest as a signature, attestations too; tape does not.\n", to)
	}
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	for _, o := range objects {
		if err := enc.Encode(o); err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return out.Bytes(), nil
}

// plain refuses rules that no target can enforce exactly.
func (r *Rule) plain() error {
	if len(r.Attestations) > 0 {
		return fmt.Errorf("attestations (%s) are not exported, and without them the rule would require less", r.Attestations[0].Type)
	}
	for _, a := range r.Of {
		id := a.Identity
		if id == nil {
			continue
		}
		for _, claim := range Claims() {
			if _, ok := id.Claims[claim]; ok {
				return fmt.Errorf("it does not compare %s of the certificate, which authority %s wants", claim, a.Name)
			}
		}
		if !id.Root.public {
			return fmt.Errorf("the root of authority %s is not that of the public Sigstore, with which it verifies identities", a.Name)
		}
		if id.Root.timestamp {
			return fmt.Errorf("it does not require the timestamp that the root of authority %s wants", a.Name)
		}
	}
	return nil
}

// flux writes a verification for each repository. Flux accepts one of several keys or
// identities, and has one verification per repository.
func (p *Policy) flux(n int, r *Rule) ([]object, error) {
	if r.Threshold != 1 {
		return nil, fmt.Errorf("it accepts one signature, and cannot require %s", r.Require())
	}
	verify, keys, identities := object{"provider": "cosign"}, map[string]string{}, []object{}
	for i, a := range r.Of {
		if a.Key != nil {
			text, err := publicKey(a)
			if err != nil {
				return nil, err
			}
			keys[fmt.Sprintf("key%d.pub", i+1)] = text
			continue
		}
		subject := identityExpression(a.Identity.Pattern)
		identities = append(identities, object{"issuer": "^" + regexp.QuoteMeta(a.Identity.Issuer) + "$", "subject": subject})
	}
	if len(keys) > 0 && len(identities) > 0 {
		return nil, fmt.Errorf("it takes keys or identities, not both: %s", r.Require())
	}
	name := fmt.Sprintf("tape-trust-applications-%d", n)
	var objects []object
	if len(keys) > 0 {
		verify["secretRef"] = object{"name": name}
		objects = append(objects, object{
			"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": name, "namespace": "flux-system"}, "stringData": keys,
		})
	} else {
		verify["matchOIDCIdentity"] = identities
	}
	for i, repository := range r.Names {
		if strings.Contains(repository, "*") {
			return nil, fmt.Errorf("%s: an OCIRepository is for one repository, and * matches many: name each", repository)
		}
		for _, other := range p.Applications {
			if other != r && other.matches(repository) || other == r && slices.Index(r.Names, repository) != i {
				return nil, fmt.Errorf("%s is named by %s too, and an OCIRepository verifies one rule", repository, other)
			}
		}
		objects = append(objects, object{
			"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "OCIRepository",
			"metadata": object{"name": fmt.Sprintf("%s-%d", name, i+1), "namespace": "flux-system"},
			"spec":     object{"interval": "10m", "url": "oci://" + repository, "verify": verify},
		})
	}
	return objects, nil
}

// rekor is the log of the public Sigstore. Kyverno requires its URL even if it is ignored.
const rekor = "https://rekor.sigstore.dev"

// kyverno writes one ImageValidatingPolicy.
func kyverno(n int, r *Rule) ([]object, error) {
	var globs []object
	for _, name := range r.Names {
		made, err := kyvernoGlobs(name)
		if err != nil {
			return nil, err
		}
		for _, glob := range made {
			globs = append(globs, object{"glob": glob})
		}
	}
	var (
		attestors []object
		signed    []string
	)
	for i, a := range r.Of {
		cosign := object{}
		if a.Key != nil {
			text, err := publicKey(a)
			if err != nil {
				return nil, err
			}
			cosign["key"] = object{"data": text}
			cosign["ctlog"] = object{"url": rekor, "insecureIgnoreTlog": true, "insecureIgnoreSCT": true}
		} else {
			subject := identityExpression(a.Identity.Pattern)
			cosign["keyless"] = object{"identities": []object{{"issuer": a.Identity.Issuer, "subjectRegExp": subject}}}
			cosign["ctlog"] = object{"url": rekor}
		}
		name := fmt.Sprintf("authority%d", i+1)
		attestors = append(attestors, object{"name": name, "cosign": cosign})
		signed = append(signed, fmt.Sprintf("verifyImageSignatures(image, [attestors.%s]) > 0", name))
	}
	var expression string
	switch r.Threshold {
	case 1:
		expression = strings.Join(signed, " || ")
	case len(signed):
		expression = strings.Join(signed, " && ")
	default:
		expression = fmt.Sprintf("[%s].filter(ok, ok).size() >= %d", strings.Join(signed, ", "), r.Threshold)
	}
	return []object{{
		"apiVersion": "policies.kyverno.io/v1", "kind": "ImageValidatingPolicy",
		"metadata": object{"name": fmt.Sprintf("tape-trust-images-%d", n)},
		"spec": object{
			"failurePolicy": "Fail", "validationActions": []string{"Deny"},
			"matchConstraints": object{"resourceRules": []object{{
				"apiGroups": []string{""}, "apiVersions": []string{"v1"}, "operations": []string{"CREATE", "UPDATE"},
				"resources": []string{"pods", "pods/ephemeralcontainers"},
			}}},
			"matchImageReferences": globs,
			"attestors":            attestors,
			"validations": []object{{
				"expression": "(images.containers + images.initContainers + images.ephemeralContainers).all(image, " + expression + ")",
				"message":    "it must be signed by " + r.Require(),
			}},
		},
	}}, nil
}

// kyvernoGlobs translates a glob. A glob of Kyverno matches a reference as written in the pod,
// with tag or digest, and its * matches any text, including slashes.
func kyvernoGlobs(glob string) ([]string, error) {
	if strings.HasPrefix(glob, "docker.io/") {
		return nil, fmt.Errorf("%s: pods may write images of Docker Hub in several ways, which its globs do not bring together", glob)
	}
	fixed, rest := cutRest(glob)
	switch {
	case strings.Contains(fixed, "*"):
		return nil, fmt.Errorf("%s: its * matches slashes too, and would match other repositories", glob)
	case rest:
		return []string{fixed + "*"}, nil
	}
	return []string{fixed, fixed + ":*", fixed + "@*"}, nil
}

// policyController writes ClusterImagePolicies. All that match an image must be satisfied, each
// by one of its authorities.
func policyController(n int, r *Rule) ([]object, error) {
	var globs, authorities []object
	for _, name := range r.Names {
		globs = append(globs, object{"glob": policyControllerGlob(name)})
	}
	for i, a := range r.Of {
		if a.Key != nil {
			return nil, fmt.Errorf("it does not verify bundles with a key, as authority %s has", a.Name)
		}
		subject := identityExpression(a.Identity.Pattern)
		authorities = append(authorities, object{
			"name": fmt.Sprintf("authority%d", i+1), "signatureFormat": "bundle",
			"keyless": object{"url": "https://fulcio.sigstore.dev", "identities": []object{{"issuer": a.Identity.Issuer, "subjectRegExp": subject}}},
			"ctlog":   object{"url": rekor},
			// It verifies bundles only as attestations, as which signatures qualify.
			"attestations": []object{{"name": "signature", "predicateType": artifact.PredicateSignature}},
		})
	}
	policy := func(name string, authorities []object) object {
		return object{
			"apiVersion": "policy.sigstore.dev/v1beta1", "kind": "ClusterImagePolicy", "metadata": object{"name": name},
			"spec": object{"mode": "enforce", "images": globs, "authorities": authorities},
		}
	}
	name := fmt.Sprintf("tape-trust-images-%d", n)
	switch r.Threshold {
	case 1:
		return []object{policy(name, authorities)}, nil
	case len(authorities):
		var objects []object
		for i, a := range authorities {
			objects = append(objects, policy(fmt.Sprintf("%s-%d", name, i+1), []object{a}))
		}
		return objects, nil
	}
	return nil, fmt.Errorf("it accepts one or all authorities, and cannot require %s", r.Require())
}

// policyControllerGlob translates a glob. * matches any text without slashes, ** any text, and
// the whole must match the name of an image with its digest.
func policyControllerGlob(glob string) string {
	if rest, ok := strings.CutPrefix(glob, "docker.io/"); ok {
		glob = "index.docker.io/" + rest
	}
	fixed, rest := cutRest(glob)
	if rest {
		return fixed + "**"
	}
	return fixed + "@*"
}

// cutRest removes the part of a glob that matches the rest of a repository.
func cutRest(glob string) (fixed string, rest bool) {
	dir := glob[:strings.LastIndex(glob, "/")+1]
	if last := glob[len(dir):]; last == "*" || last == "**" {
		return dir, true
	}
	return glob, false
}

// publicKey returns the key of an authority in PEM.
func publicKey(a *Authority) (string, error) {
	key, err := a.Key.PublicKey()
	if err != nil {
		return "", fmt.Errorf("key of authority %s: %w", a.Name, err)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("key of authority %s: %w", a.Name, err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}
