package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// backup is one backup of a cluster as the service plays it.
type backup struct {
	t     *testing.T
	w     writer.Writer
	c     *cluster
	event writer.Event
	part  *metadata.Component
}

// begin chooses the cluster for a backup, upon another one's stamp.
func (c *cluster) begin(w writer.Writer, typ vss.BackupType, prev vss.BackupStamp) *backup {
	c.t.Helper()
	doc, err := w.Identify(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	id := doc.Identity()
	bcd := metadata.NewBackupComponents()
	part, err := bcd.AddComponent(metadata.WriterKey{InstanceID: id.InstanceID, ClassID: id.ClassID, Schema: doc.BackupSchema()}, vss.ComponentTypeDatabase, "", c.Dir)
	if err != nil {
		c.t.Fatal(err)
	}
	if prev != "" {
		if err := part.SetPreviousBackupStamp(prev); err != nil {
			c.t.Fatal(err)
		}
	}
	b := &backup{t: c.t, w: w, c: c, part: part}
	b.event = writer.Event{SessionID: vss.NewGUID(), Limit: time.Minute, State: writer.BackupState{SelectComponents: true, Type: typ}}
	b.event.Components, _ = bcd.Writer(id.InstanceID)
	return b
}

// send sends events, and gives the error of the first that fails and what was
// noted.
func (b *backup) send(kinds ...writer.EventKind) (note string, err error) {
	for _, k := range kinds {
		e := b.event
		if err := writer.Notify(b.t.Context(), b.w, k, &e); err != nil {
			return note, fmt.Errorf("%v: %w", k, err)
		}
		if e.Components != nil {
			b.part, _ = e.Components.Component("", b.c.Dir)
			b.event.Components = e.Components
		}
		if e.Failure != nil {
			note += e.Failure.Message
		}
	}
	return note, nil
}

var wholeBackup = []writer.EventKind{writer.EventPrepareForBackup, writer.EventPrepareForSnapshot, writer.EventFreeze, writer.EventThaw, writer.EventPostSnapshot}

// run plays a whole backup that succeeds or not, and gives its stamp.
func (c *cluster) run(w writer.Writer, typ vss.BackupType, prev vss.BackupStamp, succeeds bool) vss.BackupStamp {
	c.t.Helper()
	b := c.begin(w, typ, prev)
	events := wholeBackup
	if typ == vss.BackupTypeLog && prev != "" {
		events = events[:1]
	}
	if _, err := b.send(events...); err != nil {
		c.t.Fatal(err)
	}
	if err := b.part.SetBackupSucceeded(succeeds); err != nil {
		c.t.Fatal(err)
	}
	stamp, _ := b.part.BackupStamp()
	if _, err := b.send(writer.EventBackupComplete, writer.EventBackupShutdown); err != nil {
		c.t.Fatal(err)
	}
	return stamp
}

// local makes the writer in this process.
func (c *cluster) local() writer.Writer {
	c.t.Helper()
	w, err := Kind{}.New(c.t.Context(), c.spec())
	if err != nil {
		c.t.Fatal(err)
	}
	return w
}

// shared is a cluster that several tests look at without changing what others see.
func (c *cluster) write(n int) {
	c.t.Helper()
	c.exec(fmt.Sprintf("INSERT INTO ledger (n) SELECT generate_series(coalesce(max(n), 0) + 1, coalesce(max(n), 0) + %d) FROM ledger", n))
}

// What the writer lets go of: the table of docs/writers/postgres.md, row by row.
func TestTruncation(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{Logs: true, Role: "postgres"})
	w := c.local()
	full := c.run(w, vss.BackupTypeFull, "", true)
	for _, row := range []struct {
		typ      vss.BackupType
		succeeds bool
		lets     bool
	}{
		{vss.BackupTypeCopy, true, false},
		{vss.BackupTypeCopy, false, false},
		{vss.BackupTypeDifferential, true, false},
		{vss.BackupTypeDifferential, false, false},
		{vss.BackupTypeLog, false, false},
		{vss.BackupTypeIncremental, false, false},
		{vss.BackupTypeFull, false, false},
		{vss.BackupTypeLog, true, true},
		{vss.BackupTypeIncremental, true, true},
		{vss.BackupTypeFull, true, true},
	} {
		t.Run(fmt.Sprintf("%v, succeeds %v", row.typ, row.succeeds), func(t *testing.T) {
			c.exec("SELECT pg_switch_wal()")
			c.write(1)
			prev := full
			if row.typ == vss.BackupTypeFull || row.typ == vss.BackupTypeCopy {
				prev = ""
			}
			before := c.slots()
			stamp := c.run(w, row.typ, prev, row.succeeds)
			after := c.slots()
			if strings.Count(after, "sombra_") != 1 {
				t.Errorf("slots afterwards: %s", after)
			}
			if lets := before != after; lets != row.lets {
				t.Errorf("slots before %s, after %s", before, after)
			}
			if row.lets {
				full = stamp
			}
		})
	}
	if entries, err := os.ReadDir(filepath.Join(c.Dir, "pg_wal", stagingName)); err != nil || len(entries) > 0 {
		t.Errorf("left in the staging directory: %v, %v", entries, err)
	}
}

