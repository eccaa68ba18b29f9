// SPDX-License-Identifier: Apache-2.0

package size

import "testing"

func TestParse(t *testing.T) {
	for text, want := range map[string]int64{
		"1000": 1000, "500MB": 500e6, "500MiB": 500 << 20, "1GiB": 1 << 30, "1.5g": 1.5e9, "2kB": 2000, "2KiB": 2048, "0": 0,
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%s is %d (%v), want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "many", "1Xi", "1MiBs", "99999999TiB"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}
