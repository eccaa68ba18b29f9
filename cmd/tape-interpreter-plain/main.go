// SPDX-License-Identifier: Apache-2.0

// Command tape-interpreter-plain is the interpreter of plain manifests as a
// process. tape has it built in; this one is for who wants it confined as well.
package main

import (
	"github.com/taped-dev/tape/interpreters/plain"
	"github.com/taped-dev/tape/plugins/serve"
)

func main() { serve.Interpreter(plain.New()) }
