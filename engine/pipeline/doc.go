// SPDX-License-Identifier: Apache-2.0

// Package pipeline reads a pipeline file (tape.yaml) and makes the graph that it
// describes. It knows no stage itself: the kinds of stage, and the default
// pipeline that the short form fills in, are given to it in a [Table].
//
// # Full form
//
// A pipeline is a set of named nodes:
//
//	apiVersion: tape/v1
//	kind: Pipeline
//	nodes:
//	  scan:
//	    uses: scan                          # a Kind; the node's name where left out
//	    inputs: {manifests: render.manifests} # port: node.output
//	    with: {skipInvalid: true}           # valid against the kind's schema
//
// A node with "each: source" is made once for every source and named
// node/source. A reference from such a node to another means the one of the same
// source. A port that takes several (Port.Many) and names such a node gets the
// output of each, as port/source; one can also be written out:
// {manifests: {web: render/web.manifests}}.
//
// # Short form
//
// A person writes what is particular to the application:
//
//	args:                                   # ${name} in string values
//	  registry: ghcr.io/acme                # a default, and with it the type
//	  replicas: {type: integer, help: how many}  # to be given with --arg
//	sources:
//	  - name: web                           # the base of path where left out
//	    path: web                           # below the file's folder, or oci://, https://
//	    interpreter: helm                   # found by its markers where left out
//	    options: {set: ["replicas=${replicas}"]}
//	images:
//	  platform: linux/amd64
//	output:
//	  image: ${registry}/shop
//
// # Default pipeline
//
// What the short form means is said by the default pipeline: a pipeline in full
// form whose values may be
//
//	${source.name} ${source.path} ${source.interpreter} ${source.options}
//	${source.folder}     the source's name where there are several, else absent
//	${SECTION.KEY}       a value of the short form: ${images.platform}
//
// A value that is one such placeholder and nothing else is replaced by what the
// file has there, whatever its type, and left out where the file has nothing.
// The sections and keys that the default pipeline names are the ones a file may
// have; their schema is that of the option they fill. So:
//
//	nodes:
//	  source:
//	    each: source
//	    with:
//	      name: ${source.name}
//	      path: ${source.path}
//	      interpreter: ${source.interpreter}
//	      options: ${source.options}
//	  render:
//	    each: source
//	    inputs: {files: source.files, request: source.request}
//	    with:
//	      name: ${source.name}
//	      folder: ${source.folder}
//	  scan:
//	    inputs: {manifests: render.manifests}
//	    with:
//	      fields: ${images.fields}
//	      exclude: ${images.exclude}
//	  resolve:
//	    inputs: {references: scan.references}
//	    with:
//	      platform: ${images.platform}
//
// The nodes of a file are merged over it by name. A node of a new name is
// inserted; one of a default node's name changes that node: its inputs and its
// options replace the default's one by one (null takes one away), and where it
// "uses" another kind it replaces the node whole.
package pipeline
