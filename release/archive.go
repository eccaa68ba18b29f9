// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
)

// packed is a file of an archive.
type packed struct {
	name  string // including the archive's folder
	info  fs.FileInfo
	data  []byte
	build *debug.BuildInfo // of a Go program; nil for other files
}

// walk calls each with every file of an archive, a .tar.gz or a .zip, in order.
func walk(archive string, each func(packed) error) error {
	read := func(name string, info fs.FileInfo, r io.Reader) error {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		p := packed{name: name, info: info, data: data}
		// Files other than Go programs have no such information.
		if info, err := buildinfo.Read(bytes.NewReader(data)); err == nil {
			p.build = info
		}
		return each(p)
	}
	var err error
	if strings.HasSuffix(archive, ".zip") {
		err = walkZip(archive, read)
	} else {
		err = walkTar(archive, read)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", archive, err)
	}
	return nil
}

func walkZip(archive string, read func(string, fs.FileInfo, io.Reader) error) (err error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	for _, f := range z.File {
		if !f.Mode().IsRegular() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		if err := errors.Join(read(f.Name, f.FileInfo(), r), r.Close()); err != nil {
			return err
		}
	}
	return nil
}

func walkTar(archive string, read func(string, fs.FileInfo, io.Reader) error) (err error) {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := read(h.Name, h.FileInfo(), r); err != nil {
			return err
		}
	}
}
