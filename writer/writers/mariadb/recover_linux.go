package mariadb

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/launch"
	"golang.org/x/sys/unix"
)

// answered reports whether an error came from a server.
func answered(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e)
}

// maxWords bounds how much of a program's last words is passed on, in bytes.
const maxWords = 600

// lastWords gives the end of a log on one line.
func lastWords(log string) string {
	f, err := os.Open(log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil && end > maxWords {
		f.Seek(end-maxWords, io.SeekStart)
	} else {
		f.Seek(0, io.SeekStart)
	}
	data, _ := io.ReadAll(io.LimitReader(f, maxWords)) // it only adds to a message
	return strings.ReplaceAll(strings.TrimSpace(string(data)), "\n", "; ")
}

// rollForward replays the binary logs that were restored for it, if there are any
// and the target asks for it.
func (w *dbWriter) rollForward(ctx context.Context, c *metadata.Component, a *aside) error {
	t, err := parseTarget(c)
	if err != nil {
		return err
	}
	n, err := readNotes(c)
	if err != nil {
		return err
	}
	base := a.state.Ran
	if len(w.set.Start) > 0 && isServer(w.set.Start[0]) {
		base = w.set.Start
	}
	return w.replay(ctx, t, restoredPlace(w.dir, w.dir, n), base, a)
}

// beside recovers a server that was restored beside the live one.
func (w *dbWriter) beside(ctx context.Context, e *writer.Event, c *metadata.Component, to string) error {
	t, err := parseTarget(c)
	if err != nil {
		return err
	}
	n, err := readNotes(c)
	if err != nil {
		return err
	}
	if n.LogBase != "" && !within(filepath.Dir(n.LogBase), w.dir) {
		for _, m := range c.NewTargets() {
			if m.Path == filepath.Dir(n.LogBase) {
				n.LogBase = filepath.Join(m.NewPath, filepath.Base(n.LogBase))
			}
		}
	}
	p := restoredPlace(w.dir, to, n)
	options, err := besideOptions(w.elsewhere(c), c.NewTargets())
	if err != nil {
		return err
	}
	return w.replay(ctx, t, p, append(p.minimal(n), options...), nil)
}

// restoredFiles says where what was restored is.
type restoredFiles struct {
	dir    string // the data directory
	logs   string // the directory of the binary logs
	base   string // their name
	spool  string // the logs to be replayed
	shared spool  // where earlier writers have them
	due    bool   // the backup has logs to be replayed
}

// restoredPlace tells where the files of the server at dir are, restored to "to".
func restoredPlace(dir, to string, n notes) restoredFiles {
	p := restoredFiles{dir: to, logs: to, base: filepath.Base(n.LogBase), spool: spoolBelow(to), due: !n.LogsUntil.IsZero()}
	if n.LogBase == "" {
		p.base = ""
		return p
	}
	if at := filepath.Dir(n.LogBase); !within(at, dir) {
		p.logs, p.spool, p.shared = at, spoolAt(dir, at), spool{sharedSpool(at), p.base}
	}
	return p
}

// minimal is a command line for a server that nobody has started before: what its
// files cannot be read without, and nothing that names a live server's place.
func (p restoredFiles) minimal(n notes) []string {
	args := []string{"", "--no-defaults"}
	if n.PageSize > 0 {
		args = append(args, "--innodb-page-size="+strconv.Itoa(n.PageSize))
	}
	if n.Lower > 0 && n.Lower < 3 {
		args = append(args, "--lower-case-table-names="+strconv.Itoa(n.Lower))
	}
	if n.DataFiles != "" && !strings.ContainsAny(n.DataFiles, "/\\") {
		args = append(args, "--innodb-data-file-path="+n.DataFiles)
	}
	if p.base != "" {
		args = append(args, "--server-id=1", "--log-bin="+filepath.Join(p.logs, p.base))
	}
	return args
}

// isServer reports whether a program is the server itself, and no script or service
// manager that starts it.
func isServer(program string) bool {
	name := filepath.Base(program)
	return name == "mariadbd" || name == "mysqld"
}

// replay has a server of its own recover the data and replay the logs, and stops it.
// Without logs to replay nothing is done: the server itself will recover. That it is
// at work stands in what was moved aside, if that is not nil.
func (w *dbWriter) replay(ctx context.Context, t target, p restoredFiles, command []string, a *aside) (err error) {
	logs, at, err := p.spooled()
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			err = errors.Join(spool{dir: p.spool}.remove(), p.shared.remove())
		}
	}()
	if len(logs) == 0 && t.point() {
		return fmt.Errorf("there are no binary logs in what was restored to go forward with to %v; restore a log backup made after that point", t)
	}
	if len(logs) == 0 && !t.none && p.due {
		return fmt.Errorf("the backup has binary logs to replay, and none of them is in %s, so that what was committed since the data was copied would be missing; restore again, or with \"Target\"=\"instant\" to do without them", p.spool)
	}
	if len(logs) == 0 || t.none {
		return nil
	}
	plan, err := p.plan(t, logs, at)
	if err != nil || plan == nil {
		return err
	}
	if a != nil {
		a.state.Replaying, a.state.Writing = true, true
		if err := a.save(); err != nil {
			return err
		}
	}
	s, err := w.private(ctx, p, command)
	if err != nil {
		return err
	}
	err = s.feed(ctx, plan)
	return errors.Join(err, s.stop(ctx))
}

