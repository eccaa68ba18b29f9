// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"math"
	"slices"
	"strings"
)

// class is what a name says about its value.
type class uint8

const (
	ordinary      class = iota
	secretClass         // a credential if it looks random: token, secret, API key
	basicClass          // a credential if it is a user and a password in base64: auth
	passwordClass       // always a credential
)

func (c class) what() string {
	switch c {
	case passwordClass:
		return "a password"
	case basicClass:
		return "a user and a password"
	}
	return "a token or key"
}

// takes reports whether value is a credential if its name is of the class.
func (c class) takes(value string) bool {
	switch c {
	case passwordClass:
		return isLiteral(value)
	case secretClass:
		return isLiteral(value) && isRandom(value)
	case basicClass:
		return isBasic(value)
	}
	return false
}

// Last words of names, in lower case.
var (
	passwordWords = []string{"password", "passwd", "passphrase", "requirepass", "masterauth"} // also as a suffix: PGPASSWORD
	passwordShort = []string{"pass", "pwd"}
	secretWords   = []string{"secret", "token", "apikey", "authtoken", "accesstoken", "apitoken", "bearertoken", "clientsecret", "secretkey", "accesskey", "privatekey"}
	// keyKinds are the words that, before key, make a value secret.
	keyKinds = []string{"api", "access", "secret", "private", "encryption", "encrypt", "signing", "master", "account", "shared", "auth", "app", "application", "license", "hmac"}
)

const maxName = 128

// classOf returns the class of a name. Its last word decides: passwordFile is the name of a file,
// tokenTTL is a time.
func classOf(name string) class {
	if len(name) > maxName {
		name = name[len(name)-maxName:]
	}
	c := promised(name)
	if c != ordinary && isSum(name) {
		return ordinary
	}
	return c
}

func promised(name string) class {
	switch rest, last := lastWord(name); {
	case slices.ContainsFunc(passwordWords, func(w string) bool { return strings.HasSuffix(last, w) }),
		slices.Contains(passwordShort, last) && rest != "" && !strings.EqualFold(rest, "old"):
		return passwordClass
	case slices.Contains(secretWords, last):
		return secretClass
	case last == "auth":
		return basicClass
	case last == "key", last == "base": // SECRET_KEY_BASE
		if _, before := lastWord(rest); last == "base" && before == "key" || last == "key" && slices.Contains(keyKinds, before) {
			return secretClass
		}
	}
	return ordinary
}

// isSum reports whether a name is that of a checksum, which charts compute from their Secrets:
// checksum/secret.
func isSum(name string) bool {
	for name != "" {
		var word string
		switch name, word = lastWord(name); word {
		case "checksum", "hash", "digest", "sha256", "sha", "sum", "fingerprint":
			return true
		}
	}
	return false
}

// lastWord splits off the last word of a name, in lower case: dbPassword, DB_PASSWORD and
// db.password all end in password.
func lastWord(name string) (rest, word string) {
	end := len(name)
	for end > 0 && !alnum(name[end-1]) {
		end--
	}
	start := end
	for start > 0 && alnum(name[start-1]) {
		start--
		// An upper case letter begins a word if it is next to a lower case one.
		if upper(name[start]) && (start > 0 && lower(name[start-1]) || start+1 < end && lower(name[start+1])) {
			break
		}
	}
	return name[:start], strings.ToLower(name[start:end])
}

// isLiteral reports whether a value is a literal, and neither empty, a switch nor a placeholder.
func isLiteral(value string) bool {
	if isPlaceholder(value) || strings.HasPrefix(value, "/") || strings.HasPrefix(value, "./") || strings.HasPrefix(value, "~/") || isHash(value) {
		return false // a path to the credential
	}
	switch strings.ToLower(value) {
	case "true", "false", "yes", "no", "on", "off", "null", "none", "nil", "undefined", "enabled", "disabled", "required", "optional", "string", "str":
		return false
	}
	return true
}

// isHash reports whether a value is the hash of a password as in htpasswd and shadow,
// optionally after the user.
func isHash(value string) bool {
	if i := strings.IndexByte(value, ':'); i > 0 {
		value = value[i+1:]
	}
	if value == "" || value[0] != '$' && value[0] != '{' {
		return false
	}
	kind, _, ok := strings.Cut(value[1:], map[byte]string{'$': "$", '{': "}"}[value[0]])
	return ok && len(kind) > 0 && len(kind) < 16 && strings.IndexFunc(kind, func(r rune) bool { return r > 0x7f || !url64(byte(r)) }) < 0
}

// references are prefixes of values that refer to a credential, or are encrypted.
var references = []string{
	"vault:", "ref+", "op://", "secret://", "secrets://", "awssm:", "gcpsm:", "ssm:", "arn:aws:", "projects/", "file:", "env:", "env.", "kms:", "akv:", "azkv:",
	"ENC[", "ENC(", "enc:", "!vault", "$ANSIBLE_VAULT", "$", "%", "@", "-----BEGIN PGP MESSAGE", "-----BEGIN AGE ENCRYPTED", "process.env", "os.environ", "data.", "secretKeyRef", "?{",
}

// fillIn are placeholders in capitals. (In lower case, many clusters use them as actual
// passwords.)
var fillIn = map[string]bool{"CHANGEME": true, "CHANGEIT": true, "REPLACEME": true, "REPLACED": true, "REDACTED": true, "TODO": true, "FIXME": true, "TBD": true, "FILLME": true, "SECRET": true, "PASSWORD": true}

