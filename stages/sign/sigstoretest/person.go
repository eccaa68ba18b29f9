// SPDX-License-Identifier: Apache-2.0

package sigstoretest

import (
	"cmp"
	"crypto/rand"
	"net/http"
	"net/url"

	"golang.org/x/oauth2"
)

func (s *Sigstore) discovery(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]string{
		"issuer": s.URL, "authorization_endpoint": s.URL + "/auth", "token_endpoint": s.URL + "/token", "device_authorization_endpoint": s.URL + "/device/code",
	})
}

// logIn records the parameters of a login, and returns its code.
func (s *Sigstore) logIn(asked url.Values) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := rand.Text()
	s.logins[code] = asked
	return code
}

func (s *Sigstore) device(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.PostForm.Get("code_challenge_method") != "S256" {
		reply(w, http.StatusBadRequest, map[string]string{"error": "invalid_request"})
		return
	}
	reply(w, http.StatusOK, map[string]any{
		"device_code": s.logIn(r.PostForm), "user_code": "ABCD-EFGH", "verification_uri": s.URL + "/device", "expires_in": 600, "interval": 5,
	})
}

// auth is the page on which the person logs in.
func (s *Sigstore) auth(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query()
	back, err := url.Parse(asked.Get("redirect_uri"))
	if err != nil || back.Hostname() != "localhost" || asked.Get("code_challenge_method") != "S256" || asked.Get("response_type") != "code" {
		http.Error(w, "invalid_request", http.StatusBadRequest)
		return
	}
	answer := url.Values{"state": {asked.Get("state")}}
	if text := s.answer(); text != "" {
		answer.Set("error", text)
	} else {
		answer.Set("code", s.logIn(asked))
	}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// answer returns the next of Answers, or "" if there is none.
func (s *Sigstore) answer() (text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.Answers) > 0 {
		text, s.Answers = s.Answers[0], s.Answers[1:]
	}
	return text
}

// token returns the token of the person for a code, once, to the client that began the login.
func (s *Sigstore) token(w http.ResponseWriter, r *http.Request) {
	if text := s.answer(); text != "" {
		reply(w, http.StatusBadRequest, map[string]string{"error": text, "error_description": "so it is"})
		return
	}
	code := r.FormValue("code") + r.FormValue("device_code") // a request has one of them
	s.mu.Lock()
	asked, ok := s.logins[code]
	delete(s.logins, code)
	s.mu.Unlock()
	if !ok || oauth2.S256ChallengeFromVerifier(r.FormValue("code_verifier")) != asked.Get("code_challenge") || r.FormValue("redirect_uri") != asked.Get("redirect_uri") {
		reply(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	id := s.Person
	id.Nonce = cmp.Or(id.Nonce, asked.Get("nonce"))
	reply(w, http.StatusOK, map[string]string{"access_token": rand.Text(), "token_type": "Bearer", "id_token": s.Token(id)})
}
