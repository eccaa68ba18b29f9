// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	helper "github.com/docker/docker-credential-helpers/client"
	helpers "github.com/docker/docker-credential-helpers/credentials"
	"golang.org/x/sync/semaphore"
)

// Docker Hub has three names.
const (
	hubHost   = "registry-1.docker.io"
	hubName   = "docker.io"
	hubConfig = "https://index.docker.io/v1/"
)

const (
	// helperTime bounds how long a credential helper may take. It may ask a person.
	helperTime = 30 * time.Second
	// maxHelperOutput bounds the output of a credential helper, in bytes.
	maxHelperOutput = 1 << 20
	// maxAuthFile bounds a file of credentials, in bytes.
	maxAuthFile = 16 << 20
	// tokenUser is the user of a secret that is an identity token.
	tokenUser = "<token>"
)

var errHelperTime = fmt.Errorf("no answer for %s", helperTime)

// authFile has the relevant fields of docker's config.json and podman's auth.json. Each entry
// is decoded when it is needed, so that a malformed one affects only its own registry.
type authFile struct {
	name    string
	Auths   map[string]json.RawMessage `json:"auths"`
	Store   json.RawMessage            `json:"credsStore"`
	Helpers map[string]json.RawMessage `json:"credHelpers"`
}

// credentials finds credentials where docker and podman keep them.
type credentials struct {
	log   *slog.Logger
	files func() []*authFile

	mu    sync.Mutex
	known map[string]*login // by the name that they were looked up by
}

type login struct {
	turn         *semaphore.Weighted
	done         bool
	user, secret string
}

// newCredentials reads the files once, when the first registry asks for credentials.
func newCredentials(log *slog.Logger) *credentials {
	s := &credentials{log: log, known: map[string]*login{}}
	s.files = sync.OnceValue(s.read)
	return s
}

// places returns the files that may have credentials, in order of precedence.
func places() []string {
	var out []string
	if name := os.Getenv("REGISTRY_AUTH_FILE"); name != "" {
		out = append(out, name)
	}
	return append(append(out, dockerFile()), podmanFiles()...)
}

func (s *credentials) read() []*authFile {
	var out []*authFile
	add := func(name string, from io.Reader) {
		file := &authFile{name: name}
		data, err := io.ReadAll(io.LimitReader(from, maxAuthFile))
		data = bytes.TrimPrefix(data, []byte("\ufeff")) // as Windows writes it
		if err == nil && len(bytes.TrimSpace(data)) > 0 {
			err = json.Unmarshal(data, file)
		}
		if err != nil {
			// The text of the error may quote the content of the file.
			s.log.Warn("cannot read credentials: ignoring the file", "file", name, "error", kind(err))
			return
		}
		out = append(out, file)
	}
	if text := os.Getenv("DOCKER_AUTH_CONFIG"); text != "" {
		add("$DOCKER_AUTH_CONFIG", strings.NewReader(text))
	}
	for _, name := range places() {
		file, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			s.log.Warn("cannot read credentials: ignoring the file", "file", name, "error", err)
			continue
		}
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			add(name, file)
		}
		file.Close()
	}
	return out
}

// kind describes a decoding error without what was decoded.
func kind(err error) string {
	if at, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("not JSON at byte %d", at.Offset)
	}
	if at, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("%s is a %s", at.Field, at.Value)
	}
	return "not JSON"
}

// credentials returns the credentials of HOST/PATH: those under the longest prefix of that
// name. A secret without a user is an identity token. An unreadable entry or a failing helper
// is only a warning, because a registry that needs credentials will refuse.
func (s *credentials) credentials(ctx context.Context, name string) (user, secret string, err error) {
	s.mu.Lock()
	found := s.known[name]
	if found == nil {
		found = &login{turn: semaphore.NewWeighted(1)}
		s.known[name] = found
	}
	s.mu.Unlock()
	if found.turn.Acquire(ctx, 1) != nil {
		return "", "", context.Cause(ctx)
	}
	defer found.turn.Release(1)
	if !found.done {
		found.user, found.secret = s.find(ctx, name)
		if err := context.Cause(ctx); err != nil {
			return "", "", err
		}
		found.done = true
	}
	return found.user, found.secret, nil
}

