// SPDX-License-Identifier: Apache-2.0

package registrytest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Basic requires a user and a password with every request.
func Basic(next http.Handler, user, password string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			deny(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Bearer is a registry with a token server, at /token of the same address. Like
// Docker Hub, it gives everyone a token, and answers 401 again if the token does
// not give access to the repository: a user without access cannot distinguish a
// private repository from one that does not exist.
type Bearer struct {
	Next           http.Handler
	User, Password string
	// Public reports whether anyone may read a repository; if it is nil, no one may.
	Public func(name string) bool

	mu     sync.Mutex
	tokens map[string]token
}

type token struct {
	user   bool // not anonymous
	scopes []string
}

// ServeHTTP implements http.Handler.
func (b *Bearer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		b.serveToken(w, r)
		return
	}
	req := parse(r.URL)
	path := req.name // as in scopes: without the registry that the request to a mirror names
	if ns := r.URL.Query().Get("ns"); ns != "" {
		path = strings.TrimPrefix(path, ns+"/")
	}
	action := "pull"
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		action = "push"
	}
	value, given := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	b.mu.Lock()
	t, known := b.tokens[value]
	b.mu.Unlock()
	public := action == "pull" && b.Public != nil && b.Public(req.name)
	if known && (t.user || public) && (req.kind == Ping || t.allows(path, action)) {
		b.Next.ServeHTTP(w, r)
		return
	}
	challenge := fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, r.Host)
	if path != "" {
		challenge += fmt.Sprintf(`,scope="repository:%s:%s"`, path, map[string]string{"pull": "pull", "push": "pull,push"}[action])
	}
	if given {
		challenge += `,error="insufficient_scope"`
	}
	w.Header().Set("WWW-Authenticate", challenge)
	deny(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
}

// serveToken accepts GET with basic authentication, and POST as in OAuth 2.
func (b *Bearer) serveToken(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		deny(w, http.StatusBadRequest, "UNSUPPORTED", "form cannot be read")
		return
	}
	user, password, named := r.BasicAuth()
	if r.Method == http.MethodPost {
		user, password, named = r.Form.Get("username"), r.Form.Get("password"), true
	}
	if named && (user != b.User || password != b.Password) {
		deny(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	// Each scope may have its own parameter, or share one with others.
	scopes := strings.Fields(strings.Join(r.Form["scope"], " "))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens == nil {
		b.tokens = map[string]token{}
	}
	value := fmt.Sprintf("token-%d", len(b.tokens))
	b.tokens[value] = token{user: named, scopes: scopes}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"token":%q,"access_token":%[1]q,"expires_in":300}`, value)
}

func (t token) allows(path, action string) bool {
	return slices.ContainsFunc(t.scopes, func(scope string) bool {
		actions, ok := strings.CutPrefix(scope, "repository:"+path+":")
		return ok && slices.Contains(strings.Split(actions, ","), action)
	})
}
