package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator"
	"github.com/sombra-backup/sombra/vss"
)

// The goals.
const (
	goalHeld    = 30 * time.Millisecond
	goalControl = 5 * time.Millisecond // over what the receipt says it was held
)

// settle is how long after a shadow copy a client's wait is still counted as
// caused by it.
const settle = 100 * time.Millisecond

type freezeOptions struct {
	rounds int
	size   int64
	dir    string
}

// benchFreeze measures how long a SQLite database on btrfs is held for a shadow
// copy, under three loads.
func benchFreeze(ctx context.Context, args []string, out io.Writer) error {
	o := freezeOptions{}
	mib := int64(0)
	f := flag.NewFlagSet("freeze", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 30, "shadow copies under each load")
	f.Int64Var(&mib, "size", 1024, "size of the database in MiB")
	f.StringVar(&o.dir, "dir", "/var/tmp", "directory for the volume's image; not in memory")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.rounds < 1 || mib < 1 {
		return errors.New("rounds and size must be 1 or more")
	}
	o.size = mib << 20
	v, err := newVolume(o.dir, "btrfs", 4*o.size+2<<30)
	if err != nil {
		return err
	}
	err = measureFreeze(ctx, o, v, out)
	return errors.Join(err, v.close())
}

// load is the clients at work while shadow copies are taken.
type load struct {
	title         string
	busy, control bool
}

var loads = []load{
	{"one client that commits without a pause", true, false},
	{"the control client alone", false, true},
	{"both of them", true, true},
}

func measureFreeze(ctx context.Context, o freezeOptions, v *volume, out io.Writer) error {
	db := filepath.Join(v.root, "app.db")
	about := machine()
	fmt.Fprintf(os.Stderr, "filling %s\n", db)
	if err := self(roleFill, db, strconv.FormatInt(o.size, 10)).Run(); err != nil {
		return fmt.Errorf("fill the database: %w", err)
	}
	st, err := os.Stat(db)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "## SQLite on btrfs: how long a database is held\n\n%s", about)
	fmt.Fprintf(out, "- database: %d MiB, write-ahead log, synchronous=FULL, on btrfs on a loop device over a file in %s\n", st.Size()>>20, o.dir)
	fmt.Fprintf(out, "- %d shadow copies under each load; lock wait, held, hold, commit and flush are from the freeze receipt\n", o.rounds)
	r := &freezeRig{db: db, root: v.root, state: filepath.Join(v.dir, "state")}
	for _, l := range loads {
		res, err := r.measure(ctx, l, o.rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", l.title, err)
		}
		res.print(out, l)
	}
	return nil
}

// freezeRig is the database and the service over it.
type freezeRig struct{ db, root, state string }

// measured is what was measured under one load.
type measured struct {
	lockWait, held, sum, hold, commit, prepare durations
	// Of the client that is asked: its longest wait for the lock and its longest
	// transaction while the volume is flushed, from Freeze on, and in as long a
	// time without a shadow copy.
	flushWait, wait, idleWait    durations
	flushWhole, whole, idleWhole durations
	// over is by how much the longest wait was over what the receipt says.
	over durations
	rate float64 // transactions of the asked client a second
}

func (r *freezeRig) measure(ctx context.Context, l load, rounds int) (m measured, err error) {
	var clients []*client
	defer func() {
		for _, c := range clients {
			err = errors.Join(err, c.stop())
		}
	}()
	for role, on := range map[string]bool{roleLoad: l.busy, roleControl: l.control} {
		if !on {
			continue
		}
		c, err := startClient(role, r.db)
		if err != nil {
			return m, err
		}
		if role == roleControl { // the last one is asked
			clients = append(clients, c)
		} else {
			clients = append([]*client{c}, clients...)
		}
	}
	asked := clients[len(clients)-1]
	time.Sleep(2 * time.Second)
	if _, err := asked.take(); err != nil {
		return m, err
	}
	fmt.Fprintf(os.Stderr, "load: %s; %d shadow copies\n", l.title, rounds)
	start, count := time.Now(), 0
	for n := range rounds {
		c, err := m.round(ctx, r, asked)
		if err != nil {
			return m, fmt.Errorf("shadow copy %d: %w", n+1, err)
		}
		count += c
	}
	m.rate = float64(count) / time.Since(start).Seconds()
	return m, nil
}

