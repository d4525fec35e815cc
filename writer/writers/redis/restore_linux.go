package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/kept"
)

var (
	_ writer.PreRestorer  = (*redisWriter)(nil)
	_ writer.PostRestorer = (*redisWriter)(nil)
)

// chosen gives the component if it is to be restored to its place. Beside the
// server that runs there is nothing to do.
func (w *redisWriter) chosen(e *writer.Event) *metadata.Component {
	c := w.component(e.Components)
	if c == nil || len(c.NewTargets()) > 0 {
		return nil
	}
	if selected, _ := c.SelectedForRestore(); !selected {
		return nil
	}
	return c
}

// message is an error on one line, for the document.
func message(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// PreRestore implements [writer.PreRestorer]. It stops the server, which would
// otherwise write over what is restored when it ends or saves.
func (w *redisWriter) PreRestore(ctx context.Context, e *writer.Event) error {
	const event = "PreRestore"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	c := w.chosen(e)
	if c == nil {
		return nil
	}
	if err := w.makeRoom(ctx, e.SessionID, c); err != nil {
		err = errors.Join(err, c.SetPreRestoreFailureMsg(message(err)))
		return w.failure(ctx, vss.ErrWriterErrorNonRetryable, event, err)
	}
	return nil
}

// makeRoom stops the server and puts its files aside.
func (w *redisWriter) makeRoom(ctx context.Context, session vss.GUID, c *metadata.Component) error {
	m, err := readMark(w.conf.Directory)
	if err != nil {
		return err
	}
	if m == nil {
		m = new(mark)
	}
	if err := w.asItRan(m); err != nil {
		return err
	}
	if err := w.beginChain(m, c); err != nil {
		return err
	}
	if err := w.noteHalf(m); err != nil {
		return err
	}
	if err := w.stopServer(ctx, m, session); err != nil {
		return err
	}
	return w.putAside(m, session)
}

// beginChain tells an operation that goes on with a chain from one that begins it, as
// that of what was saved whole does: for the latter what lies here is an earlier
// restore's that did not come to its end, or what a server that somebody has started on
// that has written since, and is put aside like anything else. Under an operation that
// goes on no server must have run.
func (w *redisWriter) beginChain(m *mark, c *metadata.Component) error {
	if !m.More {
		return nil
	}
	pid, err := w.running()
	if err != nil {
		return err
	}
	prev, _ := c.PreviousBackupStamp()
	switch {
	case prev != "" && pid != 0:
		return fmt.Errorf("the server was started (process %d) before all backups of the chain were restored; stop it and restore again", pid)
	case prev != "":
		return w.unused(m)
	}
	m.More = false
	if pid != 0 {
		return nil // stopServer makes the mark anew
	}
	m.Mixed = true // it is a part of a chain, which no server is started on
	return m.write(w.conf.Directory)
}

// fingerprint tells how what a server would load looks.
func (w *redisWriter) fingerprint() (string, error) {
	n, dir := w.facts.names, w.conf.Directory
	return kept.Fingerprint([]string{dir, n.aofPath(dir)}, func(path string) bool {
		return path == n.rdbPath(dir) || filepath.Dir(path) == n.aofPath(dir) && strings.HasPrefix(filepath.Base(path), n.aofBase+".")
	})
}

// unused makes sure that no server has written since the last operation of a chain.
func (w *redisWriter) unused(m *mark) error {
	if m.Seal == "" {
		return nil
	}
	now, err := w.fingerprint()
	if err == nil && now != m.Seal {
		err = fmt.Errorf("the files of %s are not as the chain's last restore left them: a server was started on them and stopped again, or a restore was broken off; they are left as they are; restore the chain again from its full backup, which puts them aside", w.conf.Directory)
	}
	return err
}

// asItRan takes from the mark by which names the server kept its data when it ran: one
// that a restore has stopped that did not end cannot be asked. If it runs, it is.
func (w *redisWriter) asItRan(m *mark) error {
	if !m.Ran || m.AOFDir == "" {
		return nil
	}
	if pid, err := w.running(); err != nil || pid != 0 {
		return err
	}
	now := facts{aof: m.AOF, names: w.facts.names}
	now.names.rdb, now.names.aofDir, now.names.aofBase = m.RDB, m.AOFDir, m.AOFBase
	if err := now.names.check(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(w.conf.Directory, markName), err)
	}
	if err := w.fits(now); err != nil {
		return fmt.Errorf("%w (the server was stopped by a restore that did not end, and is known as it ran before: start it after the change)", err)
	}
	return nil
}

