// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
)

// form is the form of the tokens of a service: a unique prefix, followed by characters of an
// alphabet.
type form struct {
	what   string
	prefix string
	// least and most limit the number of characters that follow; most 0 means any number.
	least, most int
	of          alphabet
}

// alphabet reports whether a token may contain c after its prefix.
type alphabet func(c byte) bool

func alnum(c byte) bool    { return lower(c) || upper(c) || digit(c) }
func lower(c byte) bool    { return c >= 'a' && c <= 'z' }
func upper(c byte) bool    { return c >= 'A' && c <= 'Z' }
func digit(c byte) bool    { return c >= '0' && c <= '9' }
func hex(c byte) bool      { return digit(c) || c >= 'a' && c <= 'f' }
func word(c byte) bool     { return alnum(c) || c == '_' }
func url64(c byte) bool    { return alnum(c) || c == '_' || c == '-' }
func dotted(c byte) bool   { return url64(c) || c == '.' }
func capitals(c byte) bool { return upper(c) || digit(c) }

// forms are the forms that services document.
var forms = []form{
	{"an AWS access key", "AKIA", 16, 16, capitals},
	{"an AWS access key", "ASIA", 16, 16, capitals},
	{"a Google API key", "AIza", 35, 35, url64},
	{"a Google OAuth secret", "GOCSPX-", 28, 28, url64},
	{"a Google access token", "ya29.", 30, 0, dotted},
	{"a GitHub token", "ghp_", 36, 36, alnum},
	{"a GitHub token", "gho_", 36, 36, alnum},
	{"a GitHub token", "ghu_", 36, 36, alnum},
	{"a GitHub token", "ghs_", 36, 0, alnum},
	{"a GitHub token", "ghr_", 36, 0, alnum},
	{"a GitHub token", "github_pat_", 60, 0, word},
	{"a GitLab token", "glpat-", 20, 0, dotted},
	{"a GitLab token", "gldt-", 20, 0, dotted},
	{"a GitLab token", "glrt-", 20, 0, dotted},
	{"a GitLab token", "glptt-", 20, 0, dotted},
	{"a GitLab token", "glcbt-", 20, 0, dotted},
	{"a GitLab token", "glsoat-", 20, 0, dotted},
	{"a GitLab token", "glft-", 20, 0, dotted},
	{"a GitLab token", "glimt-", 20, 0, dotted},
	{"a GitLab token", "glagent-", 20, 0, dotted},
	{"a GitLab token", "gloas-", 20, 0, dotted},
	{"a Slack token", "xoxb-", 20, 0, url64},
	{"a Slack token", "xoxp-", 20, 0, url64},
	{"a Slack token", "xoxa-", 20, 0, url64},
	{"a Slack token", "xoxs-", 20, 0, url64},
	{"a Slack token", "xapp-", 20, 0, url64},
	{"a Slack webhook", "hooks.slack.com/services/T", 30, 0, func(c byte) bool { return alnum(c) || c == '/' }},
	{"a Stripe key", "sk_live_", 20, 0, alnum},
	{"a Stripe key", "rk_live_", 20, 0, alnum},
	{"a Stripe key", "sk_test_", 20, 0, alnum},
	{"a Stripe webhook secret", "whsec_", 30, 0, alnum},
	{"a Twilio key", "SK", 32, 32, hex},
	{"a Mailgun key", "key-", 32, 32, hex},
	{"a SendGrid key", "SG.", 60, 70, dotted},
	{"an npm token", "npm_", 36, 36, alnum},
	{"a PyPI token", "pypi-AgE", 60, 0, url64},
	{"a Docker Hub token", "dckr_pat_", 27, 0, url64},
	{"a Docker Hub token", "dckr_oat_", 27, 0, url64},
	{"a Vault token", "hvs.", 24, 0, dotted},
	{"a Vault token", "hvb.", 24, 0, dotted},
	{"an age key", "AGE-SECRET-KEY-1", 58, 58, capitals},
	{"a DigitalOcean token", "dop_v1_", 64, 64, hex},
	{"a Grafana token", "glsa_", 32, 0, word},
	{"a Databricks token", "dapi", 32, 32, hex},
	{"a Shopify token", "shpat_", 32, 32, hex},
	{"a Hugging Face token", "hf_", 34, 34, alnum},
	{"a New Relic key", "NRAK-", 27, 27, capitals},
	{"a Pulumi token", "pul-", 40, 40, hex},
	{"an Anthropic key", "sk-ant-", 40, 0, url64},
	{"an OpenAI key", "sk-proj-", 40, 0, url64},
}

