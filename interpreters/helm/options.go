// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/strvals"
	"sigs.k8s.io/yaml"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// options are the options in options.schema.json.
type options struct {
	Values      []string `json:"values"`
	Set         []string `json:"set"`
	SetString   []string `json:"setString"`
	SetFile     []string `json:"setFile"`
	Release     string   `json:"release"`
	Namespace   string   `json:"namespace"`
	KubeVersion string   `json:"kubeVersion"`
	APIVersions []string `json:"apiVersions"`
	IncludeCRDs bool     `json:"includeCRDs"`
	Hooks       string   `json:"hooks"`
	TestHooks   bool     `json:"testHooks"`
	Version     string   `json:"version"`

	CreateNamespace bool `json:"createNamespace"`
}

// Values of option hooks.
const (
	hooksInstall = "install"
	hooksNone    = "none"
	hooksAll     = "all"
)

// defaultKubeVersion is the Kubernetes version that charts see. By default, Helm uses the version
// that its packages were built for. In a library, that is v1.20.0, which one chart in ten
// rejects.
const defaultKubeVersion = "1.34.0"

// namespaceName matches a namespace: an RFC 1123 label.
var namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func parseOptions(raw json.RawMessage) (options, error) {
	opts := options{Hooks: hooksInstall, KubeVersion: defaultKubeVersion, IncludeCRDs: true}
	if err := interpreter.DecodeOptions(raw, &opts); err != nil {
		return options{}, err
	}
	if !slices.Contains([]string{hooksInstall, hooksNone, hooksAll}, opts.Hooks) {
		return options{}, problem("", "option hooks: %q is not one of install, none and all", opts.Hooks)
	}
	if opts.Namespace != "" && !namespaceName.MatchString(opts.Namespace) {
		return options{}, problem("", "option namespace: %q is not a valid namespace: want lower-case letters, digits and dashes", opts.Namespace)
	}
	if opts.CreateNamespace && opts.Namespace == "" {
		return options{}, problem("", "option createNamespace needs option namespace, the namespace to create")
	}
	return opts, nil
}

// setFiles returns the paths in option setFile.
func (o *options) setFiles() []string {
	var files []string
	for _, assignment := range o.SetFile {
		if _, file, ok := strings.Cut(assignment, "="); ok {
			files = append(files, file)
		}
	}
	return files
}

// values merges values files and assignments in Helm's order: values, set, setString,
// setFile.
func (o *options) values(t *tree) (map[string]any, error) {
	vals := map[string]any{}
	for _, file := range o.Values {
		data, err := t.read(file)
		if err != nil {
			return nil, problem(file, "cannot read the values file: %w", err)
		}
		var more map[string]any
		if err := yaml.Unmarshal(data, &more); err != nil {
			return nil, yamlProblem(file, "values file", err)
		}
		vals = merge(vals, more)
	}
	for _, s := range o.Set {
		if err := strvals.ParseInto(s, vals); err != nil {
			return nil, unreadable("set", s)
		}
	}
	for _, s := range o.SetString {
		if err := strvals.ParseIntoString(s, vals); err != nil {
			return nil, unreadable("setString", s)
		}
	}
	for _, s := range o.SetFile {
		key, file, ok := strings.Cut(s, "=")
		if !ok {
			return nil, unreadable("setFile", s)
		}
		data, err := t.read(file)
		if err != nil {
			return nil, problem(file, "cannot read the file of option setFile: %w", err)
		}
		// strvals gets a placeholder instead of the path, because it would split the path at
		// commas.
		content := func([]rune) (any, error) { return string(data), nil }
		if err := strvals.ParseIntoFile(key+"=file", vals, content); err != nil {
			return nil, unreadable("setFile", s)
		}
	}
	return vals, nil
}

// unreadable returns the problem of an assignment that Helm rejects. It does not use Helm's own
// error, because that may contain the value.
func unreadable(option, assignment string) error {
	key, _, ok := strings.Cut(assignment, "=")
	if !ok {
		return problem("", "option %s: want key=value", option)
	}
	return problem("", "option %s: invalid assignment to %q (a comma begins the next assignment; write \\, for a comma in a value)", option, key)
}

// merge merges b into a, table by table, as Helm merges values files.
func merge(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	for k, v := range b {
		if over, ok := v.(map[string]any); ok {
			if under, ok := out[k].(map[string]any); ok {
				out[k] = merge(under, over)
				continue
			}
		}
		out[k] = v
	}
	return out
}
