// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/taped-dev/tape/engine"
)

func TestAnnotation(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"no place":                                  "::error::no place",
		"scan: app/pod.yaml:12:16: unpinned":        "::error file=app/pod.yaml,line=12,col=16::scan: app/pod.yaml:12:16: unpinned",
		"a,b.yaml:3: x":                             "::error file=a%2Cb.yaml,line=3::a,b.yaml:3: x",
		"100% of it\n::set-env name=PATH::/tmp\r\n": "::error::100%25 of it%0A::set-env name=PATH::/tmp%0D",
		filepath.Join(dir, "in.yaml") + ":7: x":     "::error file=in.yaml,line=7::" + filepath.Join(dir, "in.yaml") + ":7: x",
		"image b, which app/pod.yaml:7:13 names: x": "::error file=app/pod.yaml,line=7,col=13::image b, which app/pod.yaml:7:13 names: x",
		"first: a.yaml:1:2 is odd\nmore\nb.yaml:3: x\n": "::error file=a.yaml,line=1,col=2::first: a.yaml:1:2 is odd%0Amore\n" +
			"::error file=b.yaml,line=3::b.yaml:3: x",
		"registry.example.com:443 is down":      "::error::registry.example.com:443 is down",
		"registry.example.com:443/app: refused": "::error::registry.example.com:443/app: refused", // a host and its port
	} {
		if got := annotations("error", text); got != want {
			t.Errorf("%q\n got %q\nwant %q", text, got, want)
		}
	}
}

func TestProgressOfCI(t *testing.T) {
	events := []engine.Event{
		{Node: "scan", State: engine.Done},
		{Node: "scan", Level: engine.Warning, Message: "pod.yaml:4: odd"},
		{Node: "scan", Level: engine.Note, Message: "worth reading"},
	}
	for mode, want := range map[string]string{
		"github": "::group::tape\nscan: done\n::warning file=pod.yaml,line=4::pod.yaml:4: odd\n::notice::worth reading\n::endgroup::\n",
		"gitlab": "\x1b[0Ksection_start:7:tape\r\x1b[0Ktape\nscan: done\nwarning: pod.yaml:4: odd\nnote: worth reading\n\x1b[0Ksection_end:7:tape\r\x1b[0K\n",
	} {
		var out bytes.Buffer
		var p progress = newGitLab(&out, func() time.Time { return time.Unix(7, 0) })
		if mode == "github" {
			out.Reset()
			p = newGitHub(&out)
		}
		for _, e := range events {
			p.Event(e)
		}
		p.Close()
		if out.String() != want {
			t.Errorf("%s:\n got %q\nwant %q", mode, out.String(), want)
		}
	}
}
