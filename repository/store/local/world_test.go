package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
)

// What the tests on the model of a disk do with a repository on it, and what
// must be true of it at every instant.

// home is where the repository lies. Its folders were made just before, and
// nobody synced them.
const home = "/volume/new/repository"

var password = []byte("correct horse")

func options() repository.Options {
	return repository.Options{
		KDF:      repository.KDF{Time: 1, Memory: 64, Threads: 1},
		Chunking: repository.Chunking{Min: 512, Average: 2048, Max: 16384},
		PackSize: 16 << 10,
		Workers:  1,
	}
}

// unsyncedHome is a disk with the folders made and not synced.
func unsyncedHome(t *testing.T) *disk {
	d := newDisk("/volume")
	for _, dir := range []string{"/volume/new", home} {
		if err := d.Mkdir(dir); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// tree gives the files of the n-th backup: one large that changes in one place,
// one that stays, and some that are new.
func tree(n int) map[string][]byte {
	random := func(size int, seed uint64) []byte {
		p := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p)
		return p
	}
	large := random(40_000, 1)
	copy(large[20_000:20_100], random(100, uint64(100+n)))
	files := map[string][]byte{"large": large, "same": random(9_000, 2)}
	for i := range 3 {
		files[fmt.Sprint("new", i)] = random(15_000, uint64(1000+10*n+i))
	}
	return files
}

// made is a backup that was committed.
type made struct {
	id repository.ID
	n  int
}

// backup makes the n-th backup, on top of another if there is one. It stops
// half-way, without a record, if asked to.
func backup(ctx context.Context, r *repository.Repository, base *repository.Record, n int, half bool) (*repository.Record, error) {
	b, err := r.Begin(ctx, repository.BeginOptions{Base: base})
	if err != nil {
		return nil, err
	}
	defer b.Abort()
	files := tree(n)
	for _, name := range []string{"large", "new0", "new1", "new2", "same"} {
		data := files[name]
		src := repository.Source{At: bytes.NewReader(data), Size: int64(len(data))}
		var c repository.Content
		if old := lookup(ctx, base, name); name == "large" && old != nil && b.Holds(ctx, old.Content) == nil {
			c, err = b.PutRanges(ctx, old.Content, src, []repository.Range{{Offset: 20_000, Length: 100}})
		} else {
			c, err = b.PutFile(ctx, src)
		}
		if err == nil {
			err = b.Add(ctx, repository.Entry{Root: "/", Path: name, Type: repository.Regular, Size: c.Size(), Content: c})
		}
		if err != nil {
			return nil, err
		}
		if half && name == "new1" {
			return nil, b.Abort()
		}
	}
	rec, err := b.Commit(ctx, repository.RecordInfo{
		Time: time.Unix(1_700_000_000, 0).UTC(), Host: repository.Host{ID: "m", Name: "host", OS: "linux", PathStyle: "posix"},
		Type: "full", State: repository.Complete, Roots: []repository.Root{{ID: "/", Path: "/"}},
	})
	if err != nil {
		return nil, err
	}
	return rec, nil
}

func lookup(ctx context.Context, rec *repository.Record, name string) *repository.Entry {
	if rec == nil {
		return nil
	}
	e, err := rec.Table().Lookup(ctx, "/", name)
	if err != nil {
		return nil
	}
	return e
}

// on opens the repository on a disk, as a process would that begins now.
func on(ctx context.Context, d *disk) (*repository.Repository, error) {
	return repository.Open(ctx, open(home, d), password, options())
}

// shows says whether a record holds what was backed up.
func shows(ctx context.Context, r *repository.Repository, m made) error {
	rec, err := r.Record(ctx, m.id.String())
	if err != nil {
		return fmt.Errorf("backup %d: %w", m.n, err)
	}
	want := tree(m.n)
	for e, err := range rec.Table().All(ctx) {
		if err != nil {
			return fmt.Errorf("backup %d: %w", m.n, err)
		}
		f, err := r.OpenContent(ctx, e.Content)
		if err != nil {
			return fmt.Errorf("backup %d, %s: %w", m.n, e.Path, err)
		}
		got := make([]byte, e.Size)
		if _, err := f.ReadAt(got, 0); err != nil && err != io.EOF {
			return fmt.Errorf("backup %d, %s: %w", m.n, e.Path, err)
		}
		if !bytes.Equal(got, want[e.Path]) {
			return fmt.Errorf("backup %d: %s differs", m.n, e.Path)
		}
		delete(want, e.Path)
	}
	if len(want) > 0 {
		return fmt.Errorf("backup %d: %d files are missing", m.n, len(want))
	}
	return nil
}

// holds says whether all that was committed is there and the repository whole.
func holds(ctx context.Context, d *disk, committed []made) error {
	r, err := on(ctx, d)
	if errors.Is(err, repository.ErrNoRepository) && len(committed) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer r.Close()
	for _, m := range committed {
		if err := shows(ctx, r, m); err != nil {
			return err
		}
	}
	var wrong []string
	_, err = r.Check(ctx, repository.CheckOptions{ReadData: true}, func(p repository.Problem) {
		wrong = append(wrong, fmt.Sprint(p.Object, p.Path, ": ", p.Err))
	})
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		return fmt.Errorf("check says: %s", strings.Join(wrong, "; "))
	}
	return nil
}

