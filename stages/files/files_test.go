// SPDX-License-Identifier: Apache-2.0

package files

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine/content/store"
)

func write(t *testing.T, list ...File) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := Write(&buf, list); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestWrite(t *testing.T) {
	list := []File{
		{Name: "b.yaml", Data: []byte("b")},
		{Name: "a/c/d.yaml", Data: []byte("d")},
		{Name: "a.yaml", Data: nil},
		{Name: "a/" + strings.Repeat("long/", 40) + "é.yaml", Data: []byte("long")}, // PAX
	}
	data := write(t, list...)

	tr := tar.NewReader(bytes.NewReader(data))
	var names []string
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		mode := int64(0o644)
		if h.Typeflag == tar.TypeDir {
			mode = 0o755
		}
		if h.Mode != mode || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("header of %s: %+v", h.Name, h)
		}
		if len(h.Name) < 100 && h.Format != tar.FormatUSTAR {
			t.Errorf("%s is %s", h.Name, h.Format)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("not in order: %q", names)
	}
	if diff := cmp.Diff([]string{"a.yaml", "a/", "a/c/", "a/c/d.yaml", "a/long/"}, names[:5]); diff != "" {
		t.Error(diff)
	}
	if len(data)%512 != 0 || !bytes.Equal(data[len(data)-1024:], make([]byte, 1024)) || bytes.Equal(data[len(data)-1536:len(data)-1024], make([]byte, 512)) {
		t.Error("does not end in exactly two zero blocks")
	}

	slices.Reverse(list)
	if !bytes.Equal(write(t, list...), data) {
		t.Error("the order of the slice matters")
	}
	got, err := Read(bytes.NewReader(data), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	if diff := cmp.Diff(list, got, cmp.Comparer(bytes.Equal)); diff != "" {
		t.Errorf("read back: %s", diff)
	}
}

func TestWriteEmpty(t *testing.T) {
	if data := write(t); !bytes.Equal(data, make([]byte, 1024)) {
		t.Errorf("%d bytes", len(data))
	}
}

