// SPDX-License-Identifier: Apache-2.0

package rendering

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/taped-dev/tape/plugins/interpreter"
)

func TestRedactor(t *testing.T) {
	r, err := Secrets(
		json.RawMessage(`{"set": ["a.b=hunter2,c=swordfish", "n=3", "l={opensesame,x}"], "password": "p\"w", "shown": "visible"}`),
		json.RawMessage(`{"set": ["a.b=sha256:1", "n=sha256:2", "l=sha256:3"], "shown": "visible"}`),
	)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"a.b is hunter2":                 "a.b is (secret)",
		"c is swordfish":                 "c is (secret)",
		"a.b=hunter2,c=swordfish":        "(secret)",
		"line 3 of visible":              "line 3 of visible",
		"l holds opensesame":             "l holds (secret)",
		`"p\"w" and p"w`:                 `"(secret)" and (secret)`,
		"'https://u:p@h/x?token=t': no":  "'https://h/x': no",
		"git+https://h/x@v1 and git@h:x": "git+https://h/x@v1 and git@h:x",
		"http://u:p/w@h:5000/x@y":        "http://h:5000/x@y",
		"http://h:5000/x@sha256:00":      "http://h:5000/x@sha256:00",
		"ssh://git@h/x":                  "ssh://git@h/x",
	} {
		if got := r.text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
	problem := r.Error(&ProblemError{[]interpreter.Diagnostic{{Severity: interpreter.Error, Summary: "it is hunter2", File: "a.yaml"}}})
	if !Placed(problem) || problem.Error() != "a.yaml: it is (secret)" {
		t.Errorf("%v, placed %t", problem, Placed(problem))
	}
	if plain := errors.New("nothing to hide"); !errors.Is(r.Error(plain), plain) {
		t.Error("an error without a secret is another one")
	}
}

func TestPublicURI(t *testing.T) {
	for in, want := range map[string]string{
		"https://u:p@h/x.tgz?token=t#f": "https://h/x.tgz",
		"oci://u:p@h/x:1":               "oci://h/x:1",
		"git+ssh://git@h/x@v1":          "git+ssh://git@h/x@v1",
		"git+ssh://git:p@h/x@v1":        "git+ssh://h/x@v1",
		"git+https://h/x@v1?t=1":        "git+https://h/x@v1",
		"https://u:p%zz@h/x?token=t":    "https://h/x",
		"cue.example/module@v1":         "cue.example/module@v1",
	} {
		if got := PublicURI(in); got != want {
			t.Errorf("PublicURI(%q) = %q, want %q", in, got, want)
		}
	}
}
