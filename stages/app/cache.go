// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/cache/remote"
	"github.com/taped-dev/tape/stages/sign"
)

// CacheSettings configure where results are shared with other machines, and whose results are
// trusted.
type CacheSettings struct {
	// Repository is a repository without a tag.
	Repository string
	// Signer signs entries, and its own entries are trusted; if nil, entries are not signed.
	Signer *Key
	// Trust lists files of public keys, one of which must have signed an entry. If there is no
	// key here and no Signer, all entries in the repository are used.
	Trust []string
	// Keep is how long a result is used after it was written; 0 means [remote.DefaultKeep].
	Keep time.Duration
	// ReadOnly disables writing.
	ReadOnly bool
	// Patience is how long a run waits for the cache before it continues without it; 0 means
	// [remote.DefaultPatience].
	Patience time.Duration
}

// OpenCache returns the cache in a repository. It sends no request. The cache serves one run, and
// several verbs of that run may use it concurrently.
func (e *Environment) OpenCache(s CacheSettings) (*remote.Cache, error) {
	repo, err := e.Registry.Repository(s.Repository)
	if err != nil {
		return nil, asUsage(fmt.Errorf("cache: %w", err))
	}
	o := remote.Options{Keep: s.Keep, ReadOnly: s.ReadOnly, Patience: s.Patience, Log: e.Log}
	if s.Signer != nil {
		o.Signer = s.Signer
		public, err := s.Signer.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("cache: public part of the key: %w", err)
		}
		own, err := sign.NewVerifier(public)
		if err != nil {
			return nil, fmt.Errorf("cache: public part of the key: %w", err)
		}
		o.Trust = []signature.Verifier{own}
	}
	for _, file := range s.Trust {
		key, err := sign.LoadVerifier(file)
		if err != nil {
			return nil, fmt.Errorf("cache: %w", err)
		}
		o.Trust = append(o.Trust, key)
	}
	return remote.New(repo, o), nil
}

// ParsePercent parses a percentage: "1", "0.5%".
func ParsePercent(text string) (float64, error) {
	percent, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !(percent >= 0 && percent <= 100) {
		return 0, fmt.Errorf("%q: want a percentage from 0 to 100, such as 1%%", text)
	}
	return percent, nil
}

// results sets where a run keeps results, and which of them it computes again.
func (o *Options) results(run *engine.Options) {
	if o.Store == nil {
		return
	}
	run.Store, run.Cache = o.Store, o.Store.Cache()
	if o.Cache != nil {
		run.Cache = o.Cache.Outputs(run.Cache, o.Store)
	}
	if o.Audit > 0 {
		run.Audit = func(digest.Digest) bool { return rand.Float64()*100 < o.Audit }
	}
}

// audited adds the location of the entry, and advice, to the error of an audit.
func (o *Options) audited(err error) error {
	found, ok := errors.AsType[*engine.AuditError](err)
	switch {
	case !ok:
		return err
	case o.Cache != nil:
		return advice.Add(fmt.Errorf("%w; it may come from %s", err, o.Cache.Name(found.Key)), advice.ClearCache)
	}
	return advice.Add(err, advice.ClearCache)
}
