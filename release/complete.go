// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// Files of a release.
const (
	checksums  = "checksums.txt"
	formulaOf  = "tape.rb"
	krewOf     = "krew.yaml"
	provenance = "provenance.json"
	// signed is the provenance as a Sigstore bundle.
	signed = "provenance.sigstore.json"
)

// complete adds files about all others to those of GoReleaser: the Homebrew formula and the krew
// manifest for a tag (a snapshot has none), and the provenance, signed if a key is given. The
// checksums cover everything except the signature.
func complete(ctx context.Context, dist, tag, key string) error {
	files, err := readChecksums(filepath.Join(dist, checksums))
	if err != nil {
		return err
	}
	made := []string{formulaOf, krewOf, provenance}
	files = slices.DeleteFunc(files, func(f artifact.Resource) bool { return slices.Contains(made, f.Name) })
	add := func(name string, data []byte) error {
		files = append(files, artifact.Resource{Name: name, Digest: artifact.DigestSet(digest.FromBytes(data))})
		return os.WriteFile(filepath.Join(dist, name), data, 0o644)
	}
	archives := archivesOf(files)
	if len(archives) == 0 {
		return fmt.Errorf("%s has no archive", filepath.Join(dist, checksums))
	}
	if tag != "" {
		for name, list := range map[string]func(string, []archive) ([]byte, error){formulaOf: formula, krewOf: krew} {
			data, err := list(tag, archives)
			if err == nil {
				err = add(name, data)
			}
			if err != nil {
				return fmt.Errorf("make %s: %w", name, err)
			}
		}
	}
	byName(files)
	programs, err := programsOf(dist, archives)
	if err != nil {
		return err
	}
	with := parameters{Tag: tag}
	for _, a := range archives {
		with.Platforms = append(with.Platforms, a.OS+"/"+a.Arch)
	}
	statement, err := provenanceOf(with, programs, files)
	if err != nil {
		return err
	}
	if err := add(provenance, statement); err != nil {
		return err
	}
	byName(files)
	var sums strings.Builder
	for _, f := range files {
		fmt.Fprintf(&sums, "%s  %s\n", f.Digest["sha256"], f.Name)
	}
	if err := os.WriteFile(filepath.Join(dist, checksums), []byte(sums.String()), 0o644); err != nil || key == "" {
		return err
	}
	bundle, err := signProvenance(ctx, key, statement)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dist, signed), bundle, 0o644)
}

// programsOf returns the build information of the Go programs in the archives.
func programsOf(dist string, archives []archive) (programs []*debug.BuildInfo, err error) {
	for _, a := range archives {
		err := walk(filepath.Join(dist, a.Name), func(f packed) error {
			if f.build != nil {
				programs = append(programs, f.build)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return programs, nil
}

// signProvenance returns a statement as a Sigstore bundle, signed with a key in any form that
// `tape sign` accepts.
func signProvenance(ctx context.Context, key string, statement []byte) ([]byte, error) {
	signer, err := sign.LoadSigner(ctx, key, func(bool) ([]byte, error) { return []byte(os.Getenv("COSIGN_PASSWORD")), nil })
	if err != nil {
		return nil, err
	}
	bundle, err := signer.Bundle(ctx, statement)
	if err != nil {
		return nil, fmt.Errorf("sign the provenance: %w", err)
	}
	return bundle, nil
}

func byName(files []artifact.Resource) {
	slices.SortFunc(files, func(a, b artifact.Resource) int { return cmp.Compare(a.Name, b.Name) })
}

// readChecksums parses the output of sha256sum.
func readChecksums(file string) (files []artifact.Resource, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		sum, name, ok := strings.Cut(s.Text(), "  ")
		d := digest.NewDigestFromEncoded(digest.SHA256, sum)
		if !ok || d.Validate() != nil {
			return nil, fmt.Errorf("%s: %q is not a checksum and a name", file, s.Text())
		}
		files = append(files, artifact.Resource{Name: name, Digest: artifact.DigestSet(d)})
	}
	return files, nil
}

// archive is an archive for a platform.
type archive struct{ Name, Folder, OS, Arch, SHA256 string }

// archiveName matches the names of archives in .goreleaser.yaml.
var archiveName = regexp.MustCompile(`^(tape_.*_(linux|darwin|windows)_(amd64|arm64))\.(tar\.gz|zip)$`)

func archivesOf(files []artifact.Resource) (list []archive) {
	for _, f := range files {
		if m := archiveName.FindStringSubmatch(f.Name); m != nil {
			list = append(list, archive{Name: f.Name, Folder: m[1], OS: m[2], Arch: m[3], SHA256: f.Digest["sha256"]})
		}
	}
	slices.SortFunc(list, func(a, b archive) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// buildType identifies how releases are built, as described in docs/releasing.md.
const buildType = repository + "/buildtypes/release/v1"

// predicate is SLSA provenance v1.
type predicate struct {
	BuildDefinition definition          `json:"buildDefinition"`
	RunDetails      artifact.RunDetails `json:"runDetails"`
}

type definition struct {
	BuildType            string              `json:"buildType"`
	ExternalParameters   parameters          `json:"externalParameters"`
	ResolvedDependencies []artifact.Resource `json:"resolvedDependencies"`
}

// parameters are the inputs that a person chose.
type parameters struct {
	Tag       string   `json:"tag,omitempty"`
	Platforms []string `json:"platforms"`
}

// provenanceOf states how the files were made, from the build information of the programs in the
// archives: the commit, the modules, and the version of Go. It does not name the machine:
// everyone who makes the same release makes the same statement, with their own signature.
func provenanceOf(with parameters, programs []*debug.BuildInfo, files []artifact.Resource) ([]byte, error) {
	from := artifact.Resource{URI: "git+" + repository}
	if with.Tag != "" {
		from.URI += "@refs/tags/" + with.Tag
	}
	var commit, compiler string
	modules := map[string]artifact.Resource{}
	for _, p := range programs {
		compiler = p.GoVersion
		for _, s := range p.Settings {
			switch {
			case s.Key == "vcs.modified" && s.Value == "true":
				from.Annotations = map[string]string{"modified": "true"}
			case s.Key == "vcs.revision" && commit != "" && commit != s.Value:
				return nil, fmt.Errorf("%s is of commit %s, and another program of %s", p.Path, s.Value, commit)
			case s.Key == "vcs.revision":
				commit = s.Value
			}
		}
		for _, m := range linked(p) {
			if m.Sum == "" {
				continue
			}
			sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
			if err != nil {
				return nil, fmt.Errorf("checksum %q of %s: %w", m.Sum, m.Path, err)
			}
			purl := modulePURL(m)
			modules[purl] = artifact.Resource{URI: purl, Digest: map[string]string{"dirHash": hex.EncodeToString(sum)}}
		}
	}
	if commit == "" {
		return nil, errors.New("no program names the commit that it was built from")
	}
	from.Digest = map[string]string{"gitCommit": commit}
	needed := slices.SortedFunc(maps.Values(modules), func(a, b artifact.Resource) int { return cmp.Compare(a.URI, b.URI) })
	s, err := artifact.NewStatement(artifact.PredicateProvenance, predicate{
		BuildDefinition: definition{
			BuildType: buildType, ExternalParameters: with,
			ResolvedDependencies: append([]artifact.Resource{from}, needed...),
		},
		RunDetails: artifact.RunDetails{Builder: artifact.Builder{ID: buildType, Version: map[string]string{"go": compiler}}},
	}, files...)
	if err != nil {
		return nil, err
	}
	return engine.MarshalJSON(s)
}
