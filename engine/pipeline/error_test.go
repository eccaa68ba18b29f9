// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/document"
)

// Every error has a position. The body begins in line 3.
func TestErrors(t *testing.T) {
	tests := []struct {
		name, body string
		args       map[string]string
		want       string
	}{
		// YAML
		{"syntax", "sources: [", nil, "tape.yaml:3: did not find expected node content"},
		{"tab", "sources:\n\t- x", nil, "tape.yaml:4: found character that cannot start any token"},
		{"duplicate key", "sources: []\nsources: []", nil, `tape.yaml:4:1: "sources" already exists in line 3`},
		{"duplicate node", "nodes:\n  scan: {}\n  scan: {}", nil, `tape.yaml:5:3: "scan" already exists in line 4`},
		{"merge key", "sources:\n  - &a {path: web}\n  - {<<: *a}", nil, "tape.yaml:5:6: merge keys are not supported; write the values out"},
		{"key that is no string", "sources: [{1: x}]", nil, `tape.yaml:3:12: a key must be a string: write it in quotes, "1"`},
		{"key that is a list", "sources: [{[x]: x}]", nil, "tape.yaml:3:12: a key must be a string"},
		{"custom tag", "sources: [{path: !foo x}]", nil, "tape.yaml:3:18: a value of type !foo is not supported"},
		{"no number", "sources: [{path: x, options: {a: .inf}}]", nil, "tape.yaml:3:34: unsupported value: +Inf"},
		{"second document", "---\na: b", nil, "tape.yaml:3:1: a second document begins here; a file has only one"},
		{"undefined anchor", "sources: *a", nil, "tape.yaml: unknown anchor 'a' referenced"},
		{"bomb", "nodes:\n  a: &a [" + strings.Repeat("x,", 99) + "x]\n  b: &b [" + strings.Repeat("*a,", 99) + "x]\n  c: [" + strings.Repeat("*b,", 99) + "x]", nil, "tape.yaml:4:22: the file expands to more than 100000 values"},

		// the form of the file
		{"unknown key", "sorces: []", nil, `tape.yaml:3:1: unknown key "sorces" (did you mean "sources"?)`},
		{"very unknown key", "everything: []", nil, `tape.yaml:3:1: unknown key "everything"; want apiVersion, args, environments, images, kind, nodes, output, sources`},
		{"unknown key of images", "sources: [{path: x}]\nimages:\n  platfrom: linux/amd64", nil, `tape.yaml:5:3: unknown key "platfrom" (did you mean "platform"?)`},
		{"unknown key of a source", "sources:\n  - path: x\n    opitons: {}", nil, `tape.yaml:5:5: unknown key "opitons" (did you mean "options"?)`},
		{"unknown key of a node", "nodes:\n  scan:\n    input: {}", nil, `tape.yaml:5:5: unknown key "input" (did you mean "inputs"?)`},
		{"sources is a mapping", "sources: {path: x}", nil, `tape.yaml:3:10: sources must be a list, not a mapping`},
		{"source is text", "sources: [web]", nil, "tape.yaml:3:11: sources[0] must be a mapping, not a string"},
		{"images is a list", "images: [a]", nil, `tape.yaml:3:9: images must be a mapping, not a list`},
		{"nodes is a list", "nodes: [a]", nil, `tape.yaml:3:8: nodes must be a mapping, not a list`},
		{"node is a list", "nodes: {scan: []}", nil, `tape.yaml:3:15: nodes.scan must be a mapping, not a list`},
		{"node name", "nodes: {'a b': {}}", nil, `tape.yaml:3:9: nodes has the key "a b": the name of a node must consist of letters, digits, -, _, / and dots`},
		{"uses is a list", "nodes: {scan: {uses: []}}", nil, `tape.yaml:3:22: nodes.scan.uses must be a string, not a list`},
		{"each", "nodes: {scan: {each: image}}", nil, `tape.yaml:3:22: nodes.scan.each is "image", want source`},
		{"inputs is text", "nodes: {scan: {inputs: render}}", nil, `tape.yaml:3:24: nodes.scan.inputs must be a mapping, not a string`},
		{"input is no reference", "nodes: {scan: {inputs: {manifests: render}}}", nil, `tape.yaml:3:36: nodes.scan.inputs.manifests is "render": want node.output`},
		{"input key", "nodes: {scan: {inputs: {manifests: {'A/b': c.d}}}}", nil, `tape.yaml:3:37: nodes.scan.inputs.manifests has the key "A/b": a key must consist of letters, digits, -, _, / and dots`},
		{"with is text", "nodes: {scan: {with: x}}", nil, `tape.yaml:3:22: nodes.scan.with must be a mapping, not a string`},
		{"several", "sorces: []\nnodes: []\nouput: {}", nil, "tape.yaml:3:1: unknown key \"sorces\" (did you mean \"sources\"?)\ntape.yaml:4:8: nodes must be a mapping, not a list\ntape.yaml:5:1: unknown key \"ouput\" (did you mean \"output\"?)"},

		// sources
		{"no sources", "images: {}", nil, "tape.yaml:1:1: the pipeline has no sources"},
		{"empty sources", "sources: []", nil, "tape.yaml:3:10: the pipeline has no sources"},
		{"no path", "sources: [{name: web}]", nil, `tape.yaml:3:11: sources[0] needs "path"`},
		{"empty path", "sources: [{path: ''}]", nil, `tape.yaml:3:18: sources[0].path is empty`},
		{"path is a number", "sources: [{path: 7}]", nil, `tape.yaml:3:18: sources[0].path must be a string, not an integer: write it in quotes`},
		{"options is a list", "sources: [{path: x, options: [a]}]", nil, `tape.yaml:3:30: sources[0].options must be a mapping, not a list`},
		{"source name", "sources: [{path: x, name: a/b}]", nil, `tape.yaml:3:27: source name "a/b" must consist of letters, digits, -, _ and dots`},
		{"source name from path", "sources: [{path: 'a b'}]", nil, `tape.yaml:3:18: source name "a b" must consist of letters, digits, -, _ and dots`},
		{"duplicate source", "sources:\n  - {path: a/web}\n  - {path: b/web}", nil, `tape.yaml:5:12: source "web" already exists in line 4; give them different names`},
		{"interpreter is a path", "sources: [{path: x, interpreter: ./bin/helm}]", nil, `tape.yaml:3:34: interpreter "./bin/helm" is not a name of lower-case letters, digits and dashes: a pipeline names an installed interpreter, and cannot choose what runs`},
		{"interpreter is a Windows path", `sources: [{path: x, interpreter: bin\helm}]`, nil, `tape.yaml:3:34: interpreter "bin\\helm" is not a name of lower-case letters, digits and dashes: a pipeline names an installed interpreter, and cannot choose what runs`},
		{"interpreter is hidden", "sources: [{path: x, interpreter: .helm}]", nil, `tape.yaml:3:34: interpreter ".helm" is not a name of lower-case letters, digits and dashes: a pipeline names an installed interpreter, and cannot choose what runs`},
		{"interpreter is a file", "sources: [{path: x, interpreter: helm.exe}]", nil, `tape.yaml:3:34: interpreter "helm.exe" is not a name of lower-case letters, digits and dashes: a pipeline names an installed interpreter, and cannot choose what runs`},
		{"interpreter is a command", "sources: [{path: x, interpreter: sh -c id}]", nil, `tape.yaml:3:34: interpreter "sh -c id" is not a name of lower-case letters, digits and dashes: a pipeline names an installed interpreter, and cannot choose what runs`},
		{"interpreter is a binary", "sources: [{path: x, interpreter: tape-interpreter-helm}]", nil, `tape.yaml:3:34: interpreter "tape-interpreter-helm" is the name of an executable; write "helm"`},
		{"interpreter is no name", "sources: [{path: x, interpreter: Helm}]", nil, `tape.yaml:3:34: interpreter "Helm" is not a name of lower-case letters, digits and dashes: a pipeline names an installed interpreter, and cannot choose what runs`},
		{"interpreter from an argument", "args: {i: /bin/sh}\nsources:\n  - path: x\n    interpreter: ${i}", nil, `tape.yaml:3:11: interpreter "/bin/sh" is not a name of lower-case letters, digits and dashes: a pipeline names an installed interpreter, and cannot choose what runs`},

		// arguments
		{"args is a list", "args: [a]", nil, `tape.yaml:3:7: args must be a mapping, not a list`},
		{"arg name", "args: {a.b: x}", nil, `tape.yaml:3:8: args has the key "a.b": the name of an argument must consist of letters, digits, - and _, and begin with a letter`},
		{"arg is a list", "args: {a: [x]}", nil, `tape.yaml:3:11: args.a: want its default, or a mapping of type, default and help`},
		{"arg type", "args: {a: {type: int}}", nil, `tape.yaml:3:18: args.a.type is "int", want string or integer or number or boolean`},
		{"arg key", "args: {a: {tpye: integer}}", nil, `tape.yaml:3:12: unknown key "tpye" (did you mean "type"?)`},
		{"arg help", "args: {a: {help: 7}}", nil, `tape.yaml:3:18: args.a.help must be a string, not an integer: write it in quotes`},
		{"arg default", "args: {a: {type: boolean, default: 'true'}}", nil, `tape.yaml:3:36: the default of argument "a" is a string, but its type is boolean`},
		{"arg default is a list", "args: {a: {default: []}}", nil, `tape.yaml:3:21: args.a.default must be a boolean or a number or a string, not a list`},
		{"arg without value", "args:\n  tag: {type: string}\nsources: [{path: x}]", nil, `tape.yaml:4:3: argument "tag" has no default; give tag a value`},
		{"arg not defined", "args: {tag: v1}\nsources:\n  - path: x\n    options: {a: ['b${tga}']}", nil, `tape.yaml:6:19: argument "tga" is not defined (did you mean "tag"?)`},
		{"arg not defined in a node", "sources: [{path: x}]\nnodes:\n  scan:\n    with:\n      depth: ${depth}", nil, `tape.yaml:7:14: argument "depth" is not defined`},
		{"no arg", "sources:\n  - path: x\n    options: {a: 'b${HOME:-x}'}", nil, `tape.yaml:5:18: ${HOME:-x} is not a valid argument; write $${HOME:-x} for the literal text`},
		{"half an arg", "sources:\n  - path: x\n    options: {a: 'b${HOME'}", nil, `tape.yaml:5:18: ${HOME is not a valid argument; write $${HOME for the literal text`},
		{"section in a source", "sources:\n  - path: ${images.platform}", nil, `tape.yaml:4:11: argument "images.platform" is not defined`},
		{"given and unknown", "args: {tag: v1}\nsources: [{path: x}]", map[string]string{"tog": "v2"}, `the pipeline has no argument "tog" (did you mean "tag"?)`},
		{"given and no integer", "args: {n: 1}\nsources: [{path: x}]", map[string]string{"n": "x"}, `argument "n": "x" is not of type integer`},
		{"given and no JSON", "args: {n: 1}\nsources: [{path: x}]", map[string]string{"n": "+1"}, `argument "n": "+1" is not of type integer`},
		{"given and no number", "args: {n: 1.5}\nsources: [{path: x}]", map[string]string{"n": "NaN"}, `argument "n": "NaN" is not of type number`},
		{"given and no boolean", "args: {b: true}\nsources: [{path: x}]", map[string]string{"b": "yes"}, `argument "b": "yes" is not of type boolean`},

		// nodes
		{"kind", "sources: [{path: x}]\nnodes:\n  check:\n    uses: polcy", nil, `tape.yaml:6:11: node "check" uses "polcy", which is not a kind of stage (did you mean "policy"?)`},
		{"kind by name", "sources: [{path: x}]\nnodes:\n  check: {}", nil, `tape.yaml:5:3: node "check" uses "check", which is not a kind of stage; want count, policy, push, render, resolve, scan, source`},
		{"port", "sources: [{path: x}]\nnodes:\n  resolve:\n    inputs: {reference: scan.references}", nil, `tape.yaml:6:14: node "resolve" has no input "reference" (did you mean "references"?)`},
		{"far port", "sources: [{path: x}]\nnodes:\n  push:\n    inputs: {manifests: scan.manifests}", nil, `tape.yaml:6:14: node "push" has no input "manifests"; want facts, images, signature`},
		{"no port", "sources: [{path: x}]\nnodes:\n  source:\n    inputs: {a: scan.manifests}", nil, `tape.yaml:6:14: node "source/x" has no input "a"`},
		{"dangling node", "sources: [{path: x}]\nnodes:\n  policy:\n    inputs: {images: resolv.images}", nil, `tape.yaml:6:22: input "images" of node "policy" refers to node "resolv", which does not exist (did you mean "resolve"?)`},
		{"dangling output", "sources: [{path: x}]\nnodes:\n  policy:\n    inputs: {images: resolve.image}", nil, `tape.yaml:6:22: input "images" of node "policy" refers to output "image" of node "resolve", which does not exist (did you mean "images"?)`},
		{"dangling output of nothing", "sources: [{path: x}]\nnodes:\n  policy:\n    inputs: {images: push.image}", nil, `tape.yaml:6:22: input "images" of node "policy" refers to output "image" of node "push", which does not exist`},
		{"several into one", "sources: [{path: x}]\nnodes:\n  policy:\n    inputs: {images: {a: resolve.images}}", nil, `tape.yaml:6:14: input "images" of node "policy" takes one output, not several`},
		{"one of several sources", "sources: [{path: x}, {path: y}]\nnodes:\n  policy:\n    inputs: {images: source.files}", nil, `tape.yaml:6:22: input "images" of node "policy" takes one output, but node "source" exists for 2 sources: name one of them, such as source/x.files`},
		{"cycle", "sources: [{path: x}]\nnodes:\n  policy:\n    inputs: {images: policy2.images}\n  policy2:\n    uses: policy\n    inputs: {images: policy.images}", nil, "tape.yaml:5:3: nodes depend on each other in a cycle: policy → policy2 → policy"},
		{"cycle through the default", "sources: [{path: x}]\nnodes:\n  back: {uses: count, inputs: {images: resolve.images}}\n  scan: {inputs: {manifests: back.images}}", nil, "tape.yaml:6:3: nodes depend on each other in a cycle: scan → back → resolve → scan"},
		{"source in a node for none", "sources: [{path: x}]\nnodes:\n  scan:\n    with:\n      depth: ${source.name}", nil, `tape.yaml:7:14: argument "source.name" is not defined: the node has no source`},
		{"no such thing of a source", "sources: [{path: x}]\nnodes:\n  render:\n    with:\n      folder: ${source.nam}", nil, `tape.yaml:7:15: argument "source.nam" is not defined (did you mean "name"?)`},
		{"no such section", "sources: [{path: x}]\nnodes:\n  render:\n    with:\n      folder: ${images.size}", nil, `tape.yaml:7:15: argument "images.size" is not defined`},
		{"nothing to put into text", "sources: [{path: x}]\nnodes:\n  scan:\n    with:\n      depth: a${images.platform}", nil, "tape.yaml:7:14: ${images.platform} has no value to insert into text"},
		{"list into text", "sources: [{path: x}]\nimages: {fields: [{kind: a}]}\nnodes:\n  scan:\n    with:\n      depth: a${images.fields}", nil, "tape.yaml:8:14: ${images.fields} is a list and cannot be inserted into text"},

		// options
		{"option of a node", "sources: [{path: x}]\noutput: {image: x}\nnodes:\n  scan:\n    with: {dept: 4}", nil, `tape.yaml:7:12: scan has no option "dept" (did you mean "depth"?)`},
		{"option of a nested value", "sources: [{path: x}]\noutput: {image: x}\nimages:\n  fields:\n    - kind: Pump\n      pth: /a", nil, `tape.yaml:8:7: fields[0] of scan has no option "pth" (did you mean "path"?)`},
		{"missing in a nested value", "sources: [{path: x}]\noutput: {image: x}\nimages:\n  fields:\n    - path: /a", nil, `tape.yaml:7:7: fields[0] of scan needs "kind"`},
		{"option of a wrong type", "sources: [{path: x}]\noutput: {image: x}\nimages:\n  fields: all", nil, "tape.yaml:6:11: option fields of scan must be a list, not a string"},
		{"nested option of a wrong type", "sources: [{path: x}]\noutput: {image: x}\nnodes:\n  scan:\n    with:\n      when: {a.b: 7}", nil, "tape.yaml:8:19: option when.a.b of scan must be a string, not an integer: write it in quotes"},
		{"option against a pattern", "sources: [{path: x}]\noutput: {image: x}\nimages: {platform: linux}", nil, "tape.yaml:5:20: option platform of resolve: 'linux' does not match pattern '^[a-z]+/[a-z0-9]+$'"},
		{"option too small", "sources: [{path: x}]\noutput: {image: x}\nnodes: {scan: {with: {depth: 0}}}", nil, "tape.yaml:5:30: option depth of scan is 0, want 1 or more"},
		{"option of a kind without", "sources: [{path: x}]\noutput: {image: x}\nnodes:\n  count:\n    inputs: {images: resolve.images}\n    with: {a: 1}", nil, `tape.yaml:8:12: count takes no options, got "a"`},
		{"short form incomplete", "sources: [{path: x}]", nil, `tape.yaml:1:1: output.image is missing`},
		{"section incomplete", "sources: [{path: x}]\noutput:\n  tags: [v1]", nil, `tape.yaml:5:3: output.image is missing`},
		{"option missing", "sources: [{path: x}]\noutput: {image: x}\nnodes:\n  a:\n    uses: source\n    with: {name: x}", nil, `tape.yaml:6:3: node "a" needs option "path"`},
		{"option taken away", "sources: [{path: x}]\nnodes: {push: {with: {repository: null}}}", nil, `tape.yaml:4:9: node "push" needs option "repository"`},
		{"input missing", "sources: [{path: x}]\noutput: {image: x}\nnodes:\n  policy: {}", nil, `tape.yaml:6:3: node "policy" needs input "images"`},
		{"input taken away", "sources: [{path: x}]\noutput: {image: x}\nnodes:\n  push: {inputs: {images: }}", nil, `tape.yaml:6:3: node "push" needs input "images"`},
		{"stages refuse an option", "sources: [{path: x}]\noutput:\n  image: NO/WHERE", nil, `tape.yaml:5:10: no repository`},
		{"stage refuses", "sources: [{path: x}]\noutput: {image: x}\nnodes:\n  policy:\n    inputs: {images: resolve.images}\n    with: {allow: [impossible]}", nil, `tape.yaml:8:11: node "policy": impossible`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := table(t).Parse("tape.yaml", file(tt.body))
			if err == nil {
				_, err = p.Build(t.Context(), tt.args)
			}
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			var all document.Errors
			if err != nil && !errors.As(err, &all) {
				t.Errorf("error is a %T", err)
			}
		})
	}
}

