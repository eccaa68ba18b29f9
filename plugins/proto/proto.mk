# SPDX-License-Identifier: Apache-2.0
# Included by the Makefile of the repository: generates the Go code of the
# interpreter protocol. It needs protoc (Debian: protobuf-compiler) and builds the
# plugins itself, protoc-gen-go at the version of google.golang.org/protobuf in go.mod.

PROTOS        := interpreter/v1/interpreter.proto
PROTOC_GO_GRPC := google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

.PHONY: protos check-protos

protos: ## generate the Go code of plugins/proto
	@$(call protoc,.)

check-protos: ## check that the generated code is current
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && $(call protoc,$$out) && \
	diff -r -I '^// .*protoc' "$$out/plugins/internal/interpreterpb" plugins/internal/interpreterpb || \
	{ echo 'generated code is not current: run make protos' >&2; exit 1; }

# protoc writes the generated code below the given folder.
define protoc
bin=$$(mktemp -d) && \
GOBIN=$$bin go install google.golang.org/protobuf/cmd/protoc-gen-go && \
GOBIN=$$bin go install $(PROTOC_GO_GRPC) && \
PATH="$$bin:$$PATH" protoc -I plugins/proto \
	--go_out=$(1) --go_opt=module=github.com/taped-dev/tape \
	--go-grpc_out=$(1) --go-grpc_opt=module=github.com/taped-dev/tape $(PROTOS); \
status=$$?; rm -rf "$$bin"; [ $$status -eq 0 ]
endef
