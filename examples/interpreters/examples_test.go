// SPDX-License-Identifier: Apache-2.0

//go:build examples

// Package interpreters checks the interpreters in the folders below with the conformance kit,
// like their authors would. It needs make and, for the one in Python, Debian's python3-grpcio,
// python3-grpc-tools and python3-cryptography.
package interpreters

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/taped-dev/tape/plugins/conformance"
)

func TestExamples(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		binary string
		cases  string
		build  []string
	}{
		{"tape-interpreter-jsonnet", "jsonnet/testdata", []string{"go", "build", "-C", "jsonnet", "-o", dir, "."}},
		{"tape-interpreter-template", "template-python/testdata", []string{"make", "-C", "template-python", "OUT=" + dir}},
	}
	for _, test := range tests {
		t.Run(test.binary, func(t *testing.T) {
			if out, err := exec.Command(test.build[0], test.build[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", test.build, err, out)
			}
			report, err := conformance.CheckBinary(t.Context(), filepath.Join(dir, test.binary), conformance.Options{Cases: os.DirFS(test.cases)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range report.Results {
				if !r.OK {
					t.Errorf("%s: %s", r.Check, r.Reason)
				} else {
					t.Logf("%s: ok %s", r.Check, r.Reason)
				}
			}
		})
	}
}
