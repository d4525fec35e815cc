package requester_test

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

func statOf(t *testing.T, path string) *syscall.Stat_t {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t)
}

// noise is data that does not compress.
func noise(n int, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 3))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// TestHolesComeBackAsHolesAndZerosAsData: a file takes the room that it took.
func TestHolesComeBackAsHolesAndZerosAsData(t *testing.T) {
	w := newWorld(t)
	const size = 64 << 20
	for name, at := range map[string]int64{"begin": 0, "middle": 32 << 20, "end": size - 1<<20} {
		f, err := os.Create(w.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte(noise(1<<20, 1)), at); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	w.write("zeros", string(make([]byte, 4<<20)))
	if err := os.Truncate(w.path("zeros"), 4<<20); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(w.path("hole"))
	if err != nil {
		t.Fatal(err)
	}
	f.Truncate(size)
	f.Close()
	before := tree(t, w.dir)
	res := w.backup(w.paths())
	w.wipe()
	if back := w.restore(res.Record, requester.RestoreRequest{}); back.Outcome != requester.Complete {
		t.Fatalf("outcome %v: %+v", back.Outcome, back.Failures)
	}
	diffTrees(t, tree(t, w.dir), before)
	for name, data := range map[string]int64{"begin": 1 << 20, "middle": 1 << 20, "end": 1 << 20, "hole": 0} {
		// Some file systems keep a few blocks of their own.
		if got := statOf(t, w.path(name)).Blocks * 512; got < data || got > data+256<<10 {
			t.Errorf("%s takes %d bytes on disk, its data has %d", name, got, data)
		}
	}
	if got := statOf(t, w.path("zeros")).Blocks * 512; got < 4<<20 {
		t.Errorf("zeros that were written take %d bytes on disk", got)
	}
}

// TestFilesInPlaceAreNotRewritten: neither the bytes nor the attributes of a
// file that is as it was are touched, so that its inode and its change time
// stay. One of the same size and time with other bytes is found and replaced.
func TestFilesInPlaceAreNotRewritten(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		w.write(fmt.Sprintf("f%02d", i), noise(i*100_000, uint64(i)))
	}
	if err := os.Symlink("f01", w.path("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(w.path("f02"), w.path("f02-too")); err != nil {
		t.Fatal(err)
	}
	before := tree(t, w.dir)
	res := w.backup(w.paths())
	stats := map[string]*syscall.Stat_t{}
	for name := range before {
		if name != "." {
			stats[name] = statOf(t, w.path(name))
		}
	}
	// One with the same size and time and another byte, one changed, one gone,
	// one with another mode.
	info, err := os.Stat(w.path("f10"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(w.path("f10"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	f.ReadAt(b[:], 500_000)
	b[0] ^= 1
	f.WriteAt(b[:], 500_000)
	f.Close()
	if err := os.Chtimes(w.path("f10"), info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	w.write("f11", "something else")
	if err := os.Remove(w.path("f12")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(w.path("f13"), 0o600); err != nil {
		t.Fatal(err)
	}
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Complete {
		t.Fatalf("outcome %v: %+v", back.Outcome, back.Failures)
	}
	diffTrees(t, tree(t, w.dir), before)
	touched := map[string]bool{"f10": true, "f11": true, "f12": true, "f13": true}
	for name, was := range stats {
		now := statOf(t, w.path(name))
		if same := now.Ino == was.Ino && now.Ctim == was.Ctim; same == touched[name] && now.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			t.Errorf("%s: inode %d and then %d, changed %v and then %v", name, was.Ino, now.Ino, was.Ctim, now.Ctim)
		}
	}
	if now := statOf(t, w.path("f13")); now.Ino != stats["f13"].Ino {
		t.Error("a file that lacked only its mode was rewritten")
	}
}

// callLog notes what is done to a target's files.
type callLog struct {
	mu    sync.Mutex
	calls []string
}

func (l *callLog) add(call string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, call)
}

type loggedSession struct {
	session.Session
	log *callLog
}

func (s loggedSession) Target(ctx context.Context, dir string, roots []string) (session.Target, error) {
	t, err := s.Session.Target(ctx, dir, roots)
	return loggedTarget{t, s.log}, err
}

type loggedTarget struct {
	session.Target
	log *callLog
}

func (t loggedTarget) Create(ctx context.Context, name string) (session.NewFile, error) {
	f, err := t.Target.Create(ctx, name)
	return loggedFile{f, filepath.Base(name), t.log}, err
}

func (t loggedTarget) Sync(ctx context.Context) error {
	t.log.add("sync")
	return t.Target.Sync(ctx)
}

type loggedFile struct {
	session.NewFile
	name string
	log  *callLog
}

func (f loggedFile) WriteAt(p []byte, off int64) (int, error) {
	f.log.add("write " + f.name)
	return f.NewFile.WriteAt(p, off)
}

func (f loggedFile) Commit(ctx context.Context, e session.Entry) error {
	f.log.add("commit " + f.name)
	return f.NewFile.Commit(ctx, e)
}

// TestWhatIsReplacedIsReplacedByWhatIsDurable: the file system was asked to write
// a file's bytes before the file takes the place of another one; and many files
// wait for one such call. New files need none before the end.
func TestWhatIsReplacedIsReplacedByWhatIsDurable(t *testing.T) {
	w := newWorld(t)
	for i := range 600 {
		w.write(fmt.Sprintf("old%03d", i), noise(1000, uint64(i)))
		w.write(fmt.Sprintf("dir/new%03d", i), noise(1000, uint64(1000+i)))
	}
	before := tree(t, w.dir)
	res := w.backup(w.paths())
	if err := os.RemoveAll(w.path("dir")); err != nil {
		t.Fatal(err)
	}
	for i := range 600 {
		w.write(fmt.Sprintf("old%03d", i), "damaged")
	}
	log := &callLog{}
	open := func(ctx context.Context) (session.Session, error) {
		s, err := w.open(ctx)
		return loggedSession{s, log}, err
	}
	back, err := requester.Restore(t.Context(), open, w.repo, res.Record, requester.RestoreRequest{}, nil)
	if err != nil || back.Outcome != requester.Complete {
		t.Fatalf("%v: %v", back.Outcome, err)
	}
	diffTrees(t, tree(t, w.dir), before)
	syncs, dirty := 0, map[string]bool{}
	for _, call := range log.calls {
		word, name, _ := strings.Cut(call, " ")
		switch word {
		case "sync":
			syncs++
			clear(dirty)
		case "write":
			dirty[name] = true
		case "commit":
			if strings.HasPrefix(name, "old") && dirty[name] {
				t.Errorf("%s took its place before its bytes were durable", name)
			}
		}
	}
	if last := log.calls[len(log.calls)-1]; last != "sync" {
		t.Errorf("the last call is %q", last)
	}
	if syncs < 2 || syncs > 4 {
		t.Errorf("%d syncs for 600 files replaced and 600 new ones", syncs)
	}
}

// TestRestoreOverWhatAnInterruptedOneLeft runs a restore in place that is stopped
// at many moments, and then again: what was there is old or new at each of them,
// and all is there in the end.
func TestRestoreOverWhatAnInterruptedOneLeft(t *testing.T) {
	w := newWorld(t)
	for i := range 60 {
		w.write(fmt.Sprintf("d%d/f%02d", i%5, i), noise(i*3000, uint64(i)))
	}
	before := tree(t, w.dir)
	res := w.backup(w.paths())
	old := map[string]string{}
	for i := range 60 {
		name := fmt.Sprintf("d%d/f%02d", i%5, i)
		old[name] = fmt.Sprint("old content of ", i)
		w.write(name, old[name])
	}
	for after := int64(1); after < 60; after += 15 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		stop := &stopper{after: after, stop: cancel}
		requester.Restore(ctx, w.open, w.repo, res.Record, requester.RestoreRequest{}, stop)
		cancel()
		for i := range 60 {
			name := fmt.Sprintf("d%d/f%02d", i%5, i)
			got, err := os.ReadFile(w.path(name))
			if err != nil || string(got) != old[name] && string(got) != noise(i*3000, uint64(i)) {
				t.Errorf("after %d files %s is neither old nor new (%d bytes, %v)", after, name, len(got), err)
			}
		}
		noTemporaries(t, w.dir)
	}
	if back := w.restore(res.Record, requester.RestoreRequest{}); back.Outcome != requester.Complete {
		t.Fatalf("outcome %v: %+v", back.Outcome, back.Failures)
	}
	diffTrees(t, tree(t, w.dir), before)
}

func noTemporaries(t *testing.T, dir string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), ".sombra") {
			t.Errorf("%s was left behind", path)
		}
		return nil
	})
}

