// SPDX-License-Identifier: Apache-2.0

package credentials_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/credentials"
	"github.com/taped-dev/tape/stages/manifests"
)

// Tokens in documented forms. They are made of pieces so that scanners of this repository do
// not report them.
var (
	aws    = "AKIA" + "QYLPMN5HHHFPZAM2"
	github = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
	slack  = "xoxb-" + "123456789012-1234567890123-4mt0t4l1yf3k3t0k3n"
	stripe = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
	jwt    = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
	key    = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7Q8Zf2mJkx3v0c1Yy2r9s8k0p1q2w3e4r5t6y7u8i9o0\n-----END RSA PRIVATE KEY-----\n"
	cert   = "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n-----END CERTIFICATE-----\n"
	random = "hV8q2Zk1mX0sJ7wB4tYc"
)

// found returns the credentials in manifests: KEY: WHAT.
func found(t *testing.T, manifest string) []string {
	t.Helper()
	f := manifests.Open("a.yaml", []byte(manifest))
	var out []string
	for _, piece := range f.Text.Split() {
		docs, err := manifests.Parse(piece)
		if err != nil {
			t.Fatal(err)
		}
		for i := range docs {
			objects, _ := docs[i].Objects()
			for _, o := range objects {
				credentials.In(&docs[i], o, func(c credentials.Found) bool {
					out = append(out, c.Key+": "+c.What)
					return true
				})
			}
		}
	}
	return out
}

func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n    ") }

// All values of a Secret are credentials, whatever they look like, unless they are public or
// placeholders.
func TestSecret(t *testing.T) {
	for _, c := range []struct {
		name, secret string
		want         []string
	}{
		{"literal values", "stringData: {user: admin, password: hunter2}", []string{"user: a value", "password: a password"}},
		{"encoded values", "data: {password: aHVudGVyMg==, key: /////w==}", []string{"password: a password", "key: a value"}},
		{"a private key beside its certificate", "stringData:\n  tls.crt: |\n    " + indent(cert) + "\n  tls.key: |\n    " + indent(key), []string{"tls.key: a private key"}},
		{"public keys of SSH", "stringData:\n  known_hosts: |\n    # hosts\n    git.example.com,10.0.0.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n  id.pub: ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAI me@host\n", nil},
		{"no values", "data: {password: '', token: null}", nil},
		{"no data", "type: kubernetes.io/service-account-token", nil},
		{"no registries", "data: {.dockerconfigjson: eyJhdXRocyI6e319}", nil},
		{"filled in later", "stringData: {a: $(PASSWORD), b: '${PASSWORD}', c: <password>, d: '{{ .Password }}', e: 'vault:secret/data/db#password'}", nil},
		{"sealed by sops", "stringData: {password: 'ENC[AES256_GCM,data:p673w==,type:str]'}\nsops: {mac: 'ENC[AES256_GCM,data:x,type:str]'}", nil},
		{"sealed by sops in part", "stringData: {user: admin}\nsops: {mac: 'ENC[AES256_GCM,data:x,type:str]'}", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := found(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\n"+c.secret+"\n"); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Kinds that encrypt secrets for git contain none in plain text.
func TestSealed(t *testing.T) {
	for _, manifest := range []string{
		"apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: db}\nspec: {encryptedData: {password: AgBy3i4OJSWK+PiTySYZZA9rO43cGDEq0aB1c2D3e4F5}}\n",
		"apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: db}\nspec: {data: [{secretKey: password, remoteRef: {key: db, property: password}}]}\n",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: c, env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]}]}}}\n",
	} {
		if got := found(t, manifest); got != nil {
			t.Errorf("%q in %s", got, manifest)
		}
	}
}

