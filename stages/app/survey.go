// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/discover"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/resolve"
	"github.com/taped-dev/tape/stages/vcs"
)

// Survey describes what an application is made from, as far as that is known without asking a
// registry. If two surveys of an application are equal, and so are its images, Package makes the
// same root, except for the commit in its statements.
type Survey struct {
	// Repository is the destination of the application. Tags are its tags as far as they are
	// known; a tag that is the digest of the content is not.
	Repository string   `json:"repository"`
	Tags       []string `json:"tags,omitempty"`
	// Nodes maps each node of the graph to a digest of its configuration.
	Nodes   map[string]digest.Digest `json:"nodes"`
	Sources []SurveyedSource         `json:"sources"`
	// References are the images that the manifests name, normalised and sorted; null if nothing
	// was rendered.
	References []string `json:"references"`
	// Platform and Related are the same as in [Options].
	Platform string `json:"platform,omitempty"`
	Related  string `json:"related"`
	// Local reports that some of its images are not in a registry, or may differ from those in a
	// registry, so that other information about these images does not apply.
	Local bool `json:"local,omitempty"`
	// Trust is a digest of the trust policy for its images, including the keys and trusted roots
	// that it names; "" if there is none.
	Trust digest.Digest `json:"trust,omitempty"`
}

// SurveyedSource describes one source.
type SurveyedSource struct {
	Name string `json:"name"`
	// Interpreter is the name and version of the interpreter.
	Interpreter string        `json:"interpreter"`
	Checksum    digest.Digest `json:"checksum"`
	// Options is a digest of the options, secrets and environment of the interpreter.
	Options digest.Digest `json:"options"`
	// Files maps paths relative to the top of the repository to digests.
	Files map[string]digest.Digest `json:"files"`
	// Path is the path of the source, relative to the same folder as Files.
	Path string `json:"path"`
	// Modified reports whether the files are modified, according to git.
	Modified vcs.Tristate `json:"modified"`
}

// SurveyOptions are the options of MakeSurvey.
type SurveyOptions struct {
	PackageOptions
	// Render renders the sources to find References.
	Render bool
	// Unless, if not nil, is called with the survey before rendering. It may complete the survey,
	// and returns true to skip rendering.
	Unless func(*Survey) bool
}

// MakeSurvey reads the sources, and renders them if requested.
func MakeSurvey(ctx context.Context, o SurveyOptions) (*Survey, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p, err := o.prepare(ctx)
	if err != nil {
		return nil, err
	}
	if err := o.set(p); err != nil {
		return nil, err
	}
	expanded, err := o.expand(ctx, p)
	if err != nil {
		return nil, err
	}
	graph, err := expanded.Graph()
	if err != nil {
		return nil, fromOptions(err)
	}
	survey := &Survey{Nodes: map[string]digest.Digest{}, Related: discover.Default}
	if survey.Trust, err = o.TrustDigest(ctx); err != nil {
		return nil, err
	}
	hasSource := false
	for _, node := range graph.Nodes() {
		if err := survey.add(node); err != nil {
			return nil, err
		}
		hasSource = hasSource || node.Kind == "source"
	}
	scan, _, _ := references.ref.Split()
	target := scan
	if hasSource && (!o.Render || o.Unless != nil) {
		target = "source"
	}
	run, _, err := o.carryOut(ctx, expanded, target)
	if err != nil {
		return nil, err
	}
	if err := survey.read(ctx, run); err != nil {
		return nil, err
	}
	if !o.Render || o.Unless != nil && o.Unless(survey) {
		return survey, nil
	}
	if target != scan {
		if run, _, err = o.carryOut(ctx, expanded, scan); err != nil {
			return nil, err
		}
	}
	var report images.Report
	if err := run.read(ctx, references.into(&report)); err != nil {
		return nil, err
	}
	survey.References = []string{}
	for _, ref := range report.References {
		survey.References = append(survey.References, ref.Name)
	}
	slices.Sort(survey.References)
	survey.References = slices.Compact(survey.References)
	return survey, nil
}

