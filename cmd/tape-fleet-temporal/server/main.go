// SPDX-License-Identifier: Apache-2.0

// Command server runs Temporal's server, all services in one process, on loopback, with SQLite.
// It is for tests that kill it.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	temporallog "go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/schema/sqlite"
	"go.temporal.io/server/temporal"
)

const (
	store    = "sqlite"
	loopback = "127.0.0.1"
	name     = "active" // of the only cluster
)

func main() {
	database := flag.String("database", "", "`FILE` with all state, created if missing")
	port := flag.Int("port", 7233, "of the frontend, on loopback")
	flag.Parse()
	if err := run(*database, *port); err != nil {
		log.Fatal(err)
	}
}

func run(database string, port int) error {
	sql := &config.SQL{PluginName: store, DatabaseName: database, ConnectAttributes: map[string]string{
		"mode": "rwc", "_journal_mode": "wal", "_synchronous": "normal",
	}}
	services, hosts, err := listen(port)
	if err != nil {
		return err
	}
	c := &config.Config{
		Services: services,
		Global:   config.Global{Membership: config.Membership{MaxJoinDuration: 30 * time.Second, BroadcastAddress: loopback}},
		Persistence: config.Persistence{
			DefaultStore: store, VisibilityStore: store, NumHistoryShards: 1,
			DataStores: map[string]config.DataStore{store: {SQL: sql}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10, MasterClusterName: name, CurrentClusterName: name,
			ClusterInformation: map[string]cluster.ClusterInformation{
				name: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: hosts[primitives.FrontendService].Self},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Archival: config.Archival{
			History: config.HistoryArchival{State: "disabled"}, Visibility: config.VisibilityArchival{State: "disabled"},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History: config.HistoryArchivalNamespaceDefaults{State: "disabled"}, Visibility: config.VisibilityArchivalNamespaceDefaults{State: "disabled"},
		}},
		PublicClient: config.PublicClient{HostPort: hosts[primitives.FrontendService].Self},
	}
	if _, err := os.Stat(database); err != nil {
		if err := sqlite.SetupSchema(sql); err != nil {
			return fmt.Errorf("make the database: %w", err)
		}
	}
	namespace, err := sqlite.NewNamespaceConfig(name, "default", false, nil)
	if err == nil {
		err = sqlite.CreateNamespaces(sql, namespace)
	}
	if err != nil {
		return fmt.Errorf("make the namespace: %w", err)
	}
	server, err := temporal.NewServer(
		temporal.WithConfig(c), temporal.ForServices(temporal.DefaultServices), temporal.WithStaticHosts(hosts),
		temporal.WithLogger(temporallog.NewZapLogger(temporallog.BuildZapLogger(temporallog.Config{Level: "error"}))),
		temporal.InterruptOn(temporal.InterruptCh()),
	)
	if err != nil {
		return err
	}
	return server.Start()
}

// listen finds a port for every service except the frontend, which has a fixed one.
func listen(port int) (map[string]config.Service, map[primitives.ServiceName]static.Hosts, error) {
	services, hosts := map[string]config.Service{}, map[primitives.ServiceName]static.Hosts{}
	for _, s := range []primitives.ServiceName{primitives.FrontendService, primitives.HistoryService, primitives.MatchingService, primitives.WorkerService} {
		at := port
		if s != primitives.FrontendService {
			l, err := net.Listen("tcp", loopback+":0")
			if err != nil {
				return nil, nil, err
			}
			at = l.Addr().(*net.TCPAddr).Port
			if err := l.Close(); err != nil {
				return nil, nil, err
			}
		}
		services[string(s)] = config.Service{RPC: config.RPC{GRPCPort: at, BindOnLocalHost: true}}
		hosts[s] = static.SingleLocalHost(fmt.Sprintf("%s:%d", loopback, at))
	}
	return services, hosts, nil
}
