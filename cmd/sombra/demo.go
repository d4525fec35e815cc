package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	_ "modernc.org/sqlite" // the demo's application uses SQLite like any other

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

func newDemo(a *app) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job for real, in a scratch directory",
		Long: `Run an application that writes to a SQLite database all the time beside a tree of
files, back both up at one instant, damage both, restore them, and prove that the
restored database holds exactly the transactions acknowledged at that instant.
Everything happens below a scratch directory, which is removed in the end.`,
		Args:              takes(),
		PersistentPreRunE: needsNoConfig,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.json {
				return errors.New("the demo is for people; it prints no JSON lines")
			}
			dir, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			scratch, err := os.MkdirTemp(dir, "sombra-demo-")
			if err != nil {
				return &hintError{pathError(err), "give a directory you can write to with --dir"}
			}
			defer os.RemoveAll(scratch)
			d := &demo{app: a, ctx: cmd.Context(), dir: scratch}
			return d.run()
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "/var/tmp", "make the scratch directory below this `directory`")
	load := &cobra.Command{
		Use: "load DB LOG", Hidden: true, Args: takes("DB", "LOG"),
		RunE: func(cmd *cobra.Command, args []string) error { return demoLoad(cmd.Context(), args[0], args[1]) },
	}
	cmd.AddCommand(load)
	return cmd
}

// demo is one run of it.
type demo struct {
	*app
	ctx  context.Context
	dir  string
	sums map[string][32]byte
}

func (d *demo) path(elem ...string) string { return filepath.Join(append([]string{d.dir}, elem...)...) }

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.stdout, "== "+format+"\n", args...)
}

func (d *demo) run() error {
	d.say("an application writes to %s, beside a tree of files", d.path("app", "app.db"))
	if err := d.makeTree(); err != nil {
		return err
	}
	stop, err := d.startLoad()
	if err != nil {
		return err
	}
	defer stop()
	if err := d.sombra(nil, "init"); err != nil {
		return err
	}
	d.say("what a backup would do")
	if err := d.sombra(nil, "plan", d.path("app")); err != nil {
		return err
	}
	d.say("the backup, while the application goes on writing")
	receipt, err := d.backup()
	if err != nil {
		return err
	}
	stop()
	d.say("damage: the database is overwritten, its log left beside it, half of the files deleted")
	if err := d.damage(); err != nil {
		return err
	}
	d.say("the restore, through the writer of the database")
	if err := d.sombra(nil, "restore", "latest"); err != nil {
		return err
	}
	d.say("the proof")
	if err := d.prove(receipt); err != nil {
		return err
	}
	if err := d.sombra(nil, "check", "--read-data"); err != nil {
		return err
	}
	d.say("the demo has passed")
	return nil
}

// sombra runs this program as a user would, and shows it.
func (d *demo) sombra(out *bytes.Buffer, args ...string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(d.ctx, exe, args...)
	cmd.Env = append(withoutOurs(os.Environ()), "SOMBRA_REPOSITORY="+d.path("repository"), "SOMBRA_PASSWORD=demo",
		"SOMBRA_STATE_DIR="+d.path("state"), "SOMBRA_CONFIG="+os.DevNull)
	cmd.Stdout, cmd.Stderr = d.stdout, d.stderr
	if out != nil {
		cmd.Stdout = out
	} else {
		fmt.Fprintf(d.stdout, "$ sombra %s\n", strings.Join(args, " "))
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("sombra %s: %w", args[0], err)
	}
	return nil
}

// makeTree makes files of many sizes, links among them.
func (d *demo) makeTree() error {
	d.sums = make(map[string][32]byte)
	r := rand.NewChaCha8(sha256.Sum256([]byte("demo")))
	for i := range 300 {
		name := d.path("app", "files", fmt.Sprint(i%10), fmt.Sprintf("file-%03d", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		data := make([]byte, (i*i*97)%200_000)
		r.Read(data)
		if err := os.WriteFile(name, data, 0o640); err != nil {
			return err
		}
		d.sums[name] = sha256.Sum256(data)
	}
	return os.Symlink("file-000", d.path("app", "files", "0", "link"))
}

// startLoad starts the application in a process of its own.
func (d *demo) startLoad() (stop func(), err error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(d.ctx, exe, "demo", "load", d.path("app", "app.db"), d.path("acknowledged"))
	cmd.Env = append(withoutOurs(os.Environ()), "SOMBRA_CONFIG="+os.DevNull)
	cmd.Stderr = d.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cmd.Process.Signal(os.Interrupt)
			cmd.Wait()
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if txs, err := d.acknowledged(); err == nil && len(txs) >= 100 {
			return stop, nil
		}
		if time.Now().After(deadline) {
			stop()
			return nil, errors.New("the demo's application did not begin to write")
		}
	}
}

// transaction is one of the application's, as it saw it.
type transaction struct {
	N            int64
	Begun, Acked time.Time
}

func (d *demo) acknowledged() ([]transaction, error) {
	data, err := os.ReadFile(d.path("acknowledged"))
	if err != nil {
		return nil, err
	}
	var txs []transaction
	for line := range strings.Lines(string(data)) {
		if !strings.HasSuffix(line, "\n") {
			break // being written
		}
		var n, begun, acked int64
		if _, err := fmt.Sscan(line, &n, &begun, &acked); err != nil {
			return nil, err
		}
		txs = append(txs, transaction{n, time.Unix(0, begun), time.Unix(0, acked)})
	}
	return txs, nil
}

// backup runs it with JSON, shows the receipt and returns it.
func (d *demo) backup() (*session.Receipt, error) {
	var out bytes.Buffer
	fmt.Fprintf(d.stdout, "$ sombra backup %s\n", d.path("app"))
	if err := d.sombra(&out, "backup", "--json", d.path("app")); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out.String())
	}
	var summary requester.Result
	var plan requester.Plan
	var err error
	for line := range bytes.Lines(out.Bytes()) {
		var m struct {
			MessageType string `json:"message_type"`
		}
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, err
		}
		switch m.MessageType {
		case "plan":
			err = json.Unmarshal(line, &plan)
		case "summary":
			err = json.Unmarshal(line, &summary)
		}
		if err != nil {
			return nil, err
		}
	}
	if summary.Receipt == nil || len(summary.Receipt.Writers) == 0 {
		return nil, errors.New("the backup gave no freeze receipt")
	}
	if summary.Outcome != requester.Complete || len(summary.Components) != 1 || summary.Components[0].Level != session.LevelApp.String() {
		return nil, fmt.Errorf("the backup is %s, and not of one component at level app", summary.Outcome)
	}
	summary.Plan = &plan
	d.summarizeBackup(&summary, silent{})
	return summary.Receipt, nil
}

