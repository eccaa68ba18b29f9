// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/app"
)

// A person sees what to do, even if no browser can be opened.
func TestAskPerson(t *testing.T) {
	for _, c := range []struct {
		prompt app.Prompt
		fails  error
		opened string
		want   []string
	}{
		{app.Prompt{URL: "https://example.com/device", Code: "ABCD-EFGH"}, nil, "", []string{"https://example.com/device", "ABCD-EFGH"}},
		{app.Prompt{URL: "https://example.com/auth?a=b", Browser: true}, nil, "https://example.com/auth?a=b", []string{"\nhttps://example.com/auth?a=b\n"}},
		{app.Prompt{URL: "https://example.com/auth", Browser: true}, errors.New("no such program"), "https://example.com/auth", []string{"https://example.com/auth\n", "no browser was opened: no such program"}},
	} {
		var out bytes.Buffer
		var opened string
		err := askPerson(t.Context(), &out, c.prompt, func(_ context.Context, url string) error {
			opened = url
			return c.fails
		})
		if err != nil || opened != c.opened {
			t.Errorf("%+v: error %v, opened %q", c.prompt, err, opened)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%+v: %q is not in %q", c.prompt, want, out.String())
			}
		}
	}
}
