// SPDX-License-Identifier: Apache-2.0

//go:build browser

package artifact

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestPageInBrowser opens the page in headless Chromium, as narrow as a phone and
// as wide as a desk: nothing hangs over, the search finds and hides, and a link
// to an image opens it.
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
	ctx, cancelTime := context.WithTimeoutCause(ctx, 2*time.Minute, context.DeadlineExceeded)
	defer cancelTime()

	for _, width := range []int64{360, 768, 1280, 1920} {
		var over bool
		var open, shown, none int
		if err := chromedp.Run(ctx,
			chromedp.EmulateViewport(width, 900),
			chromedp.Navigate("file://"+file+"#i-"+view.Images[0].Digest.Encoded()),
			chromedp.Reload(),
			chromedp.Evaluate(`document.documentElement.scrollWidth > innerWidth`, &over),
			chromedp.Evaluate(`document.querySelectorAll('details[open]').length`, &open),
			chromedp.SendKeys("#q", "LIBRARY/web 1"),
			chromedp.Evaluate(`[...document.querySelectorAll('details.card[id]')].filter(e => !e.hidden).length`, &shown),
			chromedp.SendKeys("#q", " nothing has this"),
			chromedp.Evaluate(`document.getElementById('none').hidden ? 0 : 1`, &none),
		); err != nil {
			t.Fatal(err)
		}
		if over || open != 1 || shown != 1 || none != 1 {
			t.Errorf("%d px: hangs over %t, %d open, %d shown, %d times nothing", width, over, open, shown, none)
		}
	}
}
