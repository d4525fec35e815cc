package repository

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// writeOnlyMachine adds a write-only key to a repository and gives what a
// machine that has it does to open the repository.
func writeOnlyMachine(t testing.TB, r *Repository, st store.Store) func() *Repository {
	t.Helper()
	if _, err := r.AddKey(t.Context(), []byte("agent"), KeyOptions{WriteOnly: true}); err != nil {
		t.Fatal(err)
	}
	o := testOptions()
	o.StateDir = t.TempDir()
	return func() *Repository {
		agent, err := Open(t.Context(), st, []byte("agent"), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { agent.Close() })
		return agent
	}
}

// manyFiles are small files, and some whose extent list has blocks of its own.
func manyFiles() map[string][]byte {
	files := map[string][]byte{}
	for i := range 400 {
		files[fmt.Sprintf("small/%03d", i)] = randomData(100+i, uint64(i))
	}
	for i := range 3 {
		files[fmt.Sprintf("large/%d", i)] = randomData(900_000, uint64(1000+i))
	}
	return files
}

// backUpAll stores files, taking over from the base what take says.
func backUpAll(t testing.TB, r *Repository, base *Record, files map[string][]byte, take func(path string) bool) (*Record, *Backup) {
	t.Helper()
	ctx := t.Context()
	b := begin(t, r, base)
	for path, data := range files {
		if base != nil && take(path) {
			e, err := base.Table().Lookup(ctx, "/", path)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Holds(ctx, e.Content); err != nil {
				t.Fatal(err)
			}
			if err := b.Add(ctx, e.Clone()); err != nil {
				t.Fatal(err)
			}
			continue
		}
		addFile(t, b, path, data)
	}
	doc, err := b.PutBytes(ctx, bytes.Repeat([]byte("document "), 3000))
	if err != nil {
		t.Fatal(err)
	}
	info := testInfo()
	info.Documents = map[string]Content{"doc": doc}
	return commit(t, b, info), b
}

