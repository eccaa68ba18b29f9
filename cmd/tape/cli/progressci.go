// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/taped-dev/tape/engine"
)

// newGitHub returns plain lines in a group, which GitHub folds. Warnings and notes become
// annotations, which GitHub shows next to the lines of files.
func newGitHub(w io.Writer) *plainLines {
	fmt.Fprintln(w, "::group::tape")
	return &plainLines{locked: locked{w: w}, nodes: nodeStates{}, end: func() string { return "::endgroup::" }, format: func(e engine.Event) string {
		level := "notice"
		if e.Level == engine.Warning {
			level = "warning"
		}
		return annotations(level, e.Message)
	}}
}

// newGitLab returns plain lines in a section, which GitLab folds.
func newGitLab(w io.Writer, now func() time.Time) *plainLines {
	fmt.Fprintf(w, "\x1b[0Ksection_start:%d:tape\r\x1b[0Ktape\n", now().Unix())
	return &plainLines{locked: locked{w: w}, nodes: nodeStates{}, format: noticeText, end: func() string {
		return fmt.Sprintf("\x1b[0Ksection_end:%d:tape\r\x1b[0K", now().Unix())
	}}
}

// position matches a position in a file as written in errors: FILE:LINE: or FILE:LINE:COLUMN.
// (What follows FILE:LINE distinguishes it from a host with a port.)
var position = regexp.MustCompile(`([^\s:"]+\.[A-Za-z0-9]+):([0-9]+)(?::\s|:([0-9]+)(?:[:,\s]|$))`)

// annotations returns commands for the runner of GitHub that show a text next to the positions in
// it: one for each line with a position, including the lines up to the next one.
func annotations(level, text string) string {
	var parts []string
	for line := range strings.Lines(text) {
		if len(parts) > 0 && !position.MatchString(line) {
			parts[len(parts)-1] += line
		} else {
			parts = append(parts, line)
		}
	}
	for i, part := range parts {
		parts[i] = annotation(level, strings.TrimSuffix(part, "\n"))
	}
	return strings.Join(parts, "\n")
}

// annotation returns a command that shows a text next to the first position in it. The text is
// escaped so that it cannot end the command or begin another.
func annotation(level, text string) string {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	where := ""
	if m := position.FindStringSubmatch(text); m != nil {
		file := m[1]
		// GitHub expects a path relative to the top of the repository, which is the working
		// directory.
		if dir, err := os.Getwd(); err == nil && filepath.IsAbs(file) {
			if rel, err := filepath.Rel(dir, file); err == nil && filepath.IsLocal(rel) {
				file = rel
			}
		}
		where = " file=" + property.Replace(filepath.ToSlash(file)) + ",line=" + m[2]
		if m[3] != "" {
			where += ",col=" + m[3]
		}
	}
	return "::" + level + where + "::" + data.Replace(text)
}