// Whatever ends a backup early, no slot and no link is left, and the next works.
func TestNothingIsLeftOfABackupThatEndsEarly(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{Logs: true})
	w, kill, err := c.host()
	if err != nil {
		t.Fatal(err)
	}
	full := c.run(w, vss.BackupTypeFull, "", true)
	kept := c.slots()
	none := func() {
		t.Helper()
		waitFor(t, "the slots are as before", func() bool {
			return c.query("SELECT coalesce(string_agg(slot_name || ' ' || restart_lsn, ', '), '') FROM pg_replication_slots") == kept
		})
	}
	for n := range wholeBackup {
		b := c.begin(w, vss.BackupTypeFull, "")
		if _, err := b.send(wholeBackup[:n+1]...); err != nil {
			t.Fatal(err)
		}
		if _, err := b.send(writer.EventAbort); err != nil {
			t.Fatal(err)
		}
		none()
	}
	for _, typ := range []vss.BackupType{vss.BackupTypeFull, vss.BackupTypeLog} {
		prev := full
		if typ == vss.BackupTypeFull {
			prev = ""
		}
		if _, err := c.begin(w, typ, prev).send(writer.EventPrepareForBackup); err != nil {
			t.Fatal(err)
		}
		if err := kill(); err != nil {
			t.Fatal(err)
		}
		none()
		if w, kill, err = c.host(); err != nil {
			t.Fatal(err)
		}
	}
	c.run(w, vss.BackupTypeLog, full, true)
	if entries, err := os.ReadDir(filepath.Join(c.Dir, "pg_wal", stagingName)); err != nil || len(entries) > 0 {
		t.Errorf("left in the staging directory: %v, %v", entries, err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// A log backup that cannot continue its chain is refused, with the reason and the
// way out.
func TestLogBackupNamesWhyItCannotContinue(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{Logs: true, Role: "postgres"})
	w := c.local()
	full := c.run(w, vss.BackupTypeFull, "", true)
	parsed, err := parseStamp(full)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*stamp)) vss.BackupStamp {
		s := parsed
		f(&s)
		return s.encode()
	}
	for _, tt := range []struct {
		name, says string
		prev       vss.BackupStamp
		before     string
	}{
		{"another cluster's", "another cluster", change(func(s *stamp) { s.System++ }), ""},
		{"another timeline", "timeline 1 since it was restored or promoted", change(func(s *stamp) { s.Timeline = 7 }), ""},
		{"without logs", `set "logs"`, change(func(s *stamp) { s.Slot = "" }), ""},
		{"a bad slot", "names the slot", change(func(s *stamp) { s.Slot = "x; DROP" }), ""},
		{"nonsense", "stamp", "nonsense", ""},
		{"slot moved by somebody", "moved to", change(func(s *stamp) { s.LSN = "0/10" }), ""},
		{"slot dropped", "is gone", full, "SELECT pg_drop_replication_slot('" + parsed.Slot + "')"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.before != "" {
				c.exec(tt.before)
			}
			_, err := c.begin(w, vss.BackupTypeLog, tt.prev).send(writer.EventPrepareForBackup)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v; it should say %q", err, tt.says)
			}
		})
	}
}

