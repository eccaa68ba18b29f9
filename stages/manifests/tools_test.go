// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"
	"strings"
	"testing"
)

// TestConsumer distinguishes objects of a cluster from files of tools.
func TestConsumer(t *testing.T) {
	for _, c := range []struct{ apiVersion, kind, tool string }{
		{"v1", "ConfigMap", ""},
		{"v1", "Config", "kubectl"},
		{"v1alpha1", "KubeSpanConfig", "the tool that it configures"},
		{"apps/v1", "Deployment", ""},
		{"scorecard.operatorframework.io/v1alpha3", "Configuration", "operator-sdk"},
		{"backstage.io/v1alpha1", "Component", "Backstage"},
		{"eksctl.io/v1alpha5", "ClusterConfig", "eksctl"},
		{"kops.k8s.io/v1alpha2", "InstanceGroup", "kops"},
		{"chainsaw.kyverno.io/v1alpha1", "Test", "Chainsaw"},
		{"kyverno.io/v1", "ClusterPolicy", ""},
		{"cli.kyverno.io/v1alpha1", "Test", "the Kyverno CLI"},
		{"kuttl.dev/v1beta1", "TestSuite", "KUTTL"},
		{"kudo.dev/v1beta1", "TestAssert", "KUTTL"},
		{"kudo.dev/v1beta1", "Operator", ""},
		{"content.hauler.cattle.io/v1", "Images", "Hauler"},
		{"zarf.dev/v1alpha1", "ZarfPackageConfig", "Zarf"},
		{"mirror.openshift.io/v2alpha1", "ImageSetConfiguration", "oc-mirror"},
		{"clusterctl.cluster.x-k8s.io/v1alpha3", "Metadata", "clusterctl"},
		{"clusterctl.cluster.x-k8s.io/v1alpha3", "Provider", ""},
		{"eraser.sh/v1alpha3", "EraserConfig", "eraser"},
		{"eraser.sh/v1", "ImageList", ""},
		{"pod-security.admission.config.k8s.io/v1", "PodSecurityConfiguration", "a component of Kubernetes"},
		{"kubescheduler.config.k8s.io/v1", "KubeSchedulerConfiguration", "a component of Kubernetes"},
		{"meta.pkg.crossplane.io/v1", "Configuration", "the Crossplane CLI"},
		{"pkg.crossplane.io/v1", "Configuration", ""},
		{"skaffold/v4beta9", "Config", "Skaffold"},
		{"argoproj.io/v1alpha1", "ConfigManagementPlugin", "Argo CD's repository server"},
		{"argoproj.io/v1alpha1", "Application", ""},
		{"kots.io/v1beta1", "Config", "KOTS"},
		{"troubleshoot.sh/v1beta2", "Preflight", "Troubleshoot"},
		{"policy.open-cluster-management.io/v1", "PolicyGenerator", "kustomize"},
		{"policy.open-cluster-management.io/v1", "Policy", ""},
		{"fission.io/v1", "DeploymentConfig", "the Fission CLI"},
		{"fission.io/v1", "Function", ""},
		{"controller.config.cert-manager.io/v1alpha1", "ControllerConfiguration", "the program that it configures"},
		{"cert-manager.io/v1", "Issuer", ""},
		{"descheduler/v1alpha2", "DeschedulerPolicy", "the program that it configures"},
		{"deploy.cloud.google.com/v1", "DeliveryPipeline", "Cloud Deploy"},
		{"legacyconfig.openshift.io/v1", "MasterConfig", "a component of OpenShift"},
		{"config.openshift.io/v1", "ClusterVersion", ""},
		{"config.gatekeeper.sh/v1alpha1", "Config", ""},
	} {
		docs, err := Parse(Open("", fmt.Appendf(nil, "apiVersion: %s\nkind: %s\nmetadata: {name: x}\n", c.apiVersion, c.kind)).Text)
		if err != nil {
			t.Fatal(err)
		}
		objects, reason := docs[0].Objects()
		if want := ReadBy(c.tool); c.tool == "" && (len(objects) != 1 || reason != "") || c.tool != "" && reason != want {
			t.Errorf("%s %s: %d objects, %q, want the tool %q", c.apiVersion, c.kind, len(objects), reason, c.tool)
		}
	}
}

// TestAlias finds the position of an alias, and counts the uses of the text that it refers to.
func TestAlias(t *testing.T) {
	const in = "a: &x nginx # c\nb: [*x , {c: *x}]\nd: &m {e: *x}\nf: *m\n? *x\n: g\n"
	docs, err := Parse(Open("", []byte(in)).Text)
	if err != nil {
		t.Fatal(err)
	}
	doc := &docs[0]
	if _, ok := doc.Alias(doc.Root.Get("a")); ok {
		t.Error("an anchor is taken for an alias")
	}
	if got := doc.Uses(doc.Root.Get("a")); got != 6 {
		t.Errorf("%d uses, want 6", got)
	}
	span, ok := doc.Alias(&doc.Root.Get("b").Items[0])
	if at := strings.Index(in, "*x"); !ok || span.Offset != at || span.Length != 2 {
		t.Errorf("the alias is at %+v, %v; want %d", span, ok, at)
	}
	if _, ok := doc.Alias(doc.Root.Get("f").Get("e")); ok {
		t.Error("an alias that is itself repeated could be changed in one place")
	}
	long := "apiVersion: v1\nkind: List\nitems:\n- {a: &x nginx, b: *x}\n" + strings.Repeat("- {n: "+strings.Repeat("x", 1000)+"}\n", 1100)
	if docs, err = Parse(Open("", []byte(long)).Text); err != nil {
		t.Fatal(err)
	}
	item := &docs[0].Root.Get("items").Items[0]
	if span, ok := docs[0].Alias(item.Get("b")); !ok || long[span.Offset:span.Offset+span.Length] != "*x" || docs[0].Uses(item.Get("a")) != 2 {
		t.Errorf("in a long list: %+v, %v, %d uses", span, ok, docs[0].Uses(item.Get("a")))
	}
}
