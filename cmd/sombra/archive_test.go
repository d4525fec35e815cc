package main

import (
	"archive/zip"
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
)

// TestZipKeepsTheBytesOfNames: a name that is UTF-8 says that it is, and any
// other one does not and has the bytes it had.
func TestZipKeepsTheBytesOfNames(t *testing.T) {
	names := []string{"plain", "\xff\xfe-latin", "caf\xe9/x", "ünï", "new\nline", "-n", "back\\slash"}
	var b bytes.Buffer
	a := newZipArchive(&b)
	for _, name := range names {
		w, err := a.add(name, &repository.Entry{Path: name, Type: repository.Regular, Mode: 0o4755, ModTime: time.Unix(1e9, 0)})
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if _, err := io.WriteString(w, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	const utf8Mark = 0x800
	for i, f := range r.File {
		legacy := i == 1 || i == 2
		if f.Name != names[i] || f.NonUTF8 != legacy || legacy && f.Flags&utf8Mark != 0 || names[i] == "ünï" && f.Flags&utf8Mark == 0 {
			t.Errorf("%q is in the archive as %q, NonUTF8 %v, flags %#x", names[i], f.Name, f.NonUTF8, f.Flags)
		}
	}
}
