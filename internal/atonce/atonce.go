// SPDX-License-Identifier: Apache-2.0

// Package atonce decides how much is done at once, wherever something mostly waits for a
// registry, a disk or another process. What keeps processors busy is done by as many
// goroutines as there are of those.
package atonce

import "runtime"

const (
	// Requests is how many requests a registry gets at once, at most. Its client finds out how
	// many of them it takes, and keeps to that whatever is begun at once.
	Requests = 64
	// Tasks is how many tasks of one request each are begun at once: twice as many, so that
	// one is ready whenever a registry has answered.
	Tasks = 2 * Requests
	// Streams is how many blobs or lists are read at once beside others, to which it leaves
	// half of what a registry answers at once.
	Streams = Requests / 2
	// Applications is how many applications are worked on at once.
	Applications = 16
	// Files is how many files are written to a disk at once.
	Files = 16
	// Copies is how many images or repositories are copied at once, each with all that it has.
	Copies = 8
	// Renders is how many sources are rendered at once, each by a process.
	Renders = 4
)

// Stages is how many stages run at once: on a small machine as well, those that wait do not
// keep others from running.
func Stages() int { return max(runtime.GOMAXPROCS(0), 4) }
