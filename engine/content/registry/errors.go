// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/descriptor"
)

// Error is a failed operation on a registry.
type Error struct {
	Op        string // "resolve", "fetch", "push", …
	Reference string // repository with tag or digest
	Host      string // the host that failed: of the registry, of a mirror, or one it redirected to; may be ""
	Reason    string
	Hint      string // what to do about it; may be ""

	hint hint // that Hint is the text of

	class   error
	cause   error
	below   error // what a requestError keeps from containerd
	refused bool  // see Refused
}

func (e *Error) Error() string {
	out := e.Op + " " + e.Reference + ": "
	if e.Host != "" {
		out += e.Host + ": "
	}
	out += e.Reason
	if e.Hint != "" {
		out += "; " + e.Hint
	}
	return out
}

// Advice implements [advice.Advised].
func (e *Error) Advice() (a advice.Action, about []any) { return e.hint.action, e.hint.about() }

// hint is advice about an error: an action, which may be about a host, or a fixed text.
type hint struct {
	text   string
	action advice.Action
	host   string
}

// about returns what an action is about: a host or nothing.
func (h hint) about() []any {
	if strings.Contains(string(h.action), "%s") {
		return []any{h.host}
	}
	return nil
}

func (e *Error) advise(h hint) {
	e.hint, e.Hint = h, h.text
	if h.action != "" {
		e.Hint = fmt.Sprintf(string(h.action), h.about()...)
	}
}

// Unwrap returns the class, of github.com/containerd/errdefs, and the causes, such as a
// [net.DNSError].
func (e *Error) Unwrap() []error { return []error{e.class, e.cause, e.below} }

