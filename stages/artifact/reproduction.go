// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Reproduction is the predicate of PredicateReproduction: whether a root could be made again
// of its source. Its bundle is attached to the root, and made by another key than the root's.
type Reproduction struct {
	Root digest.Digest `json:"root"`
	// Made is the root that was made, of the commit of the repository at URI ("" if that is
	// not known) by this version of tape.
	Made   digest.Digest `json:"made"`
	Same   bool          `json:"same"`
	URI    string        `json:"uri,omitempty"`
	Commit string        `json:"commit"`
	Tape   string        `json:"tape"`
	// At is when it was signed, by the clock of who did.
	At time.Time `json:"at"`
}

// ViewReproduction is a statement of a reproduction. It is read, not verified.
type ViewReproduction struct {
	Reproduction
	Subject digest.Digest `json:"subject"` // what it is attached to
	Digest  digest.Digest `json:"digest"`  // of the manifest that carries it
	ViewSigner
	Bundle []byte `json:"-"`
}
