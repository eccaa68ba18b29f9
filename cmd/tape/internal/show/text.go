// SPDX-License-Identifier: Apache-2.0

package show

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

// WriteText writes the view as a tree. Lines that are wider than width, in characters, only
// show the beginning of each digest; 0 is unlimited.
func WriteText(w io.Writer, v *artifact.View, width int) error {
	var out strings.Builder
	tree := branch{v.Root.Ref, []branch{
		{"sources", sourceBranches(v.Sources)},
		{environmentsText(v.Environments), nil},
		{fmt.Sprintf("content %s (%s, %s packed)", v.Content.Ref, count(len(v.Content.Files), "file"), Bytes(v.Content.Size)), fileBranches(v.Content.Files)},
		{fmt.Sprintf("images (%d)", len(v.Images)), imageBranches(v.Images)},
		{fmt.Sprintf("statements (%d)", len(v.Statements)), statementBranches(v.Statements)},
		{fmt.Sprintf("signatures (%d, not verified here)", len(v.Signatures)), signatureBranches(v)},
	}}
	if len(v.Origins) > 0 {
		tree.branches = append(tree.branches, branch{fmt.Sprintf("relocated from (%d, not verified here)", len(v.Origins)), originBranches(v.Origins)})
	}
	if len(v.Promotions) > 0 {
		tree.branches = append(tree.branches, branch{fmt.Sprintf("promotions (%d, the latest first, not verified here)", len(v.Promotions)), promotionBranches(v.Promotions)})
	}
	if len(v.Reproductions) > 0 {
		tree.branches = append(tree.branches, branch{fmt.Sprintf("reproductions (%d, the latest first, not verified here)", len(v.Reproductions)), reproductionBranches(v.Reproductions)})
	}
	if len(v.Summaries) > 0 {
		tree.branches = append(tree.branches, branch{fmt.Sprintf("summaries of verifications (%d, the latest first, not verified here)", len(v.Summaries)), summaryBranches(v)})
	}
	tree.branches = slices.DeleteFunc(tree.branches, func(b branch) bool { return b.text == "" })
	tree.write(&out, width, "", "", "")
	if v.TagReason != "" {
		fmt.Fprintf(&out, "note: %s\n", printable(v.TagReason))
	}
	for _, warning := range v.Warnings {
		fmt.Fprintf(&out, "warning: %s\n", printable(warning))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// branch is a line and the lines below it.
type branch struct {
	text     string
	branches []branch
}

// write prints the branch: lead precedes its own line, and rest the lines below it.
func (b branch) write(w *strings.Builder, width int, indent, lead, rest string) {
	fmt.Fprintln(w, Fit(indent+lead+printable(b.text), width))
	indent += rest
	for i, child := range b.branches {
		if i < len(b.branches)-1 {
			child.write(w, width, indent, "├─ ", "│  ")
		} else {
			child.write(w, width, indent, "└─ ", "   ")
		}
	}
}

var hexDigest = regexp.MustCompile(`\b(sha256:[a-f0-9]{12}|[a-f0-9]{12})[a-f0-9]{28,116}\b`)

// Fit shortens a line that is wider than width, in characters: digests and commits first, then
// its middle. 0 is unlimited.
func Fit(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	line = hexDigest.ReplaceAllString(line, "$1…")
	if runes := []rune(line); len(runes) > width {
		keep := max(width-1, 2)
		line = string(runes[:keep*2/3]) + "…" + string(runes[len(runes)-(keep-keep*2/3):])
	}
	return line
}

// printable prevents text of others from controlling the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

func sourceBranches(list []artifact.ViewSource) []branch {
	var out []branch
	for _, s := range list {
		text := cmp.Or(s.Reference, s.Path, ".")
		if s.Name != "" && s.Name != text {
			text = s.Name + ": " + text
		}
		if s.URI != "" {
			text += " in " + s.URI
		}
		if s.Commit != "" {
			text += " at " + s.Commit
		}
		switch s.Modified {
		case vcs.Yes:
			text += ", modified"
			if s.Changes != "" {
				text += ": " + s.Changes
			}
		case vcs.No:
			text += ", not modified"
		default:
			text += ", not known whether modified"
		}
		b := branch{text: text}
		if s.Interpreter != "" {
			b.branches = append(b.branches, branch{text: "rendered by " + s.Interpreter})
		}
		for _, o := range sourceOptions(s.Options) {
			b.branches = append(b.branches, branch{text: o.Name + ": " + o.Value})
		}
		out = append(out, b)
	}
	return out
}

// environmentsText lists the environments and the path for a deployer; "" if there are none.
func environmentsText(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("environments %s (a deployer takes the path of one, such as ./%s)", strings.Join(all, ", "), all[len(all)-1])
}

func fileBranches(list []artifact.ViewFile) []branch {
	var out []branch
	for _, f := range list {
		out = append(out, branch{text: f.Name + "  " + Bytes(f.Size)})
	}
	return out
}

func imageBranches(list []artifact.ViewImage) []branch {
	var out []branch
	for _, image := range list {
		text := image.Name
		if len(image.Names) > 1 {
			text = strings.Join(image.Names, ", ")
		}
		b := branch{text: text, branches: []branch{{text: image.Ref}}}
		if len(image.Environments) > 0 {
			b.branches = append(b.branches, branch{text: "in " + strings.Join(image.Environments, ", ")})
		}
		attached := map[digest.Digest][]branch{}
		for _, r := range image.Related {
			attached[r.To] = append(attached[r.To], relatedBranch(r))
		}
		for _, p := range image.Platforms {
			platform := branch{text: fmt.Sprintf("%s  %s  %s", cmp.Or(p.Platform, "platform unknown"), p.Digest, Bytes(p.Bytes))}
			if p.Digest != image.Digest {
				platform.branches = attached[p.Digest]
			}
			b.branches = append(b.branches, platform)
		}
		b.branches = append(b.branches, attached[image.Digest]...)
		out = append(out, b)
	}
	return out
}

func relatedBranch(r images.Related) branch {
	how := "by referrer"
	switch r.Via {
	case images.Inline:
		how = "in the image's index"
	case images.Tag:
		how = "by tag " + r.Tag
	}
	return branch{text: fmt.Sprintf("%s  %s  %s", r.Kind, r.Digest, how)}
}

func statementBranches(list []artifact.ViewStatement) []branch {
	var out []branch
	for _, s := range list {
		text, of := s.PredicateType, count(len(s.Subjects), "subject")
		var t artifact.Transform
		if s.PredicateType == artifact.PredicateTransform && json.Unmarshal(s.Predicate, &t) == nil {
			text += " (" + t.Kind + ")"
		}
		if len(s.Subjects) == 1 {
			of = s.Subjects[0].Name
		}
		out = append(out, branch{text: text + " of " + of})
	}
	return out
}

// partOf returns the name of the root or the content.
func partOf(root, subject digest.Digest) string {
	if subject == root {
		return "root"
	}
	return "content"
}

func signatureBranches(v *artifact.View) []branch {
	var out []branch
	for _, s := range v.Signatures {
		out = append(out, signatureBranch(s, v.Root.Digest))
	}
	return out
}

func signatureBranch(s artifact.Signature, root digest.Digest) branch {
	return branch{text: fmt.Sprintf("of %s by %s  %s", partOf(root, s.Subject), s.By(), s.Digest)}
}

func originBranches(list []artifact.ViewOrigin) []branch {
	var out []branch
	for _, origin := range list {
		b := branch{text: cmp.Or(origin.Repository, "an unknown repository") + "@" + origin.Root.String()}
		for _, s := range origin.Signatures {
			b.branches = append(b.branches, signatureBranch(s, origin.Root))
		}
		out = append(out, b)
	}
	return out
}

func promotionBranches(list []artifact.ViewPromotion) []branch {
	var out []branch
	for _, r := range list {
		text := fmt.Sprintf("%s  %s to %s by %s", r.At.Format(time.RFC3339), r.Root, r.To, r.By())
		b := branch{text: text}
		for _, line := range []struct{ name, value string }{
			{"from", r.From}, {"for", r.Environment}, {"before", r.Previous.String()}, {"verified with", r.Policy.String()}, {"because", r.Reason},
		} {
			if line.value != "" {
				b.branches = append(b.branches, branch{text: line.name + " " + line.value})
			}
		}
		out = append(out, b)
	}
	return out
}

func reproductionBranches(list []artifact.ViewReproduction) []branch {
	var out []branch
	for _, r := range list {
		how := "made again, the same"
		if !r.Same {
			how = "made again as another, " + r.Made.String()
		}
		text := fmt.Sprintf("%s  %s by %s", r.At.Format(time.RFC3339), how, r.By())
		of := "of commit " + r.Commit
		if r.URI != "" {
			of += " of " + r.URI
		}
		out = append(out, branch{text, []branch{{of + ", with tape " + r.Tape, nil}}})
	}
	return out
}

func summaryBranches(v *artifact.View) []branch {
	var out []branch
	for _, s := range v.Summaries {
		text := fmt.Sprintf("%s  %s %s by %s", s.TimeVerified.Format(time.RFC3339), partOf(v.Root.Digest, s.Subject), s.VerificationResult, s.By())
		policy := s.Policy.URI
		if sum := s.Policy.Digest["sha256"]; sum != "" {
			policy += " sha256:" + sum
		}
		out = append(out, branch{text, []branch{{"with the policy " + policy, nil}, {fmt.Sprintf("by %s %s", s.Verifier.ID, s.Verifier.Version["tape"]), nil}}})
	}
	return out
}

func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// Bytes formats a number of bytes for people: 999 B, 1.5 kB, 20.1 MB.
func Bytes(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1000, 0
	for value >= 999.95 && unit < len(units)-1 {
		value /= 1000
		unit++
	}
	return fmt.Sprintf("%.1f %cB", value, units[unit])
}
