// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/manifests"
)

// Variables of variables double with each, and arguments repeat them.
func TestVariablesBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("env:\n- {name: V0, value: registry.example/app}\n")
	for i := range 60 {
		fmt.Fprintf(&b, "- {name: V%d, value: '$(V%d)$(V%d)'}\n", i+1, i, i)
	}
	b.WriteString("args:\n")
	for range 1000 {
		b.WriteString("- $(V7)\n")
	}
	docs, err := manifests.Parse(&manifests.Text{String: b.String()})
	if err != nil {
		t.Fatal(err)
	}
	become, known := variables(&docs[0].Root)
	total := 0
	for _, value := range become {
		if len(value) > maxExpanded {
			t.Errorf("a value has %d bytes", len(value))
		}
		total += len(value)
	}
	if want := strings.Repeat("registry.example/app", 4); known["V2"] != want {
		t.Errorf("got %q, want %q", known["V2"], want)
	}
	if total < maxVariables/2 || total > maxVariables+b.Len() {
		t.Errorf("values have %d bytes", total)
	}
}
