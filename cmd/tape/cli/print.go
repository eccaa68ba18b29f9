// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"github.com/taped-dev/tape/engine"
)

// print writes a result to stdout: v as JSON or YAML, or what text writes.
func (a *app) print(v any, text func(io.Writer) error) error {
	if a.flags.output == "text" {
		return text(visible{a.Out})
	}
	data, err := engine.MarshalJSON(v)
	if err != nil {
		return err
	}
	if a.flags.output == "yaml" {
		if data, err = toYAML(data); err != nil {
			return err
		}
		_, err = a.Out.Write(data)
		return err
	}
	_, err = fmt.Fprintf(a.Out, "%s\n", data)
	return err
}

// width returns how many characters a line of the terminal has, 0 where results
// do not go to one.
func (a *app) width() int {
	f, ok := a.Out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// visible shows control characters as Go writes them, such as \x1b: names are somebody
// else's, and would tell the terminal what to do.
type visible struct{ io.Writer }

var controls = regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f-\x{9f}]`)

func (v visible) Write(p []byte) (int, error) {
	shown := controls.ReplaceAllFunc(p, func(c []byte) []byte {
		r, _ := utf8.DecodeRune(c)
		return fmt.Appendf(nil, `\x%02x`, r)
	})
	if _, err := v.Writer.Write(shown); err != nil {
		return 0, err
	}
	return len(p), nil
}

// toYAML turns JSON, which is YAML in flow style, into block style; the order of
// the keys stays.
func toYAML(data []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("convert to yaml: %w", err)
	}
	block(&doc)
	out, err := yaml.Marshal(&doc)
	if err != nil {
		return nil, fmt.Errorf("convert to yaml: %w", err)
	}
	return out, nil
}

func block(n *yaml.Node) {
	// An empty list or map has no block style, and a string that looks like
	// something else keeps its quotes.
	if n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode {
		n.Style = 0
	} else if n.Tag == "!!str" {
		n.Style = 0
	}
	for _, c := range n.Content {
		block(c)
	}
}
