// SPDX-License-Identifier: Apache-2.0

// Command tape-interpreter-cnab is the interpreter of CNAB bundles as a process.
package main

import (
	"github.com/taped-dev/tape/interpreters/cnab"
	"github.com/taped-dev/tape/plugins/serve"
)

func main() { serve.Interpreter(cnab.New()) }
