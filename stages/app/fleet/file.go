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
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// FileName is the name of a checked-in fleet file.
const FileName = "tape.fleet.yaml"

// Schema is the JSON Schema of fleet files.
//
//go:embed fleet.schema.json
var Schema []byte

// File is a fleet file.
type File struct {
	// Applications are globs of pipelines, charts and folders, relative to the file.
	Applications []Pattern `json:"applications"`
	// Defaults are for applications that do not override them.
	Defaults Defaults `json:"defaults"`
	// Cache is where plans and records are kept.
	Cache Cache `json:"cache"`
	// Limits are requests to a host, such as 300/s, for all processes of a run together.
	Limits registry.Limits `json:"limits"`
	// Shared is the repository through which images that several applications need are sent
	// once.
	Shared Shared `json:"shared"`
	// Related configures the search for what is published beside images.
	Related Related `json:"related"`

	name string // of the file
	dir  string // of the file
}

// Pattern selects applications: a glob, or one application by its path.
type Pattern struct {
	// Path is a glob in which * matches any part of a name and ** any folders. A leading !
	// excludes what matches.
	Path string `json:"path"`
	// Name of the application, if Path selects a single one; "" is the last element of its path.
	Name string `json:"name"`
	// Output is the destination, if it is not that of the defaults.
	Output Output `json:"output"`

	at document.Position
}

// UnmarshalJSON implements json.Unmarshaler: a text is a Path.
func (p *Pattern) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		return json.Unmarshal(data, &p.Path)
	}
	type mapping Pattern
	return json.Unmarshal(data, (*mapping)(p))
}

// Defaults are for applications that do not override them.
type Defaults struct {
	Output Output `json:"output"`
	Images Images `json:"images"`
}

// Output is the destination of an application.
type Output struct {
	// Image is a repository, in which ${name} and ${path} are replaced by those of the
	// application.
	Image string   `json:"image"`
	Tags  []string `json:"tags"`
}

// Images configures how images are packed.
type Images struct {
	Platform string `json:"platform"`
	Related  string `json:"related"`
}

// Cache is where plans and records are kept.
type Cache struct {
	// Repository of a registry; "" is the store on this machine.
	Repository string `json:"repository"`
	// Trust is a file with the public key that must have signed entries.
	Trust string `json:"trust"`
	// Keep is how long entries are used.
	Keep Duration `json:"keep"`
}

// Shared is the repository through which images that several applications need are sent once.
type Shared struct {
	// Repository that images are sent to before they are mounted into those of the applications.
	Repository string `json:"repository"`
	// From is how many applications must need an image for it to be sent there; 0 is 2.
	From int `json:"from"`
}

// Related configures the search for what is published beside images.
type Related struct {
	// Again is how long a list of what is published beside an image is used; 0 is a day.
	Again *Duration `json:"again"`
}

// again is the default of Related.Again.
const again = 24 * time.Hour

// Duration is a duration such as 90s, 24h or 30d.
type Duration time.Duration

var days = regexp.MustCompile(`^([0-9]{1,5})d$`)

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	if n := days.FindStringSubmatch(text); n != nil {
		count, _ := strconv.Atoi(n[1])
		*d = Duration(time.Duration(count) * 24 * time.Hour)
		return nil
	}
	got, err := time.ParseDuration(text)
	*d = Duration(got)
	return err
}

var schema = document.Builtin(Schema)

// Read reads and checks a fleet file.
func Read(name string) (*File, error) {
	data, err := regular.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &app.UsageError{Err: advice.Add(fmt.Errorf("there is no %s", name), advice.WriteFleet)}
	}
	if err != nil {
		return nil, fmt.Errorf("read fleet: %w", err)
	}
	f := &File{name: name, dir: filepath.Dir(name)}
	root, err := schema().Read(name, data, f)
	if err != nil {
		return nil, err
	}
	for i, item := range root.Get("applications").Items {
		f.Applications[i].at = item.At
	}
	if err := f.check(root); err != nil {
		return nil, err
	}
	return f, nil
}

// check returns an error if the file is not valid by itself. The schema is satisfied.
func (f *File) check(root *document.Value) error {
	var p document.Problems
	for _, a := range f.Applications {
		glob := strings.TrimPrefix(a.Path, "!")
		if path.IsAbs(glob) || !filepath.IsLocal(filepath.FromSlash(glob)) {
			p.Add(a.at, "%s is outside the folder of this file", glob)
		}
		if strings.Count(glob, "**") > maxAnyFolders {
			p.Add(a.at, "%s has ** more than %d times", glob, maxAnyFolders)
		}
		if _, err := path.Match(glob, ""); err != nil {
			p.Add(a.at, "%s is not a glob", glob)
		}
		if a.Name != "" && (strings.HasPrefix(a.Path, "!") || strings.ContainsAny(a.Path, "*?[")) {
			p.Add(a.at, "a name goes with the path of one application, and %s is a glob", a.Path)
		}
	}
	wrong := func(err error, keys ...string) {
		if err != nil {
			v, _ := root.Find(keys...)
			p.Add(v.At, "%s: %v", root.Name(keys...), err)
		}
	}
	if platform := f.Defaults.Images.Platform; platform != "" {
		_, err := images.ParsePlatform(platform)
		wrong(err, "defaults", "images", "platform")
	}
	for section, repository := range map[string]string{"cache": f.Cache.Repository, "shared": f.Shared.Repository} {
		if repository != "" {
			wrong(artifact.CheckRepository(repository), section, "repository")
		}
	}
	if f.Cache.Trust != "" && f.Cache.Repository == "" {
		wrong(errors.New("it requires cache.repository"), "cache", "trust")
	}
	return p.Err()
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
	maps.Copy(out, f.Limits)
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
