// SPDX-License-Identifier: Apache-2.0

// Command release makes the files of a release that GoReleaser does not make. `make release` runs
// it; docs/releasing.md describes how the parts fit together.
//
//	release prepare DIR PLATFORM…        interpreters, their descriptions, completions, man pages
//	release sbom ARCHIVE DOCUMENT TIME   the SPDX document of an archive
//	release image DIST [TAG]             the image, from the archives in DIST
//	release complete DIST [TAG]          files about all others: listings, provenance, checksums
//	release proxy DIR VERSION            a GOPROXY folder with the modules at HEAD
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var command string
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	var tag string
	if len(args) == 2 {
		tag = args[1]
	}
	switch {
	case command == "prepare" && len(args) >= 2:
		return prepare(ctx, args[0], args[1:])
	case command == "sbom" && len(args) == 3:
		return sbom(args[0], args[1], args[2])
	case command == "proxy" && len(args) == 2:
		return proxy(ctx, args[0], args[1])
	case command == "complete" && (len(args) == 1 || len(args) == 2):
		return complete(ctx, args[0], tag, os.Getenv("TAPE_RELEASE_KEY"))
	case command == "image" && (len(args) == 1 || len(args) == 2):
		return image(ctx, args[0], tag)
	}
	return fmt.Errorf("%q with %d arguments: see the comment of this program", command, len(args))
}
