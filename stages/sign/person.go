// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/sigstore/sigstore-go/pkg/root"
	"golang.org/x/oauth2"
)

const (
	// personTime limits the time that a person may take to log in.
	personTime = 5 * time.Minute
	// maxInterval is the longest interval between requests that an issuer may ask for.
	maxInterval = time.Minute
	// maxCode limits the length of the code that a person enters.
	maxCode = 64
	// tokenReserve is the remaining validity that a token needs to be used again.
	tokenReserve = 30 * time.Second
	// clientID is the client ID of Sigstore's clients at issuers.
	clientID = "sigstore"
	// callbackPath is the path that the browser returns to.
	callbackPath = "/auth/callback"
)

// Prompt describes what a person must do to log in.
type Prompt struct {
	// URL is the URL to open in a browser.
	URL string
	// Code is the code to enter there; "" if the URL contains it.
	Code string
	// Browser reports that the browser must be on this machine, because it returns to this
	// process.
	Browser bool
}

// Person configures how a person logs in at the issuer in the signing config.
type Person struct {
	// Device lets the person log in on any machine, with a code. Otherwise a browser on this
	// machine returns the answer.
	Device bool
	// Ask shows a prompt to the person. It is called when a token is needed.
	Ask func(ctx context.Context, prompt Prompt) error
}

// PersonToken returns the tokens of a person who logs in. It reuses a token while it is valid, so
// that the person logs in once for several signatures.
func (s *Services) PersonToken(p Person) (Token, error) {
	chosen, err := root.SelectService(s.config.OIDCProviderURLs(), []uint32{1}, s.o.Now())
	if err != nil {
		return nil, fmt.Errorf("signing config: issuer of identity tokens: %w", err)
	}
	issuer, err := serviceURL(chosen.URL)
	if err != nil {
		return nil, fmt.Errorf("signing config: issuer of identity tokens: %w", err)
	}
	var (
		mu   sync.Mutex
		kept string
	)
	return func(ctx context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if said, err := readClaims(kept); err == nil && said.expired(s.o.Now().Add(tokenReserve)) == nil {
			return kept, nil
		}
		token, err := s.logIn(ctx, issuer, p)
		if err != nil {
			return "", fmt.Errorf("log in at %s: %w", issuer, err)
		}
		kept = token
		return token, nil
	}, nil
}

// logIn asks a person to log in.
func (s *Services) logIn(ctx context.Context, issuer string, p Person) (string, error) {
	caller := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, personTime, fmt.Errorf("no one logged in within %s", personTime))
	defer cancel()
	// The library sends requests without using ctx.
	ctx = context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: &asker{ctx: ctx, base: s.o.Transport, try: s.try}})
	config, err := discover(ctx, issuer)
	if err != nil {
		return "", err
	}
	logIn := inBrowser
	if p.Device {
		logIn = onDevice
	}
	made, nonce, err := logIn(ctx, config, p.Ask)
	if err != nil {
		switch {
		case caller.Err() != nil:
			return "", context.Cause(caller)
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		}
		return "", refusedLogIn(err)
	}
	text, _ := made.Extra("id_token").(string)
	if text == "" {
		return "", errors.New("it gave no identity token")
	}
	token, err := checkToken([]byte(text))
	if err != nil {
		return "", err
	}
	if said, err := readClaims(token); err != nil || nonce != "" && said.Nonce != nonce {
		return "", errors.New("its identity token is not for this login (another nonce)")
	}
	return token, nil
}

// refusedLogIn explains the error of an issuer.
func refusedLogIn(err error) error {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded), ok && refused.ErrorCode == "expired_token":
		return errors.New("the code expired before it was entered: try again")
	case ok && refused.ErrorCode == "access_denied":
		return errors.New("the login was denied")
	case ok && refused.ErrorCode != "":
		return fmt.Errorf("it answers %q %q", refused.ErrorCode, refused.ErrorDescription)
	case ok:
		return fmt.Errorf("it answers %s", refused.Response.Status) // the body may contain a secret
	}
	return err
}

