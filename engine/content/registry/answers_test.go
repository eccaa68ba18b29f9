// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// Whatever a registry returns, with odd statuses, headers and bodies: nothing panics, nothing
// takes longer than the retries, and content that is reported to exist does exist.
func TestAnswers(t *testing.T) {
	// Without 201: a registry that returns it and stores nothing cannot be detected.
	statuses := []int{200, 202, 204, 206, 301, 304, 307, 400, 401, 403, 404, 405, 409, 416, 429, 500, 503}
	headers := map[string][]string{
		"Location":              {"", "/", "?", "#", "//", "http://%zz", "http://none.example.com/x", "ftp://x/", "../../..", "a:b:c", "/v2/app/blobs/uploads/1"},
		"WWW-Authenticate":      {"", "Basic", `Bearer realm=""`, `Bearer realm="/token"`, `Bearer realm="http://%zz"`, `Negotiate, Basic realm="r"`, `"`, "Digest"},
		"Docker-Content-Digest": {"", "sha256:", "none", "sha512:00", "sha256:" + digest.FromString("x").Encoded()},
		"Content-Type":          {"", "text/html", "application/json", "application/vnd.oci.image.index.v1+json", ";;"},
		"Content-Encoding":      {"gzip", "deflate", "br", "gzip, gzip, gzip, gzip", "zstd", ","},
		"Content-Range":         {"bytes 0-0/1", "bytes -1-", "x"},
		"Retry-After":           {"-1", "x", "1", "99999999999999999999", "Mon, 02 Jan 2006 15:04:05 GMT"},
		"Link":                  {"<", `<?n=1>; rel="next"`},
	}
	bodies := []string{"", "{}", "[]", "null", "<html>", `{"token":""}`, `{"token":"t","expires_in":-1}`, `{"errors":[{}]}`, `{"manifests":[{}]}`, "\x1f\x8b", "\x28\xb5\x2f\xfd\x00", `{"schemaVersion":2,"config":{},"layers":null}`}
	const answers = 350
	for seed := range uint64(answers) {
		bubble(t, strconv.FormatUint(seed, 10), func(t *testing.T, n *network) {
			random := rand.New(rand.NewPCG(seed, 0))
			kept := registrytest.GGCR()
			s := n.add(host, kept)
			r := repository(t, n.client(registry.Options{}), host+"/app")
			there, data := blob(small, 1)
			push(t, r, there, data)
			tag := pushed(t, r, "1")
			s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				s.mu.Lock() // for random
				defer s.mu.Unlock()
				if random.IntN(3) == 0 {
					return false
				}
				for name, values := range headers {
					if random.IntN(4) == 0 {
						w.Header().Set(name, values[random.IntN(len(values))])
					}
				}
				w.WriteHeader(statuses[random.IntN(len(statuses))])
				fmt.Fprint(w, bodies[random.IntN(len(bodies))])
				return true
			}
			client := n.client(registry.Options{Credentials: known})
			r = repository(t, client, host+"/app")
			start := time.Now()
			manifest, manifestData := plain("2")
			small, smallData := blob(small, 2)
			large, largeData := blob(large, 3)
			wrote := r.PushManifest(t.Context(), manifest, manifestData, "2")
			_, wroteSmall := r.PushBlob(t.Context(), small, opener(smallData))
			_, wroteLarge := r.PushBlob(t.Context(), large, opener(largeData))
			if got, err := read(r.Blob(t.Context(), there)); err == nil && !bytes.Equal(got, data) {
				t.Error("another blob")
			}
			if _, got, err := r.Manifest(t.Context(), tag); err == nil && digest.FromBytes(got).String() != tag {
				t.Error("another manifest")
			}
			_, _ = r.Referrers(t.Context(), digest.Digest(tag))
			_, _ = r.Resolve(t.Context(), "1")
			_, _ = r.Empty(t.Context())
			if took := time.Since(start); took > 20*time.Minute {
				t.Errorf("it took %s", took)
			}
			s.before = nil
			check := repository(t, n.client(registry.Options{}), host+"/app")
			if found, err := check.Digest(t.Context(), "2"); wrote == nil && (err != nil || found != manifest.Digest) {
				t.Errorf("the manifest is written, and the tag leads to %q: %v", found, err)
			}
			if found, err := check.Exists(t.Context(), small); wroteSmall == nil && (err != nil || !found) {
				t.Errorf("the small blob is written, and is there: %v, %v", found, err)
			}
			if found, err := check.Exists(t.Context(), large); wroteLarge == nil && (err != nil || !found) {
				t.Errorf("the large blob is written, and is there: %v, %v", found, err)
			}
		})
	}
}
