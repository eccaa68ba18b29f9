// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// about returns a manifest with a subject.
func about(subject ocispec.Descriptor, name string) (ocispec.Descriptor, []byte) {
	return manifestOf(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"application/vnd.example.%s","config":%s,"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d},"annotations":{"name":%q}}`,
		ocispec.MediaTypeImageManifest, name, emptyConfig, subject.MediaType, subject.Digest, subject.Size, name))
}

// empty pushes the config of the manifests in these tests.
func empty(t *testing.T, r *registry.Repository) {
	t.Helper()
	data := []byte("{}")
	push(t, r, ocispec.Descriptor{MediaType: ocispec.MediaTypeEmptyJSON, Digest: digest.FromBytes(data), Size: 2}, data)
}

func digests(list []ocispec.Descriptor) []string {
	var out []string
	for _, desc := range list {
		out = append(out, desc.Digest.String())
	}
	slices.Sort(out)
	return out
}

func TestPushReferrer(t *testing.T) {
	subjects := func(next http.Handler) http.Handler { // responds like a registry with the API
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				w.Header().Set("OCI-Subject", "sha256:of-something")
			}
			next.ServeHTTP(w, r)
		})
	}
	tests := map[string]struct {
		handler  http.Handler
		fallback bool
	}{
		"distribution, without the API":        {registrytest.Distribution(""), true},
		"one that does not say what it has":    {registrytest.GGCR(), true},
		"one with the API":                     {subjects(registrytest.GGCR()), false},
		"one that says 404 to unknown methods": {registrytest.NoReferrers(registrytest.GGCR()), true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			defer n.close()
			s := n.add(host, test.handler)
			r := repository(t, n.client(registry.Options{}), host+"/app")
			empty(t, r)
			subject, data := plain("subject")
			if err := r.PushManifest(t.Context(), subject, data, "1"); err != nil {
				t.Fatal(err)
			}
			if got, err := r.Referrers(t.Context(), subject.Digest); err != nil || len(got) != 0 {
				t.Errorf("before: %v, %v", got, err)
			}
			var want []string
			var wg sync.WaitGroup
			for i := range 5 {
				desc, data := about(subject, fmt.Sprint(i))
				want = append(want, desc.Digest.String())
				wg.Go(func() { // concurrently: none is lost
					if err := r.PushReferrer(t.Context(), desc, data); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			slices.Sort(want)
			got, err := r.Referrers(t.Context(), subject.Digest)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, digests(got)); diff != "" {
				t.Errorf("referrers (-want +got):\n%s", diff)
			}

			tag := registry.FallbackTag(subject.Digest)
			_, data, err = r.Manifest(t.Context(), tag)
			if !test.fallback {
				if !errdefs.IsNotFound(err) {
					t.Errorf("there is a tag: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var index ocispec.Index
			if err := json.Unmarshal(data, &index); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, digests(index.Manifests)); diff != "" {
				t.Errorf("tag (-want +got):\n%s", diff)
			}
			entry := index.Manifests[0]
			if name := entry.Annotations["name"]; entry.ArtifactType != "application/vnd.example."+name {
				t.Errorf("entry %+v", entry)
			}
			// Repeating it changes nothing, and only writes the manifest.
			s.forget()
			desc, data := about(subject, "3")
			if err := r.PushReferrer(t.Context(), desc, data); err != nil {
				t.Fatal(err)
			}
			if got := s.requests("PUT "); len(got) != 1 {
				t.Errorf("writes %q", got)
			}
		})
	}
}

func TestReferrersRemembersNoAPI(t *testing.T) {
	dgst := digest.FromString("subject")
	tests := map[string]struct {
		answer   func(http.ResponseWriter, *http.Request)
		remember bool
	}{
		"404": {func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, true},
		"405": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }, true},
		"400": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }, true},
		"415": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnsupportedMediaType) }, true},
		"410": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }, true},
		"204": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, true},
		"nothing": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		}, true},
		"no such manifest": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`)
		}, false},
		"no such algorithm": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"errors":[{"code":"DIGEST_INVALID"}]}`)
		}, false},
		"a page": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html>welcome</html>")
		}, true},
		"a redirect to a page": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/welcome", http.StatusSeeOther) }, true},
		"no such repository": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"errors":[{"code":"NAME_UNKNOWN"}]}`)
		}, false},
	}
	for name, test := range tests {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, nil)
			s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				switch {
				case strings.Contains(r.URL.Path, "/referrers/"):
					test.answer(w, r)
				case r.URL.Path == "/welcome":
					fmt.Fprint(w, "<html>welcome</html>")
				default:
					return false
				}
				return true
			}
			client := n.client(registry.Options{})
			for i := range 3 {
				got, err := source(t, client, fmt.Sprintf("%s/app%d", host, i)).Referrers(t.Context(), dgst)
				if err != nil || len(got) != 0 {
					t.Errorf("Referrers = %v, %v", got, err)
				}
			}
			want := 3
			if test.remember {
				want = 1
			}
			if got := s.requests("/referrers/"); len(got) != want {
				t.Errorf("API asked %d times, want %d", len(got), want)
			}
			if got := s.requests("/manifests/sha256-"); len(got) != 3 {
				t.Errorf("tag asked for %d times, want 3", len(got))
			}
		})
	}
}

// A failing referrers API is not an empty list.
func TestReferrersFailure(t *testing.T) {
	for _, status := range []int{403, 429, 500, 503} {
		bubble(t, fmt.Sprint(status), func(t *testing.T, n *network) {
			s := n.add(host, nil)
			s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if strings.Contains(r.URL.Path, "/referrers/") {
					w.WriteHeader(status)
					return true
				}
				return false
			}
			r := source(t, n.client(registry.Options{}), host+"/app")
			got, err := r.Referrers(t.Context(), digest.FromString("subject"))
			want := "list referrers of registry.example.com/app@" + digest.FromString("subject").String() + ": registry.example.com: "
			if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprint(status)) {
				t.Errorf("Referrers = %v, %v", got, err)
			}
		})
	}
}

func TestReferrersPages(t *testing.T) {
	bubble(t, "pages", func(t *testing.T, n *network) {
		subject := digest.FromString("subject")
		s := n.add(host, nil)
		entry := func(i int) ocispec.Descriptor {
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 5}
		}
		s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			page := 0
			fmt.Sscan(r.URL.Query().Get("last"), &page)
			if page < 2 {
				w.Header().Set("Link", fmt.Sprintf(`<%s?n=2&last=%d>; rel="next"`, r.URL.Path, page+1))
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			// The last entry of a page is repeated on the next one.
			json.NewEncoder(w).Encode(ocispec.Index{Manifests: []ocispec.Descriptor{entry(page), entry(page + 1)}})
			return true
		}
		got, err := source(t, n.client(registry.Options{}), host+"/app").Referrers(t.Context(), subject)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]ocispec.Descriptor{entry(0), entry(1), entry(2), entry(3)}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestReferrersTag(t *testing.T) {
	bubble(t, "taken by something else", func(t *testing.T, n *network) {
		n.add(host, registrytest.NoReferrers(registrytest.GGCR()))
		r := repository(t, n.client(registry.Options{}), host+"/app")
		subject, data := plain("subject")
		if err := r.PushManifest(t.Context(), subject, data, registry.FallbackTag(subject.Digest)); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Referrers(t.Context(), subject.Digest); err != nil || len(got) != 0 {
			t.Errorf("Referrers = %v, %v", got, err)
		}
		desc, data := about(subject, "sbom")
		if err := r.PushReferrer(t.Context(), desc, data); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("PushReferrer = %v", err)
		}
	})
	t.Run("no subject", func(t *testing.T) {
		if _, _, err := registry.Referrer(plain("x")); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Referrer = %v", err)
		}
	})
}

// entriesOf returns a list of referrers as a registry does.
func entriesOf(list ...string) string {
	return `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + strings.Join(list, ",") + `]}`
}

