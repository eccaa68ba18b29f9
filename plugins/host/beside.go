// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/internal/replace"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// besideFile returns the path of the file that describes an executable, so that it need not
// be started. The file is written next to the executable when that is built or installed.
// Write access to one implies write access to the other, so both are trusted equally; the
// file records which executable it describes, so that a stale one is noticed.
func besideFile(path string) string { return path + ".json" }

// maxBeside is far larger than any description; that of Helm has 4 KB.
const maxBeside = 1 << 20

// beside is the content of a besideFile.
type beside struct {
	// Checksum is the checksum of the executable.
	Checksum digest.Digest `json:"checksum"`
	// Size is the size of the executable in bytes.
	Size int64 `json:"size"`
	// Ends is the checksum of the first and the last 64 KiB of the executable, which is
	// fast to compute. They differ between builds: linkers write the build id there, and
	// archives the checksums of their content.
	Ends digest.Digest `json:"ends"`
	// Builds are the checksums of the same release for all its platforms (os/arch), so
	// that what locks one locks the others too.
	Builds      map[string]digest.Digest `json:"builds,omitempty"`
	Description interpreter.Description  `json:"description"`
}

const endSize = 64 << 10

func (e *executable) ends() (digest.Digest, error) {
	f, err := os.Open(e.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	digester := digest.SHA256.Digester()
	for _, from := range []int64{0, max(0, e.id.Size-endSize)} {
		if _, err := io.Copy(digester.Hash(), io.NewSectionReader(f, from, endSize)); err != nil {
			return "", err
		}
	}
	return digester.Digest(), nil
}

// beside reads the description next to the executable. It returns an error if it does not belong
// to this executable, as far as can be seen without reading all of it, or if the executable was
// opened by its path, because then the file is not known to be meant for tape.
func (i *Interpreter) beside() (b beside, err error) {
	if i.opened {
		return b, errors.New("it was opened by its path")
	}
	file := besideFile(i.exe.path)
	info, err := os.Stat(file)
	if err != nil {
		return b, err
	}
	if !info.Mode().IsRegular() || openToAll(info.Mode()) || info.Size() > maxBeside {
		return b, fmt.Errorf("not trusted (mode %v, %d bytes)", info.Mode(), info.Size())
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return b, err
	}
	if err := errors.Join(b.Checksum.Validate(), i.checkDescription(b.Description)); err != nil {
		return b, err
	}
	return b, i.exe.fits(b)
}

// fits returns an error if the description belongs to another executable.
func (e *executable) fits(b beside) error {
	sum, known := e.known()
	if !known {
		var err error
		if sum, err = installed(e.path); err != nil {
			return err
		}
	}
	switch {
	case sum != "" && sum != b.Checksum:
		return fmt.Errorf("it describes an executable with checksum %s, not %s", b.Checksum, sum)
	case known:
		return nil
	case b.Size != e.id.Size:
		return fmt.Errorf("it describes an executable of %d bytes, not %d", b.Size, e.id.Size)
	}
	got, err := e.ends()
	if err == nil && got != b.Ends {
		err = errors.New("it describes an executable with another beginning or end")
	}
	return err
}

// WriteDescription writes the interpreter's description to a file next to its executable,
// so that [Host.List] and Describe need not read or start it.
func (i *Interpreter) WriteDescription(ctx context.Context) error {
	if _, err := i.Checksum(ctx); err != nil { // first, so that the description belongs to this program
		return err
	}
	d, err := i.Describe(ctx)
	if err != nil {
		return err
	}
	return i.exe.writeBeside(ctx, beside{Description: d})
}

// WriteBuilt writes a description next to an executable that was built for another platform
// and cannot be asked here. Builds are the checksums of the release for all its platforms.
func WriteBuilt(ctx context.Context, path string, d interpreter.Description, builds map[string]digest.Digest) error {
	id, err := inspect(path)
	if err != nil {
		return fmt.Errorf("interpreter %s: %w", path, err)
	}
	return (&executable{path: path, id: id}).writeBeside(ctx, beside{Builds: builds, Description: d})
}

// Builds returns the checksums of the release that the executable belongs to, by platform
// (os/arch), or nil if it is not known to belong to one.
func (i *Interpreter) Builds(ctx context.Context) (map[string]digest.Digest, error) {
	if _, err := i.Checksum(ctx); err != nil {
		return nil, err
	}
	b, err := i.beside()
	if err != nil || b.Builds[runtime.GOOS+"/"+runtime.GOARCH] != b.Checksum {
		return nil, nil //nolint:nilerr // a description of another executable does not apply to this one
	}
	for _, sum := range b.Builds {
		if sum.Validate() != nil {
			return nil, nil
		}
	}
	return b.Builds, nil
}

// writeBeside completes what is known about the executable, and writes it next to the executable.
func (e *executable) writeBeside(ctx context.Context, b beside) (err error) {
	b.Size = e.id.Size
	if b.Checksum, err = e.checksum(ctx); err == nil {
		b.Ends, err = e.ends()
	}
	if err == nil { // the executable must not have changed since it was described
		err = e.verify(ctx, b.Checksum)
	}
	if err == nil {
		var data []byte
		if data, err = json.MarshalIndent(b, "", "  "); err == nil {
			err = replace.File(besideFile(e.path), ".new-", append(data, '\n'), 0o644)
		}
	}
	if err != nil {
		return fmt.Errorf("interpreter %s: write its description: %w", e.path, err)
	}
	return nil
}
