// SPDX-License-Identifier: Apache-2.0

// Sigstore-kms-pkcs11 signs with keys in an HSM or a token, for tape, cosign and
// other programs that use sigstore's plugin protocol. A key is
//
//	pkcs11://token=LABEL;object=LABEL
//
// with id=HEX instead of, or in addition to, object, as in RFC 7512. The library of the HSM is the
// file in PKCS11_MODULE_PATH. The PIN is in PKCS11_PIN, or in the file that
// PKCS11_PIN_FILE names. Neither is part of a key, because others may read the name of a key.
//
// It is a separate module because the libraries of HSMs need cgo, and tape does not.
package main

import (
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/ThalesGroup/crypto11"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
)

func main() {
	answer, err := serve(os.Args[1:], os.Stdin)
	if err != nil {
		answer = &common.PluginResp{ErrorMessage: err.Error()}
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve carries out one request of the protocol.
func serve(args []string, message io.Reader) (answer *common.PluginResp, err error) {
	var request common.PluginArgs
	if len(args) != 2 || json.Unmarshal([]byte(args[1]), &request) != nil || request.InitOptions == nil || request.MethodArgs == nil {
		return nil, errors.New("sigstore's programs run this, as sigstore-kms-pkcs11 v1 REQUEST: give them the key pkcs11://token=LABEL;object=LABEL")
	}
	if args[0] != common.ProtocolVersion {
		return nil, fmt.Errorf("protocol %s is not known: want %s", args[0], common.ProtocolVersion)
	}
	if request.MethodName != common.PublicKeyMethodName && request.MethodName != common.SignMessageMethodName {
		return nil, fmt.Errorf("%s is not supported: make keys with the tools of the HSM, and verify with the public key", request.MethodName)
	}
	k, err := parseKey(request.InitOptions.KeyResourceID)
	if err != nil {
		return nil, err
	}
	device, err := open(k.token)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	var label []byte
	if k.object != "" {
		label = []byte(k.object)
	}
	pairs, err := device.FindKeyPairs(k.id, label)
	if err != nil {
		return nil, fmt.Errorf("find key in token %q: %w", k.token, err)
	}
	if len(pairs) != 1 {
		return nil, fmt.Errorf("%d key pairs are %s, not one: name one by object=LABEL;id=HEX", len(pairs), request.InitOptions.KeyResourceID)
	}
	pair := pairs[0]
	if request.MethodName == common.PublicKeyMethodName {
		public, err := cryptoutils.MarshalPublicKeyToPEM(pair.Public())
		return &common.PluginResp{PublicKey: &common.PublicKeyResp{PublicKeyPEM: public}}, err
	}
	digest, hash, err := digested(request, message)
	if err != nil {
		return nil, err
	}
	sig, err := pair.Sign(nil, digest, hash)
	if err != nil {
		return nil, fmt.Errorf("sign with object %q of token %q: %w", k.object, k.token, err)
	}
	return &common.PluginResp{SignMessage: &common.SignMessageResp{Signature: sig}}, nil
}

// digested returns the digest of the message, or the digest in the request.
func digested(request common.PluginArgs, message io.Reader) ([]byte, crypto.Hash, error) {
	hash := request.InitOptions.HashFunc
	if request.SignMessage != nil && request.SignMessage.SignOptions != nil {
		o := request.SignMessage.SignOptions.MessageOptions
		if o.HashFunc != nil {
			hash = *o.HashFunc
		}
		if o.Digest != nil && len(*o.Digest) > 0 {
			if hash.Size() != len(*o.Digest) {
				return nil, 0, fmt.Errorf("the digest has %d bytes, but %s has %d", len(*o.Digest), hash, hash.Size())
			}
			return *o.Digest, hash, nil
		}
	}
	if hash != crypto.SHA256 && hash != crypto.SHA384 && hash != crypto.SHA512 {
		return nil, 0, fmt.Errorf("hash %s is not supported", hash)
	}
	h := hash.New()
	if _, err := io.Copy(h, message); err != nil {
		return nil, 0, fmt.Errorf("read message: %w", err)
	}
	return h.Sum(nil), hash, nil
}

// key identifies a key of a token.
type key struct {
	token, object string
	id            []byte
}

func parseKey(text string) (k key, err error) {
	for part := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(part, "=")
		if value, err = url.PathUnescape(value); err != nil {
			return k, fmt.Errorf("key %q: %w", text, err)
		}
		switch name {
		case "token":
			k.token = value
		case "object":
			k.object = value
		case "id":
			if k.id, err = hex.DecodeString(value); err != nil {
				return k, fmt.Errorf("key %q: id: want hexadecimal digits: %w", text, err)
			}
		default:
			return k, fmt.Errorf("key %q: %q is not known: want token=LABEL;object=LABEL;id=HEX", text, name)
		}
	}
	if k.token == "" || k.object == "" && k.id == nil {
		return k, fmt.Errorf("key %q: want token=LABEL and object=LABEL or id=HEX", text)
	}
	return k, nil
}

// open logs in to a token.
func open(token string) (*crypto11.Context, error) {
	module := os.Getenv("PKCS11_MODULE_PATH")
	if module == "" {
		return nil, errors.New("PKCS11_MODULE_PATH is not set: it names the PKCS #11 library of the HSM, such as /usr/lib/softhsm/libsofthsm2.so")
	}
	if _, err := os.Stat(module); err != nil {
		return nil, fmt.Errorf("PKCS11_MODULE_PATH: %w", err)
	}
	pin := os.Getenv("PKCS11_PIN")
	if file := os.Getenv("PKCS11_PIN_FILE"); pin == "" && file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("PKCS11_PIN_FILE: %w", err)
		}
		pin = strings.TrimRight(string(data), "\r\n")
	}
	if pin == "" {
		return nil, errors.New("neither PKCS11_PIN nor PKCS11_PIN_FILE is set: the token wants a PIN")
	}
	device, err := crypto11.Configure(&crypto11.Config{Path: module, TokenLabel: token, Pin: pin})
	if err != nil {
		return nil, fmt.Errorf("open token %q: %w", token, err)
	}
	return device, nil
}
