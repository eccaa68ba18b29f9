// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	stdgzip "compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/files"
)

// corpus returns text that looks like manifests: repetitive, and long enough for every block of
// the compressor.
func corpus() []files.File {
	r := rand.New(rand.NewPCG(1, 2))
	var out []files.File
	for i := range 40 {
		var b bytes.Buffer
		for range 1 + r.IntN(400) {
			fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c%d\ndata:\n  k: %x # %s\n", r.IntN(100), r.Uint64(), strings.Repeat("é", r.IntN(40)))
		}
		out = append(out, files.File{Name: fmt.Sprintf("d%d/%s%d.yaml", i%3, strings.Repeat("long/", i), i), Data: b.Bytes()})
	}
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	return append(out, files.File{Name: "empty.yaml"}, files.File{Name: "noise.yaml", Data: noise})
}

// The digests below are the format: if they change, every application that is taped again from
// the same commit gets another digest. An update of the pinned compressor that changes them
// requires at least a new minor version of tape.
func TestContentLayerGolden(t *testing.T) {
	for name, c := range map[string]struct {
		files        []files.File
		diff, packed digest.Digest
	}{
		"small": {
			files:  []files.File{{Name: "a/b.yaml", Data: []byte("kind: A\n")}, {Name: "a.yaml", Data: []byte("kind: B\n")}},
			diff:   "sha256:23800ecb0052698b366e81ab6f04453f430f2bdccf4749db608855805a2c745f",
			packed: "sha256:3cd0c8de11968a17301b1cf704b7719a0fe907625e4915f08255812b6cbca3f4",
		},
		"corpus": {
			files:  corpus(),
			diff:   "sha256:5d713371d54e3eedbe6a71647f8374100de72697dcbc810bedca8ab6e1e7dfd0",
			packed: "sha256:4ea86d5d29a2b6ad1d4e1cd98ac9da9cf17e2d6a2c63dff40415f54fd54079c6",
		},
	} {
		layer, err := ContentLayer(c.files)
		if err != nil {
			t.Fatal(err)
		}
		want := ocispec.Descriptor{
			MediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
			Digest:    c.packed,
			Size:      int64(len(layer.Data)),
			Annotations: map[string]string{
				"org.opencontainers.image.title": ".",
				"io.deis.oras.content.unpack":    "true",
				"io.deis.oras.content.digest":    c.diff.String(),
			},
		}
		if diff := cmp.Diff(want, layer.Desc); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		slices.Reverse(c.files)
		again, err := ContentLayer(c.files)
		if err != nil || again.Desc.Digest != layer.Desc.Digest {
			t.Errorf("%s: in reverse order %s, %v", name, again.Desc.Digest, err)
		}
	}
}

// TestContentLayerIsPlainGzip reads the layer with the standard library.
func TestContentLayerIsPlainGzip(t *testing.T) {
	layer, err := ContentLayer(corpus())
	if err != nil {
		t.Fatal(err)
	}
	r, err := stdgzip.NewReader(bytes.NewReader(layer.Data))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(stdgzip.Header{OS: 255}, r.Header); diff != "" || !r.ModTime.Equal(time.Time{}) {
		t.Errorf("header: %s", diff)
	}
	tar, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := digest.FromBytes(tar).String(); got != layer.Desc.Annotations[annotationUnpackDigest] {
		t.Errorf("the tar is %s, the annotation says %s", got, layer.Desc.Annotations[annotationUnpackDigest])
	}
	if end := bytes.TrimRight(tar, "\x00"); len(tar)%512 != 0 || len(tar)-(len(end)+511)/512*512 != 1024 {
		t.Errorf("the tar does not end in exactly two zero blocks")
	}
}

func TestManifests(t *testing.T) {
	layer := Blob{Desc: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("l"), Size: 1}}
	annotations := map[string]string{ocispec.AnnotationTitle: "<shop>"}
	content, err := ContentManifest(layer.Desc, annotations)
	if err != nil {
		t.Fatal(err)
	}
	const empty = `"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`
	want := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.tape.content.v1",` + empty +
		`,"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + layer.Desc.Digest.String() + `","size":1}],` +
		`"annotations":{"org.opencontainers.image.title":"<shop>","vnd.tape.content.interpreter":"kubectl-apply"}}`
	if diff := cmp.Diff(want, string(content.Data)); diff != "" {
		t.Error(diff)
	}
	if len(annotations) != 1 {
		t.Errorf("the caller's annotations were changed: %v", annotations)
	}

	statement := Statement{Type: StatementType, PredicateType: "p", Predicate: json.RawMessage("{}")}
	attestations, err := Attestations(content.Desc, []Statement{statement})
	if err != nil {
		t.Fatal(err)
	}
	said := attestations[0].Desc
	want = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.docker.attestation.manifest.v1+json",` + empty +
		`,"layers":[{"mediaType":"application/vnd.in-toto+json","digest":"` + said.Digest.String() + `","size":` + fmt.Sprint(said.Size) + `,"annotations":{"in-toto.io/predicate-type":"p"}}],` +
		`"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + content.Desc.Digest.String() + `","size":` + fmt.Sprint(len(content.Data)) + `}}`
	if diff := cmp.Diff(want, string(attestations[1].Data)); diff != "" {
		t.Error(diff)
	}
}
