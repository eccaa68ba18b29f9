// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

const mirror = "mirror.example.com"

// hostsDir returns a folder with a hosts.toml for a registry.
func hostsDir(t *testing.T, host, toml string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, "hosts.toml"), []byte(toml), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMirrors(t *testing.T) {
	const mirrored = `[host."http://mirror.example.com"]
  capabilities = ["pull", "resolve", "referrers"]
`
	// put gives the mirror and the registry different images under the same tag.
	put := func(t *testing.T, n *network) (atMirror, atHost string) {
		t.Helper()
		client := n.client(registry.Options{})
		desc, data := plain("at the mirror")
		if err := repository(t, client, mirror+"/app").PushManifest(t.Context(), desc, data, "1"); err != nil {
			t.Fatal(err)
		}
		return desc.Digest.String(), pushed(t, repository(t, client, host+"/app"), "1")
	}
	for _, folder := range []string{"_default", host} {
		dir := hostsDir(t, folder, mirrored)
		bubble(t, "in "+folder, func(t *testing.T, n *network) {
			m, h := n.add(mirror, nil), n.add(host, nil)
			atMirror, atHost := put(t, n)
			m.forget()
			h.forget()
			client := n.client(registry.Options{HostsDir: dir})
			if desc, err := source(t, client, host+"/app").Resolve(t.Context(), "1"); err != nil || desc.Digest.String() != atMirror {
				t.Errorf("a source is %v, %v", desc.Digest, err)
			}
			// Settings in _default apply to sources; those of the registry itself take precedence.
			want := atHost
			if folder == host {
				want = atMirror
			}
			if desc, err := repository(t, client, host+"/app").Resolve(t.Context(), "1"); err != nil || desc.Digest.String() != want {
				t.Errorf("a repository is %v, %v", desc.Digest, err)
			}
			// Nothing is pushed to a host without the push capability.
			pushed(t, repository(t, client, host+"/app"), "2")
			if got := m.requests("PUT "); len(got) != 0 {
				t.Errorf("the mirror got %q", got)
			}
		})
	}
	dir := hostsDir(t, "_default", mirrored)
	bubble(t, "that lacks something", func(t *testing.T, n *network) {
		n.add(mirror, nil)
		n.add(host, nil)
		_, atHost := put(t, n)
		if _, _, err := source(t, n.client(registry.Options{HostsDir: dir, PlainHTTP: []string{host}}), host+"/app").Manifest(t.Context(), atHost); err != nil {
			t.Error(err)
		}
	})
	for name, status := range map[string]int{"that is broken": 503, "that cuts": 0} {
		bubble(t, name, func(t *testing.T, n *network) {
			m := n.add(mirror, nil)
			n.add(host, nil)
			_, atHost := put(t, n)
			m.forget()
			m.before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				if status == 0 {
					cut()
				}
				w.WriteHeader(status)
				return true
			}
			dgst, err := source(t, n.client(registry.Options{HostsDir: dir}), host+"/app").Digest(t.Context(), "1")
			if err != nil || dgst.String() != atHost {
				t.Errorf("Digest = %v, %v", dgst, err)
			}
			if got := m.requests(); len(got) != 2 {
				t.Errorf("the mirror was tried %d times", len(got))
			}
		})
	}
	bubble(t, "that is down", func(t *testing.T, n *network) {
		broken := n.add(mirror, nil)
		broken.down = true
		up := n.add(host, nil)
		client := n.client(registry.Options{})
		pushed(t, repository(t, client, host+"/app"), "1")
		before := len(up.requests())
		client = n.client(registry.Options{HostsDir: dir})
		for range 5 {
			if _, err := source(t, client, host+"/app").Digest(t.Context(), "1"); err != nil {
				t.Error(err)
			}
		}
		if got := len(up.requests()) - before; broken.dials != 2 || got != 5 {
			t.Errorf("the mirror was tried %d times, and the registry got %d requests", broken.dials, got)
		}
	})
	bubble(t, "of a registry that is not there", func(t *testing.T, n *network) {
		n.add(mirror, nil)
		n.add(host, nil)
		put(t, n)
		n.hosts[host].down = true
		r := source(t, n.client(registry.Options{HostsDir: dir}), host+"/app")
		if _, err := r.Resolve(t.Context(), "1"); err != nil {
			t.Error(err)
		}
		if _, err := r.Resolve(t.Context(), "2"); !errdefs.IsNotFound(err) {
			t.Errorf("what the mirror does not have is %v", err)
		}
		if list, err := r.Referrers(t.Context(), digest.FromString("x")); err != nil || len(list) != 0 {
			t.Errorf("Referrers = %v, %v", list, err)
		}
	})
	plainMirror := hostsDir(t, "_default", `[host."http://mirror.example.com"]
  capabilities = ["pull", "resolve"]
`)
	bubble(t, "that does not tell referrers, of a registry that is not there", func(t *testing.T, n *network) {
		n.add(mirror, nil)
		r := source(t, n.client(registry.Options{HostsDir: plainMirror}), host+"/app")
		if list, err := r.Referrers(t.Context(), digest.FromString("x")); !errdefs.IsUnavailable(err) {
			t.Errorf("Referrers = %v, %v", list, err)
		}
	})
}

