package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sombra-backup/sombra/writer/launch"
)

// recoverAt recovers a restored cluster to a target, on a new timeline, and leaves
// it shut down cleanly.
//
// The files are of one instant. Crash recovery brings them to it by the log that
// was copied with them; from there archive recovery goes on, by the restored
// segments of log backups if there are any. So there is no backup_label: it would
// make recovery look for the end of a backup in a log that is not there.
//
// A standby, which is saved only while it does not run, is left one: it is what its
// primary has that it lacks.
func (w *pgWriter) recoverAt(ctx context.Context, to places, old *aside, goal target, standby bool) error {
	if err := w.complete(to, old, standby); err != nil {
		return err
	}
	before, err := readControl(to.data)
	if err != nil {
		return err
	}
	if before.System != w.system {
		return fmt.Errorf("the restored cluster's system identifier is %d, and the backup's is %d", before.System, w.system)
	}
	if standby {
		if goal.kind != toDefault && goal.kind != toInstant {
			return fmt.Errorf("the cluster in %s was a standby when it was copied, and is as far as it was then; restore without a target, and start it to follow its primary", to.data)
		}
		return nil
	}
	staged := filepath.Join(to.wal, stagingName)
	logs, err := hasSegments(staged)
	if err != nil {
		return err
	}
	if goal.kind == toDefault && !logs {
		goal.kind = toInstant
	}
	// A log of this level is not enough for archive recovery, which the server
	// refuses: crash recovery alone brings the cluster to the instant.
	goal.crash = before.WALLevel == walMinimal
	if goal.crash && goal.kind != toInstant {
		return fmt.Errorf("the cluster in %s was copied with wal_level = minimal, and can be brought to the instant of the copy only; restore without a target, or with target=instant", to.data)
	}
	if err := w.runRecovery(ctx, to, goal, staged); err != nil {
		return err
	}
	after, err := readControl(to.data)
	switch {
	case err != nil:
		return err
	case after.State != shutDown:
		return fmt.Errorf("the recovered cluster in %s is %v, and must be %v", to.data, after.State, shutDown)
	case after.Timeline <= before.Timeline && !goal.crash:
		return fmt.Errorf("the recovered cluster in %s is still on timeline %d", to.data, after.Timeline)
	}
	return os.RemoveAll(staged)
}

