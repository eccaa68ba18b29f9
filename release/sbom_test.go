// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"
)

// The document of an archive lists its files and its programs, and is the same whenever and
// wherever it is made.
func TestSBOM(t *testing.T) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(goroot)), "bin/gofmt"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"tape_1_os_arch/LICENSE": []byte("Take it.\n"), "tape_1_os_arch/gofmt": program}
	for _, name := range []string{"tape_1_os_arch.tar.gz", "tape_1_os_arch.zip"} {
		t.Run(name, func(t *testing.T) {
			archive, document := filepath.Join(t.TempDir(), name), filepath.Join(t.TempDir(), "document")
			writeArchive(t, archive, files)
			if err := sbom(archive, document, "2026-01-02T03:04:05+01:00"); err != nil {
				t.Fatal(err)
			}
			d := checkSBOM(t, archive, document)
			if d.CreationInfo.Created != "2026-01-02T02:04:05Z" || len(d.Packages) != 2 || d.Packages[1].PackageName != "stdlib" {
				t.Errorf("it has %v of %s", d.Packages, d.CreationInfo.Created)
			}
			first, err := os.ReadFile(document)
			if err != nil {
				t.Fatal(err)
			}
			if err := sbom(archive, document, "2026-01-02T02:04:05Z"); err != nil {
				t.Fatal(err)
			}
			if again, err := os.ReadFile(document); err != nil || !bytes.Equal(first, again) {
				t.Errorf("made again it differs, %v", err)
			}
		})
	}
	if err := sbom("nothing.tar.gz", filepath.Join(t.TempDir(), "document"), "2026-01-02T02:04:05Z"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
}

// Each program lists its modules: the main module, dependencies in the version of their
// replacement, and Go's library.
func TestSBOMModules(t *testing.T) {
	made := newDocument("archive", digest.FromString("archive"), time.Now())
	for _, name := range []string{"archive/tape", "archive/tape-interpreter-helm"} {
		if err := made.add(packed{name: name, build: programOf(commit)}); err != nil {
			t.Fatal(err)
		}
	}
	d, err := made.finish()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	names := map[common.ElementID]string{"DOCUMENT": "DOCUMENT"}
	for _, p := range d.Packages {
		purl := ""
		for _, r := range p.PackageExternalReferences {
			purl = r.Locator
		}
		got = append(got, p.PackageName+" "+p.PackageVersion+" "+p.PackageDownloadLocation+" "+purl)
		names[p.PackageSPDXIdentifier] = p.PackageName
	}
	for _, f := range d.Files {
		names[f.FileSPDXIdentifier] = f.FileName
	}
	for _, r := range d.Relationships {
		got = append(got, names[r.RefA.ElementRefID]+" "+r.Relationship+" "+names[r.RefB.ElementRefID])
	}
	want := []string{
		"archive v0.1.0 NOASSERTION ",
		"github.com/b/fork v1.0.1 https://proxy.golang.org/github.com/b/fork/@v/v1.0.1.zip pkg:golang/github.com/b/fork@v1.0.1",
		"github.com/taped-dev/tape v0.1.0 NOASSERTION pkg:golang/github.com/taped-dev/tape@v0.1.0",
		"golang.org/x/mod v0.41.0 https://proxy.golang.org/golang.org/x/mod/@v/v0.41.0.zip pkg:golang/golang.org/x/mod@v0.41.0",
		"stdlib 1.26.8 NOASSERTION pkg:golang/stdlib@1.26.8",
		"DOCUMENT DESCRIBES archive",
	}
	for _, f := range []string{"./archive/tape", "./archive/tape-interpreter-helm"} {
		want = append(want, "archive CONTAINS "+f, f+" GENERATED_FROM github.com/taped-dev/tape",
			f+" STATIC_LINK golang.org/x/mod", f+" STATIC_LINK github.com/b/fork", f+" STATIC_LINK stdlib")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// checkSBOM compares the document of an archive with the archive, and checks what SPDX requires
// and the library does not.
func checkSBOM(t *testing.T, archive, document string) *spdx.Document {
	t.Helper()
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var d spdx.Document
	if err := json.ReadInto(bytes.NewReader(data), &d); err != nil {
		t.Fatal(err)
	}
	// Every relation is between elements of the document.
	if err := spdxlib.ValidateDocument(&d); err != nil {
		t.Error(err)
	}
	whole, err := sum(archive)
	if err != nil {
		t.Fatal(err)
	}
	if d.SPDXVersion != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || d.SPDXIdentifier != "DOCUMENT" || d.DocumentName == "" ||
		!strings.HasSuffix(d.DocumentNamespace, whole.Encoded()) || strings.Contains(d.DocumentNamespace, "#") || len(d.CreationInfo.Creators) == 0 {
		t.Errorf("the document is %+v", d)
	}
	described, err := spdxlib.GetDescribedPackageIDs(&d)
	if err != nil || len(described) != 1 || described[0] != idArchive {
		t.Errorf("it describes %v, %v", described, err)
	}
	seen := map[common.ElementID]bool{}
	identify := func(id common.ElementID) {
		if seen[id] || !regexp.MustCompile(`^[A-Za-z0-9.-]+$`).MatchString(string(id)) {
			t.Errorf("identifier %q is bad, or there twice", id)
		}
		seen[id] = true
	}
	for _, p := range d.Packages {
		identify(p.PackageSPDXIdentifier)
		if p.PackageName == "" || p.PackageVersion == "" && p.PackageSPDXIdentifier != idArchive || p.PackageDownloadLocation == "" {
			t.Errorf("package %+v", p)
		}
	}
	if p := d.Packages[0]; len(p.PackageChecksums) != 1 || p.PackageChecksums[0].Value != whole.Encoded() || len(p.PackageVerificationCode.Value) != 40 {
		t.Errorf("the archive is %+v", p)
	}
	held := map[string]string{}
	for _, f := range d.Files {
		identify(f.FileSPDXIdentifier)
		if len(f.Checksums) != 2 || f.Checksums[0].Algorithm != common.SHA1 || f.Checksums[1].Algorithm != common.SHA256 || f.FileCopyrightText == "" {
			t.Errorf("file %+v", f)
			continue
		}
		held[f.FileName] = f.Checksums[1].Value
	}
	err = walk(archive, func(p packed) error {
		if got := held["./"+p.name]; got != digest.FromBytes(p.data).Encoded() {
			t.Errorf("%s has checksum %q", p.name, got)
		}
		delete(held, "./"+p.name)
		return nil
	})
	if err != nil || len(held) > 0 {
		t.Errorf("files that the archive lacks: %v, %v", held, err)
	}
	return &d
}

// writeArchive packs files, in the format of the archive's name.
func writeArchive(t *testing.T, name string, files map[string][]byte) {
	t.Helper()
	var out bytes.Buffer
	var add func(string, []byte) error
	closers := []io.Closer{}
	if strings.HasSuffix(name, ".zip") {
		z := zip.NewWriter(&out)
		closers = append(closers, z)
		add = func(name string, data []byte) error {
			w, err := z.CreateHeader(&zip.FileHeader{Name: name})
			if err == nil {
				_, err = w.Write(data)
			}
			return err
		}
	} else {
		z, err := gzip.NewWriterLevel(&out, gzip.NoCompression)
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(z)
		closers = append(closers, w, z)
		add = func(name string, data []byte) error {
			err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o755})
			if err == nil {
				_, err = w.Write(data)
			}
			return err
		}
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if err := add(file, files[file]); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range closers {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
