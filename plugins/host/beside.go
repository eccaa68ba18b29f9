// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// besideFile is what tells of an executable without starting it: a file that whoever
// built or installed it put beside it. Who can write there can replace the
// executable too, so it deserves as much trust. What it must not be is out of
// date: it says which executable it describes.
func besideFile(path string) string { return path + ".json" }

// maxBeside is far above any description: Helm's has 4 KB.
const maxBeside = 1 << 20

// beside is the content of that file.
type beside struct {
	// Checksum of the executable.
	Checksum digest.Digest `json:"checksum"`
	// Size of it, in bytes.
	Size int64 `json:"size"`
	// Ends is the checksum of its first and its last 64 KiB, which are quickly
	// read. A linker writes there what differs from build to build (the build id),
	// and an archive the checksums of all that is in it.
	Ends        digest.Digest           `json:"ends"`
	Description interpreter.Description `json:"description"`
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

// beside reads what lies beside the executable. It is an error where that is not
// of this executable, as far as can be seen without reading all of it. (One that
// was opened by its path may be anywhere, and nobody has put it there for tape.)
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
		return b, fmt.Errorf("not to be believed (mode %v, %d bytes)", info.Mode(), info.Size())
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

// fits says whether a description seems to be of this executable.
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
		return fmt.Errorf("of an executable with checksum %s, not %s", b.Checksum, sum)
	case known:
		return nil
	case b.Size != e.id.Size:
		return fmt.Errorf("of an executable of %d bytes, not %d", b.Size, e.id.Size)
	}
	got, err := e.ends()
	if err == nil && got != b.Ends {
		err = errors.New("of an executable that begins or ends otherwise")
	}
	return err
}

// WriteDescription writes what the interpreter says of itself into a file beside
// its executable, for [Host.List] to know it without reading or starting it.
func (i *Interpreter) WriteDescription(ctx context.Context) error {
	sum, err := i.Checksum(ctx)
	if err != nil {
		return err
	}
	b := beside{Checksum: sum, Size: i.exe.id.Size}
	if b.Description, err = i.Describe(ctx); err != nil {
		return err
	}
	if err := i.exe.writeBeside(ctx, b); err != nil {
		return fmt.Errorf("interpreter %s: write its description: %w", i.exe.path, err)
	}
	return nil
}

func (e *executable) writeBeside(ctx context.Context, b beside) (err error) {
	if b.Ends, err = e.ends(); err != nil {
		return err
	}
	// What was read just now must be what was described.
	if err := e.verify(ctx, b.Checksum); err != nil {
		return err
	}
	data, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return replace(besideFile(e.path), append(data, '\n'), 0o644)
}
