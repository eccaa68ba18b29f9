// SPDX-License-Identifier: Apache-2.0

package local_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/local"
)

// madeDigest is the digest of the manifest that is made for the image of saved. If it changes,
// so does the digest of every image from a Docker without containerd's store.
const madeDigest = "sha256:1308163ae9f24be77939c17e78791a677adf51f8753325c27db39dcff552c089"

func TestPlace(t *testing.T) {
	for _, tt := range []struct{ place, err string }{
		{"docker-daemon", ""},
		{"containerd", ""},
		{"oci:build/web:v1", ""},
		{"archive:web.tar", ""},
		{"docker-deamon", `did you mean "docker-daemon"?`},
		{"docker", `did you mean "docker-daemon"?`},
		{"somewhere", "want docker-daemon, containerd, oci:DIR[:TAG] or archive:FILE[:TAG]"},
		{"OCI:build", `did you mean "oci"?`},
		{"oci:", "is not a place for images"},
		{"containerd:k8s.io", "is not a place for images"},
		{"", "is not a place for images"},
	} {
		err := local.Place(tt.place).Check()
		if got := errText(err); !strings.Contains(got, tt.err) || (err == nil) != (tt.err == "") {
			t.Errorf("%q: %q, want %q", tt.place, got, tt.err)
		}
	}
}

func TestPlaceSeenFromAFolder(t *testing.T) {
	for _, tt := range []struct{ place, dir, below string }{
		{"oci:build/web:v1", "deploy", "oci:deploy/build/web:v1"},
		{"oci:build/web:v1", "", "oci:build/web:v1"},
		{"archive:/tmp/web.tar", "deploy", "archive:/tmp/web.tar"},
		{"docker-daemon", "deploy", "docker-daemon"},
	} {
		place := local.Place(tt.place)
		if got := place.Below(tt.dir); got != local.Place(tt.below) {
			t.Errorf("%s below %q is %s, want %s", place, tt.dir, got, tt.below)
		}
		seen, err := place.SeenFrom(tt.dir)
		if err != nil {
			t.Error(err)
		}
		if got := seen.Below(tt.dir); got != place {
			t.Errorf("%s seen from %q is %s, and that is %s", place, tt.dir, seen, got)
		}
	}
}

