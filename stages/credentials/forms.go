// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"encoding/base64"
	"iter"
	"slices"
	"strings"
)

// form is the form of a service's tokens: a unique prefix, followed by characters of an
// alphabet.
type form struct {
	what   string
	prefix string
	// least and most are the numbers of characters that follow; most 0 means any number.
	least, most int
	of          alphabet
}

// alphabet reports whether a token may contain a character after its prefix.
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

// forms are those documented by the services.
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
	hits := encodedKeys(text, privateKeys(text))
	for i := range forms {
		hits = forms[i].in(text, hits)
	}
	hits = jwts(text, hits)
	hits = headers(text, hits)
	hits = dsns(text, hits)
	hits = curls(text, hits)
	hits = statements(text, hits)
	return passwordURLs(text, hits)
}

// in appends the tokens of a form. A token is not part of a longer word.
func (f *form) in(text string, hits []Hit) []Hit {
	for at, from := 0, next(text, f.prefix, 0); from >= 0; from = next(text, f.prefix, at) {
		end := from + len(f.prefix)
		for end < len(text) && f.of(text[end]) {
			end++
		}
		at = end
		n := end - from - len(f.prefix)
		if n < f.least || f.most > 0 && n > f.most || from > 0 && url64(text[from-1]) || end < len(text) && url64(text[end]) {
			continue
		}
		if isInvented(text[from+len(f.prefix) : end]) {
			continue
		}
		hits = append(hits, Hit{What: f.what, From: from, To: end})
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

// encodedKeys appends private keys whose PEM is in base64, as in a kubeconfig.
func encodedKeys(text string, hits []Hit) []Hit {
	const prefix = "LS0tLS1CRUdJTi" // -----BEGIN
	const head = 96                 // characters that have the label
	for at, from := 0, next(text, prefix, 0); from >= 0; from = next(text, prefix, at) {
		end := run(text, from, base64s)
		at = end
		start, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text[from:min(end, from+head)], "="))
		if err == nil && len(privateKeys(string(start))) > 0 {
			hits = append(hits, Hit{What: "a private key", From: from, To: end})
		}
	}
	return hits
}

// next returns where a mark begins in a text, at an index or after it; -1 if it does not.
func next(text, mark string, at int) int {
	if i := strings.Index(text[at:], mark); i >= 0 {
		return at + i
	}
	return -1
}

func base64s(c byte) bool { return alnum(c) || c == '+' || c == '/' || c == '=' }

// run returns the end of the characters of an alphabet that begin at an index.
func run(text string, at int, of alphabet) int {
	for at < len(text) && of(text[at]) {
		at++
	}
	return at
}

// headers appends the credentials in HTTP headers: Basic with a user and a password in base64,
// and Bearer with a token that looks random.
func headers(text string, hits []Hit) []Hit {
	for _, scheme := range []struct {
		name, what string
		takes      func(string) bool
	}{
		{"Basic ", basicClass.what(), isBasic}, {"Bearer ", secretClass.what(), secretClass.takes},
	} {
		in := comments{text: text}
		for at, before := 0, next(text, scheme.name, 0); before >= 0; before = next(text, scheme.name, at) {
			from := before + len(scheme.name)
			at = run(text, from, func(c byte) bool { return base64s(c) || dotted(c) || c == '~' })
			if scheme.takes(text[from:at]) && (before == 0 || !alnum(text[before-1])) && !in.hold(before) {
				hits = append(hits, Hit{What: scheme.what, From: from, To: at})
			}
		}
	}
	return hits
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

// dsns appends the passwords in MySQL's data source names: user:password@tcp(host).
func dsns(text string, hits []Hit) []Hit {
	for _, mark := range []string{"@tcp(", "@unix("} {
		for at, end := 0, next(text, mark, 0); end >= 0; end = next(text, mark, at) {
			at = end + len(mark)
			start := end
			for start > 0 && end-start < maxPassword && text[start-1] > ' ' && strings.IndexByte("\"'`=", text[start-1]) < 0 {
				start--
			}
			user, password, ok := strings.Cut(text[start:end], ":")
			if ok && user != "" && passwordClass.takes(password) && !isStandIn(user, password) {
				hits = append(hits, Hit{What: "a password in a URL", From: end - len(password), To: end})
			}
		}
	}
	return hits
}

// curls appends the passwords of curl -u user:password.
func curls(text string, hits []Hit) []Hit {
	in := comments{text: text}
	for line, start := range lines(text) {
		if !strings.Contains(line, "curl ") {
			continue
		}
		for _, flag := range []string{" -u ", " --user "} {
			i := strings.Index(line, flag)
			if i < 0 {
				continue
			}
			from := i + len(flag)
			from += len(line[from:]) - len(strings.TrimLeft(line[from:], " \"'"))
			to := run(line, from, func(c byte) bool { return c > ' ' && strings.IndexByte("\"'`\\", c) < 0 })
			user, password, ok := strings.Cut(line[from:to], ":")
			if ok && user != "" && passwordClass.takes(password) && !isStandIn(user, password) && !in.hold(start+from) {
				hits = append(hits, Hit{What: passwordClass.what(), From: start + to - len(password), To: start + to})
			}
		}
	}
	return hits
}

// lines returns the lines of a text with their positions.
func lines(text string) iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		at := 0
		for line := range strings.Lines(text) {
			if !yield(line, at) {
				return
			}
			at += len(line)
		}
	}
}