// discover finds the endpoints of an issuer.
func discover(ctx context.Context, issuer string) (*oauth2.Config, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer+"/.well-known/openid-configuration", nil)
	if err != nil {
		return nil, err
	}
	client, _ := ctx.Value(oauth2.HTTPClient).(*http.Client)
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", req.URL, resp.Status)
	}
	var said struct {
		Issuer        string `json:"issuer"`
		Authorization string `json:"authorization_endpoint"`
		Token         string `json:"token_endpoint"`
		Device        string `json:"device_authorization_endpoint"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxService)).Decode(&said); err != nil {
		return nil, fmt.Errorf("%s: %w", req.URL, err)
	}
	if strings.TrimSuffix(said.Issuer, "/") != issuer {
		return nil, fmt.Errorf("%s is of another issuer, %q", req.URL, said.Issuer)
	}
	for _, at := range []string{said.Authorization, said.Token, said.Device} {
		if at == "" {
			continue // not every issuer has all of them
		}
		if _, err := serviceURL(at); err != nil {
			return nil, fmt.Errorf("%s: %w", req.URL, err)
		}
	}
	return &oauth2.Config{ClientID: clientID, Scopes: []string{"openid", "email"}, Endpoint: oauth2.Endpoint{
		AuthURL: said.Authorization, TokenURL: said.Token, DeviceAuthURL: said.Device, AuthStyle: oauth2.AuthStyleInParams,
	}}, nil
}

// onDevice lets the person enter a code in a browser on any machine (RFC 8628).
func onDevice(ctx context.Context, config *oauth2.Config, ask func(context.Context, Prompt) error) (*oauth2.Token, string, error) {
	if config.Endpoint.DeviceAuthURL == "" {
		return nil, "", errors.New("it has no device flow")
	}
	verifier := oauth2.GenerateVerifier()
	code, err := config.DeviceAuth(ctx, oauth2.S256ChallengeOption(verifier))
	if err != nil {
		return nil, "", err
	}
	if code.Interval < 0 || code.Interval > int64(maxInterval/time.Second) {
		return nil, "", fmt.Errorf("its polling interval is %d seconds", code.Interval)
	}
	if _, err := serviceURL(code.VerificationURI); err != nil {
		return nil, "", fmt.Errorf("where to enter the code: %w", err)
	}
	if code.UserCode == "" || len(code.UserCode) > maxCode || strings.ContainsFunc(code.UserCode, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }) {
		return nil, "", fmt.Errorf("the code to enter is %q", code.UserCode[:min(len(code.UserCode), maxCode)])
	}
	if err := ask(ctx, Prompt{URL: code.VerificationURI, Code: code.UserCode}); err != nil {
		return nil, "", err
	}
	made, err := config.DeviceAccessToken(ctx, code, oauth2.VerifierOption(verifier))
	return made, "", err
}

// inBrowser lets the person log in with a browser that returns to this process with a code, which
// is exchanged for the token (RFC 8252, with PKCE).
func inBrowser(ctx context.Context, config *oauth2.Config, ask func(context.Context, Prompt) error) (*oauth2.Token, string, error) {
	if config.Endpoint.AuthURL == "" {
		return nil, "", errors.New("it has no login for browsers")
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "localhost:0")
	if err != nil {
		return nil, "", fmt.Errorf("wait for the browser: %w", err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return nil, "", errors.Join(err, listener.Close())
	}
	config.RedirectURL = (&url.URL{Scheme: "http", Host: net.JoinHostPort("localhost", port), Path: callbackPath}).String()
	state, answers := rand.Text(), make(chan answer, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+callbackPath, func(w http.ResponseWriter, r *http.Request) {
		select {
		case answers <- answerOf(state, w, r):
		default: // the browser has returned already
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: serviceTime}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // ends when the server is closed
	defer serving.Wait()
	defer func() { _ = server.Close() }() // only its port matters

	nonce, verifier := rand.Text(), oauth2.GenerateVerifier()
	if err := ask(ctx, Prompt{URL: config.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("nonce", nonce)), Browser: true}); err != nil {
		return nil, "", err
	}
	select {
	case answer := <-answers:
		if answer.err != nil {
			return nil, "", answer.err
		}
		made, err := config.Exchange(ctx, answer.code, oauth2.VerifierOption(verifier))
		return made, nonce, err
	case <-ctx.Done():
		return nil, "", context.Cause(ctx)
	}
}

type answer struct {
	code string
	err  error
}

// answerOf reads the request with which the browser returns, and responds to it.
func answerOf(state string, w http.ResponseWriter, r *http.Request) answer {
	query := r.URL.Query()
	a := answer{code: query.Get("code")}
	switch said := query.Get("error"); {
	case subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(state)) != 1:
		a.err = errors.New("the browser came back from another login (another state): try again")
	case said == "access_denied":
		a.err = errors.New("the login was denied")
	case said != "":
		a.err = fmt.Errorf("it answers %q %q", said, query.Get("error_description"))
	case a.code == "":
		a.err = errors.New("the browser came back without a code")
	}
	status, page := http.StatusOK, "You are logged in. Close this window and go back to tape.\n"
	if a.err != nil {
		status, page = http.StatusBadRequest, "The login failed. See the output of tape.\n"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(page)))
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, page)
	_ = http.NewResponseController(w).Flush() // before the server is closed
	return a
}
