// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/taped-dev/tape/engine/content/registry"
)

// What waiting does not mend fails at once, and logging in is only advised where it helps.
func TestPermanent(t *testing.T) {
	const storage = "storage.example.com"
	unauthorized := func(challenge string) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	redirects := func(to string) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	}
	status := func(code int) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	answers := func(text string) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
	}
	bearer := unauthorized(`Bearer realm="/token"`)
	for name, test := range map[string]struct {
		answer, token, storage func(w http.ResponseWriter, r *http.Request)
		text                   string
		login                  bool
	}{
		"ftp":              {answer: redirects("ftp://x/y"), text: `redirects to "ftp://x/y", which is not a URL to go to`},
		"file":             {answer: redirects("file:///etc/passwd"), text: `redirects to "file:///etc/passwd", which is not`},
		"port":             {answer: redirects("http://x.example:99999/y"), text: `redirects to "http://x.example:99999/y", which is not`},
		"no host":          {answer: redirects("http:///y"), text: `redirects to "http:///y", which is not`},
		"storage":          {answer: redirects("http://" + storage + "/y"), storage: status(403), text: storage + ": the registry redirects to it, and it refuses: 403 Forbidden"},
		"storage, 401":     {answer: redirects("http://" + storage + "/y"), storage: status(401), text: storage + ": the registry redirects to it, and it refuses: 401 Unauthorized"},
		"storage, Basic":   {answer: redirects("http://" + storage + "/y"), storage: unauthorized(`Basic realm="x"`), text: storage + ": the registry redirects to it, and it refuses: it does not exist or needs credentials"},
		"registry, 403":    {answer: status(403), text: host + ": 403 Forbidden", login: true},
		"registry, Basic":  {answer: unauthorized(`Basic realm="x"`), text: host + ": it does not exist or needs credentials", login: true},
		"Negotiate":        {answer: unauthorized("Negotiate"), text: "other than Bearer and Basic: negotiate"},
		"no realm":         {answer: unauthorized(`Bearer realm=""`), text: "it names no token server that can be asked"},
		"token, 401":       {answer: bearer, token: status(401), text: host + ": 401 Unauthorized", login: true},
		"token, 404":       {answer: bearer, token: status(404), text: host + ": the token server answers 404 Not Found"},
		"token, 405":       {answer: bearer, token: status(405), text: "the token server answers 405 Method Not Allowed"},
		"token elsewhere":  {answer: bearer, token: redirects("http://" + storage + "/y"), text: "the token server sends on to " + storage},
		"token, page":      {answer: bearer, token: answers("<html>"), text: "the token server did not answer with a token"},
		"token of lines":   {answer: bearer, token: answers(`{"token":"a\r\nX: y"}`), text: "the token server did not answer with a token"},
		"token, not ASCII": {answer: bearer, token: answers(`{"access_token":"é"}`), text: "the token server did not answer with a token"},
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, nil)
			s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/token" {
					test.token(w, r)
					return
				}
				test.answer(w, r)
			})
			if test.storage != nil {
				n.add(storage, http.HandlerFunc(test.storage))
			}
			desc, _ := blob(small, 1)
			start := time.Now()
			_, err := read(repository(t, n.client(registry.Options{}), host+"/app").Blob(t.Context(), desc))
			if err == nil || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "log in") != test.login || strings.Contains(err.Error(), "try again") {
				t.Errorf("got %v", err)
			}
			if took := time.Since(start); took > 0 {
				t.Errorf("it took %s", took)
			}
		})
	}
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = repository(t, client, "127.0.0.1:99999/app").Resolve(t.Context(), "1")
	if err == nil || !strings.Contains(err.Error(), "invalid port") || strings.Contains(err.Error(), "tried") {
		t.Errorf("got %v", err)
	}
}
