package mariadb

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/owner"
	"golang.org/x/sys/unix"
)

// Kind is the writer kind "mariadb". The zero Kind is ready for use, by several
// goroutines at once.
type Kind struct{}

var _ writer.Kind = Kind{}

// Name implements [writer.Kind].
func (Kind) Name() string { return KindName }

// Class implements [writer.Kind].
func (Kind) Class() vss.GUID { return classID }

// New implements [writer.Kind]. It looks whether the server runs, with the rights
// of its process. A discovered directory that has gone, or is none of MariaDB's, is
// [writer.ErrNotMine]; in a restore it may be absent or anything.
func (Kind) New(ctx context.Context, s writer.Spec) (writer.Writer, error) {
	var c spec
	if err := json.Unmarshal(s.Config, &c); err != nil {
		return nil, fmt.Errorf("configuration of a %s writer: %w", KindName, err)
	}
	if err := checkPath(c.Datadir); err != nil {
		return nil, err
	}
	w := newWriter(s, c)
	if c.Restore {
		return w, nil
	}
	var st unix.Stat_t
	switch err := unix.Lstat(c.Datadir, &st); {
	case err != nil && s.Discovered:
		return nil, fmt.Errorf("%w: %w", writer.ErrNotMine, err)
	case err != nil:
		return nil, fmt.Errorf("data directory %s: %w", c.Datadir, err)
	case st.Uid != uint32(os.Geteuid()):
		return nil, fmt.Errorf("data directory %s belongs to user id %d, and this writer runs as %d", c.Datadir, st.Uid, os.Geteuid())
	case !hasSystemTables(c.Datadir) && s.Discovered:
		return nil, fmt.Errorf("%w: %s: %w", writer.ErrNotMine, c.Datadir, errNoData)
	case !hasSystemTables(c.Datadir):
		return nil, fmt.Errorf("%s: %w", c.Datadir, errNoData)
	}
	if err := owner.Closed(c.Datadir); err != nil {
		return nil, err
	}
	pid, err := lockedBy(c.Datadir)
	if err != nil {
		return nil, err
	}
	w.pid = pid
	w.look(ctx)
	return w, nil
}
