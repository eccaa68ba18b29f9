// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/hashicorp/go-plugin/runner"
)

// starter adapts a process to go-plugin's runner. It passes on only the handshake, after
// checking it: go-plugin stops reading output at a line of 64 KiB and panics on JSON that
// it does not expect.
type starter struct {
	*process
	env       []string
	handshake string
}

func (s *starter) Start(ctx context.Context) error {
	if err := s.run(s.env); err != nil {
		return err
	}
	select {
	case s.handshake = <-s.out.first:
	case <-s.done:
		select {
		case s.handshake = <-s.out.first:
		default:
			return s.died()
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return checkHandshake(s.handshake, s.dir)
}

func (s *starter) Stdout() io.ReadCloser { return io.NopCloser(strings.NewReader(s.handshake + "\n")) }
func (s *starter) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }
func (s *starter) Name() string          { return s.path }
func (s *starter) ID() string            { return strconv.Itoa(s.pid()) }

func (s *starter) Wait(context.Context) error {
	<-s.done
	return nil
}

func (s *starter) Kill(context.Context) error {
	s.kill()
	return nil
}

func (s *starter) Diagnose(context.Context) string { return "" }

func (s *starter) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

func (s *starter) HostToPlugin(string, string) (string, string, error) {
	return "", "", errors.New("interpreters do not connect to tape")
}

var _ runner.Runner = (*starter)(nil)
