// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/sign"
)

// variant is a changed statement of an application.
type variant struct {
	name string
	n    int // of the statement
	data []byte
}

// text is JSON as written, valid or not.
type text string

// encode returns JSON of values of which some are text.
func encode(v any) string {
	var parts []string
	switch v := v.(type) {
	case text:
		return string(v)
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, fmt.Sprintf("%q:%s", key, encode(v[key])))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case []any:
		for _, element := range v {
			parts = append(parts, encode(element))
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	data, _ := json.Marshal(v) // a decoded scalar
	return string(data)
}

// spoiled returns replacements for a value.
func spoiled(v any) map[string]text {
	long, deep := `"`+strings.Repeat("x", 1<<17)+`"`, strings.Repeat("[", 9_000)+strings.Repeat("]", 9_000)
	out := map[string]text{"null": "null", "deep": text(deep), "very deep": text(strings.Repeat(deep, 3))}
	switch v := v.(type) {
	case string:
		maps.Copy(out, map[string]text{
			"number": "7", "object": "{}", "empty": `""`, "long": text(long), "no UTF-8": "\"\xff\xfe\"", "NUL": `"\u0000"`, "half a pair": `"\ud800"`,
			"climbing": `"../../../../tmp/climbing"`, "absolute": `"/tmp/absolute"`, "another digest": text(fmt.Sprintf("%q", digest.FromString("another"))),
		})
	case json.Number:
		maps.Copy(out, map[string]text{
			"string": `"7"`, "list": "[]", "negative": "-1", "least": "-9223372036854775808", "most": "9223372036854775807",
			"nearly most": "9223372036854775800", "more": "9223372036854775808", "huge": "1e400", "fraction": "1.5", "exponent": "1e3",
		})
	case bool:
		maps.Copy(out, map[string]text{"other": text(fmt.Sprint(!v)), "number": "1"})
	case []any:
		maps.Copy(out, map[string]text{"empty": "[]", "object": "{}", "string": `"x"`, "of null": "[null]", "of lists": "[[]]", "twice": text(encode(append(slices.Clone(v), v...)))})
	case map[string]any:
		whole := encode(v)
		out["empty"], out["list"], out["string"] = "{}", "[]", `"x"`
		for _, key := range slices.Sorted(maps.Keys(v)) {
			out["no "+key] = text(encode(without(v, key)))
			out[key+" twice"] = text(strings.TrimSuffix(whole, "}") + fmt.Sprintf(",%q:null}", key))
			out[key+" in capitals"] = text(strings.TrimSuffix(encode(without(v, key)), "}") + fmt.Sprintf(",%q:%s}", strings.ToUpper(key), encode(v[key])))
		}
		for key, broken := range out {
			out[key] = text(strings.Replace(string(broken), "{,", "{", 1))
		}
	}
	return out
}

func without(v map[string]any, key string) map[string]any {
	out := maps.Clone(v)
	delete(out, key)
	return out
}

// variants replaces each value of a statement in every way; of a list only the first element.
func variants(t *testing.T, n int, data []byte) []variant {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var top any
	if err := decoder.Decode(&top); err != nil {
		t.Fatal(err)
	}
	var out []variant
	var spoil func(path string, v any, set func(any))
	spoil = func(path string, v any, set func(any)) {
		for what, instead := range spoiled(v) {
			set(instead)
			out = append(out, variant{fmt.Sprintf("%d%s: %s", n, path, what), n, []byte(encode(top))})
		}
		set(v)
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				spoil(path+"/"+key, value, func(instead any) { v[key] = instead })
			}
		case []any:
			if len(v) > 0 {
				spoil(path+"/0", v[0], func(instead any) { v[0] = instead })
			}
		}
	}
	spoil("", top, func(instead any) { top = instead })
	for what, broken := range map[string]string{
		"nothing": "", "half": string(data[:len(data)/2]), "twice": string(data) + string(data), "more": string(data) + "x", "a mark": "\ufeff" + string(data),
		"zeros": strings.Repeat("\x00", 1<<16),
	} {
		out = append(out, variant{fmt.Sprintf("%d: %s", n, what), n, []byte(broken)})
	}
	return out
}

// A changed statement, in an application that is otherwise valid and signed, is read by
// everything that reads statements: nothing panics, nothing is accepted for more than it is,
// pull writes the content into its folder, and a few hundred bytes do not use much memory.
func TestStatementVariants(t *testing.T) {
	host := registrytest.GGCR()
	a := newSignedApp(t, host)
	base := a.base(t)
	var all []variant
	for n, data := range base.statements {
		all = append(all, variants(t, n, data)...)
	}
	slices.SortFunc(all, func(a, b variant) int { return strings.Compare(a.name, b.name) })
	var held, accepted int
	for i, v := range all {
		if i%step != 0 {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			held++
			ref := base.spoil(t, host, v)
			before := allocated()
			r, err := app.Verify(t.Context(), app.VerifyOptions{Environment: a.env, Ref: ref, Key: a.public})
			ok := err == nil && r.OK
			if ok {
				accepted++
			}
			if ok && traced.MatchString(v.name) {
				t.Error("verify accepts it")
			}
			for _, key := range []string{"", a.public} {
				base.pull(t, a, app.PullOptions{Ref: ref, Key: key}, ok)
			}
			if view, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: ref}); err == nil && len(view.Content.Files) != len(base.files) {
				t.Errorf("view has %d files", len(view.Content.Files))
			}
			if used := allocated() - before; used > mostAllocated+64*uint64(len(v.data)) {
				t.Errorf("%d bytes became %d", len(v.data), used)
			}
		})
	}
	if held < 184 || accepted == 0 || accepted > held/2 {
		t.Errorf("of %d variants %d are accepted", held, accepted)
	}
}

