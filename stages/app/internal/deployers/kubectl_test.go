// SPDX-License-Identifier: Apache-2.0

//go:build deployers

package deployers_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// TestKubectl deploys applications with kubectl apply.
func TestKubectl(t *testing.T) {
	c := startCluster(t)
	host := registrytest.Serve(t, registrytest.Distribution(""))
	key := newKey(t, t.TempDir(), "vendor")
	tape(t, "package", "-p", writeShop(t), "-O", host+"/team/shop:v1", "--strict", "--sign", "--key", key+".key")
	pulled := filepath.Join(t.TempDir(), "prod")
	tape(t, "pull", host+"/team/shop:v1", pulled, "--env", "prod", "--key", key+".pub")
	c.kubectl(t, "apply", "-R", "-f", pulled)
	c.kubectl(t, "label", "-R", "-f", pulled, "by=kubectl")
	checkShop(t, c.objects(t, kinds, "by=kubectl"), "prod", host+"/team/shop")

	// Of a Namespace whose file sorts after what is in it, kubectl applies a stream at once, and a
	// folder at the second attempt.
	for _, name := range []string{"stream", "folder"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a.yaml"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web, namespace: "+name+", labels: {by: "+name+"}}\n")
		write(t, filepath.Join(dir, "b.yaml"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+name+", labels: {by: "+name+"}}\n")
		tape(t, "package", dir, "-O", host+"/team/"+name+":v1")
	}
	stream := c.command(t, "apply", "-f", "-")
	stream.Stdin = strings.NewReader(tape(t, "view", host+"/team/stream:v1", "--manifests"))
	if out, err := stream.CombinedOutput(); err != nil {
		t.Errorf("apply a stream: %v\n%s", err, out)
	}
	pulled = filepath.Join(t.TempDir(), "folder")
	tape(t, "pull", host+"/team/folder:v1", pulled)
	if out, err := c.command(t, "apply", "-R", "-f", pulled).CombinedOutput(); !strings.Contains(string(out), `namespaces "folder" not found`) {
		t.Errorf("apply a folder: %v\n%s", err, out)
	}
	c.kubectl(t, "apply", "-R", "-f", pulled)
	for _, name := range []string{"stream", "folder"} {
		if objects := c.objects(t, kinds, "by="+name); len(objects) != 2 {
			t.Errorf("%s has %v", name, objects)
		}
	}
}