func TestHostsFileBroken(t *testing.T) {
	for name, toml := range map[string]string{
		"syntax":     `server = `,
		"capability": "server = \"https://example.com\"\ncapabilities = [\"dance\"]\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := hostsDir(t, host, toml)
			client, err := registry.New(registry.Options{HostsDir: dir})
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Source(host + "/app")
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), host) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"nginx":                   "docker.io/library/nginx",
		"docker.io/library/nginx": "docker.io/library/nginx",
		"ghcr.io/a/b":             "ghcr.io/a/b",
		"localhost:5000/a":        "localhost:5000/a",
		"[::1]:5000/a":            "[::1]:5000/a",
		"ghcr.io/A/b":             "",
		"ghcr.io/a:1":             "",
		"":                        "",
	} {
		r, err := client.Source(in)
		if want == "" {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("Source(%q) = %v", in, err)
			}
			continue
		}
		if err != nil || r.Name() != want {
			t.Errorf("Source(%q) = %v, %v", in, r, err)
		}
	}
}

const (
	user   = "mallory"
	secret = "hunter2-and-more"
)

// Tokens and passwords reach the registry, and neither the log nor an error.
func TestCredentials(t *testing.T) {
	registries := map[string]func(http.Handler) http.Handler{
		"basic":  func(h http.Handler) http.Handler { return registrytest.Basic(h, user, secret) },
		"bearer": func(h http.Handler) http.Handler { return &registrytest.Bearer{Next: h, User: user, Password: secret} },
	}
	for name, protect := range registries {
		bubble(t, name, func(t *testing.T, n *network) {
			n.add(host, protect(registrytest.GGCR()))
			var log bytes.Buffer
			options := registry.Options{
				Credentials: func(at string) (string, string, error) {
					if at != host {
						return "", "", fmt.Errorf("asked for %s", at)
					}
					return user, secret, nil
				},
				Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			}
			client := n.client(options)
			r := repository(t, client, host+"/app")
			desc, data := blob(large, 1)
			push(t, r, desc, data)
			small, data := blob(small, 1)
			push(t, r, small, data)
			want := pushed(t, r, "1")
			if got, err := source(t, client, host+"/app").Resolve(t.Context(), "1"); err != nil || got.Digest.String() != want {
				t.Errorf("Resolve = %v, %v", got, err)
			}
			if there, err := r.Exists(t.Context(), desc); err != nil || !there {
				t.Errorf("Exists = %v, %v", there, err)
			}
			for _, leaked := range []string{secret, "token-", base64.StdEncoding.EncodeToString([]byte(user + ":" + secret))} {
				if strings.Contains(log.String(), leaked) {
					t.Errorf("%q is in the log:\n%s", leaked, log.String())
				}
			}
		})
		for kind, credentials := range map[string]func(string) (string, string, error){
			"none":  func(string) (string, string, error) { return "", "", nil },
			"wrong": func(string) (string, string, error) { return user, secret + "!", nil },
		} {
			bubble(t, name+" "+kind, func(t *testing.T, n *network) {
				n.add(host, protect(registrytest.GGCR()))
				r := repository(t, n.client(registry.Options{Credentials: credentials}), host+"/app")
				desc, _ := blob(large, 1)
				for op, try := range map[string]func() error{
					"resolve": func() error { _, err := r.Resolve(t.Context(), "1"); return err },
					"fetch":   func() error { _, err := r.Blob(t.Context(), desc); return err },
					"push": func() error {
						manifest, data := plain("1")
						return r.PushManifest(t.Context(), manifest, data, "1")
					},
					"look for": func() error {
						_, err := r.PushBlob(t.Context(), desc, nil)
						return err
					},
				} {
					err := try()
					if !errdefs.IsUnauthorized(err) || !strings.HasPrefix(err.Error(), op+" "+host+"/app") ||
						!strings.HasSuffix(err.Error(), "; log in to "+host) || strings.Contains(err.Error(), secret) {
						t.Errorf("got %v", err)
					}
				}
			})
		}
	}
}