// noteHalf notes that what lies here may be half of a restore that was killed: things
// are put aside still, and there are files in their place. If a server runs on those
// they are its data, and [redisWriter.stopServer] makes the mark anew.
func (w *redisWriter) noteHalf(m *mark) error {
	if m.Aside == 0 || m.More || m.Mixed {
		return nil
	}
	files, err := w.inTheWay(m.AOF)
	if err != nil || len(files) == 0 {
		return err
	}
	m.Mixed = true
	return m.write(w.conf.Directory)
}

// stopServer stops the server if it runs, and notes how it is started again.
func (w *redisWriter) stopServer(ctx context.Context, m *mark, session vss.GUID) error {
	pid, err := w.running()
	if err != nil || pid == 0 {
		return err
	}
	s, err := w.reach(ctx, pid)
	if err != nil {
		return fmt.Errorf("the server (process %d) has to be stopped, and cannot be spoken to; stop it and restore again: %w", pid, err)
	}
	defer s.close()
	i, err := s.info(ctx, "server", "replication", "cluster", "persistence")
	if err != nil {
		return err
	}
	if err := supported(i, w.conf); err != nil {
		return err
	}
	now, err := s.persistence(ctx)
	if err != nil {
		return err
	}
	if err := w.fits(now); err != nil {
		return err
	}
	whole := m.Whole
	*m = mark{Ran: true, AOF: now.aof, Unit: w.spec.Service != nil, More: m.More, Aside: m.Aside, Own: m.Own, Session: session,
		RDB: now.names.rdb, AOFDir: now.names.aofDir, AOFBase: now.names.aofBase}
	if !m.More {
		m.Aside = 0 // what lies here is the server's data now, and is put back in place of that
	}
	if !m.More && !whole {
		m.Own = nil // somebody has gone on with a part; what was there before is not for us to remove
	}
	if !m.Unit {
		if m.Program, m.Args, err = w.startedBy(i); err != nil {
			return err
		}
	}
	if err := m.write(w.conf.Directory); err != nil {
		return err
	}
	return w.stop(ctx, s, now, pid)
}

// reach connects to the server. One that is just starting, as a restore that was
// killed leaves it, is waited for.
func (w *redisWriter) reach(ctx context.Context, pid int) (*server, error) {
	begun := time.Now()
	for {
		s, err := connect(ctx, w.listening(pid))
		var no syscall.Errno
		starting := errors.Is(err, errNoServer) || errors.As(err, &no) || isLoading(err)
		if err == nil || !starting || time.Since(begun) > reachLimit {
			return s, err
		}
		if rerr := rest(ctx, backOff); rerr != nil {
			return nil, errors.Join(rerr, err)
		}
	}
}

// reachLimit is how long a server that does not listen yet is waited for.
const reachLimit = 10 * time.Second

// listening is the configuration with where the process listens now.
func (w *redisWriter) listening(pid int) config {
	conf := w.conf
	if conf.Socket == "" && conf.Address == "" {
		if p, ok := look(pid); ok && len(p.listens) > 0 {
			conf.Found = &found{Listens: p.listens, Args: p.args}
		}
	}
	return conf
}

// fits makes sure that the server will load what is restored.
func (w *redisWriter) fits(now facts) error {
	was := w.facts
	switch {
	case was.aof && !now.aof:
		return errors.New("the backup is of an append-only file, and the server keeps none now (appendonly no), so that it would load something else; set appendonly yes in its configuration and restore again")
	case was.aof && (was.names.aofDir != now.names.aofDir || was.names.aofBase != now.names.aofBase):
		return fmt.Errorf("the append-only file is %s/%s in the backup and %s/%s in the server's configuration; make them the same and restore again", was.names.aofDir, was.names.aofBase, now.names.aofDir, now.names.aofBase)
	case !was.aof && was.names.rdb != now.names.rdb:
		return fmt.Errorf("the RDB file is %s in the backup and %s in the server's configuration; make them the same and restore again", was.names.rdb, now.names.rdb)
	}
	w.facts.names.aofDir, w.facts.names.aofBase = now.names.aofDir, now.names.aofBase
	return nil
}