// The role needs what docs/writers/postgres.md grants, and no more; without it the
// writer says in one line what to grant, and saves what needs no connection.
func TestRoleNeedsTheDocumentedGrantsAlone(t *testing.T) {
	owner := "postgres"
	if os.Geteuid() != 0 {
		owner = os.Getenv("USER")
	}
	c := newCluster(t, dbtest.PostgresOptions{
		HBA:   "local all postgres trust\nlocal postgres sombra peer map=sombra\n",
		Ident: "sombra " + owner + " sombra\n",
	}, config{Logs: true, Role: "sombra"})
	w, _, err := c.host()
	if err != nil {
		t.Fatal(err)
	}
	plan := w.Describe().Weak
	for _, text := range []string{"CREATE ROLE", "without a connection", "fsync", "log backups fail"} {
		if !strings.Contains(plan, text) || strings.Contains(plan, "\n") {
			t.Errorf("without the role the plan says %q; it should say %q", plan, text)
		}
	}
	b := c.begin(w, vss.BackupTypeCopy, "")
	note, err := b.send(wholeBackup...)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(note, "CREATE ROLE") || !strings.Contains(note, "fsync") || strings.Contains(note, "\n") {
		t.Errorf("without the role it says %q", note)
	}
	if _, ok := b.part.BackupStamp(); !ok {
		t.Error("the backup without a connection has no stamp")
	}
	c.exec(documented(t)...)
	if super := c.query("SELECT rolsuper::text FROM pg_roles WHERE rolname = 'sombra'"); super != "false" {
		t.Errorf("the role is a superuser")
	}
	if w, _, err = c.host(); err != nil {
		t.Fatal(err)
	}
	if plan := w.Describe().Weak; plan != "" {
		t.Errorf("with the grants the plan says %q", plan)
	}
	b = c.begin(w, vss.BackupTypeFull, "")
	if note, err := b.send(wholeBackup...); err != nil || note != "" {
		t.Fatalf("with the grants: %v, note %q", err, note)
	}
	full := c.run(w, vss.BackupTypeFull, "", true)
	c.write(10)
	c.run(w, vss.BackupTypeLog, full, true)
}

// documented gives the statements of the documentation.
func documented(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/writers/postgres.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "```sql grants\n")
	block, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("docs/writers/postgres.md has no block of grants")
	}
	var list []string
	for s := range strings.SplitSeq(block, ";") {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, s)
		}
	}
	return list
}

// A cluster that is not running is still by nature, unless it is started.
func TestStoppedClusterIsSavedUnlessItIsStarted(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{})
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	w := c.local()
	if d := w.Describe(); d.Stillness != writer.FilesStill {
		t.Errorf("it declares %v", d.Stillness)
	}
	c.run(w, vss.BackupTypeFull, "", true)
	b := c.begin(w, vss.BackupTypeFull, "")
	if _, err := b.send(wholeBackup[:3]...); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.send(writer.EventThaw); !errors.Is(err, vss.ErrWriterErrorRetryable) {
		t.Errorf("started while it was frozen: %v", err)
	}
	if _, err := c.begin(w, vss.BackupTypeFull, "").send(writer.EventPrepareForBackup); !errors.Is(err, vss.ErrWriterErrorRetryable) {
		t.Errorf("started before the backup: %v", err)
	}
}

