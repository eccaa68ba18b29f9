// SPDX-License-Identifier: Apache-2.0

// Command app is every image of the example shop: small enough to be built in a
// moment, real enough to run in a cluster.
//
//	app web|catalog|orders|metrics [--catalog=URL]   serves http on :8080
//	app once                                         says what it is, and ends
package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: app web|catalog|orders|metrics|once")
	}
	role := args[0]
	if role == "once" {
		_, err := fmt.Fprintln(os.Stdout, "done")
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s: %s\n", role, r.URL.Path) })
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return server.ListenAndServe()
}
