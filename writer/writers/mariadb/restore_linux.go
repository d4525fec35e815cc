package mariadb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/launch"
	"golang.org/x/sys/unix"
)

var (
	_ writer.PreRestorer  = (*dbWriter)(nil)
	_ writer.PostRestorer = (*dbWriter)(nil)
)

// chosen gives the server's component if it is to be restored.
func (w *dbWriter) chosen(e *writer.Event) *metadata.Component {
	c := w.component(e)
	if c == nil {
		return nil
	}
	if selected, _ := c.SelectedForRestore(); !selected {
		return nil
	}
	return c
}

// PreRestore implements [writer.PreRestorer]. It stops the server and moves aside
// what is in its place: a file of the old server that met the restored ones would
// spoil them. Restored elsewhere, the server goes on.
func (w *dbWriter) PreRestore(ctx context.Context, e *writer.Event) error {
	const event = "PreRestore"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	c := w.chosen(e)
	if c == nil {
		return nil
	}
	if err := w.clear(ctx, e.SessionID, c); err != nil {
		err = errors.Join(err, c.SetPreRestoreFailureMsg(message(err)))
		return w.veto(ctx, event, err)
	}
	return nil
}

func (w *dbWriter) clear(ctx context.Context, session vss.GUID, c *metadata.Component) error {
	t, err := parseTarget(c) // before anything is touched
	if err != nil {
		return err
	}
	n, err := readNotes(c)
	if err == nil {
		err = t.within(n, !c.AdditionalRestores())
	}
	if err != nil {
		return err
	}
	to, err := w.place(c)
	if err != nil {
		return err
	}
	places := w.elsewhere(c)
	if to != w.dir {
		_, err := besideOptions(places, c.NewTargets())
		if err == nil {
			err = unusedPlace(to)
		}
		if err != nil {
			return err
		}
		return makeTargets(c)
	}
	if _, err := os.Lstat(w.dir); errors.Is(err, fs.ErrNotExist) {
		return unusedPlaces(w.dir, places)
	}
	a, found, err := openAside(w.dir)
	if err != nil {
		return err
	}
	pid, err := lockedBy(w.dir)
	if err != nil {
		return err
	}
	// What was saved whole begins a chain: then what lies here is an earlier
	// restore's that did not come to its end.
	_, continues := c.PreviousBackupStamp()
	continues = continues && found && a.state.More
	if continues { // what lies in the others has been restored
		places = slices.DeleteFunc(places, func(p place) bool { return slices.Contains(a.state.Places, p) })
	} else {
		mounts, err := mounted(w.dir)
		if err != nil {
			return err
		}
		places = join(places, mounts)
	}
	for _, p := range places {
		if err := p.movable(); err != nil {
			return err
		}
	}
	switch {
	case continues && pid != 0:
		return fmt.Errorf("the server was started (process %d) before all backups of the chain were restored; stop it and restore again", pid)
	case continues:
		return a.moveNew(places)
	case pid != 0 && found && len(a.kept()) > 0 && !isPrivate(pid): // it would be dropped in the end
		return fmt.Errorf("the server of %s runs (process %d), and yet a restore that did not end has moved aside what was there before it, perhaps the only copy of it: "+
			"delete nothing; move %s to where it is safe, and restore again", w.dir, pid, strings.Join(append([]string{a.path()}, a.far()...), ", "))
	}
	if err := w.dropSpools(places); err != nil {
		return err
	}
	if pid != 0 {
		if err := w.stop(ctx, pid, &a.state); err != nil {
			return err
		}
	}
	if err := a.move(session, places); err != nil { // no PostRestore follows
		return fmt.Errorf("%w; the server is left stopped, and what was there before is in %v as far as it was moved, and else in its place; restore again", err, a.kept())
	}
	return nil
}

// dropSpools removes logs that a restore before this one has left to be replayed.
func (w *dbWriter) dropSpools(places []place) error {
	spools := []string{spoolBelow(w.dir)}
	for _, p := range places {
		if p.Log {
			spools = append(spools, filepath.Join(p.Dir, spoolName))
		}
	}
	for _, dir := range spools {
		if err := noLink(dir); err != nil {
			return err
		}
		if err := removeSpool(dir); err != nil {
			return err
		}
	}
	return nil
}

