// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
)

// programPrefix is the prefix of the names of programs with keys, as in sigstore's plugin
// protocol: NAME://REF is a key in the program sigstore-kms-NAME.
const programPrefix = "sigstore-kms-"

const (
	// programTime limits one call of a program. Some wait for a person to touch a token.
	programTime   = 2 * time.Minute
	programLinger = time.Second
	// maxAnswer limits the output of a program, in bytes.
	maxAnswer = 1 << 20
	// maxComplaint limits how much of the standard error of a program is repeated, in bytes.
	maxComplaint = 1 << 10
)

// programName matches the part of a key before "://", which is never a path.
var programName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// program is a key in a KMS or HSM, accessed by a program that implements sigstore's protocol:
// it gets the request as an argument and the message on standard input, and prints the answer.
// The client in sigstore's library is not used, because it dereferences missing fields and
// calls [log.Fatal].
type program struct {
	key  string // NAME://REF, for errors
	name string // of the executable
	ref  string
	hash crypto.Hash
	// time limits a call. linger limits how long the output may stay open after the program has
	// ended or was stopped.
	time, linger time.Duration
}

// isProgramKey reports whether a key belongs to a program: NAME://REF.
func isProgramKey(key string) bool {
	return strings.Contains(key, "://") && !strings.HasPrefix(key, environmentPrefix)
}

// newProgram returns the key NAME://REF and its public key.
func newProgram(ctx context.Context, key string) (*program, crypto.PublicKey, error) {
	name, ref, _ := strings.Cut(key, "://")
	if !programName.MatchString(name) {
		return nil, nil, fmt.Errorf("key %s: %q is not the name of a key program: it has lower-case letters, digits and hyphens", key, name)
	}
	p := &program{key: key, name: programPrefix + name, ref: ref, hash: crypto.SHA256, time: programTime, linger: programLinger}
	if ref == "" {
		return nil, nil, fmt.Errorf("key %s: it names no key in %s", key, p.name)
	}
	if _, err := exec.LookPath(p.name); err != nil {
		return nil, nil, fmt.Errorf("key %s: there is no program %s on the PATH: install the sigstore plugin of that name", key, p.name)
	}
	public, err := p.publicKey(ctx)
	if err != nil {
		return nil, nil, err
	}
	// The program must be told the hash when it opens a key, which depends on the type of the
	// key: P-384, for example, requires SHA-384.
	details, err := signature.GetDefaultAlgorithmDetails(public)
	if err != nil {
		return nil, nil, fmt.Errorf("key %s: %w", key, err)
	}
	if hash := details.GetHashType(); hash != 0 {
		p.hash = hash
	}
	return p, public, nil
}

func (p *program) publicKey(ctx context.Context) (crypto.PublicKey, error) {
	answer, err := p.call(ctx, nil, &common.MethodArgs{
		MethodName: common.PublicKeyMethodName, PublicKey: &common.PublicKeyArgs{PublicKeyOptions: &common.PublicKeyOptions{}},
	})
	if err != nil {
		return nil, err
	}
	if answer.PublicKey == nil || len(answer.PublicKey.PublicKeyPEM) == 0 {
		return nil, p.wrong(errors.New("its answer has no public key"))
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(answer.PublicKey.PublicKeyPEM)
	if err != nil {
		return nil, p.wrong(fmt.Errorf("its public key: %w", err))
	}
	return public, nil
}

// sign makes the program sign a message.
func (p *program) sign(ctx context.Context, message []byte) ([]byte, error) {
	answer, err := p.call(ctx, message, &common.MethodArgs{
		MethodName: common.SignMessageMethodName, SignMessage: &common.SignMessageArgs{SignOptions: &common.SignOptions{}},
	})
	if err != nil {
		return nil, err
	}
	if answer.SignMessage == nil || len(answer.SignMessage.Signature) == 0 {
		return nil, p.wrong(errors.New("its answer has no signature"))
	}
	return answer.SignMessage.Signature, nil
}

// wrong returns the error of a program that violates the protocol.
func (p *program) wrong(err error) error {
	return fmt.Errorf("key %s: %s does not follow sigstore's plugin protocol %s: %w", p.key, p.name, common.ProtocolVersion, err)
}

// call runs the program once.
func (p *program) call(ctx context.Context, stdin []byte, method *common.MethodArgs) (*common.PluginResp, error) {
	called, cancel := context.WithTimeoutCause(ctx, p.time, fmt.Errorf("it has not answered in %s", p.time))
	defer cancel()
	deadline, _ := called.Deadline()
	request, err := json.Marshal(common.PluginArgs{
		InitOptions: &common.InitOptions{
			CtxDeadline: &deadline, ProtocolVersion: common.ProtocolVersion,
			KeyResourceID: p.ref, HashFunc: p.hash, RPCOptions: &common.RPCOptions{},
		},
		MethodArgs: method,
	})
	if err != nil {
		return nil, err
	}
	answer, complaint := &head{max: maxAnswer}, &head{max: maxComplaint}
	cmd := exec.CommandContext(called, p.name, common.ProtocolVersion, string(request))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), answer, complaint
	cmd.WaitDelay = p.linger
	err = cmd.Run()
	said := oneLine(string(complaint.data))
	if said != "" {
		said = " (" + said + ")"
	}
	if called.Err() != nil {
		return nil, fmt.Errorf("key %s: %s: %w%s", p.key, p.name, context.Cause(called), said)
	}
	// The protocol ignores the exit status, because an answer may be an error.
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited && !errors.Is(err, exec.ErrWaitDelay) {
		return nil, fmt.Errorf("key %s: run %s: %w%s", p.key, p.name, err, said)
	}
	var out common.PluginResp
	if answer.cut {
		return nil, p.wrong(fmt.Errorf("its answer is longer than %d bytes", maxAnswer))
	}
	if parse := json.Unmarshal(answer.data, &out); parse != nil {
		if err == nil {
			err = parse
		}
		return nil, p.wrong(fmt.Errorf("its answer is not JSON: %w%s", err, said))
	}
	if out.ErrorMessage != "" {
		return nil, fmt.Errorf("key %s: %s: %s", p.key, p.name, oneLine(out.ErrorMessage))
	}
	return &out, nil
}

// oneLine puts text that others wrote on one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// head keeps the beginning of what is written to it.
type head struct {
	data []byte
	max  int
	cut  bool
}

// Write implements [io.Writer].
func (h *head) Write(data []byte) (int, error) {
	keep := min(len(data), h.max-len(h.data))
	h.cut = h.cut || keep < len(data)
	h.data = append(h.data, data[:keep]...)
	return len(data), nil
}
