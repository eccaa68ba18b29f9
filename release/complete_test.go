// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	provenancev1 "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"
	"sigs.k8s.io/yaml"

	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

const commit = "9596ad5391e14b8f98ecd26d1cbf4a5a7ce4a0a3"

func programOf(commit string) *debug.BuildInfo {
	return &debug.BuildInfo{
		GoVersion: "go1.26.8", Path: "github.com/taped-dev/tape/cmd/tape",
		Main: debug.Module{Path: "github.com/taped-dev/tape", Version: "v0.1.0"},
		Deps: []*debug.Module{
			{Path: "golang.org/x/mod", Version: "v0.41.0", Sum: "h1:Khu2En+0gcYPZ2kuIihfswbzxv/mIHXgzPZ018Oty48="},
			{Path: "github.com/a/forked", Version: "v1.0.0", Replace: &debug.Module{
				Path: "github.com/b/fork", Version: "v1.0.1", Sum: "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
			}},
		},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: commit}},
	}
}

// The provenance conforms to SLSA and in-toto, and names what the files were built from.
func TestProvenance(t *testing.T) {
	files := []artifact.Resource{
		{Name: "tape_0.1.0_linux_amd64.tar.gz", Digest: artifact.DigestSet(digest.FromString("archive"))},
		{Name: "interpreters.json", Digest: artifact.DigestSet(digest.FromString("interpreters"))},
	}
	data, err := provenanceOf(parameters{Tag: "v0.1.0", Platforms: []string{"linux/amd64"}}, []*debug.BuildInfo{programOf(commit), programOf(commit)}, files)
	if err != nil {
		t.Fatal(err)
	}
	p := checkProvenance(t, data, files)
	var needs []string
	for _, r := range p.BuildDefinition.ResolvedDependencies {
		for name, hex := range r.Digest {
			needs = append(needs, r.Uri+" "+name+" "+hex)
		}
	}
	want := []string{
		"git+https://github.com/taped-dev/tape@refs/tags/v0.1.0 gitCommit " + commit,
		"pkg:golang/github.com/b/fork@v1.0.1 dirHash " + strings.Repeat("0", 64),
		"pkg:golang/golang.org/x/mod@v0.41.0 dirHash 2a1bb6127fb481c60f67692e22285fb306f3c6ffe62075e0ccf674d7c3adcb8f",
	}
	if !slices.Equal(needs, want) {
		t.Errorf("it needs\n%s\nwant\n%s", strings.Join(needs, "\n"), strings.Join(want, "\n"))
	}

	for _, c := range []struct {
		programs []*debug.BuildInfo
		want     string
	}{
		{nil, "no program names the commit"},
		{[]*debug.BuildInfo{{GoVersion: "go1.26.8"}}, "no program names the commit"},
		{[]*debug.BuildInfo{programOf(commit), programOf(strings.Repeat("0", 40))}, "is of commit 000"},
	} {
		if _, err := provenanceOf(parameters{}, c.programs, files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// checkProvenance parses a statement with in-toto's own types, and checks that its subjects are
// the files.
func checkProvenance(t *testing.T, data []byte, files []artifact.Resource) *provenancev1.Provenance {
	t.Helper()
	var s intoto.Statement
	var p provenancev1.Provenance
	if err := protojson.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	raw, err := s.Predicate.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	if s.PredicateType != "https://slsa.dev/provenance/v1" {
		t.Errorf("it is a %s", s.PredicateType)
	}
	if len(s.Subject) != len(files) {
		t.Errorf("%d subjects, want %d", len(s.Subject), len(files))
		return &p
	}
	for i, f := range files {
		if got := s.Subject[i]; got.Name != f.Name || got.Digest["sha256"] != f.Digest["sha256"] {
			t.Errorf("subject %v, want %v", got, f)
		}
	}
	return &p
}

// The bundle of a provenance verifies offline, for a file of the release and for no other.
func TestSignedProvenance(t *testing.T) {
	private, public, err := sign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "release.key")
	if err := os.WriteFile(keyFile, private, 0o600); err != nil {
		t.Fatal(err)
	}
	const file = "an archive"
	statement, err := provenanceOf(parameters{}, []*debug.BuildInfo{programOf(commit)}, []artifact.Resource{
		{Name: "another", Digest: artifact.DigestSet(digest.FromString("another"))},
		{Name: "tape.tar.gz", Digest: artifact.DigestSet(digest.FromString(file))},
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := signProvenance(t.Context(), keyFile, statement)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifyFile(data, public, file); err != nil {
		t.Error(err)
	}
	if err := verifyFile(data, public, "a file of someone else"); err == nil {
		t.Error("a file that the provenance does not name verifies")
	}
	_, other, err := sign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifyFile(data, other, file); err == nil {
		t.Error("it verifies with another key")
	}
}

// verifyFile verifies like cosign, with the same library.
func verifyFile(data, public []byte, file string) error {
	key, err := cryptoutils.UnmarshalPEMToPublicKey(public)
	if err != nil {
		return err
	}
	verifier, err := signature.LoadDefaultVerifier(key)
	if err != nil {
		return err
	}
	material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(verifier, time.Time{}, time.Time{}), nil
	})
	v, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps())
	if err != nil {
		return err
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(data); err != nil {
		return err
	}
	_, err = v.Verify(&b, verify.NewPolicy(verify.WithArtifact(strings.NewReader(file)), verify.WithKey()))
	return err
}

// The listings name the archives of their platforms, with the checksums of the release.
func TestListings(t *testing.T) {
	archives := archivesOf([]artifact.Resource{
		{Name: "tape_0.1.0_windows_amd64.zip", Digest: map[string]string{"sha256": "aa"}},
		{Name: "tape_0.1.0_linux_arm64.tar.gz", Digest: map[string]string{"sha256": "bb"}},
		{Name: "tape_0.1.0_linux_arm64.tar.gz.spdx.json", Digest: map[string]string{"sha256": "cc"}},
		{Name: "tape_0.1.0_linux_arm64.deb", Digest: map[string]string{"sha256": "dd"}},
		{Name: "tape_0.1.0_darwin_amd64.tar.gz", Digest: map[string]string{"sha256": "ee"}},
	})
	if len(archives) != 3 {
		t.Fatalf("archives %v", archives)
	}
	formula, err := formula("v0.1.0", archives)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\n  version \"0.1.0\"\n",
		"\n  on_linux do\n    on_arm do\n      url \"https://github.com/taped-dev/tape/releases/download/v0.1.0/tape_0.1.0_linux_arm64.tar.gz\"\n      sha256 \"bb\"\n    end\n  end\n",
		"\n  on_macos do\n    on_intel do\n",
	} {
		if !strings.Contains(string(formula), want) {
			t.Errorf("the formula lacks %q:\n%s", want, formula)
		}
	}
	if strings.Contains(string(formula), "windows") {
		t.Errorf("the formula is for Windows:\n%s", formula)
	}
	data, err := krew("v0.1.0", archives)
	if err != nil {
		t.Fatal(err)
	}
	var plugin krewPlugin
	if err := yaml.UnmarshalStrict(data, &plugin); err != nil {
		t.Fatal(err)
	}
	if len(plugin.Spec.Platforms) != 3 {
		t.Fatalf("the plugin is %+v", plugin)
	}
	windows := plugin.Spec.Platforms[2]
	if windows.Bin != "tape.exe" || windows.SHA256 != "aa" || windows.Selector.MatchLabels["os"] != "windows" || windows.Files[0].From != "tape_0.1.0_windows_amd64/*" {
		t.Errorf("Windows has %+v", windows)
	}
}

// krewPlugin has the fields of krew's v1alpha2.
type krewPlugin struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       struct {
		Version          string `json:"version"`
		ShortDescription string `json:"shortDescription"`
		Description      string `json:"description"`
		Homepage         string `json:"homepage"`
		Platforms        []struct {
			URI      string `json:"uri"`
			SHA256   string `json:"sha256"`
			Selector struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"selector"`
			Files []struct {
				From string `json:"from"`
				To   string `json:"to"`
			} `json:"files"`
			Bin string `json:"bin"`
		} `json:"platforms"`
	} `json:"spec"`
}
