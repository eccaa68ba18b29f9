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

// Install puts the executable that r holds into the folder dir (see [UserDir])
// as the interpreter of that name, replacing one that is there, and records its
// checksum beside it: [Host.Find] refuses the file once it is another. Where
// want is not empty it must be the checksum. Nothing is started.
//
// When Install fails, what was installed before still is.
func Install(ctx context.Context, r io.Reader, name, dir string, want digest.Digest) (_ digest.Digest, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("install interpreter %s: %w", name, err)
		}
	}()
	if !nameRegexp.MatchString(name) {
		return "", errors.New("that is no name: want lower-case letters, digits and dashes, such as helm (--name gives one)")
	}
	if !filepath.IsAbs(dir) {
		return "", errors.New("no folder to install to; set $XDG_DATA_HOME or $HOME")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// A folder beside the target: what is inside is renamed out of it, and all
	// else goes with it.
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
		return "", fmt.Errorf("checksum is %s, not %s as it should be", sum, want)
	}
	line := fmt.Sprintf("%s  %s\n", sum.Encoded(), fileName(name))
	if err := os.WriteFile(sumFile(exe), []byte(line), 0o644); err != nil {
		return "", err
	}
	// What it is said to be is another's from now on.
	if err := os.Remove(besideFile(filepath.Join(dir, fileName(name)))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	// The sum first: interrupted between the two, the old file is refused and
	// the error says to install again; the other way round a new file would be.
	target := filepath.Join(dir, fileName(name))
	if err := os.Rename(sumFile(exe), sumFile(target)); err != nil {
		return "", err
	}
	return sum, os.Rename(exe, target)
}

// copySynced writes a new file, to the disk, and answers with its checksum.
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
