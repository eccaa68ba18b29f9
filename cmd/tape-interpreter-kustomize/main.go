// SPDX-License-Identifier: Apache-2.0

// Command tape-interpreter-kustomize serves the interpreter of Kustomize overlays. tape
// starts it.
package main

import (
	"github.com/taped-dev/tape/interpreters/kustomize"
	"github.com/taped-dev/tape/plugins/serve"
)

func main() { serve.Interpreter(kustomize.New()) }
