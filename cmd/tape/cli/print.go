// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/engine"
)

// print writes a result to stdout: v as JSON or YAML, or what text writes.
func (a *app) print(v any, text func(io.Writer) error) error {
	if a.flags.output == "text" {
		return text(a.Out)
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
