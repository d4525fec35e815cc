package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"golang.org/x/sys/unix"
)

// PreRestore refuses if a process has the database open: it would go on with
// the old file, which has no name any more. Then it moves aside the files SQLite
// keeps beside the database, since an old write-ahead log or journal that meets
// a restored database destroys it.
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
	err := w.unused(e.Open)
	if err == nil {
		err = w.clear()
	}
	if err == nil {
		return nil
	}
	err = errors.Join(err, c.SetPreRestoreFailureMsg(message(err)))
	return vss.Errorf(vss.ErrWriterErrorNonRetryable, event, w.path, "%w", err)
}

// clear moves aside what lies beside the database. An earlier restore may have
// ended in between; its work is undone first.
func (w *dbWriter) clear() error {
	p, err := openPlace(w.path)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.putBack(); err != nil {
		return err
	}
	w.before, err = p.moveAside()
	return err
}

// chosen gives the database's component if it is to be restored.
func (w *dbWriter) chosen(e *writer.Event) *metadata.Component {
	if e.Components == nil {
		return nil
	}
	c, ok := e.Components.Component("", w.path)
	if !ok {
		return nil
	}
	if selected, _ := c.SelectedForRestore(); !selected {
		return nil
	}
	return c
}

// unused makes sure that no process has one of the files open. The service has
// looked at all processes; what a process has locked is seen here too, even
// where the service may not look.
func (w *dbWriter) unused(open []writer.OpenFile) error {
	var users []string
	for _, f := range open {
		if f.Path == w.path || strings.HasPrefix(f.Path, w.path+"-") {
			users = append(users, fmt.Sprintf("%s is open in process %d (%s)", f.Path, f.PID, f.Command))
		}
	}
	if len(users) > 0 {
		return fmt.Errorf("the database is in use: %s; stop the application and restore again", strings.Join(users, ", "))
	}
	pid, err := lockedBy(w.path, pendingByte, sharedFirst+sharedSize-pendingByte)
	if err == nil && pid == 0 {
		pid, err = lockedBy(w.path+"-shm", walFirstByte, walBytes)
	}
	if err != nil {
		return err
	}
	if pid != 0 {
		return fmt.Errorf("the database is in use by %s; stop it and restore again", processName(pid))
	}
	return nil
}

// lockedBy tells which process has a lock on a part of a file. A file that is
// not there, or is none of ours to open, has no locks we can see.
func lockedBy(path string, start, length int64) (int, error) {
	f, id, err := openRegular(path, unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer opened.release(id)
	defer f.Close()
	return holder(int(f.Fd()), unix.F_WRLCK, start, length)
}

// PostRestore puts back what PreRestore moved aside if nothing was restored;
// otherwise it checks the database, and removes those files if it is sound.
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
		return vss.Errorf(vss.ErrWriterErrorNonRetryable, event, w.path, "%w", err)
	}
	return nil
}

// restored does what the outcome of the restore asks for.
func (w *dbWriter) restored(ctx context.Context, e *writer.Event, c *metadata.Component) error {
	p, err := openPlace(w.path)
	if err != nil {
		return err
	}
	defer p.close()
	if status := c.FileRestoreStatus(); status != vss.FileRestoreStatusAll {
		return p.notRestored(w.before, status)
	}
	if c.AdditionalRestores() {
		return nil // more is to come (R-RES-28)
	}
	note, err := checkDatabase(ctx, w.path)
	if err != nil {
		left, _ := p.aside() // only adds to the message
		if len(left) > 0 {
			err = fmt.Errorf("%w; what lay beside the database before the restore is kept as %s", err, strings.Join(left, ", "))
		}
		return err
	}
	if note != "" {
		e.SetWriterFailure(vss.OK, 0, note)
	}
	return p.removeAside()
}

// maxComplaints bounds how many of integrity_check's findings are passed on.
const maxComplaints = 10

// checkDatabase opens a restored database, as its application will, and has
// SQLite check all of it. A database that cannot be checked, because that needs
// a function or an order of sorting that its application defines, or is not safe
// where it lies, gives a note.
func checkDatabase(ctx context.Context, path string) (note string, err error) {
	if err := checkPlace(path, false); err != nil {
		return "it was restored, but its integrity was not checked: " + err.Error(), nil
	}
	db, err := openDatabase(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	found, err := db.column(ctx, fmt.Sprintf("PRAGMA integrity_check(%d)", maxComplaints), maxComplaints)
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("integrity check of %s: %w", path, ctx.Err())
	case err != nil && needsApplication(err):
		return fmt.Sprintf("it was restored, but its integrity was not checked, as that needs its application: %v", err), nil
	case err != nil:
		return "", fmt.Errorf("integrity check of %s: %w", path, err)
	case len(found) != 1 || found[0] != "ok":
		return "", fmt.Errorf("the restored database %s is damaged: %s", path, strings.Join(found, "; "))
	}
	return "", nil
}

func needsApplication(err error) bool {
	for _, lack := range []string{"no such collation sequence", "no such function", "no such module"} {
		if strings.Contains(err.Error(), lack) {
			return true
		}
	}
	return false
}

// message is an error on one line, for the document.
func message(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
