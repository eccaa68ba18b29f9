// SPDX-License-Identifier: Apache-2.0

// Package nearest guesses what somebody meant to type.
package nearest

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Name is the one of names that is most like what was typed, the first by
// alphabet among equals; "" where none is like it. A third of the letters may
// differ, and one more, since two that are swapped count as two.
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

// Hint is Name as the end of an error's text: ` (did you mean "name"?)`, or "".
func Hint(typed string, names iter.Seq[string]) string {
	name := Name(typed, names)
	if name == "" || name == typed {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", name)
}
