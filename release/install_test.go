// SPDX-License-Identifier: Apache-2.0

//go:build install

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestInstall follows docs/install.md and docs/writing-an-interpreter.md word for word, with
// tape only in a GOPROXY folder made from the commit at HEAD.
func TestInstall(t *testing.T) {
	const version = "v0.1.0"
	modules := t.TempDir()
	if err := proxy(t.Context(), modules, version); err != nil {
		t.Fatal(err)
	}
	// Dependencies of tape are taken from Go's own cache, where they were verified with go.sum.
	for _, dir := range []string{"..", "../cmd/sigstore-kms-pkcs11"} {
		if out, err := exec.Command("go", "mod", "download", "-C", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	goenv := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	home := t.TempDir()
	// Only the compiler of the machine is used, and its build cache: the flags are those that
	// others build with.
	env := []string{
		"HOME=" + home, "PATH=" + filepath.Join(goenv("GOROOT"), "bin") + ":/usr/bin:/bin",
		"GOPROXY=file://" + modules + ",file://" + filepath.Join(goenv("GOMODCACHE"), "cache/download"), "GOSUMDB=off",
		"GOTOOLCHAIN=local", "GOCACHE=" + goenv("GOCACHE"), "GOFLAGS=-trimpath -modcacherw -ldflags=-s",
	}
	follow := func(script string) string {
		t.Helper()
		began := time.Now()
		cmd := exec.Command("bash", "-euxo", "pipefail", "-c", script)
		cmd.Dir, cmd.Env = home, env
		var said, noise strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &noise
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s\n%s", err, said.String(), noise.String())
		}
		t.Logf("done in %s", time.Since(began).Round(time.Second))
		return said.String()
	}

	said := follow(shown(t, "../docs/install.md", "## With Go") + "tape version -o json\n")
	_, last, _ := strings.Cut(said, "\n{")
	var tape struct {
		Version      string
		Interpreters []struct{ Name, Error string }
	}
	if err := json.Unmarshal([]byte("{"+last), &tape); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if tape.Version != version || len(tape.Interpreters) != 1+len(interpreters) || strings.Contains(said, `"error"`) {
		t.Errorf("it says\n%s", said)
	}

	said = follow("export PATH=$PATH:$HOME/go/bin\n" + shown(t, "../docs/writing-an-interpreter.md", "## In Go") + "tape view archive:notes.tar\n")
	for _, want := range []string{"\"note\": \"Hello!\\n\"", "note 1.0.0"} {
		if !strings.Contains(said, want) {
			t.Errorf("%s is not in\n%s", want, said)
		}
	}
}

// shown returns the steps in a section of a document as a script: the commands of its consoles,
// and the files that it tells the reader to write.
func shown(t *testing.T, doc, heading string) string {
	t.Helper()
	data, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(data), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no section %s", doc, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?s)(?:`(\\S+)`:)?\n\n```(\\w+)\n(.*?)```\n").FindAllStringSubmatch(section, -1) {
		name, language, text := block[1], block[2], block[3]
		if language != "console" {
			if name == "" {
				t.Fatalf("%s does not say which file this is:\n%s", doc, text)
			}
			fmt.Fprintf(&script, "mkdir -p $(dirname %s)\ncat >%[1]s <<'END OF FILE'\n%sEND OF FILE\n", name, text)
			continue
		}
		for _, command := range regexp.MustCompile(`(?m)^\$ ((?:.*\\\n)*.*\n)`).FindAllStringSubmatch(text, -1) {
			script.WriteString(command[1])
		}
	}
	if script.Len() == 0 {
		t.Fatalf("section %s of %s shows nothing", heading, doc)
	}
	return script.String()
}
