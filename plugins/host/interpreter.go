// SPDX-License-Identifier: Apache-2.0

package host

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"

	"github.com/taped-dev/tape/internal/temporary"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// Interpreter is an executable and, once a call needed it, a running process. It implements
// [interpreter.Interpreter].
type Interpreter struct {
	host *Host
	name string // empty if the file name has none
	exe  *executable
	// opened is set if the interpreter was opened by its path; a description next to it is
	// then ignored.
	opened bool

	turn *semaphore.Weighted // of the caller that starts a process

	mu        sync.Mutex
	described *beside
	ahead     *ahead   // set by Prepare until start takes it
	current   *process // takes new calls; nil if there is none
}

// Name returns the name of the interpreter: <name> in tape-interpreter-<name>.
func (i *Interpreter) Name() string { return i.name }

// Path returns the absolute path of the executable.
func (i *Interpreter) Path() string { return i.exe.path }

// Checksum returns the SHA-256 checksum of the executable, which the first call reads. Only
// an executable with this checksum is started. Checksum returns an error if the file was
// changed since it was installed.
func (i *Interpreter) Checksum(ctx context.Context) (digest.Digest, error) {
	sum, err := i.exe.checksum(ctx)
	if err != nil {
		return "", fmt.Errorf("interpreter %s: %w", i.exe.path, err)
	}
	return sum, nil
}

// Describe implements [interpreter.Interpreter]. It returns the description next to the
// executable if that fits, or one cached for its checksum, in this host or its cache
// folder; otherwise it starts a process with only the fixed environment variables. Once
// [Interpreter.Checksum] has been called, the description is always that of the program
// with this checksum: one that belongs to another program is discarded.
func (i *Interpreter) Describe(ctx context.Context) (interpreter.Description, error) {
	i.mu.Lock()
	known := i.described
	i.mu.Unlock()
	if known != nil && i.exe.mayHave(known.Checksum) {
		return known.Description, nil
	}
	b, err := i.beside()
	if err != nil {
		i.host.opts.Log.Debug("no description beside an interpreter", "path", i.exe.path, "reason", err)
		if b, err = i.learn(ctx); err != nil {
			return interpreter.Description{}, err
		}
	}
	i.mu.Lock()
	i.described = &b
	i.mu.Unlock()
	return b.Description, nil
}

// learn returns the cached description, or asks the interpreter for it.
func (i *Interpreter) learn(ctx context.Context) (b beside, err error) {
	if b.Checksum, err = i.Checksum(ctx); err != nil {
		return b, err
	}
	var ok bool
	if b.Description, ok = i.host.cache.description(b.Checksum); ok && i.checkDescription(b.Description) == nil {
		return b, nil
	}
	if b.Description, err = i.askDescription(ctx); err == nil {
		i.host.cache.write(descriptionFile(b.Checksum), b.Description)
	}
	return b, err
}

// askDescription starts a separate process to get the description: the environment of the
// process for the other calls depends on the answer.
func (i *Interpreter) askDescription(ctx context.Context) (interpreter.Description, error) {
	var d interpreter.Description
	err := i.guard(ctx, i.host.opts.Limits.Ask, "describe", func(ctx context.Context) error {
		p, err := i.start(ctx, interpreter.Description{})
		if err != nil {
			return err
		}
		defer p.stop()
		if d, err = p.client.Describe(ctx); err != nil {
			return p.explain(err)
		}
		return i.checkDescription(d)
	})
	return d, err
}

var variableRegexp = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (i *Interpreter) checkDescription(d interpreter.Description) error {
	if !nameRegexp.MatchString(d.Name) || (i.name != "" && d.Name != i.name) {
		return fmt.Errorf("its description has the name %q", d.Name)
	}
	if d.Version == "" {
		return errors.New("its description has no version")
	}
	if len(d.Options) > 0 {
		var schema map[string]any
		if err := json.Unmarshal(d.Options, &schema); err != nil {
			return fmt.Errorf("the schema of its options is not a JSON object: %w", err)
		}
	}
	for _, v := range d.Environment {
		if !variableRegexp.MatchString(v) {
			return fmt.Errorf("its description asks for the environment variable %q, which is not a valid name", v)
		}
	}
	return nil
}

