// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/stages/vcs"
)

func TestAnnotations(t *testing.T) {
	at := func(commit, uri string, modified vcs.Tristate, second int64, tags ...string) vcs.Facts {
		r := vcs.Repository{Dir: ".", URI: uri, Commit: commit, CommitTime: time.Unix(second, 0).In(time.FixedZone("", 3600))}
		for _, tag := range tags {
			r.Tags = append(r.Tags, vcs.GitTag{Name: tag})
		}
		return vcs.Facts{Path: ".", Modified: modified, Repositories: []vcs.Repository{r}}
	}
	const uri = "https://example.com/shop"
	epoch := time.Unix(1700000000, 0)
	for name, c := range map[string]struct {
		facts   []vcs.Facts
		created time.Time
		want    map[string]string
	}{
		"nothing known": {want: map[string]string{"created": "1970-01-01T00:00:00Z"}},
		"no repository": {
			facts: []vcs.Facts{{Path: "shop", Modified: vcs.Unknown}},
			want:  map[string]string{"created": "1970-01-01T00:00:00Z"},
		},
		"no commits": {
			facts: []vcs.Facts{{Modified: vcs.Yes, Repositories: []vcs.Repository{{URI: uri}}}},
			want:  map[string]string{"created": "1970-01-01T00:00:00Z", "source": uri},
		},
		"clean": {
			facts: []vcs.Facts{at("c1", uri, vcs.No, 60, "v1.9.0", "v1.10.0", "v1.10.0-rc.1")},
			want:  map[string]string{"created": "1970-01-01T00:01:00Z", "source": uri, "revision": "c1", "version": "v1.10.0"},
		},
		"dirty, given time": {
			facts: []vcs.Facts{at("c1", uri, vcs.Yes, 60, "v1.9.0")}, created: epoch,
			want: map[string]string{"created": "2023-11-14T22:13:20Z", "source": uri, "revision": "c1-dirty"},
		},
		"epoch 0": {
			facts: []vcs.Facts{at("c1", uri, vcs.Unknown, 60)}, created: time.Unix(0, 0),
			want: map[string]string{"created": "1970-01-01T00:00:00Z", "source": uri},
		},
		"two sources, one dirty": {
			facts: []vcs.Facts{at("c1", uri, vcs.No, 60, "v1.0.0"), at("c1", uri, vcs.Yes, 60, "v1.0.0")},
			want:  map[string]string{"created": "1970-01-01T00:01:00Z", "source": uri, "revision": "c1-dirty"},
		},
		"two repositories": {
			facts: []vcs.Facts{at("c1", uri, vcs.No, 60, "v1.0.0"), at("c2", uri+"2", vcs.No, 120, "v1.0.0")},
			want:  map[string]string{"created": "1970-01-01T00:02:00Z", "version": "v1.0.0"},
		},
		"one in none": {
			facts: []vcs.Facts{at("c1", uri, vcs.No, 60), {Modified: vcs.Unknown}},
			want:  map[string]string{"created": "1970-01-01T00:01:00Z"},
		},
	} {
		want := map[string]string{"org.opencontainers.image.title": "shop"}
		for key, value := range c.want {
			want["org.opencontainers.image."+key] = value
		}
		if diff := cmp.Diff(want, Annotations("example.com/team/shop", c.facts, c.created)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSourceDateEpoch(t *testing.T) {
	if got, err := SourceDateEpoch(""); err != nil || !got.IsZero() {
		t.Errorf("not set: %v, %v", got, err)
	}
	if got, err := SourceDateEpoch("0"); err != nil || got.IsZero() || got.Unix() != 0 {
		t.Errorf("0: %v, %v", got, err)
	}
	for _, bad := range []string{"-1", "1.5", "now", "253402300800", "99999999999999999999"} {
		if got, err := SourceDateEpoch(bad); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
}
