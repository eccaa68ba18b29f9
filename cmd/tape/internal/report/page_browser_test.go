// SPDX-License-Identifier: Apache-2.0

//go:build browser

package report

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestPageInBrowser opens the page in headless Chromium, at the width of a phone and of a
// desktop: nothing overflows, and search, states and column headers work.
func TestPageInBrowser(t *testing.T) {
	var buf bytes.Buffer
	if err := Page(&buf, sample(200)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	const shown = `[...document.querySelector('tbody').rows].filter(r => !r.hidden)`
	for _, width := range []int64{360, 1280} {
		do(t, ctx, chromedp.EmulateViewport(width, 900))
		do(t, ctx, chromedp.Navigate("file://"+file))
		if do(t, ctx, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth`)) {
			t.Errorf("%d px: the page hangs over", width)
		}
		rows := func(want int, after string) {
			t.Helper()
			if n := do(t, ctx, chromedp.Evaluate[int](shown+`.length`)); n != want {
				t.Errorf("%d px, %s: %d applications are shown, want %d", width, after, n, want)
			}
		}
		do(t, ctx, chromedp.SendKeys("#q", "SERVICE-17 values"))
		rows(11, "after a search")
		do(t, ctx, chromedp.Evaluate[bool](`(() => { const q = document.getElementById('q'); q.value = ''; return q.dispatchEvent(new Event('input')); })()`))
		do(t, ctx, chromedp.Click(`button[data-state=failed]`))
		rows(23, "of those that failed")
		do(t, ctx, chromedp.Click(`button[data-state=failed]`))
		rows(200, "of any state")
		if width < 700 {
			continue // there are no column headers
		}
		do(t, ctx, chromedp.Click(`th:nth-child(4) button`))
		do(t, ctx, chromedp.Click(`th:nth-child(4) button`))
		if first := do(t, ctx, chromedp.Evaluate[string](shown+`[0].cells[3].textContent`)); first != "2.1 s" {
			t.Errorf("sorted by time, the first took %q", first)
		}
	}
}

// do runs one action.
func do[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
