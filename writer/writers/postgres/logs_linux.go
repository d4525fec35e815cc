package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/writer"
)

// maxStaged bounds the segments of one log backup.
const maxStaged = 1 << 20

// keepLog has the log kept from now on, for the log backups that follow this
// backup: by a slot that ends with the connection, until the backup has succeeded.
func (w *pgWriter) keepLog(ctx context.Context, j *job) error {
	if j.prev != nil && j.prev.Slot != "" { // an incremental one goes on with its chain's
		if _, err := w.chainSlot(ctx, j); err == nil {
			j.stamp.Slot = j.prev.Slot
			return nil
		}
	}
	var b [8]byte
	rand.Read(b[:])
	j.stamp.Slot = "sombra_" + hex.EncodeToString(b[:])
	j.temp = j.stamp.Slot + "_new"
	if _, err := j.db.conn.Exec(ctx, "SELECT pg_create_physical_replication_slot($1::text, true, true)", j.temp); err != nil {
		return fmt.Errorf("keep the log of %s for log backups: %w", w.conf.Data, j.db.explain(err))
	}
	return nil
}

// chainSlot makes sure that the slot of the chain is there and has kept the log
// since the previous backup, on the same timeline.
func (w *pgWriter) chainSlot(ctx context.Context, j *job) (lsn, error) {
	const anew = "make a full backup, with which a new chain begins"
	at, timeline, err := j.db.position(ctx)
	if err != nil {
		return 0, err
	}
	prev := j.prev
	switch {
	case prev.System != w.system:
		return 0, fmt.Errorf("the previous backup is of another cluster (system identifier %d, and this is %d); %s", prev.System, w.system, anew)
	case prev.Timeline != timeline:
		return 0, fmt.Errorf("the cluster is on timeline %d since it was restored or promoted, and the previous backup is on %d; %s", timeline, prev.Timeline, anew)
	case prev.Slot == "":
		return 0, fmt.Errorf(`no replication slot keeps the log since the previous backup; set "logs" for this writer, and %s`, anew)
	}
	var restart, status *string
	err = j.db.conn.QueryRow(ctx, "SELECT restart_lsn::text, wal_status FROM pg_replication_slots WHERE slot_name = $1::text", prev.Slot).Scan(&restart, &status)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("the replication slot %s, which kept the log since the previous backup, is gone (dropped, replaced by another full backup, or the cluster was restored); %s", prev.Slot, anew)
	}
	if err != nil {
		return 0, j.db.explain(err)
	}
	if restart == nil || status == nil || *status == "lost" {
		return 0, fmt.Errorf("the server has removed log that slot %s was to keep (max_slot_wal_keep_size is %s); %s", prev.Slot, j.db.keep, anew)
	}
	from, err := parseLSN(*restart)
	if err != nil {
		return 0, err
	}
	if segmentOf(from, w.segment) > segmentOf(prev.position(), w.segment) {
		return 0, fmt.Errorf("the replication slot %s was moved to %s by somebody else, past the previous backup's end at %s; %s", prev.Slot, from, prev.LSN, anew)
	}
	return at, nil
}

// stageLog has the server begin a new segment and links the complete ones since
// the previous backup.
func (w *pgWriter) stageLog(ctx context.Context, e *writer.Event, j *job, c *metadata.Component) error {
	if !w.conf.Logs {
		return errors.New(`log backups of this cluster are not configured; set "logs" for its writer, and make a full backup`)
	}
	if _, err := w.chainSlot(ctx, j); err != nil {
		return err
	}
	end := time.Now().UTC()
	if _, err := j.db.conn.Exec(ctx, "SELECT pg_switch_wal()"); err != nil {
		return j.db.explain(err)
	}
	at, timeline, err := j.db.position(ctx)
	if err != nil {
		return err
	}
	if timeline != j.prev.Timeline {
		return fmt.Errorf("the cluster changed its timeline: %w", errChanged)
	}
	first, next := segmentOf(j.prev.position(), w.segment), segmentOf(at, w.segment)
	if next < first || next-first > maxStaged {
		return fmt.Errorf("the log is at %s and the previous backup at %s; make a full backup", at, j.prev.LSN)
	}
	// What nobody can take from us needs no copy.
	link := j.db.keep == "-1"
	for n := first; n < next; n++ {
		if err := w.stage(ctx, segmentName(timeline, n, w.segment), link); err != nil {
			return err
		}
	}
	if err := w.stageHistories(ctx); err != nil {
		return err
	}
	// A segment that the server has leave to recycle may have been written anew
	// while it was copied.
	j.stamp.Slot = j.prev.Slot
	if err := w.stillKept(ctx, j); err != nil {
		return err
	}
	j.stamp = stamp{System: w.system, Timeline: timeline, LSN: lsn(next * w.segment).String(), Slot: j.prev.Slot, Base: j.prev.Base}
	j.notes = notes{System: w.system, Timeline: timeline, Base: j.prev.Base, End: &logEnd{LSN: j.stamp.LSN, Time: end}}
	// Each log backup has a file, also of an idle cluster: by it the owner is
	// known in a restore, and who restores by hand sees how far the logs go.
	name := filepath.Join(w.staging(), fmt.Sprintf("%016X.end", uint64(j.stamp.position())))
	if err := writeSynced(name, []byte(j.notes.encode()+"\n")); err != nil {
		return err
	}
	return j.keep(c)
}

