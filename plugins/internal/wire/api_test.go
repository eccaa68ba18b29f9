// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/taped-dev/tape/plugins/internal/interpreterpb"
)

// api.txt is the protocol that released interpreters were built with. Lines may be added, with
// the fields they name; changing or removing a line breaks these interpreters, and requires
// interpreter.v2.
func TestAPI(t *testing.T) {
	const file = "../../proto/interpreter/v1/api.txt"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(data)), "\n")
	if diff := cmp.Diff(want, describeAPI()); diff != "" {
		t.Errorf("%s (-) and interpreter.proto (+) differ:\n%s", file, diff)
	}
}

// describeAPI returns one line for every method, field and value, sorted.
func describeAPI() []string {
	file := interpreterpb.File_interpreter_v1_interpreter_proto
	var lines []string
	for i := range file.Services().Len() {
		s := file.Services().Get(i)
		for j := range s.Methods().Len() {
			m := s.Methods().Get(j)
			stream := func(yes bool) string {
				if yes {
					return "stream "
				}
				return ""
			}
			lines = append(lines, fmt.Sprintf("%s(%s%s) %s%s", m.FullName(),
				stream(m.IsStreamingClient()), m.Input().FullName(), stream(m.IsStreamingServer()), m.Output().FullName()))
		}
	}
	for i := range file.Messages().Len() {
		fields := file.Messages().Get(i).Fields()
		for j := range fields.Len() {
			f := fields.Get(j)
			kind := f.Kind().String()
			switch f.Kind() {
			case protoreflect.MessageKind:
				kind = string(f.Message().FullName())
			case protoreflect.EnumKind:
				kind = string(f.Enum().FullName())
			}
			in := ""
			if o := f.ContainingOneof(); o != nil {
				in = " in " + string(o.Name())
			}
			lines = append(lines, fmt.Sprintf("%s = %d %s %s%s", f.FullName(), f.Number(), f.Cardinality(), kind, in))
		}
	}
	for i := range file.Enums().Len() {
		values := file.Enums().Get(i).Values()
		for j := range values.Len() {
			v := values.Get(j)
			lines = append(lines, fmt.Sprintf("%s = %d", v.FullName(), v.Number()))
		}
	}
	slices.Sort(lines)
	return lines
}
