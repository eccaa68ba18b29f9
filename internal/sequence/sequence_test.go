// SPDX-License-Identifier: Apache-2.0

package sequence_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/taped-dev/tape/internal/sequence"
)

func TestCommon(t *testing.T) {
	for _, c := range []struct {
		x, y string
		want [][2]int
	}{
		{"", "abc", nil},
		{"abc", "", nil},
		{"abc", "xyz", nil},
		{"abc", "abc", [][2]int{{0, 0}, {1, 1}, {2, 2}}},
		{"abcd", "bd", [][2]int{{1, 0}, {3, 1}}},
		{"ab", "ba", [][2]int{{1, 0}}}, // a is left out of the first
		{"xaxbx", "yayby", [][2]int{{1, 1}, {3, 3}}},
	} {
		if got := sequence.Common(strings.Split(c.x, ""), strings.Split(c.y, "")); !slices.Equal(got, c.want) {
			t.Errorf("Common(%q, %q) = %v, want %v", c.x, c.y, got, c.want)
		}
	}
}
