// SPDX-License-Identifier: Apache-2.0

package show

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

// WriteText writes the view as a tree. Lines that are wider than width, in characters, only
// show the beginning of each digest; 0 is unlimited.
func WriteText(w io.Writer, v *artifact.View, width int) error {
	var out strings.Builder
	counted := func(n int, title string) string { // "" leaves the branch out
		if n == 0 {
			return ""
		}
		return fmt.Sprintf(title, n)
	}
	signature := func(s artifact.Signature) branch { return signatureBranch(s, v.Root.Digest) }
	summary := func(s artifact.ViewSummary) branch { return summaryBranch(s, v.Root.Digest) }
	environments := ""
	if n := len(v.Environments); n > 0 {
		environments = fmt.Sprintf("environments %s (a deployer takes the path of one, such as ./%s)", strings.Join(v.Environments, ", "), v.Environments[n-1])
	}
	tree := branch{v.Root.Ref, []branch{
		{"sources", branches(v.Sources, sourceBranch)},
		{environments, nil},
		{fmt.Sprintf("content %s (%s, %s packed)", v.Content.Ref, count.Of(len(v.Content.Files), "file"), Bytes(v.Content.Size)), branches(v.Content.Files, fileBranch)},
		{fmt.Sprintf("images (%d)", len(v.Images)), branches(v.Images, imageBranch)},
		{fmt.Sprintf("statements (%d)", len(v.Statements)), branches(v.Statements, statementBranch)},
		{fmt.Sprintf("signatures (%d, not verified here)", len(v.Signatures)), branches(v.Signatures, signature)},
		{counted(len(v.Origins), "relocated from (%d, not verified here)"), branches(v.Origins, originBranch)},
		{counted(len(v.Promotions), "promotions (%d, the latest first, not verified here)"), branches(v.Promotions, promotionBranch)},
		{counted(len(v.Reproductions), "reproductions (%d, the latest first, not verified here)"), branches(v.Reproductions, reproductionBranch)},
		{counted(len(v.Summaries), "summaries of verifications (%d, the latest first, not verified here)"), branches(v.Summaries, summary)},
	}}
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

// branches returns a branch for each element of a list.
func branches[T any](list []T, of func(T) branch) []branch {
	var out []branch
	for _, v := range list {
		out = append(out, of(v))
	}
	return out
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

func sourceBranch(s artifact.ViewSource) branch {
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
	return b
}

func fileBranch(f artifact.ViewFile) branch { return branch{text: f.Name + "  " + Bytes(f.Size)} }

func imageBranch(image artifact.ViewImage) branch {
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
	return b
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

func statementBranch(s artifact.ViewStatement) branch {
	text, of := s.PredicateType, count.Of(len(s.Subjects), "subject")
	var t artifact.Transform
	if s.PredicateType == artifact.PredicateTransform && json.Unmarshal(s.Predicate, &t) == nil {
		text += " (" + t.Kind + ")"
	}
	if len(s.Subjects) == 1 {
		of = s.Subjects[0].Name
	}
	return branch{text: text + " of " + of}
}

// partOf returns the name of the root or the content.
func partOf(root, subject digest.Digest) string {
	if subject == root {
		return "root"
	}
	return "content"
}

func signatureBranch(s artifact.Signature, root digest.Digest) branch {
	return branch{text: fmt.Sprintf("of %s by %s  %s", partOf(root, s.Subject), s.By(), s.Digest)}
}

func originBranch(origin artifact.ViewOrigin) branch {
	b := branch{text: cmp.Or(origin.Repository, "an unknown repository") + "@" + origin.Root.String()}
	for _, s := range origin.Signatures {
		b.branches = append(b.branches, signatureBranch(s, origin.Root))
	}
	return b
}

func promotionBranch(r artifact.ViewPromotion) branch {
	text := fmt.Sprintf("%s  %s to %s by %s", r.At.Format(time.RFC3339), r.Root, r.To, r.By())
	b := branch{text: text}
	for _, line := range []struct{ name, value string }{
		{"from", r.From}, {"for", r.Environment}, {"before", r.Previous.String()}, {"verified with", r.Policy.String()}, {"because", r.Reason},
	} {
		if line.value != "" {
			b.branches = append(b.branches, branch{text: line.name + " " + line.value})
		}
	}
	return b
}

func reproductionBranch(r artifact.ViewReproduction) branch {
	how := "made again, the same"
	if !r.Same {
		how = "made again as another, " + r.Made.String()
	}
	text := fmt.Sprintf("%s  %s by %s", r.At.Format(time.RFC3339), how, r.By())
	of := "of commit " + r.Commit
	if r.URI != "" {
		of += " of " + r.URI
	}
	return branch{text, []branch{{of + ", with tape " + r.Tape, nil}}}
}

func summaryBranch(s artifact.ViewSummary, root digest.Digest) branch {
	text := fmt.Sprintf("%s  %s %s by %s", s.TimeVerified.Format(time.RFC3339), partOf(root, s.Subject), s.VerificationResult, s.By())
	policy := s.Policy.URI
	if sum := s.Policy.Digest["sha256"]; sum != "" {
		policy += " sha256:" + sum
	}
	return branch{text, []branch{{"with the policy " + policy, nil}, {fmt.Sprintf("by %s %s", s.Verifier.ID, s.Verifier.Version["tape"]), nil}}}
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

// YAML converts JSON, which is YAML in flow style, to block style. It keeps the order of keys,
// and numbers as they are written.
func YAML(data []byte, indent int) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("convert to yaml: %w", err)
	}
	// An empty list or map has no block style, and a string that looks like another type keeps
	// its quotes.
	var block func(*yaml.Node)
	block = func(n *yaml.Node) {
		n.Style = 0
		for _, below := range n.Content {
			block(below)
		}
	}
	block(&doc)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(indent)
	if err := errors.Join(enc.Encode(&doc), enc.Close()); err != nil {
		return nil, fmt.Errorf("convert to yaml: %w", err)
	}
	return out.Bytes(), nil
}
