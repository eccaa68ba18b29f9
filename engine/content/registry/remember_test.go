// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

func TestRemember(t *testing.T) {
	file := filepath.Join(t.TempDir(), "manifests")
	bubble(t, "the last index", func(t *testing.T, n *network) {
		s := n.add(host, nil)
		open := func() *registry.Repository {
			return repository(t, n.client(registry.Options{ManifestFile: file}), host+"/app")
		}
		want := func(dgst digest.Digest, requests int) {
			t.Helper()
			s.forget()
			data, err := open().Remembered(t.Context())
			if err != nil || dgst == "" && data != nil || dgst != "" && digest.FromBytes(data) != dgst {
				t.Errorf("Remembered = %q, %v", data, err)
			}
			if got := s.requests("HEAD "); len(got) != requests || len(s.requests()) != requests {
				t.Errorf("requests %q", s.requests())
			}
		}
		want("", 0)
		one, data := plain("1")
		open().Remember(t.Context(), one, data)
		want("", 1) // it does not exist
		if err := open().PushManifest(t.Context(), one, data, "1"); err != nil {
			t.Fatal(err)
		}
		want(one.Digest, 1)
		two, data := plain("2")
		if err := open().PushManifest(t.Context(), two, data, "2"); err != nil {
			t.Fatal(err)
		}
		open().Remember(t.Context(), two, data)
		want(two.Digest, 1)
		s.before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		if data, err := open().Remembered(t.Context()); !errdefs.IsPermissionDenied(err) {
			t.Errorf("Remembered = %q, %v", data, err)
		}
	})
	bubble(t, "nothing without a file", func(t *testing.T, n *network) {
		n.add(host, nil)
		r := repository(t, n.client(registry.Options{}), host+"/app")
		desc, data := plain("1")
		if err := r.PushManifest(t.Context(), desc, data, "1"); err != nil {
			t.Fatal(err)
		}
		r.Remember(t.Context(), desc, data)
		if data, err := r.Remembered(t.Context()); err != nil || data != nil {
			t.Errorf("Remembered = %q, %v", data, err)
		}
	})
}

func TestEmpty(t *testing.T) {
	ask := func(t *testing.T, r *registry.Repository, want bool) {
		t.Helper()
		if got, err := r.Empty(t.Context()); err != nil || got != want {
			t.Errorf("Empty = %t, %v, want %t", got, err, want)
		}
	}
	for name, handler := range map[string]func() http.Handler{"GGCR": registrytest.GGCR, "distribution": func() http.Handler { return registrytest.Distribution("") }} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			defer n.close()
			s := n.add(host, handler())
			r := repository(t, n.client(registry.Options{}), host+"/app")
			ask(t, r, true)
			if got := strings.Join(s.requests(), " "); got != "GET /v2/app/tags/list" {
				t.Errorf("requests %q", got)
			}
			empty(t, r)
			pushed(t, r, "1")
			ask(t, r, false)
			ask(t, repository(t, n.client(registry.Options{}), host+"/other"), true)
		})
	}
	bubble(t, "behind a token", func(t *testing.T, n *network) {
		n.add(host, &registrytest.Bearer{Next: registrytest.GGCR(), User: user, Password: secret})
		r := repository(t, n.client(registry.Options{Credentials: func(string) (string, string, error) { return user, secret, nil }}), host+"/app")
		ask(t, r, true)
		pushed(t, r, "1")
		ask(t, r, false)
	})
	file := filepath.Join(t.TempDir(), "manifests")
	bubble(t, "once", func(t *testing.T, n *network) {
		// Who asks writes; a run that is cut off before there is a tag leaves something.
		n.add(host, nil)
		for _, want := range []bool{true, false} {
			ask(t, repository(t, n.client(registry.Options{ManifestFile: file}), host+"/app"), want)
		}
	})
	for _, status := range []int{401, 403, 405, 501} {
		bubble(t, fmt.Sprint("a registry that does not tell, with ", status), func(t *testing.T, n *network) {
			n.add(host, nil).before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				w.WriteHeader(status)
				return true
			}
			ask(t, repository(t, n.client(registry.Options{}), host+"/app"), false)
		})
	}
	bubble(t, "a registry that is broken", func(t *testing.T, n *network) {
		n.add(host, nil).before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
		if got, err := repository(t, n.client(registry.Options{}), host+"/app").Empty(t.Context()); !errdefs.IsUnavailable(err) {
			t.Errorf("Empty = %t, %v", got, err)
		}
	})
}
