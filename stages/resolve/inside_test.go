// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/taped-dev/tape/engine/content/local"
)

// A pipeline file in a repository must not name images outside of it.
func TestCheckInside(t *testing.T) {
	top, other := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(top, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(top, "app", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "x.tar"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	given := map[string]local.Place{"app:given": "archive:/x.tar"}
	for place, want := range map[local.Place]bool{
		"docker-daemon": true, "archive:x.tar": true, "oci:images:v1": true, "archive:../x.tar": true,
		"archive:/x.tar": false, "archive:../../x.tar": false, "oci:../..": false, "oci:link": false, "oci:link:v1": false,
		"archive:link/x.tar": false, "archive:link/none.tar": false,
	} {
		err := checkInside(map[string]local.Place{"app:dev": place}, filepath.Join(top, "app"), top, given)
		if (err == nil) != want {
			t.Errorf("%s: got error %v, want inside %v", place, err, want)
		}
	}
	if err := checkInside(map[string]local.Place{"app:given": "archive:/x.tar"}, top, top, given); err != nil {
		t.Errorf("a place given on the command line was checked: %v", err)
	}
}
