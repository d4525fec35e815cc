package sqlite

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// seen identifies a file as it was when it was looked at: any change to its
// content changes its ctime.
type seen struct {
	Dev   uint64 `json:"dev"`
	Ino   uint64 `json:"ino"`
	Ctime int64  `json:"ctime"` // nanoseconds
}

// rejects is the files that were found to be no databases, oldest first.
type rejects struct {
	order []seen
	has   map[seen]bool
}

// maxRejects bounds the list. Beyond it the oldest are forgotten, which costs
// another look.
const maxRejects = 200_000

const rejectsName = "sqlite-rejected"

func (r *rejects) add(s seen) {
	if r.has == nil {
		r.has = make(map[seen]bool)
	}
	if r.has[s] {
		return
	}
	if len(r.order) >= maxRejects {
		drop := len(r.order) / 10
		for _, old := range r.order[:drop] {
			delete(r.has, old)
		}
		r.order = append([]seen(nil), r.order[drop:]...)
	}
	r.order = append(r.order, s)
	r.has[s] = true
}

// parseRejects reads the list: a line for each file, with its device, inode and
// ctime. What does not look like that ends the list, as after a power cut.
func parseRejects(in io.Reader) *rejects {
	r := &rejects{}
	lines := bufio.NewScanner(in)
	for n := 0; n < maxRejects && lines.Scan(); n++ {
		var s seen
		if n, err := fmt.Sscanf(lines.Text(), "%d %d %d", &s.Dev, &s.Ino, &s.Ctime); n != 3 || err != nil {
			break
		}
		r.add(s)
	}
	return r
}

func (r *rejects) write(out io.Writer) error {
	w := bufio.NewWriter(out)
	for _, s := range r.order {
		fmt.Fprintf(w, "%d %d %d\n", s.Dev, s.Ino, s.Ctime)
	}
	return w.Flush()
}

// loadRejects reads the list kept in dir. Without one, or without a dir, it is
// empty: then every candidate is looked at.
func loadRejects(dir string) (*rejects, error) {
	if dir == "" {
		return &rejects{}, nil
	}
	f, err := os.Open(filepath.Join(dir, rejectsName))
	if errors.Is(err, fs.ErrNotExist) {
		return &rejects{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseRejects(f), nil
}

// save keeps the list in dir, whole or not at all.
func (r *rejects) save(dir string) error {
	f, err := os.CreateTemp(dir, rejectsName+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = r.write(f)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return os.Rename(f.Name(), filepath.Join(dir, rejectsName))
}
