// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/auth"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"golang.org/x/sync/semaphore"

	"github.com/taped-dev/tape/engine/advice"
)

const (
	// maxRefusals bounds how many authorizations of one request may be refused: a token may be
	// refused before it expires, and the next one while the request waits its turn.
	maxRefusals = 3
	// maxTokenLife is the longest lifetime of a token that is trusted.
	maxTokenLife = 24 * time.Hour
)

// origin returns scheme, host and port (RFC 6454), to which credentials and tokens belong.
func origin(u *url.URL) string {
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	switch {
	case port != "":
	case scheme == "https":
		port = "443"
	case scheme == "http":
		port = "80"
	}
	if docker.IsLocalhost(u.Host) {
		// containerd's transport finds out by itself which protocol the host speaks.
		scheme = "local"
	}
	return scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// authorizer answers the challenges of the hosts that requests are sent to, each with the
// credentials of that host. It replaces containerd's authorizer, which looks only at the name
// of the host, asks for the scope of its first challenge with every token, keeps a token that
// was refused, and reads only one challenge per header.
type authorizer struct {
	client      *http.Client // for tokens
	header      http.Header  // of requests for tokens
	credentials func(ctx context.Context, name string) (user, secret string, err error)
	// clear reports whether credentials may be sent to a host in plain text.
	clear func(host string) bool

	mu      sync.Mutex
	origins map[string]*authority
}

// authority is what is known about an origin that asks for authorization.
type authority struct {
	host      string
	encrypted bool // it is reached by https
	bearer    *challenge
	realm     *url.URL // of bearer
	basic     bool

	// Guarded by the authorizer's lock.
	getsTokens bool                // its token server does not accept POST
	scopes     map[string][]string // that it asks for instead of those of the request
	tokens     map[string]*token   // by scopes and repository
}

// token is requested by one request at a time. Its value is guarded by the authorizer's lock.
type token struct {
	turn  *semaphore.Weighted
	value string    // "": there is none, or it was refused
	until time.Time // zero: valid until it is refused
}

var _ docker.Authorizer = (*authorizer)(nil)

// Authorize implements [docker.Authorizer]. If it fails it closes the body of the request,
// because a writer to the body would otherwise wait forever.
func (a *authorizer) Authorize(ctx context.Context, req *http.Request) error {
	value, err := a.authorization(ctx, req)
	if err != nil {
		closeBody(req)
		return err
	}
	if value != "" {
		req.Header.Set("Authorization", value)
	}
	return nil
}

func (a *authorizer) authorization(ctx context.Context, req *http.Request) (string, error) {
	a.mu.Lock()
	at := a.origins[origin(req.URL)]
	a.mu.Unlock()
	if at == nil {
		return "", nil
	}
	user, secret, err := a.credentials(ctx, credentialsName(ctx, at.host))
	if err != nil {
		return "", err
	}
	if at.bearer == nil {
		return basic(at.host, user, secret)
	}
	value, err := a.token(ctx, at, user, secret)
	if err != nil && context.Cause(ctx) == nil && at.basic && user != "" && secret != "" {
		return basic(at.host, user, secret)
	}
	return value, err
}

func basic(host, user, secret string) (string, error) {
	if user == "" || secret == "" {
		return "", &authError{host: host, reason: "it does not exist or needs credentials"}
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+secret)), nil
}

// token returns the token for the scopes of a request, together with those that the registry
// named in answer to such a request. A single caller requests it.
func (a *authorizer) token(ctx context.Context, at *authority, user, secret string) (string, error) {
	wanted := docker.GetTokenScopes(ctx, nil)
	a.mu.Lock()
	asked := at.scopes[strings.Join(wanted, " ")]
	both := mergeScopes(wanted, asked)
	key := strings.Join(both, " ") + " " + credentialsName(ctx, at.host)
	t := at.tokens[key]
	if t == nil {
		t = &token{turn: semaphore.NewWeighted(1)}
		at.tokens[key] = t
	}
	a.mu.Unlock()
	if t.turn.Acquire(ctx, 1) != nil {
		return "", context.Cause(ctx)
	}
	defer t.turn.Release(1)
	if value := a.valid(t); value != "" {
		return "Bearer " + value, nil
	}
	var err error
	// A token server may refuse a token for two repositories at once, or for a repository under
	// another name than it knows.
	tries := [][]string{both}
	for _, scopes := range [][]string{mergeScopes(asked, nil), mergeScopes(wanted, nil)} {
		if len(scopes) > 0 && !slices.ContainsFunc(tries, func(s []string) bool { return slices.Equal(s, scopes) }) {
			tries = append(tries, scopes)
		}
	}
	for _, scopes := range tries {
		var (
			value string
			life  int
		)
		if value, life, err = a.fetch(ctx, at, scopes, user, secret); err == nil {
			a.mu.Lock()
			t.value, t.until = value, expiry(life)
			a.mu.Unlock()
			return "Bearer " + value, nil
		}
		if !isRefusal(err) {
			break
		}
	}
	return "", err
}

