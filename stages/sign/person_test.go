// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/sign/sigstoretest"
)

// byPerson returns services that are reached without a network, and a signer for the person who
// logs in.
func byPerson(t *testing.T, s *sigstoretest.Sigstore, p Person) *Keyless {
	t.Helper()
	s.Person = sigstoretest.Identity{Subject: person}
	of := services(t, s)
	of.o.Transport = s
	token, err := of.PersonToken(p)
	if err != nil {
		t.Fatal(err)
	}
	return NewKeyless(of, token)
}

func manifest() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("a manifest"), Size: 10}
}

// asked records prompts.
type asked []Prompt

func (a *asked) ask(_ context.Context, p Prompt) error {
	*a = append(*a, p)
	return nil
}

// TestDevice has a person log in on another device while tape polls the issuer.
func TestDevice(t *testing.T) {
	s := sigstore(t)
	synctest.Test(t, func(t *testing.T) {
		var prompts asked
		k := byPerson(t, s, Person{Device: true, Ask: prompts.ask})
		s.Answers = []string{"authorization_pending", "slow_down", "authorization_pending"}
		began := time.Now()
		for range 2 {
			token, err := k.token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if said, err := readClaims(token); err != nil || said.who() != person {
				t.Errorf("the token is of %+v, %v", said, err)
			}
		}
		if took := time.Since(began); took != 5*time.Second+5*time.Second+10*time.Second+10*time.Second {
			t.Errorf("it was asked for %s", took)
		}
		if len(prompts) != 1 || prompts[0] != (Prompt{URL: s.URL + "/device", Code: "ABCD-EFGH"}) {
			t.Errorf("%+v", prompts)
		}
	})
}

// TestDeviceRefused checks that a failed login is an error with the reason.
func TestDeviceRefused(t *testing.T) {
	for name, c := range map[string]struct {
		answers []string
		before  func(w http.ResponseWriter, r *http.Request) bool
		want    string
	}{
		"denied":       {answers: []string{"authorization_pending", "access_denied"}, want: "the login was denied"},
		"expired":      {answers: []string{"expired_token"}, want: "the code expired before it was entered"},
		"never":        {answers: strings.Fields(strings.Repeat("authorization_pending ", 100)), want: "no one logged in within 5m0s"},
		"its code":     {before: says("/device/code", `{"device_code":"x","user_code":"A","verification_uri":"https://example.com","expires_in":60}`, http.StatusOK), answers: strings.Fields(strings.Repeat("authorization_pending ", 100)), want: "the code expired before it was entered"},
		"another code": {answers: []string{"invalid_grant"}, want: `"invalid_grant" "so it is"`},
		"a terminal":   {before: says("/device/code", `{"device_code":"x","user_code":"\u001b[2J","verification_uri":"https://example.com"}`, http.StatusOK), want: `the code to enter is "\x1b[2J"`},
		"plain http":   {before: says("/device/code", `{"device_code":"x","user_code":"A","verification_uri":"http://example.com"}`, http.StatusOK), want: "http://example.com: want https"},
		"often":        {before: says("/device/code", `{"device_code":"x","user_code":"A","verification_uri":"https://example.com","interval":-1}`, http.StatusOK), want: "its polling interval is -1 seconds"},
		"no token":     {before: says("/token", `{"access_token":"x","token_type":"Bearer"}`, http.StatusOK), want: "it gave no identity token"},
		"not a token":  {before: says("/token", `{"access_token":"x","token_type":"Bearer","id_token":"y"}`, http.StatusOK), want: "it is not a JWT"},
		"broken":       {before: says("/token", `<html>secret</html>`, http.StatusForbidden), want: "it answers 403 Forbidden"},
		"no flow":      {before: says("/.well-known/openid-configuration", `{"issuer":"ISSUER","token_endpoint":"https://example.com/t"}`, http.StatusOK), want: "it has no device flow"},
		"another":      {before: says("/.well-known/openid-configuration", `{"issuer":"https://example.com"}`, http.StatusOK), want: `is of another issuer, "https://example.com"`},
		"its own way":  {before: says("/.well-known/openid-configuration", `{"issuer":"ISSUER","token_endpoint":"ftp://example.com"}`, http.StatusOK), want: "want https"},
		"no discovery": {before: says("/.well-known/openid-configuration", ``, http.StatusNotFound), want: "answers 404 Not Found"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sigstore(t)
			s.Before = func(w http.ResponseWriter, r *http.Request) bool {
				r.Header.Set("Issuer", s.URL)
				return c.before != nil && c.before(w, r)
			}
			synctest.Test(t, func(t *testing.T) {
				k := byPerson(t, s, Person{Device: true, Ask: new(asked).ask})
				s.Answers = c.answers
				_, err := Blobs(t.Context(), k, manifest())
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
					t.Errorf("error %v, want %q", err, c.want)
				}
			})
		})
	}
}

