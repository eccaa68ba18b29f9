# SPDX-License-Identifier: Apache-2.0
.DEFAULT_GOAL := help
SHELL := /bin/bash

GO ?= go
BIN := bin
# The linter is built from its module, so that a new machine needs nothing but Go.
GOLANGCI := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2
# So is GoReleaser, in the newest version that Go 1.26 can build.
GORELEASER := $(GO) run github.com/goreleaser/goreleaser/v2@v2.17.0
export GOTOOLCHAIN ?= local
# The race detector needs a C compiler; without one the tests run without it.
RACE := $(shell command -v gcc >/dev/null && echo CGO_ENABLED=1 $(GO) test -race || echo $(GO) test)
# By default a program with the race detector sleeps for a second before it exits, and the
# tests start hundreds of them.
export GORACE := atexit_sleep_ms=0
export CGO_ENABLED ?= 0
# The linter caches findings with their paths. In a cache shared with another checkout these
# may point to files that no longer exist, whose exceptions it then cannot read.
export GOLANGCI_LINT_CACHE := $(CURDIR)/$(BIN)/lint-cache

include plugins/proto/proto.mk

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build tape and its interpreters into bin/
	$(GO) build -trimpath -ldflags "-s -w" -o $(BIN)/ ./cmd/...
	@# Descriptions, so that tape need not start the interpreters. (Those of another platform cannot run here.)
	@[ "$$($(GO) env GOOS GOARCH)" != "$$($(GO) env GOHOSTOS GOHOSTARCH)" ] || \
		for i in $(notdir $(wildcard cmd/tape-interpreter-*)); do $(BIN)/tape interpreter describe ./$(BIN)/$$i --write >/dev/null || exit 1; done

# Tests are built without vet (make lint runs it), debug information and, for dependencies,
# inlining: a first run is two minutes shorter. (Set in GOFLAGS and not as arguments, so that
# a test that builds something finds it in the build cache.)
#
# Packages that parse, compress, match and encrypt are built without the race detector, which
# makes them five times as slow: package sync guards everything that goroutines share in them. None
# may use sync/atomic, not even inlined, because the detector would miss its ordering.
UNWATCHED := compress/flate encoding/json regexp go.yaml.in/yaml/v3 golang.org/x/crypto/scrypt
test: export GOFLAGS += -vet=off -ldflags=-s '-gcflags=all=-dwarf=false -l' -gcflags=std=-dwarf=false \
	-gcflags=github.com/taped-dev/tape/...=-dwarf=false $(foreach p,$(UNWATCHED),'-gcflags=$(p)=-dwarf=false -l -race=false')
# Compilers and tests have memory to spare, and collect half as often.
test: export GOGC ?= 200
# A store syncs each blob that it writes five times. On a disk, the tests would wait for that for more
# than a minute in each of two packages, so that they, and Go's builds, write to memory instead if
# 4 GiB of it may hold files and programs, unless TMPDIR is set.
IN_MEMORY := $(shell [ -z "$$TMPDIR" ] && [ -w /dev/shm ] && ! grep -qs ' /dev/shm .*noexec' /proc/mounts && \
	[ "$$(df -Pk /dev/shm | awk 'END { print $$4 }')" -gt 4194304 ] && echo TMPDIR=/dev/shm)
.PHONY: test
test: ## run every test that needs nothing outside this repository
	$(IN_MEMORY) $(RACE) -timeout 10m ./...

.PHONY: test-examples
test-examples: build ## build and test the examples that are separate modules or programs
	@# Go may have to update their go.mod to match tape's: it updates a copy.
	for m in interpreters/jsonnet stages/policy; do \
		copy=$(CURDIR)/$(BIN)/$$(basename $$m); \
		cp examples/$$m/go.mod $$copy.mod && cp examples/$$m/go.sum $$copy.sum && \
		GOFLAGS="-mod=mod -modfile=$$copy.mod" $(GO) test -C examples/$$m ./... || exit 1; \
	done
	$(GO) test -tags examples -count=1 ./examples/...

