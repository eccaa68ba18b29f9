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
	"sync"

	"github.com/opencontainers/go-digest"
)

// executable is a file that may be started.
type executable struct {
	path  string
	id    fileID
	cache cache

	mu  sync.Mutex
	sum digest.Digest // empty until it is taken
}

// fileID tells one state of a file from another without reading it.
type fileID struct {
	Device, Inode uint64
	Size          int64
	Modified      int64 // ns
	Changed       int64 // ns; unlike Modified no program can set it
}

// inspect checks that a file may be started. It does not read it.
func inspect(path string) (fileID, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileID{}, err
	}
	return identify(info), checkExecutable(info)
}

// checksum is that of the file: taken once, and from the cache where the file has
// not changed since.
func (e *executable) checksum(ctx context.Context) (digest.Digest, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sum != "" {
		return e.sum, nil
	}
	sum, ok := e.cache.checksum(e.path, e.id)
	if !ok {
		var err error
		if sum, err = checksum(ctx, e.path); err != nil {
			return "", err
		}
		e.cache.setChecksum(e.path, e.id, sum)
	}
	if want, err := installed(e.path); err != nil {
		return "", err
	} else if want != "" && want != sum {
		return "", &ChecksumError{Path: e.path, Got: sum.String(), Want: want.String(), When: "when it was installed"}
	}
	e.sum = sum
	return sum, nil
}

// known is the checksum, where that takes no reading of the file.
func (e *executable) known() (digest.Digest, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sum != "" {
		return e.sum, true
	}
	return e.cache.checksum(e.path, e.id)
}

// mayHave is false once another checksum was taken.
func (e *executable) mayHave(sum digest.Digest) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sum == "" || e.sum == sum
}

// verify says whether the file still has the checksum.
func (e *executable) verify(ctx context.Context, want digest.Digest) error {
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
	if sum != want {
		return &ChecksumError{Path: e.path, Got: sum.String(), Want: want.String(), When: "when tape looked at it first"}
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
	case openToAll(mode):
		return fmt.Errorf("everyone on this machine may change it (mode %v); run chmod o-w on it", mode)
	}
	return nil
}

// openToAll says whether everyone may change a file.
func openToAll(mode fs.FileMode) bool { return runtime.GOOS != "windows" && mode&0o002 != 0 }

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
