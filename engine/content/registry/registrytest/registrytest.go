// SPDX-License-Identifier: Apache-2.0

// Package registrytest has registries for tests and benchmarks, in the process
// and without a network:
//
//   - [Upstream] generates an image for every repository and tag that is
//     requested, always the same for the same name, with BuildKit attestations,
//     cosign tags and referrers. With a hosts folder ([WriteHosts],
//     [WriteMirror]) it replaces every registry, so that applications are
//     packaged under their real names.
//   - [Distribution] and [GGCR] are the two registries that everything is
//     tested with: one without the referrers API, one with it.
//   - [Count], [Delay], [Fault], [Basic], [Bearer], [Reject] and [NoReferrers]
//     wrap any of these to observe it or to make it misbehave.
//
// Everything is an [http.Handler]; [Serve] serves one on a loopback port.
package registrytest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Serve serves h on a loopback port until the test ends, and returns
// 127.0.0.1:PORT, the name of the registry in references.
func Serve(tb testing.TB, h http.Handler) string {
	tb.Helper()
	server := httptest.NewServer(h)
	tb.Cleanup(func() {
		// A handler that hangs on purpose ends with its connection.
		server.CloseClientConnections()
		server.Close()
	})
	return strings.TrimPrefix(server.URL, "http://")
}

// Unreachable returns a loopback host:port that refuses connections.
func Unreachable(tb testing.TB) string {
	tb.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	return strings.TrimPrefix(server.URL, "http://")
}

// WriteHosts writes a containerd hosts folder in which the registry at addr
// (host:port, plain http) replaces host: a registry as in references, or
// "_default" for every registry.
func WriteHosts(dir, host, addr string) error {
	return writeHosts(dir, host, fmt.Sprintf("server = %q\n", "http://"+addr))
}

// WriteMirror writes a containerd hosts folder in which the registry at addr
// (host:port, plain http) is asked before the real host. Capabilities are
// "pull", "resolve", "referrers" and "push", by default the first three.
func WriteMirror(dir, host, addr string, capabilities ...string) error {
	if len(capabilities) == 0 {
		capabilities = []string{"pull", "resolve", "referrers"}
	}
	return writeHosts(dir, host, fmt.Sprintf("[host.%q]\n  capabilities = [\"%s\"]\n",
		"http://"+addr, strings.Join(capabilities, `", "`)))
}

func writeHosts(dir, host, content string) error {
	// In containerd's names of folders, host:port is host_port_.
	if i := strings.LastIndex(host, ":"); i > 0 {
		host = host[:i] + "_" + host[i+1:] + "_"
	}
	if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
		return fmt.Errorf("make hosts folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, "hosts.toml"), []byte(content), 0o644); err != nil {
		return fmt.Errorf("write hosts file: %w", err)
	}
	return nil
}

// Kind is the part of the distribution API that a request uses.
type Kind string

// The kinds.
const (
	Ping      Kind = "ping"
	Manifests Kind = "manifests"
	Blobs     Kind = "blobs"
	Uploads   Kind = "uploads" // of blobs
	Referrers Kind = "referrers"
	Tags      Kind = "tags"
	Token     Kind = "token"
	Other     Kind = "other"
)

// request has the parts of a request of the distribution API.
type request struct {
	kind Kind
	name string // repository, in requests to a mirror (?ns=) with the registry
	ref  string // tag or digest; the rest of the path of an upload
}

// parse splits /v2/<repository>/<kind>/<ref>. The last word that is a kind
// separates the parts, because a repository may be named blobs.
func parse(u *url.URL) request {
	path, ok := strings.CutPrefix(u.Path, "/v2/")
	switch {
	case u.Path == "/token":
		return request{kind: Token}
	case !ok && u.Path != "/v2":
		return request{kind: Other}
	case path == "" || !ok:
		return request{kind: Ping}
	}
	best, at := request{kind: Other}, -1
	for _, p := range []struct {
		kind Kind
		mark string
	}{
		{Manifests, "/manifests/"}, {Blobs, "/blobs/"}, {Uploads, "/blobs/uploads/"},
		{Referrers, "/referrers/"}, {Tags, "/tags/list"},
	} {
		if i := strings.LastIndex(path, p.mark); i >= at && i > 0 {
			best, at = request{kind: p.kind, name: path[:i], ref: path[i+len(p.mark):]}, i
		}
	}
	if ns := u.Query().Get("ns"); ns != "" && best.name != "" {
		best.name = ns + "/" + best.name
	}
	return best
}