.PHONY: test-browser
test-browser: ## open the pages of tape view and of a fleet in headless Chromium (Debian: chromium)
	$(GO) test -tags browser -count=1 -run InBrowser ./cmd/tape/internal/show ./cmd/tape/internal/report

.PHONY: test-cosign
test-cosign: ## verify signatures with cosign: make test-cosign TAPE_COSIGN=PATH
	TAPE_COSIGN=$(TAPE_COSIGN) $(GO) test -tags cosign -count=1 -run 'Cosign|ImageKey' ./stages/app

.PHONY: test-hsm
test-hsm: build ## sign with keys in an HSM (Debian: softhsm2 and opensc; needs gcc)
	@for need in softhsm2-util pkcs11-tool gcc; do \
		command -v $$need >/dev/null || { echo "test-hsm: skipped, because $$need is not installed"; exit 0; }; \
	done; TAPE=$(CURDIR)/$(BIN)/tape CGO_ENABLED=1 $(GO) test -C cmd/sigstore-kms-pkcs11 -count=1 ./...

.PHONY: test-cnab
test-cnab: ## compare bundles with cnab-to-oci, which is built from its module
	$(GO) test -C stages/app/internal/cnab/compat -count=1 ./...

# What people deploy with and into, and the packages to build it from.
DEPLOYERS := stages/app/internal/deployers
$(BIN)/deployers/etcd: package := go.etcd.io/etcd/server/v3
$(BIN)/deployers/kube-apiserver: package := k8s.io/kubernetes/cmd/kube-apiserver
$(BIN)/deployers/kubectl: package := k8s.io/kubernetes/cmd/kubectl
$(BIN)/deployers/source-controller: package := github.com/fluxcd/source-controller
$(BIN)/deployers/kustomize-controller: package := github.com/fluxcd/kustomize-controller
CLUSTER := $(addprefix $(BIN)/deployers/,etcd kube-apiserver kubectl)
ARGOCD := v3.6.1
FLUX := $(addprefix $(BIN)/deployers/,source-controller kustomize-controller)

.PHONY: test-flux
test-flux: build $(CLUSTER) $(FLUX) ## deploy applications with kubectl and Flux, into an API server of Kubernetes (Linux)
	TAPE=$(CURDIR)/$(BIN)/tape TAPE_DEPLOYERS=$(CURDIR)/$(BIN)/deployers \
		$(GO) test -tags deployers -count=1 -timeout 10m -run 'TestKubectl|TestFlux' ./$(DEPLOYERS)

# The first build takes minutes; less without debug information. The API server
# is asked for its version.
$(CLUSTER) $(FLUX): $(DEPLOYERS)/programs/go.mod
	$(GO) build -C $(DEPLOYERS)/programs -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$(awk '$$1 == "k8s.io/kubernetes" { print $$2 }' $<)" -gcflags 'all=-dwarf=false' -o $(CURDIR)/$@ $(package)

.PHONY: test-argocd
test-argocd: build $(CLUSTER) $(BIN)/deployers/argocd ## deploy applications with Argo CD into an API server of Kubernetes
	TAPE=$(CURDIR)/$(BIN)/tape TAPE_DEPLOYERS=$(CURDIR)/$(BIN)/deployers \
		$(GO) test -tags deployers -count=1 -timeout 10m -run TestArgoCD -v ./$(DEPLOYERS)

# Built with the flags of tape, with which it shares half of its packages.
$(BIN)/deployers/argocd: $(BIN)/deployers/argocd-source $(DEPLOYERS)/argocd/go.mod $(DEPLOYERS)/argocd/main.go
	$(GO) build -C $(DEPLOYERS)/argocd -trimpath -ldflags "-s -w" -o $(CURDIR)/$@ .

