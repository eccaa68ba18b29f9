// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
)

// TestSoftHSM signs an application with keys in SoftHSM, and verifies it with and without
// the HSM. It needs Debian's softhsm2 and opensc, and tape in $TAPE.
func TestSoftHSM(t *testing.T) {
	dir := t.TempDir()
	run := func(name string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(name string, args ...string) string {
		t.Helper()
		out, err := run(name, args...)
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
		}
		return out
	}
	write := func(name, data string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(dir, "bin")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, "sigstore-kms-pkcs11"), ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))

	const module, pin = "/usr/lib/softhsm/libsofthsm2.so", "4711-tape" // the defaults of Debian
	tape := os.Getenv("TAPE")
	if err := os.MkdirAll(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("softhsm2.conf", "directories.tokendir = "+filepath.Join(dir, "tokens")+"\nobjectstore.backend = file\n")
	t.Setenv("SOFTHSM2_CONF", filepath.Join(dir, "softhsm2.conf"))
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	must("softhsm2-util", "--init-token", "--free", "--label", "release", "--pin", pin, "--so-pin", "12345678")
	for id, kind := range map[string]string{"01": "EC:secp256r1", "02": "EC:secp384r1", "03": "rsa:2048", "04": "EC:secp256r1", "05": "EC:secp256r1"} {
		label := "key " + id
		if id > "03" {
			label = "twice"
		}
		must("pkcs11-tool", "--module", module, "--login", "--pin", pin, "--token-label", "release", "--keypairgen", "--key-type", kind, "--label", label, "--id", id, "--usage-sign")
	}

	write("config.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\n")
	must(tape, "package", "config.yaml", "-O", "registry.example.com/team/shop:v1", "--save", "shop.tar")
	must(tape, "copy", "archive:shop.tar", "oci:shop")

	const key = "pkcs11://token=release;object=key%2001"
	for _, c := range []struct{ module, pin, key, want string }{
		{"", pin, key, "PKCS11_MODULE_PATH is not set"},
		{"/nowhere.so", pin, key, "PKCS11_MODULE_PATH: "},
		{module, "", key, "neither PKCS11_PIN nor PKCS11_PIN_FILE is set"},
		{module, "wrong", key, `open token "release"`},
		{module, pin, "pkcs11://token=other;object=key%2001", `open token "other"`},
		{module, pin, "pkcs11://token=release;object=other", `0 key pairs are token=release;object=other, not one`},
		{module, pin, "pkcs11://token=release;object=twice", "2 key pairs are token=release;object=twice, not one"},
		{module, pin, "pkcs11://token=release", "want token=LABEL and object=LABEL or id=HEX"},
		{module, pin, "pkcs11://token=release;pin-value=1", `"pin-value" is not known`},
	} {
		t.Setenv("PKCS11_MODULE_PATH", c.module)
		t.Setenv("PKCS11_PIN", c.pin)
		out, err := run(tape, "sign", "oci:shop", "--key", c.key)
		if err == nil || !strings.Contains(out, c.want) || c.pin != "" && strings.Contains(out, c.pin) {
			t.Errorf("%+v: %v\n%s", c, err, out)
		}
	}

	write("pin", pin+"\n")
	t.Setenv("PKCS11_PIN", "")
	t.Setenv("PKCS11_PIN_FILE", filepath.Join(dir, "pin"))
	for _, id := range []string{"01", "02", "03"} {
		key := "pkcs11://token=release;id=" + id
		if out := must(tape, "sign", "oci:shop", "--key", key); !strings.Contains(out, "signed\n") {
			t.Errorf("%s: %s", key, out)
		}
		if out := must(tape, "sign", "oci:shop", "--key", key); !strings.Contains(out, "already signed by this key") {
			t.Errorf("%s again: %s", key, out)
		}
		must(tape, "verify", "oci:shop", "--key", key)
		// Verifying with the public key needs no HSM.
		var answer common.PluginResp
		said := must("sigstore-kms-pkcs11", "v1", `{"initOptions":{"keyResourceID":"token=release;id=`+id+`"},"methodName":"publicKey"}`)
		if err := json.Unmarshal([]byte(said), &answer); err != nil {
			t.Fatal(err)
		}
		write("key.pub", string(answer.PublicKey.PublicKeyPEM))
		must(tape, "verify", "oci:shop", "--key", "key.pub", "--offline")
	}
}
