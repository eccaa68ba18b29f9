// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/taped-dev/tape/plugins/internal/wire"
)

const (
	// maxMessage is gRPC's default.
	maxMessage = 4 << 20
	// watchdog bounds the time after a SIGKILL: for the kernel, and for go-plugin's Kill,
	// which waits for its goroutines without a limit.
	watchdog = 5 * time.Second
	// lastWords is how long to wait, after the connection is lost, for the end of the process to
	// be reported, which makes a better error.
	lastWords = time.Second
	// pipeDelay is how long to read output after the process died if a child that escaped
	// keeps the pipe open. It also has to suffice for what the pipe still holds, on a busy
	// machine.
	pipeDelay = 2 * time.Second
)

// bounds are the restrictions on a process, enforced as far as the kernel supports them.
type bounds struct {
	dir     string // the only folder that the process may write below
	network bool   // whether the process may use the network
	memory  int64  // limit in bytes
}

// process is one running instance of an interpreter.
type process struct {
	host *Host
	path string
	dir  string // its own folder, for socket, scratch and temporary files
	log  *slog.Logger
	out  output

	bounds bounds // set by start

	calls  int          // pending calls; guarded by Interpreter.mu
	client *wire.Client // set by start

	mu     sync.Mutex
	cmd    *exec.Cmd // nil until started
	plugin *plugin.Client
	killed bool // kill was called
	ended  bool // must not be signalled any more

	done chan struct{} // closed when the process has been reaped
	how  string        // exit status or signal; valid after done
	peak int64         // peak memory in bytes; valid after done

	stopping sync.Once
}

func newProcess(i *Interpreter, dir string) *process {
	p := &process{
		host: i.host,
		path: i.exe.path,
		dir:  dir,
		log:  i.host.opts.Log.With("interpreter", i.label()),
		done: make(chan struct{}),
	}
	p.out.log = p.log
	p.out.first = make(chan string, 1)
	return p
}

// start runs the executable within the bounds and connects to it. The caller must call
// stop, also after an error.
func (p *process) start(ctx context.Context, env []string, b bounds) error {
	p.bounds = b
	limit := p.host.opts.StartTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	// go-plugin takes no context: killing the process is how to interrupt it.
	defer context.AfterFunc(ctx, p.kill)()

	err := p.connect(env)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return p.explain(err)
	}
	return nil
}

func (p *process) connect(env []string) error {
	clientTLS, certPEM, err := mutualTLS()
	if err != nil {
		return err
	}
	c := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: wire.Called(wire.Limits{Files: p.host.opts.Limits.Files, Bytes: p.host.opts.Limits.Bytes}),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		TLSConfig:        clientTLS,
		SkipHostEnv:      true,
		GRPCDialOptions:  []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage))},
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: p.dir},
		SyncStdout:       p.out.lines(),
		SyncStderr:       p.out.lines(),
		Logger:           hclog.NewNullLogger(),
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			return &starter{process: p, env: slices.Concat(env, cmd.Env, []string{
				"PLUGIN_CLIENT_CERT=" + string(certPEM),
				plugin.EnvUnixSocketDir + "=" + p.dir, // not a folder below it: socket paths must be short
			})}, nil
		},
	})
	p.mu.Lock()
	p.plugin = c
	killed := p.killed
	p.mu.Unlock()
	if killed {
		return errClosed
	}
	conn, err := c.Client()
	if err != nil {
		return err
	}
	p.client, err = wire.Dispense(conn)
	return err
}

// run starts the executable, confined as far as the kernel supports it.
func (p *process) run(env []string) error {
	var err error
	for _, attr := range p.bounds.ways() {
		// A file that was just written may still be open for writing in a child
		// that is being forked elsewhere in this process (go.dev/issue/22315).
		for pause := time.Millisecond; ; pause *= 2 {
			if err = p.runOnce(env, &attr); !errors.Is(err, syscall.ETXTBSY) || pause > time.Second {
				break
			}
			time.Sleep(pause)
		}
		if err == nil {
			return nil
		}
		p.log.Debug("cannot start the interpreter as strictly as possible", "error", err)
	}
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%w: it was built for another platform, or is a script without a #! line", err)
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w: the interpreter or loader named in its #! line or header does not exist on this machine", err)
	}
	return err
}

