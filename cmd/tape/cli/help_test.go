// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// The help of every command begins with what it does and an example, fits into 80
// columns, and goes to stdout.
func TestHelp(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		path := c.CommandPath()
		var out, errs bytes.Buffer
		args := append(strings.Fields(path)[1:], "--help")
		if status := Run(context.Background(), args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs}); status != 0 || errs.Len() > 0 {
			t.Errorf("%s --help: status %d, %s", path, status, errs.String())
		}
		if !strings.HasPrefix(out.String(), c.Short+".\n\nExample:\n  ") {
			t.Errorf("%s --help does not begin with an example:\n%.200s", path, out.String())
		}
		if c.HasParent() && !strings.Contains(c.Example, path) {
			t.Errorf("the example of %q does not show it:\n%s", path, c.Example)
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
				t.Errorf("%s --help: %d columns: %s", path, n, line)
			}
		}
	}
	visit((&program{}).root())
}
