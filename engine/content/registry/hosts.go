// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"

	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/internal/hoststoml"
)

// registryHosts returns the hosts of a registry, mirrors first. They are kept, with their
// connections and tokens.
func (c *Client) registryHosts(registry string, source bool) (hosts []docker.RegistryHost, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := fmt.Sprintf("%t %s", source, registry)
	hosts, ok := c.registries[key]
	if !ok {
		if hosts, err = c.configure(registry, source); err == nil {
			c.registries[key] = hosts
		}
	}
	return hosts, err
}

func (c *Client) configure(registry string, source bool) ([]docker.RegistryHost, error) {
	hosts, err := hoststoml.Hosts(context.Background(), registry, hoststoml.Options{
		Dir: c.options.HostsDir, Own: !source, PlainHTTP: c.options.PlainHTTP, Update: c.updateClient,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	for i, host := range hosts {
		tries := maxTries
		if i < len(hosts)-1 {
			tries = mirrorTries
		}
		// Several hosts may share a client: each gets its own, and so does their token server.
		base := host.Client.Transport
		if host.Scheme == "https" && docker.IsLocalhost(host.Host) {
			base = &firstAlone{base: base}
		}
		hosts[i].Client = &http.Client{Transport: &transport{client: c, base: base, tries: tries}}
		hosts[i].Header = canonical(host.Header)
		tokens := &http.Client{Transport: &transport{client: c, base: base, tries: maxTries, tokens: true}, CheckRedirect: stay}
		authorizer := &authorizer{
			client: tokens, header: c.header(), credentials: c.credentials, clear: c.clear, origins: map[string]*authority{},
		}
		hosts[i].Authorizer = authorizer
		hosts[i].Client.CheckRedirect = follow(authorizer, hosts[i].Header)
		if host.Host == registry || registry == hubName && host.Host == hubHost {
			// A host that may be used for pulling and resolving may be asked for referrers:
			// hosts.toml has had that capability only since containerd 2.1.
			if host.Capabilities.Has(docker.HostCapabilityPull | docker.HostCapabilityResolve) {
				hosts[i].Capabilities |= docker.HostCapabilityReferrers
			}
		}
	}
	return hosts, nil
}

// canonical returns headers under the names that net/http uses. containerd keeps them as
// written in hosts.toml, and one in lower case could not be removed later.
func canonical(header http.Header) http.Header {
	out := http.Header{}
	for name, values := range header {
		for _, value := range values {
			out.Add(name, value)
		}
	}
	return out
}

// maxRedirects bounds the redirections of a request.
const maxRedirects = 10

// follow lets a request follow a redirection, with the authorization for the new host. Headers
// for the redirecting host, such as those in its hosts.toml, are not sent. If the redirection
// would change the request, such as a PUT to a GET, it is returned as the answer.
func follow(authorizer docker.Authorizer, own http.Header) func(req *http.Request, via []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if req.Method != via[0].Method {
			return http.ErrUseLastResponse
		}
		if len(via) >= maxRedirects {
			return fmt.Errorf("stopped after %d redirects", maxRedirects)
		}
		if !reachable(req.URL) {
			return fmt.Errorf("redirects to %q, which is not a URL to go to: %w", cleanText(req.URL.String()), errdefs.ErrInvalidArgument)
		}
		if origin(req.URL) != origin(via[0].URL) {
			for name := range own {
				req.Header.Del(name)
			}
			req.Header.Del("Authorization")
			req.Header.Del("Cookie")
		}
		return authorizer.Authorize(req.Context(), req)
	}
}

// stay follows the redirections of a token server only within the same origin, because others
// would get the password.
func stay(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	if origin(req.URL) != origin(via[0].URL) {
		return &authError{host: via[0].URL.Host, reason: "the token server sends on to " + req.URL.Host + ", which is not asked", refused: true, hint: hint{text: operatorHint}}
	}
	return nil
}

// clear reports whether credentials may be sent to a host without TLS.
func (c *Client) clear(host string) bool {
	return slices.Contains(c.options.PlainHTTP, host)
}

func (c *Client) header() http.Header {
	return http.Header{"User-Agent": {"tape"}}
}

// updateClient is called with every transport that containerd makes, and again with the copy
// for a host with settings of its own.
func (c *Client) updateClient(client *http.Client) error {
	base, ok := client.Transport.(*http.Transport)
	if !ok {
		return fmt.Errorf("transport is %T", client.Transport)
	}
	base.MaxIdleConns = 0
	base.MaxIdleConnsPerHost = max(atonce.Requests, c.options.Concurrency)
	base.ResponseHeaderTimeout = 0 // the watch of the transport has better information
	if base.TLSClientConfig.RootCAs == nil {
		base.TLSClientConfig.RootCAs = c.roots()
	}
	if c.options.DialContext != nil {
		base.DialContext = c.options.DialContext
	}
	return nil
}

// Transport returns the transport for services that are not registries, with the proxies of the
// environment and the certificates that the client trusts.
func (c *Client) Transport() *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, DialContext: c.options.DialContext,
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 30 * time.Second,
		TLSClientConfig: &tls.Config{RootCAs: c.roots(), MinVersion: tls.VersionTLS12},
	}
}

// firstAlone sends one request before all others. It finds out, in containerd's transport,
// whether a registry on the loopback uses TLS or plain http.
type firstAlone struct {
	base  http.RoundTripper
	first sync.Once
}

// RoundTrip implements [http.RoundTripper].
func (f *firstAlone) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	gone := false
	f.first.Do(func() {
		gone = true
		resp, err = f.base.RoundTrip(req) //nolint:bodyclose // who gets it closes it
	})
	if gone {
		return resp, err
	}
	return f.base.RoundTrip(req)
}

// roots returns the certificates to trust; nil is the system's. It returns a copy, because
// containerd adds those of a hosts.toml.
func (c *Client) roots() *x509.CertPool {
	if c.trust == nil {
		return nil
	}
	return c.trust.Clone()
}
