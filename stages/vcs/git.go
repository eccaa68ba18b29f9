// SPDX-License-Identifier: Apache-2.0

package vcs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// command reads a repository with the git command.
type command struct {
	top    string
	hash32 bool

	batch *exec.Cmd // git cat-file --batch
	ask   io.WriteCloser
	hear  *bufio.Reader
}

// openCommand opens the repository whose work tree is at top. Git refuses to open a repository of
// another user.
func openCommand(ctx context.Context, top string) (objects, error) {
	format, err := runGit(ctx, top, nil, "rev-parse", "--show-object-format")
	if err != nil {
		return nil, err
	}
	return &command{top: top, hash32: strings.TrimSpace(string(format)) == "sha256"}, nil
}

// gitCommand returns a git command that only reads: without hooks, file system monitor, pager,
// fetching of objects missing from a partial clone, prompts and locks. It ignores GIT_ variables
// and repositories above top. Git runs a program only if .gitattributes in the work tree names a
// filter that the user has configured, as `git status` does. For filters in the repository's own
// configuration see [checkin].
func gitCommand(ctx context.Context, top string, args ...string) *exec.Cmd {
	fixed := []string{
		"--no-pager", "--no-optional-locks", "--no-replace-objects", "--literal-pathspecs",
		"-c", "core.fsmonitor=false", "-c", "core.hooksPath=" + os.DevNull, "-c", "core.safecrlf=false",
		"-c", "protocol.allow=never", "-c", "core.sshCommand=false", "-c", "core.askPass=false",
	}
	cmd := exec.CommandContext(ctx, "git", append(fixed, args...)...)
	cmd.Dir = top
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "GIT_") || strings.HasPrefix(kv, "LC_") || strings.HasPrefix(kv, "LANGUAGE=")
	})
	cmd.Env = append(cmd.Env, "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_NO_LAZY_FETCH=1",
		"GIT_CEILING_DIRECTORIES="+filepath.Dir(top))
	cmd.WaitDelay = time.Second // a filter may have left a child process that keeps the pipes open
	return cmd
}

// maxGit limits the time of one run of git, because the attributes and configuration that it
// reads may be named pipes.
const maxGit = time.Minute

var errGit = fmt.Errorf("git did not end within %v", maxGit)

// runGit runs git and returns its standard output.
func runGit(ctx context.Context, top string, stdin io.Reader, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxGit, errGit)
	defer cancel()
	cmd := gitCommand(ctx, top, args...)
	cmd.Stdin = stdin
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return nil, gitError(ctx, args[0], problem.String(), err)
	}
	return out.Bytes(), nil
}

// gitError returns the reason why git failed: the cause of the context, the first line that git
// printed, or err.
func gitError(ctx context.Context, verb, stderr string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if line, _, _ := strings.Cut(strings.TrimSpace(stderr), "\n"); line != "" {
		return fmt.Errorf("git %s: %s (%w)", verb, CleanText(line), err)
	}
	return fmt.Errorf("git %s: %w", verb, err)
}

// exitCode returns the exit code of a program that ran, or -1 for any other error.
func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}

func (c *command) head(ctx context.Context) (ref, commit string, err error) {
	out, err := runGit(ctx, c.top, nil, "symbolic-ref", "--quiet", "HEAD")
	if err != nil && exitCode(err) != 1 {
		return "", "", err
	}
	ref = strings.TrimSpace(string(out))
	out, err = runGit(ctx, c.top, nil, "rev-parse", "--quiet", "--verify", "HEAD^{commit}")
	if err != nil && exitCode(err) != 1 {
		return ref, "", err
	}
	return ref, strings.TrimSpace(string(out)), nil
}

func (c *command) tags(ctx context.Context) (map[string]string, error) {
	lines, err := runGit(ctx, c.top, nil, "for-each-ref", "--format=%(objectname) %(refname)", "refs/tags/")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(lines)) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		out[strings.TrimPrefix(name, "refs/tags/")] = id
	}
	return out, nil
}

func (c *command) config(ctx context.Context) (map[string][]string, error) {
	list, err := runGit(ctx, c.top, nil, "config", "--local", "--null", "--list")
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for item := range strings.SplitSeq(string(list), "\x00") {
		if key, value, ok := strings.Cut(item, "\n"); ok {
			out[key] = append(out[key], value)
		}
	}
	return out, nil
}

func (c *command) object(ctx context.Context, id string) (string, []byte, error) {
	kind, data, err := c.exchange(ctx, id)
	if err != nil {
		return "", nil, fmt.Errorf("read object %s: %w", id, err)
	}
	return kind, data, nil
}

