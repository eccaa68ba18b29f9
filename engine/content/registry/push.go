// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
)

const blobType = "application/octet-stream"

// How a blob came into a repository.
type How string

// The ways.
const (
	Existing How = "existing" // it was there
	Mounted  How = "mounted"  // the registry took it from another repository
	Streamed How = "streamed" // its bytes were sent
)

// PushManifest writes a manifest, by its digest or, with a tag, under both. What
// it refers to must be there.
func (r *Repository) PushManifest(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) error {
	_, err := r.pushManifest(ctx, desc, data, tag)
	return err
}

// pushManifest says as well whether the registry took note of the manifest's subject.
func (r *Repository) pushManifest(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) (registered bool, err error) {
	ref, at := r.Ref(desc.Digest.String()), desc.Digest.String()
	if tag != "" {
		ref, at = r.name+":"+tag+"@"+at, tag
	}
	if desc.MediaType == "" || !IsManifest(desc.MediaType) && !MayBeManifest(desc.MediaType) || desc.Size != int64(len(data)) || desc.Size > MaxManifest {
		return false, r.explain(ctx, "push", ref, fmt.Errorf("%d bytes of type %q, announced with %d, are no manifest: %w",
			len(data), desc.MediaType, desc.Size, errdefs.ErrInvalidArgument))
	}
	if err = errors.Join(descriptor.Check(desc), r.checkTag(tag)); err == nil {
		registered, err = r.putManifest(ctx, at, desc, data)
	}
	if err != nil {
		err = r.immutable(ctx, at, desc, err)
	}
	if err != nil {
		return false, refusal(r.explain(ctx, "push", ref, err), ref, desc, data)
	}
	r.client.cache.put(r.name, desc, data)
	return registered, nil
}

func (r *Repository) putManifest(ctx context.Context, at string, desc ocispec.Descriptor, data []byte) (registered bool, err error) {
	resp, err := r.do(ctx, request{
		method: http.MethodPut, path: "/manifests/" + at, mediaType: desc.MediaType, body: data, wanted: stores,
	})
	if err != nil {
		return false, err
	}
	defer drain(resp)
	there, err := stored(resp, desc)
	if err != nil {
		return false, err
	}
	if !there {
		if found, err := r.headManifest(ctx, docker.HostCapabilityPush, at); err != nil || found != desc.Digest {
			return false, notStored(resp)
		}
	}
	return resp.Header.Get("OCI-Subject") != "", nil
}

// refuses reports whether a registry refused what it was sent. It may have it already, and
// not take it again.
func refuses(err error) (status remoteerrors.ErrUnexpectedStatus, ok bool) {
	status, ok = errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	return status, ok && status.StatusCode < http.StatusInternalServerError &&
		status.StatusCode != http.StatusUnauthorized && status.StatusCode != http.StatusNotFound
}

// immutable tells why a tag or digest was not written: registries refuse in many ways to
// move a tag, and to write again what is there already, which is not a failure.
func (r *Repository) immutable(ctx context.Context, at string, desc ocispec.Descriptor, err error) error {
	status, ok := refuses(err)
	if !ok {
		return err
	}
	found, failed := r.headManifest(ctx, docker.HostCapabilityPush, at)
	switch {
	case failed != nil:
		return err
	case found == desc.Digest:
		return nil
	case isDigest(at):
		return err
	case status.StatusCode == http.StatusConflict, status.StatusCode == http.StatusPreconditionFailed, immutability.Match(status.Body):
		return &tagError{found: found, cause: err}
	}
	return err
}

var immutability = regexp.MustCompile(`(?i)immutab|overwrit|already[ _]exist|does not allow updat|cannot be (changed|moved|updated|replaced)|\b(locked|protected) tag|\btag is (locked|protected)|writeEnabled|disallowed operation|operation is disallowed`)

// tagError is a tag that the registry does not move.
type tagError struct {
	found digest.Digest
	cause error
}

func (e *tagError) Error() string {
	return fmt.Sprintf("the tag leads to %s, and the registry does not move it", e.found)
}

func (e *tagError) Unwrap() error { return e.cause }

// stores are the statuses of an answer to what is to be stored. The specification says
// 201. Registries say others as well, and so does what is none.
var stores = []int{http.StatusCreated, http.StatusOK, http.StatusAccepted, http.StatusNoContent}

// stored reports whether a registry has what it was sent, as far as it says: with
// another status than 201 it is to name the digest.
func stored(resp *http.Response, desc ocispec.Descriptor) (bool, error) {
	said := digest.Digest(resp.Header.Get(contentDigest))
	if said.Validate() != nil || said.Algorithm() != desc.Digest.Algorithm() {
		return resp.StatusCode == http.StatusCreated, nil
	}
	if said != desc.Digest {
		return false, fmt.Errorf("keeps it as %s: %w", said, errdefs.ErrDataLoss)
	}
	return true, nil
}

