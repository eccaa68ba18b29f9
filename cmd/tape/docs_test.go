// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"
)

// TestDocs runs the commands in the examples, and renders the examples that the pages about
// interpreters name, from the top of the repository. Their pods must run: the program that
// replaces every image of the shop needs a mode as its argument.
func TestDocs(t *testing.T) {
	var script strings.Builder
	script.WriteString("env TAPE_INTERPRETERS=$INTERPRETERS\ncd $REPOSITORY\n")
	pages, err := filepath.Glob("../../docs/interpreters/*.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile(`\[(examples/[a-z/]+)\]\(\.\./\.\./examples`)
	for _, page := range pages {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range examples.FindAllSubmatch(data, -1) {
			script.WriteString("tape render " + string(m[1]) + " --out $WORK/rendered/" + string(m[1]) + "\nruns $WORK/rendered/" + string(m[1]) + "\n")
		}
	}
	readmes, err := filepath.Glob("../../examples/*/README.md")
	if err != nil || len(readmes) < 3 {
		t.Fatalf("%v, %v", readmes, err)
	}
	commands := regexp.MustCompile(`(?m)^\$ (tape (?:render|images|package) .*)$`)
	for _, readme := range readmes {
		data, err := os.ReadFile(readme)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range commands.FindAllSubmatch(data, -1) {
			script.WriteString(strings.NewReplacer("registry.example.com", "$REG", "/tmp/", "$WORK/").Replace(string(m[1])) + "\n")
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docs.txt"), []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, scripts(t, dir))
}

// runsCommand checks that every container of the pods in a folder would run together with the
// others: each has a mode, and no two listen on the same port.
func runsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: runs DIR")
	}
	containers := 0
	err := filepath.WalkDir(args[0], func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
			type container struct {
				Name, Image string
				Args        []string
			}
			var o struct {
				Spec struct {
					Template struct {
						Spec struct {
							Containers     []container
							InitContainers []container `yaml:"initContainers"`
						}
					}
				}
			}
			if err := dec.Decode(&o); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			ports := map[string]string{}
			for _, c := range append(o.Spec.Template.Spec.Containers, o.Spec.Template.Spec.InitContainers...) {
				containers++
				role := ""
				if len(c.Args) > 0 {
					role = c.Args[0]
				}
				port := ""
				switch role {
				case "once":
					continue
				case "web", "catalog", "orders", "database":
					port = "8080"
				case "metrics":
					port = "9090"
				default:
					ts.Fatalf("%s: container %s (%s) is told %q, which the program is not", file, c.Name, c.Image, c.Args)
				}
				if other, taken := ports[port]; taken {
					ts.Fatalf("%s: containers %s and %s listen at one port", file, other, c.Name)
				}
				ports[port] = c.Name
			}
		}
	})
	ts.Check(err)
	if containers == 0 {
		ts.Fatalf("no container in %s", args[0])
	}
}
