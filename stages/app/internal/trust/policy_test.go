// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// folder returns a folder with keys a, b and c, and the trusted root of an instance.
func folder(t *testing.T) (dir string, keys map[string]*sign.Key) {
	t.Helper()
	dir, keys = t.TempDir(), map[string]*sign.Key{}
	for _, name := range []string{"a", "b", "c"} {
		private, public, err := sign.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name+".pub"), public)
		write(t, filepath.Join(dir, name+".key"), private)
		if keys[name], err = sign.LoadSigner(t.Context(), filepath.Join(dir, name+".key"), nil); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "root.json"), newInstance(t).trusted(t))
	return dir, keys
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

const head = `apiVersion: tape/v1
kind: Trust
roots: {r: {file: root.json}}
authorities:
  a: {key: a.pub}
  a2: {key: a.pub}
  b: {key: b.pub}
  c: {key: c.pub}
  ci: {root: r, issuer: "https://issuer.example", identity: "https://github.com/acme/*"}
`

func policy(t *testing.T, dir, rules string) (*Policy, error) {
	t.Helper()
	return parse(filepath.Join(dir, "trust.yaml"), []byte(head+rules))
}

func TestRules(t *testing.T) {
	dir, keys := folder(t)
	signed := func(of digest.Digest, predicate string, names ...string) *Evidence {
		e := &Evidence{}
		for _, name := range names {
			bundle, err := keys[name].Bundle(t.Context(), statement(t, of, predicate))
			if err != nil {
				t.Fatal(err)
			}
			e.Add(bundle)
		}
		return e
	}
	with := func(e *Evidence, more *Evidence) *Evidence {
		e.bundles = append(e.bundles, more.bundles...)
		return e
	}
	const vsa = "https://slsa.dev/verification_summary/v1"
	signature := func(names ...string) *Evidence { return signed(manifest, artifact.PredicateSignature, names...) }
	for name, c := range map[string]struct {
		rules    string
		subject  string
		evidence *Evidence
		ok       bool
		want     string
	}{
		"one":                         {`images: [{names: ["ex.io/*"], require: a}]`, "ex.io/web:1", signature("a"), true, ""},
		"unsigned":                    {`images: [{names: ["ex.io/*"], require: a}]`, "ex.io/web:1", &Evidence{}, false, "no signature is attached"},
		"signed by another":           {`images: [{names: ["ex.io/*"], require: a}]`, "ex.io/web:1", signature("b"), false, "not signed by this key"},
		"signature of another":        {`images: [{names: ["ex.io/*"], require: a}]`, "ex.io/web:1", signed(digest.FromString("other"), artifact.PredicateSignature, "a"), false, "the bundle signs"},
		"statement for a signature":   {`images: [{names: ["ex.io/*"], require: a}]`, "ex.io/web:1", signed(manifest, vsa, "a"), false, "not a signature"},
		"among others":                {`images: [{names: ["ex.io/*"], require: a}]`, "ex.io/web:1", signature("c", "b", "a"), true, ""},
		"authority of another rule":   {`images: [{names: ["ex.io/*"], require: a}, {names: ["other.io/*"], require: b}]`, "ex.io/web:1", signature("b"), false, "images rule ex.io/*"},
		"every rule":                  {`images: [{names: ["ex.io/*"], require: a}, {names: ["ex.io/web"], require: b}]`, "ex.io/web:1", signature("a"), false, "images rule ex.io/web"},
		"every rule holds":            {`images: [{names: ["ex.io/*"], require: a}, {names: ["ex.io/web"], require: b}]`, "ex.io/web:1", signature("a", "b"), true, ""},
		"any":                         {`images: [{names: ["ex.io/*"], require: {anyOf: [a, b]}}]`, "ex.io/web:1", signature("b"), true, ""},
		"none of any":                 {`images: [{names: ["ex.io/*"], require: {anyOf: [a, b]}}]`, "ex.io/web:1", signature("c"), false, "one of a, b"},
		"all":                         {`images: [{names: ["ex.io/*"], require: {allOf: [a, b]}}]`, "ex.io/web:1", signature("b", "a"), true, ""},
		"not all":                     {`images: [{names: ["ex.io/*"], require: {allOf: [a, b]}}]`, "ex.io/web:1", signature("b", "b"), false, "all of a, b"},
		"threshold":                   {`images: [{names: ["ex.io/*"], require: {threshold: 2, of: [a, b, c]}}]`, "ex.io/web:1", signature("a", "c"), true, ""},
		"one key twice":               {`images: [{names: ["ex.io/*"], require: {threshold: 2, of: [a, b, c]}}]`, "ex.io/web:1", signature("a", "a"), false, "2 of a, b, c"},
		"identity wanted":             {`images: [{names: ["ex.io/*"], require: ci}]`, "ex.io/web:1", signature("a"), false, "signed with a key"},
		"attested":                    {`images: [{names: ["ex.io/*"], attestations: [{type: "` + vsa + `", by: a, fields: {result: passed}}]}]`, "ex.io/web:1", signed(manifest, vsa, "a"), true, ""},
		"attested otherwise":          {`images: [{names: ["ex.io/*"], attestations: [{type: "` + vsa + `", by: a, fields: {result: failed}}]}]`, "ex.io/web:1", signed(manifest, vsa, "a"), false, `result is "passed", not "failed"`},
		"attested without field":      {`images: [{names: ["ex.io/*"], attestations: [{type: "` + vsa + `", by: a, fields: {result.x: ""}}]}]`, "ex.io/web:1", signed(manifest, vsa, "a"), false, "result.x"},
		"attested by another":         {`images: [{names: ["ex.io/*"], attestations: [{type: "` + vsa + `", by: a}]}]`, "ex.io/web:1", signed(manifest, vsa, "b"), false, "not signed by this key"},
		"attested about another":      {`images: [{names: ["ex.io/*"], attestations: [{type: "` + vsa + `", by: a}]}]`, "ex.io/web:1", signed(digest.FromString("other"), vsa, "a"), false, "the bundle signs"},
		"signed, not attested":        {`images: [{names: ["ex.io/*"], require: a, attestations: [{type: "` + vsa + `", by: a}]}]`, "ex.io/web:1", signature("a"), false, "no such statement"},
		"signed and attested":         {`images: [{names: ["ex.io/*"], require: a, attestations: [{type: "` + vsa + `", by: b}]}]`, "ex.io/web:1", with(signature("a"), signed(manifest, vsa, "b")), true, ""},
		"no rule":                     {`images: [{names: ["ex.io/*"], require: a}]`, "other.io/web:1", &Evidence{}, true, ""},
		"no rule, denied":             {"images: [{names: [\"ex.io/*\"], require: a}]\ndefault: deny", "other.io/web:1", signature("a"), false, "no rule for images names it"},
		"registry with a longer name": {"images: [{names: [\"ex.io/*\"], require: a}]\ndefault: deny", "ex.io.evil/web:1", signature("a"), false, "no rule for images names it"},
		"another spelling of a host":  {`images: [{names: ["ex.io/*"], require: a}]`, "EX.IO/web:1", &Evidence{}, false, "no signature"},
		"the port of HTTPS":           {`images: [{names: ["ex.io/*"], require: a}]`, "ex.io:0443/web:1", &Evidence{}, false, "no signature"},
		"Docker Hub's short name":     {`images: [{names: ["docker.io/library/*"], require: a}]`, "nginx:1", &Evidence{}, false, "no signature"},
		"rules for applications":      {"applications: [{names: [\"ex.io/*\"], require: a}]\ndefault: deny", "ex.io/web:1", signature("a"), false, "no rule for images names it"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := policy(t, dir, c.rules)
			if err != nil {
				t.Fatal(err)
			}
			findings, err := p.Check(t.Context(), Subject{Names: []string{c.subject}, Digest: manifest, Evidence: func(context.Context) (*Evidence, error) { return c.evidence, nil }})
			if err != nil {
				t.Fatal(err)
			}
			ok, text := true, ""
			for _, f := range findings {
				if !f.OK {
					ok = false
					if f.Rule != nil {
						text += f.Rule.String() + ": "
					}
					text += f.Reason
				}
			}
			if ok != c.ok || !strings.Contains(text, c.want) {
				t.Errorf("ok %v, %q; want %v, %q", ok, text, c.ok, c.want)
			}
		})
	}
}

