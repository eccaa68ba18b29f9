// SPDX-License-Identifier: Apache-2.0

package local

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/internal/nearest"
)

// Place is where an image outside of registries is, as the user writes it: docker-daemon,
// containerd, oci:DIR[:TAG] or archive:FILE[:TAG].
type Place string

// The places without a path.
const (
	Docker     Place = "docker-daemon"
	Containerd Place = "containerd"
)

// Kind returns the place without its path: docker-daemon, containerd, oci or archive. It
// reveals nothing about the machine.
func (p Place) Kind() string {
	kind, _, _ := strings.Cut(string(p), ":")
	return kind
}

// IsFile reports whether the place is a folder or file. Its content does not depend on the
// image's name.
func (p Place) IsFile() bool { return layout.IsReference(string(p)) }

// Check returns an error if the place is not valid.
func (p Place) Check() error {
	kind, path, _ := strings.Cut(string(p), ":")
	if p == Docker || p == Containerd || p.IsFile() && path != "" {
		return nil
	}
	names := []string{string(Docker), string(Containerd), "oci", "archive"}
	near := nearest.Name(kind, slices.Values(names))
	if i := slices.IndexFunc(names, func(name string) bool { return strings.HasPrefix(name, kind) }); near == "" && kind != "" && i >= 0 {
		near = names[i] // docker
	}
	hint := ""
	if near != "" && near != kind {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	}
	return fmt.Errorf("%q is not a place for images: want docker-daemon, containerd, oci:DIR[:TAG] or archive:FILE[:TAG]%s", p, hint)
}

// Below returns the place with a path relative to dir made relative to the working folder.
func (p Place) Below(dir string) Place {
	kind, path, _ := strings.Cut(string(p), ":")
	if !p.IsFile() || dir == "" || filepath.IsAbs(path) {
		return p
	}
	return Place(kind + ":" + filepath.Join(dir, path))
}

// SeenFrom is the inverse of Below.
func (p Place) SeenFrom(dir string) (Place, error) {
	kind, path, _ := strings.Cut(string(p), ":")
	if !p.IsFile() || dir == "" || filepath.IsAbs(path) {
		return p, nil
	}
	rel, err := filepath.Rel(dir, path)
	if err != nil { // one of them is absolute
		rel, err = filepath.Abs(path)
	}
	return Place(kind + ":" + rel), err
}
