// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// ErrName is the error of a name that no interpreter can have.
var ErrName = errors.New("invalid name: want lower-case letters, digits and dashes, such as helm")

// Install copies the executable from r into the folder dir (see [UserDir]) as the
// interpreter of that name, replacing an existing one, and records its checksum next to it.
// [Host.Find] rejects the file if it changes later. If want is not empty, the checksum must
// match it. Install starts no process.
//
// If Install fails, the previous interpreter remains installed.
func Install(ctx context.Context, r io.Reader, name, dir string, want digest.Digest) (_ digest.Digest, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("install interpreter %s: %w", name, err)
		}
	}()
	if !nameRegexp.MatchString(name) {
		return "", ErrName
	}
	if !filepath.IsAbs(dir) {
		return "", errors.New("no folder to install to; set $XDG_DATA_HOME or $HOME")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// A folder next to the target: its files are renamed into place, and it is removed with
	// whatever is left.
	tmp, err := os.MkdirTemp(dir, ".install-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)

	exe := filepath.Join(tmp, fileName(name))
	sum, err := copySynced(exe, &ctxReader{ctx.Err, r}, 0o755)
	if err != nil {
		return "", err
	}
	if want != "" && sum != want {
		return "", fmt.Errorf("checksum is %s, want %s", sum, want)
	}
	line := fmt.Sprintf("%s  %s\n", sum.Encoded(), fileName(name))
	if err := os.WriteFile(sumFile(exe), []byte(line), 0o644); err != nil {
		return "", err
	}
	// The old description does not apply to the new executable.
	if err := os.Remove(besideFile(filepath.Join(dir, fileName(name)))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	// Rename the checksum first. If interrupted between the two, the old executable is
	// rejected with an error that says to install again; in the other order that would
	// happen to the new one.
	target := filepath.Join(dir, fileName(name))
	if err := os.Rename(sumFile(exe), sumFile(target)); err != nil {
		return "", err
	}
	return sum, os.Rename(exe, target)
}

// copySynced writes a new file, syncs it to disk and returns its checksum.
func copySynced(path string, r io.Reader, mode os.FileMode) (digest.Digest, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, hash), r)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return digest.NewDigest(digest.SHA256, hash), err
}
