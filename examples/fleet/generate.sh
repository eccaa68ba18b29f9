#!/bin/sh
# Writes the applications of this example below a folder (default: this one): 40 small
# ones, ten each of plain manifests, Helm, Kustomize and CUE. The output never varies.
set -eu
cd "${1:-$(dirname "$0")}"

image() { # image of application $1: its own, or one of a few that many share
	case $(($1 % 4)) in
	0) echo "docker.io/library/nginx:1.27" ;;
	1) echo "ghcr.io/stefanprodan/podinfo:6.7.1" ;;
	2) echo "docker.io/library/redis:7.4" ;;
	*) echo "quay.io/prometheus/busybox:latest" ;;
	esac
}

deployment() { # name, image
	cat <<END
apiVersion: apps/v1
kind: Deployment
metadata:
  name: $1
spec:
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      containers:
        - name: $1
          image: $2
END
}

rm -rf apps
i=0
while [ $i -lt 10 ]; do
	plain=apps/plain-$i chart=apps/chart-$i overlay=apps/overlay-$i cue=apps/cue-$i
	mkdir -p $plain $chart/templates $overlay $cue

	deployment plain-$i "$(image $i)" >$plain/deployment.yaml

	printf 'apiVersion: v2\nname: chart-%d\nversion: 0.1.0\n' $i >$chart/Chart.yaml
	printf 'image: %s\n' "$(image $((i + 1)))" >$chart/values.yaml
	deployment "{{ .Release.Name }}" "{{ .Values.image }}" >$chart/templates/deployment.yaml

	deployment overlay-$i "$(image $((i + 2)))" >$overlay/deployment.yaml
	printf 'resources: [deployment.yaml]\nnamespace: overlay-%d\n' $i >$overlay/kustomization.yaml

	mkdir -p $cue/cue.mod
	printf 'module: "example.com/cue%d"\nlanguage: version: "v0.15.0"\n' $i >$cue/cue.mod/module.cue
	cat >$cue/app.cue <<END
package app

deployment: {
	apiVersion: "apps/v1"
	kind:       "Deployment"
	metadata: name: "cue-$i"
	spec: {
		selector: matchLabels: app: "cue-$i"
		template: {
			metadata: labels: app: "cue-$i"
			spec: containers: [{name: "cue-$i", image: "$(image $((i + 3)))"}]
		}
	}
}
END
	i=$((i + 1))
done