// unusedPlace refuses to restore beside the live server where another one runs.
func unusedPlace(dir string) error {
	pid, err := lockedBy(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && pid != 0 {
		err = fmt.Errorf("a server runs in %s, process %d; stop it or name another directory", dir, pid)
	}
	return err
}

// unusedPlaces refuses to write over what is left of a server whose data directory is
// gone: in that it would be noted what was moved aside.
func unusedPlaces(dir string, places []place) error {
	for _, p := range places {
		entries, err := os.ReadDir(p.Dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p.stays(err)
		}
		if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !e.IsDir() && p.has(e.Name()) }) {
			return fmt.Errorf("the data directory %s is gone, and files %s are still in %s; make an empty one, with the data's owner, so that they can be moved aside, or move them away by hand", dir, p.Pattern, p.Dir)
		}
	}
	return nil
}

// makeTargets makes the directories of new targets below one that is there: they
// are the data owner's then.
func makeTargets(c *metadata.Component) error {
	for _, t := range c.NewTargets() {
		if err := os.MkdirAll(t.NewPath, 0o700); err != nil {
			return fmt.Errorf("%w; make the directory, with the data's owner", err)
		}
	}
	return nil
}

// place is where the data directory goes.
func (w *dbWriter) place(c *metadata.Component) (string, error) {
	to := w.dir
	for _, t := range c.NewTargets() {
		if t.Path == w.dir {
			to = filepath.Clean(t.NewPath)
		}
	}
	for _, t := range c.NewTargets() {
		if to == w.dir {
			return "", fmt.Errorf("a new target moves %s, and none moves the data directory %s itself; move all file sets or none", t.Path, w.dir)
		}
		if !within(t.Path, w.dir) {
			continue
		}
		if want := filepath.Join(to, t.Path[len(w.dir):]); filepath.Clean(t.NewPath) != want {
			return "", fmt.Errorf("a new target moves %s to %s, which belongs at %s", t.Path, t.NewPath, want)
		}
	}
	return to, nil
}

// notes is what the writer keeps with a backup for its restore. It comes from a
// medium.
type notes = facts

func readNotes(c *metadata.Component) (notes, error) {
	var n notes
	text, ok := c.BackupMetadata()
	if !ok {
		return n, nil
	}
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return n, fmt.Errorf("the backup's own notes cannot be read: %w", err)
	}
	if n.LogBase != "" {
		if err := checkPath(n.LogBase); err != nil {
			return n, fmt.Errorf("the backup's own notes cannot be used: %w", err)
		}
	}
	return n, nil
}

// stop stops the server, and notes how it was started. A stop by a signal is an
// orderly one, and the data's owner may send it.
func (w *dbWriter) stop(ctx context.Context, pid int, state *asideState) error {
	if isPrivate(pid) { // how the server ran before that restore is noted
		return w.terminate(ctx, pid)
	}
	state.Ran, state.Unit = commandLine(pid), false
	if exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe"); err == nil && len(state.Ran) > 0 {
		state.Ran[0] = exe
	} else if len(state.Ran) > 0 && !filepath.IsAbs(state.Ran[0]) {
		// A server that root has started keeps its program to root.
		if state.Ran[0], err = program(filepath.Base(state.Ran[0])); err != nil {
			return err
		}
	}
	if w.service != nil {
		active, err := w.service.Active(ctx)
		if err != nil {
			return err
		}
		if active {
			state.Unit = true
			if err := w.service.Stop(ctx); err != nil {
				return err
			}
		}
	}
	if now, err := lockedBy(w.dir); err != nil || now == 0 {
		return err
	}
	return w.terminate(ctx, pid)
}

// terminate has a server shut down, and waits for its end.
func (w *dbWriter) terminate(ctx context.Context, pid int) error {
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop the server, process %d: %w", pid, err)
	}
	return w.waitStopped(ctx)
}