// step is the interval of the variants that are tested, because all of them take minutes.
const step = 7

// mostAllocated is the memory that a run with valid statements allocates.
const mostAllocated = 32 << 20

// traced matches the values that verify follows byte by byte: the files that the content was
// rendered from, its edits, and the parameters of the provenance.
var traced = regexp.MustCompile(`^0/predicate/buildDefinition/buildType: |^[23]/(subject|predicate/inputs)/0/(name|output|digest/sha256): |^3/predicate/edits/0/(file|original|replaced|digest|offset): `)

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// intact is an application whose statements are changed by the test.
type intact struct {
	signer       app.Signer
	repository   string
	index        ocispec.Index
	attestations int // its place in the index
	manifest     ocispec.Manifest
	statements   [][]byte
	files        []files.File
}

func (a *signedApp) base(t *testing.T) *intact {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	repo, err := a.env.Registry.Repository(a.host + "/team/shop")
	check(err)
	opened, err := artifact.Open(ctx, repo, "v1")
	check(err)
	out := &intact{signer: a.signer, repository: a.host + "/team/shop", index: opened.Index}
	out.files, err = opened.Files(ctx)
	check(err)
	out.attestations = slices.IndexFunc(out.index.Manifests, func(d ocispec.Descriptor) bool {
		return d.Annotations[artifact.AnnotationRole] == artifact.RoleAttestations
	})
	data, err := engine.Get(ctx, repo, out.index.Manifests[out.attestations])
	check(err)
	mustUnmarshal(t, data, &out.manifest)
	for _, layer := range out.manifest.Layers {
		data, err := engine.Get(ctx, repo, layer)
		check(err)
		out.statements = append(out.statements, data)
	}
	return out
}

// spoil pushes the application with the variant to the registry, and returns its reference.
func (b *intact) spoil(t *testing.T, registry http.Handler, v variant) string {
	t.Helper()
	request := func(method, path, mediaType string, data []byte) {
		t.Helper()
		r := httptest.NewRequest(method, path, bytes.NewReader(data))
		r.Header.Set("Content-Type", mediaType)
		answer := httptest.NewRecorder()
		if registry.ServeHTTP(answer, r); answer.Code != http.StatusCreated {
			t.Fatalf("%s %s: %d %s", method, path, answer.Code, answer.Body)
		}
		if method == http.MethodPut { // it reads each of its manifests to list referrers
			t.Cleanup(func() {
				registry.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodDelete, path, http.NoBody))
			})
		}
	}
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		t.Helper()
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		if descriptor.IsManifest(mediaType) {
			request(http.MethodPut, "/v2/team/shop/manifests/"+desc.Digest.String(), mediaType, data)
		} else {
			request(http.MethodPost, "/v2/team/shop/blobs/uploads/?digest="+desc.Digest.String(), "application/octet-stream", data)
		}
		return desc
	}
	object := func(mediaType string, v any) ocispec.Descriptor {
		t.Helper()
		data, err := engine.MarshalJSON(v)
		if err != nil {
			t.Fatal(err)
		}
		return put(mediaType, data)
	}
	statement, m, index := put(artifact.MediaTypeStatement, v.data), b.manifest, b.index
	m.Layers = slices.Clone(m.Layers)
	m.Layers[v.n].Digest, m.Layers[v.n].Size = statement.Digest, statement.Size
	attestations := object(ocispec.MediaTypeImageManifest, m)
	index.Manifests = slices.Clone(index.Manifests)
	child := &index.Manifests[b.attestations]
	child.Digest, child.Size = attestations.Digest, attestations.Size
	root := object(ocispec.MediaTypeImageIndex, index)
	signature, err := sign.Blobs(t.Context(), b.signer, root)
	if err != nil {
		t.Fatal(err)
	}
	for _, blob := range signature {
		put(blob.Desc.MediaType, blob.Data)
	}
	return b.repository + "@" + root.Digest.String()
}

// pull writes the content and nothing else, or nothing. With a key it does the same as verify.
func (b *intact) pull(t *testing.T, a *signedApp, o app.PullOptions, verified bool) {
	t.Helper()
	top := t.TempDir()
	o.Environment, o.Dir, o.Attestations = a.env, filepath.Join(top, "out"), filepath.Join(top, "said.jsonl")
	_, err := app.Pull(t.Context(), o)
	if o.Key != "" && (err == nil) != verified {
		t.Errorf("verify: %t, pull with a key: %v", verified, err)
	}
	want := map[string]string{}
	if err == nil {
		want["said.jsonl"] = ""
		for _, f := range b.files {
			want["out/"+f.Name] = string(f.Data)
		}
	}
	found := map[string]string{}
	err = filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		name, _ = filepath.Rel(top, name)
		if found[filepath.ToSlash(name)] = string(data); name == "said.jsonl" {
			found[name] = ""
		}
		return err
	})
	if err != nil || !maps.Equal(found, want) {
		t.Errorf("in the folder are %v, want %v; %v", slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(want)), err)
	}
}