// maxObject limits the size of a commit, a tag or a tree. The object may be something else,
// because HEAD can name any object.
const maxObject = 64 << 20

var errTooLarge = fmt.Errorf("it has more than %d bytes", maxObject)

// exchange requests one object from the running git, and starts git if necessary.
func (c *command) exchange(ctx context.Context, id string) (string, []byte, error) {
	if c.batch == nil {
		cmd := gitCommand(ctx, c.top, "cat-file", "--batch")
		ask, err := cmd.StdinPipe()
		if err != nil {
			return "", nil, err
		}
		hear, err := cmd.StdoutPipe()
		if err != nil {
			return "", nil, err
		}
		if err := cmd.Start(); err != nil {
			return "", nil, err
		}
		c.batch, c.ask, c.hear = cmd, ask, bufio.NewReader(hear)
	}
	if _, err := io.WriteString(c.ask, id+"\n"); err != nil {
		return "", nil, err
	}
	line, err := c.hear.ReadString('\n')
	if err != nil {
		return "", nil, err
	}
	fields := strings.Fields(line) // <id> <type> <size>, or <id> missing
	if len(fields) != 3 {
		return "", nil, errors.New(strings.TrimSpace(strings.TrimPrefix(line, id)))
	}
	size, err := strconv.Atoi(fields[2])
	if err != nil {
		return "", nil, err
	}
	if size < 0 || size > maxObject {
		if _, err := io.CopyN(io.Discard, c.hear, int64(size)+1); err != nil {
			return "", nil, err
		}
		return "", nil, errTooLarge
	}
	data := make([]byte, size+1) // including a newline
	if _, err := io.ReadFull(c.hear, data); err != nil {
		return "", nil, err
	}
	return fields[1], data[:size], nil
}

func (c *command) sha256() bool { return c.hash32 }

func (c *command) close() {
	if c.batch == nil {
		return
	}
	c.ask.Close()
	_ = c.batch.Wait() // all requests have been answered
}

// checkin returns the IDs of the blobs that git would store for files of the work tree at top,
// after it reverts the line endings, encodings and filters that attributes request. It returns an
// error if a file has a filter from the repository's own configuration, because that may have
// come with the folder and names a program to run.
func checkin(ctx context.Context, top string, paths []string) ([]string, error) {
	var names strings.Builder
	for _, p := range paths {
		// Git parses a name that begins with a quote as a C string.
		if strings.ContainsAny(p, "\n\"\\") {
			p = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(p) + `"`
		}
		names.WriteString(p + "\n")
	}
	// Without a repository, or in one that git refuses to open, hash-object succeeds but ignores
	// attributes.
	if _, err := runGit(ctx, top, nil, "rev-parse", "--git-dir"); err != nil {
		return nil, err
	}
	if err := ownFilter(ctx, top, paths); err != nil {
		return nil, err
	}
	out, err := runGit(ctx, top, strings.NewReader(names.String()), "hash-object", "--stdin-paths")
	if err != nil {
		return nil, err
	}
	ids := strings.Fields(string(out))
	if len(ids) != len(paths) {
		return nil, fmt.Errorf("git hash-object: %d answers to %d files", len(ids), len(paths))
	}
	return ids, nil
}

// ownFilter returns an error if the repository's own configuration defines the filter of one of
// the files.
func ownFilter(ctx context.Context, top string, paths []string) error {
	list, err := runGit(ctx, top, nil, "config", "--list", "--show-scope", "-z")
	if err != nil {
		return err
	}
	own := map[string]bool{}
	fields := strings.Split(string(list), "\x00") // scope, key and value, scope, …
	for i := 0; i+1 < len(fields); i += 2 {
		key, _, _ := strings.Cut(fields[i+1], "\n")
		section, rest, _ := strings.Cut(key, ".")
		if name := rest[:max(0, strings.LastIndexByte(rest, '.'))]; section == "filter" && (fields[i] == "local" || fields[i] == "worktree") {
			own[name] = true
		}
	}
	if len(own) == 0 {
		return nil
	}
	attributes, err := runGit(ctx, top, strings.NewReader(strings.Join(paths, "\x00")+"\x00"), "check-attr", "--stdin", "-z", "filter")
	if err != nil {
		return err
	}
	fields = strings.Split(string(attributes), "\x00") // path, filter, name, …
	for i := 0; i+2 < len(fields); i += 3 {
		if own[fields[i+2]] {
			return fmt.Errorf("the repository's own configuration defines its filter %q, which is not run; filters in the user's configuration are", fields[i+2])
		}
	}
	return nil
}
