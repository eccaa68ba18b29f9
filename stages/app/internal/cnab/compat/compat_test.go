// SPDX-License-Identifier: Apache-2.0

// Package compat_test compares tape with cnab-to-oci: each pulls what the other pushed. It is a
// separate module, so that tape does not depend on the dependencies of cnab-to-oci.
package compat_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompatible pushes the same bundle with both, and pulls both with both.
func TestCompatible(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(build(t, dir))
	host := serve(t)
	pushImage(t, host, "shop/installer", "1")
	pushImage(t, host, "shop/web", "1")
	bundle := fmt.Sprintf(`{
  "schemaVersion": "v1.0.0", "name": "shop", "version": "1.2.3", "description": "<A shop>",
  "keywords": ["shop"], "maintainers": [{"name": "Jo", "email": "jo@example.com", "url": "https://example.com"}],
  "invocationImages": [{"imageType": "oci", "image": "%[1]s/shop/installer:1"}],
  "images": {"web": {"imageType": "oci", "image": "%[1]s/shop/web:1", "description": "front"}},
  "parameters": {"port": {"definition": "port", "destination": {"env": "PORT"}}},
  "credentials": {"kubeconfig": {"path": "/root/.kube/config", "required": true}},
  "definitions": {"port": {"type": "integer", "default": 8080}}
}`, host)
	if err := os.WriteFile("bundle.json", []byte(bundle), 0o644); err != nil {
		t.Fatal(err)
	}
	insecure := "--insecure-registries=" + host

	run(t, "./tape", "cnab", "push", "bundle.json", "--target", host+"/by/tape:v1")
	run(t, "./cnab-to-oci", "push", "bundle.json", "--target", host+"/by/other:v1", "--auto-update-bundle", "--push-images=false", insecure)
	for _, by := range []string{"tape", "other"} {
		ref := host + "/by/" + by + ":v1"
		run(t, "./tape", "cnab", "pull", ref, "--bundle", by+"-tape.json", "--relocation-map", by+"-tape.map")
		run(t, "./cnab-to-oci", "pull", ref, "--bundle", by+"-other.json", "--relocation-map", by+"-other.map", insecure)
		equal(t, read(t, by+"-tape.json"), read(t, by+"-other.json"))
		equal(t, indented(t, read(t, by+"-tape.map")), indented(t, read(t, by+"-other.map")))
	}
	// Both wrote the same for the same bundle.
	equal(t, read(t, "tape-tape.json"), read(t, "other-tape.json"))
	equal(t, content(t, host, "by/tape"), content(t, host, "by/other"))

	// fixup, too, and each takes what the other fixed up.
	run(t, "./tape", "cnab", "fixup", "bundle.json", "--target", host+"/fixed/tape")
	equal(t, read(t, "fixed-bundle.json"), read(t, "tape-tape.json"))
	run(t, "./cnab-to-oci", "push", "fixed-bundle.json", "--target", host+"/fixed/tape:v1", "--push-images=false", insecure)
	run(t, "./cnab-to-oci", "fixup", "bundle.json", "--target", host+"/fixed/other", "--auto-update-bundle", insecure)
	equal(t, read(t, "fixed-bundle.json"), read(t, "tape-tape.json"))
	run(t, "./tape", "cnab", "push", "fixed-bundle.json", "--target", host+"/fixed/other:v1")
}

// build builds both programs into dir.
func build(t *testing.T, dir string) string {
	t.Helper()
	run(t, "go", "build", "-o", dir, "github.com/cnabio/cnab-to-oci/cmd/cnab-to-oci")
	run(t, "go", "build", "-C", "../../../../..", "-o", filepath.Join(dir, "tape"), "./cmd/tape")
	return dir
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// serve runs tape's registry until the test ends, and returns its address.
func serve(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("./tape", "registry", "serve", "--addr", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	at, ok := strings.CutPrefix(strings.TrimSpace(line), "serving a registry at ")
	if err != nil || !ok {
		t.Fatalf("registry: %q, %v", line, err)
	}
	return strings.TrimPrefix(at, "http://")
}

// request returns the body and header of a response, which must be successful.
func request(t *testing.T, method, url, mediaType string, body []byte) ([]byte, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	req.Header.Set("Accept", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s: %s, %v", method, url, resp.Status, data, err)
	}
	return data, resp.Header
}

// descriptor and manifest have the fields of OCI's types that the test needs.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
)

// pushImage pushes an image with one layer through the registry's API.
func pushImage(t *testing.T, host, repository, tag string) {
	t.Helper()
	blob := func(mediaType, data string) descriptor {
		d := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(data)))
		_, header := request(t, http.MethodPost, "http://"+host+"/v2/"+repository+"/blobs/uploads/", "", nil)
		at := header.Get("Location")
		separator := "?"
		if strings.Contains(at, "?") {
			separator = "&"
		}
		request(t, http.MethodPut, at+separator+"digest="+d, "application/octet-stream", []byte(data))
		return descriptor{MediaType: mediaType, Digest: d, Size: len(data)}
	}
	data, err := json.Marshal(manifest{
		SchemaVersion: 2, MediaType: manifestType,
		Config: blob("application/vnd.oci.image.config.v1+json", `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`),
		Layers: []descriptor{blob("application/vnd.oci.image.layer.v1.tar", repository)},
	})
	if err != nil {
		t.Fatal(err)
	}
	request(t, http.MethodPut, "http://"+host+"/v2/"+repository+"/manifests/"+tag, manifestType, data)
}

// content is what the index of a repository says. The manifest of the bundle.json is
// left out: cnab-to-oci writes "layers": null there, which OCI forbids.
func content(t *testing.T, host, repository string) string {
	t.Helper()
	var index struct {
		Manifests   []descriptor      `json:"manifests"`
		Annotations map[string]string `json:"annotations"`
	}
	data, _ := request(t, http.MethodGet, "http://"+host+"/v2/"+repository+"/manifests/v1", indexType, nil)
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	config := &index.Manifests[0]
	var m manifest
	data, _ = request(t, http.MethodGet, "http://"+host+"/v2/"+repository+"/manifests/"+config.Digest, manifestType, nil)
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	*config = descriptor{MediaType: config.MediaType, Annotations: config.Annotations}
	// Lists of objects, whose fields may be in any order.
	index.Annotations["org.opencontainers.image.authors"] = indented(t, index.Annotations["org.opencontainers.image.authors"])
	out, err := json.MarshalIndent(map[string]any{"index": index, "config": m.Config}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// indented returns indented JSON with sorted keys.
func indented(t *testing.T, data string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func equal(t *testing.T, tape, other string) {
	t.Helper()
	if tape != other {
		t.Errorf("tape has\n%s\ncnab-to-oci has\n%s", tape, other)
	}
}