// stageHistories stages the histories of timelines, which are small and tell
// recovery which numbers are taken.
func (w *pgWriter) stageHistories(ctx context.Context) error {
	entries, err := os.ReadDir(w.layout.wal)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".history") && e.Type().IsRegular() {
			if err := w.stage(ctx, e.Name(), false); err != nil {
				return err
			}
		}
	}
	return nil
}

// stage puts a file of the log into the staging directory.
func (w *pgWriter) stage(ctx context.Context, name string, link bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	from, to := filepath.Join(w.layout.wal, name), filepath.Join(w.staging(), name)
	var err error
	if link {
		err = os.Link(from, to)
	} else {
		err = copyFile(from, to)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the log segment %s is gone; make a full backup: %w", name, err)
	}
	return err
}

func copyFile(from, to string) error {
	in, err := os.OpenFile(from, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// BackupComplete implements [writer.BackupCompleter]: log that has been saved is
// let go, of a component that succeeded and of no other.
func (w *pgWriter) BackupComplete(ctx context.Context, e *writer.Event) error {
	return w.handle(ctx, "BackupComplete", func() error {
		j, c := w.job, w.component(e.Components)
		if j == nil || c == nil || !j.advances() || j.stamp.Slot == "" {
			return nil
		}
		if ok, known := c.BackupSucceeded(); !ok || !known {
			return nil
		}
		if err := w.letGo(ctx, j); err != nil {
			return fmt.Errorf("the backup is whole, but the log it has is still kept: %w", err)
		}
		return nil
	})
}

// letGo moves the chain on: by a new slot, which takes the place of older ones, or
// by moving the chain's forward.
func (w *pgWriter) letGo(ctx context.Context, j *job) error {
	if j.db == nil {
		return errors.New("there is no connection to the server any more")
	}
	if err := w.stillKept(ctx, j); err != nil {
		return err
	}
	if j.temp == "" {
		_, err := j.db.conn.Exec(ctx, "SELECT pg_replication_slot_advance($1::text::name, $2::text::pg_lsn)", j.stamp.Slot, j.stamp.LSN)
		return j.db.explain(err)
	}
	if _, err := j.db.conn.Exec(ctx, "SELECT pg_copy_physical_replication_slot($1::text::name, $2::text::name, false)", j.temp, j.stamp.Slot); err != nil {
		return j.db.explain(err)
	}
	return w.dropOthers(ctx, j)
}

// stillKept makes sure that the server had no leave to remove log while it was
// read.
func (w *pgWriter) stillKept(ctx context.Context, j *job) error {
	name := j.temp
	if name == "" {
		name = j.stamp.Slot
	}
	var status *string
	err := j.db.conn.QueryRow(ctx, "SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1::text", name).Scan(&status)
	if err != nil {
		return j.db.explain(err)
	}
	if status == nil || *status == "lost" {
		return fmt.Errorf("the server has removed log while it was read (max_slot_wal_keep_size is %s); make a full backup", j.db.keep)
	}
	return nil
}

// dropOthers drops the slots of chains that the new one takes the place of.
func (w *pgWriter) dropOthers(ctx context.Context, j *job) error {
	rows, err := j.db.conn.Query(ctx, "SELECT slot_name::text FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary AND NOT active")
	if err != nil {
		return j.db.explain(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return j.db.explain(err)
	}
	var errs []error
	for _, name := range names {
		if name == j.stamp.Slot || !slotName.MatchString(name) {
			continue
		}
		_, err := j.db.conn.Exec(ctx, "SELECT pg_drop_replication_slot($1::text::name)", name)
		errs = append(errs, j.db.explain(err))
	}
	return errors.Join(errs...)
}
