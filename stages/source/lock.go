// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/stages/vcs"
)

// Lock is what the lock file records about the interpreters of a source, and about files that
// are not in git.
type Lock struct {
	// File is the path of the lock file, relative to the folder of the pipeline file.
	File   string        `json:"file"`
	Digest digest.Digest `json:"digest,omitempty"` // of the file
	// Interpreters are locked interpreters by name, except plain, which is part of tape.
	Interpreters map[string]LockedInterpreter `json:"interpreters,omitempty"`
	// Files are digests by path, relative to the top of the repository.
	Files map[string]digest.Digest `json:"files,omitempty"`
	// Required makes it an error if an interpreter does not match the lock.
	Required bool `json:"required,omitempty"`
}

// LockedInterpreter is an interpreter that was used: its version, and the checksums of its builds
// by os/arch.
type LockedInterpreter struct {
	Version   string                   `json:"version"`
	Checksums map[string]digest.Digest `json:"checksums"`
}

// platform is the key of a checksum.
const platform = runtime.GOOS + "/" + runtime.GOARCH

// allow returns an error for an interpreter that does not match the lock, before it is started,
// if everything must match the lock. A nil lock allows any interpreter.
func (l *Lock) allow(name string, checksum digest.Digest, file string) error {
	if l == nil || !l.Required || name == fallbackName {
		return nil
	}
	locked, known := l.Interpreters[name]
	sum := locked.Checksums[platform]
	switch {
	case known && sum == checksum:
		return nil
	case known && sum != "":
		return advice.Add(fmt.Errorf("interpreter %s is not the one in %s: it is %s, locked is %s (version %s)", name, file, checksum, sum, locked.Version), advice.Update, "interpreters")
	case known:
		return advice.Add(fmt.Errorf("interpreter %s is in %s for %s only, not for %s", name, file, strings.Join(slices.Sorted(maps.Keys(locked.Checksums)), ", "), platform), advice.Update, "interpreters")
	}
	return advice.Add(fmt.Errorf("interpreter %s is not in %s", name, file), advice.Update, "interpreters")
}

// described returns an error for an interpreter of another version than the locked one. Another
// build of the same version is used with a warning, because everyone who builds tape has a
// different build.
func (l *Lock) described(name, version string, checksum digest.Digest, file string) (warning string, err error) {
	if l == nil || l.Required || name == fallbackName {
		return "", nil
	}
	locked, known := l.Interpreters[name]
	if !known {
		return "", nil
	}
	if locked.Version != version {
		return "", advice.Add(fmt.Errorf("interpreter %s has version %s, but %s has version %s", name, version, file, locked.Version), advice.Update, "interpreters")
	}
	if sum := locked.Checksums[platform]; sum != "" && sum != checksum {
		return fmt.Sprintf("interpreter %s has the locked version %s, but is another build than the one in %s for %s; a locked run refuses it, and updating the lock accepts it", name, version, file, platform), nil
	}
	return "", nil
}

// lockFile returns the path of the lock relative to the working directory, or "" if there is
// none.
func (s *Stage) lockFile() string {
	if s.config.Lock == nil {
		return ""
	}
	return filepath.Join(s.o.Folder, s.config.Lock.File)
}

// locked returns the locked digests of files that are not in git, or nil if there is no lock.
func (s *Stage) locked() *vcs.Lock {
	lock := s.config.Lock
	if lock == nil || len(lock.Files) == 0 {
		return nil
	}
	return &vcs.Lock{File: s.lockFile(), Digest: lock.Digest, Files: lock.Files}
}
