// SPDX-License-Identifier: Apache-2.0

//go:build deployers

// Package deployers_test deploys applications with the programs that people deploy them with,
// into the API server of Kubernetes. There are no nodes: objects are stored, and nothing runs.
package deployers_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cluster is an API server of its own, with nothing in it.
type cluster struct {
	kubeconfig string // a file, whose user may do everything
}

// startCluster starts etcd and kube-apiserver, which end with the test.
func startCluster(t *testing.T) cluster {
	t.Helper()
	dir := t.TempDir()
	at := addresses(t, 3)
	start(t, nil, "etcd", "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls=http://"+at[0], "--advertise-client-urls=http://"+at[0],
		"--listen-peer-urls=http://"+at[1], "--initial-advertise-peer-urls=http://"+at[1], "--initial-cluster=default=http://"+at[1])

	// The API server makes its certificate itself; who has the token may do everything.
	certs, tokens, key := filepath.Join(dir, "certs"), filepath.Join(dir, "tokens.csv"), filepath.Join(dir, "accounts.key")
	token := rand.Text()
	write(t, tokens, token+",admin,admin,system:masters\n")
	write(t, key, accountsKey(t))
	host, port, err := net.SplitHostPort(at[2])
	if err != nil {
		t.Fatal(err)
	}
	died := start(t, nil, "kube-apiserver", "--etcd-servers=http://"+at[0], "--cert-dir="+certs,
		"--bind-address="+host, "--secure-port="+port, "--endpoint-reconciler-type=none",
		"--authorization-mode=RBAC", "--token-auth-file="+tokens, "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+key, "--service-account-signing-key-file="+key)

	c := cluster{kubeconfig: filepath.Join(dir, "kubeconfig")}
	write(t, c.kubeconfig, fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://%s", certificate-authority: %s}}]
users: [{name: admin, user: {token: %s}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
`, at[2], filepath.Join(certs, "apiserver.crt"), token))
	for {
		out, err := c.command(t, "get", "--raw=/readyz").CombinedOutput()
		if err == nil {
			return c
		}
		select {
		case <-died:
			t.FailNow()
		case <-t.Context().Done():
			t.Fatalf("the API server is not ready: %s", out)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// apply creates or changes the objects of a YAML stream.
func (c cluster) apply(t *testing.T, yaml string) {
	t.Helper()
	cmd := c.command(t, "apply", "--server-side", "--force-conflicts", "-f", "-")
	cmd.Stdin = strings.NewReader(yaml)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("apply: %v\n%s\n%s", err, out, yaml)
	}
}

// established waits until the API server serves the objects of every CustomResourceDefinition. It
// waits for the names first, because kubectl wait fails while there are no conditions.
func (c cluster) established(t *testing.T) {
	t.Helper()
	for _, state := range []string{"jsonpath={.status.acceptedNames.plural}", "condition=Established"} {
		c.kubectl(t, "wait", "crd", "--all", "--for="+state, "--timeout=1m")
	}
}

// kubectl returns what kubectl prints, and fails the test if it fails.
func (c cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.command(t, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// object is the part of an object that the tests read.
type object struct {
	Kind     string
	Metadata struct{ Namespace, Name string }
	Data     map[string]string // of a ConfigMap
	Spec     struct {
		Replicas int
		Template struct {
			Spec struct{ Containers []struct{ Image string } }
		}
	}
}

// objects returns the objects of all namespaces that have the label, which a deployer gives to
// those that it deploys, by kind, namespace and name: "Service shop/web". The kinds are as for
// kubectl get.
func (c cluster) objects(t *testing.T, kinds, label string) map[string]object {
	t.Helper()
	cmd := c.command(t, "get", kinds, "--all-namespaces", "--selector="+label, "--output=json")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("get %s: %v", kinds, err)
	}
	var list struct{ Items []object }
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	found := map[string]object{}
	for _, o := range list.Items {
		found[o.Kind+" "+strings.TrimPrefix(o.Metadata.Namespace+"/"+o.Metadata.Name, "/")] = o
	}
	return found
}

func (c cluster) command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), program("kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig)
	return cmd
}

// program returns the path of a program that the Makefile builds.
func program(name string) string { return filepath.Join(os.Getenv("TAPE_DEPLOYERS"), name) }

// start starts a program that ends with the test. The channel is closed if it ends before. The test
// prints the end of its log if it fails.
func start(t *testing.T, env []string, name string, args ...string) <-chan struct{} {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program(name), args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = filepath.Dir(path)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start what make builds into TAPE_DEPLOYERS: %v", err)
	}
	died := make(chan struct{})
	go func() {
		defer close(died)
		if err := cmd.Wait(); t.Context().Err() == nil {
			t.Errorf("%s ended: %v", name, err)
		}
	}()
	t.Cleanup(func() { // after the context, which ends it
		<-died
		_ = log.Close()
		if !t.Failed() {
			return
		}
		if data, err := os.ReadFile(path); err == nil {
			t.Logf("the log of %s ends with:\n%s", name, data[max(0, len(data)-6000):])
		}
	})
	return died
}

// addresses returns addresses on loopback that nothing listens on.
func addresses(t *testing.T, n int) []string {
	t.Helper()
	var at []string
	for range n {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all are held until all are known, so that none is there twice
		at = append(at, l.Addr().String())
	}
	return at
}

// accountsKey returns a key that signs the tokens of service accounts.
func accountsKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// write writes a file that only its owner may read, and its folder.
func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
