// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/images"
)

// TestSBOM reads the document with SPDX's own library, and finds every image in it, once for each
// digest, with its package URL and its own SBOM.
func TestSBOM(t *testing.T) {
	web, db := digest.FromString("web"), digest.FromString("db")
	k := &known{Config: Config{Repository: "registry.example.com/team/shop", Created: time.Unix(1700000000, 0)}, images: images.List{Images: []images.Image{
		{Name: "docker.io/library/web:1", Digest: web, Related: []images.Related{
			{Kind: images.SBOM, Via: images.Referrer, Digest: digest.FromString("sbom"), To: web},
			{Kind: images.Signature, Via: images.Tag, Digest: digest.FromString("sig"), To: web},
		}},
		{Name: "docker.io/library/web:latest", Digest: web},
		{Name: "ghcr.io/acme/db@" + db.String(), Digest: db},
	}}}
	content := digest.FromString("content")
	encode := func() []byte {
		data, err := engine.MarshalJSON(k.sbom(content))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := encode()
	if !bytes.Equal(first, encode()) {
		t.Error("the document is not the same twice")
	}
	doc, err := spdxjson.Read(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	if doc.CreationInfo.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("created %s", doc.CreationInfo.Created)
	}
	described, err := spdxlib.GetDescribedPackageIDs(doc)
	if err != nil || len(described) != 1 {
		t.Errorf("describes %v, %v", described, err)
	}
	var got []string
	for _, p := range doc.Packages {
		for _, r := range p.PackageExternalReferences {
			got = append(got, p.PackageName+" "+r.RefType)
		}
	}
	want := map[string]int{"docker.io/library/web purl": 2, "docker.io/library/web " + sbomReference: 1, "ghcr.io/acme/db purl": 1}
	for _, g := range got {
		want[g]--
	}
	for name, n := range want {
		if n != 0 {
			t.Errorf("%s: %d too few", name, n)
		}
	}
	if len(doc.Packages) != 3 {
		t.Errorf("%d packages, want the application and two images", len(doc.Packages))
	}
}