// read adds the content of the sources.
func (s *Survey) read(ctx context.Context, run made) error {
	var facts []vcs.Facts
	for _, node := range run.Nodes {
		if _, ok := node.Outputs["request"]; !ok {
			continue
		}
		of, source, err := run.source(ctx, node.Name)
		if err != nil {
			return err
		}
		s.Sources, facts = append(s.Sources, source), append(facts, of)
	}
	if len(s.Tags) == 0 {
		s.Tags = artifact.VersionTags(facts)
	}
	return nil
}

// add adds the configuration of a node. It leaves out the location of a source on this machine;
// only the path in the repository matters.
func (s *Survey) add(node engine.Node) error {
	var config map[string]json.RawMessage
	if len(node.Config) > 0 {
		if err := json.Unmarshal(node.Config, &config); err != nil {
			return fmt.Errorf("read the configuration of %s: %w", node.Name, err)
		}
	}
	text := func(option string) (out string) {
		_ = json.Unmarshal(config[option], &out) // a custom pipeline may use another type there
		return out
	}
	switch node.Kind {
	case "source":
		if !strings.Contains(text("path"), "://") {
			delete(config, "path")
		}
		delete(config, "settings") // the options include them, without their origin
	case "resolve":
		s.Platform = text("platform")
		s.Local = s.Local || config["from"] != nil || config["digests"] != nil
	case "discover":
		if related := text("related"); related != "" {
			s.Related = related
		}
	case "index":
		_ = json.Unmarshal(config["tags"], &s.Tags)
	case "push":
		s.Repository = text("repository")
	}
	node.Config = nil
	data, err := engine.MarshalJSON([]any{node, config})
	if err != nil {
		return fmt.Errorf("write the configuration of %s: %w", node.Name, err)
	}
	s.Nodes[node.Name] = digest.FromBytes(data)
	return nil
}

// source returns the facts that a source node found.
func (m made) source(ctx context.Context, node string) (vcs.Facts, SurveyedSource, error) {
	var (
		facts   vcs.Facts
		request rendering.Request
	)
	err := m.read(ctx, result[vcs.Facts]{engine.Ref(node + ".facts"), vcs.MediaType}.into(&facts),
		result[rendering.Request]{engine.Ref(node + ".request"), rendering.MediaTypeRequest}.into(&request))
	if err != nil {
		return vcs.Facts{}, SurveyedSource{}, err
	}
	out := SurveyedSource{
		Name:        request.Source,
		Interpreter: strings.TrimSpace(request.Interpreter.Name + " " + request.Interpreter.Version),
		Checksum:    request.Checksum,
		Options:     digest.FromString(string(request.Options) + "\x00" + request.Secrets.String() + "\x00" + request.Environment.String() + "\x00" + request.Reference),
		Files:       map[string]digest.Digest{},
		Path:        facts.Path,
		Modified:    facts.Modified,
	}
	for _, file := range facts.Files {
		out.Files[file.Path] = file.Digest
	}
	return facts, out, nil
}

// AskOptions are the options of AskImage.
type AskOptions struct {
	Environment
	// Name is a normalised reference.
	Name string
	// Platform and Related are the same as in [Options].
	Platform, Related string
}

// AskImage asks a registry what a reference currently leads to, and what is published with that
// image.
func AskImage(ctx context.Context, o AskOptions) (images.Answer, error) {
	resolving, err := resolve.New(resolve.Config{Platform: o.Platform}, o.origins(), "")
	if err != nil {
		return images.Answer{}, asUsage(err)
	}
	discovering, err := discover.New(discover.Config{Related: o.Related}, o.origins())
	if err != nil {
		return images.Answer{}, asUsage(err)
	}
	answer, err := resolving.Ask(ctx, o.Name)
	if err != nil {
		return answer, err
	}
	return answer, discovering.Ask(ctx, &answer)
}
