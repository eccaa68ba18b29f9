// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWild reads documents in the shapes of operators, charts and tools: images that they run,
// incomplete references, and mentions.
func TestWild(t *testing.T) {
	const unknown = " never"
	deployment := func(container string) string {
		return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {template: {spec: {containers: [{name: x, image: 'a/b:1', " + container + "}]}}}\n"
	}
	pod := "pod a/b:1 /spec/template/spec/containers/0/image"
	release := func(chart, values string) string {
		return "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: x}\nspec:\n  chart: {spec: {chart: " + chart + "}}\n  values: " + values + "\n"
	}
	for _, c := range []struct {
		name, in string
		want     []string
	}{
		// Partial references.
		{"image and digest", resource("x.io/v1", "X", "  a: {image: q.io/a, digest: '"+digest64+"'}\n  b: {image: q.io/b, imageDigest: '"+digest64+"'}\n  c: {repo: q.io/c, sha256: '"+digest64[7:]+"'}\n  d: {image: 'q.io/d:1', digest: '"+digest64+"'}\n"),
			[]string{"crd q.io/a@" + digest64 + " /spec/a repository=q.io/a digest=" + digest64, "crd q.io/b@" + digest64 + " /spec/b repository=q.io/b digest=" + digest64,
				"crd q.io/d:1@" + digest64 + " /spec/d repository=q.io/d:1 digest=" + digest64}},
		{"image and tag, by other names", resource("x.io/v1", "X", "  a: {image: q.io/a, imageVersion: '1'}\n  b: {image_name: q.io/b, image_tag: v2}\n  c: {proxyImage: q.io/c, proxyVersion: v3}\n  d: {image: q.io/d, defaultImageVersion: v4}\n  e: {imageRepository: q.io/e, imageTag: v5}\n"),
			[]string{"crd q.io/a:1 /spec/a repository=q.io/a tag=1" + unknown, "crd q.io/b:v2 /spec/b repository=q.io/b tag=v2" + unknown, "crd q.io/c:v3 /spec/c repository=q.io/c tag=v3" + unknown,
				"crd q.io/d:v4 /spec/d repository=q.io/d tag=v4" + unknown, "crd q.io/e:v5 /spec/e repository=q.io/e tag=v5" + unknown}},
		{"registries and hosts", resource("x.io/v1", "X", "  a: {registry: quay.io, image: 'x/a:1'}\n  b: {host: ghcr.io, image: x/b, tag: v1}\n  c: {host: db.example.com, image: 'postgres:16'}\n  d: {registry: quay.io, image: 'docker.io/x/d:1'}\n  e: {image: {host: quay.io, repo: x/e, tag: v1}}\n"),
			[]string{"crd quay.io/x/a:1 /spec/a registry=quay.io repository=x/a:1" + unknown, "crd ghcr.io/x/b:v1 /spec/b registry=ghcr.io repository=x/b tag=v1" + unknown,
				"crd postgres:16 /spec/c/image", "crd docker.io/x/d:1 /spec/d/image", "crd quay.io/x/e:v1 /spec/e/image registry=quay.io repository=x/e tag=v1" + unknown}},
		{"a tag that is filled in later", resource("x.io/v1", "X", "  a: {image: quay.io/x/a, tag: ''}\n  b: {image: quay.io/x/b, imageTag: '${TAG}'}\n  c: {image: {repository: quay.io/x/c, tag: ''}}\n"),
			[]string{`placeholder "quay.io/x/a" /spec/a/image`, `placeholder "quay.io/x/b" /spec/b/image`, `placeholder "quay.io/x/c" /spec/c/image/repository`}},
		{"any name of the rest", resource("x.io/v1", "X", "  a: {imageName: q.io/a, imageHash: '"+digest64+"'}\n  b: {image: {url: q.io/x/b, tag: v1}}\n  c: {image: {registry: q.io, path: x/c, tag: v2}}\n  d: {image: {registry: q.io, repo: x, name: d, version: v3}}\n  e: {baseImage: q.io/x/e, version: v4}\n  f: {image: {reference: q.io/x/f, version: v5}}\n  g: {image: q.io/x/g, tag: null}\n  h: {image: {repository: q.io/x/h, tag: }}\n"),
			[]string{"crd q.io/a@" + digest64 + " /spec/a repository=q.io/a digest=" + digest64, "crd q.io/x/b:v1 /spec/b/image repository=q.io/x/b tag=v1" + unknown,
				"crd q.io/x/c:v2 /spec/c/image registry=q.io repository=x/c tag=v2" + unknown, "crd q.io/x/d:v3 /spec/d/image registry=q.io repository=x image=d version=v3" + unknown,
				"crd q.io/x/e:v4 /spec/e repository=q.io/x/e tag=v4" + unknown, "crd q.io/x/f:v5 /spec/f/image repository=q.io/x/f version=v5" + unknown,
				`placeholder "q.io/x/g" /spec/g/image`, `placeholder "q.io/x/h" /spec/h/image/repository`}},
		{"pairs by any name", resource("x.io/v1", "X", "  a: {repository: q.io/x/a, imageTag: v1}\n  b: {container: q.io/x/b, containerTag: v2}\n  c: {repository: quay.io/x/c, imageTag: v3}\n  d: {container: quay.io/x/d, containerTag: v4}\n  e: {image: {repository: quay.io/x/e, tag: ':v5'}}\n  f: {chartRepository: quay.io/x/chart, chartVersion: 1.0.0}\n"),
			[]string{"crd quay.io/x/c:v3 /spec/c repository=quay.io/x/c tag=v3" + unknown, "crd quay.io/x/d:v4 /spec/d repository=quay.io/x/d tag=v4" + unknown,
				"crd quay.io/x/e:v5 /spec/e/image repository=quay.io/x/e tag=:v5" + unknown}},
		{"pairs of variables", deployment("env: [{name: W_REPOSITORY, value: quay.io/x/w}, {name: W_TAG, value: v1}, {name: IMAGE_AGENT, value: quay.io/x/a}, {name: TAG_AGENT, value: v2}, {name: P_IMAGE, value: quay.io/x/p}, {name: P_TAG, valueFrom: {configMapKeyRef: {name: x, key: y}}}, {name: DB_IMAGE_PREFIX, value: quay.io/x/}, {name: DB_IMAGE, value: 'db:3'}, {name: IMG, value: quay.io/x/i}, {name: IMG_TAG, value: v4}]"),
			[]string{pod, "indirect quay.io/x/w:v1 /spec/template/spec/containers/0/env repository=quay.io/x/w tag=v1" + unknown, "indirect quay.io/x/a:v2 /spec/template/spec/containers/0/env repository=quay.io/x/a tag=v2" + unknown,
				"indirect quay.io/x/db:3 /spec/template/spec/containers/0/env registry=quay.io/x/ repository=db:3" + unknown, "indirect quay.io/x/i:v4 /spec/template/spec/containers/0/env repository=quay.io/x/i tag=v4" + unknown, `placeholder "quay.io/x/p" /spec/template/spec/containers/0/env/4/value`}},
		{"pairs of arguments", deployment("args: [--w-repository=quay.io/x/w, --w-tag=v1, --image-repo=q.io/x/i, --image-tag=v2, --image-prefix=quay.io/x/, '--app-image=app:3'], command: [--r-repo, quay.io/x/r, --r-tag, v4, --s-repo, quay.io/x/s]"),
			[]string{pod, "indirect quay.io/x/w:v1 /spec/template/spec/containers/0/args/0" + unknown, "indirect q.io/x/i:v2 /spec/template/spec/containers/0/args/2" + unknown,
				"indirect quay.io/x/app:3 /spec/template/spec/containers/0/args/5" + unknown, "indirect quay.io/x/r:v4 /spec/template/spec/containers/0/command/1" + unknown}},
		{"pairs in a ConfigMap", "apiVersion: v1\nkind: ConfigMap\ndata:\n  W_REPO: quay.io/x/w\n  W_TAG: v1\n  a.cfg: |\n    [a]\n    worker_container_repository = quay.io/x/a\n    worker_container_tag = v2\n  p: |\n    x.image.repository=q.io/x/p\n    x.image.tag=v3\n  v: 'worker: {repository: quay.io/x/v, tag: v4}'\n",
			[]string{"indirect quay.io/x/w:v1 /data repository=quay.io/x/w tag=v1" + unknown, "indirect quay.io/x/a:v2 /data/a.cfg" + unknown, "indirect q.io/x/p:v3 /data/p" + unknown, "indirect quay.io/x/v:v4 /data/v repository=quay.io/x/v tag=v4" + unknown}},
		{"a tag that may stand elsewhere", resource("pingcap.com/v1alpha1", "TidbCluster", "  version: v7\n  pd: {baseImage: x/pd, a: {b: {c: {image: 'x/far'}}}}\n  helper: {image: 'x/helper:1'}\n  serverImage: q.io/x/server\n"),
			[]string{"crd x/far /spec/pd/a/b/c/image", "crd x/helper:1 /spec/helper/image", `placeholder "x/pd" /spec/pd/baseImage`, `placeholder "q.io/x/server" /spec/serverImage`}},
		{"a tag that may stand above", resource("x.io/v1", "X", "  a: {tag: v1, images: {b: x/b, c: {name: x/c}}}\n  d: {images: {tag: v2, e: {repository: q.io/x/e}}}\n"),
			[]string{`placeholder "x/b" /spec/a/images/b`, `placeholder "x/c" /spec/a/images/c/name`, `placeholder "q.io/x/e" /spec/d/images/e/repository`}},
		{"a tag by another name", resource("x.io/v1", "X", "  a: {image: x/a, channel: v1}\n  b: {image: x/b, tags: [v1]}\n  c: {image: {name: x/c, newTag: v1}}\n  d: {image: 'x/d:1', tagSuffix: -alpine}\n  e: {imgpkgBundle: {image: x/e, tagSelection: {semver: {}}}}\n  f: {image: 'x/f:1', channel: v1}\n"),
			[]string{"crd x/f:1 /spec/f/image", `placeholder "x/a" /spec/a/image`, `placeholder "x/b" /spec/b/image`, `placeholder "x/c" /spec/c/image/name`, `placeholder "x/d:1" /spec/d/image`, `placeholder "x/e" /spec/e/imgpkgBundle/image`}},
		{"a name that the program completes", deployment("args: [--prometheus-default-base-image=q.io/x/p, '--thanos-default-base-image=q.io/x/t:v1', --a-image=q.io/x/a]"),
			[]string{pod, "indirect q.io/x/t:v1 /spec/template/spec/containers/0/args/1", "indirect q.io/x/a /spec/template/spec/containers/0/args/2", `placeholder "q.io/x/p" /spec/template/spec/containers/0/args/0`}},
		{"a variable in a reference", deployment("env: [{name: T, value: v1}, {name: W_IMAGE, value: 'q.io/x/w:$(T)'}, {name: P_IMAGE, value: 'q.io/x/p:$(LATER)'}, {name: LATER, value: v2}, {name: E_IMAGE, value: 'q.io/x/e:$$(T)'}, {name: WHOLE, value: 'q.io/x/z:1'}], args: ['--a-image=quay.io/x/a:$(LATER)', '--b-image=$(WHOLE)', '--c=quay.io/x/c:$(OTHER)', '--d=$(OTHER)']"),
			[]string{pod, "indirect q.io/x/w:v1 /spec/template/spec/containers/0/env/1/value" + unknown, "indirect q.io/x/z:1 /spec/template/spec/containers/0/env/5/value", "indirect quay.io/x/a:v2 /spec/template/spec/containers/0/args/0" + unknown,
				`placeholder "q.io/x/p:$(LATER)" /spec/template/spec/containers/0/env/2/value`, `placeholder "q.io/x/e:$(T)" /spec/template/spec/containers/0/env/4/value`, `placeholder "quay.io/x/c:$(OTHER)" /spec/template/spec/containers/0/args/2`}},
		{"defaults of a schema", resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "  versions: [{schema: {openAPIV3Schema: {description: 'q.io/x/d:1', properties: {image: {default: 'x/a:1', enum: ['x/b:2'], example: 'x/c:3'}, default: {properties: {image: {default: ''}}}, proxy: {default: {image: 'x/p:1'}}, driverImage: {default: q.io/x/d}}}}}]\n"),
			[]string{"indirect x/a:1 /spec/versions/0/schema/openAPIV3Schema/properties/image/default" + unknown, "indirect x/p:1 /spec/versions/0/schema/openAPIV3Schema/properties/proxy/default/image" + unknown, `placeholder "q.io/x/d" /spec/versions/0/schema/openAPIV3Schema/properties/driverImage/default`}},
		{"names without a tag", resource("operator.victoriametrics.com/v1beta1", "VMSingle", "  image: {repository: x/vm}\n"), []string{`placeholder "x/vm" /spec/image/repository`}},
		{"a registry and a tag, in a document", configMap("values", `{"global": {"hub": "docker.io/istio", "tag": "1.20.0", "proxy": {"image": "proxyv2"}}}`), []string{`placeholder "docker.io/istio" /data/values`}},
		{"a registry of an operator", resource("kubevirt.io/v1", "KubeVirt", "  imageRegistry: quay.io/kubevirt\n  imageTag: v1.1.0\n"), []string{`placeholder "quay.io/kubevirt" /spec/imageRegistry`}},
		{"a pattern of names", resource("operator.knative.dev/v1beta1", "KnativeServing", "  registry: {default: 'docker.io/x/${NAME}:v1'}\n"), []string{`placeholder "docker.io/x/${NAME}:v1" /spec/registry/default`}},
		{"a whole reference beside a repository", resource("actions.summerwind.dev/v1alpha1", "Runner", "  a: {image: 'x/runner:v2', repository: acme/repo}\n  b: {image: 'x/b:1', repository: quay.io}\n"),
			[]string{"crd x/runner:v2 /spec/a/image", "crd quay.io/x/b:1 /spec/b repository=quay.io image=x/b:1" + unknown}},
		{"one registry for several", resource("x.io/v1", "X", "  a: {registry: q.io, workerImage: 'x/w:1', helperImage: x/h, helperVersion: v2, ownImage: 'r.io/x/o:3'}\n  b: {registry: q.io, oneImage: x/1, oneDigest: '"+digest64+"', twoImage: x/2, twoDigest: '"+digest64+"'}\n"),
			[]string{"crd q.io/x/h:v2 /spec/a registry=q.io repository=x/h tag=v2" + unknown, "crd q.io/x/w:1 /spec/a registry=q.io repository=x/w:1" + unknown, "crd r.io/x/o:3 /spec/a/ownImage",
				"crd q.io/x/1@" + digest64 + " /spec/b registry=q.io repository=x/1 digest=" + digest64 + unknown, "crd q.io/x/2@" + digest64 + " /spec/b registry=q.io repository=x/2 digest=" + digest64 + unknown}},
		{"the version of a plan", resource("upgrade.cattle.io/v1", "Plan", "  version: v1.29.0+k3s1\n  upgrade: {image: x/upgrade}\n  prepare: {image: 'x/prepare:v2'}\n"),
			[]string{"crd x/upgrade:v1.29.0-k3s1 /spec/upgrade repository=x/upgrade tag=v1.29.0+k3s1" + unknown, "crd x/prepare:v2 /spec/prepare/image"}},
		{"the channel of a plan", resource("upgrade.cattle.io/v1", "Plan", "  channel: https://x.io/stable\n  upgrade: {image: x/upgrade}\n"), []string{`placeholder "x/upgrade" /spec/upgrade/image`}},
		{"variables", deployment("env: [{name: A_IMAGE, value: q.io/x/a}, {name: A_IMAGE_TAG, value: v1}, {name: B_IMAGE, value: q.io/x/b}, {name: B_DIGEST, value: '" + digest64 + "'}, {name: VM_IMAGE, value: ubuntu}, {name: VM_RELOADERIMAGE, value: 'x/r:reload-v1'}]"),
			[]string{pod, "indirect q.io/x/a:v1 /spec/template/spec/containers/0/env repository=q.io/x/a tag=v1" + unknown,
				"indirect q.io/x/b@" + digest64 + " /spec/template/spec/containers/0/env repository=q.io/x/b digest=" + digest64, "indirect x/r:reload-v1 /spec/template/spec/containers/0/env/5/value"}},
		{"arguments", deployment("args: [--a-image=q.io/x/a, --a-tag=v1, --b-image, q.io/x/b, --b-image-version, v2]"),
			[]string{pod, "indirect q.io/x/a:v1 /spec/template/spec/containers/0/args/0" + unknown, "indirect q.io/x/b:v2 /spec/template/spec/containers/0/args/3" + unknown}},
		{"annotations", "apiVersion: v1\nkind: Service\nmetadata:\n  annotations: {mesh.io/proxy-image: q.io/x/p, mesh.io/proxy-version: v1}\n",
			[]string{"indirect q.io/x/p:v1 /metadata/annotations repository=q.io/x/p tag=v1" + unknown}},
		{"a ConfigMap", "apiVersion: v1\nkind: ConfigMap\ndata:\n  image: q.io/x/a\n  tag: v1\n  p: |\n    side.image=q.io/x/s\n    side.image.tag=v2\n  j: '{\"image\": \"q.io/x/j\", \"defaultImageVersion\": \"v3\"}'\n",
			[]string{"indirect q.io/x/a:v1 /data repository=q.io/x/a tag=v1" + unknown, "indirect q.io/x/s:v2 /data/p" + unknown, "indirect q.io/x/j:v3 /data/j repository=q.io/x/j tag=v3" + unknown}},
		{"parameters of a chart", resource("argoproj.io/v1alpha1", "Application", "  source: {helm: {parameters: [{name: image.repository, value: q.io/x/p}, {name: image.tag, value: v1}]}}\n"),
			[]string{"indirect q.io/x/p:v1 /spec/source/helm/parameters repository=q.io/x/p tag=v1" + unknown}},
		{"kubeadm adds a name", resource("controlplane.cluster.x-k8s.io/v1beta1", "KubeadmControlPlane", "  kubeadmConfigSpec: {clusterConfiguration: {dns: {imageRepository: r.io/k8s/coredns, imageTag: v1.11}}}\n"),
			[]string{"indirect r.io/k8s/coredns/coredns:v1.11 /spec/kubeadmConfigSpec/clusterConfiguration/dns repository=r.io/k8s/coredns tag=v1.11" + unknown}},

		{"where the catalogue knows better", resource("monitoring.coreos.com/v1", "Alertmanager", "  image: q.io/x/a\n  version: v0.26.0\n"), []string{"crd q.io/x/a /spec/image"}},

		// Values of charts.
		{"a digest that is null, and one of hexadecimal digits", release("x", "{image: {repository: q.io/x/a, tag: v1, digest: null}, b: {image: {repository: q.io/x/b, tag: v1, sha: ''}}}"),
			[]string{"crd q.io/x/a:v1 /spec/values/image repository=q.io/x/a tag=v1 digest=", "crd q.io/x/b:v1 /spec/values/b/image repository=q.io/x/b tag=v1 sha="}},
		{"a tag that ends in a label", release("keycloakx", "{image: {repository: q.io/x/a, tag: v1}}"), []string{"crd q.io/x/a:v1 /spec/values/image repository=q.io/x/a tag=v1" + unknown}},
		{"with a digest of its own it does not", release("keycloakx", "{image: {repository: q.io/x/a, tag: v1, digest: ''}}"), []string{"crd q.io/x/a:v1 /spec/values/image repository=q.io/x/a tag=v1 digest="}},
		{"a registry before all names", release("x", "{global: {imageRegistry: quay.io}, image: {registry: docker.io, repository: x/a, tag: v1}}"),
			[]string{"indirect quay.io/x/a:v1 /spec/values/image registry=quay.io repository=x/a tag=v1" + unknown}},
		{"a registry and a tag without a name", release("istiod", "{global: {hub: docker.io/istio, tag: 1.20.0}}"), []string{`placeholder "docker.io/istio" /spec/values/global/hub`}},
		{"values in a string", resource("argoproj.io/v1alpha1", "Application", "  source:\n    helm:\n      values: |\n        image: {repository: q.io/x/a, tag: v1}\n"),
			[]string{"indirect q.io/x/a:v1 /spec/source/helm/values repository=q.io/x/a tag=v1"}},

		// Where images are pushed to.
		{"Tekton", resource("tekton.dev/v1", "PipelineRun", "  params: [{name: output-image, value: 'q.io/x/o:1'}, {name: IMAGE, value: 'q.io/x/i:1'}, {name: BUILDER_IMAGE, value: 'q.io/x/b:1'}]\n"),
			[]string{"indirect q.io/x/b:1 /spec/params/2/value"}},
		{"a parameter that a step runs", resource("tekton.dev/v1", "TaskRun", "  params: [{name: image, value: 'q.io/x/i:1'}]\n  taskSpec: {steps: [{image: $(params.image)}]}\n"),
			[]string{"indirect q.io/x/i:1 /spec/params/0/value", `placeholder "$(params.image)" /spec/taskSpec/steps/0/image`}},
		{"a parameter that is pushed to", resource("argoproj.io/v1alpha1", "Workflow", "  arguments: {parameters: [{name: image, value: 'q.io/x/a:1'}]}\n  templates: [{container: {image: 'q.io/x/k:1', args: ['--destination={{workflow.parameters.image}}']}}]\n"),
			[]string{"crd q.io/x/k:1 /spec/templates/0/container/image"}},
		{"what a component is built to", resource("appstudio.redhat.com/v1alpha1", "Component", "  containerImage: q.io/x/a:1\n"), nil},
		{"builders", deployment("args: [--destination=q.io/x/a:1, --tag, 'q.io/x/b:1'], command: [sh, -c, 'docker build -t q.io/x/c:1 . && docker push q.io/x/c:1; docker run q.io/x/d:1']"),
			[]string{pod, "indirect q.io/x/d:1 /spec/template/spec/containers/0/command/2"}},
		{"what tools push", deployment("args: [-d, 'q.io/x/a:1', --dockerfile=x], command: [sh, -c, 'crane push x.tar q.io/x/b:1; skopeo copy docker://q.io/x/c:1 docker://q.io/x/d:1 && oras push q.io/x/e:1 f; crane cp q.io/x/f:1 q.io/x/g:1']"),
			[]string{pod, "indirect q.io/x/c:1 /spec/template/spec/containers/0/command/2", "indirect q.io/x/f:1 /spec/template/spec/containers/0/command/2"}},
		{"what tools push, as arguments", deployment("args: [copy, --all, 'q.io/x/a:1', 'q.io/x/b:1'], command: [crane, push, x.tar, 'q.io/x/c:1']"), []string{pod, "indirect q.io/x/a:1 /spec/template/spec/containers/0/args/2"}},
		{"what tools tag and sign", deployment("args: [tag, 'q.io/x/a:1', v2], command: [sh, -c, 'cosign sign --yes q.io/x/b:1; crane tag q.io/x/c:1 v2; docker run q.io/x/d:1; oc image mirror q.io/x/e:1 q.io/x/f:1'], env: [sign, 'q.io/x/g:1']"),
			[]string{pod, "indirect q.io/x/d:1 /spec/template/spec/containers/0/command/2", "indirect q.io/x/e:1 /spec/template/spec/containers/0/command/2"}},
		{"kaniko", deployment("args: [-d, 'q.io/x/a:1', --destination, 'q.io/x/b:1'], command: [-f, Dockerfile, -d, 'q.io/x/c:1']"), []string{pod}},
		{"what a file says to copy", configMap("regsync.yml", "sync: [{source: 'q.io/x/a:1', target: 'q.io/x/b:1'}]\nmirrors: [{from: 'q.io/x/c:1', to: 'q.io/x/d:1'}]\nreplace: [{from: 'q.io/x/e:1', to: 'q.io/x/f:1'}]\n"),
			[]string{"indirect q.io/x/a:1 /data/regsync.yml", "indirect q.io/x/c:1 /data/regsync.yml", "indirect q.io/x/e:1 /data/regsync.yml", "indirect q.io/x/f:1 /data/regsync.yml"}},
		{"a detached container", deployment("command: [docker, run, -d, 'q.io/x/a:1']"), []string{pod, "indirect q.io/x/a:1 /spec/template/spec/containers/0/command/3"}},
		{"caches and places", deployment("args: [-Djib.to.image=q.io/x/a:1, -Djib.from.image=q.io/x/b:1, --cache-from=q.io/x/c:1], env: [{name: DESTINATION, value: 'q.io/x/d:1'}, {name: IMG_DST, value: 'q.io/x/e:1'}]"),
			[]string{pod, "indirect q.io/x/b:1 /spec/template/spec/containers/0/args/1"}},
		{"what is built is not run by what signs it", resource("tekton.dev/v1", "Pipeline", "  params: [{name: image, default: 'q.io/x/a:1'}]\n  finally: [{taskSpec: {steps: [{image: 'q.io/x/cosign:1', args: [verify, 'q.io/x/a:1', 'q.io/x/b:1']}]}}]\n"),
			[]string{"crd q.io/x/cosign:1 /spec/finally/0/taskSpec/steps/0/image", "indirect q.io/x/b:1 /spec/finally/0/taskSpec/steps/0/args/2"}},
		{"where a build passes on what it makes", resource("build.openshift.io/v1", "BuildConfig", "  output: {to: {kind: DockerImage, name: 'q.io/x/a:1'}}\n  strategy: {sourceStrategy: {from: {kind: DockerImage, name: 'q.io/x/b:1'}, env: [{name: OUT_IMAGE, value: 'q.io/x/a:1'}]}}\n"),
			[]string{"crd q.io/x/b:1 /spec/strategy/sourceStrategy/from/name"}},
		{"a trigger", resource("triggers.tekton.dev/v1beta1", "TriggerTemplate", "  params: [{name: image, default: 'q.io/x/a:1'}]\n"), nil},
		{"outputs", resource("x.io/v1", "X", "  outputImage: q.io/x/a:1\n  targetImage: q.io/x/b:1\n  renderedImagePushSpec: q.io/x/c:1\n  output: {image: 'q.io/x/d:1'}\n  pushGatewayImage: q.io/x/e:1\n"),
			[]string{"crd q.io/x/e:1 /spec/pushGatewayImage"}},
		{"DevWorkspace", resource("workspace.devfile.io/v1alpha2", "DevWorkspace", "  template: {components: [{container: {image: 'q.io/x/a:1'}}, {image: {imageName: 'q.io/x/b:1'}}]}\n"),
			[]string{"crd q.io/x/a:1 /spec/template/components/0/container/image"}},
		{"MachineOSConfig", resource("machineconfiguration.openshift.io/v1", "MachineOSConfig", "  renderedImagePushSpec: q.io/x/a:1\n  baseOSImagePullspec: q.io/x/b:1\n"), []string{"crd q.io/x/b:1 /spec/baseOSImagePullspec"}},

		// Images that are only mentioned.
		{"lists to compare with", resource("x.io/v1", "X", "  allowedImages: ['q.io/x/a:1']\n  imageDenyList: ['q.io/x/b:1']\n  exemptImages: ['q.io/x/c:1']\n  removeImages: ['q.io/x/d:1']\n  images: ['q.io/x/e:1']\n"), []string{"crd q.io/x/e:1 /spec/images/0"}},
		{"lists by other names", resource("x.io/v1", "X", "  deny: {images: ['q.io/x/a:1']}\n  excluded: ['q.io/x/b:1']\n  image-deny-list: [{image: 'q.io/x/c:1'}]\n  removal: {images: ['q.io/x/d:1'], image: 'q.io/x/run:1'}\n  match: {image: 'q.io/x/e:1'}\n  policy: [{pattern: 'q.io/x/f:1'}, {glob: 'q.io/x/g:1'}]\n  rules: [{name: image, op: containsAny, value: 'q.io/x/h:1'}, {key: image, operator: In, values: ['q.io/x/i:1']}]\n  conditions: [{image: 'q.io/x/j:1'}]\n  selector: {image: 'q.io/x/k:1'}\n  allowance: {image: 'q.io/x/l:1'}\n"),
			[]string{"crd q.io/x/run:1 /spec/removal/image", "crd q.io/x/l:1 /spec/allowance/image"}},
		{"lists in a ConfigMap", "apiVersion: v1\nkind: ConfigMap\ndata:\n  allowlist.txt: |\n    q.io/x/a:1\n    q.io/x/b:1\n  excluded: '{\"excluded\": [\"q.io/x/c:1\"]}'\n  policy.yaml: 'blacklist: {images: [\"q.io/x/d:1\"]}'\n  list: q.io/x/e:1\n", []string{"indirect q.io/x/e:1 /data/list"}},
		{"lists in text", configMap("config.toml", "image = \"q.io/x/a:1\"\nallowed_images = [\"q.io/x/b:1\",\n  \"q.io/x/c:1\", \"q.io/x/*:*\"]\nallowed_services = [\"q.io/x/d:1\"]\nhelper_image = \"q.io/x/e:1\"\nblocked: q.io/x/f:1, q.io/x/g:1 # {{ q.io/x/h:1 }}\nignored_images:\n  - q.io/x/i:1\n  - q.io/x/j:1\nport: q.io/x/k:1\nDENIED_IMAGES='q.io/x/l:1 q.io/x/m:1' run q.io/x/n:1 {\\\"excluded\\\": [\\\"q.io/x/o:1\\\"], \\\"x\\\": \\\"q.io/x/p:1\\\"}\ndenied = [q.io/x/q:1"),
			[]string{"indirect q.io/x/a:1 /data/config.toml", "indirect q.io/x/e:1 /data/config.toml", "indirect q.io/x/h:1 /data/config.toml", "indirect q.io/x/k:1 /data/config.toml", "indirect q.io/x/n:1 /data/config.toml", "indirect q.io/x/p:1 /data/config.toml", "indirect q.io/x/q:1 /data/config.toml"}},
		{"lists in variables and fields", deployment("env: [{name: ALLOWED_SERVICES, value: 'q.io/x/a:1 q.io/x/b:1'}, {name: EXCLUDE, value: 'q.io/x/c:1'}, {name: SERVICES, value: 'q.io/x/d:1'}]"), []string{pod, "indirect q.io/x/d:1 /spec/template/spec/containers/0/env/2/value"}},
		{"exceptions of a policy", resource("kyverno.io/v2", "PolicyException", "  podSecurity: [{images: ['q.io/x/a:1']}]\n"), nil},
		{"a report", resource("secscan.quay.redhat.com/v1alpha1", "ImageManifestVuln", "  image: q.io/x/a\n"), nil},
		{"what updaters watch", "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {annotations: {argocd-image-updater.argoproj.io/image-list: 'a=q.io/x/a:1.x', keel.sh/images: 'q.io/x/b:1'}}\nspec: {}\n", nil},
		{"a condition", resource("kyverno.io/v1", "ClusterPolicy", "  rules: [{mutate: {patchStrategicMerge: {spec: {containers: [{(image): 'q.io/x/a:1', +(image): 'q.io/x/b:1'}]}}}}]\n"),
			[]string{"crd q.io/x/b:1 /spec/rules/0/mutate/patchStrategicMerge/spec/containers/0/+(image)"}},
		{"a test of a patch", resource("kyverno.io/v1", "ClusterPolicy", "  rules:\n  - mutate:\n      patchesJson6902: |\n        - op: test\n          path: /spec/image\n          value: q.io/x/a:1\n        - op: replace\n          path: /spec/image\n          value: q.io/x/b\n"),
			[]string{"indirect q.io/x/b /spec/rules/0/mutate/patchesJson6902"}},
		{"comparisons", resource("x.io/v1", "X", "  steps: [{when: \"{{image}} == q.io/x/a:1\"}, {if: \"'q.io/x/b:1' != image\"}, {rule: \"image in ['q.io/x/c:1']\"}, {expression: \"image.startsWith('q.io/x/d:1')\"}, {expression: \"'q.io/x/e:1'\"}]\n  query: up{image=\"q.io/x/f:1\"}\n  unless: {image: 'q.io/x/g:1'}\n  filter: {image: 'q.io/x/h:1'}\n"),
			[]string{"indirect q.io/x/e:1 /spec/steps/4/expression", "crd q.io/x/h:1 /spec/filter/image"}},
		{"comparisons in a parameter", resource("triggers.tekton.dev/v1beta1", "Trigger", "  interceptors: [{params: [{name: filter, value: \"body.image == 'q.io/x/a:1'\"}]}]\n"), nil},
		{"filters of events", resource("argoproj.io/v1alpha1", "Sensor", "  dependencies: [{filters: {data: [{path: body.image, value: ['q.io/x/a:1']}]}}]\n  triggers: [{template: {k8s: {source: {resource: {spec: {container: {image: 'q.io/x/b:1'}}}}}}}]\n"),
			[]string{"crd q.io/x/b:1 /spec/triggers/0/template/k8s/source/resource/spec/container/image"}},
		{"a script that compares, and one that does not", configMap("x.sh", "if [ \"$I\" != \"q.io/x/a:1\" ]; then docker pull q.io/x/b:1; fi\nfor i in ['q.io/x/c:1']:\n"), []string{"indirect q.io/x/b:1 /data/x.sh", "indirect q.io/x/c:1 /data/x.sh"}},
		{"an admission policy", resource("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "  validations: [{expression: \"object.spec.image != 'q.io/x/a:1'\"}]\n"), nil},
		{"rules of Falco", configMap("r.yaml", "- list: images_of_ours\n  items: ['q.io/x/a:1']\n- macro: m\n  condition: container.image = q.io/x/b:1\n"), nil},
		{"images to remove", resource("eraser.sh/v1", "ImageList", "  images: ['q.io/x/a:1']\n"), nil},
		{"the names of a kustomization", resource("argoproj.io/v1alpha1", "Application", "  source: {kustomize: {images: ['a=q.io/x/a:1', 'q.io/x/b:1']}}\n"),
			[]string{"crd q.io/x/a:1 /spec/source/kustomize/images/0", "crd q.io/x/b:1 /spec/source/kustomize/images/1" + unknown}},
		{"images to pull", resource("apps.kruise.io/v1alpha1", "ImagePullJob", "  image: nginx:1.9\n"), []string{"crd nginx:1.9 /spec/image"}},

		// Images of machines.
		{"Gardener", resource("core.gardener.cloud/v1beta1", "Shoot", "  provider: {workers: [{machine: {image: {name: gardenlinux, version: 1592.1.0}}}]}\n"), nil},
		{"machines of another name", resource("x.io/v1", "X", "  machine: {image: {name: linux, version: 15.1}}\n  machineImages: [{name: coreos, versions: [{version: 1.2.3, image: projects/x/coreos}]}]\n  vm: {image: x/ubuntu22.04}\n"), nil},
		{"machines of a group that is not known", resource("x.io/v1", "FooInstanceClass", "  imageName: acme/ubuntu-22-04\n"), nil},
		{"a machine of any group", resource("x.io/v1", "Server", "  imageName: debian:12\n  flavor: m1.small\n"), nil},
		{"a server that is not a machine", resource("cassandra.datastax.com/v1beta1", "CassandraDatacenter", "  serverType: cassandra\n  systemLoggerImage: x/logger:v1\n  sidecar: {image: 'x/y:v1'}\n"),
			[]string{"crd x/logger:v1 /spec/systemLoggerImage", "crd x/y:v1 /spec/sidecar/image"}},
		{"a machine that runs a container", resource("x.io/v1", "Job", "  image: q.io/x/a:1\n  instanceType: m5.large\n"), []string{"indirect q.io/x/a:1 /spec/image"}},
		{"IronCore", resource("metal.ironcore.dev/v1alpha1", "ServerClaim", "  image: q.io/x/os:1\n"), nil},
		{"machines whose disk is a container image", resource("infrastructure.cluster.x-k8s.io/v1alpha1", "KubevirtMachineTemplate", "  template: {spec: {virtualMachineTemplate: {spec: {template: {spec: {volumes: [{containerDisk: {image: 'q.io/x/a:1'}}]}}}}}}\n"),
			[]string{"crd q.io/x/a:1 /spec/template/spec/virtualMachineTemplate/spec/template/spec/volumes/0/containerDisk/image"}},
		{"Crossplane", resource("instance.linode.upbound.io/v1alpha1", "Instance", "  forProvider: {image: linode/ubuntu22.04}\n"), nil},
		{"a service of Crossplane", resource("cloudrun.gcp.upbound.io/v1beta1", "Service", "  forProvider: {template: [{spec: [{containers: [{image: 'gcr.io/x/a:1'}]}]}]}\n"),
			[]string{"pod gcr.io/x/a:1 /spec/forProvider/template/0/spec/0/containers/0/image"}},
		{"disks that follow a tag", resource("hco.kubevirt.io/v1beta1", "HyperConverged", "  dataImportCronTemplates: [{spec: {template: {spec: {source: {registry: {url: 'docker://q.io/x/a:latest'}}}}}}]\n"),
			[]string{"crd q.io/x/a:latest /spec/dataImportCronTemplates/0/spec/template/spec/source/registry/url" + unknown}},
		{"images that are in no registry", deployment("args: ['docker-daemon:q.io/x/a:1', '--image=containers-storage:q.io/x/b:1', 'oci:/layout:1', 'oci-archive:x.tar:q.io/x/c:1', 'docker-archive:/x.tar', 'containers-storage:[overlay@/var/lib]q.io/x/d:1', 'dir:/x/y:1']"), []string{pod}},
		{"a disk that is a container image", resource("kubevirt.io/v1", "VirtualMachine", "  template: {spec: {volumes: [{containerDisk: {image: 'q.io/x/a:1'}}]}}\n"), []string{"crd q.io/x/a:1 /spec/template/spec/volumes/0/containerDisk/image"}},

		// Models, and what is not one.
		{"models", resource("serving.kserve.io/v1beta1", "InferenceService", "  predictor: {model: {storageUri: 's3://b/x'}, storageUris: [{uri: 'oci://q.io/x/a:1'}, {uri: 'pvc://x/y'}]}\n"), []string{"crd q.io/x/a:1 /spec/predictor/storageUris/0/uri"}},
		{"a model by uri", resource("serving.kserve.io/v1alpha1", "LLMInferenceService", "  model: {uri: 'oci://q.io/x/a:1'}\n"), []string{"crd q.io/x/a:1 /spec/model/uri"}},

		// Sealed objects.
		{"sops", "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: 'a/b:1'}]}\nsops: {mac: 'ENC[x]'}\n", []string{"pod a/b:1 /spec/containers/0/image never"}},
		{"sops, whose MAC is over what is encrypted", "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: 'a/b:1'}]}\nsops: {mac: 'ENC[x]', mac_only_encrypted: true}\n", []string{"pod a/b:1 /spec/containers/0/image"}},
		{"sops, of a list", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, spec: {containers: [{image: 'a/b:1'}]}}]\nsops: {mac: 'ENC[x]'}\n", []string{"pod a/b:1 /items/0/spec/containers/0/image never"}},
		{"sops, of a document in a string", configMap("v.yaml", "image: q.io/x/a:1\nsops: {mac: 'ENC[x]'}\n"), []string{"indirect q.io/x/a:1 /data/v.yaml never"}},
		{"sops, of variables in a string", configMap("env", "IMAGE=q.io/x/a:1\nsops_mac=ENC[x]\nsops_version=3.8\n"), []string{"indirect q.io/x/a:1 /data/env never"}},
		{"an image that is encrypted", "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: 'ENC[AES256_GCM,data:x,type:str]'}]}\nsops: {mac: 'ENC[x]'}\n", []string{`placeholder "ENC[AES256_GCM,data:x,type:str]" /spec/containers/0/image`}},
		{"what is encrypted, wherever it is", deployment("args: ['ENC[AES256_GCM,data:1xkT,tag:B,type:str]', '--image=ENC[AES256_GCM,data:x/y:1,type:str]'], env: [{name: X_IMAGE, value: 'ENC[AES256_GCM,data:1xkT,tag:B,type:str]'}]"), []string{pod}},
		{"what is encrypted in text", configMap("env", "IMAGE=ENC[AES256_GCM,data:1xkT,type:str] q.io/x/a:1\nimage = ENC[PKCS7,q.io/x/b:1]\nfield: [ENC[x, q.io/x/c:1\n"), []string{"indirect q.io/x/a:1 /data/env", "indirect q.io/x/c:1 /data/env"}},
		{"a field that is encrypted, and a part", resource("x.io/v1", "X", "  image: ENC[AES256_GCM,data:1xkT,type:str]\n  a: {image: q.io/x/a, tag: 'ENC[AES256_GCM,data:1xkT,type:str]'}\n"),
			[]string{`placeholder "q.io/x/a" /spec/a/image`}},
		{"a signature", "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {cosign.sigstore.dev/message: x, cosign.sigstore.dev/signature: y}}\nspec: {containers: [{image: 'a/b:1'}]}\n", []string{"pod a/b:1 /spec/containers/0/image never"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, lines(scan(t, Config{}, "f.yaml", c.in))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAdvice checks that the advice in the reasons works: images.fields applies to the fields
// in question.
func TestAdvice(t *testing.T) {
	for _, c := range []struct {
		name, in string
		field    Field
		want     []string
	}{
		{"an embedded document", configMap("config.yaml", "deployment: {image: q.io/x/a, tag: v1}\nother: x\n"),
			Field{Groups: []string{""}, Kinds: []string{"ConfigMap"}, Paths: []string{"/data/config.yaml#/deployment"}, Parts: &Parts{Repository: "image", Tag: "tag"}},
			[]string{"indirect q.io/x/a:v1 /data/config.yaml repository=q.io/x/a tag=v1"}},
		{"a bare word in one", configMap("config.yaml", "deployment: {runs: tool}\n"),
			Field{Groups: []string{""}, Kinds: []string{"ConfigMap"}, Paths: []string{"/data/config.yaml#/deployment/runs"}}, []string{"indirect tool /data/config.yaml"}},
		{"an object in one", configMap("config.yaml", "apiVersion: x.io/v1\nkind: X\nruns: tool\n"),
			Field{Groups: []string{""}, Kinds: []string{"ConfigMap"}, Paths: []string{"/data/*#/runs"}}, []string{"indirect tool /data/config.yaml"}},
		{"a document in a document", configMap("a", "b: |\n  runs: tool\n"),
			Field{Groups: []string{""}, Kinds: []string{"ConfigMap"}, Paths: []string{"/data/a#/b#/runs"}}, []string{"indirect tool /data/a"}},
		{"the data of a ConfigMap", "apiVersion: v1\nkind: ConfigMap\ndata: {X_IMAGE: q.io/x/a, X_TAG: v1}\n",
			Field{Groups: []string{""}, Kinds: []string{"ConfigMap"}, Paths: []string{"/data"}, Parts: &Parts{Repository: "X_IMAGE", Tag: "X_TAG"}},
			[]string{"crd q.io/x/a:v1 /data repository=q.io/x/a tag=v1"}},
		{"annotations", "apiVersion: v1\nkind: Service\nmetadata: {annotations: {x.io/image: q.io/x/a, x.io/tag: v1}}\n",
			Field{Groups: []string{""}, Kinds: []string{"Service"}, Paths: []string{"/metadata/annotations"}, Parts: &Parts{Repository: "x.io~1image", Tag: "x.io~1tag"}},
			[]string{"crd q.io/x/a:v1 /metadata/annotations repository=q.io/x/a tag=v1"}},
		{"variables", resource("v1", "Pod", "  containers: [{env: [{name: X_IMAGE, value: q.io/x/a}, {name: X_IMAGE_TAG, value: v1}]}]\n"),
			Field{Groups: []string{""}, Kinds: []string{"Pod"}, Paths: []string{"/spec/containers/0/env"}, Parts: &Parts{Repository: "0/value", Tag: "1/value"}},
			[]string{"crd q.io/x/a:v1 /spec/containers/0/env repository=q.io/x/a tag=v1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, lines(scan(t, Config{Fields: []Field{c.field}}, "f.yaml", c.in))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestMentions checks that images that are not run are reported with the reason.
func TestMentions(t *testing.T) {
	got := scan(t, Config{}, "f.yaml", resource("x.io/v1", "X", "  outputImage: q.io/x/a:1\n  allowedImages: ['q.io/x/b:1', 'q.io/*']\n"))
	var said []string
	for _, m := range got.Mentions {
		said = append(said, m.Value+" "+m.Pointer+" "+m.Reason)
	}
	want := []string{"q.io/x/a:1 /spec/outputImage " + pushed, "q.io/x/b:1 /spec/allowedImages/0 " + compared}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}
	if m := got.Mentions[0]; m.Line != 5 || m.Column != 16 || m.File != "f.yaml" {
		t.Errorf("got %+v", m)
	}
}
