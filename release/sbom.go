// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/package-url/packageurl-go"
	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/utils"
	"golang.org/x/mod/module"
)

const (
	repository = "https://github.com/taped-dev/tape"
	// noAssertion is the value of SPDX for an unknown field.
	noAssertion = "NOASSERTION"
	// idArchive is the archive's identifier in its document.
	idArchive = common.ElementID("Archive")
)

// sbom writes the SPDX 2.3 document of an archive: its files, and the Go modules that are
// linked into each of its programs. The same archive always gives the same bytes.
func sbom(archive, document, created string) error {
	when, err := time.Parse(time.RFC3339, created)
	if err != nil {
		return fmt.Errorf("time of creation: %w", err)
	}
	whole, err := sum(archive)
	if err != nil {
		return err
	}
	d := newDocument(filepath.Base(archive), whole, when)
	if err := walk(archive, d.add); err != nil {
		return err
	}
	described, err := d.finish()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Write(described, &out, json.Indent(" ")); err != nil {
		return fmt.Errorf("write %s: %w", document, err)
	}
	return os.WriteFile(document, out.Bytes(), 0o644)
}

// document collects the elements of the files in an archive.
type document struct {
	spdx.Document
	archive *spdx.Package
	modules map[common.ElementID]*spdx.Package
}

func newDocument(name string, whole digest.Digest, created time.Time) *document {
	d := &document{
		Document: spdx.Document{
			SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
			DocumentName:      name,
			DocumentNamespace: repository + "/spdx/release/" + whole.Encoded(),
			CreationInfo: &spdx.CreationInfo{
				Created:  created.UTC().Format(time.RFC3339),
				Creators: []common.Creator{{CreatorType: "Tool", Creator: "tape-release"}},
			},
		},
		archive: &spdx.Package{
			PackageName: name, PackageSPDXIdentifier: idArchive, PackageFileName: name,
			PackageDownloadLocation: noAssertion,
			PackageSupplier:         &common.Supplier{SupplierType: "Organization", Supplier: "tape"},
			PackageHomePage:         repository,
			PackageLicenseConcluded: noAssertion,
			PackageLicenseDeclared:  noAssertion,
			PackageCopyrightText:    noAssertion,
			PrimaryPackagePurpose:   "ARCHIVE",
			PackageChecksums:        []common.Checksum{{Algorithm: common.SHA256, Value: whole.Encoded()}},
			FilesAnalyzed:           true, IsFilesAnalyzedTagPresent: true,
		},
		modules: map[common.ElementID]*spdx.Package{},
	}
	d.relate("DOCUMENT", common.TypeRelationshipDescribe, idArchive)
	return d
}

func (d *document) relate(a common.ElementID, how string, b common.ElementID) {
	d.Relationships = append(d.Relationships, &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(a)), Relationship: how, RefB: common.MakeDocElementID("", string(b)),
	})
}

// add adds a file, and the modules linked into it.
func (d *document) add(p packed) error {
	old, sum := sha1.Sum(p.data), sha256.Sum256(p.data) // SPDX asks for SHA-1
	f := &spdx.File{
		FileName: "./" + p.name, FileSPDXIdentifier: identifier("File", p.name),
		Checksums: []common.Checksum{
			{Algorithm: common.SHA1, Value: hex.EncodeToString(old[:])},
			{Algorithm: common.SHA256, Value: hex.EncodeToString(sum[:])},
		},
		LicenseConcluded: noAssertion, FileCopyrightText: noAssertion,
	}
	d.Files = append(d.Files, f)
	d.relate(idArchive, common.TypeRelationshipContains, f.FileSPDXIdentifier)
	if p.build == nil {
		return nil
	}
	f.FileTypes = []string{"BINARY"}
	for _, m := range linked(p.build) {
		described := describeModule(m)
		how := common.TypeRelationshipStaticLink
		if m.Path == p.build.Main.Path {
			how = common.TypeRelationshipGeneratedFrom
			d.archive.PackageVersion = m.Version
			described.PackageLicenseDeclared = "Apache-2.0"
		}
		d.modules[described.PackageSPDXIdentifier] = described
		d.relate(f.FileSPDXIdentifier, how, described.PackageSPDXIdentifier)
	}
	return nil
}

func (d *document) finish() (*spdx.Document, error) {
	code, err := utils.GetVerificationCode(d.Files, "")
	if err != nil {
		return nil, err
	}
	d.archive.PackageVerificationCode = &code
	d.Packages = append([]*spdx.Package{d.archive}, slices.SortedFunc(maps.Values(d.modules), func(a, b *spdx.Package) int {
		return cmp.Or(cmp.Compare(a.PackageName, b.PackageName), cmp.Compare(a.PackageVersion, b.PackageVersion))
	})...)
	return &d.Document, nil
}

// linked returns the modules of a program: its own first, and Go's library, which scanners know
// as stdlib, last.
func linked(build *debug.BuildInfo) []debug.Module {
	var list []debug.Module
	if build.Main.Path != "" { // programs of Go itself have no module
		list = append(list, build.Main)
	}
	for _, m := range build.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		list = append(list, *m)
	}
	return append(list, debug.Module{Path: "stdlib", Version: strings.TrimPrefix(build.GoVersion, "go")})
}

func describeModule(m debug.Module) *spdx.Package {
	p := &spdx.Package{
		PackageName: m.Path, PackageVersion: m.Version, PackageSPDXIdentifier: identifier("Module", m.Path+"@"+m.Version),
		PackageDownloadLocation: noAssertion,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
		IsFilesAnalyzedTagPresent: true,
		PackageExternalReferences: []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: modulePURL(m),
		}},
	}
	if m.Sum != "" {
		p.PackageSourceInfo = "go.sum has " + m.Sum
	}
	if at, err := module.EscapePath(m.Path); err == nil && m.Sum != "" {
		p.PackageDownloadLocation = "https://proxy.golang.org/" + at + "/@v/" + m.Version + ".zip"
	}
	return p
}

func modulePURL(m debug.Module) string {
	namespace, name := "", m.Path
	if i := strings.LastIndex(m.Path, "/"); i >= 0 {
		namespace, name = m.Path[:i], m.Path[i+1:]
	}
	return packageurl.NewPackageURL(packageurl.TypeGolang, namespace, name, m.Version, nil, "").ToString()
}

// identifier returns an identifier that SPDX allows, which consists of letters, digits, dots and
// dashes.
func identifier(kind, name string) common.ElementID {
	sum := sha256.Sum256([]byte(name))
	return common.ElementID(kind + "-" + hex.EncodeToString(sum[:8]))
}
