// SPDX-License-Identifier: Apache-2.0

// Command tape packs a Kubernetes application into one OCI artifact.
//
// A build of tape with stages of its own copies this file and passes their
// kinds to cli.Main; examples/stages/policy is one.
package main

import "github.com/taped-dev/tape/cmd/tape/cli"

func main() { cli.Main() }
