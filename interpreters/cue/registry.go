// SPDX-License-Identifier: Apache-2.0

package cue

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelang.org/go/mod/modcache"
	"cuelang.org/go/mod/modconfig"
	"cuelang.org/go/mod/modregistry"
	"github.com/containerd/containerd/v2/core/remotes/docker"

	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/plugins/registries"
)

// modules fetches modules from registries and records what it fetched. It is set up when the
// first module is requested, because most sources need none.
type modules struct {
	*modconfig.LazyRegistry
	*interpreter.Fetched
	dir  string // the cache, in the scratch folder
	idle []func()
}

func newModules(ctx context.Context, req *interpreter.RenderRequest) *modules {
	m := &modules{dir: filepath.Join(req.Scratch, "modules"), Fetched: interpreter.NewFetched(req.Materials)}
	m.LazyRegistry = &modconfig.LazyRegistry{New: func() (modconfig.CachedRegistry, error) {
		transport, err := m.transport(ctx, req.Registries)
		if err != nil {
			return nil, err
		}
		resolver, err := modconfig.NewResolver(&modconfig.Config{Transport: transport, ClientType: "tape"})
		if err != nil {
			return nil, err
		}
		return modcache.New(modregistry.NewClientWithResolver(noting{resolver, m}), m.dir)
	}}
	return m
}

// cache returns the folder with the unpacked modules, each at path@version.
func (m *modules) cache() string { return filepath.Join(m.dir, "mod", "extract") }

func (m *modules) close() {
	for _, f := range m.idle {
		f()
	}
}

// noting resolves modules to registries that record what is fetched from them.
type noting struct {
	*modconfig.Resolver
	m *modules
}

func (n noting) ResolveToRegistry(path, version string) (modregistry.RegistryLocation, error) {
	location, err := n.Resolver.ResolveToRegistry(path, version)
	if err != nil {
		return location, err
	}
	host, _ := n.ResolveToLocation(path, version)
	location.Registry = notedRegistry{location.Registry, host.Host, n.m}
	return location, nil
}

// notedRegistry is a registry of modules. A locked tag is read by its digest, wherever the
// tag points now.
type notedRegistry struct {
	ociregistry.Interface
	host string
	m    *modules
}

func (r notedRegistry) GetTag(ctx context.Context, repository, tag string) (ociregistry.BlobReader, error) {
	uri := "oci://" + r.host + "/" + repository + ":" + tag
	var manifest ociregistry.BlobReader
	var err error
	if locked := r.m.Locked(uri); locked != "" {
		if manifest, err = r.GetManifest(ctx, repository, ociregistry.Digest(locked)); err != nil {
			// The error is not wrapped, because CUE would look elsewhere for a module that is not
			// found.
			return nil, fmt.Errorf("%s as locked (%s): %s", uri, locked, err.Error())
		}
	} else if manifest, err = r.Interface.GetTag(ctx, repository, tag); err != nil {
		return nil, err
	}
	return manifest, r.m.Record(uri, string(manifest.Descriptor().Digest))
}

// roundTripper is a transport that is a function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// transport accesses registries like tape: with its CA file, without TLS if so configured, and
// through the mirrors of hosts.toml. Requests end with ctx, because the loader of CUE does not
// pass on a context.
func (m *modules) transport(ctx context.Context, how *interpreter.Registries) (http.RoundTripper, error) {
	how = cmp.Or(how, &interpreter.Registries{})
	tlsConfig, err := registries.TLS(how)
	if err != nil {
		return nil, err
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.TLSClientConfig = tlsConfig
	m.idle = append(m.idle, base.CloseIdleConnections)
	direct := func(req *http.Request) (*http.Response, error) {
		if slices.Contains(how.PlainHTTP, req.URL.Host) {
			req = req.Clone(req.Context())
			req.URL.Scheme = "http"
		}
		return base.RoundTrip(req)
	}
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.Context().Done() == nil {
			req = req.WithContext(ctx)
		}
		if rest, ok := strings.CutPrefix(req.URL.Path, "/v2"); ok && how.HostsDir != "" && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
			hosts, err := registries.Hosts(ctx, how, req.URL.Host, nil)
			if err != nil {
				return nil, err
			}
			for _, h := range hosts {
				if resp := askMirror(req, h, rest); resp != nil {
					return resp, nil
				}
			}
		}
		return direct(req)
	}), nil
}

// askMirror requests content of a registry from a mirror, without the credentials for the
// registry. It returns nil if the mirror does not serve it.
func askMirror(req *http.Request, h docker.RegistryHost, rest string) *http.Response {
	if h.Host == req.URL.Host || !h.Capabilities.Has(docker.HostCapabilityPull) {
		return nil
	}
	if strings.Contains(rest, "/manifests/") && !strings.Contains(rest, "/manifests/sha256:") && !h.Capabilities.Has(docker.HostCapabilityResolve) {
		return nil
	}
	there := req.Clone(req.Context())
	there.Host = ""
	there.Header.Del("Authorization")
	maps.Copy(there.Header, h.Header)
	query := req.URL.Query()
	query.Set("ns", req.URL.Host)
	there.URL = &url.URL{Scheme: h.Scheme, Host: h.Host, Path: h.Path + rest, RawQuery: query.Encode()}
	there.RequestURI = ""
	resp, err := h.Client.Do(there)
	if err != nil {
		return nil
	}
	if resp.StatusCode >= http.StatusBadRequest {
		resp.Body.Close()
		return nil
	}
	return resp
}
