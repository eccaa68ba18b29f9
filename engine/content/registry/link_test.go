// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"net/url"
	"slices"
	"testing"
)

func TestLinksTo(t *testing.T) {
	for name, tt := range map[string]struct {
		values []string
		want   []string
	}{
		"one":                    {[]string{`</v2/a?last=1>; rel="next"`}, []string{"/v2/a?last=1"}},
		"a token":                {[]string{`</a>;rel=next`}, []string{"/a"}},
		"upper case":             {[]string{`</a>; REL="Next"`}, []string{"/a"}},
		"several relations":      {[]string{`</a>; rel="last  next"`}, []string{"/a"}},
		"several links":          {[]string{`</first>; rel="first", </a>; rel="next"`}, []string{"/a"}},
		"several headers":        {[]string{`</first>; rel=first`, `</a>; rel=next`}, []string{"/a"}},
		"commas":                 {[]string{`</a?x=1,2>; title="a, <b>; rel=x"; rel="next"`}, []string{"/a?x=1,2"}},
		"quoted pair":            {[]string{`</a>; title="\"; rel=\"last"; rel="next"`}, []string{"/a"}},
		"spaces":                 {[]string{"  < /a > ;\trel = \"next\" "}, []string{"/a"}},
		"the first rel counts":   {[]string{`</a>; rel=prev; rel=next`}, nil},
		"another parameter":      {[]string{`</a>; title=next; crossorigin; rev="next"`}, nil},
		"part of a word":         {[]string{`</a>; rel="nexter"`}, nil},
		"no relation":            {[]string{`</a>`, `</b>, </c>;`}, nil},
		"no parameter's value":   {[]string{`</b>; rel, </a>; rel=next`}, []string{"/a"}},
		"empty":                  {[]string{"", ",", ", ,"}, nil},
		"not a link":             {[]string{`/a; rel=next`, `</a; rel=next`, `<`, `<>`}, nil},
		"a quote that is open":   {[]string{`</a>; rel="next`}, []string{"/a"}},
		"a relation of its own":  {[]string{`</a>; rel="https://example.com/next"`}, nil},
		"an empty list item too": {[]string{`, </a>; rel=next`}, []string{"/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := linksTo("next", tt.values); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Location headers, which are often malformed.
func TestLocation(t *testing.T) {
	at, err := url.Parse("https://r.example:5000/v2/a/referrers/x?n=1")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"?n=2":                          "https://r.example:5000/v2/a/referrers/x?n=2",
		"/v2/b?n=2#x":                   "https://r.example:5000/v2/b?n=2",
		"//cdn.example/x":               "https://cdn.example/x",
		"https://u:p@r.example:5000/x":  "https://r.example:5000/x",
		"r.example:5000/v2/b":           "https://r.example:5000/v2/b",
		"10.0.0.1:5000/v2/b":            "https://10.0.0.1:5000/v2/b",
		"http://r.example:5000/v2/b":    "https://r.example:5000/v2/b", // behind a proxy that speaks TLS for it
		"http://r.example/v2/b":         "https://r.example:5000/v2/b",
		"http://r.example:8080/v2/b":    "http://r.example:8080/v2/b",
		"http://cdn.example:5000/v2/b":  "http://cdn.example:5000/v2/b",
		"ftp://r.example/":              "",
		"http://%zz":                    "",
		":":                             "",
		"javascript://r.example:5000/x": "",
	} {
		got, ok := location(at, text)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v, %v, want %s", text, got, ok, want)
		}
	}
}

func FuzzLinksTo(f *testing.F) {
	f.Add(`</a>; rel="next", <b>; title="\"`)
	f.Fuzz(func(_ *testing.T, value string) { linksTo("next", []string{value}) })
}
