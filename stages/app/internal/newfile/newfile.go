// SPDX-License-Identifier: Apache-2.0

// Package newfile writes the YAML files that tape begins for people, of what others say of
// themselves.
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

// Exists is the error of a file that is not to be replaced.
func Exists(name string) error {
	return advice.Add(fmt.Errorf("%s is there already", name), advice.Replace)
}

// Write writes a file, which replaces one that is there only if that is wanted.
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

// Quote makes a text a YAML string where it would not be one by itself.
func Quote(s string) string {
	switch {
	case plain.MatchString(s) && !strings.EqualFold(s, "null"):
		return s
	case utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return strconv.Quote(s) // whose escapes YAML has, too
}

// plain is what needs no quotes, wherever it stands.
var plain = regexp.MustCompile(`^[A-Za-z0-9._/][A-Za-z0-9._/-]*$`)

// OneLine is a text without what YAML takes for the end of a comment, or does not
// take at all: what a source says of itself must not write a file.
func OneLine(s string) string {
	words := strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
	return strings.Join(words, " ")
}