func entryOf(name string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":5}`, ocispec.MediaTypeImageManifest, digest.FromString(name))
}

func TestReferrersAnswers(t *testing.T) {
	subject := digest.FromString("subject")
	const index = ocispec.MediaTypeImageIndex
	for name, tt := range map[string]struct {
		mediaType, body string
		tag             string // the content of the fallback tag; "" is none
		want            int
		err             string
	}{
		"index":                  {index, entriesOf(entryOf("a"), entryOf("b"), entryOf("a")), "", 2, ""},
		"with a charset":         {index + "; charset=utf-8", entriesOf(entryOf("a")), "", 1, ""},
		"any JSON":               {"application/json", entriesOf(entryOf("a")), "", 1, ""},
		"no list":                {index, `{"schemaVersion":2}`, entriesOf(entryOf("b")), 0, ""},
		"web page":               {"text/html; charset=utf-8", "<html>", entriesOf(entryOf("b")), 1, ""},
		"text":                   {"text/plain", "not here", entriesOf(entryOf("b")), 1, ""},
		"JSON of something else": {"application/json", `{"a":1}`, entriesOf(entryOf("b")), 1, ""},
		"cut off":                {index, entriesOf(entryOf("a"))[:40], entriesOf(entryOf("b")), 0, "read its list"},
		"web page as an index":   {index, "<html>", entriesOf(entryOf("b")), 0, "read its list"},
		"too large":              {index, entriesOf(entryOf("a"))[:20] + strings.Repeat(" ", registry.MaxManifest), "", 0, "more than"},
		"negative size":          {index, entriesOf(strings.Replace(entryOf("a"), ":5}", ":-5}", 1)), "", 0, "has size -5"},
		"no digest":              {index, entriesOf(`{"size":1}`), "", 0, "digest"},
		"too many":               {index, entriesOf(manyEntries(1<<14 + 1)...), "", 0, "more than"},
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			n.add(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.Contains(r.URL.Path, "/referrers/"):
					w.Header().Set("Content-Type", tt.mediaType)
					fmt.Fprint(w, tt.body)
				case strings.HasSuffix(r.URL.Path, "/manifests/"+registry.FallbackTag(subject)) && tt.tag != "":
					w.Header().Set("Content-Type", index)
					fmt.Fprint(w, tt.tag)
				default:
					http.NotFound(w, r)
				}
			}))
			r := repository(t, n.client(registry.Options{}), host+"/app")
			for range 2 { // the remembered state of the host changes nothing
				got, err := r.Referrers(t.Context(), subject)
				if tt.err != "" {
					if err == nil || !strings.Contains(err.Error(), tt.err) {
						t.Errorf("got %v, %v, want %q", digests(got), err, tt.err)
					}
				} else if err != nil || len(got) != tt.want {
					t.Errorf("got %v, %v, want %d", digests(got), err, tt.want)
				}
			}
		})
	}
}