# Argo CD requires Go 1.27: these are copies of its two modules, rewritten for Go 1.26.
# (go mod download fails because of the version, after it has checked them.)
$(BIN)/deployers/argocd-source: $(DEPLOYERS)/go126/main.go
	rm -rf $@ $@.new && mkdir -p $@.new/argo-cd $@.new/gitops-engine
	$(GO) mod download github.com/argoproj/argo-cd/v3@$(ARGOCD) github.com/argoproj/argo-cd/gitops-engine/v3@$(ARGOCD) 2>/dev/null || true
	cd $$($(GO) env GOMODCACHE)/github.com/argoproj/argo-cd && \
		tar -c --exclude=./docs --exclude=./ui/src -C v3@$(ARGOCD) . | tar -x -C $(CURDIR)/$@.new/argo-cd && \
		tar -c -C gitops-engine/v3@$(ARGOCD) . | tar -x -C $(CURDIR)/$@.new/gitops-engine
	chmod -R u+w $@.new && $(GO) run ./$(DEPLOYERS)/go126 $@.new
	mv $@.new $@

.PHONY: test-containerd
test-containerd: ## import images into a private containerd, and read them from it (needs root, containerd and ctr)
	$(GO) test -tags containerd -count=1 -run TestContainerd ./stages/app

.PHONY: test-registries
test-registries: ## copy applications with Debian's docker-registry 2.8 and skopeo
	$(GO) test -tags registries -count=1 -run 'OldRegistry|Skopeo' ./stages/app

.PHONY: test-docker
test-docker: ## read images from a private Docker daemon (needs root, dockerd and containerd)
	$(GO) test -tags docker -count=1 -run TestDocker ./stages/app

.PHONY: test-fleet
test-fleet: build $(BIN)/temporal-server ## package a fleet with Temporal, while its server and workers are killed
	$(GO) test -tags fleet -count=1 -timeout 20m -run 'TestTemporal|TestCancelRun|TestBudget' ./cmd/tape-fleet-temporal/durable
	@if ip netns add tape-try 2>/dev/null; then \
		ip netns delete tape-try && $(GO) test -tags fleet -count=1 -timeout 5m -run TestCutOff ./cmd/tape-fleet-temporal/durable; \
	else \
		echo "test-fleet: SKIPPED TestCutOff, a worker whose link is taken down: that needs root, and ip of iproute2" >&2; \
	fi

