package etcd

import (
	"context"
	"encoding/json"
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
	"github.com/sombra-backup/sombra/writer/launch"
)

// launchLog is, in the directory of the data, what a server says that no unit
// starts.
const launchLog = ".sombra-etcd.log"

// startLimit is how long a server may take until it answers.
const startLimit = 2 * time.Minute

// PreRestore implements [writer.PreRestorer]: the server is stopped and its data
// moved aside, unless the files go elsewhere or an earlier restore of a chain has
// done so.
func (w *etcdWriter) PreRestore(ctx context.Context, e *writer.Event) error {
	c := w.chosen(e)
	if c == nil || len(c.NewTargets()) > 0 {
		return nil
	}
	if err := w.makeRoom(ctx, e.SessionID, c); err != nil {
		err = w.failure("PreRestore", vss.ErrWriterErrorNonRetryable, err)
		return errors.Join(err, c.SetPreRestoreFailureMsg(oneLine(err)))
	}
	return nil
}

func (w *etcdWriter) makeRoom(ctx context.Context, session vss.GUID, c *metadata.Component) error {
	pid, err := runningIn(w.conf.Directory)
	if err != nil {
		return err
	}
	alone := pid != 0 && members(ctx, w.conf.Found.Command) == 1
	if err := mayReplace(c, alone); err != nil {
		return err
	}
	a, err := openAside(w.conf)
	if err != nil {
		return err
	}
	// What was saved whole begins a chain: then what lies here is an earlier
	// restore's that did not come to its end.
	prev, _ := c.PreviousBackupStamp()
	more := a != nil && a.state.More && prev != ""
	if more && pid != 0 {
		return fmt.Errorf("the server was started (process %d) before all backups of the chain were restored; stop it and restore again", pid)
	}
	if more {
		if err := a.unused(); err != nil {
			return err
		}
	}
	if a == nil {
		a = newAside(w.conf)
	}
	if pid != 0 {
		a.state.Running, a.state.Command = true, w.conf.Found.Command
	}
	if pid != 0 && !a.state.Whole {
		a.state.Own = nil // somebody has gone on with a part; what was there before is not for us to remove
	}
	if err := w.stop(ctx, pid); err != nil {
		return err
	}
	if more {
		return nil // this one comes on top of the one before
	}
	a.state.More, a.state.Session, a.state.Live = false, session, pid != 0
	if err := a.put(); err != nil { // no PostRestore follows
		return fmt.Errorf("%w; the server is left stopped, and what was there before is in %s as far as it was moved, and else in its place; restore again",
			err, filepath.Join(w.conf.Directory, asideName))
	}
	return nil
}

// mayReplace refuses what would break a cluster: alone says that the server that
// runs now is in none.
func mayReplace(c *metadata.Component, alone bool) error {
	fresh, err := newCluster(c)
	if err != nil || fresh {
		return err
	}
	text, _ := c.BackupMetadata()
	var r remembered
	if text != "" {
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return fmt.Errorf("what the backup says of the cluster: %w", err)
		}
	}
	switch {
	case r.Members == 1, r.Members == 0 && alone:
		return nil
	case r.Members == 0:
		return errors.New("how many members the cluster had is not known, and data of one of several must not be put back into it; restore it as a new cluster of one member (--restore-option '\"cluster\"=\"new\"'), or elsewhere")
	}
	return fmt.Errorf("it is the data of one of %d members, which must not be put back into their cluster: to replace a lost member, remove it and add an empty one (etcdctl member); to begin a new cluster of one member with this data, restore with --restore-option '\"cluster\"=\"new\"'", r.Members)
}

// newCluster reads the restore options: cluster=new is the only one.
func newCluster(c *metadata.Component) (bool, error) {
	text, _ := c.RestoreOptions()
	list, err := vss.ParseRestoreOptions(text)
	if err != nil {
		return false, err
	}
	fresh := false
	for _, o := range list {
		if o.Sub != "" || !o.Is("cluster") || o.Value != "new" {
			return false, fmt.Errorf("restore option %s=%s: only cluster=new is known", o.Name, o.Value)
		}
		fresh = true
	}
	return fresh, nil
}

