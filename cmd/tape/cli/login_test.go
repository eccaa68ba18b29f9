// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

// A password that is too long is not cut.
func TestLongPassword(t *testing.T) {
	var errs bytes.Buffer
	status := Run(context.Background(), []string{"login", "registry.invalid", "-u", "me", "--password-stdin"},
		Streams{In: strings.NewReader(strings.Repeat("x", maxPassword+1)), Out: io.Discard, Err: &errs})
	if status != exitFailed || !strings.Contains(errs.String(), "read the password from stdin: it has more than 1048576 bytes") {
		t.Errorf("status %d: %s", status, &errs)
	}
}
