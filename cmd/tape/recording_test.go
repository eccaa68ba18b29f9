// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

var record = flag.Bool("record", false, "write docs/demo.svg anew")

const recordingFile = "../../docs/demo.svg"

// TestRecording runs the commands of examples/demo.sh, up to the one that verifies, and checks
// that they are those of docs/demo.svg, which the README shows. With -record it writes that
// file: the same bytes on every machine, because it contains nothing that depends on the
// machine.
func TestRecording(t *testing.T) {
	demo, err := os.ReadFile("../../examples/demo.sh")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("env COSIGN_PASSWORD=\ntape sign --generate-key shop\nexec cp -r $REPOSITORY/examples/shop/manifests .\ncommit manifests v1.4.0\n")
	shown := strings.NewReplacer("./examples/shop/manifests", "./manifests", "$host", "registry.example.com", "$work/", "", `"`, "")
	var commands []string
	for _, m := range regexp.MustCompile(`(?m)^run (tape .*)$`).FindAllStringSubmatch(string(demo), -1) {
		command := shown.Replace(m[1])
		commands = append(commands, command)
		script.WriteString(command + "\nshow " + command + "\n")
		if strings.HasPrefix(command, "tape verify") {
			break
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "recording.txt"), []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	var session recording
	// A subtest, so that the script has ended when its output is read.
	t.Run("demo", func(t *testing.T) {
		params := scripts(t, dir)
		params.Cmds["show"] = session.show
		setup := params.Setup
		params.Setup = func(env *testscript.Env) error {
			if err := setup(env); err != nil {
				return err
			}
			return registrytest.WriteHosts(env.Getenv("TAPE_HOSTS_DIR"), "registry.example.com", env.Getenv("REG"))
		}
		testscript.Run(t, params)
	})
	if t.Failed() {
		return
	}
	if *record {
		if err := os.WriteFile(recordingFile, session.svg(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	svg, err := os.ReadFile(recordingFile)
	if err != nil {
		t.Fatal(err)
	}
	var recorded []string
	for _, m := range regexp.MustCompile(`\$</tspan> (.*)</text>`).FindAllStringSubmatch(string(svg), -1) {
		recorded = append(recorded, html.UnescapeString(m[1]))
	}
	if diff := cmp.Diff(commands, recorded); diff != "" {
		t.Errorf("%s is stale: run make recording (-examples/demo.sh +recorded)\n%s", recordingFile, diff)
	}
}

// recording is a terminal session: the lines of commands and of their output.
type recording struct{ lines []string }

const (
	columns = 94 // of the terminal
	head    = 3  // lines of a command's output that are shown,
	tail    = 4  // and at its end
)

// show adds a command with the output of the last one: show COMMAND….
func (r *recording) show(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: show COMMAND [ARG…]")
	}
	printed := strings.Split(strings.TrimRight(ts.ReadFile("stdout"), "\n"), "\n")
	if len(printed) > head+tail+1 {
		printed = slices.Concat(printed[:head], []string{"…"}, printed[len(printed)-tail:])
	}
	if len(r.lines) > 0 {
		r.lines = append(r.lines, "")
	}
	r.lines = append(r.lines, "$ "+strings.Join(args, " "))
	for _, line := range printed {
		line = digests.ReplaceAllString(line, "$1…")
		if runes := []rune(line); len(runes) > columns {
			line = string(runes[:columns-1]) + "…"
		}
		r.lines = append(r.lines, line)
	}
}

// digests match digests, of which only the first digits are shown.
var digests = regexp.MustCompile(`(sha256[:-][0-9a-f]{8})[0-9a-f]{56}`)

// svg draws a terminal that is dark on any page, as wide as GitHub's pages. Monospaced fonts
// differ in width, so every line is stretched to the width of its characters.
func (r *recording) svg() []byte {
	const advance, height, margin = 8, 19, 20
	width, bottom := columns*advance+2*margin, len(r.lines)*height+2*margin
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="A session in a terminal: tape packs, signs and verifies an application">
<style>
text { font: 13.3px ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace; fill: #c9d1d9; white-space: pre }
.c { fill: #ffffff; font-weight: 600 } .p { fill: #7ee787 } .k { fill: #79c0ff } .o { fill: #7ee787 } .d { fill: #8b949e }
</style>
<rect x="0.5" y="0.5" width="%[3]d" height="%[4]d" rx="8" fill="#0d1117" stroke="#30363d"/>
`, width, bottom, width-1, bottom-1)
	for i, line := range r.lines {
		if line == "" {
			continue
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" textLength="%d"`, margin, margin+14+i*height, advance*utf8.RuneCountInString(line))
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			fmt.Fprintf(&b, ` class="c"><tspan class="p">$</tspan> %s</text>`+"\n", html.EscapeString(command))
			continue
		}
		text := html.EscapeString(line)
		text = regexp.MustCompile(`^(ok|verified) `).ReplaceAllString(text, `<tspan class="o">$1</tspan> `)
		text = regexp.MustCompile(`^([a-z]+)  `).ReplaceAllString(text, `<tspan class="k">$1</tspan>  `)
		text = regexp.MustCompile(`@?sha256[:-][0-9a-f]{8}…`).ReplaceAllString(text, `<tspan class="d">$0</tspan>`)
		fmt.Fprintf(&b, ">%s</text>\n", text)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
