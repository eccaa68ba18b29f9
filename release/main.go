// SPDX-License-Identifier: Apache-2.0

// Command release makes what a release holds beside the programs that GoReleaser builds.
// `make release` runs it; docs/releasing.md says how the parts fit together.
//
//	release prepare DIR PLATFORM…   interpreters, their descriptions, completions, man pages
//	release proxy DIR VERSION       a GOPROXY folder with the modules at HEAD
//	release image DIST              the image, of the archives in DIST
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
	switch {
	case command == "prepare" && len(args) >= 2:
		return prepare(ctx, args[0], args[1:])
	case command == "proxy" && len(args) == 2:
		return proxy(ctx, args[0], args[1])
	case command == "image" && len(args) == 1:
		return image(ctx, args[0])
	}
	return fmt.Errorf("%q with %d arguments: see the comment of this program", command, len(args))
}
