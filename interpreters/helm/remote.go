// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"
	"sigs.k8s.io/yaml"

	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/plugins/registries"
)

// remote accesses registries and web servers. It accesses registries as tape does: through
// containerd's hosts.toml, with the credentials of `helm registry login` or `docker login`.
// It is set up when first needed: most charts need nothing remote.
type remote struct {
	how          interpreter.Registries
	login        func(host string) (user, secret string, err error)
	hosts        map[string][]docker.RegistryHost // by registry, as configured
	client       *http.Client
	transports   []*http.Transport
	repositories []repositoryEntry // nil until read
}

// repositoryEntry is a repository that was added with `helm repo add`.
type repositoryEntry struct {
	Name     string `json:"name"`
	URL      string `json:"url"`
	Username string `json:"username"`
	Password string `json:"password"`
	// PassCredentialsAll sends the credentials also to packages on other hosts.
	PassCredentialsAll bool `json:"pass_credentials_all"`
}

func (r *remote) Close() {
	for _, t := range r.transports {
		t.CloseIdleConnections()
	}
}

// web returns the client for servers that are not registries.
func (r *remote) web() (*http.Client, error) {
	if r.client == nil {
		tlsConfig, err := registries.TLS(&r.how)
		if err != nil {
			return nil, err
		}
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = tlsConfig
		r.client = &http.Client{Transport: r.retrying(t)}
	}
	return r.client, nil
}

// retrying returns a transport that retries requests when a server is overloaded.
func (r *remote) retrying(t http.RoundTripper) http.RoundTripper {
	if t, ok := t.(*http.Transport); ok {
		r.transports = append(r.transports, t)
	}
	return retry.NewTransport(t)
}

// get reads a URL with the credentials in the URL or of the repository that covers it.
func (r *remote) get(ctx context.Context, u *url.URL, limit int64) ([]byte, error) {
	client, err := r.web()
	if err != nil {
		return nil, err
	}
	plain := *u
	plain.User = nil
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, plain.String(), nil)
	if err != nil {
		return nil, err
	}
	if u.User != nil {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	} else {
		entry, err := r.repository(func(e repositoryEntry) bool { return e.covers(u) })
		if err != nil {
			return nil, err
		}
		if entry.Username != "" {
			req.SetBasicAuth(entry.Username, entry.Password)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, reason(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s returned %s", u.Host, statusText(resp.StatusCode))
	}
	return read(ctx, resp.Body, limit)
}

// covers reports whether the credentials of the repository apply to a URL.
func (e repositoryEntry) covers(u *url.URL) bool {
	base, err := url.Parse(e.URL)
	if err != nil || base.Scheme != u.Scheme || base.Host != u.Host {
		return false
	}
	return e.PassCredentialsAll || strings.HasPrefix(u.Path, base.Path)
}

// repository returns the first matching repository of Helm's configuration, or the zero
// value.
func (r *remote) repository(match func(repositoryEntry) bool) (repositoryEntry, error) {
	if r.repositories == nil {
		file, err := helmConfig("HELM_REPOSITORY_CONFIG", "repositories.yaml")
		if err != nil {
			return repositoryEntry{}, nil
		}
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return repositoryEntry{}, fmt.Errorf("read helm's list of repositories: %w", err)
		}
		var list struct {
			Repositories []repositoryEntry `json:"repositories"`
		}
		if err := yaml.Unmarshal(data, &list); err != nil {
			return repositoryEntry{}, fmt.Errorf("read helm's list of repositories, %s: %w", file, err)
		}
		r.repositories = append([]repositoryEntry{}, list.Repositories...)
	}
	if i := slices.IndexFunc(r.repositories, match); i >= 0 {
		return r.repositories[i], nil
	}
	return repositoryEntry{}, nil
}