// round takes one shadow copy, then watches the client for as long without.
func (m *measured) round(ctx context.Context, r *freezeRig, asked *client) (count int, err error) {
	begun := time.Now()
	var flushing sample
	rec, err := r.shadow(ctx, func() (err error) {
		flushing, err = asked.take()
		return err
	})
	if err != nil {
		return 0, err
	}
	time.Sleep(settle)
	s, err := asked.take()
	if err != nil {
		return 0, err
	}
	window := time.Since(begun)
	time.Sleep(window)
	idle, err := asked.take()
	if err != nil {
		return 0, err
	}
	if len(rec.Writers) != 1 || len(rec.Volumes) != 1 || rec.Writers[0].Stillness == "" {
		return 0, fmt.Errorf("the receipt has no frozen writer: %+v", rec)
	}
	w, v := rec.Writers[0], rec.Volumes[0]
	m.lockWait = append(m.lockWait, w.LockWait)
	m.held = append(m.held, w.Held)
	m.sum = append(m.sum, w.LockWait+w.Held)
	m.hold = append(m.hold, rec.Hold)
	m.commit = append(m.commit, v.Commit)
	m.prepare = append(m.prepare, v.Prepare)
	m.flushWait, m.flushWhole = append(m.flushWait, flushing.Wait), append(m.flushWhole, flushing.Whole)
	m.wait, m.whole = append(m.wait, s.Wait), append(m.whole, s.Whole)
	m.idleWait, m.idleWhole = append(m.idleWait, idle.Wait), append(m.idleWhole, idle.Whole)
	m.over = append(m.over, s.Wait-w.Held)
	return flushing.Count + s.Count + idle.Count, nil
}

// shadow takes a shadow copy of the volume with the database frozen, through
// the service as a backup does. mark is called right before the set is made, and
// again right before Freeze.
func (r *freezeRig) shadow(ctx context.Context, mark func() error) (rec session.Receipt, err error) {
	config, err := json.Marshal(map[string]string{"path": r.db})
	if err != nil {
		return rec, err
	}
	s, err := coordinator.Open(ctx, coordinator.Options{
		Options: session.Options{Paths: []string{r.root}, Writers: []session.WriterConfig{{Kind: "sqlite", Name: r.db, Config: config}}},
		Kinds:   kinds(), Providers: providers(), StateDir: r.state,
		KeeperArgs: []string{roleKeeper}, HostArgs: []string{roleHost},
	})
	if err != nil {
		return rec, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := prepareShadow(ctx, s, r.root); err != nil {
		return rec, err
	}
	if err := mark(); err != nil {
		return rec, err
	}
	var marked error
	err = s.DoSnapshotSet(ctx, func(step session.Step) {
		if step.Event == "Freeze" && !step.Done {
			marked = mark()
		}
	})
	if err := errors.Join(err, marked); err != nil {
		return rec, err
	}
	if err := statuses(ctx, s); err != nil {
		return rec, err
	}
	return s.Receipt(ctx)
}

func prepareShadow(ctx context.Context, s session.Session, root string) error {
	if err := s.InitializeForBackup(ctx, nil); err != nil {
		return err
	}
	if err := s.SetBackupState(ctx, session.BackupState{SelectComponents: true, Type: vss.BackupTypeCopy}); err != nil {
		return err
	}
	if err := s.GatherWriterMetadata(ctx, nil); err != nil {
		return err
	}
	scope, err := addComponents(ctx, s)
	if err != nil {
		return err
	}
	at, err := s.ResolvePath(ctx, root)
	if err != nil {
		return err
	}
	if _, err := s.StartSnapshotSet(ctx); err != nil {
		return err
	}
	if _, err := s.AddToSnapshotSet(ctx, at.Volume, vss.GUID{}, scope); err != nil {
		return err
	}
	if err := s.PrepareForBackup(ctx, nil); err != nil {
		return err
	}
	return statuses(ctx, s)
}

// addComponents adds every component there is, and says which files are whose.
func addComponents(ctx context.Context, s session.Session) (scope session.Scope, err error) {
	infos, err := s.WriterMetadata(ctx)
	if err != nil {
		return scope, err
	}
	for _, info := range infos {
		m, err := metadata.ParseWriterMetadata(info.Document)
		if err != nil {
			return scope, err
		}
		claim := provider.Claim{Writer: info.Instance.String()}
		for _, c := range m.Components() {
			err := s.AddComponent(ctx, session.Component{Instance: info.Instance, Writer: m.Identity().ClassID,
				Type: c.Type, LogicalPath: c.LogicalPath, Name: c.Name})
			if err != nil {
				return scope, err
			}
			for _, f := range c.FileSets {
				claim.Files = append(claim.Files, provider.FileSet{Dir: ".", Pattern: f.Pattern})
			}
		}
		scope.Claims = append(scope.Claims, claim)
	}
	if len(scope.Claims) != 1 {
		return scope, fmt.Errorf("%d writers answered, not one", len(scope.Claims))
	}
	return scope, nil
}

// statuses makes sure that no writer has failed.
func statuses(ctx context.Context, s session.Session) error {
	if err := s.GatherWriterStatus(ctx, nil); err != nil {
		return err
	}
	list, err := s.WriterStatus(ctx)
	if err != nil {
		return err
	}
	for _, w := range list {
		if w.Failure != vss.OK {
			return fmt.Errorf("writer %s: %v in %s: %s", w.InstanceName, w.Failure, w.Event, w.Message)
		}
	}
	return nil
}
