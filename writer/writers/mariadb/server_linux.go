package mariadb

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/sombra-backup/sombra/writer/bounded"
	"golang.org/x/sys/unix"
)

// testedVersion is the one release series that tests ran on.
const testedVersion = "10.11."

// server is how the writer speaks to a running server.
type server struct {
	set *settings
	db  *sql.DB
}

// login is the account that is used.
type login struct{ user, password string }

// account decides who to be for the server.
func (s *settings) account() (login, error) {
	var l login
	if s.OptionFile != "" {
		var err error
		if l, err = readOptionFile(s.OptionFile); err != nil {
			return l, err
		}
	}
	if s.User != "" {
		l.user = s.User
	}
	if l.user != "" {
		return l, nil
	}
	u, err := user.Current()
	if err != nil {
		return l, fmt.Errorf("whom to connect as: %w; name the account in the configuration", err)
	}
	l.user = u.Username
	return l, nil
}

// maxOptionFile bounds an option file, in bytes.
const maxOptionFile = 64 << 10

// readOptionFile reads user and password from the group [client] of a file in
// MariaDB's own form. Nobody but its owner may have access to it.
func readOptionFile(path string) (login, error) {
	var l login
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return l, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return l, err
	}
	switch euid := uint32(os.Geteuid()); {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return l, fmt.Errorf("option file %s is no regular file", path)
	case st.Uid != 0 && st.Uid != euid:
		return l, fmt.Errorf("option file %s belongs to user id %d; it must be root's or that of user id %d", path, st.Uid, euid)
	case st.Mode&0o027 != 0 || st.Mode&0o050 != 0 && st.Uid != 0:
		return l, fmt.Errorf("option file %s has mode %04o, with which others than its owner can use it; change it to 0600, or to 0640 if it is root's", path, st.Mode&0o7777)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxOptionFile+1))
	if err != nil {
		return l, err
	}
	if len(data) > maxOptionFile {
		return l, fmt.Errorf("option file %s has more than %d bytes", path, maxOptionFile)
	}
	l = parseOptions(string(data))
	if l.user == "" && l.password == "" {
		return l, fmt.Errorf("option file %s has neither user nor password in its group [client]", path)
	}
	return l, nil
}

// parseOptions reads the lines of an option file.
func parseOptions(text string) (l login) {
	group := ""
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			group = strings.Trim(line, "[] \t")
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if group != "client" || !ok {
			continue
		}
		value = strings.TrimSpace(value)
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		switch strings.TrimSpace(name) {
		case "user":
			l.user = value
		case "password":
			l.password = value
		}
	}
	return l
}

// connectTimeout is the longest that the server may take to let somebody in.
const connectTimeout = 10 * time.Second

// connect makes a server of the settings. Nothing is opened yet.
func connect(s *settings) (*server, error) {
	l, err := s.account()
	if err != nil {
		return nil, err
	}
	socket := s.Socket
	if socket == "" {
		socket = debianSocket
	}
	return dial(s, socket, l)
}

func dial(s *settings, socket string, l login) (*server, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr = l.user, l.password, "unix", socket
	c.DialFunc = bounded.Dial // a server is its owner's, who may have it answer without end
	c.Timeout, c.Logger, c.AllowNativePasswords = connectTimeout, &mysql.NopLogger{}, true
	c.InterpolateParams = true // no statement is prepared in advance, which would cost a round trip
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return &server{set: s, db: sql.OpenDB(connector)}, nil
}

func (s *server) close() error { return s.db.Close() }

// explain adds the way out to an error of connecting.
func (s *server) explain(err error) error {
	var e *mysql.MySQLError
	const accessDenied, noUserPlugin = 1045, 1698
	l, lerr := s.set.account()
	if lerr != nil || !errors.As(err, &e) || e.Number != accessDenied && e.Number != noUserPlugin {
		return err
	}
	return fmt.Errorf("%w; make an account for the writer, as the page on the mariadb writer has it: CREATE USER '%s'@'localhost' IDENTIFIED VIA unix_socket, and its GRANT, or name an option file", err, l.user)
}

// facts are what the writer has to know of a server.
type facts struct {
	Version   string `json:"version"`
	LogBin    bool   `json:"log_bin"`
	LogBase   string `json:"log_base,omitempty"` // path of the binary logs less their number
	DataFiles string `json:"innodb_data_file_path,omitempty"`
	PageSize  int    `json:"innodb_page_size,omitempty"`
	Lower     int    `json:"lower_case_table_names"`
	// Instant is the moment of the copy, and LogsUntil that until which a log
	// backup has all commits; each is zero in backups of the other kind.
	Instant   time.Time `json:"instant,omitzero"`
	LogsUntil time.Time `json:"logs_until,omitzero"`

	encrypted bool // the binary logs are

	datadir                               string
	dataHome, redoDir, undoDir, ariaDir   string
	errorLog, slowLog, generalLog, pid    string
	socket, relayBase, logIndex, tempData string
}