// instant is what the disk was at one instant, and what must be true then.
type instant struct {
	d *disk
	// after is the operation that was done last.
	after     string
	committed []made
	// next is the backup that goes on or comes next, packs those that were
	// there when it began, and bytes what all of it adds.
	next  int
	packs map[string]int64
	bytes int64
}

// packs lists the packs of a repository by name.
func packs(ctx context.Context, d *disk) (map[string]int64, error) {
	all := map[string]int64{}
	err := open(home, d).List(ctx, "", func(i store.Info) error {
		if strings.HasPrefix(i.Name, "data/") || strings.HasPrefix(i.Name, "meta/") {
			all[i.Name] = i.Size
		}
		return nil
	})
	return all, err
}

// goesOn makes the next backup and says whether it succeeds and stores nothing
// again that is there already.
func (i instant) goesOn(ctx context.Context, d *disk) (made, error) {
	there, err := packs(ctx, d)
	if err != nil {
		return made{}, err
	}
	r, err := on(ctx, d)
	if errors.Is(err, repository.ErrNoRepository) {
		r, err = repository.Create(ctx, open(home, d), password, options())
	}
	if err != nil {
		return made{}, fmt.Errorf("open for the next backup: %w", err)
	}
	defer r.Close()
	rec, err := backup(ctx, r, i.base(ctx, r), i.next, false)
	if err != nil {
		return made{}, fmt.Errorf("the next backup: %w", err)
	}
	limit := i.bytes
	for name, size := range there {
		// What is not the chunks' own in a pack that was filled with what does
		// not compress: header, directory and trailer, and tags and lengths of frames.
		if _, ok := i.packs[name]; !ok && limit > 0 {
			limit -= max(0, (size-1500)*9/10)
		}
	}
	if i.bytes > 0 && rec.Totals.BytesAdded > max(limit, 0) {
		return made{}, fmt.Errorf("the next backup stored %d bytes, and only %d of %d were not there", rec.Totals.BytesAdded, limit, i.bytes)
	}
	return made{rec.ID, i.next}, nil
}

func (i instant) base(ctx context.Context, r *repository.Repository) *repository.Record {
	if len(i.committed) == 0 {
		return nil
	}
	rec, err := r.Record(ctx, i.committed[len(i.committed)-1].id.String())
	if err != nil {
		return nil
	}
	return rec
}

// history makes a repository and backups of which one is aborted, forgets the
// first and prunes, and gives every instant of it.
func history(t *testing.T, d *disk) []instant {
	t.Helper()
	ctx := t.Context()
	var all []instant
	now := instant{}
	last := ""
	d.fault = func(op operation, path string) *fault { last = string(op) + " " + path; return nil }
	d.changed = func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		now.d, now.after = d.copyLocked(), last
		all = append(all, now)
	}
	if _, err := repository.Create(ctx, open(home, d), password, options()); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ {
		// What a whole backup adds, found out on another disk.
		beside := d.copy()
		r, err := on(ctx, beside)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := backup(ctx, r, now.base(ctx, r), n, false)
		if err != nil {
			t.Fatal(err)
		}
		now.next, now.bytes = n, rec.Totals.BytesAdded
		if now.packs, err = packs(ctx, d.copy()); err != nil {
			t.Fatal(err)
		}
		for _, half := range []bool{true, false} {
			if half && n != 2 {
				continue
			}
			if r, err = on(ctx, d); err != nil {
				t.Fatal(err)
			}
			if rec, err = backup(ctx, r, now.base(ctx, r), n, half); err != nil {
				t.Fatal(err)
			}
		}
		now.committed = append(now.committed[:len(now.committed):len(now.committed)], made{rec.ID, n})
		now.bytes = 0 // the next one's is not known yet
	}
	first := now.committed[0]
	now.next, now.committed = 4, now.committed[1:] // whether the first is there is open now
	if err := open(home, d).Delete(ctx, recordName(first)); err != nil {
		t.Fatal(err)
	}
	deleted := int64(0)
	for range 3 {
		report, err := prune(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		deleted += report.Deleted
	}
	if deleted == 0 {
		t.Fatal("prune has deleted nothing")
	}
	return all
}

// recordName is the object of a record.
func recordName(m made) string { return "records/" + m.id.String() }

// prune lets a day pass and prunes without grace.
func prune(ctx context.Context, d *disk) (repository.PruneReport, error) {
	d.mu.Lock()
	d.now = d.now.Add(25 * time.Hour)
	d.mu.Unlock()
	r, err := on(ctx, d)
	if err != nil {
		return repository.PruneReport{}, err
	}
	defer r.Close()
	report, err := r.Prune(ctx, repository.PruneOptions{Grace: -1}, nil)
	if err == nil && report.Stopped != nil {
		err = report.Stopped
	}
	return report, err
}

// torture says whether everything is to be tested that a quick run samples.
func torture() bool { return os.Getenv("SOMBRA_TORTURE") != "" }