// stop stops the server: by its unit, also if it does not run, so that nothing
// starts it meanwhile; else by a signal.
func (w *etcdWriter) stop(ctx context.Context, pid int) error {
	if w.spec.Service != nil {
		if err := w.spec.Service.Stop(ctx); err != nil {
			return err
		}
		left, err := runningIn(w.conf.Directory)
		if err == nil && left != 0 {
			err = fmt.Errorf("process %d still has the data open, though %s has stopped", left, w.spec.Service.Name())
		}
		return err
	}
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	for {
		left, err := runningIn(w.conf.Directory)
		if err != nil || left == 0 {
			return err
		}
		if left != pid {
			return fmt.Errorf("process %d has taken the place of process %d, which was stopped; stop whoever starts it", left, pid)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d has not ended: %w", pid, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// PostRestore implements [writer.PostRestorer]: with all restored and no more to
// come, the server is started and asked, and what was aside removed.
func (w *etcdWriter) PostRestore(ctx context.Context, e *writer.Event) error {
	c := w.chosen(e)
	if c == nil || len(c.NewTargets()) > 0 {
		return nil
	}
	if err := w.restored(ctx, e, c); err != nil {
		err = w.failure("PostRestore", vss.ErrWriterErrorNonRetryable, err)
		return errors.Join(err, c.SetPostRestoreFailureMsg(oneLine(err)))
	}
	return nil
}

func (w *etcdWriter) restored(ctx context.Context, e *writer.Event, c *metadata.Component) error {
	a, err := openAside(w.conf)
	if err != nil {
		return err
	}
	if a == nil {
		return nil // nothing was done before it, either
	}
	status := c.FileRestoreStatus()
	nothing := status != vss.FileRestoreStatusAll && status != vss.FileRestoreStatusFailed
	if nothing && !a.state.More && a.state.Session != e.SessionID {
		return nil // what is aside is an earlier restore's, of which files are here
	}
	at := filepath.Join(w.conf.Directory, asideName)
	if pid, err := runningIn(w.conf.Directory); err != nil || pid != 0 {
		return errors.Join(fmt.Errorf("its server was started (process %d) while its files were being restored; stop it, and whoever starts it, and restore again; what was there before is kept in %s", pid, at), err)
	}
	switch status {
	case vss.FileRestoreStatusAll:
	case vss.FileRestoreStatusFailed:
		return fmt.Errorf("some of its files were restored and some were not, so the server is not started; restore again; what was there before is kept in %s", at)
	default:
		if a.state.More {
			if err := a.unused(); err != nil {
				return err // PreRestore has refused it; the next one is refused, too
			}
			// The files here are those that the operation before has restored:
			// what is aside does not go among them.
			a.state.More = false // the next restore begins anew
			return errors.Join(fmt.Errorf("an operation before this one restored its files, and this one nothing, so the server is not started; restore again; what was there before is kept in %s", at), a.write())
		}
		running, cmd, live := a.state.Running, a.state.Command, a.state.Live
		if err := a.putBack(); err != nil {
			return err
		}
		switch {
		case a.state.Number > 0 && live: // what it ran on is here again
			return errors.Join(fmt.Errorf("nothing was restored, and the server goes on as before; but a restore before this one has not ended, and what that has put aside is kept in %s", at),
				w.start(ctx, running, cmd))
		case a.state.Number > 0:
			return fmt.Errorf("nothing was restored, and a restore before this one ended half done, so the server is not started; restore again; what was there before both is kept in %s", at)
		}
		return w.start(ctx, running, cmd)
	}
	if c.AdditionalRestores() {
		a.state.More = true
		if a.state.Seal, err = a.fingerprint(); err != nil {
			return err
		}
		return a.write()
	}
	fresh, err := newCluster(c)
	if err != nil {
		return err
	}
	if fresh || !a.state.Running {
		// A server that is not to be started is tried, too.
		err = w.try(ctx, fresh)
	}
	if err == nil {
		a.state.Whole = true
		err = a.write()
	}
	if err == nil {
		if err = w.start(ctx, a.state.Running, a.state.Command); err != nil && ctx.Err() == nil {
			a.state.Whole = false // it does not serve: what was there is somebody's to judge
			err = errors.Join(err, a.write())
		}
	}
	if err != nil {
		return fmt.Errorf("%w; what was there before is kept in %s", err, at)
	}
	left, err := a.remove()
	if len(left) > 0 {
		e.SetWriterFailure(vss.OK, 0, fmt.Sprintf("%s has what was there before an earlier restore that did not end; it stays, and may be removed when it is needed no more", strings.Join(left, " and ")))
	}
	return err
}

// start starts the server as it was started before, if it ran, and returns when it
// answers.
func (w *etcdWriter) start(ctx context.Context, running bool, cmd command) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if w.spec.Service != nil {
		up, err := w.resume(ctx, running)
		if err != nil || !up {
			return err
		}
	} else if !running {
		return nil
	} else {
		p, err := launch.Start(w.spec, launch.Program{Path: cmd.Program, Args: cmd.Args, Dir: cmd.Dir,
			Env: append(launch.Environment(), cmd.Env...), Log: filepath.Join(w.conf.Directory, launchLog)})
		if err != nil {
			return err
		}
		return w.await(ctx, cmd, p.Done(), func() error { return fmt.Errorf("%w; it said: %s", p.Err(), w.lastWords()) })
	}
	return w.await(ctx, cmd, nil, nil)
}

// resume starts the unit if it ran before.
func (w *etcdWriter) resume(ctx context.Context, running bool) (up bool, err error) {
	if running {
		return true, w.spec.Service.Start(ctx)
	}
	if h, ok := w.spec.Service.(writer.ServiceHolder); ok {
		if err := h.Release(ctx); err != nil { // what would start it, above all
			return false, err
		}
	}
	return w.spec.Service.Active(ctx)
}

// await waits until a server answers. One that wants certificates of its clients
// counts as answering when it has had its data open for a while.
func (w *etcdWriter) await(ctx context.Context, cmd command, ended <-chan struct{}, why func() error) error {
	const settle = 3 * time.Second
	var since time.Time
	for {
		asked := healthy(ctx, cmd)
		if asked == nil {
			return nil
		}
		pid, err := runningIn(w.conf.Directory)
		switch {
		case err != nil:
			return err
		case pid == 0:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > settle && strings.Contains(cmd.option("listen-client-urls"), "https:"):
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("the server has not started: %w", why())
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w", errors.Join(context.Cause(ctx), asked))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (w *etcdWriter) lastWords() string {
	b, err := os.ReadFile(filepath.Join(w.conf.Directory, launchLog))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	last := lines[len(lines)-1]
	return last[:min(len(last), 1000)]
}

// chosen gives the component if it is to be restored.
func (w *etcdWriter) chosen(e *writer.Event) *metadata.Component {
	c, ok := w.component(e)
	if !ok {
		return nil
	}
	if selected, _ := c.SelectedForRestore(); !selected {
		return nil
	}
	return c
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
