package postgres

import (
	"context"
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

// places are where a cluster is restored to.
type places struct {
	data   string
	wal    string
	spaces []space
	beside bool // not where it was
}

// chosen gives the cluster's component if it is to be restored.
func (w *pgWriter) chosen(e *writer.Event) *metadata.Component {
	c := w.component(e.Components)
	if c == nil {
		return nil
	}
	if selected, _ := c.SelectedForRestore(); !selected {
		return nil
	}
	return c
}

// places finds where the files of a component go.
func (w *pgWriter) places(c *metadata.Component) (places, error) {
	was := places{data: w.conf.Data, wal: w.conf.WAL, spaces: w.conf.Spaces}
	if w.layout != nil { // not of a backup's document, but of the cluster that is there
		was.wal, was.spaces = w.layout.wal, w.layout.spaces
	}
	targets := make(map[string]string)
	for _, t := range c.NewTargets() {
		targets[t.Path] = filepath.Clean(t.NewPath)
	}
	if len(targets) == 0 {
		return was, nil
	}
	to := places{beside: true}
	var missing []string
	move := func(path string) string {
		if targets[path] == "" {
			missing = append(missing, path)
		}
		return targets[path]
	}
	to.data, to.wal = move(was.data), move(was.wal)
	for _, dir := range append([]string{"pg_tblspc"}, always...) {
		if at := move(filepath.Join(was.data, dir)); at != "" && to.data != "" && at != filepath.Join(to.data, dir) {
			return to, fmt.Errorf("the new target of %s must be %s", filepath.Join(was.data, dir), filepath.Join(to.data, dir))
		}
	}
	for _, s := range was.spaces {
		at := move(filepath.Join(s.Dir, tablespaceVersion))
		if at != "" && filepath.Base(at) != tablespaceVersion {
			return to, fmt.Errorf("the new target of %s must end in %s", filepath.Join(s.Dir, tablespaceVersion), tablespaceVersion)
		}
		to.spaces = append(to.spaces, space{OID: s.OID, Dir: filepath.Dir(at)})
	}
	if len(missing) > 0 {
		return to, fmt.Errorf("some file sets of the cluster have a new target and these have none: %s; all of them must go elsewhere, so that nothing of the cluster that is there is touched",
			strings.Join(missing, ", "))
	}
	return to, nil
}

// PreRestore implements [writer.PreRestorer]. It stops the server and moves the old
// cluster's directories aside.
func (w *pgWriter) PreRestore(ctx context.Context, e *writer.Event) error {
	return w.handle(ctx, "PreRestore", func() error {
		c := w.chosen(e)
		if c == nil {
			return nil
		}
		err := w.preRestore(ctx, c)
		if err != nil {
			err = errors.Join(err, c.SetPreRestoreFailureMsg(message(err)))
		}
		return err
	})
}

func (w *pgWriter) preRestore(ctx context.Context, c *metadata.Component) error {
	goal, n, err := readGoal(c)
	if err != nil {
		return err
	}
	if err := goal.check(n, !c.AdditionalRestores()); err != nil {
		return err
	}
	if n.System != 0 && n.System != w.system {
		return fmt.Errorf("the backup is of the cluster %d, and its document says %d", n.System, w.system)
	}
	if _, err := w.programs(); err != nil {
		return err
	}
	to, err := w.places(c)
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		return fmt.Errorf("%s belongs to root, and nobody can run PostgreSQL's server as root; give the directory to the user that shall run it", to.data)
	}
	if to.beside {
		err = w.vacant(to)
	} else {
		err = w.clearPlace(ctx, c, to)
	}
	if err != nil {
		return err
	}
	return w.skeleton(to)
}

// skeleton makes the directories that files are restored into, closed to others
// from the beginning.
func (w *pgWriter) skeleton(to places) error {
	dirs := []string{to.data}
	for _, name := range append(append([]string{"pg_tblspc"}, always...), emptied...) {
		dirs = append(dirs, filepath.Join(to.data, name))
	}
	dirs = append(dirs, to.wal, filepath.Join(to.wal, "archive_status"), filepath.Join(to.wal, stagingName))
	for _, s := range to.spaces {
		dirs = append(dirs, filepath.Join(s.Dir, tablespaceVersion))
	}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w; make it, with the owner and mode that the cluster's directories have (user id %d, 0700)", err, os.Geteuid())
		}
	}
	return nil
}

