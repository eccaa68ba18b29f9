// SPDX-License-Identifier: Apache-2.0

// Command tape-interpreter-helm serves the interpreter of Helm charts. tape starts it.
package main

import (
	"io"
	"log"

	"github.com/taped-dev/tape/interpreters/helm"
	"github.com/taped-dev/tape/plugins/serve"
)

func main() {
	log.SetOutput(io.Discard) // Helm's packages log values, which may be secret
	serve.Interpreter(helm.New())
}
