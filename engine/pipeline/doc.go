// SPDX-License-Identifier: Apache-2.0

// Package pipeline reads pipeline files (tape.yaml) and builds the graphs that they
// describe. It knows no stages: a [Table] provides the kinds of stages and the default
// pipeline, which the short form fills in.
//
// # Full form
//
// A pipeline is a set of named nodes:
//
//	apiVersion: tape/v1
//	kind: Pipeline
//	nodes:
//	  scan:
//	    uses: scan                          # a Kind; default: the node's name
//	    inputs: {manifests: render.manifests} # port: node.output
//	    with: {skipInvalid: true}           # valid against the kind's schema
//
// A node with "each: source" is instantiated for every source, as node/source. A reference
// from such a node to another means the instance for the same source. If an input with
// Port.Many refers to such a node, it gets the output of each instance, as port/source.
// Such references can also be written out: {manifests: {web: render/web.manifests}}.
//
// # Short form
//
// A user writes only what is specific to the application:
//
//	args:                                   # ${name} in string values
//	  registry: ghcr.io/acme                # a default value, which also sets the type
//	  replicas: {type: integer, help: how many}  # required: --arg replicas=3
//	sources:
//	  - name: web                           # default: the base name of path
//	    path: web                           # below the file's folder, or oci://, https://
//	    interpreter: helm                   # default: found by its markers
//	    options: {set: ["replicas=${replicas}"]}
//	images:
//	  platform: linux/amd64
//	environments:                           # each renders the sources into a folder of its name
//	  dev:
//	  prod: {sources: {web: {options: {set: []}}}}
//	output:
//	  image: ${registry}/shop
//
// # Default pipeline
//
// The default pipeline defines the meaning of the short form. It is a pipeline in full form
// whose values may be placeholders:
//
//	${source.name} ${source.path} ${source.interpreter} ${source.options}
//	${source.folder}     the source's name if there are several sources, else absent; below
//	                     the name of its environment if there are environments
//	${source.environment} the environment that the source is rendered for, if there are any
//	${SECTION.KEY}       a value of the short form: ${images.platform}
//
// A value that is a single placeholder is replaced by the value in the file, of any type,
// and left out if the file has none. The sections and keys that the default pipeline refers
// to are the ones that a file may have; their schema is that of the option that they fill.
// stages/default.yaml is the one of tape.
//
// The nodes of a file are merged over it by name. A node with a new name is added. A node
// with the name of a default node changes that node: its inputs and options replace those
// of the default individually (null removes one); if its "uses" differs, it replaces the
// whole node.
package pipeline
