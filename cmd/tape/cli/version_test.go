// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"runtime/debug"
	"testing"
)

// The commit is known for a binary built in a repository, and for a version that contains one.
func TestVersionOf(t *testing.T) {
	const commit = "9596ad5391e14b8f98ecd26d1cbf4a5a7ce4a0a3"
	revision := []debug.BuildSetting{{Key: "vcs.revision", Value: commit}}
	for _, c := range []struct{ main, version, commit string }{
		{"v0.1.0", "v0.1.0", ""},
		{"v0.1.1-0.20261130083000-9596ad5391e1", "v0.1.1-0.20261130083000-9596ad5391e1", "9596ad5391e1"},
		{"(devel)", "devel", ""},
		{"", "devel", ""},
	} {
		v := versionOf(&debug.BuildInfo{Main: debug.Module{Version: c.main}})
		if v.Version != c.version || v.Commit != c.commit {
			t.Errorf("%q is %s of commit %q, want %s and %q", c.main, v.Version, v.Commit, c.version, c.commit)
		}
		if v := versionOf(&debug.BuildInfo{Main: debug.Module{Version: c.main}, Settings: revision}); v.Commit != commit {
			t.Errorf("%q, built in a repository, is of commit %q", c.main, v.Commit)
		}
	}
	if v := versionOf(nil); v.Version != "devel" {
		t.Errorf("a program that says nothing is %s", v.Version)
	}
}
