// SPDX-License-Identifier: Apache-2.0

package local

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A daemon that accepts and then sends nothing, or nothing more, is an error.
func TestDockerSilent(t *testing.T) {
	for name, tt := range map[string]struct {
		sends string
		after time.Duration
		ask   func(context.Context, *docker) error
	}{
		"no answer": {"", dockerPatience, func(ctx context.Context, d *docker) error {
			_, err := d.inspect(ctx, "app:dev")
			return err
		}},
		"half an image": {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", dockerExport, func(ctx context.Context, d *docker) error {
			body, err := d.get(ctx, "/images/app:dev/get", dockerExport)
			if err != nil {
				return err
			}
			_, err = io.ReadAll(body)
			_ = body.Close()
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial := func(context.Context, string, string) (net.Conn, error) {
					client, daemon := net.Pipe()
					go func() {
						defer daemon.Close()
						_, _ = daemon.Read(make([]byte, 1024))
						_, _ = io.WriteString(daemon, tt.sends)
						_, _ = daemon.Read(make([]byte, 1)) // until the client closes
					}()
					return client, nil
				}
				d := &docker{func() (*dockerClient, error) {
					return &dockerClient{host: "unix:///docker.sock", http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}, nil
				}}
				start := time.Now()
				err := tt.ask(t.Context(), d)
				if err == nil || !strings.Contains(err.Error(), "the Docker daemon at unix:///docker.sock has sent nothing for") || time.Since(start) != tt.after {
					t.Errorf("error %v after %v", err, time.Since(start))
				}
			})
		})
	}
}
