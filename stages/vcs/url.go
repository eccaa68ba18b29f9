// SPDX-License-Identifier: Apache-2.0

package vcs

import (
	"net/url"
	"regexp"
	"strings"
)

var (
	// scpURL is git's short form of an ssh URL: [user@]host:path.
	scpURL = regexp.MustCompile(`^(?:([^/]*)@)?(\[[^\]/]+\]|[^:/@\[\]]{2,}):([^?#]*)`)
	// userInfo matches what precedes the host of a URL in a text, even if the password contains
	// an unescaped slash.
	userInfo = regexp.MustCompile(`://(?:[^/\s'"]*|[^/\s'":@]*:\d*[^\d/\s'"@][^\s'"@]*)@`)
	// urlQuery matches what follows the path of a URL in a text.
	urlQuery = regexp.MustCompile(`(://[^\s'"?#]*)[?#][^\s'"]*`)
)

// CleanURL removes the parts of the URL of a remote that may be secret or personal: user and
// password, query and fragment. It keeps the user name git in ssh URLs, which need one. It
// returns "" for a folder on this machine, and for a URL that it cannot parse.
func CleanURL(raw string) string {
	if !strings.Contains(raw, "://") {
		m := scpURL.FindStringSubmatch(raw)
		if m == nil || m[3] == "" || strings.HasPrefix(m[3], ":") {
			return "" // a path, or a remote helper (ext::…) with its own arguments
		}
		if m[1] == "git" {
			return "git@" + m[2] + ":" + m[3]
		}
		return m[2] + ":" + m[3]
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme == "" || u.Scheme == "file" {
		return ""
	}
	clean := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if strings.Contains(u.Scheme, "ssh") && u.User.Username() == "git" {
		clean.User = url.User("git")
	}
	return clean.String()
}

// CleanText removes user, password, query and fragment from the URLs in a text. It keeps
// the user name git.
func CleanText(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	s = userInfo.ReplaceAllStringFunc(s, func(found string) string {
		if found == "://git@" {
			return found
		}
		return "://"
	})
	return urlQuery.ReplaceAllString(s, "$1")
}
