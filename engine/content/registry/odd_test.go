// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// A registry on one port of a host, and another service on another port.
const (
	atPort    = "registry.example.com:5000"
	otherPort = "registry.example.com:5001"
)

func known(string) (string, string, error) { return user, secret, nil }

// The targets of redirects and uploads of a registry get neither credentials nor tokens, even
// on the same host, nor do those of a token server.
func TestCredentialsStay(t *testing.T) {
	redirect := func(to string) func(w http.ResponseWriter, r *http.Request, _ int) bool {
		return func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Header.Get("Authorization") == "" || !registrytest.Is(registrytest.Blobs, http.MethodGet)(r) {
				return false
			}
			w.Header().Set("Location", to+r.URL.Path+"?signature=x")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}
	}
	for name, protect := range map[string]func(http.Handler) http.Handler{
		"basic":  func(h http.Handler) http.Handler { return registrytest.Basic(h, user, secret) },
		"bearer": func(h http.Handler) http.Handler { return &registrytest.Bearer{Next: h, User: user, Password: secret} },
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			content := registrytest.GGCR()
			s := n.add(atPort, protect(content))
			other := n.add(otherPort, content)
			r := repository(t, n.client(registry.Options{Credentials: func(host string) (string, string, error) {
				if host != atPort {
					return "", "", nil
				}
				return user, secret, nil
			}}), atPort+"/app")
			desc, data := blob(large, 1)
			push(t, r, desc, data)
			s.before = redirect("http://" + otherPort)
			got, err := read(r.Blob(t.Context(), desc))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.Header.Get("Authorization") == "" || r.Method != http.MethodPost {
					return false
				}
				answer := httptest.NewRecorder()
				content.ServeHTTP(answer, r)
				w.Header().Set("Location", "http://"+otherPort+answer.Header().Get("Location"))
				w.WriteHeader(http.StatusAccepted)
				return true
			}
			desc, data = blob(large, 2)
			push(t, r, desc, data)
			if len(other.requests("GET /v2/app/blobs/")) != 1 || len(other.requests("PUT ")) != 1 {
				t.Errorf("requests elsewhere: %v", other.requests())
			}
			for _, header := range other.headers {
				if got := header.Get("Authorization"); got != "" {
					t.Errorf("Authorization %.6s… went to another port", got)
				}
			}
		})
	}
	bubble(t, "token server", func(t *testing.T, n *network) {
		s, other := n.add(atPort, nil), n.add(otherPort, nil)
		s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.URL.Path == "/token" {
				w.Header().Set("Location", "http://"+otherPort+"/token")
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="/token"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		r := repository(t, n.client(registry.Options{Credentials: known}), atPort+"/app")
		if _, err := r.Resolve(t.Context(), "1"); !errdefs.IsUnauthorized(err) || strings.Contains(err.Error(), secret) {
			t.Errorf("got %v", err)
		}
		if got := other.requests(); len(got) > 0 {
			t.Errorf("requests elsewhere: %v", got)
		}
	})
}

// tokens is a registry that issues its own tokens.
type tokens struct {
	next   http.Handler
	scope  func(path string) string // of the challenge
	refuse func(scopes []string) int
	good   func(token string) bool
	given  atomic.Int64
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if s.refuse != nil {
			if code := s.refuse(r.URL.Query()["scope"]); code != 0 {
				w.WriteHeader(code)
				return
			}
		}
		fmt.Fprintf(w, `{"token":"t%d","expires_in":300}`, s.given.Add(1))
		return
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && s.good(token) {
		s.next.ServeHTTP(w, r)
		return
	}
	challenge := `Bearer realm="/token",service="s"`
	if s.scope != nil {
		challenge += `,scope="` + s.scope(r.URL.Path) + `"`
	}
	w.Header().Set("WWW-Authenticate", challenge)
	w.WriteHeader(http.StatusUnauthorized)
}