// Freeze does not wait for a server that does not answer.
func TestFreezeEndsAtItsLimitWhenTheServerHangs(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{Role: "postgres"})
	w := c.local()
	b := c.begin(w, vss.BackupTypeFull, "")
	if _, err := b.send(wholeBackup[:2]...); err != nil {
		t.Fatal(err)
	}
	pids, err := c.Processes()
	if err != nil {
		t.Fatal(err)
	}
	signalAll(t, pids, stopSignal)
	defer signalAll(t, pids, goSignal)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	e := b.event
	if err := w.Freeze(ctx, &e); !errors.Is(err, vss.ErrWriterErrorTimeout) {
		t.Errorf("Freeze gave %v", err)
	}
	begun := time.Now()
	if err := w.Abort(t.Context(), &e); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 3*closeLimit {
		t.Errorf("Abort took %v with a server that hangs", took)
	}
}

// A tablespace made while a backup is under way is not in its file sets.
func TestFreezeNoticesNewTablespaces(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{Role: "postgres"})
	w := c.local()
	b := c.begin(w, vss.BackupTypeFull, "")
	if _, err := b.send(wholeBackup[:2]...); err != nil {
		t.Fatal(err)
	}
	c.tablespace("late")
	if _, err := b.send(writer.EventFreeze); !errors.Is(err, vss.ErrWriterErrorRetryable) {
		t.Errorf("Freeze gave %v", err)
	}
}

// tablespace makes one beside the data directory.
func (c *cluster) tablespace(name string) string {
	c.t.Helper()
	dir := c.directory(name)
	c.exec(fmt.Sprintf("CREATE TABLESPACE %s LOCATION '%s'", name, dir))
	return dir
}

// directory makes one of the owner's beside the data directory.
func (c *cluster) directory(name string) string {
	c.t.Helper()
	dir := filepath.Join(filepath.Dir(c.Dir), name)
	info, err := os.Stat(c.Dir)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(dir, 0o700), likeOwner(info, dir)); err != nil {
		c.t.Fatal(err)
	}
	return dir
}

// Clusters are found by their running server and by their files, once each.
func TestDiscover(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{})
	space := c.tablespace("elsewhere")
	find := func(paths ...string) []string {
		t.Helper()
		specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Auto: true, Paths: paths})
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, s := range specs {
			var conf config
			if err := json.Unmarshal(s.Config, &conf); err != nil {
				t.Fatal(err)
			}
			if !s.Discovered {
				t.Errorf("%s counts as configured", s.Name)
			}
			list = append(list, conf.Data)
		}
		return list
	}
	parent := filepath.Dir(c.Dir)
	for _, running := range []bool{true, false} {
		if !running {
			if err := c.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		for _, path := range []string{parent, c.Dir, filepath.Join(c.Dir, "base")} {
			if got := find(path); !slices.Equal(got, []string{c.Dir}) {
				t.Errorf("running %v: below %s it finds %v", running, path, got)
			}
		}
		if got := find(t.TempDir()); len(got) != 0 {
			t.Errorf("running %v: elsewhere it finds %v", running, got)
		}
		if running {
			specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Auto: true, Running: true, Paths: []string{t.TempDir()}})
			if !slices.ContainsFunc(specs, func(s writer.Spec) bool { return s.Name == KindName+":"+c.Dir }) {
				t.Errorf("wherever it lies it is not among %d clusters that run, %v", len(specs), err)
			}
		}
		if got := find(space); running && !slices.Equal(got, []string{c.Dir}) {
			t.Errorf("by its tablespace it finds %v", got)
		}
	}
}

// A cluster of another major version is refused, with the reason.
func TestOtherVersionsAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("16\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(config{Data: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Kind{}.New(t.Context(), writer.Spec{Config: raw})
	if err == nil || !strings.Contains(err.Error(), "PostgreSQL 16") {
		t.Errorf("error %v", err)
	}
	// A switch that could not keep its promise is none.
	if _, err := parseConfig(json.RawMessage(`{"data": "/srv/pg", "any_version": true}`)); err == nil || !strings.Contains(err.Error(), "any_version") {
		t.Errorf("any_version: %v", err)
	}
}
