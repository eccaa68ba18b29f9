// SPDX-License-Identifier: Apache-2.0

// Package size reads sizes that people write.
package size

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"
)

// Parse parses a number of bytes, or of the units that are powers of 1000 (kB, MB, GB, TB) or
// of 1024 (KiB, MiB, GiB, TiB). The B of the former may be left out, and case does not matter.
func Parse(text string) (int64, error) {
	parse := units.FromHumanSize
	if strings.HasSuffix(strings.ToLower(text), "ib") {
		parse = units.RAMInBytes
	}
	n, err := parse(text)
	if err == nil && n < 0 {
		err = fmt.Errorf("%s is more than can be counted", text)
	}
	return n, err
}