// plan gives the arguments of mariadb-binlog: from where the restored data ends to
// the target. All commits were held when the data was copied, so that its newest
// binary log ends there. Without arguments there is nothing to replay: the target is
// where the data ends.
func (p restoredFiles) plan(t target, logs []string, where map[string]string) ([]string, error) {
	own, err := spooled(p.logs)
	own = slices.DeleteFunc(own, func(name string) bool { base, _, _ := cutNumber(name); return base != p.base })
	if err != nil || len(own) == 0 {
		return nil, errors.Join(err, fmt.Errorf("there is no binary log in %s, so nothing tells where the restored data ends; restore with \"Target\"=\"instant\" to do without what came after", p.logs))
	}
	last := own[len(own)-1]
	info, err := os.Lstat(filepath.Join(p.logs, last))
	if err != nil {
		return nil, err
	}
	first := slices.Index(logs, last)
	if first < 0 {
		return nil, fmt.Errorf("the restored data ends in binary log %s, which is not among those to be replayed (%s to %s); restore the log backups since the data's backup too", last, logs[0], logs[len(logs)-1])
	}
	logs = logs[first:]
	for i := 1; i < len(logs); i++ {
		if !follow(logs[i-1], logs[i]) {
			return nil, fmt.Errorf("between binary logs %s and %s there is at least one missing; restore the log backup that has it too, or to a point before", logs[i-1], logs[i])
		}
	}
	start := info.Size()
	args := []string{"--no-defaults", "--start-position=" + strconv.FormatInt(start, 10)}
	switch {
	case !t.time.IsZero():
		args = append(args, "--stop-datetime="+t.time.UTC().Format(time.DateTime))
	case t.gtid != "" || t.file != "":
		to, err := t.find(logs, where, start)
		if err != nil || to.empty {
			return nil, err
		}
		logs = logs[:to.log+1]
		args = append(args, "--stop-position="+strconv.FormatInt(to.pos, 10))
	}
	args = append(args, "--")
	for _, name := range logs {
		args = append(args, where[name])
	}
	return args, nil
}

// find finds a target in logs, of which the restored data has what is before start in
// the first. mariadb-binlog merely warns of one that it does not reach.
func (t target) find(logs []string, where map[string]string, start int64) (point, error) {
	if t.file == "" {
		want, err := parseState(t.gtid)
		if err != nil {
			return point{}, err
		}
		paths := make([]string, len(logs))
		for i, name := range logs {
			paths[i] = where[name]
		}
		return findGTID(paths, start, want)
	}
	i := slices.Index(logs, t.file)
	if i < 0 || i == 0 && t.pos < uint64(start) {
		return point{}, fmt.Errorf("%v is not in what can be replayed, which begins at %s:%d and ends with %s; restore the backups that have it, or to the end with \"Target\"=\"end\"", t, logs[0], start, logs[len(logs)-1])
	}
	p := point{log: i, pos: int64(t.pos), empty: i == 0 && t.pos == uint64(start)}
	return p, checkPosition(where[t.file], t, i == len(logs)-1)
}

// follow reports whether one log comes right after another.
func follow(a, b string) bool {
	_, x, _ := cutNumber(a)
	_, y, _ := cutNumber(b)
	n, err := strconv.ParseUint(x, 10, 63)
	m, err2 := strconv.ParseUint(y, 10, 63)
	return err == nil && err2 == nil && m == n+1
}

// private is a server that nobody else can reach.
type private struct {
	dir    string // for its socket, log and option file
	log    string
	proc   *launch.Process
	server *server
}

// adminUser is an account that exists only while logs are replayed.
const adminUser = "sombra_replay"

// scratchPurpose is in the names of the directories of private servers.
const scratchPurpose = "mariadb"

// isPrivate reports whether a server is a private one, of which the writer may have
// been killed and which ends then, too.
func isPrivate(pid int) bool {
	return slices.ContainsFunc(commandLine(pid), func(arg string) bool {
		file, ok := strings.CutPrefix(arg, "--init-file=")
		return ok && strings.HasPrefix(filepath.Base(filepath.Dir(file)), "sombra-"+scratchPurpose+"-")
	})
}

