// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package host

import "os/exec"

// wait calls end as soon as the process is dead.
func wait(cmd *exec.Cmd, end func()) error {
	err := cmd.Wait()
	end()
	return err
}