// vacant makes sure that nothing of a cluster lies where one is restored to beside
// the one that is there.
func (w *pgWriter) vacant(to places) error {
	if p, err := runs(to.data); err != nil || p != nil {
		if p != nil {
			err = fmt.Errorf("a server (process %d) runs in the new target %s; choose another directory", p.pid, to.data)
		}
		return err
	}
	return nil
}

// clearPlace stops the server and puts the old cluster aside, in the first operation
// of a restore.
func (w *pgWriter) clearPlace(ctx context.Context, c *metadata.Component, to places) error {
	old, err := openAside(to.data)
	if err != nil {
		return err
	}
	server, err := runs(to.data)
	if err != nil {
		return err
	}
	prev, ok := c.PreviousBackupStamp()
	continues := ok && prev != ""
	if continues && server != nil {
		return w.keptAside(to, old, startedMeanwhile(to.data, server))
	}
	if err := w.sameCluster(to.data, server); err != nil {
		return err
	}
	if server != nil && old != nil && !old.State.Moving {
		return fmt.Errorf("the server of %s runs, and yet a restore that did not end has put aside what was there before it, perhaps the only copy of it: "+
			"delete nothing; move %s out of these directories to where it is safe, and restore again; "+
			"when the restored cluster has all you need you can delete it", to.data, strings.Join(old.kept(), ", "))
	}
	state := asideState{WAL: logOf(to.data)}
	if server != nil {
		state.Running = true
		state.Bin, state.Args = commandOf(server.pid)
		if err := w.stop(ctx, to.data, server); err != nil {
			return err
		}
	}
	switch {
	case continues:
		return nil // the operations before this one have cleared the place
	case old != nil && old.State.Moving: // nothing was restored since
		state.Running = state.Running || old.State.Running
		if server == nil {
			state.Bin, state.Args = old.State.Bin, old.State.Args
		}
		state.WAL, state.Spaces = old.State.WAL, old.State.Spaces
		return putAside(to.data, state, true)
	case old != nil: // a restore did not end; what was there before it is what counts
		return old.clear()
	}
	if _, err := os.Lstat(filepath.Join(to.data, "PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	spaces, err := readSpaces(to.data)
	if err != nil {
		spaces = nil // a damaged cluster is what restores are for
	}
	for _, s := range append(spaces, to.spaces...) {
		if !slices.Contains(state.Spaces, s.Dir) {
			state.Spaces = append(state.Spaces, s.Dir)
		}
	}
	return putAside(to.data, state, false)
}

// startedMeanwhile is of a server that somebody started on files that are still
// being restored.
func startedMeanwhile(data string, p *postmaster) error {
	return fmt.Errorf("the server of %s was started (process %d) while its files were being restored; stop it, and whoever starts it, and restore again", data, p.pid)
}

// logOf gives the directory that pg_wal is or leads to; empty if there is none.
func logOf(data string) string {
	dir, err := filepath.EvalSymlinks(filepath.Join(data, "pg_wal"))
	if err != nil {
		return ""
	}
	return dir
}

// sameCluster refuses to put a backup in the place of another cluster.
func (w *pgWriter) sameCluster(data string, server *postmaster) error {
	c, err := readControl(data)
	switch {
	case err == nil && c.System != w.system:
		return fmt.Errorf("in %s lies another cluster, with system identifier %d; the backup is of %d: move it away, or restore to a new target", data, c.System, w.system)
	case err != nil && server != nil:
		return fmt.Errorf("a server (process %d) runs in %s and it cannot be told of which cluster: %w; stop it, and restore again", server.pid, data, err)
	}
	return nil // nothing there, or a damaged one
}

// readGoal reads how far the cluster is to be recovered, and what is known of the
// backup.
func readGoal(c *metadata.Component) (target, *notes, error) {
	options, _ := c.RestoreOptions()
	roll, point := c.RollForward()
	goal, err := parseTarget(options, roll, point)
	if err != nil {
		return goal, nil, err
	}
	text, ok := c.BackupMetadata()
	if !ok || text == "" {
		return goal, &notes{}, nil
	}
	n, err := parseNotes(text)
	return goal, &n, err
}

// PostRestore implements [writer.PostRestorer]: when no more restores follow it
// recovers the cluster and starts it as it ran before.
func (w *pgWriter) PostRestore(ctx context.Context, e *writer.Event) error {
	return w.handle(ctx, "PostRestore", func() error {
		c := w.chosen(e)
		if c == nil {
			return nil
		}
		err := w.postRestore(ctx, e, c)
		if err != nil {
			err = errors.Join(err, c.SetPostRestoreFailureMsg(message(err)))
		}
		return err
	})
}

func (w *pgWriter) postRestore(ctx context.Context, e *writer.Event, c *metadata.Component) error {
	to, err := w.places(c)
	if err != nil {
		return err
	}
	var old *aside
	if !to.beside {
		if old, err = openAside(to.data); err != nil {
			return err
		}
	}
	// Two servers on one cluster would destroy it, and what keeps a second one out
	// is removed before the cluster is recovered.
	none := c.FileRestoreStatus() == vss.FileRestoreStatusNone || c.FileRestoreStatus() == vss.FileRestoreStatusUndefined
	if p, err := runs(to.data); (old != nil || !none) && (err != nil || p != nil) {
		if p != nil {
			err = startedMeanwhile(to.data, p)
		}
		return w.keptAside(to, old, err)
	}
	switch {
	case none:
		return w.nothingRestored(ctx, c, to, old)
	case c.FileRestoreStatus() != vss.FileRestoreStatusAll:
		return w.half(to, old)
	case c.AdditionalRestores():
		return nil // R-RES-28
	}
	goal, _, err := readGoal(c)
	if err != nil {
		return err
	}
	standby, err := isStandby(to.data)
	if err == nil {
		err = w.recoverAt(ctx, to, old, goal, standby)
	}
	if err != nil {
		return w.keptAside(to, old, err)
	}
	if standby {
		note(e, "the cluster in %s is a standby, as it was when it was copied: started, it follows its primary; pg_ctl promote makes it one of its own", to.data)
	}
	state := asideState{}
	if old != nil {
		state = old.State
		if err := old.remove(); err != nil {
			return err
		}
	}
	return w.startAgain(ctx, e, to, state, goal.start)
}

// isStandby reports whether restored files are those of a standby: what follows
// somebody by its signal, and not a primary in whose directory one lay about.
func isStandby(data string) (bool, error) {
	if _, err := os.Lstat(filepath.Join(data, "standby.signal")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	now, err := readControl(data)
	return now.State == shutDownInRecovery || now.State == inArchiveRecovery, err
}

// nothingRestored puts the old cluster back.
func (w *pgWriter) nothingRestored(ctx context.Context, c *metadata.Component, to places, old *aside) error {
	if prev, ok := c.PreviousBackupStamp(); ok && prev != "" {
		return w.half(to, old) // operations before this one have restored files
	}
	if old == nil {
		return nil
	}
	if err := old.putBack(); err != nil {
		return err
	}
	if !old.State.Running {
		return nil
	}
	return w.start(ctx, to, old.State)
}

// half is the answer to a restore of which some files are missing.
func (w *pgWriter) half(to places, old *aside) error {
	return w.keptAside(to, old, fmt.Errorf("not all files of the cluster in %s were restored, so that it was not recovered and must not be started; restore again", to.data))
}

// keptAside adds where the old cluster is.
func (w *pgWriter) keptAside(to places, old *aside, err error) error {
	if old == nil {
		return err
	}
	return fmt.Errorf("%w; what was there before the restore is kept in %s", err, strings.Join(old.kept(), ", "))
}

// kept lists the directories with things put aside.
func (a *aside) kept() []string {
	var list []string
	for _, dir := range a.places() {
		list = append(list, filepath.Join(dir, asideName))
	}
	return list
}

// message is an error on one line, for the document.
func message(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
