package local

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestLongDataIsWrittenWhole: whatever the length and the place in memory, and
// whether or not the file system can write directly, the file has the bytes.
func TestLongDataIsWrittenWhole(t *testing.T) {
	memory := make([]byte, 3*directLength)
	rand.NewChaCha8([32]byte{1}).Read(memory)
	dirs := []string{t.TempDir()}
	if dir, err := os.MkdirTemp("/dev/shm", "sombra-write-"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		// A misplaced buffer is what file systems refuse.
		for _, begin := range []int{0, 1, 512} {
			for _, n := range []int{0, 1, directLength - 1, directLength, directLength + 1, directLength + directBlock, 2*directLength + 4095} {
				data := memory[begin : begin+n]
				path := writeOne(t, dir, data)
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: %d bytes at %d of memory: read %d bytes, %v", dir, n, begin, len(got), err)
				}
			}
		}
	}
}

// writeOne writes a file in two strokes, the second a short one.
func writeOne(t *testing.T, dir string, data []byte) string {
	t.Helper()
	f, err := osFiles{}.CreateTemp(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cut := max(0, len(data)-10)
	for _, part := range [][]byte{data[:cut], data[cut:]} {
		if n, err := f.Write(part); err != nil || n != len(part) {
			t.Fatalf("write %d bytes: %d, %v", len(part), n, err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return filepath.Clean(f.Name())
}

// TestAFullDiskIsSaid: an error of a direct write is one of Put's.
func TestAFullDiskIsSaid(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here: ", err)
	}
	defer full.Close()
	if _, err := (directFile{full}).Write(make([]byte, 2*directLength)); err == nil {
		t.Error("a write to a full device succeeded")
	}
}
