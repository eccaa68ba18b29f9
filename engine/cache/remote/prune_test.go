// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/taped-dev/tape/engine/cache/remote"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// filled adds entries in every state to a repository, and other content.
func filled(t *testing.T, repo *registry.Repository) remote.Options {
	t.Helper()
	signer, verifier := keyPair(t)
	o := remote.Options{Signer: signer, Trust: []signature.Verifier{verifier}}
	ago := func(days int) remote.Options {
		o := o
		o.Now = func() time.Time { return time.Now().AddDate(0, 0, -days) }
		return o
	}
	for name, o := range map[string]remote.Options{"expired": ago(40), "old": ago(9), "newer": ago(2), "new": o, "unsigned": {}} {
		put(t, remote.New(repo, o), digest.FromString(name), map[string][]byte{"x": []byte(name)})
	}
	image := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(image), Size: int64(len(image))}
	for _, tag := range []string{"v1", "sha256-" + strings.Repeat("0", 64), "tape-cache-x", "tape-cache-" + strings.Repeat("0", 64)} {
		if err := repo.PushManifest(t.Context(), desc, bytes.Clone(image), tag); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func states(entries []remote.Entry) map[remote.State]int {
	out := map[remote.State]int{}
	for _, e := range entries {
		out[e.State]++
	}
	return out
}

func TestPrune(t *testing.T) {
	deletes := registrytest.Is(registrytest.Manifests, http.MethodDelete)
	byTag := func(r *http.Request) bool { return deletes(r) && !strings.Contains(r.URL.Path, "sha256:") }
	for name, handler := range map[string]http.Handler{
		"distribution":      registrytest.Distribution(""),
		"ggcr":              registrytest.GGCR(),
		"by digest alone":   registrytest.Misbehave(registrytest.Distribution(""), byTag, registrytest.Status(http.StatusMethodNotAllowed)),
		"somebody else too": registrytest.Misbehave(registrytest.GGCR(), registrytest.First(1, deletes), registrytest.Status(http.StatusNotFound)),
	} {
		t.Run(name, func(t *testing.T) {
			counted := registrytest.Count(handler)
			addr := registrytest.Serve(t, counted)
			o := filled(t, repository(t, addr))
			c := remote.New(repository(t, addr), o)
			entries, err := c.Entries(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := map[remote.State]int{remote.Expired: 1, remote.Usable: 3, remote.Unusable: 1}
			if diff := cmp.Diff(want, states(entries)); diff != "" {
				t.Errorf("entries differ (-want +got):\n%s", diff)
			}
			info, err := c.Info(t.Context())
			if err != nil || info.Entries != 5 || info.Bytes == 0 || !cmp.Equal(want, info.States) || !info.Oldest.Before(info.Newest) {
				t.Errorf("info: %+v, %v", info, err)
			}
			counted.Reset()
			dry, err := c.Prune(t.Context(), remote.PruneOptions{DryRun: true})
			if err != nil || len(dry.Removed) != 2 || counted.Reset().Requests["DELETE manifests"] > 0 {
				t.Errorf("dry run: %+v, %v", dry, err)
			}
			pruned, err := remote.New(repository(t, addr), o).Prune(t.Context(), remote.PruneOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[remote.State]int{remote.Expired: 1, remote.Unusable: 1}, states(pruned.Removed)); diff != "" || pruned.Left != 3 || pruned.Bytes == 0 {
				t.Errorf("%+v (-want +got):\n%s", pruned, diff)
			}
			if name == "somebody else too" {
				return // an entry that it reported as removed still exists
			}
			for name, want := range map[string]bool{"expired": false, "unsigned": false, "old": true, "newer": true, "new": true} {
				if _, err := remote.New(repository(t, addr), o).Get(t.Context(), digest.FromString(name)); (err == nil) != want {
					t.Errorf("after that, %s: %v", name, err)
				}
			}
			for _, more := range []struct {
				remote.PruneOptions
				removed, left int
			}{{remote.PruneOptions{MaxAge: 8 * 24 * time.Hour}, 1, 2}, {remote.PruneOptions{All: true}, 2, 0}, {remote.PruneOptions{All: true}, 0, 0}} {
				pruned, err := remote.New(repository(t, addr), o).Prune(t.Context(), more.PruneOptions)
				if err != nil || len(pruned.Removed) != more.removed || pruned.Left != more.left {
					t.Errorf("%+v: %+v, %v", more, pruned, err)
				}
			}
			tags, err := repository(t, addr).Tags(t.Context())
			if want := []string{"sha256-" + strings.Repeat("0", 64), "tape-cache-" + strings.Repeat("0", 64), "tape-cache-x", "v1"}; err != nil || !cmp.Equal(want, tags) {
				t.Errorf("left: %q, %v", tags, err)
			}
		})
	}
}

func TestPruneWhereNothingIsDeleted(t *testing.T) {
	for name, how := range map[string]registrytest.Fault{
		"405": registrytest.Status(http.StatusMethodNotAllowed),
		"501": registrytest.Status(http.StatusNotImplemented),
		"400": func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				w.Write([]byte(`{"errors":[{"code":"UNSUPPORTED","message":"no"}]}`))
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr := registrytest.Serve(t, registrytest.Misbehave(registrytest.GGCR(), registrytest.Is(registrytest.Manifests, http.MethodDelete), how))
			o := filled(t, repository(t, addr))
			_, err := remote.New(repository(t, addr), o).Prune(t.Context(), remote.PruneOptions{})
			if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "tape-cache-") {
				t.Errorf("prune: %v", err)
			}
		})
	}
}

func TestEntriesFail(t *testing.T) {
	addr := registrytest.Serve(t, registrytest.Misbehave(registrytest.GGCR(), registrytest.Is(registrytest.Manifests, http.MethodGet), registrytest.Status(http.StatusForbidden)))
	o := filled(t, repository(t, addr))
	if entries, err := remote.New(repository(t, addr), o).Entries(t.Context()); !errdefs.IsPermissionDenied(err) {
		t.Errorf("entries: %v, %v", entries, err)
	}
	addr = registrytest.Serve(t, registrytest.GGCR())
	if entries, err := remote.New(repository(t, addr), o).Entries(t.Context()); err != nil || len(entries) > 0 {
		t.Errorf("of no repository: %v, %v", entries, err)
	}
}
