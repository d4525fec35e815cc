package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/owner"
	"golang.org/x/sys/unix"
)

// Kind is the writer kind "postgres". The zero Kind is ready for use, by several
// goroutines at once.
type Kind struct{}

var _ writer.Kind = Kind{}

// Name implements [writer.Kind].
func (Kind) Name() string { return KindName }

// Class implements [writer.Kind].
func (Kind) Class() vss.GUID { return classID }

// New implements [writer.Kind]. It reads the cluster's control file, with the
// rights of its process, and asks the server what a backup would miss. In a restore the directory may be absent or anything.
func (Kind) New(ctx context.Context, s writer.Spec) (writer.Writer, error) {
	c, err := parseConfig(s.Config)
	if err != nil {
		return nil, err
	}
	if err := checkPath(c.Data); err != nil {
		return nil, err
	}
	w := newWriter(c, s)
	if c.Restore {
		return w, w.stored()
	}
	if err := owner.Closed(c.Data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	v, err := version(c.Data)
	if err != nil {
		if c.Maybe && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP)) {
			return nil, fmt.Errorf("%w: %w", writer.ErrNotMine, err)
		}
		return nil, err
	}
	if v != tested {
		return nil, fmt.Errorf("the cluster in %s is of PostgreSQL %.20s; this writer is tested with %s alone; stop it and back its files up as plain files, or dump it", c.Data, v, tested)
	}
	if err := w.open(); err != nil {
		return nil, err
	}
	if err := w.recovered(); err != nil {
		if c.Maybe {
			err = fmt.Errorf("%w: %w", writer.ErrNotMine, err)
		}
		return nil, err
	}
	w.lacking = w.foretell(ctx)
	return w, nil
}

// recovered refuses a base backup from which no server was started yet, such as
// pg_basebackup makes. What it must be recovered by, its backup_label, is of no
// use in a cluster that ran, and of that alone this writer knows.
func (w *pgWriter) recovered() error {
	label := filepath.Join(w.conf.Data, "backup_label")
	if _, err := os.Lstat(label); w.begun != nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return fmt.Errorf("%s is there: this is a base backup and no cluster that ran; start its server once, or back it up as plain files", label)
}

// stored makes the writer of a cluster that may not be there.
func (w *pgWriter) stored() error {
	id, err := strconv.ParseUint(w.conf.System, 10, 64)
	if err != nil {
		return fmt.Errorf("the backup calls the cluster %.40q, which is no system identifier", w.conf.System)
	}
	w.system = id
	return nil
}

// open looks at a cluster that is to be backed up.
func (w *pgWriter) open() error {
	c, err := readControl(w.conf.Data)
	if err != nil {
		return err
	}
	w.system, w.segment = c.System, c.Segment
	if w.layout, err = readLayout(w.conf.Data); err != nil {
		return err
	}
	if w.begun, err = runs(w.conf.Data); err != nil {
		return err
	}
	if uid := os.Geteuid(); uid != 0 {
		var st unix.Stat_t
		if err := unix.Stat(w.conf.Data, &st); err != nil {
			return &fs.PathError{Op: "stat", Path: w.conf.Data, Err: err}
		}
		if st.Uid != uint32(uid) {
			return fmt.Errorf("%s belongs to user id %d now, and this writer runs as %d", w.conf.Data, st.Uid, uid)
		}
	}
	if w.conf.Logs {
		// It is a directory of the log's own volume, and declared.
		if err := os.Mkdir(w.staging(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
