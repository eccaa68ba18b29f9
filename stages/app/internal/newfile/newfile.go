// SPDX-License-Identifier: Apache-2.0

// Package newfile writes YAML files that tape generates for people from untrusted text.
package newfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/taped-dev/tape/engine/advice"
)

// Exists returns the error for a file that already exists and must not be replaced.
func Exists(name string) error {
	return advice.Add(fmt.Errorf("%s already exists", name), advice.Replace)
}

// Write writes a file. It replaces an existing one only if replace is set.
func Write(name, text string, replace bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if replace {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	out, err := os.OpenFile(name, flags, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return Exists(name)
	}
	if err != nil {
		return err
	}
	_, err = out.WriteString(text)
	return errors.Join(err, out.Close())
}

// Quote quotes a text unless it is a valid plain YAML string.
func Quote(s string) string {
	switch {
	case plain.MatchString(s) && !strings.EqualFold(s, "null"):
		return s
	case utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return strconv.Quote(s) // YAML has the same escapes
}

// plain matches texts that never need quotes.
var plain = regexp.MustCompile(`^[A-Za-z0-9._/][A-Za-z0-9._/-]*$`)

// OneLine removes characters from a text that would end a comment in YAML, or that YAML does not
// allow. Otherwise text from a source could add content to the file.
func OneLine(s string) string {
	words := strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
	return strings.Join(words, " ")
}
