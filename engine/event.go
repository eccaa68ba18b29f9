// SPDX-License-Identifier: Apache-2.0

package engine

import "time"

// State of a node.
type State string

// The states, in the order a node passes them; the last five end it.
const (
	Waiting   State = "waiting"
	Running   State = "running"
	Cached    State = "cached"
	Done      State = "done"
	Skipped   State = "skipped" // there was nothing to do
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// The levels of a message. One without a level is progress, which is shown or not.
const (
	// Warning is the level of a message that --strict makes an error.
	Warning = "warning"
	// Note is the level of a message that is worth reading in every run and is no
	// fault: it is shown as a warning is, and fails nothing.
	Note = "note"
)

// Event tells of a change of state (State set), of progress (Current and Total,
// in bytes where Unit is "bytes") or of something worth knowing (Message). It is
// plain data: the engine prints nothing.
type Event struct {
	Node    string    `json:"node"`
	State   State     `json:"state,omitempty"`
	At      time.Time `json:"at"`
	Item    string    `json:"item,omitempty"` // what Current and Total count, where not the whole node
	Current int64     `json:"current,omitempty"`
	Total   int64     `json:"total,omitempty"`
	Unit    string    `json:"unit,omitempty"`  // "bytes", "images", "files"
	Level   string    `json:"level,omitempty"` // Warning, Note, or empty
	Message string    `json:"message,omitempty"`
	Err     string    `json:"err,omitempty"`
}
