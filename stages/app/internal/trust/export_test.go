// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/testing/data"
	"go.yaml.in/yaml/v3"
)

// exportFolder returns a folder and the head of a trust file in which the identity ci is one of
// the public Sigstore, and private one of another.
func exportFolder(t *testing.T) (dir, head, key string) {
	t.Helper()
	dir, _ = folder(t)
	public, err := json.Marshal(data.TrustedRoot(t, "public-good.json"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "public.json"), public)
	pub, err := os.ReadFile(filepath.Join(dir, "a.pub"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, `apiVersion: tape/v1
kind: Trust
roots: {public: {file: public.json}, other: {file: root.json}}
authorities:
  a: {key: a.pub}
  b: {key: b.pub}
  ci: {root: public, issuer: "https://issuer.example", identity: "https://github.com/acme/*"}
  mail: {root: public, issuer: "https://issuer.example", identity: "dev@acme.example"}
  claims: {root: public, issuer: "https://issuer.example", identity: "dev@acme.example", buildTrigger: push}
  private: {root: other, issuer: "https://issuer.example", identity: "dev@acme.example"}
`, string(pub)
}

func TestExport(t *testing.T) {
	dir, head, key := exportFolder(t)
	indented := strings.ReplaceAll(strings.TrimSpace(key), "\n", "\n      ")
	acme := identityExpression("https://github.com/acme/*")
	kyverno := func(globs, attestors, expression, message string) string {
		return fmt.Sprintf(`apiVersion: policies.kyverno.io/v1
kind: ImageValidatingPolicy
metadata: {name: tape-trust-images-1}
spec:
  failurePolicy: Fail
  validationActions: [Deny]
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, pods/ephemeralcontainers]}]}
  matchImageReferences: [%s]
  attestors: %s
  validations:
  - expression: (images.containers + images.initContainers + images.ephemeralContainers).all(image, %s)
    message: it must be signed by %s
`, globs, attestors, expression, message)
	}
	ci := "{keyless: {identities: [{issuer: 'https://issuer.example', subjectRegExp: '" + acme + "'}]}, ctlog: {url: 'https://rekor.sigstore.dev'}}"
	mail := `{keyless: {identities: [{issuer: 'https://issuer.example', subjectRegExp: '^dev@acme\.example$'}]}, ctlog: {url: 'https://rekor.sigstore.dev'}}`
	clusterPolicy := func(name, glob string, authorities ...string) string {
		out := "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: " + name + "}\nspec:\n  mode: enforce\n  images: [{glob: '" + glob + "'}]\n  authorities:\n"
		for _, a := range authorities {
			name, subject, _ := strings.Cut(a, " ")
			out += "  - {name: " + name + ", signatureFormat: bundle, attestations: [{name: signature, predicateType: 'https://sigstore.dev/cosign/sign/v1'}], ctlog: {url: 'https://rekor.sigstore.dev'}, keyless: {url: 'https://fulcio.sigstore.dev', identities: [{issuer: 'https://issuer.example', subjectRegExp: '" + subject + "'}]}}\n"
		}
		return out
	}
	for name, c := range map[string]struct {
		to    Target
		rules string
		want  string
	}{
		"flux, key": {Flux, "applications: [{names: [r.example/team/shop], require: a}]", `apiVersion: v1
kind: Secret
metadata: {name: tape-trust-applications-1, namespace: flux-system}
stringData:
    key1.pub: |
      ` + indented + `
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata: {name: tape-trust-applications-1-1, namespace: flux-system}
spec: {interval: 10m, url: 'oci://r.example/team/shop', verify: {provider: cosign, secretRef: {name: tape-trust-applications-1}}}
`},
		"flux, identities": {Flux, "applications: [{names: [r.example/team/shop], require: {anyOf: [ci, mail]}}]", `apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata: {name: tape-trust-applications-1-1, namespace: flux-system}
spec:
  interval: 10m
  url: oci://r.example/team/shop
  verify:
    provider: cosign
    matchOIDCIdentity:
    - {issuer: '^https://issuer\.example$', subject: '` + acme + `'}
    - {issuer: '^https://issuer\.example$', subject: '^dev@acme\.example$'}
`},
		"kyverno, any": {
			Kyverno, "images: [{names: [r.example/acme/*, 'r.example:5000/web'], require: {anyOf: [a, ci]}}]",
			kyverno("{glob: r.example/acme/*}, {glob: 'r.example:5000/web'}, {glob: 'r.example:5000/web:*'}, {glob: 'r.example:5000/web@*'}", `
  - name: authority1
    cosign:
     ctlog: {url: 'https://rekor.sigstore.dev', insecureIgnoreTlog: true, insecureIgnoreSCT: true}
     key:
      data: |
       `+strings.ReplaceAll(indented, "      ", "       ")+`
  - {name: authority2, cosign: `+ci+"}",
				"verifyImageSignatures(image, [attestors.authority1]) > 0 || verifyImageSignatures(image, [attestors.authority2]) > 0", "one of a, ci"),
		},
		"kyverno, threshold": {
			Kyverno, "images: [{names: [r.example/acme/**], require: {threshold: 2, of: [ci, mail, mail2]}}]",
			kyverno("{glob: r.example/acme/*}", "[{name: authority1, cosign: "+ci+"}, {name: authority2, cosign: "+mail+"}, {name: authority3, cosign: "+mail+"}]",
				"[verifyImageSignatures(image, [attestors.authority1]) > 0, verifyImageSignatures(image, [attestors.authority2]) > 0, verifyImageSignatures(image, [attestors.authority3]) > 0].filter(ok, ok).size() >= 2", "2 of ci, mail, mail2"),
		},
		"policy-controller, any": {
			PolicyController, "images: [{names: ['r.example/*/web-*'], require: {anyOf: [ci, mail]}}]",
			clusterPolicy("tape-trust-images-1", "r.example/*/web-*@*", "authority1 "+acme, `authority2 ^dev@acme\.example$`),
		},
		"policy-controller, all": {
			PolicyController, "images: [{names: [docker.io/*], require: {allOf: [ci, mail]}}]",
			clusterPolicy("tape-trust-images-1-1", "index.docker.io/**", "authority1 "+acme) + "---\n" +
				clusterPolicy("tape-trust-images-1-2", "index.docker.io/**", `authority2 ^dev@acme\.example$`),
		},
	} {
		t.Run(name, func(t *testing.T) {
			policy, err := parse(filepath.Join(dir, "trust.yaml"), []byte(head+"  mail2: {root: public, issuer: \"https://issuer.example\", identity: \"dev@acme.example\"}\n"+c.rules))
			if err != nil {
				t.Fatal(err)
			}
			got, err := policy.Export(c.to)
			if err != nil {
				t.Fatal(err)
			}
			if have, want := decode(t, got), decode(t, []byte(c.want)); !reflect.DeepEqual(have, want) {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if warned := bytes.HasPrefix(got, []byte("# "+string(c.to)+" counts any bundle")); warned != (c.to != PolicyController) {
				t.Errorf("what it counts as a signature: %v in\n%s", warned, got)
			}
			if again, err := policy.Export(c.to); err != nil || !bytes.Equal(again, got) {
				t.Errorf("another time it is\n%s (%v)", again, err)
			}
		})
	}
}

func decode(t *testing.T, text []byte) []any {
	t.Helper()
	var out []any
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var v any
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		out = append(out, v)
	}
}

func TestExportRefuses(t *testing.T) {
	dir, head, _ := exportFolder(t)
	everywhere := []Target{Flux, Kyverno, PolicyController}
	both := func(require string) string {
		return "applications: [{names: [r.example/shop], " + require + "}]\nimages: [{names: [r.example/acme/*], " + require + "}]"
	}
	for name, c := range map[string]struct {
		to    []Target
		rules string
		want  string
	}{
		"no rules":           {everywhere, "default: deny", "has no rule for"},
		"default":            {everywhere, both("require: ci") + "\ndefault: deny", "default: deny"},
		"origin":             {[]Target{Flux}, both("require: ci") + "\norigin: a", "origin: a"},
		"attestations":       {everywhere, both("require: ci, attestations: [{type: x, by: a}]"), "attestations (x) are not exported"},
		"claims":             {everywhere, both("require: claims"), "does not compare buildTrigger"},
		"private":            {everywhere, both("require: private"), "not that of the public Sigstore"},
		"threshold":          {[]Target{Flux, PolicyController}, both("require: {threshold: 2, of: [ci, mail, mail2]}"), "cannot require 2 of ci, mail, mail2"},
		"all":                {[]Target{Flux}, both("require: {allOf: [a, b]}"), "cannot require all of a, b"},
		"key and identity":   {[]Target{Flux}, both("require: {anyOf: [a, ci]}"), "keys or identities, not both"},
		"key":                {[]Target{PolicyController}, both("require: a"), "does not verify bundles with a key, as authority a has"},
		"glob":               {[]Target{Flux}, "applications: [{names: [r.example/*], require: a}]", "* matches many"},
		"two rules":          {[]Target{Flux}, "applications: [{names: [r.example/shop], require: a}, {names: [r.example/*], require: b}]", "is named by applications rule r.example/* "},
		"twice":              {[]Target{Flux}, "applications: [{names: [r.example/shop, r.example/shop], require: a}]", "is named by applications rule r.example/shop, "},
		"glob in the middle": {[]Target{Kyverno}, "images: [{names: ['r.example/*/web'], require: a}]", "its * matches slashes too"},
		"glob of a part":     {[]Target{Kyverno}, "images: [{names: ['r.example/web-*'], require: a}]", "its * matches slashes too"},
		"docker hub":         {[]Target{Kyverno}, "images: [{names: [docker.io/library/nginx], require: a}]", "Docker Hub"},
		"timestamp":          {everywhere, both("require: stamped"), "does not require the timestamp"},
		"an unknown target":  {[]Target{"gatekeeper"}, both("require: a"), `export to "gatekeeper"`},
	} {
		for _, to := range c.to {
			t.Run(name+", "+string(to), func(t *testing.T) {
				policy, err := parse(filepath.Join(dir, "trust.yaml"), []byte(head+`  mail2: {root: public, issuer: "https://issuer.example", identity: "dev@acme.example"}
  stamped: {root: other, issuer: "https://issuer.example", identity: "dev@acme.example"}
`+c.rules))
				if err != nil {
					t.Fatal(err)
				}
				// The public root in the tests lists no timestamp authority.
				policy.Authorities["stamped"].Identity.Root = &Root{public: true, timestamp: true}
				out, err := policy.Export(to)
				if err == nil || !strings.Contains(err.Error(), c.want) || out != nil {
					t.Fatalf("%s, error %v, want %q", out, err, c.want)
				}
				if strings.Contains(err.Error(), "s rule ") && !regexp.MustCompile(`trust\.yaml:\d+`).MatchString(err.Error()) {
					t.Errorf("%v does not say where the rule is", err)
				}
			})
		}
	}
}
