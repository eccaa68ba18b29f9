// SPDX-License-Identifier: Apache-2.0

// Package engine runs graphs of stages. It knows nothing of Kubernetes, of images
// or of any stage there is.
//
// A [Node] is a [Stage] at its place, as data: a kind, a configuration, and inputs
// that are outputs of other nodes, named "node.output" ([Ref]). What flows between
// them are blobs with a media type, known by their descriptors. An [Executor] runs
// a node; [Stages] does, in this process. [NewGraph] refuses what cannot run: names that occur
// twice, references that lead nowhere, cycles
// ([CycleError]). [Run] starts every node as soon as its inputs are known and
// cancels the others at the first failure, a [StageError].
//
// The outputs of a [Keyer] are kept between runs under a key made of what it is
// and of what it is given; everything else lives in memory, for one run. What
// happens is told in events ([Event]), and printed by the caller.
package engine
