// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	helper "github.com/docker/docker-credential-helpers/client"
	helpers "github.com/docker/docker-credential-helpers/credentials"
	"github.com/gofrs/flock"

	"github.com/taped-dev/tape/internal/replace"
)

// Account describes where the credentials of a registry are kept.
type Account struct {
	Registry string
	// Place is docker's configuration file, or the credential helper that it names.
	Place string
	// Checked reports, after a login, whether the registry was sent a request that needs
	// credentials, and after a logout, whether there were any.
	Checked bool
}

// Login checks credentials with the registry, and stores them where docker does: with the
// credential helper that its configuration names, or else in the configuration. A user and
// password that the registry refuses are not stored.
func (c *Client) Login(ctx context.Context, host, user, secret string) (Account, error) {
	host, err := registryName(host)
	if err != nil {
		return Account{}, err
	}
	wrong := ""
	switch {
	case user == "" || secret == "":
		wrong = "the user or the password is empty"
	case strings.ContainsAny(user, ":\x00\r\n"):
		wrong = "a user name must be one line without a colon"
	case strings.ContainsAny(secret, "\x00\r\n"):
		wrong = "a password must be one line"
	}
	if wrong != "" {
		return Account{}, &Error{Op: "log in to", Reference: host, Reason: wrong, class: errdefs.ErrInvalidArgument}
	}
	checked, err := c.checkLogin(ctx, host, user, secret)
	if err != nil {
		return Account{}, err
	}
	place, err := keepLogin(ctx, host, user, secret)
	if err != nil {
		return Account{}, fmt.Errorf("log in to %s: %w", host, err)
	}
	return Account{Registry: host, Place: place, Checked: checked}, nil
}

// checkLogin sends a request that needs only valid credentials.
func (c *Client) checkLogin(ctx context.Context, host, user, secret string) (checked bool, err error) {
	options := c.options
	endpoint := host
	if host == hubName {
		endpoint = hubHost
	}
	options.Credentials = func(at string) (string, string, error) {
		if at != endpoint {
			return "", "", nil
		}
		checked = true
		return user, secret, nil
	}
	asking, err := New(options)
	if err != nil {
		return false, err
	}
	hosts, err := asking.registryHosts(host, false)
	if err != nil {
		return false, err
	}
	r := &Repository{client: asking, name: host, host: host, hosts: hosts}
	at, err := r.pushHost()
	if err == nil {
		var resp *http.Response
		resp, err = r.ask(ctx, at, request{
			method: http.MethodGet, at: &url.URL{Scheme: at.Scheme, Host: at.Host, Path: at.Path + "/"}, wanted: []int{http.StatusOK},
		})
		if err == nil {
			drain(resp)
		}
	}
	return checked, r.explain(ctx, "log in to", host, err)
}

// registryName returns the name of a registry as it is written in references.
func registryName(text string) (string, error) {
	host := strings.TrimPrefix(strings.TrimPrefix(text, "https://"), "http://")
	for _, end := range []string{"/", "/v1", "/v2"} {
		host = strings.TrimSuffix(host, end)
	}
	switch host {
	case hubName, hubHost, "index.docker.io":
		return hubName, nil
	}
	named, err := reference.ParseNormalizedNamed(host + "/name")
	if err != nil || reference.Domain(named) != host {
		return "", &Error{Op: "read", Reference: strconv.Quote(text), Reason: "it is not the name of a registry, such as registry.example.com:5000", class: errdefs.ErrInvalidArgument}
	}
	return host, nil
}

// configKey returns the key under which docker stores the credentials of a registry.
func configKey(host string) string {
	if host == hubName {
		return hubConfig
	}
	return host
}

// dockerFile returns the path of docker's configuration.
func dockerFile() string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".docker")
	}
	return filepath.Join(dir, "config.json")
}

// editable is docker's configuration with all fields.
type editable struct {
	authFile
	all map[string]json.RawMessage
}

const (
	// lockTime bounds the wait for another login or logout; lockDelay is the interval between
	// tries.
	lockTime  = helperTime + 10*time.Second
	lockDelay = 20 * time.Millisecond
)

