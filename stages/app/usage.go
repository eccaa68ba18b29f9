// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/discover"
	"github.com/taped-dev/tape/stages/images"
)

// UsageError is a mistake in the options: nothing was done, and the same options fail on any
// machine.
type UsageError struct {
	Err error
}

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// asUsage wraps an error in a UsageError. nil stays nil.
func asUsage(err error) error {
	if err == nil {
		return nil
	}
	return &UsageError{err}
}

func usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// fromOptions wraps mistakes in a pipeline that have no position in its file in a UsageError,
// because they come from other options.
func fromOptions(err error) error {
	if e, ok := errors.AsType[*document.Error](err); ok && e.File == "" {
		return &UsageError{err}
	}
	return err
}

func checkPlatform(platform string) error {
	if platform == "" {
		return nil
	}
	_, err := images.ParsePlatform(platform)
	return asUsage(err)
}

// check returns an error if the options are invalid for any source.
func (o *Options) check() error {
	if o.Pipeline == "" && (o.Locked || o.Update != "") {
		return asUsage(advice.Add(errors.New("a lock belongs to a pipeline file, and there is none"), advice.WritePipeline))
	}
	related := []string{discover.Default, discover.All, discover.None}
	if o.Related != "" && !slices.Contains(related, o.Related) {
		return usagef("related %q: want %s, %s or %s", o.Related, related[0], related[1], related[2])
	}
	return checkPlatform(o.Platform)
}

// check returns an error if the destination is invalid.
func (o *PackageOptions) check() error {
	if o.Repository == "" && o.Pipeline == "" {
		return asUsage(advice.Add(errors.New("no repository: the manifests will name it"), advice.NameRepository))
	}
	if o.Repository != "" {
		if err := artifact.CheckRepository(o.Repository); err != nil {
			return asUsage(err)
		}
	}
	if err := checkTags(o.Tags); err != nil {
		return err
	}
	if o.Save != "" {
		return checkFile(o.Save)
	}
	return nil
}

// looksSaved reports whether a file is empty or begins like an archive.
func looksSaved(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return true // writing it reports that
	}
	defer f.Close()
	begin := make([]byte, 512)
	n, _ := io.ReadFull(f, begin)
	begin = begin[:n]
	return n == 0 || n > 262 && string(begin[257:262]) == "ustar" ||
		bytes.HasPrefix(begin, []byte{0x1f, 0x8b}) || bytes.HasPrefix(begin, []byte{0x28, 0xb5, 0x2f, 0xfd})
}

// noteReplaced reports that an existing archive will be replaced.
func (e *Environment) noteReplaced(file string) {
	if info, err := os.Stat(file); file != "" && err == nil && info.Size() > 0 {
		e.say(engine.Note, file+" already exists, and will be replaced when the new archive is complete")
	}
}

func checkTags(tags []string) error {
	for _, tag := range tags {
		if err := artifact.CheckTag(tag); err != nil {
			return asUsage(err)
		}
	}
	return nil
}

// checkFile returns an error if an archive cannot be written to the file. It is called before any
// work begins.
func checkFile(file string) error {
	switch info, err := os.Stat(file); {
	case err == nil && info.Mode().IsRegular() && !looksSaved(file):
		return usagef("%s exists, and is not an archive: remove it, or choose another name", file)
	case err != nil || info.Mode().IsRegular():
	case info.IsDir():
		return usagef("%s is a folder: name a file, such as %s", file, filepath.Join(file, "app.tar"))
	default:
		return asUsage(advice.Add(fmt.Errorf("%s is a pipe or a device, and would be replaced", file), advice.SaveToWriter))
	}
	folder := filepath.Dir(file)
	switch info, err := os.Stat(folder); {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("write %s: there is no folder %s; create it first", file, folder)
	case err == nil && !info.IsDir():
		return fmt.Errorf("write %s: %s is not a folder", file, folder)
	}
	return nil
}