// One signer does not fulfil a threshold for two authorities that match it.
func TestThresholdOfOneSigner(t *testing.T) {
	here := newInstance(t)
	dir, keys := folder(t)
	verifier, err := sign.LoadVerifier(filepath.Join(dir, "a.pub"))
	if err != nil {
		t.Fatal(err)
	}
	wide, exact := here.authority(t, "https://github.com/acme/*", Want{SCT: no}), here.authority(t, identity, Want{SCT: no})
	wide.Name, exact.Name = "wide", "exact"
	key := &Authority{Name: "key", Key: verifier}
	e := &Evidence{}
	for range 2 {
		e.Add(encode(t, here.bundle(t, statement(t, manifest, artifact.PredicateSignature), time.Now())))
	}
	rule := &Rule{Section: "images", Names: []string{"ex.io/*"}, Of: []*Authority{wide, exact, key}, Threshold: 2}
	if f := rule.check(t.Context(), manifest, e); f.OK || !strings.Contains(f.Reason, identity+" "+issuer+" counts once; key: ") || f.Proof != (Proof{}) {
		t.Errorf("%+v", f)
	}
	bundle, err := keys["a"].Bundle(t.Context(), statement(t, manifest, artifact.PredicateSignature))
	if err != nil {
		t.Fatal(err)
	}
	e.Add(bundle)
	if f := rule.check(t.Context(), manifest, e); !f.OK || f.Proof.Identity != identity {
		t.Errorf("%+v", f)
	}
	for _, c := range []struct {
		signers [][]string
		want    int
	}{
		{nil, 0}, {[][]string{{"a"}, {"a"}}, 1}, {[][]string{{"a", "b"}, {"a"}}, 2}, {[][]string{{"a"}, {"a", "b"}, {"b", "c"}}, 3}, {[][]string{{"a", "b"}, {"a", "b"}, {"b", "a"}}, 2},
	} {
		if got := distinct(c.signers); got != c.want {
			t.Errorf("%v: %d, want %d", c.signers, got, c.want)
		}
	}
}