// statements appends the passwords in SQL: IDENTIFIED BY 'password'.
func statements(text string, hits []Hit) []Hit {
	in := comments{text: text}
	for _, mark := range []string{"IDENTIFIED BY '", "identified by '"} {
		for at, begin := 0, next(text, mark, 0); begin >= 0; begin = next(text, mark, at) {
			from := begin + len(mark)
			at = from
			n := strings.IndexByte(text[from:min(len(text), from+maxPassword)], '\'')
			if n > 0 && passwordClass.takes(text[from:from+n]) && !in.hold(from) {
				hits = append(hits, Hit{What: passwordClass.what(), From: from, To: from + n})
			}
		}
		in = comments{text: text}
	}
	return hits
}

// maxPassword is the maximum length of a user and a password together.
const maxPassword = 256

// jwts appends signed JSON Web Tokens.
func jwts(text string, hits []Hit) []Hit {
	const prefix = "eyJ" // {"
	for at, from := 0, next(text, prefix, 0); from >= 0; from = next(text, prefix, at) {
		end := from
		for end < len(text) && dotted(text[end]) {
			end++
		}
		at = end
		parts := strings.Split(text[from:end], ".")
		if len(parts) != 3 || from > 0 && url64(text[from-1]) || !strings.HasPrefix(parts[1], prefix) || len(parts[2]) < 20 {
			continue
		}
		if header, err := base64.RawURLEncoding.DecodeString(parts[0]); err != nil || !strings.Contains(string(header), `"alg"`) {
			continue
		}
		hits = append(hits, Hit{What: "a JSON Web Token", From: from, To: end})
	}
	return hits
}

// passwordURLs appends the passwords in URLs: scheme://user:password@host.
func passwordURLs(text string, hits []Hit) []Hit {
	const mark = "://"
	in := comments{text: text}
	for at, from := 0, next(text, mark, 0); from >= 0; from = next(text, mark, at) {
		at = from + len(mark)
		end := at
		for end < len(text) && text[end] > ' ' && text[end] < 0x7f && strings.IndexByte(`/?#"'<>\,`+"`", text[end]) < 0 {
			end++
		}
		authority := text[at:end]
		at = end
		host := strings.LastIndexByte(authority, '@')
		if host < 0 {
			continue
		}
		user, password, ok := strings.Cut(authority[:host], ":")
		if !ok || len(authority) == host+1 || isExample(authority[host+1:]) || isStandIn(user, password) || !passwordClass.takes(password) || in.hold(from) {
			continue
		}
		start := end - len(authority) + len(user) + 1
		hits = append(hits, Hit{What: "a password in a URL", From: start, To: start + len(password)})
	}
	return hits
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
