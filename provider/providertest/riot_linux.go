package providertest

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

// rioters is how many threads of the riot change the same few names.
const rioters = 4

// riot makes, removes and replaces a few names in dir as fast as it can: what
// was a file is a directory a moment later, a link, a pipe, a socket, a file
// nobody may read, or nothing. Several threads do so at the same time, and their
// errors mean nothing.
func riot(dir, ack string) error {
	c, err := openCounter(ack)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	failed := make(chan error)
	for seed := range rioters {
		go func() {
			r := rand.New(rand.NewPCG(uint64(seed), 7))
			for {
				riotOnce(filepath.Join(dir, fmt.Sprint("r", r.IntN(8))), r)
				mu.Lock()
				err := c.done()
				mu.Unlock()
				if err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

func riotOnce(name string, r *rand.Rand) {
	other := filepath.Join(filepath.Dir(name), fmt.Sprint("r", r.IntN(8)))
	switch r.IntN(14) {
	case 0:
		os.RemoveAll(name)
		if os.Mkdir(name, 0o700) == nil {
			os.WriteFile(filepath.Join(name, "inside"), []byte("x"), 0o600)
		}
	case 1:
		os.RemoveAll(name)
		// Out of the directory, but to nothing that matters: the other
		// steps write through it.
		os.Symlink(filepath.Join(filepath.Dir(filepath.Dir(name)), "outside"), name)
	case 2:
		os.RemoveAll(name)
		unix.Mkfifo(name, 0o600)
	case 3:
		os.RemoveAll(name)
		if l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"}); err == nil {
			l.SetUnlinkOnClose(false)
			l.Close()
		}
	case 4:
		os.Rename(name, other)
	case 5:
		unix.Renameat2(unix.AT_FDCWD, name, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
	case 6:
		os.Link(name, other)
	case 7:
		os.RemoveAll(name)
	case 8:
		// Not readable for a moment.
		os.Chmod(name, 0)
		os.Chmod(name, 0o700)
	case 9, 10:
		os.Truncate(name, int64(r.IntN(200_000)))
	default:
		b := make([]byte, 1+r.IntN(100_000))
		for i := 0; i < len(b); i += 64 {
			b[i] = byte(r.Uint32())
		}
		if writeAt(name, b, int64(r.IntN(100_000))) != nil {
			os.RemoveAll(name)
			writeAt(name, b, 0)
		}
	}
}

// testRiot: before the hold, whatever an application does to its files is its
// right and fails nothing. In the hold, with the application stopped, the copy
// is exact.
func testRiot(t *testing.T, f *fixture) {
	must(t, os.MkdirAll(f.path("data"), 0o755))
	for i := range 8 {
		f.write(t, fmt.Sprint("data/still", i), strings.Repeat("s", 50_000))
	}
	w := start(t, "riot", f.path("data"))
	for round := range rounds(8, 80) {
		w.progress(50)
		req := f.request()
		m := f.begin(t, req)
		m.must(t, "EndPrepare")
		for range 10 {
			w.progress(5)
			m.must(t, "Refresh")
		}
		w.stop()
		if closed := unreadable(f.path("data")); len(closed) > 0 {
			// It was stopped between two steps of its own. Then there is
			// no copy, and the error says of what.
			must(t, m.do(t, "PreCommit"))
			err := m.do(t, "Commit")
			named := func(p string) bool { return err != nil && strings.Contains(err.Error(), p) }
			if f.caps.NeedsScope && !slices.ContainsFunc(closed, named) {
				t.Errorf("Commit: %v; want an error that names one of %q, which cannot be read", err, closed)
			}
			w.resume()
			must(t, m.snap.Abort(t.Context()))
			continue
		}
		m.must(t, "PreCommit", "Commit")
		want := capture(t, f.v.Root, req.Scope, false)
		w.resume()
		m.must(t, "PostCommit")
		got := shown(t, m.copied, req.Scope, false)
		for _, s := range []map[string]state{got, want} {
			for p, v := range s {
				v.data = "" // buffered data has no place yet
				s[p] = v
			}
		}
		sameState(t, got, want)
		if len(m.copied.Moved) != 0 {
			t.Errorf("says that %q moved, though the program was stopped", m.copied.Moved)
		}
		must(t, f.p.Delete(t.Context(), req.Ref))
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	w.kill()
	f.nothingLeft(t, "at the end")
}

// unreadable finds the files that this user may not read.
func unreadable(dir string) (names []string) {
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && (d.Type().IsRegular() || d.IsDir()) {
			err = unix.Access(p, unix.R_OK)
		}
		if err != nil {
			names = append(names, p)
		}
		return nil
	})
	return names
}

// rounds is how often a test that meets a race by chance tries: many times if
// SOMBRA_TORTURE is 1.
func rounds(usual, torture int) int {
	if os.Getenv("SOMBRA_TORTURE") == "1" {
		return torture
	}
	return usual
}

// flipDirs is how many directories lie between the two that flip uses.
const flipDirs = 300

// testMoves: what moves in Commit although it was said to be still is named, or
// Commit fails; it is never taken for a copy of one instant.
func testMoves(t *testing.T, f *fixture) {
	if !f.caps.NeedsScope {
		return // it takes everything at once
	}
	for i := range flipDirs {
		f.write(t, fmt.Sprintf("data/d%03d/x.log", i), "x")
	}
	for _, pattern := range []string{"*", "*.log"} {
		w := start(t, "flip", f.path("data"))
		wrong := 0
		for range rounds(8, 100) {
			w.progress(3)
			req := f.request()
			req.Scope.Claims[0].Files = []provider.FileSet{{Dir: "data", Pattern: pattern, Recursive: true}}
			m := f.prepared(t, req)
			m.must(t, "PreCommit")
			if err := m.do(t, "Commit"); err != nil {
				if vss.CodeOf(err) == vss.ErrUnexpected {
					t.Errorf("an error without a code: %v", err)
				}
				must(t, m.snap.Abort(t.Context()))
				continue
			}
			m.must(t, "PostCommit")
			first := present(m.copied.Root, "data/d000/flip.log")
			last := present(m.copied.Root, fmt.Sprintf("data/d%03d/flip.log", flipDirs-1))
			if first == last {
				wrong++
				if !slices.ContainsFunc(m.copied.Moved, func(p string) bool { return path.Base(p) == "flip.log" }) {
					t.Errorf("a file that is always in one of two directories is in both of the copy's: %v; moved is said to be %q", first, m.copied.Moved)
				}
			}
			must(t, f.p.Delete(t.Context(), req.Ref))
		}
		w.kill()
		t.Logf("pattern %s: %d copies were not of one instant", pattern, wrong)
	}
}

func present(root, name string) bool {
	_, err := os.Lstat(filepath.Join(root, name))
	return err == nil
}

// flip moves a file from the first directory to the last and back.
func flip(dir, ack string) error {
	c, err := openCounter(ack)
	if err != nil {
		return err
	}
	here, there := filepath.Join(dir, "d000", "flip.log"), filepath.Join(dir, fmt.Sprintf("d%03d", flipDirs-1), "flip.log")
	os.Remove(there)
	if err := os.WriteFile(here, []byte("x"), 0o600); err != nil {
		return err
	}
	for {
		if err := os.Rename(here, there); err != nil {
			return err
		}
		here, there = there, here
		time.Sleep(2 * time.Millisecond)
		if err := c.done(); err != nil {
			return err
		}
	}
}