func localRecord(t testing.TB, r *Repository) *Record {
	t.Helper()
	rec, err := r.LocalRecord(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestAWriteOnlyMachineReadsNothingAgain(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	full := newTestRepository(t, st)
	open := writeOnlyMachine(t, full, st)
	files := manyFiles()

	agent := open()
	if _, err := agent.LocalRecord(ctx, ""); !errors.Is(err, ErrNotFound) {
		t.Fatalf("before the first backup: %v", err)
	}
	rec, b := backUpAll(t, agent, nil, files, nil)
	if err := b.LocalState(); err != nil {
		t.Fatal(err)
	}
	// Three more, each from the state the one before left, in a process of its
	// own as it were; each changes one file.
	for round := range 3 {
		agent = open()
		base := localRecord(t, agent)
		if base.ID != rec.ID || base.Table().Len() != int64(len(files)) {
			t.Fatalf("round %d: the base is %s with %d entries", round, base.ID.Short(), base.Table().Len())
		}
		if doc, err := base.Document(ctx, "doc", 1<<20); err != nil || len(doc) != 27000 {
			t.Errorf("document: %d bytes, %v", len(doc), err)
		}
		changed := fmt.Sprintf("small/%03d", round)
		files[changed] = randomData(500, uint64(5000+round))
		rec, b = backUpAll(t, agent, base, files, func(path string) bool { return path != changed })
		if err := b.LocalState(); err != nil {
			t.Fatal(err)
		}
		if rec.Totals.BytesRead != 500+27000 {
			t.Errorf("round %d: %d bytes read", round, rec.Totals.BytesRead)
		}
	}
	got, err := full.Record(ctx, rec.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	if have := readTree(t, got); len(have) != len(files) {
		t.Errorf("%d files of %d", len(have), len(files))
	} else {
		for path, data := range files {
			if have[path] != string(data) {
				t.Errorf("%s differs", path)
			}
		}
	}
	if report, problems := check(t, full, CheckOptions{ReadData: true}); len(problems) != 0 || report.Records != 4 {
		t.Errorf("%d records, %v", report.Records, problems)
	}
	// What the state holds is no way to read: data is not in it.
	e, err := localRecord(t, open()).Table().Lookup(ctx, "/", "large/1")
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Verify(ctx, e.Content); !errors.Is(err, ErrWriteOnly) {
		t.Errorf("data is read with a write-only key: %v", err)
	}
}

func TestRangesBuildOnTheLocalState(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	full := newTestRepository(t, st)
	open := writeOnlyMachine(t, full, st)
	data := randomData(900_000, 1)
	backUpAll(t, open(), nil, map[string][]byte{"db": data}, nil)
	agent := open()
	base := localRecord(t, agent)
	old, err := base.Table().Lookup(ctx, "/", "db")
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Clone(data)
	copy(data[300_000:], "changed")
	b := begin(t, agent, base)
	c, err := b.PutRanges(ctx, old.Content, source(data), []Range{{300_000, 7}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(ctx, Entry{Root: "/", Path: "db", Type: Regular, Size: c.Size(), Content: c}); err != nil {
		t.Fatal(err)
	}
	rec := commit(t, b, testInfo())
	if rec.Totals.BytesRead != 7 || b.LocalState() != nil {
		t.Errorf("%d bytes read, %v", rec.Totals.BytesRead, b.LocalState())
	}
	if got, err := full.Record(ctx, rec.ID.String()); err != nil {
		t.Error(err)
	} else if readTree(t, got)["db"] != string(data) {
		t.Error("it differs")
	}
	// And the state it left is whole.
	agent = open()
	all := func(string) bool { return true }
	if _, b := backUpAll(t, agent, localRecord(t, agent), map[string][]byte{"db": data}, all); b.LocalState() != nil {
		t.Error(b.LocalState())
	}
}

// smallState makes a small state and gives its directory, and its files by
// name.
func smallState(t testing.TB) (open func() *Repository, dir string, files map[string][]byte, full *Repository) {
	t.Helper()
	st := mem.New()
	full = newTestRepository(t, st)
	open = writeOnlyMachine(t, full, st)
	agent := open()
	backUpAll(t, agent, nil, map[string][]byte{"a": []byte("content of a"), "b": []byte("and of b")}, nil)
	dir = agent.localDir()
	return open, dir, dirFiles(t, dir), full
}

func dirFiles(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestEveryChangeOfTheLocalStateIsSaid: each byte of both files changed, and
// both cut at each length, is damage and nothing else, and the next backup goes
// without it and leaves a whole one.
func TestEveryChangeOfTheLocalStateIsSaid(t *testing.T) {
	open, dir, files, _ := smallState(t)
	if len(files) != 2 {
		t.Fatalf("%d files", len(files))
	}
	agent := open()
	tries := 0
	for name, data := range files {
		path := filepath.Join(dir, name)
		damaged := func(p []byte, what string, at int) {
			tries++
			if err := os.WriteFile(path, p, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := agent.LocalRecord(t.Context(), ""); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("%s: %s at %d: %v", name, what, at, err)
			}
		}
		for i := range data {
			p := bytes.Clone(data)
			p[i] ^= 1 << (i % 8)
			damaged(p, "a bit flipped", i)
			damaged(data[:i], "cut", i)
		}
		damaged(append(bytes.Clone(data), 0), "a byte more", len(data))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d changes of %d files", tries, len(files))
	localRecord(t, agent)
}

func TestAStateThatIsNotOfNowIsRefused(t *testing.T) {
	ctx := t.Context()
	open, dir, before, full := smallState(t)
	backUpAll(t, open(), nil, map[string][]byte{"c": []byte("later")}, nil)
	after := dirFiles(t, dir)
	if len(after) != 2 {
		t.Errorf("%d files are left", len(after))
	}
	put := func(files map[string][]byte) {
		t.Helper()
		for name := range dirFiles(t, dir) {
			os.Remove(filepath.Join(dir, name))
		}
		for name, data := range files {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	stateOf := func(files map[string][]byte) (string, []byte) {
		for name, data := range files {
			if name != stateKeyName {
				return name, data
			}
		}
		return "", nil
	}
	oldName, oldState := stateOf(before)
	newName, _ := stateOf(after)

	// The old state under its own name, and under the new one's.
	put(map[string][]byte{stateKeyName: after[stateKeyName], oldName: oldState})
	if _, err := open().LocalRecord(ctx, ""); !errors.Is(err, ErrDamaged) {
		t.Errorf("an old state: %v", err)
	}
	put(map[string][]byte{stateKeyName: after[stateKeyName], newName: oldState})
	if _, err := open().LocalRecord(ctx, ""); !errors.Is(err, ErrDamaged) {
		t.Errorf("an old state by the new name: %v", err)
	}
	// Both files of an older time are an older base, as true as it was then.
	put(before)
	if rec := localRecord(t, open()); rec.Table().Len() != 2 {
		t.Errorf("%d entries", rec.Table().Len())
	}
	// Unless its record is gone.
	rec := localRecord(t, open())
	if err := full.store.Delete(ctx, recordName(rec.ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := open().LocalRecord(ctx, ""); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), rec.ID.Short()) {
		t.Errorf("of a record that is gone: %v", err)
	}
	// The state of another repository, and of the same files with another key.
	_, otherDir, other, _ := smallState(t)
	put(other)
	if _, err := open().LocalRecord(ctx, ""); !errors.Is(err, ErrDamaged) || otherDir == dir {
		t.Errorf("of another repository: %v", err)
	}
}

// TestAStateOthersCouldHaveWrittenIsRefused: rights are looked at before a byte
// is read.
func TestAStateOthersCouldHaveWrittenIsRefused(t *testing.T) {
	open, dir, files, _ := smallState(t)
	for _, name := range []string{dir, filepath.Dir(dir), filepath.Join(dir, stateKeyName)} {
		info, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s was made with mode %v", name, info.Mode())
		}
		if err := os.Chmod(name, info.Mode().Perm()|0o020); err != nil {
			t.Fatal(err)
		}
		if _, err := open().LocalRecord(t.Context(), ""); err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is open to others: %v", name, err)
		}
		os.Chmod(name, info.Mode().Perm())
	}
	localRecord(t, open())
	// A link in the place of a file leads nowhere.
	for name := range files {
		path := filepath.Join(dir, name)
		if err := os.Rename(path, path+".moved"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path+".moved", path); err != nil {
			t.Fatal(err)
		}
		if _, err := open().LocalRecord(t.Context(), ""); err == nil {
			t.Errorf("%s: a link was followed", name)
		}
		os.Remove(path)
		os.Rename(path+".moved", path)
	}
}

// TestTheStateFollowsTheRecord: a backup that does not commit leaves the state of
// the one before, and nothing else; so does one whose state cannot be written.
func TestTheStateFollowsTheRecord(t *testing.T) {
	ctx := t.Context()
	open, dir, files, _ := smallState(t)
	same := func(what string) {
		t.Helper()
		now := dirFiles(t, dir)
		for name, data := range files {
			if !bytes.Equal(now[name], data) {
				t.Errorf("%s: %s changed", what, name)
			}
		}
		if len(now) != len(files) {
			t.Errorf("%s: %d files", what, len(now))
		}
	}
	b := begin(t, open(), nil)
	addFile(t, b, "c", []byte("c"))
	b.Abort()
	same("aborted")

	agent := open()
	agent.store = &noRecords{agent.store}
	b = begin(t, agent, nil)
	addFile(t, b, "c", []byte("c"))
	if _, err := b.Commit(ctx, testInfo()); !errors.Is(err, errDied) {
		t.Fatal(err)
	}
	same("not committed")

	if os.Geteuid() != 0 {
		os.Chmod(dir, 0o500)
	} else if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	} else if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, b = backUpAll(t, open(), nil, map[string][]byte{"c": []byte("c")}, nil)
	if err := b.LocalState(); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a state that cannot be written: %v", err)
	}
	if os.Geteuid() != 0 {
		os.Chmod(dir, 0o700)
	} else {
		os.Remove(dir)
		os.Rename(dir+".moved", dir)
	}
	same("not written")
}

// TestAStateThatIsNotKeptLeavesNone: the states before would pass for all that the
// machine has made, and the record just made would be missing among them.
func TestAStateThatIsNotKeptLeavesNone(t *testing.T) {
	st := mem.New()
	open := writeOnlyMachine(t, newTestRepository(t, st), st)
	for _, name := range []string{"", "aa", "bb"} {
		b, err := open().Begin(t.Context(), BeginOptions{StateOf: strings.Repeat(name, 16)})
		if err != nil {
			t.Fatal(err)
		}
		addFile(t, b, "a", []byte("a"))
		if name == "bb" {
			b.local.fail(errDied)
		}
		if _, err := b.Commit(t.Context(), testInfo()); err != nil {
			t.Fatal(err)
		}
		if err := b.LocalState(); errors.Is(err, errDied) != (name == "bb") {
			t.Fatal(err)
		}
	}
	agent := open()
	if names, err := agent.LocalStates(t.Context()); err != nil || len(names) > 0 {
		t.Errorf("states %q are left, %v", names, err)
	}
	if _, err := agent.LocalRecord(t.Context(), ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("a base: %v", err)
	}
}

// noRecords takes everything but records.
type noRecords struct{ store.Store }

func (s *noRecords) Put(ctx context.Context, name string, data []byte) error {
	if strings.HasPrefix(name, prefixRecords) {
		return errDied
	}
	return s.Store.Put(ctx, name, data)
}

// TestContentThatIsNoLongerHeldIsNotTakenOver: a state is never believed about
// what the repository has.
func TestContentThatIsNoLongerHeldIsNotTakenOver(t *testing.T) {
	ctx := t.Context()
	open, _, _, full := smallState(t)
	var packs []string
	if err := full.store.List(ctx, prefixData, func(info store.Info) error {
		packs = append(packs, info.Name)
		return nil
	}); err != nil || len(packs) == 0 {
		t.Fatal(err)
	}
	for _, name := range packs {
		if err := full.store.Delete(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	agent := open()
	base := localRecord(t, agent)
	b := begin(t, agent, base)
	e, err := base.Table().Lookup(ctx, "/", "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Holds(ctx, e.Content); !errors.Is(err, ErrDamaged) {
		t.Errorf("content that was pruned: %v", err)
	}
	if err := b.Add(ctx, e.Clone()); !errors.Is(err, ErrDamaged) {
		t.Errorf("added: %v", err)
	}
}

// FuzzLocalState: whatever a state file holds, opening it ends in an error or in
// blocks that can be asked for; sealed makes the directory one that
// authenticates, as a holder of the keys could.
func FuzzLocalState(f *testing.F) {
	var key, local secret
	rand.Read(key[:])
	k := &keyring{index: key, id: key}
	c := k.stateCipher(local)
	dec := newDecoder()
	_, _, files, _ := smallState(f)
	for name, data := range files {
		if name != stateKeyName {
			f.Add(data, false)
		}
	}
	d := stateDirectory{at: stateLine{offset: magicSize, size: 20}, lines: []stateLine{{offset: 28, size: 30, length: 9}, {id: ID{1}, offset: 58, size: 17, length: 1}}}
	f.Add(d.encode(), true)
	f.Add([]byte("SOMBRAS\x01"), false)
	f.Fuzz(func(t *testing.T, data []byte, sealed bool) {
		if sealed {
			at := int64(magicSize + 64)
			dir, err := decodeStateDirectory(data, at)
			if err != nil {
				return
			}
			if again := dir.encode(); !bytes.Equal(again, data) {
				t.Fatalf("encoded again it is %x, not %x", again, data)
			}
			object := append([]byte(magic(kindState)), make([]byte, 64)...)
			object = appendBox(object, c, boxDirectory, data)
			object = append(object, byte(at), 0, 0, 0, 0, 0, 0, 0, byte(len(data)+16), byte((len(data)+16)>>8), byte((len(data)+16)>>16), 0)
			data = append(object, magic(kindState)...)
		}
		s, err := openStateFile(bytes.NewReader(data), int64(len(data)), c)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		for _, l := range s.lines {
			if block, err := s.block(dec, l.id, l.length); err == nil && len(block) != int(l.length) {
				t.Fatalf("%d bytes of %d", len(block), l.length)
			}
		}
	})
}

// TestALocalStateOfManyFilesTakesLittleMemory: 50 000 files, or 500 000 when
// torture is asked for: what is kept in memory for the state is some bytes a block,
// and the next backup finds every file in it.
func TestALocalStateOfManyFilesTakesLittleMemory(t *testing.T) {
	files := 50_000
	if os.Getenv("SOMBRA_TORTURE") != "" {
		files = 500_000
	}
	ctx, st := t.Context(), mem.New()
	full := newTestRepository(t, st)
	open := writeOnlyMachine(t, full, st)
	name := func(i int) string { return fmt.Sprintf("srv/data/%03d/file-%06d.dat", i/1000, i) }
	at := time.Unix(1_700_000_000, 0)
	agent := open()
	b := begin(t, agent, nil)
	content := putFile(t, b, []byte("the same everywhere"))
	for i := range files {
		e := Entry{Root: "/", Path: name(i), Type: Regular, Mode: 0o644, UID: 1000, GID: 1000, Size: content.Size(), Content: content,
			ModTime: at.Add(time.Duration(i) * 1e7), ChangeTime: at.Add(time.Duration(i) * 1e7), Inode: uint64(i), Nlink: 1,
			Attrs: map[string]string{"volume": "0a8c3f6e-1111-2222-3333-444455556666"}}
		if err := b.Add(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, b, testInfo())
	if err := b.LocalState(); err != nil {
		t.Fatal(err)
	}
	blocks := len(b.local.have)
	if files/blocks < 30 {
		t.Errorf("%d blocks for %d files", blocks, files)
	}
	var size int64
	for _, data := range dirFiles(t, agent.localDir()) {
		size += int64(len(data))
	}
	agent = open()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	base := localRecord(t, agent)
	opened := time.Since(start)
	b = begin(t, agent, base)
	for i := range files {
		e, err := base.Table().Lookup(ctx, "/", name(i))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(ctx, e.Clone()); err != nil {
			t.Fatal(err)
		}
	}
	rec := commit(t, b, testInfo())
	runtime.GC()
	runtime.ReadMemStats(&after)
	if rec.Totals.BytesRead != 0 || b.LocalState() != nil || rec.Table().Len() != int64(files) {
		t.Errorf("%d bytes read, %d entries, %v", rec.Totals.BytesRead, rec.Table().Len(), b.LocalState())
	}
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	if grown > 64<<20 {
		t.Errorf("%d MiB are held after it", grown>>20)
	}
	t.Logf("%d files: %d blocks, %d bytes of state; opened and verified in %v, %d KiB more held at the end", files, blocks, size, opened, grown>>10)
}

// TestKeptFilesStayInTheLocalState: what is taken over as it stands can be taken
// over from the next state too, extent lists with blocks of their own included.
func TestKeptFilesStayInTheLocalState(t *testing.T) {
	st := mem.New()
	full := newTestRepository(t, st)
	open := writeOnlyMachine(t, full, st)
	files := manyFiles()
	backUpAll(t, open(), nil, files, nil)
	for round := range 3 {
		agent := open()
		b := begin(t, agent, localRecord(t, agent))
		for line, err := range localRecord(t, agent).Table().Lines(t.Context(), "", "") {
			if err == nil {
				err = b.Keep(t.Context(), line)
			}
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		rec := commit(t, b, testInfo())
		if err := b.LocalState(); err != nil {
			t.Fatal(err)
		}
		if rec.Table().Len() != int64(len(files)) {
			t.Errorf("round %d: %d entries", round, rec.Table().Len())
		}
	}
}