func manyEntries(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(`{"digest":%q,"size":5}`, digest.FromString(fmt.Sprint(i)))
	}
	return out
}

// Pages are followed to any URL, as long as they continue; credentials are only sent to the
// registry.
func TestReferrersLinks(t *testing.T) {
	subject := digest.FromString("subject")
	const other = "cdn.example.com"
	first := "/v2/app/referrers/" + subject.String()
	for name, tt := range map[string]struct {
		link func(page int) string // of the response to a page, from 0
		want int
		err  string
	}{
		"query":        {func(p int) string { return fmt.Sprintf(`<%s?page=%d>; rel="next"`, first, p+1) }, 4, ""},
		"relative":     {func(p int) string { return fmt.Sprintf(`<?page=%d>; rel="next"`, p+1) }, 4, ""},
		"another path": {func(p int) string { return fmt.Sprintf(`</pages/%d?page=%[1]d>; rel="next"`, p+1) }, 4, ""},
		"another host": {func(p int) string { return fmt.Sprintf(`<http://%s/x?page=%d>; rel="next"`, other, p+1) }, 4, ""},
		"no HTTP":      {func(p int) string { return fmt.Sprintf(`<ftp://%s/x?page=%d>; rel="next"`, other, p+1) }, 0, "leads to"},
		"no URL":       {func(int) string { return `<:>; rel="next"` }, 0, "next page"},
		"itself":       {func(int) string { return `<?page=1>; rel="next"` }, 0, "circle"},
		"without end":  {func(p int) string { return fmt.Sprintf(`<?page=%d&on=1>; rel="next"`, p+1) }, 0, "more than 100 pages"},
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Host == other && r.Header.Get("Authorization") != "" {
					t.Error("credentials went to another host")
				}
				if r.Host == host && r.Header.Get("Authorization") == "" {
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				page := 0
				_, _ = fmt.Sscan(r.URL.Query().Get("page"), &page)
				w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
				if page < 3 || r.URL.Query().Has("on") {
					w.Header().Set("Link", tt.link(page))
				}
				fmt.Fprint(w, entriesOf(entryOf(fmt.Sprint(page))))
			})
			n.add(host, handler)
			n.add(other, handler)
			r := repository(t, n.client(registry.Options{Credentials: func(name string) (string, string, error) { return "user", "secret-of-" + name, nil }}), host+"/app")
			got, err := r.Referrers(t.Context(), subject)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %d, %v, want %q", len(got), err, tt.err)
				}
			} else if err != nil || len(got) != tt.want {
				t.Errorf("got %d, %v", len(got), err)
			}
		})
	}
	bubble(t, "tags without end", func(t *testing.T, n *network) {
		page := 0
		n.add(host, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			page++
			w.Header().Set("Link", fmt.Sprintf(`<?last=t%d>; rel="next"`, page))
			fmt.Fprintf(w, `{"tags":["t%d"]}`, page)
		}))
		tags, err := repository(t, n.client(registry.Options{}), host+"/app").Tags(t.Context())
		if err == nil || !strings.Contains(err.Error(), "more than 1000 pages of tags") {
			t.Errorf("got %d tags, %v", len(tags), err)
		}
	})
	// A list is complete or an error.
	for name, fail := range map[string]func(w http.ResponseWriter){
		"page gone":       func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
		"page forbidden":  func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) },
		"web page":        func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/html"); fmt.Fprint(w, "<html>") },
		"something else":  func(w http.ResponseWriter) { w.Header().Set("Content-Type", "application/json"); fmt.Fprint(w, "{}") },
		"nothing":         func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
		"no index at all": func(w http.ResponseWriter) { fmt.Fprint(w, "ok") },
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			n.add(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery != "" {
					fail(w)
					return
				}
				w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
				w.Header().Set("Link", `<?page=1>; rel="next"`)
				fmt.Fprint(w, entriesOf(entryOf("a")))
			}))
			r := repository(t, n.client(registry.Options{}), host+"/app")
			if got, err := r.Referrers(t.Context(), subject); err == nil {
				t.Errorf("got %v", digests(got))
			}
		})
	}
}

