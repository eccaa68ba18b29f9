// SPDX-License-Identifier: Apache-2.0

package document_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine/document"
)

var menu = document.Builtin([]byte(`{
	"type": "object", "additionalProperties": false, "required": ["apiVersion", "kind", "dishes"],
	"properties": {
		"apiVersion": {"const": "tape/v1"}, "kind": {"const": "Menu"},
		"dishes": {"type": "array", "minItems": 1, "errorMessage": "name what there is", "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/dish"}]}},
		"prices": {"type": ["object", "null"], "additionalProperties": false, "errorMessage": "a coin is a word", "patternProperties": {"^[a-z]+$": {"type": "integer", "minimum": 1, "maximum": 9}}},
		"open": {"enum": ["never", "always"]},
		"guests": {"type": "array", "uniqueItems": true, "items": {"type": "string", "minLength": 1, "pattern": "^[A-Z]", "errorMessage": "a name begins with a capital"}},
		"code": {"type": "string", "pattern": "^x+$"},
		"a/b~c%": {"type": "object", "additionalProperties": false, "properties": {"known": {}}}
	},
	"$defs": {"dish": {
		"type": "object", "additionalProperties": false,
		"properties": {"name": {"type": "string"}, "hot": {"type": "boolean"}, "from": {"type": "string"}},
		"if": {"required": ["hot"]}, "then": {"required": ["name"]}, "else": {"required": ["name", "from"], "errorMessage": "want its name, and where it is from"}
	}}
}`))

