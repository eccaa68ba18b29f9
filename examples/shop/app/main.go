// SPDX-License-Identifier: Apache-2.0

// Command app is the program in every image of the example shop: small enough to build
// quickly, and real enough to run in a cluster.
//
//	app web|catalog|orders|database   serves HTTP on :8080
//	app metrics                       serves HTTP on :9090, as a sidecar
//	app once                          prints a line and exits
//
// Further arguments, meant for the programs that it stands in for, are ignored.
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
		return errors.New("usage: app web|catalog|orders|database|metrics|once")
	}
	role, addr := args[0], ":8080"
	switch role {
	case "once":
		_, err := fmt.Fprintln(os.Stdout, "done")
		return err
	case "web", "catalog", "orders", "database":
	case "metrics":
		addr = ":9090"
	default:
		return fmt.Errorf("%q is not one of web, catalog, orders, database, metrics and once", role)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s: %s\n", role, r.URL.Path) })
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return server.ListenAndServe()
}
