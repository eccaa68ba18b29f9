// SPDX-License-Identifier: Apache-2.0

// Command tape-interpreter-jsonnet renders Jsonnet. It is an example of an interpreter in a
// separate module: see docs/writing-an-interpreter.md.
package main

import "github.com/taped-dev/tape/plugins/serve"

func main() { serve.Interpreter(Jsonnet{}) }