// complete makes a restored directory one that the server starts in: directories
// whose content is of one run of the server are there and empty, links lead to
// where things are now, and nothing of an earlier run is left.
func (w *pgWriter) complete(to places, old *aside, standby bool) error {
	info, err := os.Stat(to.data)
	if err != nil {
		return err
	}
	mode := info.Mode().Perm()
	if mode&^0o750 != 0 {
		mode = 0o700
		if err := os.Chmod(to.data, mode); err != nil { // the server refuses others
			return err
		}
	}
	for _, name := range emptied {
		if err := emptyDir(filepath.Join(to.data, name), mode); err != nil {
			return err
		}
	}
	for _, name := range append([]string{"pg_tblspc", "pg_logical/snapshots", "pg_logical/mappings", "pg_multixact/members", "pg_multixact/offsets"}, always...) {
		if err := os.MkdirAll(filepath.Join(to.data, name), mode); err != nil {
			return err
		}
	}
	gone := []string{"postmaster.pid", "postmaster.opts", "backup_label", "tablespace_map"}
	if !standby {
		gone = append(gone, "standby.signal") // it would follow somebody, or nobody
	}
	for _, name := range gone {
		if err := os.Remove(filepath.Join(to.data, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(to.wal, "archive_status"), mode); err != nil {
		return err
	}
	if err := w.relink(to); err != nil {
		return err
	}
	if standby { // it would follow the newest that it has the history of
		return nil
	}
	return keepHistories(to, old)
}

// emptyDir makes a directory that is there and empty. A replication slot that came
// back would keep the log for somebody who does not know this cluster.
func emptyDir(dir string, mode fs.FileMode) error {
	if err := os.Mkdir(dir, mode); err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// relink has the links of a cluster restored elsewhere lead to its own directories.
func (w *pgWriter) relink(to places) error {
	if !to.beside {
		return nil
	}
	links := map[string]string{}
	if wal := filepath.Join(to.data, "pg_wal"); wal != to.wal {
		links[wal] = to.wal
	}
	for _, s := range to.spaces {
		links[filepath.Join(to.data, "pg_tblspc", s.OID)] = s.Dir
	}
	for link, dest := range links {
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(dest, link); err != nil {
			return err
		}
	}
	return nil
}

// keepHistories brings the histories of timelines along that the old cluster knew,
// so that the new timeline has a number of its own.
func keepHistories(to places, old *aside) error {
	if old == nil || old.State.WAL == "" {
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(old.State.WAL, asideName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".history") || !e.Type().IsRegular() {
			continue
		}
		err := copyFile(filepath.Join(old.State.WAL, asideName, e.Name()), filepath.Join(to.wal, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// hasSegments reports whether restored segments of log backups are there.
func hasSegments(staged string) (bool, error) {
	entries, err := os.ReadDir(staged)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, e := range entries {
		if len(e.Name()) == 24 {
			return true, err
		}
	}
	return false, err
}

// endedBefore is what the server says when the logs end before a target time. As
// the backup has all that was committed until a later time, that is no error:
// nothing was committed in between.
const endedBefore = "recovery ended before configured recovery target was reached"

// runRecovery has a server of its own recover the cluster.
func (w *pgWriter) runRecovery(ctx context.Context, to places, goal target, staged string) error {
	said, err := w.recoverOnce(ctx, to, goal, staged)
	if err != nil && goal.kind == toTime && strings.Contains(said, endedBefore) {
		goal = target{kind: toEnd}
		said, err = w.recoverOnce(ctx, to, goal, staged)
	}
	if err != nil {
		return fmt.Errorf("recover the cluster in %s: %w; the server said: %s", to.data, err, lastLines(said))
	}
	return nil
}

// recoverOnce starts a server that recovers and that nobody can reach, waits until
// it has, and stops it.
func (w *pgWriter) recoverOnce(ctx context.Context, to places, goal target, staged string) (said string, err error) {
	dir, err := launch.Scratch("pg")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	args, err := w.recoveryArgs(to, goal, staged, dir)
	if err != nil {
		return "", err
	}
	signal := filepath.Join(to.data, "recovery.signal")
	if goal.crash {
		err = os.Remove(signal)
	} else {
		err = writeSynced(signal, nil)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	bin, err := w.programs()
	if err != nil {
		return "", err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(bin, "postgres"), args...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// If this process is killed nobody waits for it, and the next restore must not
	// take it for the cluster's server.
	ended, err := launch.Tied(cmd, syscall.SIGQUIT)
	if err != nil {
		return "", err
	}
	err = awaitRecovery(ctx, cmd.Process.Pid, to.data, ended)
	b, _ := os.ReadFile(log.Name())
	return string(b), err
}

// awaitRecovery waits until the server is ready, and then stops it.
func awaitRecovery(ctx context.Context, pid int, data string, ended <-chan error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return fmt.Errorf("the server that recovers it ended: %w", err)
		case <-ctx.Done():
			syscall.Kill(pid, syscall.SIGQUIT) // recovery can be begun again
			<-ended
			return context.Cause(ctx)
		case <-tick.C:
		}
		p, err := runs(data)
		if err != nil || p == nil || p.pid != pid || !p.ready {
			continue // it is written while it is read
		}
		syscall.Kill(pid, syscall.SIGINT)
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			syscall.Kill(pid, syscall.SIGQUIT)
			<-ended
			return context.Cause(ctx)
		}
	}
}

// recoveryArgs are the arguments of the server that recovers. Its settings are the
// cluster's own, but for what would let anybody reach it or let it reach others.
func (w *pgWriter) recoveryArgs(to places, goal target, staged, scratch string) ([]string, error) {
	args := []string{"-D", to.data}
	set := func(name, value string) { args = append(args, "-c", name+"="+value) }
	settings, err := w.settings(to, scratch)
	if err != nil {
		return nil, err
	}
	if settings != "" {
		set("config_file", settings)
	}
	// Of a cluster that is restored beside the one that is there the restored
	// settings may name that one's.
	set("data_directory", to.data)
	hba, ident := filepath.Join(scratch, "hba"), filepath.Join(scratch, "ident")
	if err := errors.Join(os.WriteFile(hba, []byte("local all all reject\n"), 0o600), os.WriteFile(ident, nil, 0o600)); err != nil {
		return nil, err
	}
	set("hba_file", hba)
	set("ident_file", ident)
	for _, s := range [][2]string{
		{"listen_addresses", ""}, {"unix_socket_directories", scratch}, {"port", "5432"}, {"external_pid_file", ""}, {"ssl", "off"},
		{"logging_collector", "off"}, {"log_destination", "stderr"}, {"lc_messages", "C"}, {"log_min_messages", "log"}, {"huge_pages", "try"},
		{"archive_command", ""}, {"archive_library", ""}, {"primary_conninfo", ""}, {"hot_standby", "off"}, {"autovacuum", "off"},
		{"max_logical_replication_workers", "0"}, {"archive_cleanup_command", ""}, {"recovery_end_command", ""},
		{"recovery_target", ""}, {"recovery_target_name", ""}, {"recovery_target_time", ""}, {"recovery_target_xid", ""}, {"recovery_target_lsn", ""},
		{"recovery_target_inclusive", "on"}, {"recovery_target_timeline", "current"}, {"recovery_target_action", "promote"}, {"recovery_min_apply_delay", "0"},
	} {
		set(s[0], s[1])
	}
	command := "/bin/false"
	if goal.kind != toInstant {
		command = restoreCommand(staged)
	}
	set("restore_command", command)
	// The last one of a kind counts, and an empty one of another kind would take
	// it away again.
	switch goal.kind {
	case toTime:
		set("recovery_target_time", goal.time.UTC().Format("2006-01-02 15:04:05.999999")+"+00")
	case toLSN:
		set("recovery_target_lsn", goal.lsn.String())
	}
	return args, nil
}

// restoreCommand copies a segment from a directory, for PostgreSQL to run by the
// shell.
func restoreCommand(dir string) string {
	quoted := "'" + strings.ReplaceAll(strings.ReplaceAll(dir, "%", "%%"), "'", `'\''`) + "'"
	return "cp -- " + quoted + `/"%f" "%p"`
}

// settings gives the configuration file of the server that recovers; empty means
// the one in the data directory.
func (w *pgWriter) settings(to places, scratch string) (string, error) {
	if w.conf.Settings != "" {
		return w.conf.Settings, nil
	}
	if _, err := os.Stat(filepath.Join(to.data, "postgresql.conf")); err == nil {
		return "", nil
	}
	for _, name := range w.otherSettings() {
		if _, err := os.Stat(name); err == nil {
			return name, nil
		}
	}
	// Nobody's: what recovery needs is in the control file.
	c, err := readControl(to.data)
	if err != nil {
		return "", err
	}
	levels := [...]string{"minimal", "replica", "logical"}
	text := fmt.Sprintf("max_connections = %d\nmax_worker_processes = %d\nmax_wal_senders = %d\nmax_prepared_transactions = %d\n"+
		"max_locks_per_transaction = %d\ntrack_commit_timestamp = %v\nwal_level = %s\n",
		c.MaxConnections, c.MaxWorkers, c.MaxSenders, c.MaxPrepared, c.MaxLocks, c.TrackCommitTimes, levels[min(int(c.WALLevel), len(levels)-1)])
	name := filepath.Join(scratch, "settings")
	return name, os.WriteFile(name, []byte(text), 0o600)
}

// otherSettings are the places where Debian keeps a cluster's settings.
func (w *pgWriter) otherSettings() []string {
	name, parent := filepath.Base(w.conf.Data), filepath.Base(filepath.Dir(w.conf.Data))
	if _, err := strconv.Atoi(parent); err != nil {
		return nil
	}
	return []string{filepath.Join("/etc/postgresql", parent, name, "postgresql.conf")}
}

// lastLines gives the end of what a server said, on one line.
func lastLines(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return strings.Join(lines[max(0, len(lines)-6):], " | ")
}
