// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChallenges(t *testing.T) {
	type parameters = map[string]string
	for name, test := range map[string]struct {
		headers []string
		want    []challenge
	}{
		"one":      {[]string{`Bearer realm="https://a/token",service="s"`}, []challenge{{"bearer", parameters{"realm": "https://a/token", "service": "s"}}}},
		"a list":   {[]string{`Negotiate, Basic realm="r"`}, []challenge{{"negotiate", parameters{}}, {"basic", parameters{"realm": "r"}}}},
		"two":      {[]string{`Bearer realm="x",service="y", Basic realm="r"`}, []challenge{{"bearer", parameters{"realm": "x", "service": "y"}}, {"basic", parameters{"realm": "r"}}}},
		"headers":  {[]string{"Negotiate", `basic Realm="r"`}, []challenge{{"negotiate", parameters{}}, {"basic", parameters{"realm": "r"}}}},
		"commas":   {[]string{`Bearer realm="x",scope="repository:a:pull,push",error="e", Basic realm="a, Digest b=\"c\""`}, []challenge{{"bearer", parameters{"realm": "x", "scope": "repository:a:pull,push", "error": "e"}}, {"basic", parameters{"realm": `a, Digest b="c"`}}}},
		"spaces":   {[]string{"BEARER  realm = \"x\" ,\tservice=y"}, []challenge{{"bearer", parameters{"realm": "x", "service": "y"}}}},
		"a token":  {[]string{`NTLM TlRMTVNTUAAC==, Basic realm=r`}, []challenge{{"ntlm", parameters{}}, {"basic", parameters{"realm": "r"}}}},
		"unquoted": {[]string{`Bearer realm=https://a/t?x=y,service=z`}, []challenge{{"bearer", parameters{"realm": "https://a/t?x=y", "service": "z"}}}},
		"no realm": {[]string{`Basic`}, []challenge{{"basic", parameters{}}}},
		"no end":   {[]string{`Basic realm="r`}, []challenge{{"basic", parameters{"realm": "r"}}}},
		"garbage":  {[]string{`"";=,`, ``, `,,`, `=`, `Basic realm="r"`}, []challenge{{"basic", parameters{"realm": "r"}}}},
		"none":     {nil, nil},
	} {
		header := http.Header{}
		for _, value := range test.headers {
			header.Add("WWW-Authenticate", value)
		}
		if diff := cmp.Diff(test.want, challenges(header), cmp.AllowUnexported(challenge{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func FuzzChallenges(f *testing.F) {
	for _, seed := range []string{`Negotiate, Basic realm="r"`, `Bearer realm="a\"b",x`, `NTLM a==, b c=d`, `a b`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, c := range parseChallenges(value) {
			if c.scheme == "" {
				t.Errorf("no scheme: %q", value)
			}
		}
	})
}

func TestMergeScopes(t *testing.T) {
	got := mergeScopes([]string{"repository:b:pull,push", "repository:a:pull"}, []string{"repository:b:pull", "registry:catalog:*", "aws"})
	want := []string{"aws", "registry:catalog:*", "repository:a:pull", "repository:b:pull,push"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
