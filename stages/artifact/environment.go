// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/internal/nearest"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
)

// EnvironmentSet are the environments of an application, sorted. Each file of the content
// of one that has environments is in the folder of its environment.
type EnvironmentSet []string

// Environments returns the environments that the annotations of a root or of content name.
func Environments(annotations map[string]string) EnvironmentSet {
	list := annotations[AnnotationEnvironments]
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// Of returns the environment that a file of the content belongs to; "" is none.
func (s EnvironmentSet) Of(file string) string {
	folder, _, below := strings.Cut(file, "/")
	if below && slices.Contains(s, folder) {
		return folder
	}
	return ""
}

// With returns the environments of the files that locations are in.
func (s EnvironmentSet) With(locations []images.Location) []string {
	var out []string
	for _, environment := range s {
		if slices.ContainsFunc(locations, func(l images.Location) bool { return s.Of(l.File) == environment }) {
			out = append(out, environment)
		}
	}
	return out
}

// Environments returns the environments of the application.
func (a *Application) Environments() EnvironmentSet { return Environments(a.Index.Annotations) }

// Select returns the files of one environment, below its folder: their names have no
// environment.
func (s EnvironmentSet) Select(list []files.File, environment string) ([]files.File, error) {
	if err := s.Check(environment); err != nil {
		return nil, err
	}
	var out []files.File
	for _, f := range list {
		if s.Of(f.Name) == environment {
			f.Name = strings.TrimPrefix(f.Name, environment+"/")
			out = append(out, f)
		}
	}
	return out, nil
}

// Check returns an error that names the environments if a name is not one of them.
func (s EnvironmentSet) Check(environment string) error {
	switch {
	case slices.Contains(s, environment):
		return nil
	case len(s) == 0:
		return fmt.Errorf("there is no environment %q: the application has no environments", environment)
	}
	return fmt.Errorf("there is no environment %q%s", environment, cmp.Or(nearest.Hint(environment, slices.Values(s)), "; want "+strings.Join(s, ", ")))
}

// inEnvironments sets the environments of the images, according to the edits of the files
// that name them.
func (v *View) inEnvironments(statements []Statement) {
	if len(v.Environments) == 0 {
		return
	}
	found := map[digest.Digest][]string{}
	for _, t := range predicates[Transform](statements, PredicateTransform) {
		for _, edit := range t.Edits {
			if environment := EnvironmentSet(v.Environments).Of(edit.File); environment != "" {
				found[edit.Digest] = append(found[edit.Digest], environment)
			}
		}
	}
	for i, image := range v.Images {
		all := found[image.Digest]
		slices.Sort(all)
		v.Images[i].Environments = slices.Compact(all)
	}
}

// Only limits the view to one environment: its files, its sources, the images that its
// manifests name, and the statements that are not of another environment.
func (v *View) Only(environment string) error {
	if err := EnvironmentSet(v.Environments).Check(environment); err != nil {
		return err
	}
	v.Environments = []string{environment}
	v.Content.Files = slices.DeleteFunc(v.Content.Files, func(f ViewFile) bool { return EnvironmentSet(v.Environments).Of(f.Name) == "" })
	v.Images = slices.DeleteFunc(v.Images, func(i ViewImage) bool { return !slices.Contains(i.Environments, environment) })
	v.Sources = slices.DeleteFunc(v.Sources, func(s ViewSource) bool { return s.Environment != environment })
	v.Source = commonSource(v.Sources)
	v.Statements = slices.DeleteFunc(v.Statements, func(s ViewStatement) bool {
		var of struct {
			Environment string `json:"environment"`
		}
		return json.Unmarshal(s.Predicate, &of) == nil && of.Environment != "" && of.Environment != environment
	})
	return nil
}
