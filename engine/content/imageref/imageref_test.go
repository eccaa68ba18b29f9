// SPDX-License-Identifier: Apache-2.0

package imageref_test

import (
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/taped-dev/tape/engine/content/imageref"
)

const sum = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestSplit(t *testing.T) {
	for text, want := range map[string]imageref.Reference{
		"":                                  {},
		"nginx":                             {Name: "nginx"},
		"nginx:1":                           {Name: "nginx", Tag: "1"},
		"nginx@" + sum:                      {Name: "nginx", Digest: sum},
		"nginx:1@" + sum:                    {Name: "nginx", Tag: "1", Digest: sum},
		"host:5000/nginx":                   {Name: "host:5000/nginx"},
		"host:5000/nginx:1":                 {Name: "host:5000/nginx", Tag: "1"},
		"host:5000/team/nginx@" + sum:       {Name: "host:5000/team/nginx", Digest: sum},
		"[::1]:5000/nginx:1":                {Name: "[::1]:5000/nginx", Tag: "1"},
		"registry.example.com:5000":         {Name: "registry.example.com", Tag: "5000"}, // by its form
		"registry.example.com/a/b/c:v1.0.0": {Name: "registry.example.com/a/b/c", Tag: "v1.0.0"},
	} {
		if got := imageref.Split(text); got != want || got.String() != text {
			t.Errorf("%q: got %+v, %q", text, got, got)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"nginx":                         "docker.io/library/nginx:latest",
		"nginx:1":                       "docker.io/library/nginx:1",
		"nginx@" + sum:                  "docker.io/library/nginx@" + sum,
		"nginx:1@" + sum:                "docker.io/library/nginx:1@" + sum,
		"team/nginx":                    "docker.io/team/nginx:latest",
		"index.docker.io/nginx":         "docker.io/library/nginx:latest",
		"localhost/nginx":               "localhost/nginx:latest",
		"host:5000/nginx":               "host:5000/nginx:latest",
		"registry.example.com/team/app": "registry.example.com/team/app:latest",
	} {
		r, err := imageref.Parse(text)
		if full := r.OrLatest().String(); err != nil || full != want {
			t.Errorf("%q: got %q, %v, want %q", text, full, err, want)
		}
	}
	for _, text := range []string{"", "Nginx", "nginx:", "nginx@", "nginx@sha256:1", "a b", "https://example.com/nginx", "nginx:1:2", strings.Repeat("a", 64)} {
		if r, err := imageref.Parse(text); err == nil {
			t.Errorf("%q: got %+v", text, r)
		}
	}
}

func TestVersion(t *testing.T) {
	for text, want := range map[string][2]string{
		"nginx":          {"", "nginx"},
		"nginx:1":        {"1", "nginx:1"},
		"nginx@" + sum:   {sum, "nginx"},
		"nginx:1@" + sum: {sum, "nginx:1"},
	} {
		if r := imageref.Split(text); r.Version() != want[0] || r.Tagged() != want[1] {
			t.Errorf("%q: version %q, tagged %q", text, r.Version(), r.Tagged())
		}
	}
}

// FuzzParse compares the fast path with the library's parser.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "nginx", "nginx:1", "host:5000/a/b:1@" + sum, "host:5000", "a@b@c", "a:b:c", "/:@"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		imageref.Split(text)
		r, err := imageref.Parse(text)
		if err != nil {
			return
		}
		named, err := reference.ParseNormalizedNamed(text)
		if err != nil {
			t.Fatal(err)
		}
		var want imageref.Reference
		want.Name = named.Name()
		if tagged, ok := named.(reference.Tagged); ok {
			want.Tag = tagged.Tag()
		}
		if digested, ok := named.(reference.Digested); ok {
			want.Digest = digested.Digest()
		}
		if r != want {
			t.Errorf("%q: got %+v, want %+v", text, r, want)
		}
		if again, err := imageref.Parse(r.String()); err != nil || again != r {
			t.Errorf("%q: read again as %+v, %v", text, again, err)
		}
		if full, err := imageref.Normalise(text); err != nil || full != reference.TagNameOnly(named).String() {
			t.Errorf("%q: %q, %v", text, full, err)
		}
	})
}
