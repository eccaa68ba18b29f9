// SPDX-License-Identifier: Apache-2.0

package rendering

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/vcs"
)

// Redactor removes secrets from the messages of interpreters: secret options, and the
// credentials and queries of URLs.
type Redactor struct{ secrets *strings.Replacer }

// shortest is the minimum length of a part of an option that is redacted by itself, because
// redacting every 3 or true would make messages unreadable.
const shortest = 6

// Secrets returns a Redactor for everything in options that is not in shown, which contains the
// public options. In an assignment (key=value), it redacts the assignment, the value, and the
// parts of a value that has several. In an object, it also redacts names and numbers, unless they
// are short. It also redacts the texts in more, such as those of [Variables].
func Secrets(options, shown json.RawMessage, more ...string) (Redactor, error) {
	var all, told any
	if err := errors.Join(unmarshal(options, &all), unmarshal(shown, &told)); err != nil {
		return Redactor{}, err
	}
	found := map[string]bool{}
	add := func(s string) {
		found[s] = true
		quoted := strconv.Quote(s)
		found[quoted[1:len(quoted)-1]] = true
	}
	var compare func(all, told any)
	compare = func(all, told any) {
		switch all := all.(type) {
		case string:
			s, ok := told.(string)
			if all == "" || ok && s == all {
				return
			}
			add(all)
			if _, value, assigned := strings.Cut(all, "="); ok && assigned {
				for _, part := range append(strings.FieldsFunc(value, between), value) {
					if _, after, more := strings.Cut(part, "="); more && len(after) >= shortest {
						add(after)
					}
					if len(part) >= shortest {
						add(part)
					}
				}
			}
		case json.Number:
			if told != all && len(all) >= shortest {
				add(all.String())
			}
		case map[string]any:
			m, ok := told.(map[string]any)
			for name, v := range all {
				if !ok && len(name) >= shortest {
					add(name)
				}
				compare(v, m[name])
			}
		case []any:
			// A missing item shifts the items after it, so a list that is not shown completely
			// counts as secret.
			list, _ := told.([]any)
			for n, v := range all {
				if n < len(list) && len(list) == len(all) {
					compare(v, list[n])
				} else {
					compare(v, nil)
				}
			}
		}
	}
	compare(all, told)
	for _, s := range more {
		add(s)
	}
	var pairs []string
	for _, s := range slices.SortedFunc(maps.Keys(found), func(a, b string) int {
		return cmp.Or(len(b)-len(a), strings.Compare(a, b)) // a text comes before its own parts
	}) {
		pairs = append(pairs, s, "(secret)")
	}
	return Redactor{strings.NewReplacer(pairs...)}, nil
}

// Variables returns the values of the named environment variables that must be redacted. It
// leaves out short values and file paths.
func Variables(lookup func(string) (string, bool), names []string) []string {
	var out []string
	for _, name := range names {
		if value, _ := lookup(name); len(value) >= shortest && !strings.HasPrefix(value, "/") {
			out = append(out, value)
		}
	}
	return out
}

// between separates values in an assignment.
func between(r rune) bool { return strings.ContainsRune(",{}", r) }

func unmarshal(data json.RawMessage, v any) error {
	if len(data) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // redacted as written
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	return nil
}

// text returns s without its secrets.
func (r Redactor) text(s string) string {
	if r.secrets != nil {
		s = r.secrets.Replace(s)
	}
	return vcs.CleanText(s)
}

// Error returns err unchanged if it contains no secrets, or an error with the redacted text. The
// diagnostics of a *[ProblemError] are redacted one by one.
func (r Redactor) Error(err error) error {
	// an error that wraps it contains more text, which is redacted as a whole
	//nolint:errorlint // an error that wraps it has more text, which is redacted as a whole
	if problem, ok := err.(*ProblemError); ok {
		told := make([]interpreter.Diagnostic, len(problem.Diagnostics))
		for i, d := range problem.Diagnostics {
			told[i] = r.Diagnostic(d)
		}
		return &ProblemError{told}
	}
	if text := r.text(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

// Diagnostic returns d without its secrets.
func (r Redactor) Diagnostic(d interpreter.Diagnostic) interpreter.Diagnostic {
	d.Summary, d.Detail, d.File = r.text(d.Summary), r.text(d.Detail), r.text(d.File)
	return d
}

// PublicURI removes the parts of a URI that may be secret: user and password, except for the user
// git, and the query and the fragment, which may contain tokens and signatures.
func PublicURI(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" {
		return vcs.CleanText(uri)
	}
	if u.User != nil && u.User.String() != "git" {
		u.User = nil
	}
	u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = "", false, "", ""
	return u.String()
}
