// SPDX-License-Identifier: Apache-2.0

//go:build browser

package show

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestPageInBrowser opens the page in headless Chromium, at the width of a phone and of a
// desktop: nothing overflows, the search finds and hides, and a link to an image opens it.
func TestPageInBrowser(t *testing.T) {
	var buf bytes.Buffer
	view := pageView(t)
	if err := WritePage(&buf, view); err != nil {
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
	for _, width := range []int64{360, 768, 1280, 1920} {
		do(t, ctx, chromedp.EmulateViewport(width, 900))
		do(t, ctx, chromedp.Navigate("file://"+file+"#i-"+view.Images[0].Digest.Encoded()))
		do(t, ctx, chromedp.Reload())
		if do(t, ctx, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth`)) {
			t.Errorf("%d px: the page hangs over", width)
		}
		if n := do(t, ctx, chromedp.Evaluate[int](`document.querySelectorAll('details[open]').length`)); n != 1 {
			t.Errorf("%d px: %d images are open, want the one of the link", width, n)
		}
		// The predecessors and successors of an image in the diagram are highlighted.
		if n := do(t, ctx, chromedp.Evaluate[int](`(document.querySelector('[data-box=i0]').dispatchEvent(new Event('mouseenter')), document.querySelectorAll('.picture .on').length)`)); n != 5 {
			t.Errorf("%d px: %d boxes and lines of the picture are lit, want 5", width, n)
		}
		if !do(t, ctx, chromedp.Evaluate[bool](`(() => {
			location.hash = '#f-0-2';
			dispatchEvent(new Event('hashchange')); // the browser's own comes later
			const line = document.getElementById('f-0-2'), at = line.getBoundingClientRect();
			return line.closest('details').open && at.top >= 0 && at.bottom <= innerHeight;
		})()`)) {
			t.Errorf("%d px: the line of a link is not in view", width)
		}
		do(t, ctx, chromedp.SendKeys("#q", "LIBRARY/web 1"))
		if n := do(t, ctx, chromedp.Evaluate[int](`[...document.querySelectorAll('details.card[id^=i-]')].filter(e => !e.hidden).length`)); n != 1 {
			t.Errorf("%d px: the search shows %d images, want 1", width, n)
		}
		do(t, ctx, chromedp.SendKeys("#q", " nothing has this"))
		if do(t, ctx, chromedp.Evaluate[bool](`document.getElementById('none').hidden`)) {
			t.Errorf("%d px: a search that finds nothing does not say so", width)
		}
	}
}

func do[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