// isPlaceholder reports whether a value is empty, refers to another, or is to be filled in.
func isPlaceholder(value string) bool {
	value = strings.TrimSpace(value)
	if value == Hidden || strings.Trim(value, "*xX.-_#?") == "" {
		return true
	}
	if begins(value, references...) || enclosed(value, "< >", "{{ }}", "[[ ]]", "(( ))", "__ __", "{ }", "[ ]", "#{ }", "#{ }#") ||
		fillIn[strings.NewReplacer("_", "", "-", "", " ", "").Replace(value)] {
		return true
	}
	return len(value) > 4 && strings.EqualFold(value[:4], "your") || strings.Contains(value, "placeholder") || strings.Contains(value, "${") || strings.Contains(value, "$(") || strings.Contains(value, "{{") || strings.Contains(value, "$__")
}

// isPublic reports whether a value of a Secret is not secret: it is empty or a placeholder, or
// consists of certificates and public keys.
func isPublic(value string) bool {
	switch value = strings.TrimSpace(value); value {
	case "", "{}", "[]", "null", `{"auths":{}}`:
		return true
	}
	return begins(value, "ENC[", "vault:", "ref+", "op://", "-----BEGIN PGP MESSAGE", "-----BEGIN AGE ENCRYPTED", "$ANSIBLE_VAULT") ||
		enclosed(value, "< >", "${ }", "$( )", "{{ }}") && !strings.Contains(value, "\n") || isPublicPEM(value) || isPublicSSH(value)
}

// begins reports whether a text begins with one of the prefixes.
func begins(text string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(text, prefix) })
}

// enclosed reports whether a text is between the two parts of one of the pairs.
func enclosed(text string, pairs ...string) bool {
	return slices.ContainsFunc(pairs, func(pair string) bool {
		before, after, _ := strings.Cut(pair, " ")
		return strings.HasPrefix(text, before) && strings.HasSuffix(text, after)
	})
}

// isPublicSSH reports whether every line of a text is a public key of an SSH user or host.
func isPublicSSH(text string) bool {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		for len(fields) > 2 && !sshKey(fields[0]) {
			fields = fields[1:] // names of the host, or @cert-authority
		}
		if len(fields) < 2 || !sshKey(fields[0]) || !strings.HasPrefix(fields[1], "AAAA") {
			return false
		}
	}
	return true
}

func sshKey(name string) bool { return begins(name, "ssh-", "ecdsa-sha2-", "sk-") }

// isPublicPEM reports whether a text consists of certificates and public keys.
func isPublicPEM(text string) bool {
	const begin, end = "-----BEGIN ", "-----END "
	if !strings.HasPrefix(text, begin) {
		return false
	}
	for text != "" {
		rest, ok := strings.CutPrefix(text, begin)
		if !ok {
			return false
		}
		label, rest, ok := strings.Cut(rest, "-----")
		if !ok || label != "CERTIFICATE" && label != "TRUSTED CERTIFICATE" && !strings.HasSuffix(label, "PUBLIC KEY") && label != "X509 CRL" {
			return false
		}
		if _, rest, ok = strings.Cut(rest, end+label+"-----"); !ok {
			return false
		}
		text = strings.TrimSpace(rest)
	}
	return true
}

// isRandom reports whether a value looks machine-generated: it is long, contains letters and
// digits, and does not consist of words.
func isRandom(value string) bool {
	const least, most, bits = 16, 4096, 3.0
	if len(value) < least || len(value) > most || isInvented(value) {
		return false
	}
	letters, digits := 0, 0
	for i := range len(value) {
		switch c := value[i]; {
		case lower(c), upper(c):
			letters++
		case digit(c):
			digits++
		case c <= ' ' || c >= 0x7f || strings.IndexByte("+/=_-.~!@#%^&*:|()?", c) < 0:
			return false
		}
	}
	if letters == 0 || digits == 0 || strings.Contains(value, "://") || entropy(value) < bits {
		return false
	}
	return !wordy(value)
}

// wordy reports whether a value consists of words and small numbers, like names of objects,
// hosts, files and images.
func wordy(value string) bool {
	longest := 0
	for _, chunk := range strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune("-_./:@|", r) }) {
		changes := 0
		for i := 1; i < len(chunk); i++ {
			if kindOf(chunk[i]) != kindOf(chunk[i-1]) {
				changes++
			}
		}
		// my, token2, v1alpha1, camelCase
		if changes > 3 {
			longest = max(longest, len(chunk))
		}
	}
	return longest < 8
}

func kindOf(c byte) int {
	switch {
	case lower(c):
		return 0
	case upper(c):
		return 1
	case digit(c):
		return 2
	}
	return 3
}

// entropy returns the Shannon entropy of the characters, in bits a character.
func entropy(s string) float64 {
	var counts [256]int
	for i := range len(s) {
		counts[s[i]]++
	}
	sum := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(s))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}

// isInvented reports whether a token is an example, because it says so or repeats a few
// characters.
func isInvented(token string) bool {
	low := strings.ToLower(token)
	words := []string{"example", "xxxx", "your", "replace", "changeme", "placeholder", "dummy", "....", "1234567890abcdef", "0123456789abcdef"}
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(low, w) }) || entropy(token) < 2.5
}
