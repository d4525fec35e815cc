package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sombra-backup/sombra/repository"
)

const pageSize = 8 << 10

// treeSize counts what is in a directory.
type treeSize struct{ files, bytes int64 }

// each calls f for the regular files below a directory, and for the directory
// itself if it is a file.
func each(root string, f func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return f(path, info)
	})
}

func sizeOf(root string) (s treeSize, err error) {
	err = each(root, func(_ string, info fs.FileInfo) error {
		s.files++
		s.bytes += info.Size()
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return treeSize{}, nil
	}
	return s, err
}

// warm reads everything below a directory, so that it is in memory for
// whichever tool comes first.
func warm(root string) error {
	buf := make([]byte, 1<<20)
	return each(root, func(path string, _ fs.FileInfo) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
		return err
	})
}

// words are what the made data's text is of.
var words = strings.Fields(`account address amount archive balance batch branch buyer cancelled catalogue city claim closed
comment company contact contract country created credit currency customer date debit default delivered department discount due
email employee entry error event expired export failed first flag group height history import index invoice item journal label
language last ledger length level limit line linked location login mail manager market member message method model month name
network notice number offer office open order origin owner paid parent partner payment pending period person phone place plan
point policy position price primary product profile project quantity quarter range rate reason record reference refund region
report request result return role route row sale schedule score section seller sequence service session shipped source staff
start state status stock store street subject supplier table target tax team terms ticket time title total transfer type unit
updated user value vendor version visit volume warehouse weight width year zone`)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)) }

// makePage fills a page as a database does: a header, pointers to rows that
// grow down from the end, numbers and text in the rows, and free space between,
// which compresses to some 40 %.
func makePage(page []byte, number uint64, r *rand.Rand) {
	clear(page)
	binary.LittleEndian.PutUint64(page[0:], r.Uint64()>>20) // log sequence number
	binary.LittleEndian.PutUint32(page[8:], r.Uint32())     // checksum
	free := pageSize/20 + r.IntN(pageSize/5)
	lower, upper := 24, len(page)
	for row := uint64(0); ; row++ {
		size := 60 + r.IntN(160)
		if upper-size-lower-4 < free {
			break
		}
		upper -= size
		binary.LittleEndian.PutUint16(page[lower:], uint16(upper))
		binary.LittleEndian.PutUint16(page[lower+2:], uint16(size))
		lower += 4
		makeRow(page[upper:upper+size], number<<8|row, r)
	}
	binary.LittleEndian.PutUint16(page[12:], uint16(lower))
	binary.LittleEndian.PutUint16(page[14:], uint16(upper))
}

func makeRow(row []byte, key uint64, r *rand.Rand) {
	binary.LittleEndian.PutUint64(row, key)
	binary.LittleEndian.PutUint64(row[8:], 1_700_000_000_000_000+r.Uint64N(1<<46)) // a time
	binary.LittleEndian.PutUint64(row[16:], r.Uint64())                            // a reference
	for at := 24; at < len(row); {
		at += copy(row[at:], words[r.IntN(len(words))])
		if at < len(row) {
			row[at] = ' '
			at++
		}
	}
}

// makeDatabase writes a file of the given number of pages.
func makeDatabase(path string, pages int64) error { return makePages(path, pages, 1) }

// makePages makes a file of pages; another seed makes others.
func makePages(path string, pages int64, seed uint64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := newRand(seed)
	buf := make([]byte, 128*pageSize)
	for at := int64(0); at < pages; {
		n := min(pages-at, 128)
		for i := range n {
			makePage(buf[i*pageSize:(i+1)*pageSize], uint64(at+i), r)
		}
		if _, err := f.Write(buf[:n*pageSize]); err != nil {
			return err
		}
		at += n
	}
	return f.Close()
}

// changePages writes one page in a hundred anew, chosen at random, and says
// which ranges that were.
func changePages(path string, seed uint64) (changed []repository.Range, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	pages := info.Size() / pageSize
	r := newRand(seed)
	chosen := map[int64]bool{}
	for int64(len(chosen)) < max(pages/100, 1) {
		chosen[r.Int64N(pages)] = true
	}
	page := make([]byte, pageSize)
	for n := range chosen {
		changed = append(changed, repository.Range{Offset: n * pageSize, Length: pageSize})
	}
	slices.SortFunc(changed, func(a, b repository.Range) int { return int(a.Offset/pageSize - b.Offset/pageSize) })
	for _, c := range changed {
		makePage(page, uint64(c.Offset/pageSize), r)
		if _, err := f.WriteAt(page, c.Offset); err != nil {
			return nil, err
		}
	}
	return changed, f.Close()
}

// makeSmallFiles makes files of 100 bytes to 8 KiB, 100 in a directory.
func makeSmallFiles(root string, files int64) error {
	r := newRand(2)
	page := make([]byte, pageSize)
	dir := ""
	for n := range files {
		if n%100 == 0 {
			dir = filepath.Join(root, fmt.Sprintf("%03d", n/100/100), fmt.Sprintf("%03d", n/100%100))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		size := 100 + r.IntN(1900)
		if r.IntN(10) == 0 {
			size = 100 + r.IntN(pageSize-100)
		}
		makeRow(page[:size], uint64(n), r)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%06d.txt", n)), page[:size], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// changeFiles changes a few bytes of one file in a hundred, in place.
func changeFiles(root string, seed uint64) (changed treeSize, err error) {
	r := newRand(seed)
	noise := make([]byte, 4<<10)
	err = each(root, func(path string, info fs.FileInfo) error {
		if r.IntN(100) != 0 || info.Size() == 0 {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			return nil
		}
		changed.files++
		changed.bytes += info.Size()
		for i := range noise {
			noise[i] = byte(r.Uint32())
		}
		n := min(info.Size(), int64(len(noise)))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteAt(noise[:n], r.Int64N(info.Size()-n+1)); err != nil {
			return err
		}
		return f.Close()
	})
	if err == nil && changed.files == 0 {
		err = errors.New("no file was changed: the tree is too small")
	}
	return changed, err
}

// same compares the regular files of two trees, or two files.
func same(a, b string) error {
	want, err := sizeOf(a)
	if err != nil {
		return err
	}
	got, err := sizeOf(b)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s has %d files of %d bytes, and %s %d files of %d bytes", a, want.files, want.bytes, b, got.files, got.bytes)
	}
	return each(a, func(path string, info fs.FileInfo) error {
		rel, err := filepath.Rel(a, path)
		if err != nil {
			return err
		}
		return sameFile(path, filepath.Join(b, rel))
	})
}

func sameFile(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(fa, bufA)
		m, errB := io.ReadFull(fb, bufB)
		if n != m || !bytes.Equal(bufA[:n], bufB[:m]) {
			return fmt.Errorf("%s and %s differ", a, b)
		}
		if errA == io.EOF || errA == io.ErrUnexpectedEOF {
			return nil
		}
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
	}
}