// notStored is the error of an answer that does not tell that something is stored.
func notStored(resp *http.Response) error {
	return &answerError{host: resp.Request.URL.Host, method: resp.Request.Method, status: resp.Status, wanted: []string{"201 Created"}}
}

// checkDigest is for what becomes part of a path.
func checkDigest(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// checkTag is too: tags come from annotations that a stranger wrote.
func (r *Repository) checkTag(tag string) error {
	if tag == "" {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(r.name)
	if err == nil {
		_, err = reference.WithTag(named, tag)
	}
	if err != nil {
		return fmt.Errorf("tag %q: %w: %w", tag, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// PushBlob writes a blob whose bytes open gives from the start, each time it is
// called: a second time when the registry broke off. What is there is not sent. Small
// blobs are read into memory, and are not asked for first, as sending them costs less.
func (r *Repository) PushBlob(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) (How, error) {
	if err := descriptor.Check(desc); err != nil {
		return "", r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
	}
	if desc.Size > maxBuffered {
		return r.pushLarge(ctx, desc, open)
	}
	if err := r.client.buffers.Acquire(ctx, desc.Size); err != nil {
		return "", context.Cause(ctx)
	}
	defer r.client.buffers.Release(desc.Size)
	data, err := r.client.readAll(ctx, desc, open)
	if err != nil {
		return "", r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
	}
	return r.pushSmall(ctx, desc, data)
}

// PushBytes writes a small blob from memory. It sends one request where the host is known
// to take a blob that way, and else the two of an upload; unlike [Repository.PushBlob] it
// does not try which it is, so that it never takes three.
func (r *Repository) PushBytes(ctx context.Context, desc ocispec.Descriptor, data []byte) error {
	err := descriptor.Check(desc)
	if err == nil && (desc.Size != int64(len(data)) || desc.Digest != desc.Digest.Algorithm().FromBytes(data)) {
		err = fmt.Errorf("%d bytes are not what the descriptor says: %w", len(data), errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
	}
	_, err = r.pushKnown(ctx, desc, data, r.client.host(r.endpoint()).takesPosts(), func(verdict, bool) {})
	return err
}

// pushLarge streams a blob that is not there.
func (r *Repository) pushLarge(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) (How, error) {
	there, err := r.Exists(ctx, ocispec.Descriptor{MediaType: blobType, Digest: desc.Digest, Size: desc.Size})
	if err != nil {
		return "", err
	}
	if there {
		return Existing, nil
	}
	err = r.client.retry(ctx, func() error {
		// Nothing is begun that there are no bytes for.
		bytes, err := newStream(open, desc.Size)
		if err != nil {
			return err
		}
		defer bytes.close()
		err = r.send(ctx, desc, request{stream: bytes})
		if failed := bytes.failed(); failed != nil && err != nil {
			return failed
		}
		return err
	})
	return Streamed, r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
}

// pushSmall sends a blob with one request where the registry takes that, which the
// first one finds out, and else with two.
func (r *Repository) pushSmall(ctx context.Context, desc ocispec.Descriptor, data []byte) (How, error) {
	host := r.client.host(r.endpoint())
	whole := host.mayPost()
	return r.pushKnown(ctx, desc, data, whole, func(said verdict, sent bool) {
		if whole {
			host.posted(said, sent)
		}
	})
}

// pushKnown sends a blob whole first, where that is wanted, and reports what the registry
// said to that.
func (r *Repository) pushKnown(ctx context.Context, desc ocispec.Descriptor, data []byte, whole bool, report func(said verdict, sent bool)) (How, error) {
	said, next := undecided, whole
	err := r.client.retry(ctx, func() (err error) {
		if next {
			next = false // whatever fails, it is not for this again
			if said, err = r.post(ctx, desc, data); said == taken || err != nil {
				return err
			}
		}
		return r.send(ctx, desc, request{body: data})
	})
	report(said, err == nil)
	return Streamed, r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
}

// send writes the bytes of a blob with the two requests of an upload. put is the second
// one, as far as its body.
func (r *Repository) send(ctx context.Context, desc ocispec.Descriptor, put request) error {
	if err := descriptor.Check(desc); err != nil {
		return err
	}
	resp, err := r.do(ctx, request{method: http.MethodPost, path: "/blobs/uploads/", wanted: begins})
	if err != nil {
		return err
	}
	drain(resp)
	put.method, put.mediaType, put.wanted = http.MethodPut, blobType, stores
	put.query = url.Values{"digest": {desc.Digest.String()}}
	if put.at, err = uploadLocation(resp); err != nil {
		return err
	}
	if resp, err = r.do(ctx, put); err != nil {
		if _, ok := refuses(err); ok {
			if there, failed := r.headBlob(ctx, docker.HostCapabilityPush, desc); failed == nil && there {
				return nil
			}
		}
		return lost(err)
	}
	defer drain(resp)
	there, err := stored(resp, desc)
	if err == nil && !there {
		there, err = r.headBlob(ctx, docker.HostCapabilityPush, desc)
		if err != nil || !there {
			return notStored(resp)
		}
	}
	return err
}

// begins are the statuses of an upload that began. The specification says 202.
var begins = []int{http.StatusAccepted, http.StatusOK, http.StatusCreated, http.StatusNoContent}

// uploadLocation is where an upload goes on: a reference relative to what answered
// (RFC 9110, 10.2.2), with a query that is to be kept.
func uploadLocation(resp *http.Response) (*url.URL, error) {
	text, from := resp.Header.Get("Location"), resp.Request.URL
	if text == "" {
		return nil, fmt.Errorf("answers POST with %s, and without the Location of the upload: %w", resp.Status, errdefs.ErrInvalidArgument)
	}
	to, ok := location(from, text)
	if !ok {
		return nil, fmt.Errorf("sends the upload to %q, which is not a URL to go to: %w", cleanLocation(text), errdefs.ErrInvalidArgument)
	}
	return to, nil
}

// location is where a registry says to go on, relative to what was asked. It returns false
// if that is not a URL of a registry.
func location(from *url.URL, text string) (*url.URL, bool) {
	to, err := from.Parse(text)
	if err != nil || to.Opaque != "" {
		// Some leave out the scheme, and what is left, HOST:PORT/PATH, is not a reference.
		to, err = url.Parse(from.Scheme + "://" + text)
	}
	if err != nil || to.Hostname() == "" || to.Scheme != "http" && to.Scheme != "https" {
		return nil, false
	}
	to.Fragment, to.RawFragment, to.User = "", "", nil
	if from.Scheme == "https" && to.Scheme == "http" && to.Hostname() == from.Hostname() && (to.Port() == "" || to.Port() == from.Port()) {
		// What is behind a proxy that speaks TLS for it often does not know.
		to.Scheme, to.Host = from.Scheme, from.Host
	}
	return to, true
}

// lost makes an upload that the registry no longer knows one to begin again: another of
// its machines may have begun it.
func lost(err error) error {
	status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	if ok && status.StatusCode == http.StatusNotFound && strings.Contains(string(status.Body), "BLOB_UPLOAD_UNKNOWN") {
		return &requestError{
			method: status.RequestMethod, host: hostOf(status.RequestURL), path: pathOf(status.RequestURL), status: status.StatusCode,
			message: status.Status + ": it lost the upload", worth: fewTries, tried: 1, again: true,
		}
	}
	return err
}

// post sends a blob with the request that else only announces it. Registries need
// not take that (distribution specification, "Single POST"), and say so by beginning
// an upload. That one is left alone: some of the bytes may be in it.
func (r *Repository) post(ctx context.Context, desc ocispec.Descriptor, data []byte) (verdict, error) {
	if err := descriptor.Check(desc); err != nil {
		return undecided, err
	}
	resp, err := r.do(ctx, request{
		method: http.MethodPost, path: "/blobs/uploads/", query: url.Values{"digest": {desc.Digest.String()}},
		mediaType: blobType, body: data, wanted: []int{http.StatusCreated},
	})
	if status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok {
		switch status.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden: // it may be what is minded, or who sends it
			return undecided, nil
		}
		return refused, nil
	}
	if _, ok := errors.AsType[*answerError](err); ok {
		return refused, nil
	}
	if err != nil {
		return undecided, err
	}
	defer drain(resp)
	if there, err := stored(resp, desc); err != nil || !there {
		return refused, nil
	}
	return taken, nil
}

// verdict is whether a registry takes blobs with one request.
type verdict int

const (
	undecided verdict = iota
	asking            // somebody finds out
	refused
	taken
)

// mount has the registry take a blob from another of its repositories. False says
// that it does not, which is remembered: it may not know how, or not be allowed to.
func (r *Repository) mount(ctx context.Context, desc ocispec.Descriptor, from *Repository) (bool, error) {
	if desc.Digest.Validate() != nil || r.client.known(r.client.noMounts, from.name) {
		return false, nil
	}
	resp, err := r.do(ctx, request{
		method: http.MethodPost, path: "/blobs/uploads/", query: url.Values{"mount": {desc.Digest.String()}, "from": {from.path}},
		pulls: from.path, wanted: []int{http.StatusCreated},
	})
	if err == nil {
		defer drain(resp)
		there, err := stored(resp, desc)
		if err == nil && there {
			return true, nil
		}
	}
	_, answered := errors.AsType[*answerError](err)
	_, status := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	if err == nil || answered || status || errors.Is(err, docker.ErrInvalidAuthorization) {
		// What it began instead is left alone: where the bytes come from is to be
		// known first.
		r.client.remember(r.client.noMounts, from.name)
		return false, nil
	}
	return false, r.explain(ctx, "mount", r.Ref(desc.Digest.String()), err)
}