// ask asks the server for its facts, and makes sure that it is the one it is taken
// for and one that was tested.
func (s *server) ask(ctx context.Context) (*facts, error) {
	var f facts
	err := s.db.QueryRowContext(ctx, `SELECT @@version, @@log_bin, COALESCE(@@log_bin_basename, ''), COALESCE(@@log_bin_index, ''),
		COALESCE(@@innodb_data_file_path, ''), @@innodb_page_size, @@lower_case_table_names, @@datadir, COALESCE(@@innodb_data_home_dir, ''),
		COALESCE(@@innodb_log_group_home_dir, ''), COALESCE(@@innodb_undo_directory, ''), COALESCE(@@aria_log_dir_path, ''),
		COALESCE(@@log_error, ''), COALESCE(@@slow_query_log_file, ''), COALESCE(@@general_log_file, ''), COALESCE(@@pid_file, ''),
		COALESCE(@@socket, ''), COALESCE(@@relay_log_basename, ''), COALESCE(@@innodb_temp_data_file_path, ''), @@encrypt_binlog`).Scan(
		&f.Version, &f.LogBin, &f.LogBase, &f.logIndex, &f.DataFiles, &f.PageSize, &f.Lower, &f.datadir, &f.dataHome, &f.redoDir, &f.undoDir,
		&f.ariaDir, &f.errorLog, &f.slowLog, &f.generalLog, &f.pid, &f.socket, &f.relayBase, &f.tempData, &f.encrypted)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", s.explain(err))
	}
	f.datadir = filepath.Clean(f.datadir)
	if real, err := filepath.EvalSymlinks(f.datadir); err != nil || real != s.set.Datadir {
		return nil, fmt.Errorf("the server that listens on %s has its data in %s, and not in %s; name the right socket in the configuration", s.set.Socket, f.datadir, s.set.Datadir)
	}
	if f.LogBase, err = realBase(s.set.Datadir, f.LogBase); err != nil {
		return nil, err
	}
	if err := s.single(ctx); err != nil {
		return nil, err
	}
	return &f, checkVersion(f.Version, s.set.AnyVersion)
}

// realBase gives the path of the binary logs as the document has all paths, without
// links: by it a restore tells whether they lie in the data directory, and a link to
// that need not be there then.
func realBase(datadir, base string) (string, error) {
	if base == "" {
		return "", nil
	}
	if !filepath.IsAbs(base) {
		base = filepath.Join(datadir, base)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(base))
	if err != nil {
		return "", fmt.Errorf("directory of the binary logs: %w", err)
	}
	return filepath.Join(dir, filepath.Base(base)), nil
}

// single refuses a node of a Galera cluster, which nobody has tested. A server that
// was built without it does not know the variable.
func (s *server) single(ctx context.Context) error {
	var name, value string
	err := s.db.QueryRowContext(ctx, "SHOW GLOBAL VARIABLES LIKE 'wsrep_on'").Scan(&name, &value)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("ask the server: %w", err)
	case value == "ON" && !s.set.AnyVersion:
		return errors.New("the server is a node of a Galera cluster (wsrep_on), which was not tested; set any_version in the writer's configuration to back it up all the same")
	}
	return nil
}

// checkVersion refuses versions that nobody has tested.
func checkVersion(version string, anyOne bool) error {
	if anyOne || strings.HasPrefix(version, testedVersion) && strings.Contains(version, "MariaDB") {
		return nil
	}
	return fmt.Errorf("the server has version %.60q, and only MariaDB %sx was tested; set any_version in the writer's configuration to use it all the same", version, testedVersion)
}

// status is the position of the binary log, and the last transaction in it.
type status struct {
	file string
	pos  uint64
	gtid string
}

// row is what queries are asked of: a pool or a connection.
type row interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// logStatus asks where the binary log is.
func logStatus(ctx context.Context, q row) (status, error) {
	var s status
	var do, ignore sql.NullString
	if err := q.QueryRowContext(ctx, "SHOW MASTER STATUS").Scan(&s.file, &s.pos, &do, &ignore); err != nil {
		return s, fmt.Errorf("ask for the binary log's position: %w", err)
	}
	if err := q.QueryRowContext(ctx, "SELECT @@gtid_binlog_pos").Scan(&s.gtid); err != nil {
		return s, fmt.Errorf("ask for the binary log's position: %w", err)
	}
	return s, nil
}

// logNames lists the binary logs, the oldest first.
func logNames(ctx context.Context, q row) ([]string, error) {
	rows, err := q.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return nil, fmt.Errorf("list the binary logs: %w", err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var name string
		var size uint64
		if err := rows.Scan(&name, &size); err != nil {
			return nil, fmt.Errorf("list the binary logs: %w", err)
		}
		list = append(list, name)
	}
	return list, rows.Err()
}