// PostRestore implements [writer.PostRestorer]. It starts the server again if
// PreRestore has stopped it and no more restores follow.
func (w *redisWriter) PostRestore(ctx context.Context, e *writer.Event) error {
	const event = "PostRestore"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	c := w.chosen(e)
	if c == nil {
		return nil
	}
	if err := w.keptAt(w.restored(ctx, e, c)); err != nil {
		err = errors.Join(err, c.SetPostRestoreFailureMsg(message(err)))
		return w.failure(ctx, vss.ErrWriterErrorNonRetryable, event, err)
	}
	return nil
}

// restored does what the outcome of the restore asks for.
func (w *redisWriter) restored(ctx context.Context, e *writer.Event, c *metadata.Component) error {
	m, err := readMark(w.conf.Directory)
	if err != nil {
		return err
	}
	if m != nil {
		if err := w.asItRan(m); err != nil {
			return err
		}
	}
	status := c.FileRestoreStatus()
	if status != vss.FileRestoreStatusNone || m != nil && m.Aside != 0 {
		// It has loaded what was there at that moment, and would write it over
		// what was restored or is put back.
		if pid, err := w.running(); err != nil {
			return err
		} else if pid != 0 {
			return fmt.Errorf("the server was started (process %d) while its files were being restored; stop it without saving (SHUTDOWN NOSAVE), and whoever starts it, and restore again", pid)
		}
	}
	switch {
	case status == vss.FileRestoreStatusNone:
		return w.nothingRestored(ctx, m, e.SessionID)
	case status != vss.FileRestoreStatusAll:
		if m != nil {
			m.Mixed, m.More = true, false
			if err := m.write(w.conf.Directory); err != nil {
				return err
			}
		}
		return errors.New("its files are a mixture of old and restored ones, and the server stays stopped; restore again")
	case c.AdditionalRestores(): // more is to come (R-RES-28)
		if m == nil { // nothing was in the way; what is there now is not to be put aside
			m = &mark{Session: e.SessionID}
		}
		m.More, m.Mixed = true, false
		if m.Seal, err = w.fingerprint(); err != nil {
			return err
		}
		return m.write(w.conf.Directory)
	}
	if err := w.tidy(e, m); err != nil {
		return err
	}
	var want stamp
	if text, ok := c.BackupStamp(); ok {
		if want, err = parseStamp(string(text)); err != nil {
			return err
		}
	}
	if m != nil {
		m.Whole = true
		if err := m.write(w.conf.Directory); err != nil {
			return err
		}
	}
	if err := w.startAgain(ctx, m, want); err != nil {
		if m != nil && ctx.Err() == nil { // it does not serve: what was there is somebody's to judge
			m.Whole = false
			err = errors.Join(err, m.write(w.conf.Directory))
		}
		return err
	}
	return w.clearAway(e, m)
}

// nothingRestored puts back what was there, and starts the server with it, if that is
// what was there before any restore or what a server ran on.
func (w *redisWriter) nothingRestored(ctx context.Context, m *mark, session vss.GUID) error {
	dir := w.conf.Directory
	switch {
	case m == nil:
		return nil
	case m.More:
		if err := w.unused(m); err != nil {
			return err // PreRestore has refused it; the next one is refused, too
		}
		m.More, m.Mixed = false, true // the next restore begins anew
		return errors.Join(m.write(dir), errors.New("nothing was restored by this operation, and those before it have restored a part; the server stays stopped; restore again"))
	case m.Mixed:
		return errors.New("nothing was restored, and a restore before this one ended half done, so that its files are a mixture; the server stays stopped; restore again")
	}
	if m.Session != session {
		return errors.New("nothing was restored or changed, and a restore before this one has not ended; restore again")
	}
	if err := w.putBack(m); err != nil {
		return err
	}
	if err := w.startAgain(ctx, m, stamp{}); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, markName)); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, kept.Directory)); err == nil {
		return errors.New("nothing was restored, and the files are as they were before this restore; but one before it did not end, and what that has put aside is there still; remove it when it is needed no more")
	}
	return nil
}