func (s *credentials) find(ctx context.Context, name string) (user, secret string) {
	host, _, _ := strings.Cut(name, "/")
	names := namesOf(name)
	for _, file := range s.files() {
		for _, key := range names {
			if entry, ok := file.Auths[key]; ok {
				user, secret, err := readEntry(entry)
				if err != nil {
					s.log.WarnContext(ctx, "cannot read credentials: continuing without it", "registry", host, "file", file.name, "entry", key, "error", err)
					continue
				}
				if secret != "" {
					return user, secret
				}
			}
			if program := file.helper(key, host); program != "" {
				user, secret, err := s.ask(ctx, program, key)
				if err != nil {
					s.log.WarnContext(ctx, "the credential helper failed: continuing without it", "registry", host, "helper", "docker-credential-"+program, "error", err)
				}
				if secret != "" {
					return user, secret
				}
			}
		}
	}
	return "", ""
}

// namesOf returns the keys of credentials for HOST/PATH, the most specific first.
func namesOf(name string) []string {
	var out []string
	host, path, _ := strings.Cut(name, "/")
	hosts := []string{host}
	if host == hubHost || host == hubName {
		hosts = []string{hubName, hubHost}
	}
	for ; path != ""; path = path[:max(strings.LastIndexByte(path, '/'), 0)] {
		for _, h := range hosts {
			out = append(out, h+"/"+path)
		}
	}
	if len(hosts) > 1 {
		out = append(out, hubConfig, "index.docker.io")
	}
	for _, h := range hosts {
		out = append(out, h)
		// Older versions of docker, and people, write it like this.
		for _, scheme := range []string{"https://", "http://", ""} {
			for _, path := range []string{"", "/", "/v1/", "/v2/", "/v1", "/v2"} {
				if scheme+path != "" {
					out = append(out, scheme+h+path)
				}
			}
		}
	}
	return out
}

// helper returns the program to ask for a key, "" for none. A helper for all registries is
// asked by the names that docker and podman store credentials by.
func (f *authFile) helper(key, host string) string {
	var program string
	if raw, ok := f.Helpers[key]; ok && json.Unmarshal(raw, &program) == nil && program != "" {
		return program
	}
	if key == hubConfig || key == host && host != hubHost && host != hubName {
		if json.Unmarshal(f.Store, &program) == nil {
			return program
		}
	}
	return ""
}

// readEntry reads an entry of auths. Its errors do not quote it.
func readEntry(data json.RawMessage) (user, secret string, err error) {
	var entry struct {
		Auth          string `json:"auth"`
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
	}
	if err := json.Unmarshal(data, &entry); err != nil {
		return "", "", errors.New(kind(err))
	}
	switch {
	case entry.IdentityToken != "":
		return "", entry.IdentityToken, nil
	case entry.Auth == "":
		return entry.Username, entry.Password, nil
	}
	text, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(entry.Auth), "="))
	if err != nil {
		return "", "", errors.New("auth is not base64")
	}
	user, secret, ok := strings.Cut(string(text), ":")
	if !ok || user == "" {
		return "", "", errors.New("auth is not USER:PASSWORD in base64")
	}
	return user, strings.TrimRight(secret, "\x00"), nil
}

// ask runs a credential helper.
func (s *credentials) ask(ctx context.Context, program, key string) (user, secret string, err error) {
	var found *helpers.Credentials
	err = runHelper(ctx, program, func(run helper.ProgramFunc) (err error) {
		found, err = helper.Get(run, key)
		return err
	})
	switch {
	case helpers.IsErrCredentialsNotFound(err):
		return "", "", nil
	case err != nil:
		return "", "", helperError(err)
	case found.Username == tokenUser:
		return "", found.Secret, nil
	}
	return found.Username, found.Secret, nil
}

// helperError returns an error without the output of the helper, which may be a secret.
func helperError(err error) error {
	text, _, printed := strings.Cut(err.Error(), ", out: `")
	if !printed && !errors.Is(err, errHelperTime) && !errors.Is(err, context.Canceled) {
		return errors.New("it did not print credentials in JSON")
	}
	if _, after, ok := strings.Cut(text, "err: "); ok {
		text = after
	}
	return errors.New(oneLine(text))
}

// helperProgram is a helper that is killed when its time is over, and whose output is bounded.
type helperProgram struct{ cmd *exec.Cmd }

var _ helper.Program = (*helperProgram)(nil)

func (p *helperProgram) Input(in io.Reader) { p.cmd.Stdin = in }

func (p *helperProgram) Output() ([]byte, error) {
	var out bounded
	p.cmd.Stdout = &out
	p.cmd.Env = os.Environ()
	p.cmd.WaitDelay = time.Second // a child of it may keep its output open
	err := p.cmd.Run()
	return out.kept.Bytes(), err
}

// bounded keeps the beginning of what is written to it. (The buffer is not embedded: its
// ReadFrom would read everything.)
type bounded struct{ kept bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxHelperOutput - b.kept.Len(); room < len(p) {
		return 0, errors.New("it printed too much")
	}
	return b.kept.Write(p)
}
