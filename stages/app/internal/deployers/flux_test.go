// SPDX-License-Identifier: Apache-2.0

//go:build deployers

package deployers_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// TestFlux deploys applications with source-controller and kustomize-controller.
func TestFlux(t *testing.T) {
	c := startCluster(t)
	startFlux(t, c)
	host := registrytest.Serve(t, registrytest.Distribution(""))
	keys := t.TempDir()
	for _, who := range []string{"vendor", "site1", "site2"} {
		c.kubectl(t, "create", "secret", "generic", who, "--namespace=flux-system", "--from-file="+newKey(t, keys, who)+".pub")
	}
	key := func(who string) string { return filepath.Join(keys, who+".key") }
	pub := func(who string) string { return filepath.Join(keys, who+".pub") }
	pipeline := writeShop(t)
	tape(t, "package", "-p", pipeline, "-O", host+"/vendor/shop:v1.4.0", "--strict", "--sign", "--key", key("vendor"))
	// A site has the vendor's application in its own registry, and another has that one.
	from := "vendor"
	for _, site := range []string{"site1", "site2"} {
		tape(t, "relocate", host+"/"+from+"/shop:v1.4.0", "-O", host+"/"+site+"/shop:v1.4.0")
		tape(t, "sign", host+"/"+site+"/shop:v1.4.0", "--key", key(site))
		from = site
	}
	tape(t, "verify", host+"/site2/shop:v1.4.0", "--key", pub("site2"), "--origin-key", pub("vendor"))

	// One root has three environments, each a Kustomization. The site deploys its own root in place
	// of the vendor's, and has Flux choose among the tags.
	for _, deployed := range []struct{ who, ref string }{{"vendor", "tag: v1.4.0"}, {"site2", `semver: ">=1.0.0"`}} {
		who := deployed.who
		t.Run(who, func(t *testing.T) {
			c.apply(t, source("shop", host+"/"+who+"/shop", deployed.ref)+"  verify: {provider: cosign, secretRef: {name: "+who+"}}\n")
			for _, env := range environments {
				c.apply(t, kustomization(env, "shop", "./"+env))
			}
			revision := "v1.4.0@" + digest(t, host+"/"+who+"/shop:v1.4.0")
			for _, env := range environments {
				c.wait(t, "kustomization/"+env, "jsonpath={.status.lastAppliedRevision}="+revision)
				checkShop(t, c.objects(t, kinds, "kustomize.toolkit.fluxcd.io/name="+env), env, host+"/"+who+"/shop")
			}
		})
	}
	// The whole root deploys every environment, or nothing if an object is in two.
	t.Run("the whole root", func(t *testing.T) {
		c.apply(t, kustomization("all", "shop", "./"))
		c.wait(t, "kustomization/all", "condition=Ready")
		if objects := c.objects(t, kinds, "kustomize.toolkit.fluxcd.io/name=all"); len(objects) != 60 {
			t.Errorf("the whole root has %d objects", len(objects))
		}

		twice := t.TempDir()
		write(t, filepath.Join(twice, "web.yaml"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: twice, namespace: default}\n")
		write(t, filepath.Join(twice, "tape.yaml"), "apiVersion: tape/v1\nkind: Pipeline\nsources: [{name: web, path: web.yaml}]\nenvironments: {dev: , prod: }\n")
		tape(t, "package", "-p", filepath.Join(twice, "tape.yaml"), "-O", host+"/vendor/twice:v1.4.0")
		c.apply(t, source("twice", host+"/vendor/twice", "tag: v1.4.0"))
		c.wait(t, "ocirepository/twice", "condition=Ready")
		c.apply(t, kustomization("twice", "twice", "./"))
		if why := c.refused(t, "kustomization/twice", "BuildFailed"); !strings.Contains(why, "may not add resource with an already registered id") {
			t.Error(why)
		}
	})
	t.Run("exported trust", func(t *testing.T) {
		tape(t, "package", "-p", pipeline, "-O", host+"/unsigned/shop:v1.4.0")
		trust := filepath.Join(keys, "trust.yaml")
		write(t, trust, fmt.Sprintf(`apiVersion: tape/v1
kind: Trust
authorities: {site2: {key: site2.pub}}
applications: [{names: [%s/site2/shop, %[1]s/unsigned/shop, %[1]s/vendor/shop], require: site2}]
`, host))
		c.apply(t, tape(t, "trust", "export", trust, "--flux"))
		for i, trusted := range []bool{true, false, false} {
			name := fmt.Sprintf("ocirepository/tape-trust-applications-1-%d", i+1)
			c.kubectl(t, "patch", name, "--namespace=flux-system", "--type=merge", "--patch", `{"spec": {"ref": {"tag": "v1.4.0"}, "insecure": true}}`)
			if trusted {
				c.wait(t, name, "condition=Ready")
			} else if why := c.refused(t, name, "VerificationError"); !strings.Contains(why, "no matching signatures were found") {
				t.Error(why)
			}
		}
	})
}

// startFlux starts the controllers, which end with the test.
func startFlux(t *testing.T, c cluster) {
	t.Helper()
	for _, module := range []string{"github.com/fluxcd/source-controller", "github.com/fluxcd/kustomize-controller"} {
		cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
		cmd.Dir = "programs"
		out, err := cmd.Output()
		var of struct{ Dir string }
		if err == nil {
			err = json.Unmarshal(out, &of)
		}
		if err != nil {
			t.Fatalf("find %s: %v", module, err)
		}
		c.kubectl(t, "apply", "--server-side", "-f", filepath.Join(of.Dir, "config/crd/bases"))
	}
	c.established(t)
	c.kubectl(t, "create", "namespace", "flux-system")
	at := addresses(t, 1)[0]
	env := []string{"KUBECONFIG=" + c.kubeconfig, "RUNTIME_NAMESPACE=flux-system"}
	start(t, env, "source-controller", "--metrics-addr=0", "--health-addr=0",
		"--storage-path="+t.TempDir(), "--storage-addr="+at, "--storage-adv-addr="+at)
	start(t, env, "kustomize-controller", "--metrics-addr=0", "--health-addr=0")
}

// source is an OCIRepository.
func source(name, repository, ref string) string {
	return fmt.Sprintf(`apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata: {name: %s, namespace: flux-system}
spec:
  interval: 10m
  url: oci://%s
  ref: {%s}
  insecure: true
`, name, repository, ref)
}

// kustomization applies a path of an OCIRepository. It does not wait until Deployments are
// available, because nothing runs.
func kustomization(name, source, path string) string {
	return fmt.Sprintf(`apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: %s, namespace: flux-system}
spec:
  interval: 10m
  sourceRef: {kind: OCIRepository, name: %s}
  path: %s
  prune: true
`, name, source, path)
}

// wait waits until an object of Flux is in a state, as for kubectl wait. It returns what output,
// which may be missing, selects from the object in that state.
func (c cluster) wait(t *testing.T, name, state string, output ...string) string {
	t.Helper()
	args := []string{"wait", name, "--namespace=flux-system", "--for=" + state, "--timeout=2m"}
	for _, path := range output {
		args = append(args, "--output=jsonpath="+path)
	}
	out, err := c.command(t, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("wait for %s: %s\n%s", state, out, c.kubectl(t, "get", name, "--namespace=flux-system", "--output=yaml"))
	}
	return string(out)
}

// refused waits until an object of Flux has failed for a reason, and returns what it says about it.
func (c cluster) refused(t *testing.T, name, reason string) string {
	t.Helper()
	const ready = `{.status.conditions[?(@.type=="Ready")].%s}`
	return c.wait(t, name, "jsonpath="+fmt.Sprintf(ready, "reason")+"="+reason, fmt.Sprintf(ready, "message"))
}
