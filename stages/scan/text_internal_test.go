// SPDX-License-Identifier: Apache-2.0

package scan

import "testing"

func TestLooksStructured(t *testing.T) {
	for s, want := range map[string]bool{
		"": false, " \n": false, "{}": true, " [1]": true,
		"a: b": true, "- a: b": true, "  - \"a.b/c-d\":": true, "text\n\ta_1:\r\nmore": true, "'a': b": true,
		"a:b": false, "https://x.example/": false, "- - a: b": false, ": b": false, "a b: c": false, "# a: b": false, "é: b": false, "\"\": b": false,
	} {
		if got := looksStructured(s); got != want {
			t.Errorf("%q: got %t", s, got)
		}
	}
}
