// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// bare copies images with everything that cosign's tags attach to them, with only the necessary
// requests and without verifying what it reads: like a client that knows the images beforehand.
type bare struct {
	client *http.Client
	to     string // repository of the destination
	slots  chan struct{}
}

// bare copies the images, with Jobs concurrent requests.
func (w craneWork) bare() error {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.MaxConnsPerHost = w.Jobs, w.Jobs
	b := &bare{client: &http.Client{Transport: transport}, to: w.To, slots: make(chan struct{}, w.Jobs)}
	var group errgroup.Group
	for i, image := range w.Images {
		group.Go(func() error {
			at := strings.LastIndex(image, ":")
			return b.manifest(image[:at], image[at+1:], fmt.Sprintf("app%d", i))
		})
	}
	return group.Wait()
}

// manifest copies a manifest, and tags it at the destination unless tag is "".
func (b *bare) manifest(from, reference, tag string) error {
	mediaType, data, err := b.get(from + "/manifests/" + reference)
	if err != nil {
		return err
	}
	var m struct {
		Config            *ocispec.Descriptor
		Layers, Manifests []ocispec.Descriptor
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	blobs := m.Layers
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	var group errgroup.Group
	for _, blob := range blobs {
		group.Go(func() error { return b.blob(from, blob) })
	}
	for _, child := range m.Manifests {
		group.Go(func() error { return b.manifest(from, child.Digest.String(), "") })
	}
	dgst := digest.FromBytes(data)
	switch {
	case tag == "":
		tag = dgst.String()
	case !strings.HasSuffix(tag, ".sig"):
		attached := strings.Replace(dgst.String(), ":", "-", 1) + ".sig"
		group.Go(func() error { return b.manifest(from, attached, attached) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	_, err = b.do(http.MethodPut, b.to+"/manifests/"+tag, mediaType, data)
	return err
}

// blob copies a blob in the three requests that every registry supports.
func (b *bare) blob(from string, desc ocispec.Descriptor) error {
	_, data, err := b.get(from + "/blobs/" + desc.Digest.String())
	if err != nil {
		return err
	}
	location, err := b.do(http.MethodPost, b.to+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	_, err = b.do(http.MethodPut, location+"?digest="+desc.Digest.String(), "application/octet-stream", data)
	return err
}

func (b *bare) get(path string) (mediaType string, data []byte, err error) {
	b.slots <- struct{}{}
	defer func() { <-b.slots }()
	resp, err := b.client.Get(address(path))
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	if data, err = io.ReadAll(resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return resp.Header.Get("Content-Type"), data, err
}

// do sends a request, and returns the Location of the response, as a path like the one that it
// was given.
func (b *bare) do(method, path, mediaType string, body []byte) (location string, err error) {
	b.slots <- struct{}{}
	defer func() { <-b.slots }()
	req, err := http.NewRequest(method, address(path), bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := b.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return "", fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	next, err := resp.Location()
	if err != nil {
		return "", nil // most responses have none
	}
	return next.Host + strings.TrimPrefix(next.Path, "/v2"), nil
}

// address returns the URL of HOST/PATH in the API of a registry.
func address(path string) string {
	host, rest, _ := strings.Cut(path, "/")
	return "http://" + host + "/v2/" + rest
}

// stream copies the same bytes without a registry client: it copies the body of each blob of
// each image from one request to the other.
func (w craneWork) stream() error {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = w.Jobs
	b := &bare{client: &http.Client{Transport: transport}, to: w.To, slots: make(chan struct{}, w.Jobs)}
	var group errgroup.Group
	group.SetLimit(w.Jobs)
	for _, blob := range w.Images {
		group.Go(func() error {
			location, err := b.do(http.MethodPost, b.to+"/blobs/uploads/", "", nil)
			if err != nil {
				return err
			}
			resp, err := b.client.Get(address(blob))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			at := strings.LastIndex(blob, "/")
			req, err := http.NewRequest(http.MethodPut, address(location)+"?digest="+blob[at+1:], resp.Body)
			if err != nil {
				return err
			}
			req.ContentLength = resp.ContentLength
			put, err := b.client.Do(req)
			if err != nil {
				return err
			}
			defer put.Body.Close()
			if put.StatusCode != http.StatusCreated {
				return fmt.Errorf("PUT %s: %s", blob, put.Status)
			}
			return nil
		})
	}
	return group.Wait()
}
