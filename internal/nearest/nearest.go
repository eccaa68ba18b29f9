// SPDX-License-Identifier: Apache-2.0

// Package nearest suggests what the user meant to type.
package nearest

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Name returns the name that is most similar to what was typed, the first in alphabetical
// order among equals, or "" if none is similar. A third of the letters may differ, and one
// more, because swapping two letters counts as two differences.
func Name(typed string, names iter.Seq[string]) string {
	if typed == "" {
		return ""
	}
	best, least := "", len(typed)/3+2
	for _, name := range slices.Sorted(names) {
		if d := levenshtein.Distance(strings.ToLower(typed), strings.ToLower(name), nil); d < least {
			best, least = name, d
		}
	}
	return best
}

// Hint returns Name as the end of an error message: ` (did you mean "name"?)`, or "".
func Hint(typed string, names iter.Seq[string]) string {
	name := Name(typed, names)
	if name == "" || name == typed {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", name)
}

// HintOrAll returns Hint, or else the end of an error message that lists all names.
func HintOrAll(typed string, names []string) string {
	if hint := Hint(typed, slices.Values(names)); hint != "" || len(names) == 0 {
		return hint
	}
	return "; want " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
}
