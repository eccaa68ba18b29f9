// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine"
)

// --progress json prints the fields that docs/events.md lists.
func TestEventFormat(t *testing.T) {
	var out bytes.Buffer
	(&jsonLines{locked{w: &out}}).Event(engine.Event{
		Node: "a", State: engine.Failed, At: time.Unix(0, 0), Item: "b", Current: 1, Total: 2, Unit: "bytes", Level: engine.Warning, Message: "c", Err: "d", Unused: []string{"e"},
	})
	var printed map[string]any
	if err := json.Unmarshal(out.Bytes(), &printed); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\|").FindAllSubmatch(doc, -1) {
		documented = append(documented, string(row[1]))
	}
	slices.Sort(documented)
	if diff := cmp.Diff(documented, slices.Sorted(maps.Keys(printed))); diff != "" {
		t.Errorf("printed differs from documented:\n%s", diff)
	}
}
