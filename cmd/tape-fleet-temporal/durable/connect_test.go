// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taped-dev/tape/cmd/tape/cli"
)

type variables map[string]string

func (v variables) Environ() []string {
	var out []string
	for name, value := range v {
		out = append(out, name+"="+value)
	}
	return out
}

func (v variables) LookupEnv(name string) (string, bool) { value, ok := v[name]; return value, ok }

// TestClientOptions checks that flags take precedence over the environment, and the environment
// over Temporal's file.
func TestClientOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "temporal.toml")
	if err := os.WriteFile(file, []byte("[profile.default]\naddress = \"file:1\"\nnamespace = \"of-file\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("THEIR_KEY", "sesame")
	for _, tt := range []struct {
		name               string
		flags              cli.EngineFlags
		env                variables
		address, namespace string
		tls                bool
		wrong              string
	}{
		{name: "nothing", env: variables{"TEMPORAL_CONFIG_FILE": os.DevNull}, address: "localhost:7233"},
		{name: "file", env: variables{"TEMPORAL_CONFIG_FILE": file}, address: "file:1", namespace: "of-file"},
		{name: "environment", env: variables{"TEMPORAL_CONFIG_FILE": file, "TEMPORAL_ADDRESS": "env:1"}, address: "env:1", namespace: "of-file"},
		{name: "flag", flags: cli.EngineFlags{Address: "flag:1", Namespace: "mine"}, env: variables{"TEMPORAL_CONFIG_FILE": file, "TEMPORAL_ADDRESS": "env:1"}, address: "flag:1", namespace: "mine"},
		{name: "API key", flags: cli.EngineFlags{APIKeyFrom: "env://THEIR_KEY"}, env: variables{"TEMPORAL_CONFIG_FILE": file}, address: "file:1", namespace: "of-file", tls: true},
		{name: "no API key", flags: cli.EngineFlags{APIKeyFrom: "env://NOT_SET"}, wrong: `the variable "NOT_SET" is not set`},
		{name: "no authority", flags: cli.EngineFlags{CAFile: "missing.pem"}, wrong: "missing.pem"},
		{name: "bad payload key", flags: cli.EngineFlags{PayloadKey: "env://THEIR_KEY"}, wrong: "32 bytes in hex"},
	} {
		if tt.env == nil {
			tt.env = variables{"TEMPORAL_CONFIG_FILE": os.DevNull}
		}
		o, err := clientOptions(tt.flags, tt.env)
		if tt.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wrong) || strings.Contains(err.Error(), "sesame") {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if err != nil || o.HostPort != tt.address || o.Namespace != tt.namespace || (o.ConnectionOptions.TLS != nil) != tt.tls {
			t.Errorf("%s: %s, %s, TLS %v, %v", tt.name, o.HostPort, o.Namespace, o.ConnectionOptions.TLS != nil, err)
		}
	}
}
