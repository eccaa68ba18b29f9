// SPDX-License-Identifier: Apache-2.0

//go:build unix

package host_test

import (
	"fmt"
	"testing"

	"github.com/taped-dev/tape/plugins/host"
)

// From finding an interpreter to its first response, with results of an earlier run; and its
// end.
func BenchmarkStart(b *testing.B) {
	dir, cache := b.TempDir(), b.TempDir()
	addTo(b, dir, "good")
	start := func() {
		h := host.New(host.Options{Dirs: []string{dir}, CacheDir: cache})
		defer h.Close()
		i, err := h.Find(b.Context(), "good")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := render(b.Context(), b, i, fakeOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	start()
	for b.Loop() {
		start()
	}
}

// The cost of 12 MB of output compared with none.
func BenchmarkOutput(b *testing.B) {
	for _, size := range []int{0, 12 << 20} {
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			dir := b.TempDir()
			addTo(b, dir, "good")
			h := host.New(host.Options{Dirs: []string{dir}})
			defer h.Close()
			i, err := h.Find(b.Context(), "good")
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := render(b.Context(), b, i, fakeOptions{Size: size}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
