// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func TestPackIsDeterministicAndCompressesWhatPays(t *testing.T) {
	repetitive := map[string][]byte{"b": bytes.Repeat([]byte("a"), 1000), "a": nil}
	desc, data, err := pack(repetitive)
	if err != nil || desc.MediaType != packTypeGzip || len(data) > 200 {
		t.Errorf("pack: %v, %d bytes, %v", desc, len(data), err)
	}
	if again, _, err := pack(repetitive); err != nil || again.Digest != desc.Digest {
		t.Errorf("pack again: %v, %v", again, err)
	}
	if desc, _, err = pack(map[string][]byte{"a": []byte(digest.FromString("x").Encoded())}); err != nil || desc.MediaType != packType {
		t.Errorf("pack of noise: %v, %v", desc, err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	var zeros bytes.Buffer // 1 MiB of them
	w := gzip.NewWriter(&zeros)
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	bomb := strings.Repeat(zeros.String(), maxPack>>20+1)
	for name, test := range map[string]struct{ mediaType, data string }{
		"nothing":        {packType, ""},
		"no end":         {packType, `[]`},
		"no list":        {packType, "{}\n"},
		"not whole":      {packType, `[{"name":"a","size":3}]` + "\nab"},
		"more":           {packType, `[{"name":"a","size":1}]` + "\nab"},
		"negative":       {packType, `[{"name":"a","size":-1}]` + "\na"},
		"twice":          {packType, `[{"name":"a","size":1},{"name":"a","size":1}]` + "\nab"},
		"another order":  {packType, `[{"name":"b","size":1},{"name":"a","size":1}]` + "\nab"},
		"not compressed": {packTypeGzip, `[{"name":"a","size":1}]` + "\na"},
		"a bomb":         {packTypeGzip, bomb},
		"many":           {packType, fmt.Sprintf("[%s{}]\n", bytes.Repeat([]byte("{},"), maxDocuments))},
	} {
		if got, err := unpack(test.mediaType, []byte(test.data)); err == nil {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// Whatever a registry returns, it is an error, or it packs to the same bytes again.
func FuzzEntry(f *testing.F) {
	key := digest.FromString("key")
	desc, data, err := pack(map[string][]byte{"a": []byte("1"), "b": nil})
	if err != nil {
		f.Fatal(err)
	}
	_, manifest, err := statement{Key: key, Pack: desc.Digest}.seal(f.Context(), desc, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(manifest, data)
	f.Add([]byte(`{"artifactType":"`+artifactType+`","layers":[{"size":-1}]}`), []byte("[{\"name\":\"a\",\"size\":9223372036854775807}]\n"))
	f.Fuzz(func(t *testing.T, manifest, data []byte) {
		if e, err := open(manifest, key, nil); err == nil && (e.Key != key || e.pack.Size < 0 || e.pack.Size > maxPack) {
			t.Errorf("opened as %+v", e)
		}
		for _, mediaType := range []string{packType, packTypeGzip} {
			documents, err := unpack(mediaType, data)
			if err != nil {
				continue
			}
			desc, packed, err := pack(documents)
			if err != nil {
				continue // it became larger
			}
			again, err := unpack(desc.MediaType, packed)
			if err != nil || len(again) != len(documents) {
				t.Fatalf("unpacked again: %v", err)
			}
			for name, want := range documents {
				if !bytes.Equal(want, again[name]) {
					t.Errorf("%s (-want +got):\n%s", name, cmp.Diff(want, again[name]))
				}
			}
		}
	})
}