func (p *process) runOnce(env []string, attr *syscall.SysProcAttr) error {
	cmd := exec.Command(p.path)
	cmd.Dir = p.dir
	cmd.Env = env
	cmd.SysProcAttr = attr
	cmd.WaitDelay = pipeDelay
	stdout, stderr := p.out.stdout(), p.out.lines()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// Keep stdin open for as long as this process lives: the interpreter exits at its end.
	if _, err := cmd.StdinPipe(); err != nil {
		return err
	}
	started := make(chan error, 1)
	onThread(func() {
		confined := p.bounds.confine(attr)
		if err := p.launch(cmd); err != nil {
			started <- err
			return
		}
		if err := errors.Join(confined, p.bounds.limit(cmd.Process.Pid)); err != nil {
			p.log.Debug("interpreter is not fully confined", "missing", err)
		}
		if !traced(attr) {
			// The kernel sends the parent-death signal when the thread that forked ends, not
			// the process: this thread must outlive the child.
			started <- nil
			p.reap(cmd, stdout, stderr)
			return
		}
		release, err := hold(cmd.Process.Pid)
		if err != nil {
			p.kill()
			release = func() {}
		}
		go func() {
			release()
			started <- err
			p.reap(cmd, stdout, stderr)
		}()
	})
	return <-started
}

// launch starts cmd unless kill was called before.
func (p *process) launch(cmd *exec.Cmd) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		return errClosed
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd = cmd
	return nil
}

// reap waits for the process to end and kills its children.
func (p *process) reap(cmd *exec.Cmd, outputs ...*lineWriter) {
	err := wait(cmd, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended = true
		killGroup(cmd.Process.Pid)
	})
	for _, o := range outputs {
		o.flush()
	}
	p.how = cmd.ProcessState.String()
	if cmd.ProcessState == nil {
		p.how = err.Error()
	} else {
		p.peak = peak(cmd.ProcessState)
	}
	p.log.Debug("interpreter ended", "how", p.how)
	close(p.done)
}

// kill kills the process and its group, or prevents it from starting.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	if p.cmd != nil && !p.ended {
		killGroup(p.cmd.Process.Pid)
		_ = p.cmd.Process.Kill()
	}
}

// stop kills the process and returns when it and its files are gone.
func (p *process) stop() {
	p.stopping.Do(func() {
		p.kill()
		p.mu.Lock()
		running, client := p.cmd != nil, p.plugin
		p.mu.Unlock()

		gone := make(chan struct{})
		go func() {
			defer close(gone)
			if running {
				<-p.done
			}
			if client != nil {
				client.Kill() // the process is dead: this closes the connection
			}
		}()
		timer := time.NewTimer(watchdog)
		defer timer.Stop()
		select {
		case <-gone:
		case <-timer.C:
			p.log.Warn("interpreter does not end", "pid", p.pid())
		}
		if err := os.RemoveAll(p.dir); err != nil {
			p.log.Warn("cannot remove the folder of an interpreter", "error", err)
		}
		p.host.mu.Lock()
		defer p.host.mu.Unlock()
		delete(p.host.processes, p)
	})
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// explain replaces err by the death of the process if that caused it.
func (p *process) explain(err error) error {
	if !errors.Is(err, wire.ErrConnection) {
		return err
	}
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.died()
	case <-timer.C:
		return err
	}
}

// died returns the error for a process that has ended.
func (p *process) died() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		return errClosed
	}
	// A process that ended close to its memory limit needed more, whatever it printed.
	if p.out.outOfMemory() || p.peak > p.bounds.memory/8*7 {
		return fmt.Errorf("out of memory: it used more than %s; set $%s to allow more", units.BytesSize(float64(p.bounds.memory)), MemoryVariable)
	}
	if tail := p.out.tail(); tail != "" {
		return fmt.Errorf("process died (%s); its last output was:\n%s", p.how, tail)
	}
	return fmt.Errorf("process died without output (%s)", p.how)
}