// formed returns the credentials that are recognised by their form alone.
func formed(text string) []Hit {
	hits := privateKeys(text)
	for i := range forms {
		hits = forms[i].in(text, hits)
	}
	for i := range patterns {
		hits = patterns[i].in(text, hits)
	}
	return hits
}

// in appends the tokens of a form. A token is not part of a longer word.
func (f *form) in(text string, hits []Hit) []Hit {
	for at, from := 0, next(text, f.prefix, 0); from >= 0; from = next(text, f.prefix, at) {
		begin := from + len(f.prefix)
		at = run(text, begin, f.of)
		if n := at - begin; n < f.least || f.most > 0 && n > f.most || from > 0 && url64(text[from-1]) || at < len(text) && url64(text[at]) || isInvented(text[begin:at]) {
			continue
		}
		hits = append(hits, Hit{What: f.what, From: from, To: at})
	}
	return hits
}

// privateKeys returns the private keys in PEM, including those with line breaks written as \n.
func privateKeys(text string) []Hit {
	const begin, dashes, most, least = "-----BEGIN ", "-----", 40, 40
	var hits []Hit
	for at, from := 0, next(text, begin, 0); from >= 0; from = next(text, begin, at) {
		at = from + len(begin)
		label, _, ok := strings.Cut(text[at:min(len(text), at+most)], dashes)
		if !ok || !strings.HasSuffix(strings.TrimSuffix(label, " BLOCK"), "PRIVATE KEY") {
			continue
		}
		at += len(label) + len(dashes)
		to := len(text)
		if end := strings.Index(text[at:], dashes); end >= 0 {
			to = at + end
		}
		body := text[at:to]
		at = to
		if len(body) < least || strings.Contains(body[:least], "...") || isPlaceholder(strings.Trim(body, " \t\r\n\\")) {
			continue // an example
		}
		hits = append(hits, Hit{What: "a private key", From: from, To: to})
	}
	return hits
}

// pattern describes credentials that are recognised by the text around them.
type pattern struct {
	what string
	mark string // a text without it has no such credential
	// expr has group 1 for a user, which may be empty, and group 2 for the credential.
	expr *regexp.Regexp
	// not reports whether the character before a match makes the match part of something else;
	// nil accepts any character.
	not      alphabet
	comments bool // matches in comments count too
	takes    func(groups []string) bool
}

// maxPassword is the maximum length of a user and a password together.
const maxPassword = 256

// patterns are in order of precedence.
var patterns = []pattern{
	// A PEM in base64, as in a kubeconfig.
	{"a private key", "LS0tLS1CRUdJTi", regexp.MustCompile(`()(LS0tLS1CRUdJTi[A-Za-z0-9+/=]*)`), nil, true, isEncodedKey},
	{"a JSON Web Token", "eyJ", regexp.MustCompile(`()(eyJ[\w.-]*)`), url64, true, isJWT},
	// HTTP headers.
	{basicClass.what(), "Basic ", regexp.MustCompile(`Basic ()([\w+/=.~-]*)`), alnum, false, func(groups []string) bool { return isBasic(groups[2]) }},
	{secretClass.what(), "Bearer ", regexp.MustCompile(`Bearer ()([\w+/=.~-]*)`), alnum, false, func(groups []string) bool { return secretClass.takes(groups[2]) }},
	// MySQL's data source names: user:password@tcp(host).
	{"a password in a URL", "@tcp(", regexp.MustCompile("([^\x00-\x20\"'`=:]*):([^\x00-\x20\"'`=]+?)@tcp\\("), nil, true, isLogin},
	{"a password in a URL", "@unix(", regexp.MustCompile("([^\x00-\x20\"'`=:]*):([^\x00-\x20\"'`=]+?)@unix\\("), nil, true, isLogin},
	{passwordClass.what(), "curl ", regexp.MustCompile("curl(?: .*?)? (?:-u|--user) [ \"']*([^\x00-\x20\"'`\\\\:]*):([^\x00-\x20\"'`\\\\]+)"), nil, false, isLogin},
	// SQL.
	{passwordClass.what(), "IDENTIFIED BY '", regexp.MustCompile(`IDENTIFIED BY '()([^']{1,255})'`), nil, false, isPassword},
	{passwordClass.what(), "identified by '", regexp.MustCompile(`identified by '()([^']{1,255})'`), nil, false, isPassword},
	// URLs: scheme://user:password@host.
	{"a password in a URL", "://", regexp.MustCompile(`://([!$%&(-+.0-9;=@-[\]^_a-z{|}~-]*):([!$%&(-+.0-;=@-[\]^_a-z{|}~-]*)@([!$%&(-+.0-;=A-[\]^_a-z{|}~-]*)`), nil, false, isInURL},
}