func TestWriteRefuses(t *testing.T) {
	for want, list := range map[string][]File{
		`two files are named "a"`:         {{Name: "a"}, {Name: "b"}, {Name: "a"}},
		`"a" is both a file and a folder`: {{Name: "a/b"}, {Name: "a"}},
		`"../a" is not relative`:          {{Name: "../a"}},
		`"/a" is not relative`:            {{Name: "/a"}},
		`"" is not relative`:              {{Name: ""}},
		`"a/" is not relative`:            {{Name: "a/"}},
		`"a//b" is not relative`:          {{Name: "a//b"}},
		`"./a" is not relative`:           {{Name: "./a"}},
	} {
		if err := Write(io.Discard, list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// archive returns a tar with the given headers, valid or not.
func archive(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Read returns the files of a tar.
func Read(r io.Reader, limits Limits) (out []File, err error) {
	err = Each(r, limits, func(f File) error {
		out = append(out, f)
		return nil
	})
	return out, err
}

func TestRead(t *testing.T) {
	file := func(name string, size int64) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size}
	}
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
	limits := Limits{Files: 4, Bytes: 100}
	for name, c := range map[string]struct {
		headers []tar.Header
		want    []string
		err     string
	}{
		"dot entry":          {headers: []tar.Header{dir("."), dir("./"), dir("./d/"), file("./d/a", 1)}, want: []string{"d/a"}},
		"as large as may be": {headers: []tar.Header{file("a", 60), file("b", 40)}, want: []string{"a", "b"}},
		"too large":          {headers: []tar.Header{file("a", 60), file("b", 41)}, err: "more than 100 bytes"},
		"too many":           {headers: []tar.Header{dir("a"), dir("b"), dir("c"), dir("d"), dir("e")}, err: "more than 4 entries"},
		"twice":              {headers: []tar.Header{file("a", 1), file("./a", 1)}, err: `"a" twice`},
		"parent":             {headers: []tar.Header{file("../a", 1)}, err: "not relative and clean"},
		"hidden parent":      {headers: []tar.Header{file("a/../../b", 1)}, err: "not relative and clean"},
		"dot parent":         {headers: []tar.Header{file("./../a", 1)}, err: "not relative and clean"},
		"absolute":           {headers: []tar.Header{file("/etc/passwd", 1)}, err: "not relative and clean"},
		"absolute dir":       {headers: []tar.Header{dir("/etc/")}, err: "not relative and clean"},
		"parent dir":         {headers: []tar.Header{dir("../x/")}, err: "not relative and clean"},
		"symlink":            {headers: []tar.Header{{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc"}}, err: "neither a file nor a folder"},
		"hard link":          {headers: []tar.Header{{Name: "a", Typeflag: tar.TypeLink, Linkname: "b"}}, err: "neither a file nor a folder"},
		"device":             {headers: []tar.Header{{Name: "a", Typeflag: tar.TypeChar}}, err: "neither a file nor a folder"},
		"pipe":               {headers: []tar.Header{{Name: "a", Typeflag: tar.TypeFifo}}, err: "neither a file nor a folder"},
	} {
		got, err := Read(bytes.NewReader(archive(t, c.headers...)), limits)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", name, err, c.err)
			}
			continue
		}
		var names []string
		for _, f := range got {
			names = append(names, f.Name)
		}
		if diff := cmp.Diff(c.want, names); err != nil || diff != "" {
			t.Errorf("%s: %v, %s", name, err, diff)
		}
	}
}

// A header that promises a terabyte must not allocate it.
func TestReadPromises(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	data := buf.Bytes()
	if _, err := Read(bytes.NewReader(data), DefaultLimits()); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := Read(bytes.NewReader(data), Limits{Files: 1, Bytes: 1 << 50}); err == nil {
		t.Error("cut off: no error")
	}
}

func TestPutGet(t *testing.T) {
	ctx := context.Background()
	blobs := store.NewOverlay(nil)
	list := []File{{Name: "a", Data: []byte("1")}, {Name: "b/c", Data: []byte("2")}}
	desc, err := Put(ctx, blobs, list)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Get(ctx, blobs, desc)
	if diff := cmp.Diff(list, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	desc.MediaType = "text/plain"
	if _, err := Get(ctx, blobs, desc); err == nil || !strings.Contains(err.Error(), "text/plain") {
		t.Errorf("of another type: %v", err)
	}
}

// FuzzRead checks that all files read from any input have safe names, are within the
// limits, and can be written and read again.
func FuzzRead(f *testing.F) {
	var buf bytes.Buffer
	_ = Write(&buf, []File{{Name: "a.yaml", Data: []byte("kind: A")}, {Name: "d/é", Data: []byte("x")}})
	f.Add(buf.Bytes())
	for _, name := range []string{"../a", "/a", "./a", "a/../../b", strings.Repeat("x", 300)} {
		buf.Reset()
		w := tar.NewWriter(&buf)
		_ = w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 1})
		_, _ = w.Write([]byte("x"))
		_ = w.Close()
		f.Add(slices.Clone(buf.Bytes()))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		limits := Limits{Files: 10, Bytes: 1000}
		list, err := Read(bytes.NewReader(data), limits)
		if err != nil {
			return
		}
		var size int
		for _, file := range list {
			size += len(file.Data)
			if err := CheckName(file.Name); err != nil {
				t.Error(err)
			}
		}
		if size > 1000 || len(list) > 10 {
			t.Errorf("%d files of %d bytes", len(list), size)
		}
		var out bytes.Buffer
		if err := Write(&out, list); err != nil {
			if strings.Contains(err.Error(), "both a file and a folder") {
				return // Extract would fail as well
			}
			t.Fatal(err)
		}
		again, err := Read(&out, DefaultLimits())
		if err != nil || len(again) != len(list) {
			t.Errorf("written and read again: %d files, %v", len(again), err)
		}
	})
}

func Example() {
	var buf bytes.Buffer
	if err := Write(&buf, []File{{Name: "web/deployment.yaml", Data: []byte("kind: Deployment\n")}}); err != nil {
		fmt.Println(err)
		return
	}
	list, err := Read(&buf, DefaultLimits())
	fmt.Println(len(list), list[0].Name, err)
	// Output: 1 web/deployment.yaml <nil>
}

// TestLimits checks the limits when files are read and when they are packed.
func TestLimits(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("d/", n-1) + "f" }
	for name, c := range map[string]struct {
		list   []File
		limits Limits
		want   string
	}{
		"nothing":          {nil, Limits{}, ""},
		"as many as may":   {[]File{{Name: "a/f"}, {Name: "a/g"}}, Limits{Files: 3}, ""},
		"folders count":    {[]File{{Name: "a/f"}, {Name: "b/g"}}, Limits{Files: 3}, "more than 3"},
		"nested ones too":  {[]File{{Name: "a/b/f"}}, Limits{Files: 2}, "more than 2"},
		"a file":           {[]File{{Name: "f", Data: make([]byte, 11)}}, Limits{Files: 9, Bytes: 20, File: 10}, `"f" has 11 bytes, more than 10`},
		"a file, of all":   {[]File{{Name: "f", Data: make([]byte, 21)}}, Limits{Files: 9, Bytes: 20}, `"f" has 21 bytes, more than 20`},
		"several together": {[]File{{Name: "f", Data: make([]byte, 10)}, {Name: "g", Data: make([]byte, 11)}}, Limits{Files: 9, Bytes: 20}, "more than 20 bytes"},
		"levels":           {[]File{{Name: deep(255)}}, Limits{Files: 999}, ""},
	} {
		err := c.limits.Check(c.list)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: packed: %v, want %q", name, err, c.want)
		}
		_, err = Read(bytes.NewReader(write(t, c.list...)), c.limits)
		if name != "nothing" && (err == nil) != (c.want == "") {
			t.Errorf("%s: read: %v, want %q", name, err, c.want)
		}
	}
	for _, name := range []string{deep(256), deep(3000), strings.Repeat("n", 4097)} {
		if err := CheckName(name); err == nil || len(err.Error()) > 200 {
			t.Errorf("%d bytes: %v", len(name), err)
		}
	}
	for _, name := range []string{deep(255), strings.Repeat("n", 4096)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
}

