// SPDX-License-Identifier: Apache-2.0

package host

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLineWriter(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	tests := []struct {
		writes []string
		want   []string
	}{
		{[]string{"a\nb\n"}, []string{"a", "b"}},
		{[]string{"a", "b\r\n", "\n", "c"}, []string{"ab", "", "c"}},
		{[]string{long + "y\nz"}, []string{long, "y", "z"}},
		{[]string{long[1:], "yz\n"}, []string{long[1:] + "y", "z"}},
	}
	for _, test := range tests {
		var got []string
		w := &lineWriter{emit: func(line string) { got = append(got, line) }}
		for _, s := range test.writes {
			if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
		}
		w.flush()
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%.40q (-want +got):\n%s", test.writes, diff)
		}
	}
}

func TestTail(t *testing.T) {
	o := output{log: slog.New(slog.DiscardHandler)}
	for n := range 3 * tailLines {
		o.add(strings.Repeat(string(rune('a'+n%26)), n*20) + "\xff")
	}
	tail := strings.Split(o.tail(), "\n")
	if len(tail) != tailLines {
		t.Errorf("tail has %d lines, want %d", len(tail), tailLines)
	}
	for _, line := range tail {
		if !strings.HasPrefix(line, "  ") || len(line) > 510 {
			t.Errorf("line %q", line)
		}
	}
}

func FuzzHandshake(f *testing.F) {
	for _, line := range []string{
		"", "|||", "1|1|unix|/d/socket|grpc|QUJD", "1|2|unix|/d/s|grpc|", "1|1|tcp|127.0.0.1:1|grpc|QUJD|true", "1|1|unix|/d/../e|grpc|x",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if checkHandshake(line, "/d") != nil {
			return
		}
		parts := strings.Split(line, "|")
		if parts[0] != "1" || parts[1] != "1" || parts[4] != "grpc" || parts[5] == "" {
			t.Errorf("accepted %q", line)
		}
	})
}