// helmConfig returns the path of a file of Helm's configuration.
func helmConfig(variable, name string) (string, error) {
	if file := os.Getenv(variable); file != "" {
		return file, nil
	}
	if dir := os.Getenv("HELM_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, name), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "helm", name), nil
}

// manifest fetches a manifest by tag or digest.
func (r *remote) manifest(ctx context.Context, host, repository, ref string) ([]byte, error) {
	need := docker.HostCapabilityResolve
	if _, err := digest.Parse(ref); err == nil {
		need = docker.HostCapabilityPull
	}
	data, _, err := r.registry(ctx, host, need, "/"+repository+"/manifests/"+ref, maxManifest)
	return data, err
}

// blob fetches a blob and verifies its digest.
func (r *remote) blob(ctx context.Context, host, repository string, desc ocispec.Descriptor) ([]byte, error) {
	data, _, err := r.registry(ctx, host, docker.HostCapabilityPull, "/"+repository+"/blobs/"+desc.Digest.String(), desc.Size)
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(data); got != desc.Digest {
		return nil, fmt.Errorf("the registry returned %s instead of %s", got, desc.Digest)
	}
	return data, nil
}

// maxPages limits a list of tags; registries return at least 100 per page.
const maxPages = 1000

// tags lists all tags of a repository.
func (r *remote) tags(ctx context.Context, host, repository string) ([]string, error) {
	var tags []string
	for rest, pages := "/"+repository+"/tags/list", 0; rest != ""; pages++ {
		if pages == maxPages {
			return nil, fmt.Errorf("the list of tags has more than %d pages", pages)
		}
		data, next, err := r.registry(ctx, host, docker.HostCapabilityResolve, rest, maxManifest)
		if err != nil {
			return nil, err
		}
		var page struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(data, &page); err != nil {
			return nil, fmt.Errorf("list of tags: %w", err)
		}
		tags = append(tags, page.Tags...)
		rest = ""
		if next != "" {
			rest = "/" + repository + "/tags/list?" + next
		}
	}
	return tags, nil
}

// registry reads a path below /v2 from the first host of a registry that has the capability and
// the content. Mirrors come first. It also returns the query of the next page of a list.
func (r *remote) registry(ctx context.Context, host string, need docker.HostCapabilities, rest string, limit int64) (data []byte, next string, err error) {
	hosts, err := r.hostsOf(ctx, host)
	if err != nil {
		return nil, "", err
	}
	var failed []string
	for _, h := range hosts {
		if !h.Capabilities.Has(need) {
			continue
		}
		data, next, err := r.ask(ctx, h, host, rest, limit)
		if err == nil || ctx.Err() != nil {
			return data, next, err
		}
		failed = append(failed, err.Error())
	}
	if len(failed) == 0 {
		return nil, "", fmt.Errorf("hosts.toml of %s has no host with the required capability", host)
	}
	return nil, "", errors.New(strings.Join(failed, "; "))
}

// ask requests a path from one host, first without credentials, and then as the host demands.
func (r *remote) ask(ctx context.Context, h docker.RegistryHost, namespace, rest string, limit int64) ([]byte, string, error) {
	u := h.Scheme + "://" + h.Host + h.Path + rest
	if dockerHub := namespace == "docker.io" && h.Host == "registry-1.docker.io"; h.Host != namespace && !dockerHub {
		// ns tells a mirror which registry is meant.
		separator := "?"
		if strings.Contains(rest, "?") {
			separator = "&"
		}
		u += separator + "ns=" + url.QueryEscape(namespace)
	}
	var refused []*http.Response
	for {
		resp, data, err := once(ctx, h, u, limit) //nolint:bodyclose // it has closed the body
		if err != nil {
			return nil, "", err
		}
		switch resp.StatusCode {
		case http.StatusOK:
			return data, nextPage(resp.Header), nil
		case http.StatusUnauthorized:
			refused = append(refused, resp) //nolint:bodyclose // once has closed the body
			if len(refused) < 3 && h.Authorizer.AddResponses(ctx, refused) == nil {
				continue
			}
			fallthrough
		case http.StatusForbidden:
			return nil, "", fmt.Errorf("%s returned %s: log in with `helm registry login %s`", h.Host, statusText(resp.StatusCode), namespace)
		}
		return nil, "", fmt.Errorf("%s returned %s", h.Host, statusText(resp.StatusCode))
	}
}

// once sends a request. The body of the response is closed; it is data if the status is 200.
func once(ctx context.Context, h docker.RegistryHost, u string, limit int64) (resp *http.Response, data []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(req.Header, h.Header)
	req.Header.Set("Accept", ocispec.MediaTypeImageManifest+", application/vnd.docker.distribution.manifest.v2+json, */*")
	if err := h.Authorizer.Authorize(ctx, req); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", h.Host, reason(ctx, err))
	}
	if resp, err = h.Client.Do(req); err != nil {
		return nil, nil, reason(ctx, err)
	}
	defer resp.Body.Close()
	resp.Request = req // the credentials are for this host, not for one that a redirect led to
	if resp.StatusCode == http.StatusOK {
		data, err = read(ctx, resp.Body, limit)
	}
	return resp, data, err
}

func statusText(code int) string { return fmt.Sprintf("%d %s", code, http.StatusText(code)) }

// nextPage returns the query in the Link header: </v2/x/tags/list?last=b&n=2>; rel="next".
func nextPage(h http.Header) string {
	link, _, ok := strings.Cut(strings.TrimPrefix(h.Get("Link"), "<"), ">")
	if !ok {
		return ""
	}
	_, query, _ := strings.Cut(link, "?")
	return query
}

// hostsOf returns the hosts of a registry: its mirrors, then the registry itself.
func (r *remote) hostsOf(ctx context.Context, host string) ([]docker.RegistryHost, error) {
	if hosts, ok := r.hosts[host]; ok {
		return hosts, nil
	}
	if r.login == nil {
		login, err := loginCredentials(ctx)
		if err != nil {
			return nil, err
		}
		r.login, r.hosts = login, map[string][]docker.RegistryHost{}
	}
	hosts, err := registries.Hosts(ctx, &r.how, host, r.login)
	if err != nil {
		return nil, err
	}
	for i, h := range hosts {
		hosts[i].Client = &http.Client{Transport: r.retrying(h.Client.Transport)}
	}
	r.hosts[host] = hosts
	return hosts, nil
}

// loginCredentials returns credentials from the same places as Helm: its own configuration, and
// then that of the Docker CLI.
func loginCredentials(ctx context.Context) (func(host string) (string, string, error), error) {
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("read docker's credentials: %w", err)
	}
	var all credentials.Store = store
	if file, err := helmConfig("HELM_REGISTRY_CONFIG", filepath.Join("registry", "config.json")); err == nil {
		own, err := credentials.NewStore(file, credentials.StoreOptions{})
		if err != nil {
			return nil, fmt.Errorf("read helm's credentials: %w", err)
		}
		all = credentials.NewStoreWithFallbacks(own, store)
	}
	return func(host string) (string, string, error) {
		c, err := all.Get(ctx, credentials.ServerAddressFromHostname(host))
		if err != nil {
			return "", "", fmt.Errorf("credentials of %s: %w", host, err)
		}
		if c.RefreshToken != "" {
			return "", c.RefreshToken, nil
		}
		return c.Username, c.Password, nil
	}, nil
}

// read reads at most limit bytes and fails if there are more.
func read(ctx context.Context, from io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(from, limit+1))
	if err != nil {
		return nil, reason(ctx, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("the response has more than %d bytes", limit)
	}
	return data, nil
}

// reason returns the reason why a request failed, without the URL, which may contain a token and
// which the caller adds.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
