package redis

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writers/redis/resp"
)

// TestAcknowledgedBeforeFreezeIsThere copies the files while the server is held and
// starts another server on the copy, with clients at work whose values are large
// enough to keep flushes of the append-only file busy.
func TestAcknowledgedBeforeFreezeIsThere(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]dbtest.RedisOptions{
		"append-only file, everysec": {AppendOnly: true},
		"append-only file, always":   {AppendOnly: true, Lines: []string{"appendfsync always"}},
		"append-only file, no":       {AppendOnly: true, Lines: []string{"appendfsync no"}},
		"RDB file":                   {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, o)
			l, err := a.load()
			if err != nil {
				t.Fatal(err)
			}
			heavy := a.heavy()
			w, _ := a.writer()
			p := newPlay(t, w)
			for range 3 {
				before := a.acknowledged.Load()
				p.freeze()
				files := p.copyFiles(a.Dir)
				after := a.acknowledged.Load() + 1 // one whose answer is under way
				p.send(writer.EventThaw)
				n := a.startCopy(o, files)
				if n < before || n > after {
					t.Errorf("the copy has %d transactions; %d were acknowledged before Freeze, %d when it was copied", n, before, after)
				}
			}
			p.send(writer.EventAbort)
			if err := errors.Join(heavy(), l.Stop()); err != nil {
				t.Errorf("a client failed: %v", err)
			}
		})
	}
}

// heavy starts a client that overwrites a large value. It gives what ends it.
func (a *app) heavy() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		c, err := a.Dial(ctx)
		value := strings.Repeat("x", 1<<20)
		for err == nil && ctx.Err() == nil {
			_, err = c.Do(context.Background(), "SET", "heavy", value)
			time.Sleep(5 * time.Millisecond)
		}
		done <- err
	}()
	return func() error { cancel(); return <-done }
}

// startCopy starts a server on copied files and counts its transactions.
func (a *app) startCopy(o dbtest.RedisOptions, files map[string][]byte) uint64 {
	a.t.Helper()
	o.Dir = filepath.Join(scratch(a.t), "copy")
	a.put(o.Dir, files)
	r, err := dbtest.StartRedis(a.t.Context(), o)
	if err != nil {
		a.t.Fatal(err)
	}
	defer r.Close()
	b := &app{t: a.t, Redis: r}
	if _, err := b.Do(a.t.Context(), "DEL", "heavy"); err != nil {
		a.t.Fatal(err)
	}
	n, err := b.count(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

// writes reports whether a write is answered within a time.
func (a *app) writes(limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := a.Do(ctx, "SET", "w", "1")
	return err == nil
}

// TestPauseEndsByItself: nothing of the writer is left that could end the pause,
// and it ends.
func TestPauseEndsByItself(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	for name, end := range map[string]func(kill func() error) error{
		"its process is killed": func(kill func() error) error { return kill() },
		"its process hangs":     func(func() error) error { return a.stopHosts() },
	} {
		t.Run(name, func(t *testing.T) {
			w, kill := a.writer()
			newPlay(t, w).freeze()
			if a.writes(100 * time.Millisecond) {
				t.Fatal("a write was answered while frozen")
			}
			if err := end(kill); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if !a.writes(10 * time.Second) {
				t.Fatal("writes are held 10 s after")
			}
			t.Logf("writes were answered after %v; a pause lasts %v", time.Since(begun), leaseTime)
			kill()
		})
	}
}

// TestPauseHoldsBeyondOneLease: it is renewed as long as it takes.
func TestPauseHoldsBeyondOneLease(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	p := newPlay(t, w)
	p.freeze()
	if a.writes(2 * leaseTime) {
		t.Error("a write was answered while frozen")
	}
	p.send(writer.EventThaw)
	if !a.writes(10 * time.Second) {
		t.Error("writes are held after Thaw")
	}
}

// TestLimitEndsThePause: the writer does not renew the pause past the limit it was
// given, whoever forgets to thaw it.
func TestLimitEndsThePause(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	p := newPlay(t, w)
	p.event.Limit = time.Second
	p.freeze()
	begun := time.Now()
	if !a.writes(10*time.Second) || time.Since(begun) > 5*time.Second {
		t.Errorf("writes were held for %v with a limit of %v", time.Since(begun), p.event.Limit)
	}
	if err := p.try(writer.EventThaw); err == nil {
		t.Error("Thaw succeeded though the limit had passed")
	}
}

// TestAnothersPauseIsNotUndone: somebody who pauses clients for a purpose of his own
// finds them paused after the backup.
func TestAnothersPauseIsNotUndone(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	p := newPlay(t, w)
	p.freeze()
	if _, err := a.Do(t.Context(), "CLIENT", "PAUSE", "60000", "WRITE"); err != nil {
		t.Fatal(err)
	}
	p.send(writer.EventThaw)
	if a.writes(2 * leaseTime) {
		t.Error("Thaw has ended a pause of somebody else's")
	}
	if _, err := a.Do(t.Context(), "CLIENT", "UNPAUSE"); err != nil {
		t.Fatal(err)
	}
	if !a.writes(10 * time.Second) {
		t.Error("writes are held after the other's pause has ended")
	}
}

// TestWhatHappensWhileHeldIsNoticed: the copy is not trusted.
func TestWhatHappensWhileHeldIsNoticed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		aof      bool
		commands [][]string
		text     string
	}{
		{"somebody ends the pause", true, [][]string{{"CLIENT", "UNPAUSE"}, {"SET", "x", "1"}}, "writes"},
		{"the append-only file is rewritten", true, [][]string{{"BGREWRITEAOF"}}, "save or rewrite"},
		{"the server saves", false, [][]string{{"BGSAVE"}}, "save or rewrite"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newApp(t, dbtest.RedisOptions{AppendOnly: c.aof})
			w, _ := a.writer()
			p := newPlay(t, w)
			p.freeze()
			for _, command := range c.commands {
				if _, err := a.Do(t.Context(), command[0], command[1:]...); err != nil {
					t.Fatal(err)
				}
			}
			err := p.try(writer.EventThaw)
			wantError(t, err, c.text)
			if vss.CodeOf(err) != vss.ErrWriterErrorRetryable {
				t.Errorf("the code is %v", vss.CodeOf(err))
			}
			if !a.writes(10 * time.Second) {
				t.Error("writes are held after Thaw")
			}
		})
	}
}

