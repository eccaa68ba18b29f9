// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"

	"github.com/taped-dev/tape/stages/app"
)

// askPerson tells a person how to log in. If the browser must be on this machine, it calls open
// with the page. If that fails, the person can still open the page.
func askPerson(ctx context.Context, w io.Writer, p app.Prompt, open func(ctx context.Context, url string) error) error {
	if !p.Browser {
		_, err := fmt.Fprintf(w, "to sign, log in at %s with the code %s\n", p.URL, p.Code)
		return err
	}
	if _, err := fmt.Fprintf(w, "to sign, log in with a browser on this machine; if none opens, go to\n%s\n", p.URL); err != nil {
		return err
	}
	if err := open(ctx, p.URL); err != nil {
		fmt.Fprintf(w, "note: no browser was opened: %v\n", err)
	}
	return nil
}

// openBrowser opens a page in the default browser of the desktop.
func openBrowser(ctx context.Context, url string) error {
	command := []string{"xdg-open", url}
	switch runtime.GOOS {
	case "darwin":
		command = []string{"open", url}
	case "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler", url}
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // the command may run as long as the browser
	return nil
}
