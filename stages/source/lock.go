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

// Lock is what is known of the interpreters of a source, and of files that git does
// not have.
type Lock struct {
	// File is where it stands, relative to the folder of the pipeline file.
	File   string        `json:"file"`
	Digest digest.Digest `json:"digest,omitempty"` // of the file
	// Interpreters by name; all but plain, which is part of tape.
	Interpreters map[string]LockedInterpreter `json:"interpreters,omitempty"`
	// Files by their path below the repository's top.
	Files map[string]digest.Digest `json:"files,omitempty"`
	// Required makes an error of an interpreter that is not in the lock as it is.
	Required bool `json:"required,omitempty"`
}

// LockedInterpreter is an interpreter as it was used: its version, and the checksum of
// its build by os/arch.
type LockedInterpreter struct {
	Version   string                   `json:"version"`
	Checksums map[string]digest.Digest `json:"checksums"`
}

// platform is the key of a checksum.
const platform = runtime.GOOS + "/" + runtime.GOARCH

// allow refuses an interpreter that is not the locked one before it starts, where all
// has to be as locked.
func (l *Lock) allow(name string, checksum digest.Digest, file string) error {
	if !l.Required || name == fallbackName {
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

// described refuses an interpreter of another version than the locked one. Of the
// same version, another build than the one in the lock is used, with a warning:
// whoever builds tape has one of their own.
func (l *Lock) described(name, version string, checksum digest.Digest, file string) (warning string, err error) {
	if l.Required || name == fallbackName {
		return "", nil
	}
	locked, known := l.Interpreters[name]
	if !known {
		return "", nil
	}
	if locked.Version != version {
		return "", advice.Add(fmt.Errorf("interpreter %s is of version %s, and %s has version %s", name, version, file, locked.Version), advice.Update, "interpreters")
	}
	if sum := locked.Checksums[platform]; sum != "" && sum != checksum {
		return fmt.Sprintf("interpreter %s is of the locked version %s, and another build than the one in %s for %s; what must be as locked refuses it, and updating the lock takes it", name, version, file, platform), nil
	}
	return "", nil
}

// lockFile is where the lock lies, as seen from the working directory.
func (s *Stage) lockFile() string { return filepath.Join(s.o.Folder, s.config.Lock.File) }

// locked vouches for files that git does not have; nil vouches for none.
func (s *Stage) locked() *vcs.Lock {
	lock := s.config.Lock
	if lock == nil || len(lock.Files) == 0 {
		return nil
	}
	return &vcs.Lock{File: s.lockFile(), Digest: lock.Digest, Files: lock.Files}
}
