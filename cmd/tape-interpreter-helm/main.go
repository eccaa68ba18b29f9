// SPDX-License-Identifier: Apache-2.0

// Command tape-interpreter-helm is the interpreter of Helm charts. tape starts it.
package main

import (
	"github.com/taped-dev/tape/interpreters/helm"
	"github.com/taped-dev/tape/plugins/serve"
)

func main() { serve.Interpreter(helm.New()) }