// explain makes an [Error] of an operation on a reference: "name:tag", "name@digest" or the
// name alone.
func (r *Repository) explain(ctx context.Context, op, ref string, err error) error {
	if err == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if found, done := errors.AsType[*Error](err); done {
		// If the error of another request ended this one, containerd's text around it names a
		// request that did not fail.
		if ended, ok := errors.AsType[*Error](cause); ok && ended == found {
			return cause
		}
		return err
	}
	if cause != nil {
		if stalled, ok := errors.AsType[*stalledError](err); ok {
			return fmt.Errorf("%s %s: %w; %s: %w", op, ref, cause, stalled.host, stalled)
		}
		if limited, ok := errors.AsType[*limitedError](err); ok {
			return fmt.Errorf("%s %s: %w; %w", op, ref, cause, limited)
		}
		return fmt.Errorf("%s %s: %w", op, ref, cause)
	}
	out := &Error{Op: op, Reference: ref, class: errdefs.ErrUnknown, cause: err}
	var about hint
	request, isRequest := errors.AsType[*requestError](err)
	status, isStatus := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	auth, isAuth := errors.AsType[*authError](err)
	tag, isTag := errors.AsType[*tagError](err)
	answer, isAnswer := errors.AsType[*answerError](err)
	switch {
	case isRequest:
		out.class, out.Host = errdefs.ErrUnavailable, request.host
		out.below = request.cause
		out.Reason, about = request.message+request.tries(), request.hint
	case isAuth && !isStatus:
		out.Host, out.Reason = auth.host, auth.reason
		about, out.class = r.classify(remoteerrors.ErrUnexpectedStatus{StatusCode: http.StatusUnauthorized})
		if auth.hint != (hint{}) {
			about = auth.hint
		} else if !auth.refused && !r.asks(auth.host) {
			out.Reason, about = redirected+": "+out.Reason, hint{text: operatorHint}
		}
	case isTag:
		out.class, out.Host = errdefs.ErrAlreadyExists, asked(status).Host
		out.Reason = tag.Error() + ": " + said(status)
		out.Hint = "push under another tag"
	case isAnswer:
		out.class, out.Host, out.Reason = errdefs.ErrFailedPrecondition, answer.host, answer.Error()
		out.Hint = "a proxy or a login page may answer in place of the registry"
	case isStatus:
		out.Host = asked(status).Host
		out.Reason = said(status)
		if status.StatusCode == http.StatusNotFound && !writes(op) && !isAuth {
			out.Host, out.Reason = r.host, "not found" // none of its hosts has it
		}
		about, out.class = r.classify(status)
		if isAuth && !errdefs.IsPermissionDenied(out.class) {
			about, out.class = r.classify(remoteerrors.ErrUnexpectedStatus{StatusCode: http.StatusUnauthorized})
		}
		switch {
		case isAuth && auth.hint != (hint{}):
			out.Reason, about = "the token server answers "+out.Reason, auth.hint
		case !isAuth && (errdefs.IsUnauthorized(out.class) || errdefs.IsPermissionDenied(out.class)) && !r.asks(out.Host):
			out.Reason, about = redirected+": "+out.Reason, hint{text: operatorHint}
		}
	case errors.Is(err, docker.ErrInvalidAuthorization):
		out.Host, out.Reason = r.host, "it does not exist or needs credentials"
		about, out.class = r.classify(remoteerrors.ErrUnexpectedStatus{StatusCode: http.StatusUnauthorized})
	case errdefs.IsNotFound(err):
		out.class, out.Host, out.Reason = errdefs.ErrNotFound, r.host, "not found"
	default:
		for _, class := range []error{errdefs.ErrDataLoss, errdefs.ErrInvalidArgument, errdefs.ErrNotImplemented, errdefs.ErrUnavailable} {
			if errors.Is(err, class) {
				out.class = class
			}
		}
		// containerd's text names the request, with a scheme that may not be the one used.
		if sent, ok := errors.AsType[*url.Error](err); ok {
			err = sent.Err
		}
		out.Host, out.Reason = r.host, strings.TrimSuffix(cleanText(err.Error()), ": "+out.class.Error())
	}
	out.advise(about)
	switch {
	case op == "log in to" && about.text == "" && (errors.Is(out.class, errdefs.ErrUnauthenticated) || errors.Is(out.class, errdefs.ErrPermissionDenied)):
		out.Reason, out.Hint = "the user or the password is wrong ("+out.Reason+")", "the stored credentials are unchanged"
	case op == "log in to" && errors.Is(out.class, errdefs.ErrNotFound):
		out.Reason, out.Hint = "it is not a registry: it has no /v2/", "check the name and the port"
	case errors.Is(out.class, errdefs.ErrDataLoss):
		out.Hint = "try again; if it persists, the registry or a proxy in front of it damages what it sends"
	case errors.Is(out.class, errdefs.ErrNotFound) && writes(op):
		out.Hint = "the repository may have to be created there first"
	case errors.Is(out.class, errdefs.ErrNotFound) && strings.Contains(ref, "@"):
		out.Hint = "what names it is not whole there, and must be pushed again"
	case errors.Is(out.class, errdefs.ErrNotFound):
		out.Hint = "check its name and tag"
	case errors.Is(out.class, errdefs.ErrUnavailable) && out.Hint == "":
		out.Hint = "try again later; if it persists, ask the operator of the registry or of a proxy in front of it"
	}
	return out
}

// redirected begins the reason of a host that has no credentials of the registry.
const redirected = "the registry redirects to it, and it refuses"

// asks reports whether a host is one of the registry, as opposed to a storage.
func (r *Repository) asks(host string) bool {
	return slices.ContainsFunc(r.hosts, func(h docker.RegistryHost) bool { return h.Host == host })
}

// writes reports whether an operation writes to a repository.
func writes(op string) bool { return op == "push" || op == "mount" }

// said returns a status with the message of the registry.
func said(status remoteerrors.ErrUnexpectedStatus) string {
	if text := messages(strings.NewReader(string(status.Body))); text != "" {
		return status.Status + ": " + text
	}
	if page := bytes.ToLower(bytes.TrimSpace(status.Body)); bytes.HasPrefix(page, []byte("<!doctype html")) || bytes.HasPrefix(page, []byte("<html")) {
		return status.Status + ", with a web page"
	}
	return status.Status
}

// Refused reports whether a registry does not accept a manifest of this kind: because of its
// type, artifactType, config or subject.
func Refused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.refused
}

// Lost reports whether a registry does not have something that was to be read from it.
func Lost(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Op == "fetch" && errdefs.IsNotFound(e)
}

