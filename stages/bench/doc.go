// SPDX-License-Identifier: Apache-2.0

// Package bench measures tape beside its peers. Its tests are built with the tag
// bench and run by `make bench`, which builds the commands first: tape is
// measured as the process that people start, and so is crane's library, in a
// child of the test. Both talk to registries inside the test's own process,
// which count requests and can delay each of them.
//
// The result is a table. Times are for reading; what must hold on every machine,
// the number of requests, fails the test.
package bench
