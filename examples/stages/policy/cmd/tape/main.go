// SPDX-License-Identifier: Apache-2.0

// Command tape is tape with the policy stage built in.
package main

import (
	"github.com/taped-dev/tape/cmd/tape/cli"
	"github.com/taped-dev/tape/examples/stages/policy"
)

func main() { cli.Main(policy.Kind()) }
