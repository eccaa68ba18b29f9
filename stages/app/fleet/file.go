// SPDX-License-Identifier: Apache-2.0

// Package fleet packages many applications at once: those that a tape.fleet.yaml selects in a
// repository.
//
// A [Plan] gives all processes of a run the same view: which applications there are, what each
// is made of, which digest every image has and what is published beside it, and what is
// packaged for which reason. [Package] carries out a plan, or a shard of one, and keeps a
// [Record] of each application that it packaged; a [Report] collects all records of a plan. An
// application that fails does not stop the others.
package fleet

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/internal/nearest"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/discover"
	"github.com/taped-dev/tape/stages/images"
)

const (
	// FileName is the name of a checked-in fleet file.
	FileName = "tape.fleet.yaml"
	// FileKind is the kind of a fleet file.
	FileKind = "Fleet"
)

// Schema is the JSON Schema of fleet files.
//
//go:embed fleet.schema.json
var Schema []byte

// File is a fleet file.
type File struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	// Applications are globs of pipelines, charts and folders, relative to the file.
	Applications []Pattern `yaml:"applications"`
	// Defaults are for applications that do not override them.
	Defaults Defaults `yaml:"defaults"`
	// Cache is where plans and records are kept.
	Cache Cache `yaml:"cache"`
	// Limits are requests to a host, such as 300/s, for all processes of a run together.
	Limits map[string]string `yaml:"limits"`
	// Shared is the repository through which images that several applications need are sent
	// once.
	Shared Shared `yaml:"shared"`
	// Related configures the search for what is published beside images.
	Related Related `yaml:"related"`

	name string // of the file
	dir  string // of the file
}

// Pattern selects applications: a glob, or one application by its path.
type Pattern struct {
	// Path is a glob in which * matches any part of a name and ** any folders. A leading !
	// excludes what matches.
	Path string `yaml:"path"`
	// Name of the application, if Path selects a single one; "" is the last element of its path.
	Name string `yaml:"name"`
	// Output is the destination, if it is not that of the defaults.
	Output Output `yaml:"output"`

	line int
}

// UnmarshalYAML implements yaml.Unmarshaler: a text is a Path.
func (p *Pattern) UnmarshalYAML(node *yaml.Node) error {
	p.line = node.Line
	if node.Kind == yaml.ScalarNode {
		return node.Decode(&p.Path)
	}
	type plain Pattern
	return strict(node, (*plain)(p))
}

// strict decodes a node and refuses unknown fields, which Node.Decode would ignore.
func strict(node *yaml.Node, into any) error {
	t := reflect.TypeOf(into).Elem()
	known := fields(t)
	for i := 0; i+1 < len(node.Content); i += 2 {
		if key := node.Content[i]; node.Kind == yaml.MappingNode && !slices.Contains(known, key.Value) {
			return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: field %s not found in type %s", key.Line, key.Value, t)}}
		}
	}
	return node.Decode(into)
}

// Defaults are for applications that do not override them.
type Defaults struct {
	Output Output `yaml:"output"`
	Images Images `yaml:"images"`
}

// Output is the destination of an application.
type Output struct {
	// Image is a repository, in which ${name} and ${path} are replaced by those of the
	// application.
	Image string   `yaml:"image"`
	Tags  []string `yaml:"tags"`
}

// Images configures how images are packed.
type Images struct {
	Platform string `yaml:"platform"`
	Related  string `yaml:"related"`
}

// Cache is where plans and records are kept.
type Cache struct {
	// Repository of a registry; "" is the store on this machine.
	Repository string `yaml:"repository"`
	// Trust is a file with the public key that must have signed entries.
	Trust string `yaml:"trust"`
	// Keep is how long entries are used.
	Keep Duration `yaml:"keep"`
}

// Shared is the repository through which images that several applications need are sent once.
type Shared struct {
	// Repository that images are sent to before they are mounted into those of the applications.
	Repository string `yaml:"repository"`
	// From is how many applications must need an image for it to be sent there; 0 is 2.
	From int `yaml:"from"`
}

// Related configures the search for what is published beside images.
type Related struct {
	// Again is how long a list of what is published beside an image is used; 0 is a day.
	Again *Duration `yaml:"again"`
}

// again is the default of Related.Again.
const again = 24 * time.Hour

// Duration is a duration such as 90s, 24h or 30d.
type Duration time.Duration

var days = regexp.MustCompile(`^([0-9]{1,5})d$`)

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	if n := days.FindStringSubmatch(node.Value); n != nil {
		count, _ := strconv.Atoi(n[1])
		*d = Duration(time.Duration(count) * 24 * time.Hour)
		return nil
	}
	got, err := time.ParseDuration(node.Value)
	if err != nil || got < 0 {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %q is not a time such as 12h or 30d", node.Line, node.Value)}}
	}
	*d = Duration(got)
	return nil
}

// Read reads and checks a fleet file.
func Read(name string) (*File, error) {
	data, err := regular.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &app.UsageError{Err: advice.Add(fmt.Errorf("there is no %s", name), advice.WriteFleet)}
	}
	if err != nil {
		return nil, fmt.Errorf("read fleet: %w", err)
	}
	f, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	f.name, f.dir = name, filepath.Dir(name)
	return f, nil
}

var (
	unknownField = regexp.MustCompile(`^field (\S+) not found in type (\S+)$`)
	wrongType    = regexp.MustCompile(`^cannot unmarshal !!(\S+) (.*)into (\S+)$`)
)

