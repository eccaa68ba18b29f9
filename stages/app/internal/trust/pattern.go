// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// CheckPattern checks the pattern of an identity: an identity in which * matches one whole
// segment between slashes and @, and at the end of a URL the rest. The part that determines who
// is meant must be fixed: the host of a URL, or the part after the @ of an address.
func CheckPattern(pattern string) error {
	if pattern == "" {
		return fmt.Errorf("identity is missing: anyone can get one, so name whose signatures are accepted")
	}
	if !strings.Contains(pattern, "*") {
		return nil
	}
	if strings.Contains(pattern, "**") {
		return fmt.Errorf("identity %q: * matches one segment, and at the end the rest: ** has no other meaning", pattern)
	}
	scheme, rest, isURL := strings.Cut(pattern, "://")
	if isURL {
		host, path, _ := strings.Cut(rest, "/")
		if host == "" || strings.ContainsAny(scheme+host, "*@") || strings.Contains(host, "%") {
			return fmt.Errorf("identity %q is not anchored: anyone can get a name that matches; write the full host followed by a slash", pattern)
		}
		if owner, _, _ := strings.Cut(path, "/"); owner == "*" && (host == "github.com" || host == "gitlab.com") {
			return fmt.Errorf("identity %q is not anchored: anybody can have a name at %s; write whose it is, such as %s://%[2]s/acme/*", pattern, host, scheme)
		}
		rest = path
	} else if user, domain, ok := strings.Cut(pattern, "@"); !ok || user != "*" || domain == "" || strings.ContainsAny(domain, "*@") {
		return fmt.Errorf("identity %q is not anchored: anyone can get a name that matches; write a URL with its host, or *@ and a domain", pattern)
	}
	if !plainIdentity(pattern) {
		return fmt.Errorf("identity %q: no identity that a pattern matches has . or .. as a segment, or one of \\ ? # %%", pattern)
	}
	for _, segment := range segments(rest) {
		if segment != "*" && strings.Contains(segment, "*") {
			return fmt.Errorf("identity %q: * matches a whole segment, not a part of one: %q would match names that others can register", pattern, segment)
		}
	}
	return nil
}

// segments splits an identity at slashes and @.
func segments(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '/' || r == '@' })
}

// plainIdentity reports whether no other path leads to the same place as an identity, so that
// all readers see the same identity.
func plainIdentity(identity string) bool {
	return !strings.ContainsAny(identity, "\\?#%") && !slices.ContainsFunc(segments(identity), func(s string) bool { return s == ".." || s == "." })
}

// matchIdentity reports whether a valid pattern matches an identity.
func matchIdentity(pattern, identity string) bool {
	return regexp.MustCompile(identityExpression(pattern)).MatchString(identity)
}

// segment is a regular expression for a segment of an identity that is neither . nor .., and
// has no character that [plainIdentity] refuses.
const segment = `(?:\.{0,2}[^./@%\\?#][^/@%\\?#]*|\.{3}[^/@%\\?#]*)`

// identityExpression returns the regular expression of the identities that a valid pattern matches.
// Programs that rules are exported to use it too.
func identityExpression(pattern string) string {
	if !strings.Contains(pattern, "*") {
		return "^" + regexp.QuoteMeta(pattern) + "$"
	}
	var out strings.Builder
	out.WriteString("^")
	parts := strings.Split(pattern, "*")
	for i, part := range parts {
		out.WriteString(regexp.QuoteMeta(part))
		switch {
		case i == len(parts)-1:
		case i == len(parts)-2 && parts[i+1] == "":
			out.WriteString(segment + "(?:[/@]+" + segment + ")*[/@]*")
		default:
			out.WriteString(segment)
		}
	}
	return out.String() + "$"
}

// checkGlob checks a glob of repositories: a name in which * matches one part between slashes,
// and /* or /** at the end the rest.
func checkGlob(glob string) error {
	host, path, ok := strings.Cut(glob, "/")
	switch {
	case glob == "":
		return fmt.Errorf("a name is empty")
	case strings.Contains(glob, "://"):
		return fmt.Errorf("%q: a repository has no scheme", glob)
	case strings.ContainsAny(host, "*?["):
		return fmt.Errorf("%q: * does not match registries: name each", glob)
	case !ok || path == "":
		return fmt.Errorf("%q names a registry and no repositories: write %s/*", glob, host)
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		return fmt.Errorf("%q names no registry: %s is a part of a path; write docker.io/%s if that is meant", glob, host, glob)
	case strings.ContainsAny(path, "?[]\\@ ") || strings.Contains(path, ":"):
		return fmt.Errorf("%q: a name is a repository, without tag and digest, in which only * has a meaning", glob)
	}
	for i, part := range strings.Split(path, "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return fmt.Errorf("%q: a repository has no part %q", glob, part)
		case part != strings.ToLower(part):
			return fmt.Errorf("%q: repositories have no upper case letters", glob)
		case strings.Contains(part, "**") && (part != "**" || i != strings.Count(path, "/")):
			return fmt.Errorf("%q: ** is only allowed at the end, for the rest", glob)
		}
	}
	// What no reference has as its name would match nothing.
	example := strings.ReplaceAll(strings.ReplaceAll(glob, "**", "*"), "*", "x")
	switch name, err := repository(example); {
	case err != nil:
		return fmt.Errorf("%q: no repository has such a name: %w", glob, err)
	case strings.HasPrefix(name, "docker.io/library/") && strings.Trim(path, "*") != "" && !strings.Contains(path, "/"):
		return fmt.Errorf("%q: images of Docker Hub without a path are docker.io/library/%s", glob, path)
	case !strings.HasPrefix(name, host+"/"):
		registry, _, _ := strings.Cut(name, "/")
		return fmt.Errorf("%q: the name of that registry is %s", glob, registry)
	}
	return nil
}

// matchGlob reports whether a valid glob matches a repository.
func matchGlob(glob, repository string) bool {
	if fixed, rest := cutRest(glob); rest {
		parts := strings.SplitAfterN(repository, "/", strings.Count(fixed, "/")+1)
		glob, repository = fixed, strings.Join(parts[:len(parts)-1], "")
	}
	ok, _ := path.Match(glob, repository) // the glob is valid
	return ok
}
