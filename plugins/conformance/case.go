// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// testCase is a parsed case.
type testCase struct {
	name    string
	path    string
	options json.RawMessage
	fails   string            // text in the diagnostic that the case must produce
	in      map[string][]byte // by slash-separated path
	out     map[string][]byte // nil if the output is not compared
}

func readCases(fsys fs.FS) ([]testCase, error) {
	if fsys == nil {
		return nil, nil
	}
	var cases []testCase
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".txtar" {
			return err
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		c, err := parseCase(data)
		if err != nil {
			return fmt.Errorf("case %s: %w", name, err)
		}
		c.name = strings.TrimSuffix(name, ".txtar")
		cases = append(cases, c)
		return nil
	})
	return cases, err
}

func parseCase(data []byte) (testCase, error) {
	archive := txtar.Parse(data)
	c := testCase{path: ".", in: map[string][]byte{}}
	for _, f := range archive.Files {
		if !fs.ValidPath(f.Name) {
			return c, fmt.Errorf("file %q: want a path below in/ or out/", f.Name)
		}
		if name, ok := strings.CutPrefix(f.Name, "in/"); ok {
			c.in[name] = f.Data
		} else if name, ok := strings.CutPrefix(f.Name, "out/"); ok {
			if c.out == nil {
				c.out = map[string][]byte{}
			}
			c.out[name] = f.Data
		} else {
			return c, fmt.Errorf("file %q is neither below in/ nor below out/", f.Name)
		}
	}
	for line := range strings.Lines(string(archive.Comment)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		if err := c.set(key, strings.TrimSpace(value)); err != nil {
			return c, fmt.Errorf("line %q: %w", line, err)
		}
	}
	if len(c.in) == 0 {
		return c, fmt.Errorf("no file below in/")
	}
	return c, nil
}

func (c *testCase) set(key, value string) error {
	switch key {
	case "path":
		if !fs.ValidPath(value) {
			return fmt.Errorf("want a path below in/")
		}
		c.path = value
	case "options":
		if !json.Valid([]byte(value)) {
			return fmt.Errorf("want a JSON object")
		}
		c.options = json.RawMessage(value)
	case "error":
		c.fails = value
	case "fill":
		name, size, _ := strings.Cut(value, " ")
		n, err := strconv.Atoi(strings.TrimSpace(size))
		name, ok := strings.CutPrefix(name, "in/")
		if err != nil || !ok || !fs.ValidPath(name) {
			return fmt.Errorf("want in/NAME SIZE")
		}
		c.in[name] = []byte(strings.Repeat("x", n))
	default:
		return fmt.Errorf("unknown key %q; want path, options, error or fill", key)
	}
	return nil
}

// writeTree writes files below dir.
func writeTree(dir string, files map[string][]byte) error {
	for name, data := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
