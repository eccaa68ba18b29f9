// SPDX-License-Identifier: Apache-2.0

//go:build deployers

package deployers_test

import (
	"path/filepath"
	"testing"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// TestKubectl deploys one environment of an application with kubectl apply.
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
}