// edit lets one process at a time change docker's configuration, and writes it if change reports
// that it did. The lock is on the folder, because the file is replaced. If a folder cannot be
// locked, as on some network file systems, the file is changed without a lock, as docker does.
func edit(ctx context.Context, change func(file *editable) (changed bool, err error)) error {
	name := dockerFile()
	if name == "" {
		return errors.New("there is no home folder to store credentials in: set $DOCKER_CONFIG")
	}
	if to, err := filepath.EvalSymlinks(name); err == nil {
		name = to // through a link the target is written; the link is not replaced by a file
	}
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	wait, cancel := context.WithTimeoutCause(ctx, lockTime, fmt.Errorf("it was not done within %s", lockTime))
	defer cancel()
	lock := flock.New(dir, flock.SetFlag(os.O_RDONLY))
	if _, err := lock.TryLockContext(wait, lockDelay); wait.Err() != nil {
		return fmt.Errorf("wait for another process that changes %s: %w", name, cmp.Or(context.Cause(ctx), err))
	}
	defer func() { _ = lock.Close() }() // it was only a lock

	file := &editable{authFile: authFile{name: name}}
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(data) > 0 {
		err = json.Unmarshal(data, &file.all)
		if err == nil {
			err = json.Unmarshal(data, &file.authFile)
		}
		if err != nil {
			return fmt.Errorf("%s cannot be read, and is not changed: %s", name, kind(err))
		}
	}
	changed, err := change(file)
	if err != nil || !changed {
		return err
	}
	if file.all == nil { // the file does not exist, or is null
		file.all = map[string]json.RawMessage{}
	}
	if file.all["auths"], err = json.Marshal(file.Auths); err != nil {
		return err
	}
	if data, err = json.MarshalIndent(file.all, "", "\t"); err != nil {
		return err
	}
	return replace.Durable(name, ".config.json-", append(data, '\n'), 0o600)
}

func keepLogin(ctx context.Context, host, user, secret string) (place string, err error) {
	err = edit(ctx, func(file *editable) (bool, error) {
		key, entry := configKey(host), map[string]string{}
		place = file.name
		if program := file.helper(key, host); program != "" {
			place = "docker-credential-" + program
			if err := runHelper(ctx, program, func(run helper.ProgramFunc) error {
				return helper.Store(run, &helpers.Credentials{ServerURL: key, Username: user, Secret: secret})
			}); err != nil {
				return false, fmt.Errorf("%s: %w", place, helperError(err))
			}
		} else {
			entry["auth"] = base64.StdEncoding.EncodeToString([]byte(user + ":" + secret))
		}
		if file.Auths == nil {
			file.Auths = map[string]json.RawMessage{}
		}
		file.Auths[key], err = json.Marshal(entry)
		return true, err
	})
	return place, err
}

// Logout removes the credentials of a registry from docker's configuration, and with the
// credential helper that it names.
func Logout(ctx context.Context, host string) (account Account, err error) {
	if host, err = registryName(host); err != nil {
		return Account{}, err
	}
	err = edit(ctx, func(file *editable) (changed bool, err error) {
		account = Account{Registry: host, Place: file.name}
		key := configKey(host)
		if program := file.helper(key, host); program != "" {
			account.Place = "docker-credential-" + program
			err := runHelper(ctx, program, func(run helper.ProgramFunc) error { return helper.Erase(run, key) })
			if err != nil && !strings.Contains(err.Error(), helpers.NewErrCredentialsNotFound().Error()) {
				return false, fmt.Errorf("%s: %w", account.Place, helperError(err))
			}
			account.Checked = err == nil
		}
		before := len(file.Auths)
		for _, name := range slices.Concat([]string{key}, namesOf(host)) {
			delete(file.Auths, name)
		}
		changed = len(file.Auths) < before
		account.Checked = account.Checked || changed
		return changed, nil
	})
	if err != nil {
		return Account{}, fmt.Errorf("log out of %s: %w", host, err)
	}
	return account, nil
}

// runHelper runs a credential helper within its time limit.
func runHelper(ctx context.Context, program string, do func(helper.ProgramFunc) error) error {
	if program != filepath.Base(program) {
		return fmt.Errorf("%q is not the name of a helper", program)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, helperTime, errHelperTime)
	defer cancel()
	err := do(func(args ...string) helper.Program {
		return &helperProgram{cmd: exec.CommandContext(ctx, "docker-credential-"+program, args...)}
	})
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	return err
}

// podmanFiles returns the files where podman keeps credentials, except $REGISTRY_AUTH_FILE.
func podmanFiles() []string {
	var out []string
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		out = append(out, filepath.Join(dir, "containers", "auth.json"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		out = append(out, filepath.Join(cmp.Or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "containers", "auth.json"))
	}
	return out
}
