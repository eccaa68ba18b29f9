// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/internal/regular"
)

// Token returns an identity token: a JWT that names the signer. It is a secret. It is requested
// each time one is needed, because tokens are only valid for minutes.
type Token func(ctx context.Context) (string, error)

const (
	// audience is the audience of identity tokens for Fulcio.
	audience = "sigstore"
	// variableToken is the variable that contains a token, as for sigstore's own clients.
	variableToken = "SIGSTORE_ID_TOKEN"
	// variableURL and variableRequest are set by GitHub Actions in a job with the permission
	// "id-token: write".
	variableURL     = "ACTIONS_ID_TOKEN_REQUEST_URL"
	variableRequest = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
	// projectedToken is the file in which Kubernetes projects a token, as for cosign.
	projectedToken = "/var/run/sigstore/cosign/oidc-token"
	// maxToken limits the size of a token, in bytes.
	maxToken = 64 << 10
)

// FindToken returns the source of identity tokens: a file or [Stdin] or, if file is empty, the
// variable SIGSTORE_ID_TOKEN, GitHub Actions, or a projected file.
func FindToken(file string, transport http.RoundTripper) (Token, error) {
	switch {
	case file == Stdin:
		data, err := io.ReadAll(io.LimitReader(os.Stdin, maxToken+1)) // read it once, because it is used for each signature
		if err != nil {
			return nil, fmt.Errorf("read identity token: %w", err)
		}
		return fixed(data)
	case file != "":
		return inFileToken(file), nil
	case os.Getenv(variableToken) != "":
		return fixed([]byte(os.Getenv(variableToken)))
	case os.Getenv(variableURL) != "":
		return actions(os.Getenv(variableURL), os.Getenv(variableRequest), transport), nil
	}
	if _, err := os.Stat(projectedToken); err == nil {
		return inFileToken(projectedToken), nil
	}
	return nil, advice.Add(errors.New("there is no identity token"), advice.GiveToken)
}

func fixed(data []byte) (Token, error) {
	token, err := checkToken(data)
	return func(context.Context) (string, error) { return token, nil }, err
}

func inFileToken(file string) Token {
	return func(context.Context) (string, error) {
		data, err := regular.ReadArgument(file)
		if err != nil {
			return "", fmt.Errorf("read identity token: %w", err)
		}
		token, err := checkToken(data)
		if err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		return token, nil
	}
}

// actions requests a token from GitHub Actions.
func actions(at, bearer string, transport http.RoundTripper) Token {
	return func(ctx context.Context) (string, error) {
		u, err := url.Parse(at)
		if err != nil {
			return "", fmt.Errorf("%s is not a URL", variableURL)
		}
		query := u.Query()
		query.Set("audience", audience)
		u.RawQuery = query.Encode()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return "", fmt.Errorf("ask GitHub Actions for an identity token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+bearer)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return "", fmt.Errorf("ask GitHub Actions for an identity token: %w", err)
		}
		defer resp.Body.Close()
		var answer struct {
			Value string `json:"value"`
		}
		if resp.StatusCode != http.StatusOK {
			return "", fmt.Errorf("ask GitHub Actions for an identity token: %s: does the job have the permission \"id-token: write\"?", resp.Status)
		}
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxToken)).Decode(&answer); err != nil {
			return "", errors.New("ask GitHub Actions for an identity token: its answer is not JSON") // the answer may contain a token
		}
		return checkToken([]byte(answer.Value))
	}
}

// claims are the fields of a token that messages and checks need.
type claims struct {
	Issuer   string `json:"iss"`
	Audience any    `json:"aud"` // a string or a list
	Subject  string `json:"sub"`
	Email    string `json:"email"`
	Expires  int64  `json:"exp"`
	Nonce    string `json:"nonce"`
}

// readClaims parses a token without verifying it. Fulcio verifies it.
func readClaims(token string) (c claims, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, errors.New("it is not a JWT (HEADER.CLAIMS.SIGNATURE)")
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(data, &c) != nil {
		return c, errors.New("it is not a JWT: its claims are not base64 of JSON")
	}
	return c, nil
}

// checkToken checks the form of a token. Errors do not contain any part of it.
func checkToken(data []byte) (string, error) {
	token := strings.TrimSpace(string(data))
	if len(token) > maxToken {
		return "", fmt.Errorf("identity token: it has more than %d bytes", maxToken)
	}
	if _, err := readClaims(token); err != nil {
		return "", fmt.Errorf("identity token: %w", err)
	}
	return token, nil
}

// expired returns an error if the token is no longer valid.
func (c claims) expired(now time.Time) error {
	if at := time.Unix(c.Expires, 0); c.Expires != 0 && !now.Before(at) {
		return fmt.Errorf("the identity token of %s expired at %s: get a new one", c.who(), at.UTC().Format(time.RFC3339))
	}
	return nil
}

func (c claims) who() string {
	if c.Email != "" {
		return c.Email
	}
	return c.Subject
}
