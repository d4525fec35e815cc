package requester_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

// mapFile maps a file of the world into memory.
func (w *world) mapFile(name string, size int) []byte {
	w.t.Helper()
	f, err := os.OpenFile(w.path(name), os.O_RDWR, 0)
	w.must(err)
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	w.must(err)
	w.t.Cleanup(func() { unix.Munmap(m) })
	return m
}

// TestStoresThroughAMemoryMapAreSeenByTheNextBackup also where the kernel tells
// nobody of them: of those into a page that was written to before, and on tmpfs of
// all.
func TestStoresThroughAMemoryMapAreSeenByTheNextBackup(t *testing.T) {
	voltest.Need(t, "ext4", "xfs", "btrfs")
	for name, make := range map[string]func() *voltest.Volume{
		"ext4":    func() *voltest.Volume { return voltest.Ext4(t, 0) },
		"xfs":     func() *voltest.Volume { return voltest.XFS(t, 0) },
		"btrfs":   func() *voltest.Volume { return voltest.Btrfs(t, 0) },
		"tmpfs":   func() *voltest.Volume { return voltest.Tmpfs(t, 64<<20) },
		"overlay": func() *voltest.Volume { return voltest.Overlay(t, voltest.Ext4(t, 0)) },
	} {
		v := make()
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			w := newWorldIn(t, filepath.Join(v.Root, "data"))
			w.write("mapped", strings.Repeat("-", 8<<10))
			w.write("other", "other")
			m := w.mapFile("mapped", 8<<10)
			m[0] = '1'
			time.Sleep(young)
			first := w.entries(w.backup(w.paths()).Record)["mapped"]
			m[0] = '2' // the page was written to before
			second := w.backup(w.paths())
			m[1] = '2'
			time.Sleep(young)
			third := w.entries(w.backup(w.paths()).Record)["mapped"]
			for i, got := range []string{first, w.entries(second.Record)["mapped"], third} {
				if want := fmt.Sprintf(" %x", []string{"1-", "2-", "22"}[i]); !strings.Contains(got, want+"2d2d2d") {
					t.Errorf("backup %d has %.300s, want bytes that begin with%s", i+1, got[max(0, len(got)-200):], want)
				}
			}
			if tells := name != "tmpfs" && name != "overlay"; tells != (second.Totals.Unchanged > 0) {
				t.Errorf("%d files were taken over; that times tell is %v there", second.Totals.Unchanged, tells)
			}
		})
	}
}

// TestAFileThatIsStoredToAllTheTimeIsNotSaved: no mixture of many states is taken
// for a file, where the times tell.
func TestAFileThatIsStoredToAllTheTimeIsNotSaved(t *testing.T) {
	voltest.Need(t, "ext4")
	w := newWorldIn(t, filepath.Join(voltest.Ext4(t, 0).Root, "data"))
	const size = 16 << 20
	w.write("mapped", strings.Repeat("-", size))
	w.write("other", "other")
	m := w.mapFile("mapped", size)
	stop, ended := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				m[0]++
				m[size-1]++
			}
		}
	}()
	res := w.backup(w.paths())
	close(stop)
	<-ended
	if res.Outcome != requester.Incomplete || len(res.Failures) != 1 || !strings.Contains(res.Failures[0].Error, "changed while it was read") {
		t.Errorf("outcome %v, failures %+v: it was changed during the reading", res.Outcome, res.Failures)
	}
}

// lateFS is a file system of another machine, with a clock that is an hour behind and
// makes a step a day: its times say nothing.
type lateFS struct{ fs.LoopbackNode }

var lateTime = uint64(time.Now().Add(-time.Hour).Unix())

func late(a *fuse.Attr) {
	a.Mtime, a.Mtimensec, a.Ctime, a.Ctimensec = lateTime, 0, lateTime, 0
}

func (n *lateFS) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	err := n.LoopbackNode.Getattr(ctx, f, out)
	late(&out.Attr)
	return err
}

func (n *lateFS) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	ch, err := n.LoopbackNode.Lookup(ctx, name, out)
	late(&out.Attr)
	return ch, err
}

// Statx is answered by Getattr.
func (n *lateFS) Statx(context.Context, fs.FileHandle, uint32, uint32, *fuse.StatxOut) syscall.Errno {
	return syscall.ENOSYS
}

func TestTimesOfAnotherClockAreNotBelieved(t *testing.T) {
	voltest.Need(t)
	under, at := t.TempDir(), filepath.Join(scratch(t), "data")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	root := &fs.LoopbackRoot{Path: under}
	root.NewNode = func(r *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &lateFS{fs.LoopbackNode{RootData: r}}
	}
	server, err := fs.Mount(at, root.NewNode(root, nil, "", nil), &fs.Options{MountOptions: fuse.MountOptions{DirectMount: true, FsName: "far"}})
	if err != nil {
		t.Fatalf("mount FUSE: %v", err)
	}
	defer func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
	}()
	w := newWorldIn(t, at)
	w.write("file", "one")
	w.write("dir/file", "one")
	w.must(os.Symlink("file", w.path("link")))
	time.Sleep(young)
	first := w.backup(w.paths())
	w.write("file", "two") // another size would show
	second := w.backup(w.paths())
	if first.Outcome != requester.Complete || second.Outcome != requester.Complete {
		t.Fatalf("outcomes %v, %v: %+v", first.Outcome, second.Outcome, second.Failures)
	}
	e := w.entries(second.Record)
	if !strings.HasSuffix(e["file"], fmt.Sprintf(" %x", "two")) || second.Totals.Unchanged != 0 || !strings.Contains(e["link"], "LinkTarget:file") {
		t.Errorf("%d files taken over; %s, %s", second.Totals.Unchanged, e["file"], e["link"])
	}
	if src := session.FromLive.String(); !strings.Contains(e["file"], src) {
		t.Errorf("it was not read live: %s", e["file"])
	}
}