// says returns a handler that serves a text at a path.
func says(path, text string, status int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != path {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.ReplaceAll(text, "ISSUER", r.Header.Get("Issuer")))
		return true
	}
}

// TestPersonCancelled ends as soon as the caller cancels, even while it waits for a login.
func TestPersonCancelled(t *testing.T) {
	why := errors.New("enough")
	for name, device := range map[string]bool{"device": true, "browser": false} {
		t.Run(name, func(t *testing.T) {
			s := sigstore(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			k := byPerson(t, s, Person{Device: device, Ask: func(context.Context, Prompt) error {
				cancel(why)
				return nil
			}})
			s.Answers = []string{"authorization_pending"}
			if _, err := Blobs(ctx, k, manifest()); !errors.Is(err, why) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// browse is a browser.
func browse(ctx context.Context, at string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	return string(page), err
}

// TestBrowser has a person log in with a browser, which is redirected back.
func TestBrowser(t *testing.T) {
	s := sigstore(t)
	times := 0
	k := byPerson(t, s, Person{Ask: func(ctx context.Context, p Prompt) error {
		times++
		if !p.Browser || p.Code != "" || !strings.Contains(p.URL, "code_challenge_method=S256") {
			t.Errorf("%+v", p)
		}
		page, err := browse(ctx, p.URL)
		if !strings.Contains(page, "You are logged in") {
			t.Errorf("the browser shows %q", page)
		}
		return err
	}})
	for range 2 {
		bundle, err := Blobs(t.Context(), k, manifest())
		if err != nil {
			t.Fatal(err)
		}
		if len(bundle) != 3 {
			t.Errorf("%d blobs", len(bundle))
		}
	}
	if times != 1 {
		t.Errorf("the person was asked %d times", times)
	}
}

func TestBrowserRefused(t *testing.T) {
	for name, c := range map[string]struct {
		person  sigstoretest.Identity
		answers []string
		change  func(query url.Values) // of the redirect back
		open    error
		want    string
	}{
		"another state": {change: func(q url.Values) { q.Set("state", "x") }, want: "the browser came back from another login"},
		"no state":      {change: func(q url.Values) { q.Del("state") }, want: "the browser came back from another login"},
		"no code":       {change: func(q url.Values) { q.Del("code") }, want: "without a code"},
		"another code":  {change: func(q url.Values) { q.Set("code", "x") }, want: `"invalid_grant"`},
		"denied":        {answers: []string{"access_denied"}, want: "the login was denied"},
		"an error":      {answers: []string{"server_error"}, want: `it answers "server_error"`},
		"another nonce": {person: sigstoretest.Identity{Subject: person, Nonce: "x"}, want: "another nonce"},
		"no browser":    {open: errors.New("there is no browser"), want: "there is no browser"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sigstore(t)
			k := byPerson(t, s, Person{Ask: func(ctx context.Context, p Prompt) error {
				if c.open != nil {
					return c.open
				}
				client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
				resp, err := client.Get(p.URL)
				if err != nil {
					return err
				}
				_ = resp.Body.Close()
				back, err := resp.Location()
				if err != nil {
					return err
				}
				query := back.Query()
				if c.change != nil {
					c.change(query)
				}
				back.RawQuery = query.Encode()
				_, err = browse(ctx, back.String())
				return err
			}})
			if c.person.Subject != "" {
				s.Person = c.person
			}
			s.Answers = c.answers
			if _, err := Blobs(t.Context(), k, manifest()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