// TestDocker reads an image from daemons that store it in different ways.
func TestDocker(t *testing.T) {
	classic := saved{}
	kept := newLayout(t, map[string]string{ocispec.AnnotationRefName: "dev", "io.containerd.image.name": "docker.io/library/app:dev"})
	for name, tt := range map[string]struct {
		tar     []byte
		id      digest.Digest
		want    digest.Digest
		made    bool
		wantErr string
	}{
		"before 25":                 {tar: classic.tar(t), id: classic.id(t), want: madeDigest, made: true},
		"since 25":                  {tar: saved{oci: true}.tar(t), id: classic.id(t), want: madeDigest, made: true},
		"containerd's store":        {tar: tarOf(t, kept.dir), id: kept.digest, want: kept.digest},
		"layer of another image":    {tar: saved{damaged: true}.tar(t), id: classic.id(t), wantErr: "does not match sha256:"},
		"cut off":                   {tar: classic.tar(t)[:3000], id: classic.id(t), wantErr: "it is truncated"},
		"no image":                  {tar: tarOf(t, t.TempDir()), id: classic.id(t), wantErr: "unrecognized image format"},
		"layers that are not there": {tar: saved{missing: true}.tar(t), id: classic.id(t), wantErr: "layer"},
	} {
		t.Run(name, func(t *testing.T) {
			places := places(t, daemon(t, map[string]image{"app:dev": {tt.id, tt.tar}}))
			source, err := places.Open(t.Context(), local.Docker, "docker.io/library/app:dev")
			if tt.wantErr != "" {
				if !strings.Contains(errText(err), tt.wantErr) {
					t.Fatalf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// Its tag and its digest give the same manifest.
			desc, data, err := source.Manifest(t.Context(), "dev")
			if err != nil {
				t.Fatal(err)
			}
			if desc.Digest != tt.want || (source.Warning() != "") != tt.made {
				t.Errorf("digest %s, warning %q; want %s, %v", desc.Digest, source.Warning(), tt.want, tt.made)
			}
			again, _, err := source.Manifest(t.Context(), desc.Digest.String())
			if diff := cmp.Diff(desc, again); diff != "" || err != nil {
				t.Errorf("by digest: %v\n%s", err, diff)
			}
			readAll(t, source, data)
			if _, err := source.Resolve(t.Context(), "other"); !errdefs.IsNotFound(err) {
				t.Errorf("another tag: %v", err)
			}
		})
	}
}

func TestDockerTakesWhatIsThereNow(t *testing.T) {
	first, second := saved{}, saved{text: "changed"}
	images := map[string]image{"app:dev": {first.id(t), first.tar(t)}}
	places := places(t, daemon(t, images))
	for _, s := range []saved{first, second} {
		images["app:dev"] = image{s.id(t), s.tar(t)}
		source, err := places.Open(t.Context(), local.Docker, "docker.io/library/app:dev")
		if err != nil {
			t.Fatal(err)
		}
		_, data, err := source.Manifest(t.Context(), "dev")
		if err != nil {
			t.Fatal(err)
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		if m.Config.Digest != s.id(t) {
			t.Errorf("config %s, want %s", m.Config.Digest, s.id(t))
		}
	}
}

func TestErrors(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "no.sock")
	none := local.Options{DockerHost: "unix://" + nowhere, Containerd: nowhere}
	running := daemon(t, map[string]image{"app:dev": {}})
	empty := t.TempDir()
	damaged := newLayout(t, nil)
	if err := os.Truncate(filepath.Join(damaged.dir, "blobs", "sha256", damaged.digest.Encoded()), 3); err != nil {
		t.Fatal(err)
	}
	two := newLayout(t, map[string]string{ocispec.AnnotationRefName: "v1"})
	two.add(t, map[string]string{ocispec.AnnotationRefName: "v2"})
	for name, tt := range map[string]struct {
		options local.Options
		place   local.Place
		want    string
	}{
		"no daemon":           {none, local.Docker, "no.sock cannot be reached: connect: no such file or directory; is it running? $DOCKER_HOST says where it is"},
		"no containerd":       {none, local.Containerd, "no.sock cannot be reached: connect: no such file or directory; is it running? $CONTAINERD_ADDRESS says where it is"},
		"daemon over ssh":     {local.Options{DockerHost: "ssh://somewhere"}, local.Docker, "docker save"},
		"misspelled":          {running, local.Docker, `the Docker daemon has no image app:dve (did you mean "app:dev"?)`},
		"no layout":           {none, local.Place("oci:" + empty), "index.json: no such file or directory"},
		"no archive":          {none, local.Place("archive:" + nowhere), "no such file or directory"},
		"damaged":             {none, local.Place("oci:" + damaged.dir), "it has 3 bytes"},
		"several":             {none, local.Place("oci:" + two.dir), "it has no app:dve, only v1, v2"},
		"no such tag":         {none, local.Place("oci:" + two.dir + ":v3"), `has no tag "v3"; it has v1, v2`},
		"no place":            {none, "somewhere", "is not a place for images"},
		"not even a tar file": {none, local.Place("archive:" + filepath.Join(two.dir, "index.json")), "open archive"},
	} {
		t.Run(name, func(t *testing.T) {
			source, err := places(t, tt.options).Open(t.Context(), tt.place, "docker.io/library/app:dve")
			if err == nil {
				_, _, err = source.Manifest(t.Context(), "dve")
			}
			if !strings.Contains(errText(err), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestFiles reads images from layouts and archives, by every kind of name.
func TestFiles(t *testing.T) {
	named := newLayout(t, map[string]string{"io.containerd.image.name": "docker.io/library/app:dev"})
	other := named.add(t, map[string]string{"io.containerd.image.name": "docker.io/library/other:dev", ocispec.AnnotationRefName: "dev"})
	tagged := newLayout(t, map[string]string{ocispec.AnnotationRefName: "dev"})
	tagged.add(t, map[string]string{ocispec.AnnotationRefName: "sha256-" + tagged.digest.Encoded() + ".sig"})
	alone := newLayout(t, nil)
	archive := filepath.Join(t.TempDir(), "app.tar")
	if err := os.WriteFile(archive, tarOf(t, tagged.dir), 0o644); err != nil {
		t.Fatal(err)
	}
	dockers := filepath.Join(t.TempDir(), "saved.tar")
	if err := os.WriteFile(dockers, saved{}.tar(t), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		place local.Place
		name  string
		want  digest.Digest
		made  bool
	}{
		"its name":              {local.Place("oci:" + named.dir), "docker.io/library/app:dev", named.digest, false},
		"the other's":           {local.Place("oci:" + named.dir), "docker.io/library/other:dev", other, false},
		"its tag":               {local.Place("oci:" + tagged.dir), "docker.io/library/app:dev", tagged.digest, false},
		"any tag":               {local.Place("oci:" + tagged.dir), "docker.io/library/app:other", tagged.digest, false},
		"a tag that is said":    {local.Place("oci:" + tagged.dir + ":dev"), "docker.io/library/app:other", tagged.digest, false},
		"a digest that is said": {local.Place("oci:" + named.dir + "@" + named.digest.String()), "docker.io/library/app:x", named.digest, false},
		"alone":                 {local.Place("oci:" + alone.dir), "docker.io/library/app:dev", alone.digest, false},
		"archive":               {local.Place("archive:" + archive), "docker.io/library/app:dev", tagged.digest, false},
		"docker save":           {local.Place("archive:" + dockers), "docker.io/library/app:dev", madeDigest, true},
		"docker save, a tag":    {local.Place("archive:" + dockers + ":dev"), "docker.io/library/app:other", madeDigest, true},
	} {
		t.Run(name, func(t *testing.T) {
			source, err := places(t, local.Options{}).Open(t.Context(), tt.place, tt.name)
			if err != nil {
				t.Fatal(err)
			}
			desc, data, err := source.Manifest(t.Context(), tt.name[strings.LastIndexByte(tt.name, ':')+1:])
			if err != nil {
				t.Fatal(err)
			}
			if desc.Digest != tt.want || (source.Warning() != "") != tt.made {
				t.Errorf("digest %s, warning %q; want %s, %v", desc.Digest, source.Warning(), tt.want, tt.made)
			}
			readAll(t, source, data)
		})
	}
}

// TestTarball reads archives of go-containerregistry in Docker's format, whose layers are
// compressed.
func TestTarball(t *testing.T) {
	image, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("app:dev")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "app.tar")
	if err := tarball.WriteToFile(file, tag, image); err != nil {
		t.Fatal(err)
	}
	source, err := places(t, local.Options{}).Open(t.Context(), local.Place("archive:"+file), "index.docker.io/library/app:dev")
	if err != nil {
		t.Fatal(err)
	}
	_, data, err := source.Manifest(t.Context(), "dev")
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, source, data)
}

func TestLayoutThatChanges(t *testing.T) {
	l := newLayout(t, nil)
	places := places(t, local.Options{})
	open := func() digest.Digest {
		t.Helper()
		source, err := places.Open(t.Context(), local.Place("oci:"+l.dir), "docker.io/library/app:dev")
		if err != nil {
			t.Fatal(err)
		}
		desc, err := source.Resolve(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		return desc.Digest
	}
	if got := open(); got != l.digest {
		t.Errorf("digest %s, want %s", got, l.digest)
	}
	added := l.add(t, map[string]string{ocispec.AnnotationRefName: "dev"})
	if got := open(); got != added {
		t.Errorf("digest %s after a change, want %s", got, added)
	}
}

// TestContext finds the daemon of the docker command's context.
func TestContext(t *testing.T) {
	t.Setenv("DOCKER_CONTEXT", "mine")
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	if _, err := places(t, local.Options{}).Open(t.Context(), local.Docker, "docker.io/library/app:dev"); err == nil || !strings.Contains(err.Error(), `context "mine"`) {
		t.Errorf("a context of another folder: %v", err)
	}
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	options := daemon(t, map[string]image{"app:dev": {saved{}.id(t), saved{}.tar(t)}})
	meta := filepath.Join(dir, "contexts", "meta", digest.FromString("mine").Encoded())
	if err := os.MkdirAll(meta, 0o755); err != nil {
		t.Fatal(err)
	}
	text := `{"Name":"mine","Endpoints":{"docker":{"Host":"` + options.DockerHost + `"}}}`
	if err := os.WriteFile(filepath.Join(meta, "meta.json"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := places(t, local.Options{}).Open(t.Context(), local.Docker, "docker.io/library/app:dev"); err != nil {
		t.Error(err)
	}
	t.Setenv("DOCKER_CONTEXT", "yours")
	if _, err := places(t, local.Options{}).Open(t.Context(), local.Docker, "docker.io/library/app:dev"); err == nil || !strings.Contains(err.Error(), `context "yours"`) {
		t.Errorf("a context that is not there: %v", err)
	}
}

func TestHaving(t *testing.T) {
	places := places(t, daemon(t, map[string]image{"app:dev": {}}))
	if got := places.Having(t.Context(), "docker.io/library/app:dev"); len(got) != 1 || got[0] != local.Docker {
		t.Errorf("%q, want docker-daemon", got)
	}
	if got := places.Having(t.Context(), "docker.io/library/app:v1"); len(got) != 0 {
		t.Errorf("%q, want none", got)
	}
}

// A daemon that hangs does not delay a hint.
func TestHavingAsksNotForLong(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "hangs.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	places := places(t, local.Options{DockerHost: "unix://" + socket})
	if got := places.Having(t.Context(), "docker.io/library/app:dev"); len(got) != 0 {
		t.Errorf("%q, want none", got)
	}
}

// A tar that would fill the disk is not unpacked.
func TestTarballWithHoles(t *testing.T) {
	// The tar package cannot write such an entry: replace names by others of the same length.
	entry := tar.Header{Typeflag: tar.TypeReg, Name: "holes", Size: 512, Mode: 0o644, PAXRecords: map[string]string{
		"XXX.sparse.major": "1", "XXX.sparse.minor": "0", "XXX.sparse.name": "holes", "XXX.sparse.realsize": "16777216",
	}}
	pieces := make([]byte, entry.Size)
	copy(pieces, "0\n") // none
	var holes bytes.Buffer
	w := tar.NewWriter(&holes)
	err := w.WriteHeader(&entry)
	if err == nil {
		_, err = w.Write(pieces)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	image := saved{}.tar(t)
	image = image[:len(image)-1024] // more than the limit
	file := filepath.Join(t.TempDir(), "app.tar")
	if err := os.WriteFile(file, append(image, bytes.ReplaceAll(holes.Bytes(), []byte("XXX."), []byte("GNU."))...), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = places(t, local.Options{}).Open(t.Context(), local.Place("archive:"+file), "docker.io/library/app:dev")
	if !errdefs.IsDataLoss(err) {
		t.Errorf("error %v, want one that it is not an archive", err)
	}
}

// The next process removes what a killed one left behind.
func TestPutAside(t *testing.T) {
	dir := t.TempDir()
	dockers, left := filepath.Join(t.TempDir(), "saved.tar"), filepath.Join(dir, "tape-images-1", "blobs")
	if err := errors.Join(os.WriteFile(dockers, saved{}.tar(t), 0o644), os.MkdirAll(left, 0o755)); err != nil {
		t.Fatal(err)
	}
	p := local.New(local.Options{TempDir: dir})
	_, err := p.Open(t.Context(), local.Place("archive:"+dockers), "docker.io/library/app:dev")
	if err := errors.Join(err, p.Close()); err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); len(files) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func places(t *testing.T, o local.Options) *local.Places {
	t.Helper()
	if o.Containerd == "" {
		o.Containerd = filepath.Join(t.TempDir(), "no.sock")
	}
	o.TempDir = t.TempDir()
	p := local.New(o)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(o.TempDir); len(left) > 0 || err != nil {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	return p
}

// readAll reads everything that a manifest refers to.
func readAll(t *testing.T, source *local.Source, data []byte) {
	t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for _, desc := range append(m.Layers, m.Config) {
		body, err := source.Blob(t.Context(), desc)
		if err != nil {
			t.Fatal(err)
		}
		blob, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil {
			t.Fatal(err)
		}
		if got := digest.FromBytes(blob); got != desc.Digest || int64(len(blob)) != desc.Size {
			t.Errorf("%d bytes of digest %s, want %v", len(blob), got, desc)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// image is an image of a daemon.
type image struct {
	id  digest.Digest
	tar []byte
}

// daemon responds like the Docker daemon, on a socket. TestDocker of package stages uses the
// real one.
func daemon(t *testing.T, images map[string]image) local.Options {
	t.Helper()
	dir, err := os.MkdirTemp("", "dkr") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "d.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter, v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/images/")
		if path == "json" {
			list := []any{}
			for name := range images {
				list = append(list, map[string]any{"RepoTags": []string{name}})
			}
			answer(w, list)
			return
		}
		name, verb := path[:strings.LastIndexByte(path, '/')], path[strings.LastIndexByte(path, '/')+1:]
		found, ok := images[name]
		switch {
		case !ok:
			w.WriteHeader(http.StatusNotFound)
			answer(w, map[string]string{"message": "No such image: " + name})
		case verb == "json":
			answer(w, map[string]any{"Id": found.id})
		default:
			_, _ = w.Write(found.tar)
		}
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return local.Options{DockerHost: "unix://" + socket}
}

// saved returns an image as docker save writes it: two equal layers, and another one. Since
// version 25 the tar is also an OCI layout.
type saved struct {
	oci, damaged, missing bool
	text                  string
}

func (s saved) config(t *testing.T) ([]byte, [][]byte) {
	t.Helper()
	layer := tarFiles(t, file{"hello", []byte("hello " + s.text)})
	layers := [][]byte{layer, tarFiles(t, file{"world", []byte("world")}), layer}
	image := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, l := range layers {
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, digest.FromBytes(l))
	}
	data, err := json.Marshal(image)
	if err != nil {
		t.Fatal(err)
	}
	return data, layers
}

func (s saved) id(t *testing.T) digest.Digest {
	config, _ := s.config(t)
	return digest.FromBytes(config)
}

func (s saved) tar(t *testing.T) []byte {
	config, layers := s.config(t)
	if s.damaged {
		layers[1] = tarFiles(t, file{"world", []byte("other")})
	}
	configName := digest.FromBytes(config).Encoded() + ".json"
	names := []string{"a/layer.tar", "b/layer.tar", "c/layer.tar"}
	files := []file{{configName, config}, {"a/VERSION", []byte("1.0")}, {names[0], layers[0]}, {names[1], layers[1]}, {names[2], nil}}
	if s.missing {
		files = files[:3]
		files = append(files, file{names[2], nil})
	}
	if s.oci {
		blob := func(data []byte) string { return "blobs/sha256/" + digest.FromBytes(data).Encoded() }
		manifest := ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
		}
		for _, l := range layers {
			manifest.Layers = append(manifest.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(l), Size: int64(len(l))})
		}
		data := marshal(t, manifest)
		index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{{
			MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(data), Size: int64(len(data)),
			Annotations: map[string]string{"io.containerd.image.name": "docker.io/library/app:dev", ocispec.AnnotationRefName: "dev"},
		}}}
		configName, names = blob(config), []string{blob(layers[0]), blob(layers[1]), blob(layers[2])}
		files = []file{
			{blob(layers[0]), layers[0]}, {blob(layers[1]), layers[1]}, {configName, config}, {blob(data), data},
			{"index.json", marshal(t, index)}, {"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		}
	}
	files = append(files, file{"manifest.json", marshal(t, []map[string]any{{"Config": configName, "RepoTags": []string{"app:dev"}, "Layers": names}})})
	return tarFiles(t, files...)
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// file is an entry of a tar; one without content is a link to the first layer, as Docker writes
// a repeated layer.
type file struct {
	name string
	data []byte
}

func tarFiles(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.data)), Mode: 0o644}
		if f.data == nil {
			h.Typeflag, h.Linkname = tar.TypeSymlink, "../a/layer.tar"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tarOf packs a folder into a tar.
func tarOf(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// ociLayout returns a layout of random images.
type ociLayout struct {
	dir    string
	digest digest.Digest // of the first one
}

func newLayout(t *testing.T, annotations map[string]string) *ociLayout {
	t.Helper()
	l := &ociLayout{dir: t.TempDir()}
	if _, err := layout.Write(l.dir, empty.Index); err != nil {
		t.Fatal(err)
	}
	l.digest = l.add(t, annotations)
	return l
}

func (l *ociLayout) add(t *testing.T, annotations map[string]string) digest.Digest {
	t.Helper()
	image, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	path, err := layout.FromPath(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(image, layout.WithAnnotations(annotations)); err != nil {
		t.Fatal(err)
	}
	hash, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.Digest(hash.String())
}
