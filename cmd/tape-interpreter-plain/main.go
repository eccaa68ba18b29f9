// SPDX-License-Identifier: Apache-2.0

// Command tape-interpreter-plain serves the interpreter of plain manifests. tape has this
// interpreter built in; the command is for those who want it confined as well.
package main

import (
	"github.com/taped-dev/tape/interpreters/plain"
	"github.com/taped-dev/tape/plugins/serve"
)

func main() { serve.Interpreter(plain.New()) }
