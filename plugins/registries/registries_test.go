// SPDX-License-Identifier: Apache-2.0

package registries_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/plugins/registries"
)

func TestHosts(t *testing.T) {
	dir := t.TempDir()
	write := func(host, text string) {
		t.Helper()
		file := filepath.Join(dir, host, "hosts.toml")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("_default", "[host.'http://mirror.example:5000']\n  capabilities = ['pull', 'resolve']\n")
	write("broken.example", "not toml at all")
	write("wrong.example", "[host.'http://mirror.example']\n  capabilities = ['fly']\n")
	if err := os.MkdirAll(filepath.Join(dir, "folder.example", "hosts.toml"), 0o755); err != nil {
		t.Fatal(err)
	}
	how := &interpreter.Registries{HostsDir: dir, PlainHTTP: []string{"plain.example"}}
	for host, want := range map[string]string{
		"any.example":    "http://mirror.example:5000 https://any.example",
		"plain.example":  "http://mirror.example:5000 http://plain.example",
		"broken.example": "hosts.toml of broken.example: ",
		"wrong.example":  "hosts.toml of wrong.example: ",
		"folder.example": "is a folder, want a regular file",
	} {
		hosts, err := registries.Hosts(t.Context(), how, host, nil)
		var got []string
		for _, h := range hosts {
			got = append(got, h.Scheme+"://"+h.Host)
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if !strings.Contains(strings.Join(got, " "), want) {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
	if hosts, err := registries.Hosts(t.Context(), nil, "any.example", nil); err != nil || len(hosts) != 1 {
		t.Errorf("without settings: %v, %v", hosts, err)
	}
}