// late shows tags as they were some time ago.
type late struct {
	next http.Handler
	by   time.Duration
	mu   sync.Mutex
	was  map[string][]tagWrite // by path
	puts int
}

type tagWrite struct {
	at     time.Time
	digest digest.Digest
}

func (l *late) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	dir, tag := path.Split(r.URL.Path)
	if !strings.HasPrefix(tag, "sha256-") {
		l.next.ServeHTTP(w, r)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Method == http.MethodPut {
		data, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(data))
		l.puts++
		l.was[r.URL.Path] = append(l.was[r.URL.Path], tagWrite{time.Now(), digest.FromBytes(data)})
		l.next.ServeHTTP(w, r)
		return
	}
	shown := digest.FromString("nothing")
	for _, write := range l.was[r.URL.Path] {
		if time.Since(write.at) >= l.by {
			shown = write.digest
		}
	}
	r.URL.Path = dir + shown.String()
	l.next.ServeHTTP(w, r)
}

// A registry that shows a tag late is waited for, and the tag is not written again.
func TestAddReferrersLate(t *testing.T) {
	for name, test := range map[string]struct {
		by   time.Duration
		fail string
	}{
		"3 s": {3 * time.Second, ""}, "10 s": {10 * time.Second, ""},
		"never": {time.Hour, "the list was written, and the registry does not show it yet, after 30s; try again later"},
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			s := &late{next: registrytest.NoReferrers(registrytest.GGCR()), by: test.by, was: map[string][]tagWrite{}}
			n.add(host, s)
			subject, _ := plain("subject")
			for i := range 2 { // to a new list, and to one that exists
				r := repository(t, n.client(registry.Options{}), host+"/app")
				empty(t, r)
				desc, data := about(subject, fmt.Sprint(i))
				start := time.Now()
				err := r.PushReferrer(t.Context(), desc, data)
				if test.fail == "" && err != nil || test.fail != "" && (!errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), test.fail)) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took > 40*time.Second {
					t.Errorf("it took %s", took)
				}
				if s.puts != i+1 {
					t.Errorf("the list was written %d times", s.puts)
				}
			}
			if test.fail != "" {
				return
			}
			if got, err := repository(t, n.client(registry.Options{}), host+"/app").Referrers(t.Context(), subject.Digest); err != nil || len(got) != 2 {
				t.Errorf("Referrers = %v, %v", digests(got), err)
			}
		})
	}
	// Two signers, of whom one overwrites the list of the other.
	bubble(t, "two", func(t *testing.T, n *network) {
		s := &late{next: registrytest.NoReferrers(registrytest.GGCR()), by: 0, was: map[string][]tagWrite{}}
		server := n.add(host, s)
		server.before = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.Contains(r.URL.Path, "/manifests/sha256-") && r.Method == http.MethodPut {
				time.Sleep(time.Second) // both have read the list
			}
			return false
		}
		subject, _ := plain("subject")
		var wg sync.WaitGroup
		for i := range 2 {
			r := repository(t, n.client(registry.Options{}), host+"/app")
			empty(t, r)
			desc, data := about(subject, fmt.Sprint(i))
			wg.Go(func() {
				if err := r.PushReferrer(t.Context(), desc, data); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got, err := repository(t, n.client(registry.Options{}), host+"/app").Referrers(t.Context(), subject.Digest); err != nil || len(got) != 2 {
			t.Errorf("Referrers = %v, %v", digests(got), err)
		}
	})
}

// Several processes add referrers to one fallback tag at the same time.
func TestAddReferrersAtOnce(t *testing.T) {
	bubble(t, "", func(t *testing.T, n *network) {
		const writers = 5
		s := n.add(host, registrytest.NoReferrers(registrytest.GGCR()))
		s.before = func(_ http.ResponseWriter, r *http.Request, i int) bool {
			if strings.Contains(r.URL.Path, "/manifests/sha256-") {
				time.Sleep(time.Duration(100+i%7*10) * time.Millisecond)
			}
			return false
		}
		subject, _ := plain("subject")
		var want []string
		var wg sync.WaitGroup
		for i := range writers {
			r := repository(t, n.client(registry.Options{}), host+"/app")
			empty(t, r)
			desc, data := about(subject, fmt.Sprint(i))
			want = append(want, desc.Digest.String())
			wg.Go(func() {
				if err := r.PushReferrer(t.Context(), desc, data); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		slices.Sort(want)
		got, err := repository(t, n.client(registry.Options{}), host+"/app").Referrers(t.Context(), subject.Digest)
		if diff := cmp.Diff(want, digests(got)); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}

// The tag has 64 characters of the digest; one with all of them is read as well.
func TestFallbackTagOfLongDigest(t *testing.T) {
	subject := digest.SHA512.FromString("subject")
	short := "sha512-" + subject.Encoded()[:64]
	if tag := registry.FallbackTag(subject); tag != short {
		t.Errorf("got %s", tag)
	}
	if tag := registry.AttachedTag(subject, ".sig"); tag != "" {
		t.Errorf("%s is too long for a tag", tag)
	}
	for name, tag := range map[string]string{"short": short, "whole": "sha512-" + subject.Encoded()} {
		bubble(t, name, func(t *testing.T, n *network) {
			n.add(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, "/manifests/"+tag) {
					http.NotFound(w, r)
					return
				}
				w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
				fmt.Fprint(w, entriesOf(entryOf("a")))
			}))
			got, err := repository(t, n.client(registry.Options{}), host+"/app").Referrers(t.Context(), subject)
			if err != nil || len(got) != 1 {
				t.Errorf("got %v, %v", digests(got), err)
			}
		})
	}
}
