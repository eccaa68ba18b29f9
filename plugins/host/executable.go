// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
)

// executable is a file that may be started.
type executable struct {
	path     string
	id       fileID
	checksum digest.Digest
}

// fileID tells one state of a file from another without reading it.
type fileID struct {
	Device, Inode uint64
	Size          int64
	Modified      int64 // ns
	Changed       int64 // ns; unlike Modified no program can set it
}

// inspect checks that a file may be started, and takes its checksum: from the
// cache, where the file has not changed since.
func (h *Host) inspect(ctx context.Context, path string) (*executable, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := checkExecutable(info); err != nil {
		return nil, err
	}
	exe := &executable{path: path, id: identify(info)}
	sum, ok := h.cache.checksum(path, exe.id)
	if !ok {
		if sum, err = checksum(ctx, path); err != nil {
			return nil, err
		}
		h.cache.setChecksum(path, exe.id, sum)
	}
	exe.checksum = sum
	if want, err := installed(path); err != nil {
		return nil, err
	} else if want != "" && want != sum {
		return nil, &ChecksumError{Path: path, Got: sum.String(), Want: want.String(), When: "when it was installed"}
	}
	return exe, nil
}

// verify says whether the file is still what inspect saw.
func (e *executable) verify(ctx context.Context) error {
	info, err := os.Stat(e.path)
	if err != nil {
		return err
	}
	if err := checkExecutable(info); err != nil {
		return err
	}
	if identify(info) == e.id {
		return nil
	}
	sum, err := checksum(ctx, e.path)
	if err != nil {
		return err
	}
	if sum != e.checksum {
		return &ChecksumError{Path: e.path, Got: sum.String(), Want: e.checksum.String(), When: "when tape looked at it first"}
	}
	return nil
}

func checkExecutable(info fs.FileInfo) error {
	mode := info.Mode()
	switch {
	case !mode.IsRegular():
		return errors.New("not a regular file")
	case runtime.GOOS == "windows":
		return nil // has no such permissions
	case mode&0o111 == 0:
		return fmt.Errorf("not executable (mode %v); run chmod +x on it if it should be", mode)
	case mode&0o002 != 0:
		return fmt.Errorf("everyone on this machine may change it (mode %v); run chmod o-w on it", mode)
	}
	return nil
}

// checksum reads the file.
func checksum(ctx context.Context, path string) (digest.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, &ctxReader{ctx.Err, f}); err != nil {
		return "", fmt.Errorf("checksum: %w", err)
	}
	return digest.NewDigest(digest.SHA256, hash), nil
}

// ctxReader reads until its context has ended.
type ctxReader struct {
	ended func() error
	r     io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ended(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// sumFile is beside an installed executable, in the format of sha256sum.
func sumFile(path string) string { return path + ".sha256" }

// installed answers with the checksum that Install recorded, empty where the
// file came here otherwise.
func installed(path string) (digest.Digest, error) {
	data, err := os.ReadFile(sumFile(path))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	sum, _, _ := strings.Cut(string(data), " ")
	d := digest.NewDigestFromEncoded(digest.SHA256, sum)
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("%s holds no checksum; install the interpreter again", sumFile(path))
	}
	return d, nil
}
