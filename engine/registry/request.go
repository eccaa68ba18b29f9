// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
)

// maxChallenges is how often one request is sent again with what the registry asked
// for: the second time, the token that it had has expired.
const maxChallenges = 2

// request is a small one to the host that takes pushes. containerd's pusher asks, and
// makes a stream, for each of them; it is for what does not fit into one.
type request struct {
	method    string
	path      string // below the repository's: /manifests/v1
	query     url.Values
	mediaType string // of the body
	body      []byte
	// pulls is another repository that is read by the way.
	pulls string
}

// do sends a request about the repository, again when it has to be authorized. The
// answer is for the caller to drain.
func (r *Repository) do(ctx context.Context, ask request) (*http.Response, error) {
	host, err := r.pushHost()
	if err != nil {
		return nil, err
	}
	ctx = docker.WithScope(r.client.context(ctx, call{}), "repository:"+r.path+":pull,push")
	if ask.pulls != "" {
		ctx = docker.ContextWithAppendPullRepositoryScope(ctx, ask.pulls)
	}
	var answers []*http.Response
	for {
		req, err := ask.to(ctx, r, host)
		if err != nil {
			return nil, err
		}
		if err := host.Authorizer.Authorize(ctx, req); err != nil {
			return nil, err
		}
		resp, err := host.Client.Do(req)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || len(answers) == maxChallenges {
			return resp, err
		}
		answers = append(answers, resp)
		err = host.Authorizer.AddResponses(ctx, answers)
		if errdefs.IsNotImplemented(err) {
			return resp, nil // it says no more than that
		}
		drain(resp)
		if err != nil {
			return nil, err
		}
	}
}

func (ask request) to(ctx context.Context, r *Repository, host docker.RegistryHost) (*http.Request, error) {
	query := url.Values{}
	for key, values := range ask.query {
		query[key] = values
	}
	if host.Host != r.host && (r.host != hubName || host.Host != hubHost) {
		query.Set("ns", r.host) // it stands for the registry: containerd's hosts.toml
	}
	to := url.URL{Scheme: host.Scheme, Host: host.Host, Path: host.Path + "/" + r.path + ask.path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, ask.method, to.String(), bytes.NewReader(ask.body))
	if err != nil {
		return nil, err
	}
	req.Header = r.client.header()
	for key, values := range host.Header {
		req.Header[key] = append(req.Header[key], values...)
	}
	if ask.mediaType != "" {
		req.Header.Set("Content-Type", ask.mediaType)
	}
	return req, nil
}

// pushHost is the host that takes pushes.
func (r *Repository) pushHost() (docker.RegistryHost, error) {
	hosts, err := r.hosts(r.host)
	if err != nil {
		return docker.RegistryHost{}, err
	}
	for _, h := range hosts {
		if h.Capabilities.Has(docker.HostCapabilityPush) {
			return h, nil
		}
	}
	return docker.RegistryHost{}, errNoPushHost
}

var errNoPushHost = errors.New("hosts.toml names no host that takes pushes")

// drain ends an answer, and keeps its connection if there is little left to read.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrained)
	resp.Body.Close()
}

// refuse makes an error of an answer that is none of those wanted.
func refuse(resp *http.Response, wanted ...int) error {
	if slices.Contains(wanted, resp.StatusCode) {
		return nil
	}
	return remoteerrors.NewUnexpectedStatusErr(resp)
}
