// SPDX-License-Identifier: Apache-2.0

package engine

import "time"

// State is the state of a node.
type State string

// The states, in the order in which a node passes through them. The last five are final.
const (
	Waiting   State = "waiting"
	Running   State = "running"
	Cached    State = "cached"
	Done      State = "done"
	Skipped   State = "skipped" // there was nothing to do
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// The levels of a message. A message without a level is progress, which need not be shown.
const (
	// Warning is the level of a message that --strict turns into an error.
	Warning = "warning"
	// Note is the level of a message that is worth reading in every run but reports no fault: it
	// is shown like a warning, and never fails a run.
	Note = "note"
)

// Event reports a change of state (State is set), progress (Current and Total, in bytes if Unit
// is "bytes") or a message. It is plain data, because the engine prints nothing.
type Event struct {
	Node    string    `json:"node"`
	State   State     `json:"state,omitempty"`
	At      time.Time `json:"at"`
	Item    string    `json:"item,omitempty"` // what Current and Total are about, unless it is the whole node
	Current int64     `json:"current,omitempty"`
	Total   int64     `json:"total,omitempty"`
	Unit    string    `json:"unit,omitempty"`  // "bytes", "images", "files"
	Level   string    `json:"level,omitempty"` // Warning, Note, or empty
	Message string    `json:"message,omitempty"`
	Err     string    `json:"err,omitempty"`
	// Unused leads to the part of the node's options that caused a warning because it matched
	// nothing. It consists of map keys and list indexes. A caller that has the file with the
	// options can add the position, and omit the warning if it only ran a part of the file.
	Unused []string `json:"unused,omitempty"`
}
