// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/stages/app"
)

// An entry of a pipeline that matches nothing in the manifests is a warning with its position,
// an error in a strict run. An entry that an excluded environment uses is not.
func TestUnused(t *testing.T) {
	e := newEnvironments(t)
	dir := filepath.Dir(e.file)
	write(t, filepath.Join(dir, "web/prod/secret.yaml"), "apiVersion: v1\nkind: Secret\nmetadata: {name: web}\nstringData: {password: hunter2}\n"+
		"---\napiVersion: shop.example/v1\nkind: Storefront\nmetadata: {name: web}\nspec: {image: ex.io/engine:1, no: ex.io/no:1, parts: {name: ex.io/part, tag: '1'}}\n")
	pipeline, err := os.ReadFile(e.file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, e.file, string(pipeline)+`images:
  exclude: ["*/more:*", "*/gone:*"]
  from:
    "ex.io/none:*": containerd
  fields:
    - {groups: [shop.example], kinds: [Storefront], paths: [/spec/image]}
    - {groups: [shop.example], kinds: [Storefront], paths: [/spec/no], ignore: true}
    - {groups: [shop.example], kinds: [Storefront], paths: [/spec/parts], parts: {repository: name, tag: tag}}
    - {groups: [shop.example], kinds: [Storefront], paths: [/spec/imaeg]}
secrets:
  accept:
    - {kind: Secret, name: web, keys: [password, passwrd], reason: a demo}
    - {kind: Secret, name: wbe, reason: a demo}
    - kind: ConfigMap
      name: web
      namespace: shop
      reason: a demo
`)
	o := e.options()
	o.Strict = false
	pack := func(o app.Options) []string {
		t.Helper()
		var out []string
		for _, w := range e.pack(t, o).Warnings {
			if rest, ok := strings.CutPrefix(w, e.file+":"); ok {
				out = append(out, rest)
			} else if strings.Contains(w, "matches") {
				t.Errorf("no position: %s", w)
			}
		}
		return out
	}
	want := []string{
		`15:7: no object in the manifests has the image field /spec/imaeg of Storefront`,
		`18:50: no plain text is accepted by this key: there is none called passwrd in Secret web (did you mean "password"?)`,
		`19:7: no plain text is accepted by this entry: there is none in Secret wbe (did you mean "Secret web"?)`,
		`20:7: no plain text is accepted by this entry: there is none in ConfigMap web of namespace shop`,
		`8:25: no image in the manifests matches */gone:*, which was to be excluded`,
		`10:5: no image in the manifests matches ex.io/none:*, which was to be read from containerd (did you mean "ex.io/engine:1"?)`,
	}
	if diff := cmp.Diff(want, pack(o)); diff != "" {
		t.Error(diff)
	}
	o.Environments = []string{"dev"}
	if got := pack(o); got != nil {
		t.Errorf("of one environment: %q", got)
	}
	o.Environments = []string{"prod", "dev"}
	if diff := cmp.Diff(want, pack(o)); diff != "" {
		t.Error(diff)
	}
	if _, err := app.Images(t.Context(), app.ImagesOptions{Options: e.options()}); err == nil || !strings.Contains(err.Error(), e.file+":19:7: no plain text") {
		t.Errorf("a strict run: %v", err)
	}
}