// An error shortens a name that is too long.
func TestReadLongName(t *testing.T) {
	for _, kind := range []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeChar} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		if err := w.WriteHeader(&tar.Header{Typeflag: kind, Name: strings.Repeat("n", 1_000_000), Linkname: "x", Format: tar.FormatPAX}); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(&buf, DefaultLimits()); err == nil || len(err.Error()) > 200 {
			t.Errorf("type %q: %.300v", kind, err)
		}
	}
}

// Names are written into comments of YAML streams and printed: a name with a line end or a
// bidirectional control could add an object that no other reader sees.
func TestCheckNamePrintable(t *testing.T) {
	for _, name := range []string{
		"a\n---\nkind: Pod\n.yaml", "a\r.yaml", "a\x00", "a\x1b[2J.yaml", "a\x7f", "a\u0085.yaml", "a\u2028.yaml", "a\u2029.yaml",
		"a\u202elmay.b", "a\u2066.yaml", "a\xff.yaml", "d\t/a.yaml",
	} {
		if err := CheckName(name); err == nil || strings.ContainsFunc(err.Error(), unprintable) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"mit Leerzeichen.yaml", "日本語/ü.yaml", "e\u0301.yaml", "#.yaml", "👩\u200d💻.yaml"} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
}

// TestUnpack checks that files alias the tar, and that appending to one does not
// overwrite the next.
func TestUnpack(t *testing.T) {
	list := []File{{Name: "a.yaml", Data: []byte("a: 1\n")}, {Name: "d/empty", Data: []byte{}}, {Name: "d/" + strings.Repeat("n", 200), Data: []byte("long")}}
	data := write(t, list...)
	before := bytes.Clone(data)
	got, err := Unpack(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list, got); diff != "" {
		t.Error(diff)
	}
	for _, f := range got {
		if len(f.Data) > 0 && &f.Data[0] != &data[bytes.Index(data, f.Data)] {
			t.Errorf("%s was copied", f.Name)
		}
		_ = append(f.Data, "more"...)
	}
	if !bytes.Equal(before, data) {
		t.Error("appending to a file wrote to its neighbour")
	}
	if _, err := Unpack(data[:block+2]); err == nil {
		t.Error("a file that is cut off was taken")
	}
}

// The buffer of a file has the size of the file: neither the size in its header nor that of a
// growing buffer.
func TestEachSize(t *testing.T) {
	const size = 5 << 20 / 2
	data := write(t, File{Name: "a", Data: make([]byte, size)}, File{Name: "b"})
	var names []string
	err := Each(bytes.NewReader(data), DefaultLimits(), func(f File) error {
		names = append(names, f.Name)
		if cap(f.Data) > len(f.Data) {
			t.Errorf("%s: %d bytes in a buffer of %d", f.Name, len(f.Data), cap(f.Data))
		}
		return nil
	})
	if err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("files %v, error %v", names, err)
	}
	if _, err := Read(bytes.NewReader(data[:size]), DefaultLimits()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
	stop := errors.New("stop")
	if err := Each(bytes.NewReader(data), DefaultLimits(), func(File) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
}