// TestSaveBesideAnAppendOnlyFileDoesNotMatter: the RDB file is not in the backup
// then.
func TestSaveBesideAnAppendOnlyFileDoesNotMatter(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	p := newPlay(t, w)
	p.freeze()
	if _, err := a.Do(t.Context(), "BGSAVE"); err != nil {
		t.Fatal(err)
	}
	for name := range p.copyFiles(a.Dir) {
		if !strings.HasPrefix(name, "appendonlydir/") {
			t.Errorf("%s is in the component", name)
		}
	}
	p.send(writer.EventThaw)
}

// TestSaveThatEndsBesideAnAppendOnlyFileDoesNotMatter: the server counts the writes
// since its last save anew then, which is not that it took some.
func TestSaveThatEndsBesideAnAppendOnlyFileDoesNotMatter(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	p := newPlay(t, w)
	p.send(writer.EventPrepareForBackup, writer.EventPrepareForSnapshot)
	for _, command := range [][]string{
		{"CONFIG", "SET", "rdb-key-save-delay", "20000"}, // microseconds a key
		{"EVAL", "for i = 1, 100 do redis.call('SET', 'k'..i, i) end", "0"},
		{"BGSAVE"},
	} {
		if _, err := a.Do(t.Context(), command[0], command[1:]...); err != nil {
			t.Fatalf("%v: %v", command, err)
		}
	}
	p.send(writer.EventFreeze)
	if n := saving(t, a); n != "1" {
		t.Fatalf("rdb_bgsave_in_progress is %s at Freeze: the save was over too soon", n)
	}
	for end := time.Now().Add(10 * time.Second); saving(t, a) != "0"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the save does not end")
		}
	}
	p.send(writer.EventThaw)
}

// saving is what the server says of a save under way: 1 or 0.
func saving(t *testing.T, a *app) string {
	t.Helper()
	reply, err := a.Do(t.Context(), "INFO", "persistence")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(reply.Text, "rdb_bgsave_in_progress:")
	return after[:min(1, len(after))]
}

// TestIncrementalTakesTheEndOnly: of the file that is appended to, only what is new
// since the base, unless another server has gone on with it.
func TestIncrementalTakesTheEndOnly(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	full := newPlay(t, w)
	size := int64(len(full.backup(a.Dir)["appendonlydir/appendonly.aof.1.incr.aof"]))
	incremental := func() *play {
		if err := a.commit(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		w, _ := a.writer()
		p := newPlay(t, w)
		p.event.State.Type = vss.BackupTypeIncremental
		if err := p.component().SetPreviousBackupStamp(vss.BackupStamp(full.stamp())); err != nil {
			t.Fatal(err)
		}
		p.backup(a.Dir)
		return p
	}
	p := incremental()
	parts := p.component().PartialFiles()
	if len(parts) != 1 || parts[0].Name != "appendonly.aof.1.incr.aof" {
		t.Fatalf("partial files: %+v", parts)
	}
	ranges, _, err := parts[0].ReadRanges()
	if err != nil || len(ranges) != 1 || ranges[0].Offset != uint64(size) || ranges[0].Length == 0 {
		t.Errorf("ranges %v of a file that had %d bytes, %v", ranges, size, err)
	}
	if n := len(p.component().DifferencedFiles()); n != 2 {
		t.Errorf("%d sets are listed as differenced, and there are two others", n)
	}
	if _, err := a.check(); err != nil { // starts it again
		t.Fatal(err)
	}
	if p := incremental(); len(p.component().PartialFiles()) != 0 {
		t.Error("another run of the server was taken to have gone on with the same file")
	}
}

// TestServerWithoutAFileIsSaved: one that has not saved yet, or whose file somebody
// has removed, has one after Freeze, so that no backup of it is empty.
func TestServerWithoutAFileIsSaved(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{})
	for range 2 {
		if err := os.Remove(filepath.Join(a.Dir, "dump.rdb")); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		w, kill := a.writer()
		p := newPlay(t, w)
		if mask := p.doc.Components()[0].FileSets[0].BackupType; mask&vss.CreatedDuringBackup == 0 {
			t.Errorf("the file has the mask %v: a requester would look for it before Freeze", mask)
		}
		if files := p.backup(a.Dir); len(files["dump.rdb"]) == 0 {
			t.Error("the backup has no RDB file")
		}
		kill()
	}
}