// private starts a server on restored data. What makes it private comes last on its
// command line and wins: it listens on a socket in a directory of the owner's
// alone, and neither replicates nor runs events.
func (w *dbWriter) private(ctx context.Context, p restoredFiles, command []string) (_ *private, err error) {
	s := &private{}
	if s.dir, err = launch.Scratch(scratchPurpose); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop(ctx))
		}
	}()
	s.log = filepath.Join(s.dir, "log")
	at := func(name string) string { return filepath.Join(s.dir, name) }
	password := rand.Text() + "-a1"
	sql := fmt.Sprintf("SET sql_log_bin=0;\nCREATE OR REPLACE USER '%s'@'localhost' IDENTIFIED BY '%s';\nGRANT ALL PRIVILEGES ON *.* TO '%s'@'localhost' WITH GRANT OPTION;\n", adminUser, password, adminUser)
	options := fmt.Sprintf("[client]\nuser=%s\npassword=%s\nsocket=%s\n", adminUser, password, at("s"))
	if err = errors.Join(os.WriteFile(at("init.sql"), []byte(sql), 0o600), os.WriteFile(at("client.cnf"), []byte(options), 0o600)); err != nil {
		return nil, err
	}
	program, args, err := serverCommand(command)
	if err != nil {
		return nil, err
	}
	args = append(args, "--datadir="+p.dir, "--socket="+at("s"), "--pid-file="+at("pid"), "--log-error="+s.log, "--tmpdir="+s.dir,
		"--skip-networking", "--skip-slave-start", "--event-scheduler=OFF", "--init-file="+at("init.sql"), "--max-allowed-packet=1G",
		"--read-only=OFF", "--general-log=OFF", "--slow-query-log=OFF", "--loose-wsrep-on=OFF", "--expire-logs-days=0")
	if s.proc, err = launch.Start(w.spec, launch.Program{Path: program, Args: args, Log: s.log, Tied: true}); err != nil {
		return nil, fmt.Errorf("start a server to replay logs: %w", err)
	}
	if s.server, err = dial(&w.set, at("s"), login{adminUser, password}); err != nil {
		return nil, err
	}
	if err = waitReady(ctx, s.proc, s.log, s.server.db.PingContext); err != nil {
		return nil, fmt.Errorf("recover the restored data: %w", err)
	}
	return s, nil
}

// serverCommand gives program and arguments of a server.
func serverCommand(command []string) (string, []string, error) {
	if len(command) > 0 && isServer(command[0]) {
		return command[0], slices.Clone(command[1:]), nil
	}
	program, err := program("mariadbd")
	if err != nil || len(command) == 0 {
		return program, nil, err
	}
	if command[0] != "" {
		return program, nil, nil // of a script nobody knows what it tells the server
	}
	return program, slices.Clone(command[1:]), nil
}

// program finds one of MariaDB's programs where packages have them.
func program(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/libexec"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no program %s on this host; install MariaDB's server and client packages", name)
}

// feed replays logs: mariadb-binlog reads them, and the command line client sends
// what it makes of them.
func (s *private) feed(ctx context.Context, args []string) error {
	reader, err := program("mariadb-binlog")
	if err != nil {
		return err
	}
	client, err := program("mariadb")
	if err != nil {
		return err
	}
	from := exec.CommandContext(ctx, reader, args...)
	to := exec.CommandContext(ctx, client, "--defaults-file="+filepath.Join(s.dir, "client.cnf"), "--binary-mode", "--batch", "--max-allowed-packet=1G")
	from.Env = []string{"TZ=UTC", "PATH=/usr/bin:/bin", "TMPDIR=" + s.dir}
	to.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}
	var said, answer tail
	from.Stderr, to.Stderr = &said, &answer
	if to.Stdin, err = from.StdoutPipe(); err != nil {
		return err
	}
	if err := from.Start(); err != nil {
		return fmt.Errorf("replay logs: %w", err)
	}
	err = to.Run()
	if err != nil {
		from.Process.Kill()
		from.Wait() // it was killed
		return fmt.Errorf("replay logs: the server refused an event: %w: %s; restore to a point before it, or with \"Target\"=\"instant\"", err, answer.String())
	}
	if err := from.Wait(); err != nil {
		return fmt.Errorf("replay logs: mariadb-binlog: %w: %s; restore to a point before that, or with \"Target\"=\"instant\"", err, said.String())
	}
	if text := said.String(); strings.Contains(text, "Did not reach stop position") { // of a time it says that, too, where nothing was that late
		return fmt.Errorf("replay logs: mariadb-binlog: %s; restore again to a point before the end of the logs, or with \"Target\"=\"end\"", text)
	}
	return nil
}

// tail keeps the last bytes that are written to it.
type tail struct{ b bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	t.b.Write(p)
	if over := t.b.Len() - maxWords; over > 0 {
		t.b.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	return strings.ReplaceAll(strings.TrimSpace(t.b.String()), "\n", "; ")
}

// stop ends the server in order, and takes its account away before.
func (s *private) stop(ctx context.Context) error {
	var errs []error
	if s.server != nil {
		if conn, err := s.server.db.Conn(ctx); err == nil {
			for _, q := range []string{"SET sql_log_bin=0", "DROP USER IF EXISTS '" + adminUser + "'@'localhost'", "SHUTDOWN"} {
				if _, err := conn.ExecContext(ctx, q); err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", q, err))
				}
			}
			conn.Close()
		}
		s.server.close()
	}
	if s.proc != nil {
		if len(errs) > 0 || s.server == nil {
			terminate(s.proc.PID())
		}
		select {
		case <-s.proc.Done():
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("the server that replays logs does not stop: %w", context.Cause(ctx)))
			terminate(s.proc.PID())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// terminate asks a process to end, if it is still there.
func terminate(pid int) { _ = unix.Kill(pid, unix.SIGTERM) }
