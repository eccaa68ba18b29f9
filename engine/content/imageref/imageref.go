// SPDX-License-Identifier: Apache-2.0

// Package imageref splits references to images: NAME[:TAG][@DIGEST].
package imageref

import (
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Reference is a reference in its parts. A tag or digest of "" is none.
type Reference struct {
	Name   string // registry and path
	Tag    string
	Digest digest.Digest
}

// Split splits a reference by its form. Nothing is checked, and nothing is filled in.
func Split(text string) Reference {
	name, dgst, _ := strings.Cut(text, "@")
	r := Reference{Name: name, Digest: digest.Digest(dgst)}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		r.Name, r.Tag = name[:i], name[i+1:]
	}
	return r
}

// Parse checks a reference, and gives it its full name: docker.io/library/nginx.
func Parse(text string) (Reference, error) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return Reference{}, err
	}
	return Split(named.String()), nil
}

// Normalise is the text of what Parse returns, where latest is the tag of one that has
// neither tag nor digest: docker.io/library/nginx:latest.
func Normalise(text string) (string, error) {
	r, err := Parse(text)
	if err != nil {
		return "", err
	}
	return r.OrLatest().String(), nil
}

// OrLatest is the reference, with the tag latest where it has neither tag nor digest.
func (r Reference) OrLatest() Reference {
	if r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}
	return r
}

// Version is what a registry is asked for: the digest, else the tag.
func (r Reference) Version() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// Tagged is the reference without its digest.
func (r Reference) Tagged() string {
	r.Digest = ""
	return r.String()
}

// String undoes Split.
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