// TestAFileInPlaceIsGivenNothingThatAnotherCouldGet: equal bytes under the name of
// a file do not make it that file. One that has a name elsewhere keeps its
// attributes, and none gets a privilege in place.
func TestAFileInPlaceIsGivenNothingThatAnotherCouldGet(t *testing.T) {
	w := newWorld(t)
	w.write("own", "the same bytes")
	w.write("tool", "a program")
	if err := syscall.Mkfifo(w.path("pipe"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(w.path("tool"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	before := tree(t, w.dir)
	res := w.backup(w.paths())
	info, err := os.Stat(w.path("own"))
	if err != nil {
		t.Fatal(err)
	}
	outside := w.dir + "-outside"
	if err := os.WriteFile(outside, []byte("the same bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chtimes(outside, info.ModTime(), info.ModTime()), os.Remove(w.path("own")),
		os.Link(outside, w.path("own")), os.Chmod(w.path("tool"), 0o755),
		os.Remove(w.path("pipe")), syscall.Mkfifo(outside+"-pipe", 0o600), os.Link(outside+"-pipe", w.path("pipe"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	other, tool := statOf(t, outside), statOf(t, w.path("tool"))
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Complete {
		t.Fatalf("outcome %v: %+v", back.Outcome, back.Failures)
	}
	diffTrees(t, tree(t, w.dir), before)
	if now := statOf(t, outside); now.Mode != other.Mode {
		t.Errorf("a file outside of what is restored got the mode %#o", now.Mode)
	}
	if now := statOf(t, outside+"-pipe"); now.Mode&0o777 != 0o600 || now.Nlink != 1 {
		t.Errorf("a pipe outside of what is restored has the mode %#o and %d names", now.Mode, now.Nlink)
	}
	if statOf(t, w.path("own")).Ino == other.Ino {
		t.Error("a file with a name elsewhere was not replaced")
	}
	if now := statOf(t, w.path("tool")); now.Ino == tool.Ino {
		t.Error("the file in place was made one with privileges")
	}
}
