// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"
	"net/url"
	"testing"

	"github.com/containerd/errdefs"
)

// The error of a request that was ended by another error states that error, and nothing about
// itself.
func TestExplainEndedByAnother(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	denied := &Error{Op: "push", Reference: "registry.example.com/app@sha256:1", Reason: "403 Forbidden", class: errdefs.ErrPermissionDenied}
	cancel(denied)
	err := fmt.Errorf("failed to do request: %w", &url.Error{
		Op: "Head", URL: "https://registry.example.com/v2/", Err: fmt.Errorf("%w: no answer for 0s", denied),
	})
	r := &Repository{host: "registry.example.com"}
	if got := r.explain(ctx, "look for", "registry.example.com/app:v1", err); got.Error() != denied.Error() {
		t.Errorf("got  %v\nwant %v", got, denied)
	}
}