func parse(name string, data []byte) (*File, error) {
	var f File
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	err := dec.Decode(&f)
	if err == nil {
		if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
			return nil, &pipeline.Error{File: name, Message: "a fleet file is one YAML document"}
		}
		return &f, f.check(name)
	}
	if errors.Is(err, io.EOF) {
		return nil, &pipeline.Error{File: name, Message: "the file is empty"}
	}
	lines := []string{err.Error()}
	if typed, ok := errors.AsType[*yaml.TypeError](err); ok {
		lines = typed.Errors
	}
	var all pipeline.Errors
	for _, text := range lines {
		e := pipeline.YAMLError(name, text)
		if m := unknownField.FindStringSubmatch(e.Message); m != nil {
			e.Message = fmt.Sprintf("unknown field %q%s", m[1], nearest.Hint(m[1], slices.Values(fieldsOf(m[2]))))
		} else if m := wrongType.FindStringSubmatch(e.Message); m != nil {
			e.Message = fmt.Sprintf("%s is not allowed here", cmp.Or(strings.TrimSpace(m[2]), "a "+m[1]))
		}
		all = append(all, e)
	}
	return nil, all
}

// fieldsOf returns the names that the fields of a type of this package have in a file.
func fieldsOf(typeName string) []string {
	for _, v := range []any{File{}, Pattern{}, Defaults{}, Output{}, Images{}, Cache{}, Shared{}, Related{}} {
		if t := reflect.TypeOf(v); t.String() == strings.Replace(typeName, "plain", "Pattern", 1) {
			return fields(t)
		}
	}
	return nil
}

func fields(t reflect.Type) (out []string) {
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("yaml"); tag != "" {
			out = append(out, tag)
		}
	}
	return out
}

// check returns an error if the file is not valid by itself.
func (f *File) check(name string) error {
	var all pipeline.Errors
	wrong := func(line int, format string, args ...any) {
		all = append(all, &pipeline.Error{File: name, Line: line, Message: fmt.Sprintf(format, args...)})
	}
	if f.APIVersion != pipeline.APIVersion {
		wrong(0, "apiVersion is %q, want %s", f.APIVersion, pipeline.APIVersion)
	}
	if f.Kind != FileKind {
		wrong(0, "kind is %q, want %s", f.Kind, FileKind)
	}
	if len(f.Applications) == 0 {
		wrong(0, "applications is empty: add globs such as apps/*")
	}
	for _, p := range f.Applications {
		glob := strings.TrimPrefix(p.Path, "!")
		if glob == "" {
			wrong(p.line, "an application has no path")
			continue
		}
		if path.IsAbs(glob) || !filepath.IsLocal(filepath.FromSlash(glob)) {
			wrong(p.line, "%s is outside the folder of this file", glob)
		}
		if strings.Count(glob, "**") > maxAnyFolders {
			wrong(p.line, "%s has ** more than %d times", glob, maxAnyFolders)
		}
		if _, err := path.Match(glob, ""); err != nil {
			wrong(p.line, "%s is not a glob", glob)
		}
		if p.Name != "" && (strings.HasPrefix(p.Path, "!") || strings.ContainsAny(p.Path, "*?[")) {
			wrong(p.line, "a name goes with the path of one application, and %s is a glob", p.Path)
		}
		if p.Name != "" && !applicationName.MatchString(p.Name) {
			wrong(p.line, "name %q must consist of letters, digits, dots, dashes and underscores", p.Name)
		}
	}
	if f.Defaults.Images.Platform != "" {
		if _, err := images.ParsePlatform(f.Defaults.Images.Platform); err != nil {
			wrong(0, "defaults.images.platform: %v", err)
		}
	}
	if r := f.Defaults.Images.Related; r != "" && r != discover.Default && r != discover.All && r != discover.None {
		wrong(0, "defaults.images.related %q: want %s, %s or %s", r, discover.Default, discover.All, discover.None)
	}
	for what, repository := range map[string]string{"cache.repository": f.Cache.Repository, "shared.repository": f.Shared.Repository} {
		if repository == "" {
			continue
		}
		if err := artifact.CheckRepository(repository); err != nil {
			wrong(0, "%s: %v", what, err)
		}
	}
	for host, limit := range f.Limits {
		if _, _, err := registry.ParseLimit(host + "=" + limit); err != nil {
			wrong(0, "limits: %v", err)
		}
	}
	if f.Shared.From < 0 || f.Shared.From == 1 {
		wrong(0, "shared.from is %d: want 2 or more", f.Shared.From)
	}
	if f.Cache.Trust != "" && f.Cache.Repository == "" {
		wrong(0, "cache.trust requires cache.repository")
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b *pipeline.Error) int { return cmp.Or(a.Line-b.Line, strings.Compare(a.Message, b.Message)) })
	return all
}

// maxAnyFolders bounds the number of ** in a glob: each multiplies the ways to match a path.
const maxAnyFolders = 3

var applicationName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Path returns a path in the file, relative to the working directory.
func (f *File) Path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.dir, filepath.FromSlash(name))
}

// Budget returns the file's limits, overridden by the given ones.
func (f *File) Budget(given registry.Limits) registry.Limits {
	out := registry.Limits{}
	for host, limit := range f.Limits {
		host, rate, err := registry.ParseLimit(host + "=" + limit)
		if err == nil { // check has the error
			out[host] = rate
		}
	}
	maps.Copy(out, given)
	return out
}

// again returns how long a list of what is published beside an image is used.
func (f *File) again() time.Duration {
	if f.Related.Again != nil {
		return time.Duration(*f.Related.Again)
	}
	return again
}
