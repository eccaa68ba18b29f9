// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
)

const digest64 = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// scan scans files that are given as name, content, name, content, ….
func scan(t *testing.T, c Config, in ...string) *images.Report {
	t.Helper()
	stage, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	var all []files.File
	for i := 0; i < len(in); i += 2 {
		all = append(all, files.File{Name: in[i], Data: []byte(in[i+1])})
	}
	report, err := stage.Scan(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// lines prints every reference and placeholder of a report on one line, in the order of the
// file: class, value, pointer, and peculiarities.
func lines(r *images.Report) []string {
	type line struct {
		file             string
		document, offset int
		text             string
	}
	var all []line
	for _, ref := range r.References {
		for _, l := range ref.Locations {
			text := fmt.Sprintf("%s %s %s", l.Class, l.Value, l.Pointer)
			for _, p := range l.Parts {
				text += fmt.Sprintf(" %s=%s", p.Role, p.Value)
			}
			if l.Never != "" {
				text += " never"
			}
			if l.Shared || slices.ContainsFunc(l.Parts, func(p images.Part) bool { return p.Shared }) {
				text += " shared"
			}
			all = append(all, line{l.File, l.Document, l.Offset, text})
		}
	}
	for i := range all {
		for j := i; j > 0 && (all[j-1].file > all[j].file || all[j-1].file == all[j].file && all[j-1].offset > all[j].offset); j-- {
			all[j-1], all[j] = all[j], all[j-1]
		}
	}
	var out []string
	for _, l := range all {
		out = append(out, l.text)
	}
	for _, p := range r.Placeholders {
		out = append(out, fmt.Sprintf("placeholder %q %s", p.Value, p.Pointer))
	}
	return out
}

// resource returns a custom resource with a spec, indented by two.
func resource(apiVersion, kind, spec string) string {
	return "apiVersion: " + apiVersion + "\nkind: " + kind + "\nmetadata: {name: x}\nspec:\n" + spec
}

func configMap(key, value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  " + key + ": |\n    " +
		strings.ReplaceAll(value, "\n", "\n    ") + "\n"
}

func TestScan(t *testing.T) {
	container := func(rest string) string {
		return resource("v1", "Pod", "  containers:\n  - name: x\n"+rest)
	}
	for _, c := range []struct {
		name, in string
		want     []string
	}{
		// PodSpecs.
		{"containers", resource("v1", "Pod", "  containers: [{image: a}, {image: b:1}]\n  initContainers: [{image: c/d}]\n  ephemeralContainers: [{image: e.io/f}]\n"),
			[]string{"pod a /spec/containers/0/image", "pod b:1 /spec/containers/1/image", "pod c/d /spec/initContainers/0/image", "pod e.io/f /spec/ephemeralContainers/0/image"}},
		{"image volume", resource("v1", "Pod", "  volumes:\n  - {name: m, image: {reference: a/b:1, pullPolicy: Always}}\n  - {name: r, rbd: {image: redis}}\n"),
			[]string{"pod a/b:1 /spec/volumes/0/image/reference"}},
		{"template", resource("batch/v1", "CronJob", "  jobTemplate: {spec: {template: {spec: {containers: [{image: a}]}}}}\n"),
			[]string{"pod a /spec/jobTemplate/spec/template/spec/containers/0/image"}},
		{"PodSpec of another kind", resource("argoproj.io/v1alpha1", "Rollout", "  template: {spec: {containers: [{image: a}]}}\n"),
			[]string{"pod a /spec/template/spec/containers/0/image"}},
		{"list in a list", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items:\n  - null\n  - apiVersion: v1\n    kind: Pod\n    spec: {containers: [{image: a}]}\n",
			[]string{"pod a /items/0/items/1/spec/containers/0/image"}},
		{"aliases and merge keys", "x: &c {image: a/b:1, command: [x]}\napiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - <<: *c\n  - {<<: *c, image: &i c/d:2}\n  - image: *i\n",
			[]string{"pod a/b:1 /spec/containers/0/image", "indirect a/b:1 /x/image", "pod c/d:2 /spec/containers/1/image", "pod c/d:2 /spec/containers/2/image"}},
		{"objects in an object", resource("work.karmada.io/v1", "Work", "  workload:\n    manifests:\n    - apiVersion: apps/v1\n      kind: Deployment\n      spec: {template: {spec: {containers: [{image: a}]}}}\n      status: {image: b:1}\n    - apiVersion: apiextensions.k8s.io/v1\n      kind: CustomResourceDefinition\n      spec: {image: c:1}\n"),
			[]string{"pod a /spec/workload/manifests/0/spec/template/spec/containers/0/image"}},
		{"keys that a pointer escapes", configMap("a/b~c.yaml", "image: d/e:1\n"), []string{"indirect d/e:1 /data/a~1b~0c.yaml"}},
		{"placeholders", container("    image: auto\n  - image: \"\"\n  - image: ' '\n  - image: $(X)\n  - image: ko://a.b/c\n  - image: <YOUR-IMAGE>\n  - image: '{{x}}:{{y}}'\n  - image: IMAGE:latest\n  - image:\n  - image: r.io/x:${TAG}\n  - image: '/proxy:'\n  - image: docker.io/[YOUR NAME]/x:dev\n  - image: docker.io/YOUR_NAME/x\n  - image: gcr.io/@PROJECT_1@/x\n"),
			[]string{`placeholder "auto" /spec/containers/0/image`, `placeholder "" /spec/containers/1/image`, `placeholder "" /spec/containers/2/image`, `placeholder "$(X)" /spec/containers/3/image`,
				`placeholder "ko://a.b/c" /spec/containers/4/image`, `placeholder "<YOUR-IMAGE>" /spec/containers/5/image`, `placeholder "{{x}}:{{y}}" /spec/containers/6/image`,
				`placeholder "IMAGE:latest" /spec/containers/7/image`, `placeholder "" /spec/containers/8/image`, `placeholder "r.io/x:${TAG}" /spec/containers/9/image`, `placeholder "/proxy:" /spec/containers/10/image`,
				`placeholder "docker.io/[YOUR NAME]/x:dev" /spec/containers/11/image`, `placeholder "docker.io/YOUR_NAME/x" /spec/containers/12/image`, `placeholder "gcr.io/@PROJECT_1@/x" /spec/containers/13/image`}},
		{"what is no reference is left to resolving", container("    image: Nginx:1\n"), []string{"pod Nginx:1 /spec/containers/0/image"}},

		// Fields of custom resources.
		{"named image", resource("x.io/v1", "X", "  image: a/b:1\n  sidecarImage: c/d\n  imageName: e.io/f:2\n  logging_image: g:3\n  kafka: {image: 'h@"+digest64+"'}\n"),
			[]string{"crd a/b:1 /spec/image", "crd c/d /spec/sidecarImage", "crd e.io/f:2 /spec/imageName", "crd g:3 /spec/logging_image", "crd h@" + digest64 + " /spec/kafka/image"}},
		{"images", resource("x.io/v1", "X", "  images: [a/b:1, c/d]\n  relatedImages: [{name: e, image: f/g:1}]\n  componentImages: {proxy: h/i:2}\n  volume: {image: {reference: j/k:3}}\n"),
			[]string{"crd a/b:1 /spec/images/0", "crd c/d /spec/images/1", "crd f/g:1 /spec/relatedImages/0/image", "crd h/i:2 /spec/componentImages/proxy", "crd j/k:3 /spec/volume/image/reference"}},
		{"a word is an image where something runs", resource("x.io/v1", "X", "  a: {image: tool, command: [x]}\n  b: {image: tool}\n  c: {image: alpine}\n"),
			[]string{"crd tool /spec/a/image", "crd alpine /spec/c/image"}},
		{"a container's word, and any word with a tag", resource("x.io/v1", "X", "  container: {image: tool}\n  a: {image: tool:replace}\n  b: {image: tool:8080}\n  c: {image: tool, env: []}\n"),
			[]string{"crd tool /spec/container/image", "crd tool:replace /spec/a/image", "crd tool /spec/c/image"}},
		{"labels hold no image", resource("x.io/v1", "X", "  selector: {matchLabels: {image: nginx}}\n  template: {metadata: {labels: {image: nginx:1.2}}}\n  nodeSelector: {image: nginx}\n"), nil},
		{"a picture", resource("x.io/v1", "X", "  imageURL: data:image/svg+xml;base64,PHN2Zz4/x/q59lGtX/k5\n"), nil},
		{"not images", resource("x.io/v1", "X", "  imagePullPolicy: Always\n  imagePullSecrets: [{name: a/b}]\n  imageTag: v1.2\n  imageRegistry: quay.io/x\n  osImage: ubuntu:22.04\n  disk: {image: disk.qcow2}\n  logoImage: x/y.png\n  image_url: https://x.io/y.iso\n"), []string{`placeholder "quay.io/x" /spec/imageRegistry`}},
		{"placeholder", resource("x.io/v1", "X", "  image: ''\n  proxyImage: '{{x}}'\n"), []string{`placeholder "" /spec/image`, `placeholder "{{x}}" /spec/proxyImage`}},
		{"built-in kinds hold no others", "apiVersion: v1\nkind: PersistentVolume\nspec: {rbd: {image: foo}}\n", nil},
		{"status, schemas and prose", resource("x.io/v1", "X", "  description: use quay.io/x/y:v1\n  openAPIV3Schema: {default: quay.io/x/y:v2}\n") + "status: {image: a/b:1}\n", nil},
		{"custom resource definition", resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "  image: a/b:1\n"), nil},

		// The catalogue.
		{"bare words where the catalogue says", resource("argoproj.io/v1alpha1", "Workflow", "  templates:\n  - container: {image: x}\n  - script: {image: y}\n    sidecars: [{image: z}]\n"),
			[]string{"crd x /spec/templates/0/container/image", "crd y /spec/templates/1/script/image", "crd z /spec/templates/1/sidecars/0/image"}},
		{"Tekton", resource("tekton.dev/v1", "Pipeline", "  tasks: [{taskSpec: {stepTemplate: {image: w}, steps: [{image: x}], sidecars: [{image: y}]}}]\n"),
			[]string{"crd w /spec/tasks/0/taskSpec/stepTemplate/image", "crd x /spec/tasks/0/taskSpec/steps/0/image", "crd y /spec/tasks/0/taskSpec/sidecars/0/image"}},
		{"package", resource("pkg.crossplane.io/v1", "Provider", "  package: xpkg.upbound.io/x/y:v1\n"), []string{"crd xpkg.upbound.io/x/y:v1 /spec/package"}},
		{"scheme", resource("extensions.istio.io/v1", "WasmPlugin", "  url: oci://ghcr.io/x/y:v1\n"), []string{"crd ghcr.io/x/y:v1 /spec/url"}},
		{"only beside a value", resource("image.openshift.io/v1", "ImageStream", "  tags:\n  - from: {kind: DockerImage, name: quay.io/x/y:v1}\n  - from: {kind: ImageStreamTag, name: 'z:v1'}\n"),
			[]string{"crd quay.io/x/y:v1 /spec/tags/0/from/name"}},
		{"ignored", resource("kyverno.io/v1", "ClusterPolicy", "  rules:\n  - validate: {pattern: {spec: {containers: [{image: ghcr.io/x/y:v1}]}}}\n  - mutate: {patchStrategicMerge: {spec: {containers: [{image: a/b:1}]}}}\n"),
			[]string{"pod a/b:1 /spec/rules/1/mutate/patchStrategicMerge/spec/containers/0/image"}},
		{"never", resource("image.toolkit.fluxcd.io/v1", "ImageRepository", "  image: ghcr.io/x/y\n"), []string{"indirect ghcr.io/x/y /spec/image never"}},
		{"parts", resource("nvidia.com/v1", "ClusterPolicy", "  dcgm: {repository: nvcr.io/x, image: dcgm, version: 4.6.0}\n  driver: {repository: nvcr.io/x, image: driver, version: '595.1'}\n  vgpuManager: {repository: '', image: vgpu-manager, version: ''}\n  x: {repository: nvcr.io/x, image: y, version: '"+digest64+"'}\n"),
			[]string{"crd nvcr.io/x/dcgm:4.6.0 /spec/dcgm repository=nvcr.io/x image=dcgm version=4.6.0",
				"indirect nvcr.io/x/driver:595.1 /spec/driver repository=nvcr.io/x image=driver version=595.1 never",
				"crd nvcr.io/x/y@" + digest64 + " /spec/x repository=nvcr.io/x image=y version=" + digest64,
				`placeholder "vgpu-manager" /spec/vgpuManager/image`}},
		{"values of a Helm release", resource("helm.toolkit.fluxcd.io/v2", "HelmRelease", "  values:\n    image: {registry: docker.io, repository: x/y, tag: v1, digest: \"\"}\n    git: {repository: x/y, tag: v1}\n    sidecar: {repository: quay.io/x/z, tag: 1.20}\n"),
			[]string{"crd docker.io/x/y:v1 /spec/values/image registry=docker.io repository=x/y tag=v1 digest=", "crd quay.io/x/z:1.20 /spec/values/sidecar repository=quay.io/x/z tag=1.20"}},
		{"images of a Kustomization", resource("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "  images:\n  - {name: x, newName: q.io/x, newTag: v1}\n  - {name: q.io/y, newTag: v2}\n  - {name: q.io/z, newName: q.io/w}\n"),
			[]string{"crd q.io/x:v1 /spec/images/0 repository=q.io/x tag=v1", "crd q.io/y:v2 /spec/images/1 repository=q.io/y tag=v2 never"}},
		{"parts that nothing explains", resource("x.io/v1", "X", "  image: {repository: x/y, tag: v1}\n  proxy: {image: x/z, tag: v2}\n  agent: {image: {name: x/w, version: 1.2.3}}\n  chart: {name: x/y, version: 1.2.3}\n  proxyImage: x/p\n  proxyTag: v3\n  image_name: x/q\n  image_version: v4\n"),
			[]string{"crd x/y:v1 /spec/image repository=x/y tag=v1 never", "crd x/z:v2 /spec/proxy repository=x/z tag=v2 never", "crd x/w:1.2.3 /spec/agent/image image=x/w version=1.2.3 never",
				"crd x/p:v3 /spec repository=x/p tag=v3 never", "crd x/q:v4 /spec repository=x/q tag=v4 never"}},
		{"a name beside the repository", resource("x.io/v1", "X", "  containerImage: {registry: q.io, repository: x, name: y, tag: v1}\n  images:\n    a: {repository: x, name: z, tag: 2.0-ubi}\n    b: {repository: ghcr.io/x, name: x, tag: v3}\n    c: {repository: x/w, name: w, tag: v4}\n    d: {repository: q.io/x/u, name: u, tag: v5}\n"),
			[]string{"crd q.io/x/y:v1 /spec/containerImage registry=q.io repository=x image=y tag=v1 never", "crd x/z:2.0-ubi /spec/images/a repository=x image=z tag=2.0-ubi never",
				"crd ghcr.io/x/x:v3 /spec/images/b repository=ghcr.io/x image=x tag=v3 never", "crd x/w:v4 /spec/images/c repository=x/w image=w tag=v4 never", "crd q.io/x/u:v5 /spec/images/d repository=q.io/x/u image=u tag=v5 never"}},
		{"configuration of trivy-operator", "apiVersion: v1\nkind: ConfigMap\ndata: {trivy.repository: mirror.gcr.io/aquasec/trivy, trivy.tag: 0.72.0, trivy.dbRepository: mirror.gcr.io/aquasec/trivy-db}\n",
			[]string{"indirect mirror.gcr.io/aquasec/trivy:0.72.0 /data repository=mirror.gcr.io/aquasec/trivy tag=0.72.0 never"}},
		{"a part that has an anchor", resource("helm.toolkit.fluxcd.io/v2", "HelmRelease", "  values:\n    image: {repository: ghcr.io/x/y, tag: &v v1}\n    version: *v\n"),
			[]string{"crd ghcr.io/x/y:v1 /spec/values/image repository=ghcr.io/x/y tag=v1 shared"}},

		// Strings.
		{"arguments", container("    args: [--reloader=quay.io/a/b:v1, --proxy-image=c/d:2, -nop-image, e/f:3, --image, busybox, --os, alpine, g.io/h/i:4, https://j.io/k:5, --flag=l.io/m, --reloader=n/o:v0.38.1, --image, --os=alpine, p=q/r:1.2]\n"),
			[]string{"indirect quay.io/a/b:v1 /spec/containers/0/args/0", "indirect c/d:2 /spec/containers/0/args/1", "indirect e/f:3 /spec/containers/0/args/3", "indirect busybox /spec/containers/0/args/5", "indirect g.io/h/i:4 /spec/containers/0/args/8", "indirect n/o:v0.38.1 /spec/containers/0/args/11"}},
		{"environment", container("    env:\n    - {name: PROXY_IMAGE, value: a/b:1}\n    - {name: RELATED_IMAGE_PROXY, value: c/d}\n    - {name: IMAGE, value: nginx}\n    - {name: IMAGE_TAG, value: v1}\n    - {name: IMAGE_PULL_POLICY, value: IfNotPresent}\n    - {name: OTHER, value: e/f:g}\n    - {name: VERSIONED, value: h/i:1.2}\n    - {name: LATEST, value: j/k:latest}\n"),
			[]string{"indirect a/b:1 /spec/containers/0/env/0/value", "indirect c/d /spec/containers/0/env/1/value", "indirect nginx:v1 /spec/containers/0/env repository=nginx tag=v1 never", "indirect h/i:1.2 /spec/containers/0/env/6/value", "indirect j/k:latest /spec/containers/0/env/7/value"}},
		{"many in one value", container("    env:\n    - name: KAFKA_IMAGES\n      value: |\n        4.0=quay.io/x/kafka:4.0\n        4.1=x/kafka:4.1\n        # 3.9=x/kafka:3.9\n    - {name: LIST_IMAGES, value: 'a/b:1,c/d:2;e/f:3'}\n"),
			[]string{"indirect quay.io/x/kafka:4.0 /spec/containers/0/env/0/value", "indirect x/kafka:4.1 /spec/containers/0/env/0/value",
				"indirect a/b:1 /spec/containers/0/env/1/value", "indirect c/d:2 /spec/containers/0/env/1/value", "indirect e/f:3 /spec/containers/0/env/1/value"}},
		{"annotations", "apiVersion: v1\nkind: Pod\nmetadata:\n  labels: {x: quay.io/x/l:1}\n  annotations:\n    sidecar.istio.io/proxyImage: a/b:1\n    note: runs quay.io/x/y:v1.\n",
			[]string{"indirect a/b:1 /metadata/annotations/sidecar.istio.io~1proxyImage", "indirect quay.io/x/y:v1 /metadata/annotations/note"}},
		{"last applied", "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: |\n      {\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"image\":\"a\"}]}}\n",
			[]string{"indirect a /metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"}},
		{"value of a ConfigMap", "apiVersion: v1\nkind: ConfigMap\ndata:\n  x: quay.io/x/y:v1\n  sidecar-image: z\n  queue-image: a/b\n  c: d/e:1.0\n  f: g/h:i\n  _example: |\n    image: j/k:1\n",
			[]string{"indirect quay.io/x/y:v1 /data/x", "indirect a/b /data/queue-image", "indirect d/e:1.0 /data/c"}},
		{"embedded YAML", configMap("c.yaml", "# image: a/b:0\nproxy:\n  image: a/b:1\n  pull: {image: busybox}\n  policy: {image: unknown}\n"),
			[]string{"indirect a/b:1 /data/c.yaml", "indirect busybox /data/c.yaml"}},
		{"embedded JSON", configMap("c.json", `{"image": "a\/b:1", "nested": "{\"image\":\"c/d:2\"}"}`), []string{`indirect a/b:1 /data/c.json`, `indirect c/d:2 /data/c.json`}},
		{"embedded objects", configMap("t", "apiVersion: batch/v1\nkind: Job\nspec: {template: {spec: {containers: [{image: a}]}}}\n---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {image: b:1}\n"), []string{"indirect a /data/t"}},
		{"embedded template", configMap("t", "{{- if .X }}\nspec:\n  containers:\n  - image: busybox:1.28\n  - image: {{ .Image }}\n  - image: \"{{ .Hub }}/x:{{ .Tag }}\"\n  - {name: x, image: 'a/b:1'}\n{{ end }}"),
			[]string{"indirect busybox:1.28 /data/t", "indirect a/b:1 /data/t"}},
		{"script", configMap("run.sh", "#!/bin/sh\n# docker pull quay.io/x/comment:1\nIMAGE=a/b:1\nOS=alpine:3\nIMAGE_NAME=\"ubuntu\"\nkubectl run --image=busybox:1.36 x\nkubectl run y --image c/d:2\ndocker run --rm -p 80:80 -v a:/b nginx:1 sh\npodman pull alpine\ndocker build -t x .\necho $REG/foo:v1 ${REG}/foo:v2 quay.io/x/y:$TAG quay.io/x/z:v1\n"),
			[]string{"indirect a/b:1 /data/run.sh", "indirect busybox:1.36 /data/run.sh", "indirect c/d:2 /data/run.sh", "indirect nginx:1 /data/run.sh", "indirect alpine /data/run.sh", "indirect quay.io/x/z:v1 /data/run.sh"}},
		{"escapes in a template", configMap("t", "{{ x }} \"a\\nquay.io/x/y:v1\\tb\" {\\\"image\\\":\\\"a/b:1\\\"}"), []string{"indirect quay.io/x/y:v1 /data/t", "indirect a/b:1 /data/t"}},
		{"what only looks like one", configMap("x", "node.kubernetes.io/unreachable:NoExecute example.com/metrics:8080 http://x.io/y:1 github.com/x/y:v1 app.kubernetes.io/name:foo 10.0.0.0/8:1 git@github.com:x/y.git /data/x.y:ro image!=\"\" oci://ghcr.io/x/chart:1.0 1.2.3/4:5 {x.io/y:v1=z"), nil},
		{"Secret", "apiVersion: v1\nkind: Secret\nstringData: {x: quay.io/x/y:v1}\ndata:\n  y: cXVheS5pby94L3k6djI=\n  values: aW1hZ2U6IGEvYjoxCg==\n  z: '***'\n",
			[]string{"indirect quay.io/x/y:v1 /stringData/x", "indirect quay.io/x/y:v2 /data/y never", "indirect a/b:1 /data/values never"}},
		{"JSON file", `{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"image":"a\/b:1"}]}}`, []string{"pod a/b:1 /spec/containers/0/image"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, lines(scan(t, Config{}, "f.yaml", c.in))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLocation checks every field of a location.
func TestLocation(t *testing.T) {
	in := "\ufeff# c\r\n---\r\napiVersion: v1\r\nkind: ConfigMap\r\nmetadata: {name: m}\r\n---\r\napiVersion: apps/v1\r\nkind: Deployment\r\nmetadata: {name: d}\r\nspec:\r\n  containers:\r\n  - image: 'docker.io/library/nginx:1'\r\n  - args: [\"--image=\\x6eginx:1\"]\r\n"
	got := scan(t, Config{}, "dir/f.yaml", in)
	want := []images.Reference{{
		Source: "docker.io/library/nginx:1", Name: "docker.io/library/nginx:1",
		Locations: []images.Location{
			{File: "dir/f.yaml", Document: 1, Line: 12, Column: 13, Pointer: "/spec/containers/0/image", Object: "apps/v1 Deployment d", Class: images.Pod,
				Value: "docker.io/library/nginx:1", Offset: strings.Index(in, "docker.io"), Length: 25},
			{File: "dir/f.yaml", Document: 1, Line: 13, Column: 21, Pointer: "/spec/containers/1/args/0", Object: "apps/v1 Deployment d", Class: images.Indirect,
				Value: "nginx:1", Offset: strings.Index(in, `\x6e`), Length: 10, KeepTag: true},
		},
	}}
	for i := range want[0].Locations {
		want[0].Locations[i].FileDigest = got.References[0].Locations[0].FileDigest
	}
	if diff := cmp.Diff(want, got.References); diff != "" {
		t.Error(diff)
	}
	objects := []images.Object{
		{File: "dir/f.yaml", Document: 0, Line: 3, APIVersion: "v1", Kind: "ConfigMap", Name: "m"},
		{File: "dir/f.yaml", Document: 1, Line: 7, APIVersion: "apps/v1", Kind: "Deployment", Name: "d"},
	}
	if diff := cmp.Diff(objects, got.Objects); diff != "" {
		t.Error(diff)
	}
}

func TestParts(t *testing.T) {
	in := resource("nvidia.com/v1", "ClusterPolicy", "  dcgm:\n    version: \"4.6\"\n    repository: nvcr.io/x\n    image: dcgm\n")
	l := scan(t, Config{}, "f.yaml", in).References[0].Locations[0]
	want := []images.Part{
		{Pointer: "/spec/dcgm/repository", Line: 7, Column: 17, Value: "nvcr.io/x", Offset: strings.Index(in, "nvcr.io"), Length: 9, Role: "repository"},
		{Pointer: "/spec/dcgm/image", Line: 8, Column: 12, Value: "dcgm", Offset: strings.LastIndex(in, "dcgm"), Length: 4, Role: "image"},
		{Pointer: "/spec/dcgm/version", Line: 6, Column: 15, Value: "4.6", Offset: strings.Index(in, "4.6"), Length: 3, Role: "version"},
	}
	if diff := cmp.Diff(want, l.Parts); diff != "" {
		t.Error(diff)
	}
	if l.Line != 6 || l.Column != 15 || l.Length != 0 || l.Pointer != "/spec/dcgm" {
		t.Errorf("got %+v", l)
	}
}

func TestSkipped(t *testing.T) {
	pod := resource("v1", "Pod", "  containers: [{image: a}]\n")
	for _, c := range []struct {
		name    string
		in      []string
		skipped []images.Skipped
		found   []string
	}{
		{"values", []string{"values.yaml", "image: a/b:1\n"}, []images.Skipped{{File: "values.yaml", Reason: "not a Kubernetes object"}}, nil},
		{"nothing", []string{"a.yaml", "# c\n---\n"}, []images.Skipped{{File: "a.yaml", Reason: "the file is empty"}}, nil},
		{"empty list", []string{"a.yaml", "apiVersion: v1\nkind: ConfigMapList\nitems:\n"}, []images.Skipped{{File: "a.yaml", Reason: "a list without items"}}, nil},
		{"one of two", []string{"a.yaml", pod + "---\nimage: x/y:1\n"}, []images.Skipped{{File: "a.yaml", Line: 7, Reason: "not a Kubernetes object"}}, []string{"pod a /spec/containers/0/image"}},
		{"invalid beside a good one", []string{"a.yaml", pod + "---\na: {{ x }}-y\n"}, []images.Skipped{{File: "a.yaml", Line: 7, Reason: "did not find expected key", Invalid: true}}, []string{"pod a /spec/containers/0/image"}},
		{"in Git LFS", []string{"a.yaml", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"},
			[]images.Skipped{{File: "a.yaml", Reason: "it is a Git LFS pointer instead of the file, which 'git lfs pull' fetches", Invalid: true}}, nil},
		{"kustomization", []string{"kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nimages: [{name: a, newName: quay.io/x/y:1}]\n"},
			[]images.Skipped{{File: "kustomization.yaml", Reason: "read by kustomize, not by a cluster"}}, nil},
		{"patch", []string{"x/kustomization.yaml", "patches: [{path: ../y/p.yaml}]\n", "y/p.yaml", pod},
			[]images.Skipped{{File: "x/kustomization.yaml", Reason: "not a Kubernetes object"}, {File: "y/p.yaml", Reason: "a patch of x/kustomization.yaml"}}, []string{"indirect a /spec/containers/0/image"}},
		{"content of a ConfigMap", []string{"kustomization.yaml", "configMapGenerator: [{name: x, files: [k=p.yaml]}]\n", "p.yaml", pod},
			[]images.Skipped{{File: "kustomization.yaml", Reason: "not a Kubernetes object"}, {File: "p.yaml", Reason: "content of a ConfigMap or Secret of kustomization.yaml"}}, []string{"indirect a /spec/containers/0/image"}},
		{"chart", []string{"c/Chart.yaml", "name: c\n", "c/templates/x/y.yaml", "a: {{ x }}-y\n"},
			[]images.Skipped{{File: "c/Chart.yaml", Reason: "not a Kubernetes object"}, {File: "c/templates/x/y.yaml", Reason: "a template of the Helm chart c: tape the chart itself"}}, nil},
		{"objects in a map", []string{"a.yaml", "app:\n- apiVersion: v1\n  kind: Pod\n  spec: {containers: [{image: a}]}\n"},
			[]images.Skipped{{File: "a.yaml", Reason: "objects in a map or list, which no cluster accepts"}}, []string{"pod a /app/0/spec/containers/0/image"}},
		{"another ending", []string{"a.txt", "x"}, []images.Skipped{{File: "a.txt", Reason: "the file name does not end in .yaml, .yml or .json"}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := scan(t, Config{}, c.in...)
			if diff := cmp.Diff(c.skipped, got.Skipped); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.found, lines(got)); diff != "" {
				t.Error(diff)
			}
			listed := map[string]bool{}
			for _, o := range got.Objects {
				listed[o.File] = true
			}
			for _, s := range got.Skipped {
				if listed[s.File] == (s.Line == 0 || s.Invalid) {
					t.Errorf("%s is skipped, and its objects are listed: %v", s.File, listed[s.File])
				}
			}
		})
	}
}

func TestConfig(t *testing.T) {
	in := resource("x.io/v1", "X", "  thing: a\n  image: b/c:1\n  web.site/list: [{at: d/e:1}, {at: f/g}]\n  cut: {host: h.io, path: i/j, v: '1'}\n  deep: {er: {thing: k}}\n")
	for _, c := range []struct {
		name   string
		config string
		want   []string
		out    []string
	}{
		{"none", `{}`, []string{"crd b/c:1 /spec/image"}, nil},
		{"fields", `{"fields": [
			{"kinds": ["X"], "paths": ["/spec/**/thing", "/spec/web.site~1list/1/at"]},
			{"kinds": ["*"], "paths": ["/spec/image"], "ignore": true},
			{"groups": ["x.*"], "kinds": ["X"], "paths": ["/spec/cut"], "parts": {"registry": "host", "repository": "path", "version": "v"}}]}`,
			[]string{"crd a /spec/thing", "crd f/g /spec/web.site~1list/1/at", "crd h.io/i/j:1 /spec/cut registry=h.io repository=i/j version=1", "crd k /spec/deep/er/thing"}, nil},
		{"never", `{"fields": [{"kinds": ["X"], "paths": ["/spec/image"], "pin": "never"}]}`, []string{"crd b/c:1 /spec/image never"}, nil},
		{"other group", `{"fields": [{"groups": ["y.io"], "kinds": ["X"], "paths": ["/spec/thing"]}]}`, []string{"crd b/c:1 /spec/image"}, nil},
		{"exclude", `{"exclude": ["docker.io/b/*"]}`, nil, []string{"b/c:1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var config Config
			if err := json.Unmarshal([]byte(c.config), &config); err != nil {
				t.Fatal(err)
			}
			got := scan(t, config, "f.yaml", in)
			if diff := cmp.Diff(c.want, lines(got)); diff != "" {
				t.Error(diff)
			}
			var out []string
			for _, r := range got.Excluded {
				out = append(out, r.Source)
			}
			if diff := cmp.Diff(c.out, out); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := New(Config{Fields: []Field{{Kinds: []string{"X"}, Paths: []string{"spec/image"}}}}); err == nil || !strings.Contains(err.Error(), "JSON pointer") {
		t.Errorf("a path without a slash: %v", err)
	}
}

// TestMerging merges spellings of one reference, with the first as source.
func TestMerging(t *testing.T) {
	got := scan(t, Config{},
		"b.yaml", resource("v1", "Pod", "  containers: [{image: nginx}]\n"),
		"a.yaml", resource("v1", "Pod", "  containers: [{image: 'docker.io/nginx:latest'}, {image: 'index.docker.io/library/nginx'}]\n"))
	if len(got.References) != 1 || got.References[0].Source != "docker.io/nginx:latest" || got.References[0].Name != "docker.io/library/nginx:latest" || len(got.References[0].Locations) != 3 {
		t.Errorf("got %+v", got.References)
	}
}

func TestLabel(t *testing.T) {
	for name, want := range map[string]label{
		"image": namesOne, "IMAGE": namesOne, "sidecarImage": namesOne, "PROXY_IMAGE": namesOne, "--config-reloader-image": namesOne, "dockerimage": namesOne,
		"imageName": namesOne, "image1": namesOne, "RELATED_IMAGE_X_Y": namesOne, "HTTPImage": namesOne, "imageURL": namesOne, "sidecar.istio.io/proxyImage": namesOne,
		"images": namesMany, "KAFKA_IMAGES": namesMany, "relatedImages": namesMany,
		"IMAGE_KUBE_PROXY": mentions, "imageForBackup": mentions,
		"imagePullPolicy": notImage, "IMAGE_TAG": notImage, "image_registry": notImage, "osImage": notImage, "vm-image": notImage, "IMAGE_FEATURE_GATES": notImage,
		"": noLabel, "name": noLabel, "magic": noLabel, "imagine": noLabel,
	} {
		if got := labelOf(name); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
}

// FuzzScan checks that, whatever a file contains, references are at their reported positions.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		resource("v1", "Pod", "  containers: [{image: a/b:1, args: [--image, c/d], env: [{name: X_IMAGE, value: \"e\\x2ff\"}]}]\n"),
		configMap("c.yaml", "proxy: {image: 'a/b:1', nested: \"{\\\"image\\\": \\\"c/d:2\\\"}\"}\n"),
		configMap("run.sh", "IMAGE=a/b:1\ndocker run --rm nginx:1\n"),
		"apiVersion: v1\nkind: Secret\ndata: {y: cXVheS5pby94L3k6djI=}\n",
		resource("nvidia.com/v1", "ClusterPolicy", "  dcgm: {repository: nvcr.io/x, image: dcgm, version: 4.6.0}\n"),
		"{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[null,{\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"image\":\"a\\/b\"}]}}]}",
		"x: &c {image: a/b:1}\napiVersion: v1\nkind: Pod\nspec: {containers: [{<<: *c}]}\n",
		"a: {{x}}\n---\napiVersion: v1\nkind: Pod\n",
		resource("x.io/v1", "X", "  images: {a: {registry: q.io, repository: x, name: y, tag: &t v1}, b: {repository: x/y, name: y, tag: *t}}\n"),
		resource("helm.toolkit.fluxcd.io/v2", "HelmRelease", "  values: {image: {repository: q.io/x, tag: 1.2@"+digest64+"}}\n"),
		resource("x.io/v1", "X", "  imageURL: data:image/png;base64,iVBORw0KGgo/x/y\n  container: {image: docker.io/[YOUR NAME]/x:dev}\n"),
		resource("operators.coreos.com/v1alpha1", "ClusterServiceVersion", "  relatedImages: [{name: a, image: 'q.io/x/y@'}]\n  install: {spec: {deployments: [{spec: {template: {spec: {containers: [{image: x, env: [{name: RELATED_IMAGE_A, value: a/b}]}]}}}}]}}\n"),
		"apiVersion: v1\nkind: ConfigMap\ndata: {trivy.repository: q.io/x, trivy.tag: 0.1}\n",
	} {
		f.Add([]byte(seed))
	}
	stage, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		report, err := stage.Scan(t.Context(), []files.File{{Name: "f.yaml", Data: data}})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range report.References {
			for _, l := range r.Locations {
				if l.Offset < 0 || l.Length < 0 || l.Offset+l.Length > len(data) || l.Line < 1 || l.Column < 1 {
					t.Fatalf("outside the file: %+v", l)
				}
				raw := string(data[l.Offset : l.Offset+l.Length])
				if l.Length == len(l.Value) && raw != l.Value {
					t.Fatalf("%q is not %q", raw, l.Value)
				}
				if l.Length == 0 && l.Never == "" && len(l.Parts) == 0 {
					t.Fatalf("nothing to edit: %+v", l)
				}
			}
		}
	})
}