// refusal explains why a manifest was not accepted: its kind, or something missing that it
// names. The error of another reference that ended this operation is returned unchanged,
// because others read it too.
func refusal(err error, ref string, desc ocispec.Descriptor, data []byte) error {
	found, ok := errors.AsType[*Error](err)
	if !ok || found.Reference != ref {
		return err
	}
	e := *found
	status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](e.cause)
	switch {
	case !ok:
	case errdefs.IsAlreadyExists(e.class):
	case strings.Contains(string(status.Body), "NAME_UNKNOWN"):
	case status.StatusCode == http.StatusNotFound, strings.Contains(string(status.Body), "BLOB_UNKNOWN"):
		e.advise(hint{action: advice.CheckAll})
	case refusesKind(status):
		e.refused = true
		e.Reason = "it does not take " + shape(desc, data) + ": " + e.Reason
	}
	return &e
}

// refusesKind reports whether a status is about the manifest itself: as opposed to its size, its
// tag, or the user.
func refusesKind(status remoteerrors.ErrUnexpectedStatus) bool {
	body := string(status.Body)
	named := strings.Contains(body, "MANIFEST_INVALID") || strings.Contains(body, "UNSUPPORTED")
	switch status.StatusCode {
	case http.StatusUnsupportedMediaType:
		return true
	case http.StatusBadRequest:
		return named || !strings.Contains(body, `"code"`) || strings.Contains(body, `"UNKNOWN"`)
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return named
	}
	return false
}

// shape describes the properties of a manifest that a registry may object to.
func shape(desc ocispec.Descriptor, data []byte) string {
	var m descriptor.Manifest
	_ = json.Unmarshal(data, &m) // if it is not JSON, the registry may object to that
	out := "a manifest of type " + desc.MediaType
	if images.IsIndexType(desc.MediaType) {
		out = "an index, " + desc.MediaType
	}
	var with []string
	if m.ArtifactType != "" {
		with = append(with, "artifactType "+m.ArtifactType)
	}
	switch {
	case m.Config == nil, images.IsConfigType(m.Config.MediaType):
	case m.Config.MediaType == ocispec.MediaTypeEmptyJSON:
		with = append(with, "an empty config")
	default:
		with = append(with, "a config of type "+m.Config.MediaType)
	}
	if m.Subject != nil {
		with = append(with, "a subject")
	}
	if len(with) > 0 {
		out += " with " + strings.Join(with, ", ")
	}
	return out
}

// classify returns the class of a status, and advice about it.
func (r *Repository) classify(status remoteerrors.ErrUnexpectedStatus) (hint, error) {
	switch code := status.StatusCode; {
	case code == http.StatusUnauthorized:
		return hint{action: advice.LogIn, host: r.host}, errdefs.ErrUnauthenticated
	case code == http.StatusForbidden:
		return hint{action: advice.LogInAsAnother, host: r.host}, errdefs.ErrPermissionDenied
	case code == http.StatusNotFound:
		return hint{}, errdefs.ErrNotFound
	case status.RequestMethod == http.MethodDelete && code < http.StatusInternalServerError &&
		(code == http.StatusMethodNotAllowed || strings.Contains(string(status.Body), "UNSUPPORTED")):
		return hint{}, errdefs.ErrNotImplemented
	case code == http.StatusProxyAuthRequired:
		return hint{text: proxyHint}, errdefs.ErrUnavailable
	case code == http.StatusBadRequest && slices.Contains(r.client.options.PlainHTTP, r.host) && strings.HasPrefix(status.RequestURL, "http://") &&
		(status.RequestMethod == http.MethodHead || strings.Contains(string(status.Body), "HTTPS")):
		// A TLS server answers plain http like this; its text is lost with a HEAD.
		return hint{action: advice.RefusePlainHTTP, host: r.host}, errdefs.ErrInvalidArgument
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		return hint{action: advice.AskLess}, errdefs.ErrUnavailable
	case code < http.StatusInternalServerError && (status.RequestMethod == http.MethodGet || status.RequestMethod == http.MethodHead):
		return hint{text: "check the name; if it is right, ask the operator of the registry"}, errdefs.ErrInvalidArgument
	case code < http.StatusInternalServerError:
		return hint{}, errdefs.ErrInvalidArgument
	case code == http.StatusNotImplemented:
		return hint{}, errdefs.ErrNotImplemented
	}
	return hint{}, errdefs.ErrUnavailable
}