// Elsewhere a value is a credential by its form or by its name.
func TestValues(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        string // "" for none
	}{
		{"A", aws, "an AWS access key"},
		{"A", github, "a GitHub token"},
		{"A", slack, "a Slack token"},
		{"A", "curl -H 'Authorization: Bearer " + jwt + "' x", "a JSON Web Token"},
		{"A", "pay --key=" + stripe, "a Stripe key"},
		{"A", key, "a private key"},
		{"A", `{"private_key": "-----BEGIN ` + `PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7Q8Zf2mJkx3v0c1Yy2r9s8k0p1q2w3e4r5t6y7u8i9o0\n-----END PRIVATE KEY-----"}`, "a private key"},
		{"DATABASE_URL", "postgres://shop:hunter2@db:5432/shop", "a password in a URL"},
		{"DB_PASSWORD", "hunter2", "a password"},
		{"dbPassword", "postgres", "a password"},
		{"PGPASSWORD", "postgres", "a password"},
		{"API_TOKEN", random, "a token or key"},
		{"SECRET_KEY_BASE", random, "a token or key"},
		{"accountKey", random, "a token or key"},
		{"app.properties", "db.user=shop\ndb.password=hunter2\n", "a password, db.password"},
		{"app.yaml", "db:\n  password: \"hunter2\" # of the database\n", "a password, password"},
		{"app.json", `{"db": {"user": "shop", "password": "hunter2"}}`, "a password, password"},
		{"app.json", `"{\"password\": \"hunter2\"}"`, "a password, password"},
		{"run.sh", "export API_KEY='" + random + "'\n", "a token or key, API_KEY"},
		{"A", "--verbose --db-password=hunter2", "a password, db-password"},

		{"A", "AKIA" + "IOSFODNN7EXAMPLE", ""}, // from AWS's documentation
		{"A", "AKIA", ""},
		{"A", "ghp_" + strings.Repeat("x", 36), ""},
		{"A", "sha256:9b2d2cd7d8b0f0b58d5f4b9a2a1c3e5f7a9b1c3d5e7f9a1b3c5d7e9f1a3b5c7d", ""},
		{"A", cert, ""},
		{"A", "-----BEGIN RSA " + "PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----", ""},
		{"A", "https://user:password@example.com/", ""},
		{"A", "postgres://$(USER):$(PASSWORD)@db/shop", ""},
		{"A", "git@github.com:org/repo", ""},
		{"PASSWORD", "$(PASSWORD)", ""},
		{"PASSWORD", "${PASSWORD}", ""},
		{"PASSWORD", "<password>", ""},
		{"PASSWORD", "yourPassword", ""},
		{"PASSWORD", "", ""},
		{"PASSWORD", "/run/secrets/password", ""},
		{"PASSWORD_FILE", "secrets/password", ""},
		{"ALLOW_EMPTY_PASSWORD", "yes", ""},
		{"PASSWORD_MIN_LENGTH", "12", ""},
		{"existingSecretPasswordKey", "password", ""},
		{"TOKEN_TTL", "24h", ""},
		{"secret", "my-app-token-2", ""},
		{"secretName", random, ""},
		{"PWD", "work", ""},
		{"checksum/secret", "154a281b8597ccbf25c87c59082e102154d1b9582f8074336e56cd29bdb0aa11", ""},
		{"passwordHash", "$2a$10$nY4cuvzCfabdR73T7TDcceD9gPP1asCc2r9I8j4NxgT75Lxj", ""},
		{"server.properties", "sasl.password=controller-password-placeholder\n", ""},
		{"tokenURL", "https://login.example.org/oauth2/v2.0/token", ""},
		{"publicKey", random, ""},
		{"app.yaml", "# password: hunter2\npassword: ${PASSWORD}\npassword_file: /x\n", ""},
		{"app.py", "password = os.environ[\"PASSWORD\"]\nif password == \"x\": pass\nlogin(password=password)\n", ""},
		{"app.go", "func login(password string, token Token) { x.password = password }\n", ""},
		{"readme", "The password: what you chose when you signed up.\n", ""},
		{"run.sh", "PASSWORD=\"$(cat /run/secret)\"\nTOKEN=$1\n", ""},
		{"dashboard.json", `{"description": "token", "field": "password"}`, ""},
	} {
		config := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  " + c.name + ": " + quoted(c.value) + "\n"
		env := "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, env: [{name: " + c.name + ", value: " + quoted(c.value) + "}]}]}\n"
		for _, manifest := range []string{config, env} {
			var want []string
			if c.want != "" {
				want = []string{c.name + ": " + c.want}
			}
			if got := found(t, manifest); !slices.Equal(got, want) {
				t.Errorf("%s: %s:\ngot  %q\nwant %q", c.name, c.value, got, want)
			}
		}
		hidden := credentials.Hide(c.name, c.value)
		if changed := hidden != c.value; changed != (c.want != "") {
			t.Errorf("%s: %s: hidden as %q", c.name, c.value, hidden)
		}
	}
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// The values of flags are found where arguments are a list too.
func TestArguments(t *testing.T) {
	got := found(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, args: [--user, shop, --password, hunter2, --token="+random+"]}]}\n")
	if want := []string{"password: a password", "4: a token or key, token"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Hiding replaces credentials in a text, and nothing else.
func TestHide(t *testing.T) {
	got := credentials.Hide("app.ini", "user = shop\npassword = hunter2\nurl = http://a:hunter3@db/\n")
	if want := "user = shop\npassword = (hidden)\nurl = http://a:(hidden)@db/\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Replacing uses the same names as searching: those of variables, fields, flags and
// assignments.
func TestReplace(t *testing.T) {
	var v any
	const in = `{"spec":{"password":"p1","env":[{"name":"DB_PASSWORD","value":"p2"},{"name":"A","value":"b"}],"args":["--password","p3","x"],` +
		`"config":"password = p4\nuser = me","manifest":{"apiVersion":"v1","kind":"Secret","data":{"a":"p5"}},"encryptedData":{"password":"c"},"n":1}}`
	if err := json.Unmarshal([]byte(in), &v); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(credentials.Replace(v, strings.ToUpper))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"spec":{"args":["--password","P3","x"],"config":"password = P4\nuser = me","encryptedData":{"password":"c"},` +
		`"env":[{"name":"DB_PASSWORD","value":"P2"},{"name":"A","value":"b"}],"manifest":{"apiVersion":"v1","data":{"a":"P5"},"kind":"Secret"},"n":1,"password":"P1"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Whatever a text is, hiding replaces pieces of it and keeps the rest, in order; and afterwards
// no more is found than before.
func FuzzHide(f *testing.F) {
	for _, s := range []string{"password=hunter2", "a: {\"token\": \"" + random + "\"}", key, jwt, aws, "x://a:b@c", "password='", "password=password=", "\\\"password\\\":\\\"x\\\""} {
		f.Add("name", s)
		f.Add("password", s)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		hidden, rest := credentials.Hide(name, text), text
		if strings.Contains(text, credentials.Hidden) {
			return
		}
		for _, kept := range strings.Split(hidden, credentials.Hidden) {
			var ok bool
			if _, rest, ok = strings.Cut(rest, kept); !ok {
				t.Fatalf("%q became %q", text, hidden)
			}
		}
	})
}

// Every text takes linear time. (Quadratic time would be minutes.)
func TestLongTexts(t *testing.T) {
	for _, piece := range []string{
		"password=", "password='", "password=\\\"", "token: ", "x://a:b@", "eyJ", "eyJhbGciOiJIUzI1NiJ9.", "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN ",
		"AKIA", "ghp_", "a", "\\", "'", " password: x\n", "#", "password=a'password=b\"",
	} {
		credentials.Hide("config", strings.Repeat(piece, 256<<10/len(piece)))
	}
}
