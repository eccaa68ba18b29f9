// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// repository is a folder in a git repository, in one of kustomize's notations:
//
//	https://github.com/org/repo/folder?ref=v1.2.3
//	https://git.example.com/group/repo.git/folder?ref=main&submodules=false
//	https://git.example.com/group/subgroup/repo//folder
//	https://dev.azure.com/org/project/_git/repo/folder
//	git@github.com:org/repo, ssh://git@example.com/org/repo, github.com/org/repo
type repository struct {
	clone      string // URL for git
	folder     string // in the repository, "." for its top
	ref        string // branch, tag or commit; default HEAD
	submodules bool
}

var (
	userPrefix = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]*@`)
	yamlSuffix = regexp.MustCompile(`(?i)\.(ya?ml|json)$`)
)

// parseRepository accepts exactly the entries that kustomize accepts as repositories: if it
// missed one, kustomize itself would clone that.
func parseRepository(entry string) (repository, bool) {
	if path.IsAbs(entry) {
		return repository{}, false
	}
	rest, query, _ := strings.Cut(entry, "?")
	if cut, ok := cutPrefixFold(rest, "git::"); ok {
		rest = cut
	}
	scheme := ""
	for _, s := range []string{"ssh://", "https://", "http://", "file://"} {
		if cut, ok := cutPrefixFold(rest, s); ok {
			scheme, rest = s, cut
			break
		}
	}
	user := userPrefix.FindString(rest)
	rest = rest[len(user):]
	lower := strings.ToLower(rest)
	github := strings.HasPrefix(lower, "github.com/") || strings.HasPrefix(lower, "github.com:")
	short := scheme == "" && (user != "" || github) // user@host:path
	if scheme == "" && !short {
		return repository{}, false
	}

	host := ""
	if scheme != "file://" {
		end := strings.Index(rest, "/")
		if colon := strings.Index(rest, ":"); short && colon > 0 && (end < 0 || colon < end) {
			end = colon
		}
		if end < 0 {
			return repository{}, false
		}
		host, rest = rest[:end+1], rest[end+1:]
	}
	if github {
		if scheme == "ssh://" || user != "" {
			scheme, host = "", "github.com:"
		} else {
			scheme, host = "https://", "github.com/"
		}
	}

	repo, folder := splitRepository(rest, scheme == "file://")
	folder = path.Clean(strings.TrimPrefix(folder, "/"))
	if repo == "" || !within(folder) {
		return repository{}, false
	}
	r := repository{clone: scheme + user + host + repo, folder: folder, ref: "HEAD", submodules: true}
	if values, err := url.ParseQuery(query); err == nil {
		for _, key := range []string{"version", "ref"} {
			if v := values.Get(key); v != "" {
				r.ref = v
			}
		}
		if b, err := strconv.ParseBool(values.Get("submodules")); err == nil {
			r.submodules = b
		}
	}
	return r, true
}

// splitRepository separates a repository from the folder in it: at a marker, or after
// organisation and name.
func splitRepository(p string, all bool) (repo, folder string) {
	if i := strings.Index(p, "_git/"); i >= 0 {
		name, folder, _ := strings.Cut(p[i+len("_git/"):], "/")
		return p[:i+len("_git/")] + name, folder
	}
	if repo, folder, ok := strings.Cut(p, "//"); ok {
		return repo, folder
	}
	if i := strings.Index(p, ".git"); i >= 0 {
		return p[:i+len(".git")], p[i+len(".git"):]
	}
	if all {
		return p, ""
	}
	parts := strings.SplitN(p, "/", 3)
	switch len(parts) {
	case 3:
		return parts[0] + "/" + parts[1], parts[2]
	case 2:
		return p, ""
	}
	return "", ""
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// remoteFile reports whether an entry is a single file on a web server. Kustomize sends a request
// to find out. Here the name decides, so that nothing is fetched just to decide what to fetch: a
// file has the extension .yaml, .yml or .json, or cannot be a repository.
func remoteFile(entry string) bool {
	u, err := url.Parse(entry)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return false
	}
	if strings.Contains(u.Path, "//") || strings.Contains(u.Path, "_git/") {
		return false
	}
	_, repo := parseRepository(entry)
	return yamlSuffix.MatchString(u.Path) || !repo
}

// uri returns the URI of the repository as a material, without credentials.
func (r repository) uri() string {
	clone := r.clone
	if _, _, ok := strings.Cut(clone, "://"); !ok {
		clone = "ssh://" + strings.Replace(clone, ":", "/", 1)
	}
	if u, err := url.Parse(clone); err == nil {
		if u.Scheme != "ssh" {
			u.User = nil
		}
		clone = u.String()
	}
	return "git+" + clone + "@" + r.ref
}