# The first build takes minutes.
$(BIN)/temporal-server: $(wildcard cmd/tape-fleet-temporal/server/*)
	$(GO) build -C cmd/tape-fleet-temporal/server -o $(CURDIR)/$@ .

# Sigstore's servers and their packages.
SIGSTORE := fulcio rekor-server timestamp-server tesseract
$(BIN)/sigstore/fulcio: package := github.com/sigstore/fulcio
$(BIN)/sigstore/rekor-server: package := github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix
$(BIN)/sigstore/timestamp-server: package := github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server
$(BIN)/sigstore/tesseract: package := github.com/transparency-dev/tesseract/cmd/tesseract/posix

.PHONY: test-sigstore
test-sigstore: build $(SIGSTORE:%=$(BIN)/sigstore/%) ## sign keyless with Sigstore's own servers, and verify without them and without a network
	$(GO) test -C stages/sign/e2e -c -o $(CURDIR)/$(BIN)/sigstore/e2e.test .
	@if unshare -n ip link set lo up 2>/dev/null; then \
		TAPE=$(CURDIR)/$(BIN)/tape TAPE_SIGSTORE=$(CURDIR)/$(BIN)/sigstore TAPE_OUTSIDE=$$(readlink /proc/self/ns/net) \
			TAPE_COSIGN=$${TAPE_COSIGN:-$$(command -v cosign)} \
			unshare -n sh -c 'ip link set lo up && exec $(BIN)/sigstore/e2e.test -test.v -test.timeout 5m'; \
	else \
		echo "test-sigstore: SKIPPED TestOffline, whose network is taken down: that needs root, unshare of util-linux, and ip of iproute2" >&2; \
	fi

# The first build takes minutes.
$(SIGSTORE:%=$(BIN)/sigstore/%): stages/sign/e2e/go.mod
	$(GO) build -C stages/sign/e2e -o $(CURDIR)/$@ $(package)

.PHONY: fuzz
FUZZTIME ?= 10s
fuzz: ## run every fuzz target for a while: make fuzz FUZZTIME=1m
	@mkdir -p $(BIN); set -eo pipefail; grep -roP --include='*_test.go' '^func \KFuzz\w+' . | sort -u | while IFS=: read -r file target; do \
		echo "== $$(dirname "$$file") $$target"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x "$$(dirname "$$file")" </dev/null >$(BIN)/fuzz.log 2>&1 \
			|| grep -q '^ *context deadline exceeded' $(BIN)/fuzz.log || { cat $(BIN)/fuzz.log; exit 1; }; \
	done # Go sometimes reports its own deadline as a failure. One that an input causes reads differently.

.PHONY: cover
cover: ## print the statement coverage of each package, and write bin/cover.html
	@mkdir -p $(BIN)
	$(GO) test -coverpkg=./... -coverprofile=$(BIN)/cover.out ./... >/dev/null
	@$(GO) tool cover -html=$(BIN)/cover.out -o $(BIN)/cover.html
	@# A line is file:from,to statements runs, once for each test binary.
	@awk -F '[: ]' 'NR > 1 { of[$$1 $$2] = $$3; dir[$$1 $$2] = $$1; if ($$4) ran[$$1 $$2] = 1 } \
		END { for (b in of) { d = dir[b]; sub("/[^/]*$$", "", d); n[d] += of[b]; r[d] += ran[b] * of[b]; N += of[b]; R += ran[b] * of[b] } \
		for (d in n) printf "%5.1f %%  %s\n", 100 * r[d] / n[d], d; printf "%5.1f %%  all\n", 100 * R / N }' $(BIN)/cover.out | sort -k3

.PHONY: vet-os
vet-os: ## vet for darwin and windows
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...

.PHONY: lint
lint: ## vet and lint
	$(GO) vet ./...
	$(GOLANGCI) run --allow-parallel-runners ./...

# A release is made from the tag at HEAD, a snapshot from the working tree.
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
comma := ,
space := $() $()
.PHONY: release
release: export PLATFORMS := $(PLATFORMS)
release: ## make a release in bin/dist: make release VERSION=v0.1.0, or SNAPSHOT=1
	@test -n "$(SNAPSHOT)" || git tag --points-at HEAD | grep -qx '$(or $(VERSION),-)' || \
		{ echo "usage: make release VERSION=TAG, where TAG is a tag of HEAD; or make release SNAPSHOT=1" >&2; exit 2; }
	@mkdir -p $(BIN)
	@sed 's|\(targets:\) .*|\1 [$(subst $(space),$(comma) ,$(subst /,_,$(PLATFORMS)))]|' .goreleaser.yaml >$(BIN)/goreleaser.yaml
	@# Compiling for six platforms takes a slow machine longer than GoReleaser's default timeout of an hour.
	@# A clone of a folder would have that folder as its remote; a new repository has none.
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) GORELEASER_CURRENT_TAG=$(VERSION) \
		GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=remote.origin.url GIT_CONFIG_VALUE_0=https://github.com/taped-dev/tape \
		$(GORELEASER) release --config $(BIN)/goreleaser.yaml --clean --timeout 3h --skip=publish,announce $(if $(SNAPSHOT),--snapshot)
	@cp $(BIN)/release/interpreters.json $(BIN)/dist/
	$(if $(findstring linux/,$(PLATFORMS)),$(BIN)/release-tool image $(BIN)/dist $(VERSION))
	$(BIN)/release-tool complete $(BIN)/dist $(VERSION)

.PHONY: test-release
test-release: ## make a release of HEAD twice, compare the two, and use them (the image: as root, with containerd)
	@[ "$$(id -u)" = 0 ] || echo "test-release: SKIPPED TestContainer: that needs root, containerd, ctr and runc" >&2
	PLATFORMS='$(PLATFORMS)' $(GO) test -tags release$$([ "$$(id -u)" != 0 ] || echo ,containerd) -count=1 -timeout 40m -v ./release

.PHONY: test-install
test-install: ## install tape and write an interpreter with nothing but Go, as docs/ describes
	$(GO) test -tags install -count=1 -timeout 20m -v -run TestInstall ./release

.PHONY: changelog
changelog: ## move the fragments of changes/ into CHANGELOG.md: make changelog VERSION=v0.1.0
	@test -n "$(VERSION)" || { echo "usage: make changelog VERSION=v0.1.0" >&2; exit 2; }
	@{ sed '/^## /,$$d' CHANGELOG.md; echo; echo "## $(VERSION)"; \
		for kind in added changed fixed removed security; do \
			ls changes/$$kind-*.md >/dev/null 2>&1 || continue; printf '\n### %s\n\n' $$kind; sed 's/^/- /' changes/$$kind-*.md; \
		done; awk '/^## / { on = 1; print "" } on' CHANGELOG.md; } >$(BIN)/CHANGELOG.md
	@mv $(BIN)/CHANGELOG.md CHANGELOG.md && rm -f changes/*-*.md

.PHONY: lint-workflows
lint-workflows: ## check the workflows of .github
	$(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 -shellcheck= -pyflakes= .github/workflows/*.yml
	@# An action's tag can be moved, a commit cannot.
	@! grep -nE 'uses: ' .github/workflows/*.yml examples/ci/action.yml | grep -vE '@[0-9a-f]{40} # v[0-9.]+$$'

.PHONY: lint-ci
lint-ci: ## check examples/ci as GitHub, GitLab and Tekton would (needs npx)
	$(GO) test -C examples/ci/tekton -count=1 ./...
	@# A repository that includes the component.
	@mkdir -p $(BIN)/gitlab && cp examples/ci/gitlab.yml $(BIN)/gitlab/
	@echo '{include: {local: gitlab.yml, inputs: {source: app, image: registry.example.com/app, runner-image: "ci:1"}}}' >$(BIN)/gitlab/.gitlab-ci.yml
	@git init -q $(BIN)/gitlab && git -C $(BIN)/gitlab add -A
	@if command -v npx >/dev/null; then \
		npx --yes --package @action-validator/core@0.6.0 --package @action-validator/cli@0.6.0 action-validator examples/ci/action.yml && \
		cd $(BIN)/gitlab && npx --yes --package gitlab-ci-local@4.61.0 gitlab-ci-local --list; \
	else \
		echo "lint-ci: SKIPPED the schemas of GitHub and GitLab: they need npx of npm" >&2; \
	fi

.PHONY: demo
demo: build ## package, view and pull the example application with a local registry
	./examples/demo.sh

.PHONY: recording
recording: ## record the commands of the demo again for the README
	$(GO) test -count=1 -run TestRecording ./cmd/tape -record

.PHONY: bench
bench: build ## benchmark tape and its peers, and print the table
	$(GO) test -tags bench -count=1 -timeout 30m -run 'TestBench$$' -v ./cmd/tape/bench

.PHONY: bench-fleet
bench-fleet: build $(BIN)/temporal-server ## benchmark a fleet of 600 applications, and print the table
	$(GO) test -tags bench -count=1 -timeout 30m -run TestBenchFleet -v ./cmd/tape/bench
	$(GO) test -tags bench -count=1 -timeout 30m -run TestBenchTemporal -v ./cmd/tape-fleet-temporal/durable

.PHONY: corpus
corpus: build ## test tape with real inputs: make corpus CORPUS=DIR
	@test -n "$(CORPUS)" || { echo "usage: make corpus CORPUS=DIR" >&2; exit 2; }
	TAPE_CORPUS=$(abspath $(CORPUS)) $(GO) test -tags corpus -count=1 -v -run TestCorpus ./cmd/tape ./cmd/tape/corpus ./stages/pin ./interpreters/kustomize

.PHONY: cases
cases: build ## test tape with small inputs that it once got wrong: make cases CASES=DIR
	@test -n "$(CASES)" || { echo "usage: make cases CASES=DIR" >&2; exit 2; }
	@# Run in its own folder, so that go test prints each case when it ends.
	TAPE_CASES=$(abspath $(CASES)) $(GO) test -C cmd/tape/cases -tags cases -count=1 -timeout 40m -parallel 4
