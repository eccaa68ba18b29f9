// SPDX-License-Identifier: Apache-2.0

// Command tape-interpreter-plain serves the interpreter of plain manifests. tape also has this
// interpreter built in; the command is for confining it like the others.
package main

import (
	"github.com/taped-dev/tape/interpreters/plain"
	"github.com/taped-dev/tape/plugins/serve"
)

func main() { serve.Interpreter(plain.New()) }
