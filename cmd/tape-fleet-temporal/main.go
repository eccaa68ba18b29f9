// SPDX-License-Identifier: Apache-2.0

// Command tape-fleet-temporal packages the applications of a fleet with Temporal: its worker runs
// on each machine, and tape starts the other commands.
//
// To build it with additional stages, copy this file and pass their kinds to [durable.Main].
package main

import "github.com/taped-dev/tape/cmd/tape-fleet-temporal/durable"

func main() { durable.Main() }