// Every mistake has its position, and says what is wrong and what is wanted.
func TestRead(t *testing.T) {
	const head = "apiVersion: tape/v1\nkind: Menu\n"
	for _, tt := range []struct{ text, want string }{
		{head + "dishes: [soup, {name: pie, hot: true}]", ""},
		{`{"apiVersion": "tape/v1", "kind": "Menu", "dishes": ["soup"]}`, ""},
		{"", "m.yaml: the file is empty"},
		{"# nothing", "m.yaml: the file is empty"},
		{"[soup]", "m.yaml:1:1: the file must be a mapping, not a list"},
		{"dishes: [soup", "m.yaml:1: did not find expected ',' or ']'"},
		{head + "dishes: [soup]\n---\n", "m.yaml:4:1: a second document begins here; a file has only one"},
		{head + "dishes: [soup]\nopen: always\nopen: never", `m.yaml:5:1: "open" already exists in line 4`},
		{head + "dishes: [{<<: {name: pie}}]", "m.yaml:3:11: merge keys are not supported; write the values out"},
		// Another kind of document is not compared further.
		{"kind: Bill\ntotal: 7", "m.yaml:1:1: apiVersion is missing; want apiVersion: tape/v1\nm.yaml:1:7: kind is \"Bill\", want Menu"},
		{head, "m.yaml:1:1: dishes is missing"},
		{head + "dishes: [soup]\nopne: never", `m.yaml:4:1: unknown key "opne" (did you mean "open"?)`},
		{head + "dishes: [soup]\nsomething: 1", `m.yaml:4:1: unknown key "something"; want a/b~c%, apiVersion, code, dishes, guests, kind, open, prices`},
		{head + "dishes: [soup]\na/b~c%: {knwon: 1}", `m.yaml:4:10: unknown key "knwon" (did you mean "known"?)`},
		{head + "dishes: []", "m.yaml:3:9: dishes is empty: name what there is"},
		{head + "dishes: soup", "m.yaml:3:9: dishes must be a list, not a string"},
		{head + "dishes: [7]", "m.yaml:3:10: dishes[0] must be a string or a mapping, not an integer: write it in quotes"},
		{head + "dishes: [soup, {hto: true, name: pie}]", "m.yaml:3:16: dishes[1]: want its name, and where it is from\n" + `m.yaml:3:17: unknown key "hto" (did you mean "hot"?)`},
		{head + "dishes: [{hot: true}]", `m.yaml:3:10: dishes[0] needs "name"`},
		{head + "dishes: [{hot: yes, name: pie}]", "m.yaml:3:16: dishes[0].hot must be a boolean, not a string"},
		{head + "dishes: [soup]\nprices:", ""},
		{head + "dishes: [soup]\nprices: {cent: 0, EUR: 1}", "m.yaml:4:16: prices.cent is 0, want 1 or more\nm.yaml:4:19: prices has the key \"EUR\": a coin is a word"},
		{head + "dishes: [soup]\nprices: {cent: 10}", "m.yaml:4:16: prices.cent is 10, want 9 or less"},
		{head + "dishes: [soup]\nprices: []", "m.yaml:4:9: prices must be a mapping, not a list"},
		{head + "dishes: [soup]\nopen: nevre", `m.yaml:4:7: open is "nevre", want never or always (did you mean "never"?)`},
		{head + "dishes: [soup]\nguests: [Ada, Ada]", "m.yaml:4:15: guests[1] is there twice"},
		{head + "dishes: [soup]\nopen: ''", `m.yaml:4:7: open is "", want never or always`},
		{head + "dishes: [soup]\na/b~c%: []", "m.yaml:4:9: a/b~c% must be a mapping, not a list"},
		{head + "dishes: [soup]\nopen: [never]", "m.yaml:4:7: open is a list, want never or always"},

		{head + "dishes: [soup]\nguests: [7]", "m.yaml:4:10: guests[0] must be a string, not an integer: a name begins with a capital"},
		{head + "dishes: [soup]\nguests: [ada, '', ~]", "m.yaml:4:10: guests[0] is \"ada\": a name begins with a capital\nm.yaml:4:15: guests[1] is empty: a name begins with a capital\nm.yaml:4:19: guests[2] must be a string, not empty"},
		{head + "dishes: [soup]\ncode: y", "m.yaml:4:7: code: 'y' does not match pattern '^x+$'"},
	} {
		var into struct{ Dishes []any }
		_, err := menu().Read("m.yaml", []byte(tt.text), &into)
		if got := message(err); got != tt.want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.text, got, tt.want)
		}
		if all := (document.Errors{}); err != nil && !errors.As(err, &all) {
			t.Errorf("%s: the error is a %T", tt.text, err)
		}
		if err == nil && into.Dishes[0] != "soup" {
			t.Errorf("%s: decoded as %v", tt.text, into)
		}
	}
	// What the schema allows and Go does not is a mistake too.
	var into struct{ Dishes []int }
	if _, err := menu().Read("m.yaml", []byte(head+"dishes: [soup]"), &into); err == nil || !strings.HasPrefix(err.Error(), "m.yaml: json: cannot unmarshal string") {
		t.Errorf("decoded into another type: %v", err)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestNewSchemaRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"{":             "schema: unexpected EOF",
		"true":          "the schema is not an object",
		`{"type": 7}`:   "schema: ",
		`{"$ref": 7}`:   "schema: ",
		`{"$ref": "x"}`: "schema: ",
	} {
		if _, err := document.NewSchema([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// A changed value is another one, and can be written and read again.
func TestValue(t *testing.T) {
	v, err := document.Parse("v.yaml", []byte("a: [1, {b: x}]\nc: '2'\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Name("a", "1", "b"); got != "a[1].b" {
		t.Errorf("the name is %s", got)
	}
	b, key := v.Find("a", "1", "b")
	if want := (document.Position{File: "v.yaml", Line: 1, Column: 12}); b.At != want || key.Column != 9 {
		t.Errorf("b is at %v, its key at %v", b.At, key)
	}
	if missing, _ := v.Find("a", "7", "b"); missing != nil {
		t.Errorf("found %v", missing)
	}
	changed := v.Replaced([]string{"a", "1", "b"}, func(*document.Value) *document.Value { return document.Of("true") }).Set("d", document.Of(""))
	text, err := changed.YAML()
	if diff := cmp.Diff("a:\n  - 1\n  - b: \"true\"\nc: \"2\"\nd: \"\"\n", string(text)); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if text, err = v.YAML(); err != nil || string(text) != "a:\n  - 1\n  - b: x\nc: \"2\"\n" {
		t.Errorf("it was changed: %s, %v", text, err)
	}
}

// No document makes tape panic, and each mistake names the file. A document without mistakes can
// be written and read again.
func FuzzRead(f *testing.F) {
	f.Add([]byte("apiVersion: tape/v1\nkind: Menu\ndishes: [soup, {name: pie, hot: true}]\nprices: {cent: 0, EUR: 1}\nguests: [Ada, Ada]\n"))
	f.Add([]byte("dishes: [&a {hot: x}, *a, 7, [], {from: ''}]\nopen: 1e3\na/b~c%: {x: !!binary eA==}\n"))
	f.Add([]byte("a: &a [*a]\n--- \n? {b: c}\n: !foo 2020-01-01\n"))
	f.Add([]byte("{\"\": \"\", \"kind\": null, \"dishes\": 0x1f}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var into any
		v, err := menu().Read("m.yaml", data, &into)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\nm.yaml") {
				if line == "" {
					t.Errorf("an empty message: %v", err)
				}
			}
			if !strings.HasPrefix(err.Error(), "m.yaml:") {
				t.Errorf("without the file: %v", err)
			}
			return
		}
		text, err := v.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := document.Parse("again.yaml", text)
		if err != nil || !cmp.Equal(v.JSON(), again.JSON()) {
			t.Errorf("%v\n%s", err, text)
		}
	})
}
