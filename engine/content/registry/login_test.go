// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// home makes a temporary folder the only place for credentials.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, value := range map[string]string{
		"HOME": dir, "DOCKER_CONFIG": filepath.Join(dir, ".docker"), "XDG_RUNTIME_DIR": filepath.Join(dir, "run"),
		"XDG_CONFIG_HOME": "", "REGISTRY_AUTH_FILE": "", "DOCKER_AUTH_CONFIG": "",
	} {
		t.Setenv(name, value)
	}
	return dir
}

func keep(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// helperProgram puts a credential helper on the PATH.
func helperProgram(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

var encoded = base64.StdEncoding.EncodeToString([]byte(user + ":" + secret))

// asked returns a repository of a registry that requires the credentials of the environment,
// and the log of its client.
func asked(t *testing.T, name string) (*registry.Repository, *bytes.Buffer) {
	t.Helper()
	n := newNetwork(t)
	t.Cleanup(n.close)
	n.add(host, registrytest.Basic(registrytest.GGCR(), user, secret))
	var log bytes.Buffer
	client, err := registry.New(registry.Options{
		DialContext: n.dial, PlainHTTP: []string{host}, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return repository(t, client, name), &log
}

func TestPlacesOfCredentials(t *testing.T) {
	right := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, encoded)
	team := fmt.Sprintf(`{"auths":{%q:{"auth":"bm9ib2R5Om5v"},%q:{"auth":%q}}}`, host, host+"/team", encoded)
	for name, set := range map[string]func(t *testing.T, home string){
		"docker": func(t *testing.T, home string) { keep(t, filepath.Join(home, ".docker", "config.json"), right) },
		"podman": func(t *testing.T, home string) { keep(t, filepath.Join(home, "run", "containers", "auth.json"), right) },
		"podman, kept": func(t *testing.T, home string) {
			keep(t, filepath.Join(home, ".config", "containers", "auth.json"), right)
		},
		"docker, namespaced": func(t *testing.T, home string) { keep(t, filepath.Join(home, ".docker", "config.json"), team) },
		"podman, namespaced": func(t *testing.T, home string) { keep(t, filepath.Join(home, "run", "containers", "auth.json"), team) },
		"a file that is named": func(t *testing.T, home string) {
			keep(t, filepath.Join(home, "auth.json"), right)
			t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(home, "auth.json"))
		},
		"the environment": func(t *testing.T, _ string) { t.Setenv("DOCKER_AUTH_CONFIG", right) },
		"an old spelling": func(t *testing.T, home string) {
			keep(t, filepath.Join(home, ".docker", "config.json"), strings.Replace(right, host, "https://"+host+"/v1/", 1))
		},
		"a byte order mark": func(t *testing.T, home string) {
			keep(t, filepath.Join(home, ".docker", "config.json"), "\ufeff"+right)
		},
		"without padding": func(t *testing.T, home string) {
			keep(t, filepath.Join(home, ".docker", "config.json"), strings.Replace(right, encoded, base64.RawStdEncoding.EncodeToString([]byte(user+":"+secret+"\x00")), 1))
		},
		"with a slash": func(t *testing.T, home string) {
			keep(t, filepath.Join(home, ".docker", "config.json"), strings.Replace(right, host, host+"/", 1))
		},
		"with a version": func(t *testing.T, home string) {
			keep(t, filepath.Join(home, ".docker", "config.json"), strings.Replace(right, host, "http://"+host+"/v2/", 1))
		},
		"user and password": func(t *testing.T, home string) {
			keep(t, filepath.Join(home, ".docker", "config.json"), fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":%q}}}`, host, user, secret))
		},
		"another is broken": func(t *testing.T, home string) {
			keep(t, filepath.Join(home, ".docker", "config.json"), strings.Replace(right, `{"auths":{`, `{"auths":{"other.example":{"auth":"!!!"},"third.example":7,`, 1))
		},
		"a file is broken": func(t *testing.T, home string) {
			keep(t, filepath.Join(home, ".docker", "config.json"), `{"auths":`+encoded)
			t.Setenv("DOCKER_AUTH_CONFIG", right)
		},
		"another has a helper": func(t *testing.T, home string) {
			keep(t, filepath.Join(home, ".docker", "config.json"), strings.Replace(right, `{"auths"`, `{"credHelpers":{"other.example":"missing"},"auths"`, 1))
		},
		"the helper is gone": func(t *testing.T, home string) {
			keep(t, filepath.Join(home, ".docker", "config.json"), strings.Replace(right, `{"auths"`, `{"credsStore":"missing","auths"`, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			set(t, home(t))
			r, log := asked(t, host+"/team/app")
			pushed(t, r, "1")
			if strings.Contains(log.String(), secret) || strings.Contains(log.String(), encoded) {
				t.Errorf("the log has a secret: %s", log)
			}
		})
	}
}

// A helper that does not work is a warning, and the registry reports that it needs credentials.
func TestBrokenHelpers(t *testing.T) {
	for name, script := range map[string]string{
		"fails":           "echo " + secret + "; exit 1",
		"prints garbage":  "echo " + secret,
		"prints no end":   "yes " + secret,
		"dies":            "kill -9 $$",
		"is of no format": "echo '[]'",
	} {
		t.Run(name, func(t *testing.T) {
			dir := home(t)
			keep(t, filepath.Join(dir, ".docker", "config.json"), `{"credsStore":"ours"}`)
			helperProgram(t, "ours", script)
			r, log := asked(t, host+"/app")
			if _, err := r.Resolve(t.Context(), "1"); !errdefs.IsUnauthorized(err) || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v", err)
			}
			if n := strings.Count(log.String(), "docker-credential-ours"); n != 1 || strings.Contains(log.String(), secret) {
				t.Errorf("warned %d times: %s", n, log)
			}
		})
	}
}

func TestLogin(t *testing.T) {
	for name, protect := range map[string]func(http.Handler) http.Handler{
		"basic":  func(h http.Handler) http.Handler { return registrytest.Basic(h, user, secret) },
		"bearer": func(h http.Handler) http.Handler { return &registrytest.Bearer{Next: h, User: user, Password: secret} },
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(home(t), ".docker", "config.json")
			before := `{"auths":{"other.example":{"auth":"eDp5"}},"HttpHeaders":{"a":"b"},"n":1e3}`
			keep(t, file, before)
			if err := os.Chmod(file, 0o644); err != nil {
				t.Fatal(err)
			}
			n := newNetwork(t)
			defer n.close()
			n.add(host, protect(registrytest.GGCR()))
			client := n.client(registry.Options{})
			_, err := client.Login(t.Context(), host, user, secret+"!")
			if !errdefs.IsUnauthorized(err) || strings.Contains(err.Error(), secret) {
				t.Errorf("a wrong password: %v", err)
			}
			if data, err := os.ReadFile(file); err != nil || string(data) != before {
				t.Errorf("a wrong password changed the file: %s, %v", data, err)
			}
			account, err := client.Login(t.Context(), "https://"+host+"/", user, secret)
			if err != nil || account.Registry != host || !account.Checked || account.Place != file {
				t.Errorf("Login = %v, %v", account, err)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var kept struct {
				Auths       map[string]struct{ Auth string }
				HTTPHeaders map[string]string `json:"HttpHeaders"`
			}
			if err := json.Unmarshal(data, &kept); err != nil || kept.Auths[host].Auth != encoded ||
				kept.Auths["other.example"].Auth != "eDp5" || kept.HTTPHeaders["a"] != "b" || !strings.Contains(string(data), "1e3") {
				t.Errorf("%v: %s", err, data)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			for _, removed := range []bool{true, false} {
				account, err = registry.Logout(t.Context(), host)
				if err != nil || account.Checked != removed {
					t.Errorf("Logout = %v, %v", account, err)
				}
			}
			if data, err := os.ReadFile(file); err != nil || strings.Contains(string(data), host) || !strings.Contains(string(data), "other.example") {
				t.Errorf("after the logout: %s, %v", data, err)
			}
			if files, err := os.ReadDir(filepath.Dir(file)); err != nil || len(files) != 1 {
				t.Errorf("files left: %v, %v", files, err)
			}
		})
	}
	t.Run("at once", func(t *testing.T) {
		file := filepath.Join(home(t), ".docker", "config.json")
		n := newNetwork(t)
		defer n.close()
		nameOf := func(i int) string { return fmt.Sprintf("registry%d.example.com", i) }
		for i := range 20 {
			n.add(nameOf(i), registrytest.Basic(registrytest.GGCR(), user, secret))
		}
		client := n.client(registry.Options{})
		var group errgroup.Group
		for i := range 20 {
			group.Go(func() error {
				if i%4 == 0 {
					if _, err := registry.Logout(t.Context(), "other.example"); err != nil {
						return err
					}
				}
				_, err := client.Login(t.Context(), nameOf(i), user, secret)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if n := strings.Count(string(data), encoded); err != nil || n != 20 {
			t.Errorf("%d of 20 are kept: %v", n, err)
		}
	})
	t.Run("helper", func(t *testing.T) {
		dir := home(t)
		file := filepath.Join(dir, ".docker", "config.json")
		keep(t, file, `{"credsStore":"ours"}`)
		helperProgram(t, "ours", `case $1 in
store) cat > `+dir+`/kept;;
get) cat > /dev/null; [ -e `+dir+`/kept ] || { echo "credentials not found in native keychain"; exit 1; }; cat `+dir+`/kept;;
erase) cat > /dev/null; rm -f `+dir+`/kept;;
esac
`)
		r, log := asked(t, host+"/app")
		n := newNetwork(t)
		defer n.close()
		n.add(host, registrytest.Basic(registrytest.GGCR(), user, secret))
		account, err := n.client(registry.Options{}).Login(t.Context(), host, user, secret)
		if err != nil || account.Place != "docker-credential-ours" {
			t.Fatalf("Login = %v, %v", account, err)
		}
		if data, err := os.ReadFile(file); err != nil || strings.Contains(string(data), encoded) {
			t.Errorf("the file has the password as well: %s, %v", data, err)
		}
		pushed(t, r, "1")
		if log.Len() > 0 {
			t.Errorf("warned: %s", log)
		}
		if account, err = registry.Logout(t.Context(), host); err != nil || !account.Checked {
			t.Errorf("Logout = %v, %v", account, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "kept")); err == nil {
			t.Error("the helper still has it")
		}
	})
	for name, file := range map[string]string{"not JSON": "{", "another form": `{"auths":[]}`} {
		t.Run(name, func(t *testing.T) {
			config := filepath.Join(home(t), ".docker", "config.json")
			keep(t, config, file)
			n := newNetwork(t)
			defer n.close()
			n.add(host, registrytest.Basic(registrytest.GGCR(), user, secret))
			if _, err := n.client(registry.Options{}).Login(t.Context(), host, user, secret); err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v", err)
			}
			if data, err := os.ReadFile(config); err != nil || string(data) != file {
				t.Errorf("the file was changed: %s, %v", data, err)
			}
		})
	}
	t.Run("names", func(t *testing.T) {
		home(t)
		for _, name := range []string{"", "quay.io/team", "https://", "a b", "team", "registry.example.com:x"} {
			if _, err := registry.Logout(t.Context(), name); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%q: %v", name, err)
			}
		}
		for _, name := range []string{"docker.io", "https://index.docker.io/v1/", "localhost:5000", "[::1]:5000"} {
			if _, err := registry.Logout(t.Context(), name); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
}
