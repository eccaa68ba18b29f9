// SPDX-License-Identifier: Apache-2.0

// Package engine runs graphs of stages. It has no knowledge of Kubernetes, of images or of any
// particular stage.
//
// A [Node] describes one use of a [Stage] as data: a kind, a configuration, and inputs, which
// are outputs of other nodes, named "node.output" ([Ref]). Stages exchange blobs with a media
// type, which are passed as descriptors. An [Executor] runs a node; [Stages] does so in this
// process. [NewGraph] refuses graphs that cannot run: duplicate names, references to nothing,
// cycles ([CycleError]). [Run] starts every node as soon as its inputs are known, and cancels
// the others at the first failure, a [StageError].
//
// The outputs of a [Keyer] are kept between runs under a key made of what the stage is and what
// it is given; all others are in memory for the duration of one run. Progress is reported in
// events ([Event]), which the caller prints.
package engine