func (d *demo) damage() error {
	f, err := os.OpenFile(d.path("app", "app.db"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(bytes.Repeat([]byte("damage! "), 512), 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	// A log that belongs to no backup: restored beside it, a database is lost.
	if err := os.WriteFile(d.path("app", "app.db-wal"), bytes.Repeat([]byte("stale"), 2000), 0o644); err != nil {
		return err
	}
	for i := range 5 {
		if err := os.RemoveAll(d.path("app", "files", fmt.Sprint(i))); err != nil {
			return err
		}
	}
	return nil
}

// prove compares what is restored with what the application knew.
func (d *demo) prove(r *session.Receipt) error {
	txs, err := d.acknowledged()
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+d.path("app", "app.db")+"?mode=ro")
	if err != nil {
		return err
	}
	defer db.Close()
	var check string
	var rows, first, last int64
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil {
		return fmt.Errorf("restored database: %w", err)
	}
	if check != "ok" {
		return fmt.Errorf("restored database: integrity check says %s", check)
	}
	if err := db.QueryRow("SELECT count(*), min(n), max(n) FROM ledger").Scan(&rows, &first, &last); err != nil {
		return fmt.Errorf("restored database: %w", err)
	}
	if first != 1 || rows != last {
		return fmt.Errorf("restored database: %d rows from %d to %d: not without a gap", rows, first, last)
	}
	during := 0
	for _, t := range txs {
		switch {
		case t.Acked.Before(r.Instant.Add(-r.Hold)) && t.N > last:
			return fmt.Errorf("transaction %d was acknowledged before the freeze and is lost", t.N)
		case t.Begun.After(r.Instant) && t.N <= last:
			return fmt.Errorf("transaction %d was begun after the instant and is in the backup", t.N)
		case t.Begun.Before(r.Instant) && t.Acked.After(r.Instant) && t.N > last:
			during++
		}
	}
	fmt.Fprintf(d.stdout, "database: integrity check ok; transactions 1 to %d, without a gap, of %d acknowledged until it was stopped\n", last, len(txs))
	fmt.Fprintf(d.stdout, "  every transaction acknowledged before %s is there, none begun after it;\n", r.Instant.Format(time.RFC3339Nano))
	fmt.Fprintf(d.stdout, "  %d waited during the freeze and were acknowledged after it\n", during)
	for name, want := range d.sums {
		data, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("restored file: %w", err)
		}
		if sha256.Sum256(data) != want {
			return fmt.Errorf("restored file %s differs from the original", name)
		}
	}
	fmt.Fprintf(d.stdout, "files: all %d are as they were, byte for byte\n", len(d.sums))
	return d.proveListing()
}

// proveListing looks into the backup: a database's shared memory belongs to the
// processes that have it open, and is never in one.
func (d *demo) proveListing() error {
	var out bytes.Buffer
	if err := d.sombra(&out, "ls", "latest", d.path("app")); err != nil {
		return err
	}
	names := strings.Split(strings.TrimSpace(out.String()), "\n")
	for suffix, want := range map[string]bool{"app.db": true, "app.db-wal": true, "app.db-shm": false} {
		if slices.Contains(names, d.path("app", suffix)) != want {
			return fmt.Errorf("%s in the backup: %t, not %t as it should be", suffix, !want, want)
		}
	}
	fmt.Fprintf(d.stdout, "listing: %d entries; the database and its log are in the backup, its shared memory is not\n", len(names))
	return nil
}

// silent is the reporter where nothing was reported yet.
type silent struct{ reporter }

func (silent) told(string) bool { return false }

// demoLoad is the application: it commits numbered transactions and notes when
// each was begun and acknowledged. An interrupt ends it.
func demoLoad(ctx context.Context, path, logPath string) error {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(20000)&_txlock=immediate")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "CREATE TABLE ledger (n INTEGER PRIMARY KEY, text TEXT)"); err != nil {
		return err
	}
	log, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	for n := 1; ctx.Err() == nil; n++ {
		begun := time.Now()
		if _, err := db.Exec("INSERT INTO ledger VALUES (?, ?)", n, strings.Repeat("x", n%500)); err != nil {
			return fmt.Errorf("transaction %d: %w", n, err)
		}
		if _, err := fmt.Fprintf(log, "%d %d %d\n", n, begun.UnixNano(), time.Now().UnixNano()); err != nil {
			return err
		}
	}
	return nil
}
