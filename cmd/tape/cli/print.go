// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/template"
	"unicode/utf8"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/internal/count"
)

// print ends the live view and writes a result to stdout: v as JSON or YAML, or what text prints.
func (a *program) print(v any, text func(*printer)) error {
	a.settle()
	a.printed = true
	if a.flags.output == "text" {
		return a.text(text)
	}
	data, err := engine.MarshalJSON(v)
	if err != nil {
		return err
	}
	if a.flags.output == "yaml" {
		if data, err = show.YAML(data, 4); err != nil {
			return err
		}
		_, err = a.data().Write(data)
		return err
	}
	_, err = fmt.Fprintf(a.Out, "%s\n", escaped(data))
	return err
}

// printed returns a function that prints the result of a library function, unless that returned
// an error, and then checks it, because a result may mean another exit status.
func printed[R any](a *program, text func(*printer, R), checks ...func(R) error) func(R, error) error {
	return func(result R, err error) error {
		if err == nil {
			err = a.print(result, func(p *printer) { text(p, result) })
		}
		for _, check := range checks {
			if err == nil {
				err = check(result)
			}
		}
		return err
	}
}

// text writes text to stdout.
func (a *program) text(text func(*printer)) error {
	p := &printer{w: visible{a.Out}}
	text(p)
	return p.err
}

// printer prints until the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	p.by(func(w io.Writer) error {
		_, err := fmt.Fprintf(w, format, args...)
		return err
	})
}

// by prints what write writes.
func (p *printer) by(write func(io.Writer) error) {
	if p.err == nil {
		p.err = write(p.w)
	}
}

// lay prints a value with a template.
func (p *printer) lay(layout string, v any) {
	p.by(func(w io.Writer) error {
		t, err := template.New("").Funcs(template.FuncMap{
			"join":  func(between string, list []string) string { return strings.Join(list, between) },
			"minus": func(a, b int) int { return a - b },
			"trim":  strings.TrimSpace, "moved": moved, "proof": proofText, "because": because, "evidence": evidence,
		}).Parse(layout)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := t.Execute(&out, v); err != nil {
			return err
		}
		_, err = out.WriteTo(w)
		return err
	})
}

// moved returns the end of a line that tells how much was moved, and how much was not necessary.
func moved(m transfer.Moved) string {
	text := fmt.Sprintf(" %s, %s", count.Of(m.Blobs, "blob"), show.Bytes(m.Bytes))
	if m.Mounted+m.Existing > 0 {
		text += fmt.Sprintf(" (%d mounted, %d already there)", m.Mounted, m.Existing)
	}
	return text
}

// width returns the number of columns of the terminal, or 0 if results are not printed to one.
func (a *program) width() int {
	width, _, _ := screen(a.Out)
	return width
}

// visible shows control characters in Go's syntax, such as \x1b: names come from strangers, and
// could control the terminal.
type visible struct{ io.Writer }

// controls are the control characters of ASCII (except tab and line feed) and Latin 1, other line
// separators, and the characters that change the direction of text, which would make it read
// differently.
var controls = regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f-\x{9f}\x{61c}\x{200e}\x{200f}\x{2028}-\x{202e}\x{2066}-\x{2069}]`)

func clean(text string) string {
	return controls.ReplaceAllStringFunc(text, func(c string) string {
		r, _ := utf8.DecodeRuneInString(c)
		if r > 0xff {
			return fmt.Sprintf(`\u%04x`, r)
		}
		return fmt.Sprintf(`\x%02x`, r)
	})
}

func (v visible) Write(p []byte) (int, error) {
	if _, err := io.WriteString(v.Writer, clean(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// escaped replaces these characters in JSON by equivalent escapes. (Most of them are escaped
// already, and line feeds are part of the layout.)
func escaped(data []byte) []byte {
	return controls.ReplaceAllFunc(data, func(c []byte) []byte {
		r, _ := utf8.DecodeRune(c)
		return fmt.Appendf(nil, `\u%04x`, r)
	})
}

// escapedJSON does the same for output that is written in pieces of whole characters.
type escapedJSON struct{ w io.Writer }

func (e escapedJSON) Write(p []byte) (int, error) {
	if _, err := e.w.Write(escaped(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// data returns the writer for documents that programs read. It changes them only on a terminal.
func (a *program) data() io.Writer {
	if isTerminal(a.Out) {
		return visible{a.Out}
	}
	return a.Out
}
