// SPDX-License-Identifier: Apache-2.0

//go:build deployers

package deployers_test

import (
	"crypto/rand"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// instance is the label of objects that has the name of their Application.
const instance = "app.kubernetes.io/instance"

// TestArgoCD deploys with the controllers of Argo CD what docs/deploying.md shows.
func TestArgoCD(t *testing.T) {
	c := startCluster(t)
	startArgoCD(t, c)
	host := registrytest.Serve(t, registrytest.Distribution(""))
	keys := t.TempDir()
	vendor, dealer, site := newKey(t, keys, "vendor"), newKey(t, keys, "dealer"), newKey(t, keys, "site")
	const tag = ":v1.4.0"
	shop := host + "/vendor/shop"
	tape(t, "package", "-p", writeShop(t), "-O", shop+tag, "--strict", "--sign", "--key", vendor+".key")
	c.apply(t, documented(t, "Secret", shop))
	// One root has three environments, each an Application.
	deployed := func(t *testing.T) {
		t.Helper()
		revision := contentOf(t, shop+tag)
		for _, env := range environments {
			await(t, c, "application/shop-"+env, "create", "jsonpath={.status.operationState.syncResult.revision}="+revision,
				"jsonpath={.status.operationState.phase}=Succeeded", "jsonpath={.status.sync.status}=Synced")
			checkShop(t, c.objects(t, kinds, instance+"=shop-"+env), env, shop)
		}
	}

	t.Run("Applications", func(t *testing.T) {
		for _, env := range environments {
			c.apply(t, strings.NewReplacer("path: .", "path: "+env, "name: shop", "name: shop-"+env, "namespace: shop", "namespace: shop-"+env).
				Replace(documented(t, "Application", shop)))
		}
		deployed(t)
		c.kubectl(t, "delete", "applications", "--all", "--namespace=argocd")
		c.kubectl(t, "delete", "configmaps,services,deployments", "--all-namespaces", "--selector="+instance)
	})
	t.Run("ApplicationSet", func(t *testing.T) {
		c.apply(t, documented(t, "ApplicationSet", shop))
		deployed(t)
	})
	// What the page warns of.
	t.Run("files at the top", func(t *testing.T) {
		c.apply(t, strings.NewReplacer("name: shop", "name: flat", "recurse: true", "recurse: false").Replace(documented(t, "Application", shop)))
		await(t, c, "application/flat", "create", "jsonpath={.status.sync.status}=Synced")
		if resources := c.kubectl(t, "get", "application/flat", "--namespace=argocd", "--output=jsonpath={.status.resources}"); resources != "" {
			t.Errorf("deployed %s", resources)
		}
	})
	t.Run("root", func(t *testing.T) {
		const why = "expected only a single oci content layer, got 0"
		c.apply(t, strings.NewReplacer("name: shop", "name: range", "targetRevision: manifests.v1.4.0", `targetRevision: ">=1.4.0 <2.0.0"`).Replace(documented(t, "Application", shop)))
		await(t, c, "application/range", "create", "jsonpath={.status.sync.status}=Unknown")
		if conditions := c.kubectl(t, "get", "application/range", "--namespace=argocd", "--output=jsonpath={.status.conditions}"); !strings.Contains(conditions, why) {
			t.Errorf("the conditions are %s", conditions)
		}
	})
	// A dealer relocates what the vendor signed, and a site what the dealer did. The site deploys its
	// own root in place of the vendor's.
	t.Run("relocated", func(t *testing.T) {
		for _, key := range []string{dealer, site} {
			to := host + "/" + filepath.Base(key) + "/shop"
			tape(t, "relocate", shop+tag, "-O", to)
			tape(t, "sign", to+tag, "--key", key+".key")
			shop = to
		}
		tape(t, "verify", shop+tag, "--key", site+".pub", "--origin-key", vendor+".pub")
		c.apply(t, documented(t, "Secret", shop))
		c.apply(t, documented(t, "ApplicationSet", shop))
		deployed(t)
	})
	// Last, because its Application has the objects of another one.
	t.Run("generator of older versions", func(t *testing.T) {
		older := regexp.MustCompile(`(?s)- oci: .*before 3.6: ([^\n]*).*?\n  template:`).
			ReplaceAllString(strings.ReplaceAll(documented(t, "ApplicationSet", shop), "name: shop", "name: older"), "- $1\n  template:")
		if !strings.Contains(older, "- list: ") || strings.Contains(older, "- oci: ") {
			t.Fatalf("the page does not say what replaces the generator:\n%s", older)
		}
		c.apply(t, older)
		await(t, c, "application/older-prod", "create", "jsonpath={.spec.source.path}=prod")
	})
}

// startArgoCD starts Argo CD as its manifests do.
func startArgoCD(t *testing.T, c cluster) {
	t.Helper()
	c.kubectl(t, "apply", "--server-side", "-k", program("argocd-source/argo-cd/manifests/crds"))
	c.established(t)
	// The settings of an installation, and the project that Argo CD's API server would make.
	c.apply(t, `apiVersion: v1
kind: Namespace
metadata: {name: argocd}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-cm, namespace: argocd, labels: {app.kubernetes.io/part-of: argocd}}
data: {application.resourceTrackingMethod: annotation+label}
---
apiVersion: v1
kind: Secret
metadata: {name: argocd-secret, namespace: argocd, labels: {app.kubernetes.io/part-of: argocd}}
stringData: {server.secretkey: `+rand.Text()+`}
---
apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: default, namespace: argocd}
spec:
  sourceRepos: ["*"]
  destinations: [{namespace: "*", server: "*"}]
  clusterResourceWhitelist: [{group: "*", kind: "*"}]
`)
	dir, at := t.TempDir(), addresses(t, 7)
	env := []string{
		"KUBECONFIG=" + c.kubeconfig, "ARGOCD_FAKE_IN_CLUSTER=true", // https://kubernetes.default.svc is the cluster of KUBECONFIG
		"HOME=" + dir, "TMPDIR=" + dir, "ARGOCD_ASK_PASS_SOCK=" + filepath.Join(dir, "ask"), "ARGOCD_PLUGINSOCKFILEPATH=" + dir,
		"ARGOCD_TLS_DATA_PATH=" + dir, "ARGOCD_SSH_DATA_PATH=" + dir, "ARGOCD_GPG_ENABLED=false",
	}
	port := func(i int) string { return at[i][strings.LastIndex(at[i], ":")+1:] }
	listens(t, start(t, env, "argocd", "redis", at[0]), at[0])
	listens(t, start(t, env, "argocd", "argocd-repo-server", "--redis="+at[0],
		"--address=127.0.0.1", "--port="+port(1), "--metrics-address=127.0.0.1", "--metrics-port="+port(2)), at[1])
	start(t, env, "argocd", "argocd-application-controller", "--namespace=argocd", "--redis="+at[0],
		"--repo-server="+at[1], "--metrics-port="+port(3))
	start(t, env, "argocd", "argocd-applicationset-controller", "--namespace=argocd",
		"--argocd-repo-server="+at[1], "--metrics-addr="+at[4], "--probe-addr="+at[5], "--webhook-addr="+at[6])
}

// listens waits until a program listens at an address.
func listens(t *testing.T, died <-chan struct{}, address string) {
	t.Helper()
	for {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-died:
			t.FailNow()
		case <-t.Context().Done():
			t.Fatal(err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// await waits until an object of Argo CD is in a state that kubectl wait knows, and then in the next.
func await(t *testing.T, c cluster, name string, states ...string) {
	t.Helper()
	for _, state := range states {
		if out, err := c.command(t, "wait", name, "--namespace=argocd", "--for="+state, "--timeout=2m").CombinedOutput(); err != nil {
			t.Fatalf("%s is not %s: %s\n%s", name, state, out, c.kubectl(t, "get", "applications,applicationsets", "--namespace=argocd", "--output=yaml"))
		}
	}
}

// documented returns what docs/deploying.md shows of a kind, for another repository than
// registry.example.com/team/shop, in a registry without TLS.
func documented(t *testing.T, kind, repository string) string {
	t.Helper()
	data, err := os.ReadFile("../../../../docs/deploying.md")
	if err != nil {
		t.Fatal(err)
	}
	for block := range strings.SplitSeq(string(data), "```") {
		if text, ok := strings.CutPrefix(block, "yaml\n"); ok && strings.Contains(text, "\nkind: "+kind+"\n") {
			return strings.NewReplacer("registry.example.com/team/shop", repository, "# insecureOCIForceHttp", "insecureOCIForceHttp").Replace(text)
		}
	}
	t.Fatalf("docs/deploying.md does not show a %s", kind)
	return ""
}

// contentOf returns the digest of the content: the first child of a root, which has no platform.
func contentOf(t *testing.T, root string) string {
	t.Helper()
	var index struct {
		Manifests []struct {
			Digest   string
			Platform *struct{}
		}
	}
	data, err := crane.Manifest(root)
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil || len(index.Manifests) == 0 || index.Manifests[0].Platform != nil {
		t.Fatalf("the root %s: %v", data, err)
	}
	return index.Manifests[0].Digest
}
