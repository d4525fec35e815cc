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
	"strings"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
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
	to, err := w.place(c)
	if err != nil {
		return err
	}
	n, err := readNotes(c)
	if err == nil {
		err = t.within(n, stampOf(c), !c.AdditionalRestores())
	}
	if err != nil {
		return w.halfway(c, to, err)
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
	used, err := a.used()
	if err != nil {
		return err
	}
	switch {
	case continues && pid != 0:
		return fmt.Errorf("the server of %s was started (process %d) before all backups of the chain were restored; stop it, move %s to where it is safe, for what was there before is in it, and restore the whole chain again", w.dir, pid, a.all())
	case continues && used:
		return fmt.Errorf("the server of %s was started, or its files were changed, before all backups of the chain were restored; move %s to where it is safe, for what was there before is in it, and restore the whole chain again", w.dir, a.all())
	case continues:
		return a.goOn(places)
	case pid != 0 && found && len(a.kept()) > 0 && !isPrivate(pid): // it would be dropped in the end
		return a.inUse(fmt.Sprintf("the server of %s runs (process %d), and yet", w.dir, pid))
	case pid == 0 && used && len(a.kept()) > 0:
		return a.inUse(fmt.Sprintf("the server of %s has run, or its files were changed, since", w.dir))
	case pid == 0 && a.another():
		a.state.Ran, a.state.Unit = nil, false
	}
	if err := w.dropSpools(places); err != nil {
		return err
	}
	if pid != 0 {
		if err := w.stop(ctx, pid, a); err != nil {
			return err
		}
	}
	if err := a.move(session, places); err != nil { // no PostRestore follows
		return fmt.Errorf("move aside what is in %s: %w; the server is left stopped, and what was there before is in %s as far as it was moved, and else in its place; restore again", w.dir, err, a.all())
	}
	return nil
}

// stampOf is what a backup is known by, nil if it does not tell.
func stampOf(c *metadata.Component) *stamp {
	text, ok := c.BackupStamp()
	if s, err := parseStamp(text); ok && err == nil {
		return &s
	}
	return nil
}

// halfway says with an error where things are, if backups of the chain before this
// one were restored.
func (w *dbWriter) halfway(c *metadata.Component, to string, err error) error {
	_, continues := c.PreviousBackupStamp()
	a, found, wrong := openAside(w.dir)
	if to != w.dir || !continues || !found || wrong != nil || !a.state.More {
		return err
	}
	return fmt.Errorf("%w; the server of %s is left stopped%s", err, w.dir, a.keptWords())
}

// inUse is the refusal to replace a server that somebody has used since a restore
// that did not end.
func (a *aside) inUse(why string) error {
	return fmt.Errorf("%s a restore that did not end has moved aside what was there before it, perhaps the only copy of it: "+
		"delete nothing; move %s to where it is safe, and restore again", why, a.all())
}

// all names all that was moved aside.
func (a *aside) all() string { return strings.Join(append([]string{a.path()}, a.far()...), ", ") }

// keptWords ends a message with where what was there before is, if anything was.
func (a *aside) keptWords() string {
	list := a.kept()
	if len(list) == 0 {
		return ""
	}
	return "; what was there before the restore is kept in " + strings.Join(list, ", ")
}

// goOn begins another operation of a chain. From here on files change.
func (a *aside) goOn(fresh []place) error {
	if a.state.Left != nil {
		a.state.Left = nil
		if err := a.save(); err != nil {
			return err
		}
	}
	return a.moveNew(fresh)
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
		return n, fmt.Errorf("the backup's own notes of the server cannot be read: %w; restore another backup", err)
	}
	if n.LogBase != "" {
		if err := checkPath(n.LogBase); err != nil {
			return n, fmt.Errorf("the backup's own notes of the server cannot be used: %w; restore another backup", err)
		}
	}
	return n, nil
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
	if touched := found || status != vss.FileRestoreStatusNone; !touched {
		return nil
	}
	if status == vss.FileRestoreStatusNone && !a.state.More && a.state.Session != e.SessionID {
		return nil // what is aside is an earlier restore's, of which files are here
	}
	if pid, err := lockedBy(to); err != nil {
		return err
	} else if pid != 0 {
		return fmt.Errorf("the server of %s was started (process %d) while its files were being restored; stop it, and whoever starts it, and restore again%s", to, pid, a.keptWords())
	}
	switch {
	case to != w.dir && (status != vss.FileRestoreStatusAll || c.AdditionalRestores()):
		return nil
	case to != w.dir:
		return w.beside(ctx, e, c, to)
	case status == vss.FileRestoreStatusNone && found && !a.state.More:
		return w.putBack(ctx, e, a)
	case status != vss.FileRestoreStatusAll:
		err := fmt.Errorf("not all files of %s were restored; the server is left stopped; restore again%s", w.dir, a.keptWords())
		if found {
			err = errors.Join(err, a.leave())
		}
		return err
	case c.AdditionalRestores():
		a.state.More, a.state.Places = true, join(a.state.Places, w.elsewhere(c)) // what is there now is restored
		return a.leave()                                                          // no recovery before the last (R-RES-28)
	}
	return w.finishRestore(ctx, e, c, a)
}

// putBack ends a restore of which no file was restored.
func (w *dbWriter) putBack(ctx context.Context, e *writer.Event, a *aside) error {
	if err := a.putBack(); err != nil {
		return fmt.Errorf("nothing was restored of %s, and what was there cannot be put back: %w; the server is left stopped, and the rest is in %s; restore again, or move it back by hand", w.dir, err, a.all())
	}
	// What this restore has put back is what one before it left half done.
	if left, err := a.attempts(); err != nil || len(left) > 0 {
		return errors.Join(fmt.Errorf("nothing was restored of %s, and a restore before this one ended half done; the server is left stopped, and what was there before both is kept in %s; restore again", w.dir, strings.Join(left, ", ")), err, a.leave())
	}
	return w.start(ctx, e, &a.state)
}

// finishRestore rolls forward what was restored, lets go of what was there before, and
// starts the server.
func (w *dbWriter) finishRestore(ctx context.Context, e *writer.Event, c *metadata.Component, a *aside) error {
	if err := w.rollForward(ctx, c, a); err != nil {
		if len(a.kept()) == 0 {
			return fmt.Errorf("%w; the server of %s is left stopped", err, w.dir)
		}
		if pid, err := lockedBy(w.dir); err == nil && pid == 0 {
			a.state.Writing = false
		}
		return errors.Join(fmt.Errorf("%w; the server of %s is left stopped%s", err, w.dir, a.keptWords()), a.leave())
	}
	state := a.state
	if err := a.drop(); err != nil {
		return fmt.Errorf("all of %s is restored, and what was there before cannot be removed: %w; the server is left stopped: move %s away and start it", w.dir, err, a.all())
	}
	err := w.start(ctx, e, &state)
	rest, _ := a.attempts() // it only adds to a message
	if left := append(rest, a.far()...); err == nil && len(left) > 0 {
		said := fmt.Sprintf("%s is restored, and what a restore before this one has moved aside is still in %s; remove it when it is of no use", w.dir, strings.Join(left, ", "))
		if e.Failure != nil {
			said = e.Failure.Message + "; " + said
		}
		e.SetWriterFailure(vss.OK, 0, said)
	}
	return err
}