// A registry that forgets a token in the middle of an upload does not make the client wait
// forever.
func TestCredentialsExpire(t *testing.T) {
	bubble(t, "token server gone", func(t *testing.T, n *network) {
		bearer := &registrytest.Bearer{Next: twoRequests(registrytest.GGCR()), User: user, Password: secret}
		s := n.add(host, bearer)
		s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method == http.MethodPut {
				// The upload's token is rejected, and no other is issued.
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://registry.example.com/token",service="test",error="invalid_token"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			if r.URL.Path == "/token" && len(s.requests("PUT ")) > 0 {
				w.WriteHeader(http.StatusForbidden)
				return true
			}
			return false
		}
		r := repository(t, n.client(registry.Options{Credentials: func(string) (string, string, error) { return user, secret, nil }}), host+"/app")
		for _, size := range []int{small, large} {
			desc, data := blob(size, 1)
			_, err := r.PushBlob(t.Context(), desc, opener(data))
			if !errdefs.IsPermissionDenied(err) && !errdefs.IsUnauthorized(err) {
				t.Errorf("got %v", err)
			}
		}
	})
}

func TestDockerConfiguration(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	helper := "#!/bin/sh\nread host\n[ \"$host\" = " + mirror + " ] || exit 1\necho '{\"Username\":\"" + user + "\",\"Secret\":\"" + secret + "\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-ours"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + secret))
	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}},"credHelpers":{%q:"ours"}}`, host, auth, mirror)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNetwork(t)
	defer n.close()
	for _, at := range []string{host, mirror} {
		n.add(at, registrytest.Basic(registrytest.GGCR(), user, secret))
	}
	client, err := registry.New(registry.Options{DialContext: n.dial, PlainHTTP: []string{host, mirror}})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{host, mirror} {
		pushed(t, repository(t, client, at+"/app"), "1")
	}
}

// The URL of a storage backend that a registry redirects to is a secret.
func TestRedirect(t *testing.T) {
	bubble(t, "to storage", func(t *testing.T, n *network) {
		storage := n.add("storage.example.com", nil)
		s := n.add(host, nil)
		desc, data := blob(small, 1)
		push(t, repository(t, n.client(registry.Options{}), "storage.example.com/app"), desc, data)
		s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			http.Redirect(w, r, "http://storage.example.com"+r.URL.Path+"?signature="+secret, http.StatusTemporaryRedirect)
			return true
		}
		var log bytes.Buffer
		client := n.client(registry.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		if _, err := client.CopyBlob(t.Context(), repository(t, client, "storage.example.com/copy"), source(t, client, host+"/app"), desc, nil); err != nil {
			t.Fatal(err)
		}
		for _, fault := range []registrytest.Fault{registrytest.Status(403), registrytest.Status(500), registrytest.Status(404), registrytest.Refuse(), registrytest.Cut(5)} {
			handler := storage.handler
			storage.handler = registrytest.Misbehave(handler, registrytest.Is(registrytest.Blobs, http.MethodGet), fault)
			_, err := client.CopyBlob(t.Context(), repository(t, client, host+"/copy"), source(t, client, host+"/app"), desc, nil)
			if err == nil || strings.Contains(err.Error()+log.String(), secret) {
				t.Errorf("error %v\nlog %s", err, log.String())
			}
			storage.handler = handler
		}
	})
}

// Headers from a hosts.toml are only sent to its host, however their names are spelled.
func TestRedirectHeaders(t *testing.T) {
	for _, name := range []string{"X-Secret", "x-secret", "Authorization", "authorization", "cookie"} {
		dir := hostsDir(t, host, fmt.Sprintf("[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n  [host.%[1]q.header]\n    %s = %q\n", "http://"+atPort, name, secret))
		bubble(t, name, func(t *testing.T, n *network) {
			content := registrytest.GGCR()
			m, storage := n.add(atPort, content), n.add(otherPort, content)
			desc, data := blob(small, 1)
			push(t, repository(t, n.client(registry.Options{}), otherPort+"/app"), desc, data)
			m.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.Header.Get(name) != secret {
					t.Errorf("%s has no %s", r.URL, name)
				}
				http.Redirect(w, r, "http://"+otherPort+r.URL.Path, http.StatusTemporaryRedirect)
				return true
			}
			storage.headers = nil
			if got, err := read(source(t, n.client(registry.Options{HostsDir: dir}), host+"/app").Blob(t.Context(), desc)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if len(storage.headers) == 0 || strings.Contains(fmt.Sprint(storage.headers), secret) {
				t.Errorf("sent on with %v", storage.headers)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(registrytest.GGCR())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	defer server.Close()
	plain := httptest.NewServer(registrytest.GGCR())
	defer plain.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	// The name is that of the server's certificate. Certificates of loopback addresses are not
	// verified.
	to := func(address string) *network {
		n := newNetwork(t)
		n.forward = strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
		return n
	}
	resolve := func(t *testing.T, n *network, options registry.Options) error {
		if options.PlainHTTP == nil {
			options.PlainHTTP = []string{}
		}
		_, err := repository(t, n.client(options), "example.com/app").Resolve(t.Context(), "1")
		return err
	}
	t.Run("trusted by file", func(t *testing.T) {
		if err := resolve(t, to(server.URL), registry.Options{CAFile: ca}); !errdefs.IsNotFound(err) {
			t.Errorf("got %v", err)
		}
	})
	for name, test := range map[string]struct {
		network *network
		options registry.Options
		text    string
	}{
		"not trusted":    {to(server.URL), registry.Options{}, "resolve example.com/app:1: example.com: its certificate is signed by an unknown authority; if it is yours, trust it"},
		"plain http":     {to(plain.URL), registry.Options{}, "resolve example.com/app:1: example.com: it answers https with plain http; if that is what you want, allow plain http for example.com"},
		"not plain http": {to(server.URL), registry.Options{PlainHTTP: []string{"example.com"}}, "resolve example.com/app:1: example.com: 400 Bad Request; if the registry uses TLS, do not allow plain http for example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := resolve(t, test.network, test.options); err == nil || err.Error() != test.text {
				t.Errorf("got  %v\nwant %v", err, test.text)
			}
		})
	}
	t.Run("loopback", func(t *testing.T) {
		for _, at := range []string{server.URL, plain.URL} {
			client, err := registry.New(registry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			_, address, _ := strings.Cut(at, "://")
			pushed(t, repository(t, client, address+"/app"), "1")
			_, port, _ := net.SplitHostPort(address)
			if _, err := repository(t, client, "localhost:"+port+"/app").Resolve(t.Context(), "1"); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("no such file", func(t *testing.T) {
		if _, err := registry.New(registry.Options{CAFile: ca + "x"}); err == nil {
			t.Error("no error")
		}
		notPEM := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(notPEM, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := registry.New(registry.Options{CAFile: notPEM}); err == nil {
			t.Error("no error")
		}
	})
}