// valid returns a token, "" if a new one is needed.
func (a *authorizer) valid(t *token) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !t.until.IsZero() && !time.Now().Before(t.until) {
		return ""
	}
	return t.value
}

// expiry returns when a new token is requested, a little before the end of its lifetime in
// seconds. Zero means unknown.
func expiry(seconds int) time.Time {
	if seconds <= 0 {
		return time.Time{}
	}
	life := time.Duration(min(seconds, int(maxTokenLife/time.Second))) * time.Second
	return time.Now().Add(life - min(life/10, 10*time.Second))
}

// fetch requests a token.
func (a *authorizer) fetch(ctx context.Context, at *authority, scopes []string, user, secret string) (value string, life int, err error) {
	realm := at.realm
	if secret != "" && at.encrypted && realm.Scheme != "https" && !a.clear(realm.Host) {
		return "", 0, &authError{host: at.host, reason: fmt.Sprintf(
			"its token server %s is not encrypted: the password would be sent in the clear", realm.Host),
			hint: hint{action: advice.AllowPlainHTTP, host: realm.Host}}
	}
	options := auth.TokenOptions{
		Realm: realm.String(), Service: at.bearer.parameters["service"],
		Scopes: scopes, Username: user, Secret: secret,
	}
	a.mu.Lock()
	get := at.getsTokens
	a.mu.Unlock()
	if secret != "" && !get {
		resp, err := auth.FetchTokenWithOAuth(ctx, a.client, a.header, "containerd-client", options)
		if err == nil {
			return resp.AccessToken, resp.ExpiresInSeconds, nil
		}
		if failed := tokenFailure(at, err); !isRefusal(failed) {
			return "", 0, failed
		}
		// Many servers accept only GET, and report this in many ways.
	}
	resp, err := auth.FetchToken(ctx, a.client, a.header, options)
	if err != nil {
		return "", 0, tokenFailure(at, err)
	}
	if secret != "" && !get {
		a.mu.Lock()
		at.getsTokens = true
		a.mu.Unlock()
	}
	return resp.Token, resp.ExpiresInSeconds, nil
}

// shortAnswer is the answer of a token server, bounded and without its content codings.
type shortAnswer struct {
	body    io.Reader
	codings []string
	token   bool
	text    io.Reader // nil until body is read
}

func (a *shortAnswer) Read(p []byte) (int, error) {
	if a.text == nil {
		data, err := io.ReadAll(io.LimitReader(a.body, maxTokenAnswer))
		if err != nil {
			return 0, err
		}
		if plain, err := plainJSON(data, a.codings, maxTokenAnswer); err == nil {
			data = plain
		}
		if a.token {
			data = plainToken(data)
		}
		a.text = bytes.NewReader(data)
	}
	return a.text.Read(p)
}

// plainToken returns the answer of a token server as containerd reads it: with the lifetime as
// a number of seconds, and without fields that are not needed and may have any form. An answer
// without a token is returned unchanged.
func plainToken(data []byte) []byte {
	var answer struct {
		Token        string          `json:"token,omitempty"`
		AccessToken  string          `json:"access_token,omitempty"`
		RefreshToken string          `json:"refresh_token,omitempty"`
		Life         json.RawMessage `json:"expires_in,omitempty"`
	}
	if json.Unmarshal(data, &answer) != nil || answer.Token == "" && answer.AccessToken == "" {
		return data
	}
	if strings.ContainsFunc(answer.Token+answer.AccessToken, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return []byte("{}") // it cannot be sent
	}
	life := 0 // not known
	if seconds, err := strconv.ParseFloat(strings.Trim(string(answer.Life), `"`), 64); err == nil {
		life = int(max(0, min(seconds, maxTokenLife.Seconds())))
	}
	answer.Life = strconv.AppendInt(nil, int64(life), 10)
	plain, err := json.Marshal(answer)
	if err != nil {
		return data
	}
	return plain
}

// tokenFailure distinguishes a token server that refuses a token from one that cannot be asked.
func tokenFailure(at *authority, err error) error {
	_, unanswered := errors.AsType[*requestError](err)
	_, told := errors.AsType[*authError](err)
	if unanswered || told || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok {
		failed := &authError{host: at.realm.Host, cause: err, refused: true}
		switch code := status.StatusCode; {
		case code == http.StatusNotFound, code == http.StatusMethodNotAllowed, code < http.StatusBadRequest:
			failed.hint = hint{text: operatorHint}
		}
		return failed
	}
	return &authError{host: at.realm.Host, reason: "the token server did not answer with a token", cause: err, refused: true, hint: hint{text: operatorHint}}
}

