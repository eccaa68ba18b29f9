// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"time"

	plugin "github.com/hashicorp/go-plugin"

	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/plugins/internal/wire"
)

// byHandTimeout limits how long a program that is started from a shell may take to exit.
const byHandTimeout = 20 * time.Second

// CheckBinary checks the interpreter at a path, written in any language, by starting it as tape
// does: with the same limits, an empty home folder and, as far as the kernel supports it, without
// network and write access that it did not declare. So an interpreter that needs something that
// it does not declare fails here as it would for its users. An error means that the kit failed,
// or that the program does not exist.
func CheckBinary(ctx context.Context, path string, opts Options, log *slog.Logger) (Report, error) {
	return withKit(opts, func(k *kit, report *Report) error {
		home, err := os.MkdirTemp(k.dir, "home-")
		if err != nil {
			return err
		}
		env := func(name string) (string, bool) {
			if name == "HOME" {
				return home, true
			}
			return os.LookupEnv(name)
		}
		limits := host.Limits{Time: k.opts.Timeout, Ask: k.opts.Timeout}
		h := host.New(host.Options{LookupEnv: env, Log: log, Limits: limits})
		defer func() { _ = h.Close() }() // the error is returned below
		i, err := h.Open(ctx, path)
		if err != nil {
			return err
		}
		report.add("by hand", startByHand(ctx, i.Path()))
		report.add("version", startWithVersion(ctx, i.Path(), k.dir))
		if err := k.check(ctx, "process", i, report); err != nil {
			return err
		}
		report.add("describe again", describesAgain(ctx, i, host.Options{LookupEnv: env, Log: log, Limits: limits}))
		left, err := os.ReadDir(home)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("wrote %s to the home folder", left[0].Name())
		}
		report.add("home", err)
		return h.Close()
	})
}

// describesAgain checks that another process of the program describes itself in the same way. A
// host asks only once.
func describesAgain(ctx context.Context, i *host.Interpreter, o host.Options) (err error) {
	h := host.New(o)
	defer func() { err = errors.Join(err, h.Close()) }()
	again, err := h.Open(ctx, i.Path())
	if err != nil {
		return err
	}
	was, err := i.Describe(ctx)
	if err != nil {
		return nil // the check of the description reports the error
	}
	is, err := again.Describe(ctx)
	if err == nil && !reflect.DeepEqual(was, is) {
		err = fmt.Errorf("two processes answer differently: %+v and %+v", was, is)
	}
	return err
}

// startByHand checks that the program, started from a shell, prints a description and exits.
func startByHand(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, byHandTimeout, errors.New("timeout"))
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	_, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("without $%s it should print a description and exit, but ran for %s", wire.Cookie, byHandTimeout)
	case !exited:
		return fmt.Errorf("without $%s it should exit with a non-zero status", wire.Cookie)
	case stdout.Len() > 0:
		return fmt.Errorf("without $%s it prints to stdout: %.80q", wire.Cookie, stdout.String())
	case stderr.Len() == 0:
		return fmt.Errorf("without $%s it does not print a description to stderr", wire.Cookie)
	}
	return nil
}

// startWithVersion checks that the program does not claim to speak a protocol version that
// does not exist only because the host offers it.
func startWithVersion(ctx context.Context, path, dir string) error {
	const version = "4711"
	ctx, cancel := context.WithTimeoutCause(ctx, byHandTimeout, errors.New("timeout"))
	defer cancel()
	sockets, err := os.MkdirTemp(dir, "s")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + sockets, "TMPDIR=" + sockets,
		wire.Cookie + "=" + wire.CookieValue,
		"PLUGIN_PROTOCOL_VERSIONS=" + version,
		plugin.EnvUnixSocketDir + "=" + sockets,
	}
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe() // kept open, because its end would mean that tape is gone
	if err != nil {
		return err
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(stdout, 64<<10)).ReadString('\n')
	timeout := ctx.Err() != nil
	cancel()
	_ = cmd.Wait() // killed
	parts := strings.Split(strings.TrimSpace(line), "|")
	switch {
	case timeout:
		return fmt.Errorf("asked for version %s it neither answers nor exits", version)
	case err != nil:
		return nil // it exited
	case len(parts) < 2:
		return fmt.Errorf("its handshake is %.80q", line)
	case parts[1] == version:
		return fmt.Errorf("it claims to speak version %s of the protocol because it was asked to", version)
	}
	return nil
}
