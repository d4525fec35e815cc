package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sombra-backup/sombra/writer/bounded"
)

// session is a connection to the server. What ends with it (a backup that began,
// a slot that is only for the time being) ends also if this process is killed.
type session struct {
	conn     *pgx.Conn
	role     string
	database string
	recovery bool
	fsync    bool
	senders  int
	keep     string // max_slot_wal_keep_size
}

// closeLimit is the longest that saying goodbye to the server may take: it may be
// stopped, or gone.
const closeLimit = 2 * time.Second

// connect connects to the server, over its unix socket, as the user that this
// process runs as.
func (w *pgWriter) connect(ctx context.Context, p *postmaster) (*session, error) {
	s := &session{role: w.conf.Role, database: w.conf.Database}
	if s.role == "" {
		u, err := user.LookupId(strconv.Itoa(os.Geteuid()))
		if err != nil {
			return nil, fmt.Errorf("connect to the server of %s: %w; configure a role", w.conf.Data, err)
		}
		s.role = u.Username
	}
	if s.database == "" {
		s.database = "postgres"
	}
	conf, err := pgx.ParseConfig("sslmode=disable application_name=sombra connect_timeout=10")
	if err != nil {
		return nil, err
	}
	conf.Host, conf.Port, conf.User, conf.Database, conf.Password = w.conf.Socket, uint16(w.conf.Port), s.role, s.database, ""
	if conf.Host == "" {
		conf.Host = p.socket
	}
	if conf.Port == 0 {
		conf.Port = uint16(p.port)
	}
	if conf.Host == "" {
		return nil, fmt.Errorf("the server of %s listens on no unix socket; set unix_socket_directories, or name the socket's directory in the configuration", w.conf.Data)
	}
	// The one place, and no other that an environment may name.
	conf.Fallbacks, conf.TLSConfig = nil, nil
	// A server is its owner's, who may have it answer without end.
	conf.DialFunc, conf.MaxProtocolMessageBodyLen = bounded.Dial, bounded.Most
	conf.RuntimeParams = map[string]string{"application_name": "sombra", "synchronous_commit": "local", "statement_timeout": "0",
		"idle_session_timeout": "0", "idle_in_transaction_session_timeout": "0", "search_path": "pg_catalog"}
	conf.DefaultQueryExecMode = pgx.QueryExecModeExec
	if s.conn, err = pgx.ConnectConfig(ctx, conf); err != nil {
		return nil, fmt.Errorf("%w; let this system user in as the role: %s", err, s.advice())
	}
	const ask = `SELECT pg_is_in_recovery(), current_setting('fsync')::bool, current_setting('max_slot_wal_keep_size'), current_setting('data_directory', true)`
	var dir *string
	if err := s.conn.QueryRow(ctx, ask).Scan(&s.recovery, &s.fsync, &s.keep, &dir); err != nil {
		s.close(ctx)
		return nil, s.explain(err)
	}
	if dir != nil && *dir != "" {
		there, err1 := os.Stat(*dir)
		here, err2 := os.Stat(w.conf.Data)
		if err := errors.Join(err1, err2); err != nil || !os.SameFile(there, here) {
			s.close(ctx)
			return nil, fmt.Errorf("the server at %s, port %d, is that of %s and not of %s; check socket and port of the configuration", conf.Host, conf.Port, *dir, w.conf.Data)
		}
	}
	return s, nil
}

// advice says what an administrator grants so that the role can do its work.
func (s *session) advice() string {
	return fmt.Sprintf(`run "CREATE ROLE %[1]s LOGIN REPLICATION; GRANT pg_read_all_settings TO %[1]s; `+
		`GRANT EXECUTE ON FUNCTION pg_backup_start, pg_backup_stop, pg_switch_wal TO %[1]s" in database %[2]s and allow peer authentication for it (docs/writers/postgres.md)`,
		pgx.Identifier{s.role}.Sanitize(), s.database)
}

// explain adds to a refusal of the server what would have to be granted.
func (s *session) explain(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" {
		return fmt.Errorf("%w; %s", err, s.advice())
	}
	return err
}

// suits says why a server cannot be backed up.
func (s *session) suits() error {
	switch {
	case s.recovery:
		return errors.New("the server is a standby or recovers; back up its primary")
	case !s.fsync:
		return errors.New("fsync is off at this server, so that no copy of its files while it runs can be relied on; turn it on, or stop the server")
	}
	return nil
}

// close ends the connection.
func (s *session) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	s.conn.Close(ctx) // the server notices in any case
}

// beginBackup has the server make a checkpoint now.
func (s *session) beginBackup(ctx context.Context) error {
	_, err := s.conn.Exec(ctx, "SELECT pg_backup_start('sombra', true)")
	return s.explain(err)
}

// endBackup ends what beginBackup began, and notes where the log stands.
func (s *session) endBackup(ctx context.Context, j *job) error {
	if j.backup {
		j.backup = false
		if err := s.conn.QueryRow(ctx, "SELECT labelfile, spcmapfile FROM pg_backup_stop(false)").Scan(&j.notes.Label, &j.notes.Map); err != nil {
			return s.explain(err)
		}
	}
	at, _, err := s.position(ctx)
	if err != nil {
		return err
	}
	j.notes.Base.LastLSN = at.String()
	return nil
}

// position gives where the log stands, and its timeline.
func (s *session) position(ctx context.Context) (lsn, uint32, error) {
	var text, name string
	if err := s.conn.QueryRow(ctx, "SELECT at::text, pg_walfile_name(at) FROM pg_current_wal_insert_lsn() AS at").Scan(&text, &name); err != nil {
		return 0, 0, s.explain(err)
	}
	at, err := parseLSN(text)
	if err != nil {
		return 0, 0, err
	}
	timeline, err := timelineOf(name)
	return at, timeline, err
}

// flush makes durable all that was acknowledged, also of clients that do not wait
// for that themselves (synchronous_commit off), and gives a position behind it.
func (s *session) flush(ctx context.Context) (lsn, uint32, error) {
	at, timeline, err := s.position(ctx)
	if err != nil {
		return 0, 0, err
	}
	var done bool
	if err := s.conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn", at.String()).Scan(&done); err != nil {
		return 0, 0, s.explain(err)
	}
	if done {
		return at, timeline, nil
	}
	// A commit of our own that is waited for makes all before it durable.
	if _, err := s.conn.Exec(ctx, "SELECT pg_logical_emit_message(true, 'sombra', '')"); err != nil {
		return 0, 0, s.explain(err)
	}
	return at, timeline, nil
}
