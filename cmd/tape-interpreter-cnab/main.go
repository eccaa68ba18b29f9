// SPDX-License-Identifier: Apache-2.0

// Command tape-interpreter-cnab serves the interpreter of CNAB bundles. tape starts it.
package main

import (
	"github.com/taped-dev/tape/interpreters/cnab"
	"github.com/taped-dev/tape/plugins/serve"
)

func main() { serve.Interpreter(cnab.New()) }