// waitStopped waits until no server runs.
func (w *dbWriter) waitStopped(ctx context.Context) error {
	for {
		pid, err := lockedBy(w.dir)
		if err != nil || pid == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server, process %d, does not stop: %w", pid, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// PostRestore implements [writer.PostRestorer]. After a chain's last operation it
// replays binary logs and starts the server; if nothing was restored it puts back
// what was there.
func (w *dbWriter) PostRestore(ctx context.Context, e *writer.Event) error {
	const event = "PostRestore"
	if err := w.take(ctx, event); err != nil {
		return err
	}
	defer w.give()
	c := w.chosen(e)
	if c == nil {
		return nil
	}
	if err := w.restored(ctx, e, c); err != nil {
		err = errors.Join(err, c.SetPostRestoreFailureMsg(message(err)))
		return w.veto(ctx, event, err)
	}
	return nil
}

func (w *dbWriter) restored(ctx context.Context, e *writer.Event, c *metadata.Component) error {
	to, err := w.place(c)
	if err != nil {
		return err
	}
	a, found, err := openAside(w.dir)
	if err != nil {
		return err
	}
	status := c.FileRestoreStatus()
	left := a.kept()
	if touched := found || status != vss.FileRestoreStatusNone; !touched {
		return nil
	}
	if status == vss.FileRestoreStatusNone && !a.state.More && a.state.Session != e.SessionID {
		return nil // what is aside is an earlier restore's, of which files are here
	}
	if pid, err := lockedBy(to); err != nil {
		return err
	} else if pid != 0 {
		return fmt.Errorf("the server of %s was started (process %d) while its files were being restored; stop it, and whoever starts it, and restore again; what was there before is kept in %v", to, pid, left)
	}
	switch {
	case to != w.dir && (status != vss.FileRestoreStatusAll || c.AdditionalRestores()):
		return nil
	case to != w.dir:
		return w.beside(ctx, e, c, to)
	case status == vss.FileRestoreStatusNone && found && !a.state.More:
		if err := a.putBack(); err != nil {
			return err
		}
		// What this restore has put back is what one before it left half done.
		if left, err := a.attempts(); err != nil || len(left) > 0 {
			return errors.Join(fmt.Errorf("nothing was restored of %s, and a restore before this one ended half done; the server is left stopped, and what was there before both is kept in %v; restore again", w.dir, left), err)
		}
		return w.start(ctx, e, &a.state)
	case status != vss.FileRestoreStatusAll:
		return fmt.Errorf("not all files of %s were restored; the server is left stopped, and what was there before is kept in %v; restore again", w.dir, left)
	case c.AdditionalRestores():
		a.state.More, a.state.Places = true, join(a.state.Places, w.elsewhere(c)) // what is there now is restored
		return a.save()                                                           // no recovery before the last (R-RES-28)
	}
	if err := w.rollForward(ctx, c, a); err != nil {
		if len(left) > 0 {
			err = fmt.Errorf("%w; the server is left stopped, and what was there before the restore is kept in %v", err, left)
		}
		return err
	}
	state := a.state
	if err := a.drop(); err != nil {
		return err
	}
	return w.start(ctx, e, &state)
}

// readyLimit is the longest that a server may take to recover and accept
// connections, where nobody says another.
const readyLimit = 10 * time.Minute

// start starts the server as it was started before. One that did not run is started
// only if the configuration says how.
func (w *dbWriter) start(ctx context.Context, e *writer.Event, state *asideState) error {
	switch command := state.Ran; {
	case w.service != nil && (state.Unit || w.set.Unit != ""):
		return w.service.Start(ctx)
	case len(w.set.Start) > 0:
		return w.startCommand(ctx, w.set.Start)
	case len(command) > 0:
		return w.startCommand(ctx, command)
	}
	e.SetWriterFailure(vss.OK, 0, fmt.Sprintf("the server of %s is restored and left stopped, since it did not run before; start it", w.dir))
	return nil
}

// startCommand starts a command that is, or becomes, the server, and waits until
// that accepts connections.
func (w *dbWriter) startCommand(ctx context.Context, command []string) error {
	p, err := launch.Start(w.spec, launch.Program{Path: command[0], Args: command[1:], Log: filepath.Join(w.dir, "start.err")})
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	return waitReady(ctx, p, filepath.Join(w.dir, "start.err"), func(ctx context.Context) error {
		pid, err := lockedBy(w.dir)
		if err != nil || pid == 0 {
			return errors.Join(err, errors.New("no server runs"))
		}
		socket := listensOn(pid)
		if socket == "" {
			return errors.New("it does not listen on a socket")
		}
		l, err := w.set.account()
		if err != nil {
			return err
		}
		s, err := dial(&w.set, socket, l)
		if err != nil {
			return err
		}
		defer s.close()
		return s.db.PingContext(ctx)
	})
}

// waitReady waits until a server that was started answers. One that refuses the
// account answers, too.
func waitReady(ctx context.Context, p *launch.Process, log string, ping func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for {
		err := ping(ctx)
		if err == nil || answered(err) {
			return nil
		}
		select {
		case <-p.Done():
			return fmt.Errorf("the server that was started has ended: %v; its last words: %s", p.Err(), lastWords(log))
		case <-ctx.Done():
			return fmt.Errorf("the server that was started does not answer: %w: %w", context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
