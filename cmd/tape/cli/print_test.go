// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"
)

// A name in an application does not reach the terminal as a control sequence.
func TestPrintShowsControlCharacters(t *testing.T) {
	var out strings.Builder
	a := &program{Streams: Streams{Out: &out}, flags: flags{output: "text"}}
	err := a.print(nil, func(p *printer) { p.f("├─\tü\x1b[2J\r\u009b\n") })
	want := "├─\tü\\x1b[2J\\x0d\\x9b\n"
	if err != nil || out.String() != want {
		t.Errorf("printed %q, %v, want %q", out.String(), err, want)
	}
}
