// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/taped-dev/tape/engine"
)

// hostile contains sequences that terminals interpret: a title, a colour, a carriage return,
// 8-bit controls, and text that is displayed backwards.
const hostile = "a\x1b]0;pwned\x07b\x1b[31mc\rd\x7fe\u009b2Jf\u202eg\u2028h"

// No output, in whatever format, has control sequences.
func TestClean(t *testing.T) {
	for _, mode := range []string{"plain", "json", "none", "tty"} {
		var out bytes.Buffer
		shown, err := newProgress(mode, &out)
		if err != nil {
			t.Fatal(err)
		}
		p := cleaned{shown}
		p.Event(engine.Event{At: time.Now(), Node: "render/" + hostile, State: engine.Running})
		p.Event(engine.Event{At: time.Now(), Node: "render/" + hostile, Level: "warning", Message: hostile})
		p.Event(engine.Event{At: time.Now(), Message: hostile})
		if _, err := p.Write([]byte(hostile + "\n")); err != nil {
			t.Fatal(err)
		}
		p.Close()
		for _, order := range []string{"\x1b]", "\x07", "[31mc\r", "\x7f", "\u009b", "\u202e", "\u2028"} {
			if strings.Contains(out.String(), order) {
				t.Errorf("%s: %q in %q", mode, order, out.String())
			}
		}
		if !strings.Contains(out.String(), "pwned") {
			t.Errorf("%s: the text is lost: %q", mode, out.String())
		}
	}
	var out, errs bytes.Buffer
	a := &program{Streams: Streams{Out: &out, Err: visible{&errs}}, flags: flags{output: "json"}}
	a.fail(errors.New(hostile))
	if err := a.print(map[string]string{"name": hostile}, nil); err != nil {
		t.Fatal(err)
	}
	if s := errs.String() + strings.TrimSpace(out.String()); controls.MatchString(strings.ReplaceAll(s, "\n", "")) {
		t.Errorf("orders in %q", s)
	}
	var back map[string]string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["name"] != hostile {
		t.Errorf("JSON says %q, %v", back["name"], err)
	}
}