// in appends the credentials of a pattern.
func (p *pattern) in(text string, hits []Hit) []Hit {
	if !strings.Contains(text, p.mark) {
		return hits // most texts do not contain it
	}
	in := comments{text: text}
	for _, m := range p.expr.FindAllStringSubmatchIndex(text, -1) {
		var groups []string
		for i := 0; i < len(m); i += 2 {
			groups = append(groups, text[m[i]:m[i+1]])
		}
		if (p.not == nil || m[0] == 0 || !p.not(text[m[0]-1])) && p.takes(groups) && (p.comments || !in.hold(m[4])) {
			hits = append(hits, Hit{What: p.what, From: m[4], To: m[5]})
		}
	}
	return hits
}

func isPassword(groups []string) bool { return passwordClass.takes(groups[2]) }

// isLogin reports whether neither the user nor the password is a placeholder.
func isLogin(groups []string) bool {
	return groups[1] != "" && len(groups[1])+len(groups[2]) < maxPassword && isPassword(groups) && !isStandIn(groups[1], groups[2])
}

func isInURL(groups []string) bool {
	return groups[3] != "" && isPassword(groups) && !isStandIn(groups[1], groups[2]) && !isExample(groups[3])
}

func isEncodedKey(groups []string) bool {
	const head = 96 // number of characters that include the label
	begin, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(groups[2][:min(len(groups[2]), head)], "="))
	return err == nil && len(privateKeys(string(begin))) > 0
}

// isJWT reports whether a text is a signed JSON Web Token.
func isJWT(groups []string) bool {
	parts := strings.Split(groups[2], ".")
	if len(parts) != 3 || !strings.HasPrefix(parts[1], "eyJ") || len(parts[2]) < 20 {
		return false
	}
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	return err == nil && strings.Contains(string(header), `"alg"`)
}

// isBasic reports whether a value is a user and a password in base64.
func isBasic(value string) bool {
	const least, most = 8, 1024
	if len(value) < least || len(value) > most {
		return false
	}
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return false
	}
	user, password, ok := strings.Cut(string(data), ":")
	return ok && user != "" && strings.IndexFunc(string(data), func(r rune) bool { return r < ' ' || r > '~' }) < 0 && passwordClass.takes(password)
}

// next returns the index of the first mark in a text at or after an index, or -1 if there is
// none.
func next(text, mark string, at int) int {
	if i := strings.Index(text[at:], mark); i >= 0 {
		return at + i
	}
	return -1
}

// run returns the end of the run of characters of an alphabet that begins at an index.
func run(text string, at int, of alphabet) int {
	for at < len(text) && of(text[at]) {
		at++
	}
	return at
}

// isStandIn reports whether a user and a password are placeholders: user:password@.
func isStandIn(user, password string) bool {
	switch strings.ToLower(password) {
	case "password", "pass", "passwd", "pwd", "secret", "token", "password123":
		switch strings.ToLower(user) {
		case "user", "username", "usr", "name", "login", "":
			return true
		}
	}
	return false
}

// isExample reports whether a host is used in examples.
func isExample(host string) bool {
	host, _, _ = strings.Cut(host, ":")
	return slices.ContainsFunc([]string{"example.com", "example.org", "example.net", "example", "my.host", "host"}, func(reserved string) bool {
		return host == reserved || strings.HasSuffix(host, "."+reserved)
	})
}