// diagnose finds out why there is no usable answer: the reason, what to do about it, and whether
// to try again.
func (e *requestError) diagnose(err error) {
	operation, isOperation := errors.AsType[*net.OpError](err)
	dns, isDNS := errors.AsType[*net.DNSError](err)
	record, isRecord := errors.AsType[tls.RecordHeaderError](err)
	stalled, isStalled := errors.AsType[*stalledError](err)
	_, isAuthority := errors.AsType[x509.UnknownAuthorityError](err)
	_, isAddress := errors.AsType[*net.AddrError](err)
	_, isTrust := errors.AsType[*tls.CertificateVerificationError](err)
	e.message = cleanText(err.Error())
	switch {
	case strings.Contains(err.Error(), http.StatusText(http.StatusProxyAuthRequired)): // net/http reports only the text
		e.message, e.hint, e.worth = "the proxy requires a user and a password", hint{text: proxyHint}, 1
	case isOperation && operation.Op == "remote error": // an alert of the other side, in crypto/tls
		e.message, e.hint, e.worth = "it refuses the connection: "+cleanText(operation.Err.Error()), hint{text: "check which versions of TLS it supports, and whether it requires a client certificate"}, 1
		if strings.Contains(operation.Err.Error(), "certificate") {
			e.message, e.hint = "it rejects the client's certificate, or requires one: "+cleanText(operation.Err.Error()), hint{text: "a hosts.toml names the certificate for it: client = [[CERTIFICATE, KEY]]"}
		}
	case isRecord:
		e.worth = 1
		if string(record.RecordHeader[:]) == "HTTP/" {
			e.message, e.hint = "it answers https with plain http", hint{action: advice.AllowPlainHTTP, host: e.host}
		}
	case isAuthority:
		e.message, e.hint, e.worth = "its certificate is signed by an unknown authority", hint{action: advice.TrustAuthority}, 1
	case isTrust:
		e.hint, e.worth = hint{action: advice.TrustCertificate}, 1
	case isAddress:
		e.hint, e.worth = hint{text: "check the name and the port"}, 1
	case strings.Contains(err.Error(), "invalid header field"): // net/http reports only the text
		e.hint, e.worth = hint{text: "check the header in hosts.toml"}, 1
	case isDNS && dns.IsNotFound:
		e.message, e.hint, e.worth, e.down = "no such host", hint{text: "check the name, the network and the proxy"}, 1, true
	case isDNS, errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		e.worth, e.down = fewTries, true
	case errors.Is(err, syscall.ECONNREFUSED):
		e.message, e.hint, e.worth, e.down = "connection refused", hint{text: "check the name and the port, and that the registry runs"}, fewTries, true
	case isStalled:
		e.message, e.hint, e.worth = stalled.Error(), hint{action: advice.WaitLonger}, stalledTries
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.message = "the connection broke off"
	case isOperation && operation.Timeout():
		e.worth, e.down = mirrorTries, true
	}
	if isOperation && operation.Op == "proxyconnect" {
		e.message, e.hint = "the proxy cannot be reached: "+cleanText(operation.Err.Error()), hint{text: "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"}
	}
}

// operatorHint is for an error that logging in does not mend.
const operatorHint = "ask the operator of the registry"

const proxyHint = "HTTPS_PROXY and HTTP_PROXY may hold them: http://USER:PASSWORD@HOST:PORT"

// asked returns the URL of a request that was answered with a status; it is empty if it is
// unknown.
func asked(status remoteerrors.ErrUnexpectedStatus) url.URL {
	if u, err := url.Parse(status.RequestURL); err == nil {
		return *u
	}
	return url.URL{}
}

// messages returns the messages in the body of an error, on one line.
func messages(body io.Reader) string {
	data, err := io.ReadAll(body)
	if err != nil {
		return ""
	}
	var document struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(data, &document) != nil {
		return ""
	}
	var out []string
	for _, e := range document.Errors {
		text := cmp.Or(e.Message, strings.ToLower(strings.ReplaceAll(e.Code, "_", " ")))
		if text = oneLine(text); text != "" {
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}

// maxMessage bounds the text of a registry in an error, in bytes.
const maxMessage = 300

func oneLine(text string) string {
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}

var (
	query    = regexp.MustCompile(`\?[^\s"']*`)
	userinfo = regexp.MustCompile(`//[^/\s"'@]*@`)
)

// cleanText returns a text for an error on one line, without the parts of URLs that may be secret.
func cleanText(text string) string {
	return oneLine(userinfo.ReplaceAllString(query.ReplaceAllString(text, "?…"), "//…@"))
}