// Inputs implements [interpreter.Interpreter].
func (i *Interpreter) Inputs(ctx context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	var resp *interpreter.InputsResponse
	err := i.call(ctx, i.host.opts.Limits.Ask, "inputs of "+req.Path, func(ctx context.Context, p *process) (err error) {
		resp, err = p.client.Inputs(ctx, req)
		return err
	})
	return resp, err
}

// Render implements [interpreter.Interpreter]. It ignores the scratch folder of the request
// and uses one below the folder of the process, the only one that is writable.
func (i *Interpreter) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	var resp *interpreter.RenderResponse
	err := i.call(ctx, i.host.opts.Limits.Time, "render "+cmp.Or(req.Reference, req.Path), func(ctx context.Context, p *process) (err error) {
		own := *req
		if own.Scratch, err = os.MkdirTemp(p.dir, "scratch"); err != nil {
			return err
		}
		resp, err = p.client.Render(ctx, &own)
		return errors.Join(err, temporary.RemoveAll(own.Scratch))
	})
	return resp, err
}

// call runs f with a running process.
func (i *Interpreter) call(ctx context.Context, limit time.Duration, what string, f func(context.Context, *process) error) error {
	// Compute the checksum first, so that the description is that of this program.
	if _, err := i.Checksum(ctx); err != nil {
		return err
	}
	d, err := i.Describe(ctx)
	if err != nil {
		return err
	}
	return i.guard(ctx, limit, what, func(ctx context.Context) error {
		p, err := i.acquire(ctx, d)
		if err != nil {
			return err
		}
		err = f(ctx, p)
		if err != nil {
			err = p.explain(err)
		}
		i.release(p, err != nil)
		return err
	})
}

// guard bounds the duration of f and names the interpreter and the call in its error.
func (i *Interpreter) guard(ctx context.Context, limit time.Duration, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	if err := f(ctx); err != nil {
		return fmt.Errorf("interpreter %s: %s: %w", i.label(), what, err)
	}
	return nil
}

func (i *Interpreter) label() string { return cmp.Or(i.name, i.exe.path) }

// acquire returns the process that takes new calls and starts one if there is none. While
// one caller starts a process the others wait for it; if starting fails, the next one
// tries. Each successful acquire must be followed by a release.
func (i *Interpreter) acquire(ctx context.Context, d interpreter.Description) (*process, error) {
	if i.turn.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	defer i.turn.Release(1)
	i.mu.Lock()
	p := i.current
	if p != nil && !p.exited() {
		p.calls++
		i.mu.Unlock()
		return p, nil
	}
	i.current = nil
	i.mu.Unlock()
	if p != nil {
		p.stop() // it died between two calls
	}
	p, err := i.start(ctx, d)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	p.calls++
	i.current = p
	i.mu.Unlock()
	return p, nil
}

// release ends a call to a process, which gets no new calls if this one failed. The last call
// of such a process stops it.
func (i *Interpreter) release(p *process, failed bool) {
	i.mu.Lock()
	if failed && i.current == p {
		i.current = nil
	}
	p.calls--
	last := p.calls == 0 && i.current != p
	i.mu.Unlock()
	if last {
		p.stop()
	}
}

// start verifies the executable and starts it, unless Prepare already has.
func (i *Interpreter) start(ctx context.Context, d interpreter.Description) (*process, error) {
	sum, err := i.exe.checksum(ctx)
	if err != nil {
		return nil, err
	}
	if p := i.takeAhead(ctx, d); p != nil {
		return p, nil
	}
	if err := i.exe.verify(ctx, sum); err != nil {
		return nil, err
	}
	return i.launch(ctx, d)
}

// launch starts the executable.
func (i *Interpreter) launch(ctx context.Context, d interpreter.Description) (*process, error) {
	begin := time.Now()
	p, err := i.host.admit(i)
	if err != nil {
		return nil, err
	}
	b := bounds{dir: p.dir, network: d.Network, memory: i.host.opts.Limits.Memory}
	if err := p.start(ctx, environment(d, b, i.host.opts.LookupEnv), b); err != nil {
		p.stop()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("start: %w", err)
	}
	i.host.opts.Log.Debug("interpreter started", "interpreter", i.label(), "path", i.exe.path,
		"pid", p.pid(), "took", time.Since(begin))
	return p, nil
}

var _ interpreter.Interpreter = (*Interpreter)(nil)
