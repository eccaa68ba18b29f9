// SPDX-License-Identifier: Apache-2.0

package credentials

// Hide returns a text, the value of a name, with its credentials replaced.
func Hide(name, text string) string {
	return replace(name, text, func(string) string { return Hidden })
}
