// SPDX-License-Identifier: Apache-2.0

// Command tape-interpreter-cue serves the interpreter of CUE. tape starts it.
package main

import (
	"github.com/taped-dev/tape/interpreters/cue"
	"github.com/taped-dev/tape/plugins/serve"
)

func main() { serve.Interpreter(cue.New()) }