func TestFile(t *testing.T) {
	dir, _ := folder(t)
	for _, c := range []struct{ rules, want string }{
		{`images: [{names: ["ex.io/*"], require: a}]`, ""},
		{"applications: [{names: [\"ex.io/*\"], require: {threshold: 1, of: [a, ci]}}]\ndefault: allow", ""},
		{"origin: a", ""},
		{`imges: []`, `trust.yaml:10:1: unknown key "imges" (did you mean "images"?)`},
		{`images: [{name: ["ex.io/*"], require: a}]`, `unknown key "name" (did you mean "names"?)`},
		{`images: [{names: ["ex.io/*"], require: vendr}]`, `there is no authority "vendr"`},
		{`images: [{names: ["ex.io/*"], require: {anyOf: []}}]`, "images[0].require.anyOf is empty"},
		{`images: [{names: ["ex.io/*"], require: {anyOf: [a, a]}}]`, "anyOf[1] is there twice"},
		{`images: [{names: ["ex.io/*"], require: {anyOf: [a], allOf: [b]}}]`, "want the name of an authority, {anyOf"},
		{`images: [{names: ["ex.io/*"], require: {threshold: 3, of: [a, b]}}]`, "3 of 2 authorities"},
		{`images: [{names: ["ex.io/*"], require: {threshold: 0, of: [a, b]}}]`, "threshold is 0, want 1 or more"},
		{`images: [{names: ["ex.io/*"]}]`, "requires nothing"},
		{`images: [{names: ["ex.io/*"], attestations: []}]`, "requires nothing"},
		{`images: [{names: ["ex.io/*"], attestations: {type: x, by: a}}]`, "attestations must be a list, not a mapping"},
		{`images: [{names: ["ex.io/*"], require: ""}]`, `require is empty`},
		{`images: [{names: ["ex.io/*"], require: {anyOf: [""]}}]`, `anyOf[0] is empty`},
		{`images: [{names: ["ex.io/*"], require: {threshold: 2, of: [a, a2]}}]`, "a2 has the key of a, and signs once"},
		{`images: [{names: ["ex.io/*"], attestations: [{type: x, by: ""}]}]`, `by is empty`},
		{`origin: ""`, `origin is empty`},
		{`origin: [a]`, "origin must be a string, not a list"},
		{`origin: vendr`, `there is no authority "vendr"`},
		{`images: [{names: [], require: a}]`, "a rule without names matches nothing"},
		{`images: [{names: ["*"], require: a}]`, "* does not match registries"},
		{`images: [{names: ["ex.io/../x"], require: a}]`, `no part ".."`},
		{`images: [{names: ["../x"], require: a}]`, "no repository has such a name"},
		{`images: [{names: ["./*"], require: a}]`, "no repository has such a name"},
		{`images: [{names: ["ex.io/%2e%2e/x"], require: a}]`, "no repository has such a name"},
		{`images: [{names: [" ex.io/x"], require: a}]`, "no repository has such a name"},
		{`images: [{names: ["ex.io/{a,b}"], require: a}]`, "no repository has such a name"},
		{`images: [{names: ["ex.io/^a$"], require: a}]`, "no repository has such a name"},
		{`images: [{names: ["ex.io:port/a"], require: a}]`, "no repository has such a name"},
		{`images: [{names: ["EX.io/a"], require: a}]`, "the name of that registry is ex.io"},
		{`images: [{names: ["ex.io:443/a"], require: a}]`, "the name of that registry is ex.io"},
		{`images: [{names: ["index.docker.io/acme/*"], require: a}]`, "the name of that registry is docker.io"},
		{`images: [{names: ["docker.io/nginx"], require: a}]`, "are docker.io/library/nginx"},
		{`images: [{names: ["docker.io/ng*"], require: a}]`, "are docker.io/library/ng*"},
		{`images: [{names: ["docker.io/*", "docker.io/**", "docker.io/acme/*", "docker.io/library/ng*", "ex.io/a*b/c-*", "ex.io:5000/a", "localhost/a"], require: a}]`, ""},
		{`images: [{names: ["ex.io/x:1"], require: a}]`, "without tag and digest"},
		{`images: [{names: ["ex.io/*"], attestations: [{by: a}]}]`, `attestations[0] needs "type"`},
		{`default: maybe`, `default is "maybe", want allow or deny`},
		{``, "there is no rule"},
		{"default: deny\ndefault: allow", `"default" already exists in line 10`},
		{"default: deny\n---\na: b", "a file has only one"},
	} {
		_, err := policy(t, dir, c.rules)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.rules, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"\tapiVersion: tape/v1":              "trust.yaml:1: found character that cannot start any token",
		"apiVersion: tape/v1\n\tkind: Trust": "trust.yaml:2: found a tab character",
		"apiVersion: tape/v1\nkind: *x":      "trust.yaml: unknown anchor 'x' referenced",
	} {
		if _, err := parse("trust.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"roots: {r: {file: root.json, sha256: abc}}":             "want 64 hexadecimal digits",
		"roots: {r: {file: root.json, sha256: \"\"}}":            "roots.r.sha256 is empty",
		"roots: {r: {file: missing.json}}":                       "missing.json",
		"roots: {r: {file: a.pub}}":                              "trusted root",
		"authorities: {a: {key: a.key}}":                         "verifying needs a public key",
		"authorities: {a: {key: \"sh://k\"}}":                    `is the file of a public key, not "sh://k"`,
		"authorities: {a: {key: \"env://KEY\"}}":                 "is the file of a public key",
		"authorities: {a: {key: \"-\"}}":                         "is the file of a public key",
		"authorities: {a: {key: \"\"}}":                          "authorities.a.key is empty",
		"authorities: {\"\": {key: a.pub}}":                      "an authority has a name",
		"authorities: {a: {key: a.pub, issuer: x}}":              "has a key",
		"authorities: {a: {issuer: \"https://x\", identity: x}}": "want a key, or root, issuer and identity",
		"roots: {r: {file: root.json}}\nauthorities: {a: {root: s, issuer: \"https://x\", identity: x}}":                      `there is no root "s"`,
		"roots: {r: {file: root.json}}\nauthorities: {a: {root: r, issuer: \"https://x\", identity: \"*\"}}":                  "is not anchored",
		"roots: {r: {file: root.json}}\nauthorities: {a: {root: r, issuer: x, identity: x}}":                                  "is not a URL",
		"roots: {r: {file: root.json}}\nauthorities: {a: {root: r, issuer: \"https://x\", identity: x, runnerEnviroment: y}}": `did you mean "runnerEnvironment"?`,
	} {
		_, err := parse(filepath.Join(dir, "trust.yaml"), []byte("apiVersion: tape/v1\nkind: Trust\ndefault: deny\n"+text+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

// FuzzParse reads trust files, which must not panic: every mistake is one in the file.
func FuzzParse(f *testing.F) {
	f.Add([]byte("images: [{names: [\"ex.io/*\"], require: {threshold: 2, of: [a, b]}, attestations: [{type: x, by: a, fields: {a.b: 1.50}}]}]\ndefault: deny\n"))
	f.Add([]byte("applications: [{names: [\"*\"], require: {anyOf: [b, a2, x]}}, {require: [], names: ~}]\norigin: &a a\n"))
	const keys = "apiVersion: tape/v1\nkind: Trust\nauthorities: {a: {key: a.pub}, a2: {key: a.pub}, b: {key: b.pub}}\n"
	dir := f.TempDir()
	for _, name := range []string{"a", "b"} {
		_, public, err := sign.GenerateKey(nil)
		if err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".pub"), public, 0o600); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parse(filepath.Join(dir, "trust.yaml"), append([]byte(keys), data...))
		if (p == nil) != (err != nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if all := (document.Errors{}); err != nil && !errors.As(err, &all) {
			t.Fatalf("a %T: %v", err, err)
		}
	})
}
