// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
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

// How tells how a blob came into a repository.
type How string

// The ways.
const (
	Existing How = "existing" // it was there
	Mounted  How = "mounted"  // the registry took it from another repository
	Streamed How = "streamed" // its bytes were sent
)

// PushManifest writes a manifest by its digest and, if tag is set, under the tag. Everything
// that it refers to must be there.
func (r *Repository) PushManifest(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) error {
	_, err := r.pushManifest(ctx, desc, data, tag)
	return err
}

// pushManifest also reports whether the registry processed the subject of the manifest.
func (r *Repository) pushManifest(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) (registered bool, err error) {
	ref, at := r.Ref(desc.Digest.String()), desc.Digest.String()
	if tag != "" {
		ref, at = r.name+":"+tag+"@"+at, tag
	}
	if desc.MediaType == "" || !descriptor.IsManifest(desc.MediaType) && !MayBeManifest(desc.MediaType) || desc.Size != int64(len(data)) || desc.Size > MaxManifest {
		return false, r.explain(ctx, "push", ref, fmt.Errorf("%d bytes of type %q, announced with %d, are not a manifest: %w",
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

// refuses reports whether a registry refused a request to write. It may already have the
// content, and refuse to write it again.
func refuses(err error) (status remoteerrors.ErrUnexpectedStatus, ok bool) {
	status, ok = errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	return status, ok && status.StatusCode < http.StatusInternalServerError &&
		status.StatusCode != http.StatusUnauthorized && status.StatusCode != http.StatusNotFound
}

// immutable returns why a tag or digest was not written. Registries report in many ways that a
// tag cannot be moved, or that content is already there, which is not a failure.
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

// stores are the statuses of a successful write. The specification requires 201; some
// registries send others, and so do servers that are not registries.
var stores = []int{http.StatusCreated, http.StatusOK, http.StatusAccepted, http.StatusNoContent}

// stored reports whether a registry stored what it was sent. With another status than 201 the
// answer must name the digest.
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

// notStored is the error of an answer that does not confirm that something was stored.
func notStored(resp *http.Response) error {
	return &answerError{host: resp.Request.URL.Host, method: resp.Request.Method, status: resp.Status, wanted: []string{"201 Created"}}
}

// checkDigest guards a digest that becomes part of a path.
func checkDigest(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// checkTag guards a tag that becomes part of a path: tags come from annotations that a stranger
// may have written.
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

// PushBlob writes a blob. Each call of open returns its bytes from the start; it is called
// again if the registry breaks off. A blob that is already there is not sent. Small blobs are
// read into memory and sent without asking first, which costs less.
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

// PushBytes writes a small blob from memory. It sends one request if the host is known to
// accept a blob that way, and otherwise the two of an upload; unlike [Repository.PushBlob] it
// does not find out which, so that it never takes three.
func (r *Repository) PushBytes(ctx context.Context, desc ocispec.Descriptor, data []byte) error {
	err := descriptor.Check(desc)
	if err == nil && (desc.Size != int64(len(data)) || desc.Digest != desc.Digest.Algorithm().FromBytes(data)) {
		err = fmt.Errorf("%d bytes are not what the descriptor says: %w", len(data), errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
	}
	_, err = r.pushKnown(ctx, desc, data, r.client.host(r.endpoint()).takesPosts())
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
		// An upload is not begun before its bytes are at hand.
		body, err := open()
		if err != nil {
			return err
		}
		bytes := &stream{open: open, size: desc.Size, body: body}
		defer bytes.close()
		err = r.send(ctx, desc, request{stream: bytes})
		if failed := bytes.failed(); failed != nil && err != nil {
			return failed
		}
		return err
	})
	return Streamed, r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
}

// pushSmall sends a blob with one request if the registry accepts that, which the first blob
// finds out, and otherwise with two.
func (r *Repository) pushSmall(ctx context.Context, desc ocispec.Descriptor, data []byte) (How, error) {
	host := r.client.host(r.endpoint())
	whole := host.mayPost()
	said, err := r.pushKnown(ctx, desc, data, whole)
	if whole {
		host.posted(said, err == nil)
	}
	return Streamed, err
}

// pushKnown first sends the whole blob, if asked to, and returns the registry's verdict on
// that.
func (r *Repository) pushKnown(ctx context.Context, desc ocispec.Descriptor, data []byte, whole bool) (said verdict, err error) {
	next := whole
	err = r.client.retry(ctx, func() (err error) {
		if next {
			next = false // after any failure this way is not tried again
			if said, err = r.post(ctx, desc, data); said == taken || err != nil {
				return err
			}
		}
		return r.send(ctx, desc, request{body: data})
	})
	return said, r.explain(ctx, "push", r.Ref(desc.Digest.String()), err)
}

// send writes the bytes of a blob with the two requests of an upload. put is the second
// request, apart from its body.
func (r *Repository) send(ctx context.Context, desc ocispec.Descriptor, put request) error {
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

// begins are the statuses of an upload that has begun. The specification requires 202.
var begins = []int{http.StatusAccepted, http.StatusOK, http.StatusCreated, http.StatusNoContent}

// uploadLocation returns where an upload continues: a reference relative to the URL that
// answered (RFC 9110, 10.2.2), whose query must be kept.
func uploadLocation(resp *http.Response) (*url.URL, error) {
	text, from := resp.Header.Get("Location"), resp.Request.URL
	if text == "" {
		return nil, fmt.Errorf("answers POST with %s, and without the Location of the upload: %w", resp.Status, errdefs.ErrInvalidArgument)
	}
	to, ok := location(from, text)
	if !ok {
		return nil, fmt.Errorf("sends the upload to %q, which is not a URL to go to: %w", cleanText(text), errdefs.ErrInvalidArgument)
	}
	return to, nil
}

// location resolves the location in an answer, relative to the request. It returns false if
// that is not the URL of a registry.
func location(from *url.URL, text string) (*url.URL, bool) {
	to, err := from.Parse(text)
	if err != nil || to.Opaque != "" {
		// Some registries omit the scheme, and the rest, HOST:PORT/PATH, is not a valid
		// reference.
		to, err = url.Parse(from.Scheme + "://" + text)
	}
	if err != nil || !reachable(to) {
		return nil, false
	}
	to.Fragment, to.RawFragment, to.User = "", "", nil
	to.RawQuery = strings.ReplaceAll(to.RawQuery, " ", "%20") // the only character that url.Parse accepts and a request does not
	if from.Scheme == "https" && to.Scheme == "http" && to.Hostname() == from.Hostname() && (to.Port() == "" || to.Port() == from.Port()) {
		// A registry behind a proxy that terminates TLS often does not know its scheme.
		to.Scheme, to.Host = from.Scheme, from.Host
	}
	return to, true
}

// reachable reports whether a request can be sent to a URL.
func reachable(to *url.URL) bool {
	_, err := strconv.ParseUint(cmp.Or(to.Port(), "0"), 10, 16)
	return err == nil && to.Hostname() != "" && (to.Scheme == "http" || to.Scheme == "https")
}

// lost turns the error of an upload that the registry no longer knows into one that begins the
// upload again: another of the registry's machines may have begun it.
func lost(err error) error {
	status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	if ok && status.StatusCode == http.StatusNotFound && strings.Contains(string(status.Body), "BLOB_UPLOAD_UNKNOWN") {
		return &requestError{
			method: status.RequestMethod, host: asked(status).Host, path: asked(status).Path, status: status.StatusCode,
			message: status.Status + ": it lost the upload", worth: fewTries, tried: 1, again: true,
		}
	}
	return err
}

// post sends a blob with the request that usually only announces it. Registries need not accept
// that (distribution specification, "Single POST"), and then begin an upload. That upload is
// abandoned, because it may have some of the bytes.
func (r *Repository) post(ctx context.Context, desc ocispec.Descriptor, data []byte) (verdict, error) {
	resp, err := r.do(ctx, request{
		method: http.MethodPost, path: "/blobs/uploads/", query: url.Values{"digest": {desc.Digest.String()}},
		mediaType: blobType, body: data, wanted: []int{http.StatusCreated},
	})
	if status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok {
		switch status.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden: // the registry may object to the method, or to the user
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

// verdict is whether a registry accepts blobs with one request.
type verdict int

const (
	undecided verdict = iota
	asking            // another request finds out
	refused
	taken
)

// mount asks the registry to take a blob from another of its repositories. False means that it
// does not, which is remembered: it may not support mounting, fail at it, or not allow the user
// to. Only a registry that asks to wait is waited for.
func (r *Repository) mount(ctx context.Context, desc ocispec.Descriptor, from *Repository) (bool, error) {
	if _, refuses := r.client.noMounts.Load(from.name); refuses {
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
	failed, _ := errors.AsType[*requestError](err)
	if context.Cause(ctx) != nil || failed != nil && failed.status == http.StatusTooManyRequests {
		return false, r.explain(ctx, "mount", r.Ref(desc.Digest.String()), err)
	}
	// The upload that it began instead is abandoned, because the source of the bytes must be known
	// first. If it cannot be reached at all, the upload fails too.
	r.client.noMounts.Store(from.name, true)
	return false, nil
}
