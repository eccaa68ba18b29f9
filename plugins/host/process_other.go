// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package host

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

var errNotConfined = errors.New("processes are confined on Linux only")

func (bounds) confine(*syscall.SysProcAttr) error { return errNotConfined }

func (bounds) limit(int) error { return nil }

func peak(*os.ProcessState) int64 { return 0 }

func traced(*syscall.SysProcAttr) bool { return false }

func hold(int) (release func(), err error) { return nil, errNotConfined }

// onThread runs f in a goroutine.
func onThread(f func()) { go f() }

// wait calls end as soon as the process has ended.
func wait(cmd *exec.Cmd, end func()) error {
	err := cmd.Wait()
	end()
	return err
}

func identify(info fs.FileInfo) fileID {
	return fileID{Size: info.Size(), Modified: info.ModTime().UnixNano()}
}