func TestUnsupportedServersAreRefusedByName(t *testing.T) {
	t.Parallel()
	t.Run("a node of a cluster", func(t *testing.T) {
		r, err := dbtest.StartRedis(t.Context(), dbtest.RedisOptions{Dir: filepath.Join(scratch(t), "data"), AppendOnly: true, Lines: []string{"cluster-enabled yes"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		_, err = learn(t.Context(), writer.Spec{}, config{Socket: r.Socket, Directory: r.Dir, Found: new(found)})
		wantError(t, err, "cluster")
	})
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	if _, err := a.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1"); err != nil {
		t.Fatal(err)
	}
	conf := config{Socket: a.Socket, Directory: a.Dir, Found: new(found)}
	_, err := learn(t.Context(), writer.Spec{}, conf)
	wantError(t, err, "replica of 127.0.0.1:1")
	if _, err := a.Do(t.Context(), "REPLICAOF", "NO", "ONE"); err != nil {
		t.Fatal(err)
	}
	ours := info{"redis_mode": "standalone", "role": "master", "loading": "0", "redis_version": "7.0.15"}
	if err := supported(ours, config{}); err != nil {
		t.Error(err)
	}
	for _, v := range []string{"6.2.7", "7.2.4", "8.0.0", "7", ""} {
		ours["redis_version"] = v
		wantError(t, supported(ours, config{}), "any_version")
		if err := supported(ours, config{AnyVersion: true}); err != nil {
			t.Errorf("version %q, though it is allowed: %v", v, err)
		}
	}
}

// TestWeakerLevelsAreSaid: a server whose save would take too long, or that keeps
// nothing, is not passed off as consistent.
func TestWeakerLevelsAreSaid(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{})
	conf := config{Socket: a.Socket, Directory: a.Dir, SaveLimit: "0s", Found: new(found)}
	f, err := learn(t.Context(), writer.Spec{}, conf)
	if err != nil || !f.crash || !strings.Contains(f.weak, "last save") {
		t.Errorf("with no time for a save: crash %v, %q, %v", f.crash, f.weak, err)
	}
	if _, err := a.Do(t.Context(), "CONFIG", "SET", "save", ""); err != nil {
		t.Fatal(err)
	}
	f, err = learn(t.Context(), writer.Spec{}, conf)
	if err != nil || !f.crash || !strings.Contains(f.weak, "persistence is off") {
		t.Errorf("without persistence: crash %v, %q, %v", f.crash, f.weak, err)
	}
}

func TestPasswordFilesAreCheckedAndNeverShown(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true, Password: "sesame-open"})
	conf := config{Socket: a.Socket, Directory: a.Dir, Found: new(found)}
	file := filepath.Join(scratch(t), "p")
	for mode, text := range map[os.FileMode]string{0o644: "open to others", 0o620: "open to others", 0o660: "open to others"} {
		if err := errors.Join(os.WriteFile(file, []byte("sesame-open\n"), mode), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
		conf.PasswordFile = file
		_, err := connect(t.Context(), conf)
		wantError(t, err, text)
	}
	if err := errors.Join(os.WriteFile(file, []byte("wrong-word\n"), 0o600), os.Chmod(file, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err := connect(t.Context(), conf)
	var refused resp.Error
	if !errors.As(err, &refused) || strings.Contains(err.Error(), "wrong-word") {
		t.Errorf("with a wrong password: %v", err)
	}
	w, _ := a.writer()
	p := newPlay(t, w)
	p.backup(a.Dir)
	for name, text := range map[string]string{"writer's document": string(p.doc.SaveAsXML()), "components document": string(p.bcd.SaveAsXML()), "stamp": p.stamp()} {
		if strings.Contains(text, "sesame") {
			t.Errorf("the password is in the %s", name)
		}
	}
}

// TestServerThatHangsIsNotWaitedForLong: it vetoes the backup, and nothing is held
// when it goes on.
func TestServerThatHangsIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	w, _ := a.writer()
	p := newPlay(t, w)
	p.event.Limit = time.Second
	p.send(writer.EventPrepareForBackup, writer.EventPrepareForSnapshot)
	if err := syscall.Kill(a.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	err := p.try(writer.EventFreeze)
	took := time.Since(begun)
	if err := syscall.Kill(a.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err == nil || took > 10*time.Second {
		t.Errorf("Freeze of a server that hangs returned after %v with %v", took, err)
	}
	if err := p.try(writer.EventAbort); err != nil {
		t.Error(err)
	}
	if begun := time.Now(); !a.writes(10*time.Second) || time.Since(begun) > 5*time.Second {
		t.Errorf("writes were held for %v after the server went on", time.Since(begun))
	}
}
