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
	"golang.org/x/sync/errgroup"
)

// executable is a file that can be started as an interpreter.
type executable struct {
	path  string
	id    fileID
	cache cache

	mu  sync.Mutex
	sum digest.Digest // empty until computed
}

// fileID identifies a state of a file without reading its content.
type fileID struct {
	Device, Inode uint64
	Size          int64
	Modified      int64 // ns
	Changed       int64 // ns; unlike Modified, programs cannot set it
}

// inspect returns the state of a file, and an error if it must not be started. It does not
// read the file.
func inspect(path string) (fileID, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileID{}, err
	}
	return identify(info), checkExecutable(info)
}

// checksum returns the checksum of the file. It is computed once, and taken from the cache
// if the file has not changed.
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
		e.cache.write(checksumFile(e.path), checksumEntry{File: e.id, Checksum: sum})
	}
	if want, err := installed(e.path); err != nil {
		return "", err
	} else if want != "" && want != sum {
		return "", checksumError(e.path, sum, want, "when it was installed")
	}
	e.sum = sum
	return sum, nil
}

// known returns the checksum if that is possible without reading the file.
func (e *executable) known() (digest.Digest, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sum != "" {
		return e.sum, true
	}
	return e.cache.checksum(e.path, e.id)
}

// mayHave reports whether the checksum is sum or not yet known.
func (e *executable) mayHave(sum digest.Digest) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sum == "" || e.sum == sum
}

// verify returns an error if the file no longer has the checksum.
func (e *executable) verify(ctx context.Context, want digest.Digest) error {
	if id, err := inspect(e.path); err != nil || id == e.id {
		return err
	}
	sum, err := checksum(ctx, e.path)
	if err == nil && sum != want {
		err = checksumError(e.path, sum, want, "when tape first read it")
	}
	return err
}

func checkExecutable(info fs.FileInfo) error {
	mode := info.Mode()
	switch {
	case !mode.IsRegular():
		return errors.New("not a regular file")
	case runtime.GOOS == "windows":
		return nil // has no such permission bits
	case mode&0o111 == 0:
		return fmt.Errorf("not executable (mode %v); run chmod +x on it if it should be", mode)
	case openToAll(mode):
		return fmt.Errorf("writable by everyone on this machine (mode %v); run chmod o-w on it", mode)
	}
	return nil
}

// openToAll reports whether everyone may write to a file.
func openToAll(mode fs.FileMode) bool { return runtime.GOOS != "windows" && mode&0o002 != 0 }

// checksum computes the SHA-256 checksum of a file.
func checksum(ctx context.Context, path string) (digest.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if err := readAhead(&ctxReader{ctx.Err, f}, func(block []byte) { hash.Write(block) }); err != nil {
		return "", fmt.Errorf("checksum: %w", err)
	}
	return digest.NewDigest(digest.SHA256, hash), nil
}

// readAhead calls f with the content of r, and reads the next block meanwhile: on an idle
// processor that hides a quarter of the time to compute a checksum.
func readAhead(r io.Reader, f func(block []byte)) error {
	full, empty := make(chan []byte), make(chan []byte, 2)
	for range cap(empty) {
		empty <- make([]byte, 256<<10)
	}
	var g errgroup.Group
	g.Go(func() error {
		defer close(full)
		for {
			block := <-empty
			n, err := r.Read(block)
			full <- block[:n]
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
		}
	})
	for block := range full {
		f(block)
		empty <- block[:cap(block)]
	}
	return g.Wait()
}

// ctxReader is a reader that fails once its context has ended.
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

// sumFile returns the path of the file, in sha256sum format, that records the checksum of
// an installed executable.
func sumFile(path string) string { return path + ".sha256" }

// installed returns the checksum that Install recorded, or "" if the executable was not
// installed by Install.
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
		return "", fmt.Errorf("%s does not contain a checksum; install the interpreter again", sumFile(path))
	}
	return d, nil
}
