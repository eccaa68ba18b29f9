// SPDX-License-Identifier: Apache-2.0

package registry

import (
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

func FuzzLinksTo(f *testing.F) {
	f.Add(`</a>; rel="next", <b>; title="\"`)
	f.Fuzz(func(_ *testing.T, value string) { linksTo("next", []string{value}) })
}
