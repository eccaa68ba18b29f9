// SPDX-License-Identifier: Apache-2.0

// Package engine runs graphs of stages. It knows nothing of Kubernetes, of images
// or of any stage there is.
//
// A [Node] is a [Stage] at its place: its inputs are outputs of other nodes, named
// "node.output" ([Ref]), and what flows between them are blobs with a media type,
// known by their descriptors. [NewGraph] refuses what cannot run: names that occur
// twice, references that lead nowhere, cycles
// ([CycleError]). [Run] starts every node as soon as its inputs are known and
// cancels the others at the first failure, a [StageError].
//
// The outputs of a [Keyer] are kept between runs under a key made of what it is
// and of what it is given; everything else lives in memory, for one run. What
// happens is told in events ([Event]), and printed by whoever listens.
package engine
