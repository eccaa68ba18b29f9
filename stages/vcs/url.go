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
	// userInfo is what stands before the host of any URL in a text, with a password
	// that is not written as it must be (a slash in it) too.
	userInfo = regexp.MustCompile(`://(?:[^/\s'"]*|[^/\s'":@]*:\d*[^\d/\s'"@][^\s'"@]*)@`)
	// urlQuery is what follows the path of any URL in a text.
	urlQuery = regexp.MustCompile(`(://[^\s'"?#]*)[?#][^\s'"]*`)
)

// CleanURL takes out of a remote's URL whatever may be a secret or a person:
// user and password, query and fragment. The login name git, which stands for
// nobody, stays where ssh needs one. What cannot be told apart, and what names
// a folder of this machine, comes back empty.
func CleanURL(raw string) string {
	if !strings.Contains(raw, "://") {
		m := scpURL.FindStringSubmatch(raw)
		if m == nil || m[3] == "" || strings.HasPrefix(m[3], ":") {
			return "" // a path, or a remote helper (ext::…) with arguments of its own
		}
		if m[1] == "git" {
			return "git@" + m[2] + ":" + m[3]
		}
		return m[2] + ":" + m[3]
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme == "file" {
		return ""
	}
	clean := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if strings.Contains(u.Scheme, "ssh") && u.User.Username() == "git" {
		clean.User = url.User("git")
	}
	return clean.String()
}

// CleanText takes user, password, query and fragment out of the URLs in a text. The
// login name git stays.
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