func TestHeader(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "tape.yaml: the file is empty; write one first"},
		{"# nothing\n", "tape.yaml: the file is empty; write one first"},
		{"null\n", "tape.yaml: the file is empty; write one first"},
		{"- a\n", "tape.yaml:1:1: the file must be a mapping, not a list"},
		{"sources: []\n", "tape.yaml:1:1: apiVersion is missing; want apiVersion: tape/v1\ntape.yaml:1:1: kind is missing; want kind: Pipeline"},
		{"apiVersion: v1\nkind: Deployment\n", "tape.yaml:1:13: apiVersion is \"v1\", want tape/v1\ntape.yaml:2:7: kind is \"Deployment\", want Pipeline"},
	}
	for _, tt := range tests {
		if _, err := table(t).Parse("tape.yaml", []byte(tt.text)); err == nil || err.Error() != tt.want {
			t.Errorf("%q:\ngot  %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

func TestUnknownTarget(t *testing.T) {
	e := expand(t, "sources: [{path: x}]", nil)
	if _, err := e.Graph("scam"); err == nil || err.Error() != `the pipeline has no node "scam" (did you mean "scan"?)` {
		t.Errorf("got %v", err)
	}
}

// An error that only shows in a run has the position in the file.
func TestPlaced(t *testing.T) {
	e := expand(t, "sources:\n  - path: x\n    options:\n      values: [a, b]\n      replicas: many\n  - path: y", nil)
	wrong := func(node string, paths ...[]string) error {
		var all engine.OptionErrors
		for _, path := range paths {
			all = append(all, &engine.OptionError{Path: path, Err: errors.New("wrong " + strings.Join(path, "."))})
		}
		return &engine.StageError{Node: node, Err: all}
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{wrong("source/x", []string{"options", "replicas"}), "tape.yaml:7:7: source/x: wrong options.replicas"},
		{wrong("source/x", []string{"options", "values", "1"}), "tape.yaml:6:19: source/x: wrong options.values.1"},
		{wrong("source/y", []string{"path"}), "tape.yaml:8:11: source/y: wrong path"},
		{
			wrong("source/x", []string{"options", "replicas"}, []string{"path"}),
			"tape.yaml:4:11: source/x: wrong path\ntape.yaml:7:7: source/x: wrong options.replicas",
		},
		{wrong("source/x", []string{"interpreter"}), "source/x: wrong interpreter"}, // the file does not contain it
		{wrong("scan", []string{"depth"}), "scan: wrong depth"},                     // the default pipeline does
		{errors.New("else"), "else"},
	} {
		if got := e.Placed(tt.err); got.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", got, tt.want)
		}
	}
	if err := e.Placed(nil); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}
