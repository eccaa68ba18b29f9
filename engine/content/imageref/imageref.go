// SPDX-License-Identifier: Apache-2.0

// Package imageref splits references to images: NAME[:TAG][@DIGEST].
package imageref

import (
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Reference is a reference split into its parts. The tag and the digest may be "".
type Reference struct {
	Name   string // registry and path
	Tag    string
	Digest digest.Digest
}

// Split splits a reference by its form, without checking or completing it.
func Split(text string) Reference {
	name, dgst, _ := strings.Cut(text, "@")
	r := Reference{Name: name, Digest: digest.Digest(dgst)}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		r.Name, r.Tag = name[:i], name[i+1:]
	}
	return r
}

// Parse validates a reference and completes its name: docker.io/library/nginx.
func Parse(text string) (Reference, error) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return Reference{}, err
	}
	return Split(named.String()), nil
}

// Normalise returns the text of what Parse returns, with the tag latest if the reference has
// neither tag nor digest: docker.io/library/nginx:latest.
func Normalise(text string) (string, error) {
	r, err := Parse(text)
	if err != nil {
		return "", err
	}
	return r.OrLatest().String(), nil
}

// OrLatest returns the reference, with the tag latest if it has neither tag nor digest.
func (r Reference) OrLatest() Reference {
	if r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}
	return r
}

// Version returns what a registry is asked for: the digest, or else the tag.
func (r Reference) Version() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// Tagged returns the reference without its digest.
func (r Reference) Tagged() string {
	r.Digest = ""
	return r.String()
}

// String is the inverse of Split.
func (r Reference) String() string {
	text := r.Name
	if r.Tag != "" {
		text += ":" + r.Tag
	}
	if r.Digest != "" {
		text += "@" + r.Digest.String()
	}
	return text
}