// isRefusal reports whether a token server answered without a token.
func isRefusal(err error) bool {
	failed, ok := errors.AsType[*authError](err)
	return ok && failed.refused
}

// authError is the error of a request that cannot be authorized.
type authError struct {
	host    string
	reason  string
	cause   error
	refused bool // by a token server
	hint    hint // none: log in
}

func (e *authError) Error() string {
	if e.reason == "" && e.cause != nil {
		return e.cause.Error()
	}
	return e.reason
}

func (e *authError) Unwrap() []error {
	return slices.DeleteFunc([]error{docker.ErrInvalidAuthorization, e.cause}, func(err error) bool { return err == nil })
}

// AddResponses implements [docker.Authorizer]: the last answer is a 401.
func (a *authorizer) AddResponses(ctx context.Context, responses []*http.Response) error {
	last := responses[len(responses)-1]
	req, refused := last.Request, 0
	for _, resp := range responses {
		if resp.Request != nil && resp.Request.Header.Get("Authorization") != "" {
			refused++
		}
	}
	offered := challenges(last.Header)
	at := newAuthority(req.URL, offered)
	if at.bearer == nil && !at.basic {
		if slices.ContainsFunc(offered, func(c challenge) bool { return c.scheme == "bearer" }) {
			return &authError{host: req.URL.Host, reason: "it names no token server that can be asked", hint: hint{text: operatorHint}}
		}
		if len(offered) > 0 {
			return &authError{host: req.URL.Host, reason: "it requires an authorization scheme other than Bearer and Basic: " + oneLine(offered[0].scheme), hint: hint{text: operatorHint}}
		}
		return fmt.Errorf("no challenge: %w", errdefs.ErrNotImplemented)
	}
	sent := req.Header.Get("Authorization")
	a.mu.Lock()
	defer a.mu.Unlock()
	key := origin(req.URL)
	known := a.origins[key]
	if known == nil || !known.same(at) {
		a.origins[key], known = at, at
	}
	if at.bearer != nil {
		if scope := strings.Fields(at.bearer.parameters["scope"]); len(scope) > 0 {
			known.scopes[strings.Join(docker.GetTokenScopes(ctx, nil), " ")] = scope
		}
	}
	if refused == 0 {
		return nil
	}
	if strings.HasPrefix(sent, "Basic ") || refused >= maxRefusals {
		reason := "the credentials are refused"
		if at.bearer != nil {
			if said := at.bearer.parameters["error"]; said != "" {
				reason = "the token is refused: " + oneLine(said)
			}
		}
		return &authError{host: req.URL.Host, reason: reason}
	}
	for _, t := range known.tokens {
		if "Bearer "+t.value == sent {
			t.value = ""
		}
	}
	return nil
}

// newAuthority reads the challenges of an origin.
func newAuthority(at *url.URL, offered []challenge) *authority {
	out := &authority{host: at.Host, encrypted: at.Scheme == "https", scopes: map[string][]string{}, tokens: map[string]*token{}}
	for _, c := range offered {
		switch c.scheme {
		case "basic":
			out.basic = true
		case "bearer":
			if out.bearer != nil || c.parameters["realm"] == "" {
				continue
			}
			realm, err := at.Parse(c.parameters["realm"])
			if err != nil || realm.Host == "" || realm.Scheme != "https" && realm.Scheme != "http" {
				continue
			}
			realm.User = nil
			out.bearer, out.realm = &c, realm
		}
	}
	return out
}

// same reports whether a token of one is valid for the other.
func (a *authority) same(b *authority) bool {
	if a.basic != b.basic || (a.bearer == nil) != (b.bearer == nil) || a.encrypted != b.encrypted {
		return false
	}
	return a.bearer == nil || *a.realm == *b.realm && a.bearer.parameters["service"] == b.bearer.parameters["service"]
}

// mergeScopes joins the actions on each resource, sorted.
func mergeScopes(lists ...[]string) []string {
	actions := map[string][]string{}
	for _, scope := range slices.Concat(lists...) {
		i := strings.LastIndexByte(scope, ':')
		if i < 0 {
			actions[scope] = nil
			continue
		}
		resource := scope[:i+1]
		for action := range strings.SplitSeq(scope[i+1:], ",") {
			if !slices.Contains(actions[resource], action) {
				actions[resource] = append(actions[resource], action)
			}
		}
	}
	var out []string
	for resource, list := range actions {
		slices.Sort(list)
		out = append(out, resource+strings.Join(list, ","))
	}
	slices.Sort(out)
	return out
}

type repositoryKey struct{}

// credentialsName returns the name by which credentials are looked up: the host, and the
// repository that the request is about.
func credentialsName(ctx context.Context, host string) string {
	if path, ok := ctx.Value(repositoryKey{}).(string); ok {
		return host + "/" + path
	}
	return host
}