func TestTokens(t *testing.T) {
	bubble(t, "refused before it expires", func(t *testing.T, n *network) {
		var dead atomic.Value
		dead.Store("")
		s := &tokens{next: twoRequests(registrytest.GGCR()), good: func(token string) bool { return token != dead.Load() }}
		n.add(host, s)
		r := repository(t, n.client(registry.Options{Credentials: known}), host+"/app")
		pushed(t, r, "1")
		dead.Store("t" + strconv.FormatInt(s.given.Load(), 10))
		before := s.given.Load()
		for i, size := range []int{small, large} {
			desc, data := blob(size, byte(i))
			push(t, r, desc, data)
		}
		if got := s.given.Load() - before; got < 1 || got > 2 { // one to read, one to write
			t.Errorf("%d more tokens", got)
		}
	})
	bubble(t, "refused for good", func(t *testing.T, n *network) {
		s := &tokens{next: registrytest.GGCR(), good: func(string) bool { return false }}
		n.add(host, s)
		r := repository(t, n.client(registry.Options{Credentials: known}), host+"/app")
		if _, err := r.Resolve(t.Context(), "1"); !errdefs.IsUnauthorized(err) {
			t.Errorf("got %v", err)
		}
		if got := s.given.Load(); got > 3 {
			t.Errorf("%d tokens", got)
		}
	})
	for _, code := range []int{400, 401, 403} {
		bubble(t, fmt.Sprintf("%d for two repositories", code), func(t *testing.T, n *network) {
			s := &tokens{next: registrytest.GGCR(), good: func(string) bool { return true }, refuse: func(scopes []string) int {
				repositories := map[string]bool{}
				for _, scope := range strings.Fields(strings.Join(scopes, " ")) {
					repositories[strings.Split(scope, ":")[1]] = true
				}
				if len(repositories) > 1 {
					return code
				}
				return 0
			}, scope: func(path string) string { return "repository:" + strings.Split(path, "/")[2] + ":pull" }}
			n.add(host, s)
			client := n.client(registry.Options{Credentials: known})
			from, to := repository(t, client, host+"/from"), repository(t, client, host+"/to")
			desc, data := blob(small, 1)
			push(t, from, desc, data)
			if how, err := client.CopyBlob(t.Context(), to, from, desc, nil); err != nil || how != registry.Streamed {
				t.Errorf("CopyBlob = %v, %v", how, err)
			}
			if _, err := to.Resolve(t.Context(), "none"); !errdefs.IsNotFound(err) {
				t.Errorf("got %v", err)
			}
		})
	}
	bubble(t, "for a name of its own", func(t *testing.T, n *network) {
		s := &tokens{next: registrytest.GGCR(), good: func(string) bool { return true }, refuse: func(scopes []string) int {
			if !slices.Equal(scopes, []string{"repository:real/app:pull,push"}) {
				return http.StatusForbidden
			}
			return 0
		}, scope: func(string) string { return "repository:real/app:pull,push" }}
		n.add(host, s)
		pushed(t, repository(t, n.client(registry.Options{Credentials: known}), host+"/app"), "1")
	})
	for name, answer := range map[string]string{
		"seconds as text":     `{"token":"t","expires_in":"300"}`,
		"seconds as a float":  `{"access_token":"t","expires_in":3e2}`,
		"a negative life":     `{"token":"t","expires_in":-1}`,
		"a life of ages":      `{"token":"t","expires_in":92233720368547758079}`,
		"no life":             `{"token":"t","expires_in":null}`,
		"a time of no form":   `{"token":"t","issued_at":"yesterday","expires_in":300}`,
		"no time":             `{"token":"t","issued_at":""}`,
		"scopes as a list":    `{"token":"t","scope":["a"],"expires_in":60}`,
		"an empty first name": `{"token":"","access_token":"t"}`,
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, nil)
			s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				switch {
				case r.URL.Path == "/token":
					fmt.Fprint(w, answer)
				case r.Header.Get("Authorization") == "Bearer t":
					return false
				default:
					w.Header().Set("WWW-Authenticate", `Bearer realm="/token"`)
					w.WriteHeader(http.StatusUnauthorized)
				}
				return true
			}
			pushed(t, repository(t, n.client(registry.Options{Credentials: known}), host+"/app"), "1")
		})
	}
	bubble(t, "compressed", func(t *testing.T, n *network) {
		s := n.add(host, nil)
		s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Header.Get("Authorization") == "Bearer t" {
				return false
			}
			w.Header().Set("Content-Encoding", "gzip")
			out := gzip.NewWriter(w)
			defer out.Close()
			if r.URL.Path == "/token" {
				fmt.Fprint(out, `{"token":"t"}`)
				return true
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="/token"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		pushed(t, repository(t, n.client(registry.Options{Credentials: known}), host+"/app"), "1")
		s.before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(http.StatusForbidden)
			out := gzip.NewWriter(w)
			defer out.Close()
			fmt.Fprint(out, `{"errors":[{"message":"not you"}]}`)
			return true
		}
		if _, err := repository(t, n.client(registry.Options{}), host+"/app").Tags(t.Context()); err == nil || !strings.Contains(err.Error(), "not you") {
			t.Errorf("got %v", err)
		}
	})
	// 403 with error="invalid_token" means that a token has expired, like 401.
	bubble(t, "403 for an old token", func(t *testing.T, n *network) {
		content, dead := registrytest.GGCR(), ""
		s := &tokens{good: func(string) bool { return true }, next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != dead {
				content.ServeHTTP(w, r)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="/token",service="s",error="invalid_token"`)
			w.WriteHeader(http.StatusForbidden)
		})}
		n.add(host, s)
		r := repository(t, n.client(registry.Options{Credentials: known}), host+"/app")
		pushed(t, r, "1")
		dead = "Bearer t" + strconv.FormatInt(s.given.Load(), 10)
		pushed(t, r, "2")
	})
	for name, challenge := range map[string]string{
		"Bearer whose server is down":     `Bearer realm="http://down.example.com/token", Basic realm="r"`,
		"Negotiate before Basic":          `Negotiate, Basic realm="r"`,
		"Bearer without a realm":          `Bearer service="s", Basic realm="r"`,
		"Bearer whose server has nothing": `Bearer realm="/nowhere", Basic realm="r"`,
		"Bearer of another scheme":        `Bearer realm="ftp://registry.example.com/token", Basic realm="r"`,
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, nil)
			s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.URL.Path == "/nowhere" {
					w.WriteHeader(http.StatusNotFound)
					return true
				}
				if _, _, ok := r.BasicAuth(); ok {
					return false
				}
				w.Header().Set("WWW-Authenticate", challenge)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			pushed(t, repository(t, n.client(registry.Options{Credentials: known}), host+"/app"), "1")
		})
	}
}

// A response that is not a registry's success is an error.
func TestNoSuccess(t *testing.T) {
	answers := map[string]func(w http.ResponseWriter){
		"a web page": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(w, "<html>please log in</html>")
		},
		"JSON":    func(w http.ResponseWriter) { w.Header().Set("Content-Type", "application/json"); fmt.Fprint(w, "{}") },
		"nothing": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
		"later":   func(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) },
	}
	for name, answer := range answers {
		for _, method := range []string{"PUT", "POST", "PATCH", "HEAD", "every"} {
			bubble(t, name+" for "+method, func(t *testing.T, n *network) {
				s := n.add(host, twoRequests(registrytest.GGCR()))
				s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
					if r.Method != method && method != "every" {
						return false
					}
					answer(w)
					return true
				}
				r := repository(t, n.client(registry.Options{}), host+"/app")
				manifest, data := plain("1")
				err := r.PushManifest(t.Context(), manifest, data, "1")
				if writes := method == "PUT" || method == "every"; writes && err == nil {
					t.Error("PushManifest succeeded")
				}
				for _, size := range []int{small, large} {
					desc, data := blob(size, 1)
					_, err := r.PushBlob(t.Context(), desc, opener(data))
					s.before = nil
					there, failed := r.Exists(t.Context(), desc)
					if failed != nil || there != (err == nil) {
						t.Errorf("PushBlob of %d bytes = %v, and there is one: %v, %v", size, err, there, failed)
					}
					s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
						if r.Method != method && method != "every" {
							return false
						}
						answer(w)
						return true
					}
				}
				missing, _ := plain("missing")
				if there, _ := r.Exists(t.Context(), missing); there {
					t.Error("a manifest exists that does not")
				}
			})
		}
	}
}

// A registry may return another 2xx status than specified, as long as it has the content.
func TestOtherSuccess(t *testing.T) {
	for _, status := range []int{200, 202, 204} {
		for _, says := range []bool{true, false} {
			bubble(t, fmt.Sprintf("%d %v", status, says), func(t *testing.T, n *network) {
				next := twoRequests(registrytest.GGCR())
				n.add(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodPut {
						next.ServeHTTP(w, r)
						return
					}
					answer := httptest.NewRecorder()
					next.ServeHTTP(answer, r)
					if says {
						w.Header().Set("Docker-Content-Digest", answer.Header().Get("Docker-Content-Digest"))
					}
					if answer.Code == http.StatusCreated {
						answer.Code = status
					}
					w.WriteHeader(answer.Code)
				}))
				r := repository(t, n.client(registry.Options{}), host+"/app")
				for _, size := range []int{small, large} {
					desc, data := blob(size, 1)
					push(t, r, desc, data)
				}
				pushed(t, r, "1")
			})
		}
	}
}

// The Location of an upload may be any URI reference, and its query is kept as it is.
func TestUploadLocation(t *testing.T) {
	for name, form := range map[string]func(id string) string{
		"path":            func(id string) string { return "/v2/app/blobs/uploads/" + id },
		"URL":             func(id string) string { return "http://" + host + "/v2/app/blobs/uploads/" + id },
		"no scheme":       func(id string) string { return "//" + host + "/v2/app/blobs/uploads/" + id },
		"host and path":   func(id string) string { return atPort + "/v2/app/blobs/uploads/" + id },
		"name":            func(id string) string { return id },
		"dot":             func(id string) string { return "./" + id },
		"up":              func(id string) string { return "../uploads/" + id },
		"query alone":     func(id string) string { return "?id=" + id },
		"signed query":    func(id string) string { return "/v2/app/blobs/uploads/" + id + "?_state=a%2Fb%3D&x=1+2;y" },
		"digest":          func(id string) string { return id + "?a=1&digest=&b=2" },
		"other digest":    func(id string) string { return id + "?digest=sha256%3A00" },
		"space":           func(id string) string { return id + "?a=1 2" },
		"with a fragment": func(id string) string { return id + "#part" },
		"with a user":     func(id string) string { return "http://" + user + "@" + host + "/v2/app/blobs/uploads/" + id },
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			at := host
			if name == "host and path" {
				at = atPort
			}
			next := registrytest.GGCR()
			s := n.add(at, nil)
			var queries []string
			s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.Method {
				case http.MethodPost:
					answer := httptest.NewRecorder()
					r.URL.RawQuery = ""
					next.ServeHTTP(answer, r)
					parts := strings.Split(answer.Header().Get("Location"), "/")
					w.Header().Set("Location", form(parts[len(parts)-1]))
					w.WriteHeader(http.StatusAccepted)
					return
				case http.MethodPut:
					queries = append(queries, r.URL.RawQuery)
					if id := r.URL.Query().Get("id"); id != "" {
						r.URL.Path = "/v2/app/blobs/uploads/" + id
					}
					r.URL.RawQuery = "digest=" + url.QueryEscape(r.URL.RawQuery[strings.LastIndex(r.URL.RawQuery, "digest=")+len("digest="):])
					r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, "%253A", "%3A")
				}
				next.ServeHTTP(w, r)
			})
			r := repository(t, n.client(registry.Options{}), at+"/app")
			for _, size := range []int{small, large} {
				desc, data := blob(size, 1)
				push(t, r, desc, data)
				if there, err := r.Exists(t.Context(), desc); err != nil || !there {
					t.Errorf("Exists = %v, %v", there, err)
				}
			}
			for _, query := range queries {
				if name == "signed query" && !strings.HasPrefix(query, "_state=a%2Fb%3D&x=1+2;y&digest=sha256%3A") {
					t.Errorf("query %s", query)
				}
				if strings.Count(query, "digest=") != 1 {
					t.Errorf("query %s, want one digest", query)
				}
			}
		})
	}
	for name, location := range map[string]string{"none": "", "another scheme": "ftp://" + host + "/x", "no URL": "http://%zz/"} {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, nil)
			s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.Method != http.MethodPost {
					return false
				}
				if location != "" {
					w.Header().Set("Location", location)
				}
				w.WriteHeader(http.StatusAccepted)
				return true
			}
			r := repository(t, n.client(registry.Options{}), host+"/app")
			start := time.Now()
			for _, size := range []int{small, large} {
				desc, data := blob(size, 1)
				_, err := r.PushBlob(t.Context(), desc, opener(data))
				if !errdefs.IsInvalidArgument(err) || strings.Contains(err.Error(), "no Host") {
					t.Errorf("got %v", err)
				}
			}
			if took := time.Since(start); took > 0 {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// A Content-Encoding is undone if there is one, and only then.
func TestContentEncoding(t *testing.T) {
	zipped := func(data []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		w.Write(data)
		w.Close()
		return out.Bytes()
	}
	deflated := func(data []byte) []byte {
		var out bytes.Buffer
		w := zlib.NewWriter(&out)
		w.Write(data)
		w.Close()
		return out.Bytes()
	}
	same := func(data []byte) []byte { return data }
	for name, test := range map[string]struct {
		encoding string
		encode   func([]byte) []byte
	}{
		"gzip":           {"gzip", zipped},
		"x-gzip":         {"X-GZIP", zipped},
		"deflate":        {"deflate", deflated},
		"twice":          {"deflate, gzip", func(data []byte) []byte { return zipped(deflated(data)) }},
		"identity":       {"identity", same},
		"a label":        {"gzip", same},
		"an odd label":   {"x-gzip", same},
		"one of its own": {"aws-chunked", same},
	} {
		for _, sized := range []bool{true, false} {
			bubble(t, fmt.Sprintf("%s %v", name, sized), func(t *testing.T, n *network) {
				next := registrytest.GGCR()
				s := n.add(host, next)
				r := repository(t, n.client(registry.Options{}), host+"/app")
				// A layer that is stored compressed, and one that is not.
				_, raw := blob(large, 1)
				layer := zipped(raw)
				layers := []ocispec.Descriptor{describe(ocispec.MediaTypeImageLayerGzip, layer), describe(ocispec.MediaTypeImageLayer, raw)}
				push(t, r, layers[0], layer)
				push(t, r, layers[1], raw)
				want := pushed(t, r, "1")
				s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					answer := httptest.NewRecorder()
					next.ServeHTTP(answer, r)
					body := answer.Body.Bytes()
					for key, values := range answer.Header() {
						w.Header()[key] = values
					}
					w.Header().Del("Content-Length")
					if answer.Code == http.StatusOK && r.Method == http.MethodGet {
						body = test.encode(body)
						w.Header().Set("Content-Encoding", test.encoding)
					}
					if sized {
						w.Header().Set("Content-Length", strconv.Itoa(len(body)))
					}
					w.WriteHeader(answer.Code)
					w.Write(body)
				})
				for _, at := range []string{"1", want} {
					again := source(t, n.client(registry.Options{}), host+"/app")
					if desc, _, err := again.Manifest(t.Context(), at); err != nil || desc.Digest.String() != want {
						t.Errorf("Manifest(%.8s) = %v, %v", at, desc.Digest, err)
					}
				}
				if tags, err := r.Tags(t.Context()); err != nil || !slices.Equal(tags, []string{"1"}) {
					t.Errorf("Tags = %q, %v", tags, err)
				}
				for i, data := range [][]byte{layer, raw} {
					got, err := read(r.Blob(t.Context(), layers[i]))
					if err != nil || !bytes.Equal(got, data) {
						t.Errorf("layer %d: got %d bytes, %v", i, len(got), err)
					}
				}
			})
		}
	}
}

// An interrupted download is resumed, whether the registry supports ranges, does not, or sends
// another range than requested.
func TestResume(t *testing.T) {
	desc, data := blob(large, 1)
	for name, part := range map[string]func(w http.ResponseWriter, offset int){
		"parts": func(w http.ResponseWriter, offset int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, len(data)-1, len(data)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(data[offset:])
		},
		"no parts": func(w http.ResponseWriter, _ int) { w.Write(data) },
		"another part": func(w http.ResponseWriter, _ int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 7-%d/%d", len(data)-1, len(data)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(data[7:])
		},
		"no such part": func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) },
		"no range":     func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusBadRequest) },
		"none signed":  func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusForbidden) },
	} {
		for _, sized := range []bool{true, false} {
			bubble(t, fmt.Sprintf("%s %v", name, sized), func(t *testing.T, n *network) {
				s := n.add(host, nil)
				s.before = func(w http.ResponseWriter, r *http.Request, n int) bool {
					if sized {
						w.Header().Set("Content-Length", strconv.Itoa(len(data)))
					}
					if asked, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
						w.Header().Del("Content-Length")
						offset, err := strconv.Atoi(strings.TrimSuffix(asked, "-"))
						if err != nil {
							t.Error(err)
						}
						part(w, offset)
						return true
					}
					if n > 1 {
						w.Write(data)
						return true
					}
					w.Write(data[:len(data)/2])
					http.NewResponseController(w).Flush()
					cut()
					return true
				}
				got, err := read(repository(t, n.client(registry.Options{}), host+"/app").Blob(t.Context(), desc))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
			})
		}
	}
	// A proxy may claim that a part is the whole.
	for _, part := range []int{0, 1, len(data) / 2} {
		bubble(t, fmt.Sprintf("%d bytes as the whole", part), func(t *testing.T, n *network) {
			s := n.add(host, nil)
			s.before = func(w http.ResponseWriter, _ *http.Request, n int) bool {
				if n > 1 {
					w.Write(data)
					return true
				}
				w.Header().Set("Content-Length", strconv.Itoa(part))
				w.Write(data[:part])
				return true
			}
			got, err := read(repository(t, n.client(registry.Options{}), host+"/app").Blob(t.Context(), desc))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
	// The digest decides.
	bubble(t, "wrong bytes", func(t *testing.T, n *network) {
		s := n.add(host, nil)
		s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Header.Get("Range") == "" {
				w.Header().Set("Content-Length", strconv.Itoa(len(data)))
				w.Write(data[:len(data)/2])
				http.NewResponseController(w).Flush()
				cut()
			}
			w.Header().Set("Content-Range", strings.Replace(r.Header.Get("Range"), "=", " ", 1))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(make([]byte, len(data)-len(data)/2))
			return true
		}
		if _, err := read(repository(t, n.client(registry.Options{}), host+"/app").Blob(t.Context(), desc)); !errdefs.IsDataLoss(err) {
			t.Errorf("got %v", err)
		}
	})
}

// The size and type of a manifest in the response to HEAD are hints.
func TestHead(t *testing.T) {
	for name, change := range map[string]func(http.Header){
		"length 0":       func(h http.Header) { h.Set("Content-Length", "0") },
		"another length": func(h http.Header) { h.Set("Content-Length", "7") },
		"no type":        func(h http.Header) { h.Del("Content-Type") },
		"another type":   func(h http.Header) { h.Set("Content-Type", "application/json") },
		"no digest":      func(h http.Header) { h.Del("Docker-Content-Digest") },
		"no digest, odd": func(h http.Header) { h.Set("Docker-Content-Digest", "none") },
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			next := registrytest.GGCR()
			s := n.add(host, next)
			r := repository(t, n.client(registry.Options{}), host+"/app")
			want := pushed(t, r, "1")
			s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodHead {
					next.ServeHTTP(w, r)
					return
				}
				answer := httptest.NewRecorder()
				next.ServeHTTP(answer, r)
				for key, values := range answer.Header() {
					w.Header()[key] = values
				}
				change(w.Header())
				w.WriteHeader(answer.Code)
			})
			manifest, data := plain("1")
			for _, at := range []string{"1", want} {
				r := source(t, n.client(registry.Options{}), host+"/app")
				desc, err := r.Resolve(t.Context(), at)
				if err != nil || desc.Digest != manifest.Digest || desc.Size != int64(len(data)) || desc.MediaType != manifest.MediaType {
					t.Errorf("Resolve(%.8s) = %v, %v", at, desc, err)
				}
			}
		})
	}
}

// A tag is read if HEAD is rejected, or returns a digest that does not exist, even if it was
// read before.
func TestHeadIsAHint(t *testing.T) {
	for name, head := range map[string]func(http.ResponseWriter){
		"405": func(w http.ResponseWriter) { w.WriteHeader(http.StatusMethodNotAllowed) },
		"501": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotImplemented) },
		"another digest": func(w http.ResponseWriter) {
			w.Header().Set("Docker-Content-Digest", digest.FromString("gone").String())
		},
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, registrytest.GGCR())
			r := repository(t, n.client(registry.Options{}), host+"/app")
			want := pushed(t, r, "1")
			s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.Method == http.MethodHead {
					head(w)
				}
				return r.Method == http.MethodHead
			}
			r = source(t, n.client(registry.Options{}), host+"/app")
			for range 2 {
				if desc, err := r.Resolve(t.Context(), "1"); err != nil || desc.Digest.String() != want {
					t.Errorf("Resolve = %v, %v", desc, err)
				}
				if desc, _, err := r.Manifest(t.Context(), "1"); err != nil || desc.Digest.String() != want {
					t.Errorf("Manifest = %v, %v", desc, err)
				}
			}
		})
	}
}

// A registry that sends a little now and then is given up; one that is only slow is not.
func TestTrickle(t *testing.T) {
	desc, data := blob(large, 1)
	for name, tt := range map[string]struct {
		bytes  int // every second
		took   time.Duration
		failed bool
	}{
		"a byte a second": {1, time.Minute + 2*time.Second, true},
		"slow":            {1 << 10, time.Hour, false},
	} {
		for what, path := range map[string]string{"blob": "/blobs/", "manifest": "/manifests/", "referrers": "/referrers/", "error": "/manifests/"} {
			bubble(t, name+" "+what, func(t *testing.T, n *network) {
				s := n.add(host, registrytest.GGCR())
				s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
					if !strings.Contains(r.URL.Path, path) {
						return false
					}
					sent := data
					switch what {
					case "manifest":
						_, sent = plain("1")
						sent = append(bytes.Repeat([]byte(" "), 100<<10), sent...)
					case "referrers":
						sent = append(bytes.Repeat([]byte(" "), 100<<10), entriesOf()...)
					case "error":
						w.WriteHeader(http.StatusForbidden)
					}
					for len(sent) > 0 && r.Context().Err() == nil {
						n := min(tt.bytes, len(sent))
						if _, err := w.Write(sent[:n]); err != nil || http.NewResponseController(w).Flush() != nil {
							return true
						}
						sent = sent[n:]
						time.Sleep(time.Second)
					}
					return true
				}
				r := repository(t, n.client(registry.Options{}), host+"/app")
				start := time.Now()
				var err error
				switch what {
				case "blob":
					_, err = read(r.Blob(t.Context(), desc))
				case "referrers":
					_, err = r.Referrers(t.Context(), desc.Digest)
				default:
					_, _, err = r.Manifest(t.Context(), "1")
				}
				if took := time.Since(start); (err != nil) != (tt.failed || what == "error") || took > tt.took {
					t.Errorf("%v after %s", err, took)
				}
				if tt.failed && what != "error" && !strings.Contains(err.Error(), "bytes came within 30s of GET") {
					t.Error(err)
				}
			})
		}
	}
}

// The error names what an immutable tag points to; it is not an error if that is right.
func TestImmutable(t *testing.T) {
	for name, refusal := range map[string]struct {
		status int
		text   string
	}{
		"ECR":    {400, "The image tag '1' already exists in the 'app' repository and cannot be overwritten because the repository is immutable."},
		"Harbor": {412, "Failed to process request due to '1' configured as immutable."},
		"other":  {409, "conflict"},
		"Nexus":  {400, "Repository does not allow updating assets: app"},
		"Azure":  {405, "The operation is disallowed on this registry, repository or image."},
		"locked": {403, "the tag is locked: changeableAttributes.writeEnabled is false"},
		"Google": {400, "cannot update tag 1. The repository has enabled tag immutability"},
		"Hub":    {403, "requested access to the resource is denied: tag is immutable"},
		"Quay":   {409, "manifest tag did not match URI"},
		"GitLab": {403, "pushing protected tag"},
		"JFrog":  {403, "Not enough permissions to delete/overwrite artifact 'app/1/manifest.json' (user: 'ci' needs DELETE permission)."},
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, nil)
			r := repository(t, n.client(registry.Options{}), host+"/app")
			was := pushed(t, r, "1")
			s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.Method != http.MethodPut {
					return false
				}
				w.WriteHeader(refusal.status)
				fmt.Fprintf(w, `{"errors":[{"code":"X","message":%q}]}`, refusal.text)
				return true
			}
			desc, data := plain("1")
			if err := r.PushManifest(t.Context(), desc, data, "1"); err != nil {
				t.Errorf("the same again: %v", err)
			}
			desc, data = plain("2")
			err := r.PushManifest(t.Context(), desc, data, "1")
			if !errdefs.IsAlreadyExists(err) || registry.Refused(err) || !strings.Contains(err.Error(), was) {
				t.Errorf("another: %v", err)
			}
		})
	}
}

// If a registry rejects content because it already has it, the push succeeds.
func TestThereAlready(t *testing.T) {
	for _, status := range []int{400, 403, 405, 409, 412} {
		bubble(t, strconv.Itoa(status), func(t *testing.T, n *network) {
			s := n.add(host, twoRequests(registrytest.GGCR()))
			r := repository(t, n.client(registry.Options{}), host+"/app")
			manifest, data := plain("1")
			blobs := map[int]ocispec.Descriptor{}
			for _, size := range []int{small, large} {
				desc, data := blob(size, 1)
				push(t, r, desc, data)
				blobs[size] = desc
			}
			if err := r.PushManifest(t.Context(), manifest, data, ""); err != nil {
				t.Fatal(err)
			}
			s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.Method == http.MethodPut {
					w.WriteHeader(status)
				}
				return r.Method == http.MethodPut
			}
			if err := r.PushManifest(t.Context(), manifest, data, ""); err != nil {
				t.Errorf("the manifest again: %v", err)
			}
			for size, desc := range blobs {
				_, data := blob(size, 1)
				push(t, r, desc, data)
			}
			manifest, data = plain("2")
			if err := r.PushManifest(t.Context(), manifest, data, ""); err == nil {
				t.Error("another manifest is taken")
			}
			desc, data := blob(small, 2)
			if _, err := r.PushBlob(t.Context(), desc, opener(data)); err == nil {
				t.Error("another blob is taken")
			}
		})
	}
}

func describe(mediaType string, data []byte) ocispec.Descriptor {
	desc, _ := manifestOf(string(data))
	desc.MediaType = mediaType
	return desc
}

func read(body io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(body)
	return data, errors.Join(err, body.Close())
}

// A registry with TLS cannot make the client send the password to a token server without TLS.
func TestTokenServerInTheClear(t *testing.T) {
	for name, test := range map[string]struct {
		credentials func(string) (string, string, error)
		named       bool
		asked       bool
	}{
		"with a password":    {known, false, false},
		"without":            {func(string) (string, string, error) { return "", "", nil }, false, true},
		"where that is said": {known, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				fmt.Fprint(w, `{"token":"t","access_token":"t"}`)
			}))
			defer plain.Close()
			content := registrytest.GGCR()
			secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "Bearer t" {
					content.ServeHTTP(w, r)
					return
				}
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+plain.URL+`/token"`)
				w.WriteHeader(http.StatusUnauthorized)
			}))
			defer secure.Close()
			options := registry.Options{Credentials: test.credentials}
			if test.named {
				options.PlainHTTP = []string{strings.TrimPrefix(plain.URL, "http://")}
			}
			client, err := registry.New(options)
			if err != nil {
				t.Fatal(err)
			}
			_, err = repository(t, client, strings.TrimPrefix(secure.URL, "https://")+"/app").Digest(t.Context(), "1")
			if got := asked.Load() > 0; got != test.asked {
				t.Errorf("the token server was asked: %v", got)
			}
			if advised := err != nil && strings.Contains(err.Error(), "if that is what you want, allow plain http for 127.0.0.1"); advised == test.asked {
				t.Errorf("got %v", err)
			}
			if test.asked && !errdefs.IsNotFound(err) || !test.asked && !errdefs.IsUnauthorized(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The total delay that a registry may ask for is limited.
func TestRetryAfterInAll(t *testing.T) {
	for name, value := range map[string]string{"a minute": "60", "long": "9223372036854", "a date": "Fri, 01 Jan 2100 00:00:00 GMT"} {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, nil)
			s.before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				w.Header().Set("Retry-After", value)
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
			start := time.Now()
			_, err := repository(t, n.client(registry.Options{}), host+"/app").Digest(t.Context(), "1")
			if took := time.Since(start); !errdefs.IsUnavailable(err) || took > 3*time.Minute || !strings.Contains(err.Error(), "asks to wait") {
				t.Errorf("after %s: %v", took, err)
			}
		})
	}
}
