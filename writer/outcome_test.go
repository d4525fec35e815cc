package writer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// plain is a writer with the handlers it must have and no other.
type plain struct{ instance vss.GUID }

func (plain) Describe() writer.Description { return writer.Description{} }

// Identify declares two components of which the first has one below it, which is
// in its set and not in the document that events carry.
func (p plain) Identify(context.Context) (*metadata.WriterMetadata, error) {
	m, err := metadata.NewWriterMetadata(metadata.Identity{InstanceID: p.instance, ClassID: vss.MustParseGUID("f3a9d1c2-5b60-4d8e-9c11-7e2f60a4b8d5"),
		Name: "Logs", InstanceName: "logs", Usage: vss.UsageUserData, Source: vss.SourceOther})
	if err != nil {
		return nil, err
	}
	group := func(path, name string, selectable bool) error {
		return m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeDatabase, LogicalPath: path, Name: name, Selectable: selectable})
	}
	return m, errors.Join(m.SetBackupSchema(vss.SchemaLog), group("", "one", true), group("one", "below", false), group("", "two", true))
}

func (plain) Freeze(context.Context, *writer.Event) error { return nil }
func (plain) Thaw(context.Context, *writer.Event) error   { return nil }
func (plain) Abort(context.Context, *writer.Event) error  { return nil }

// keeper lets go of a component's log, a file, when that is saved, and removes a
// temporary file whatever came of the backup.
type keeper struct {
	plain
	dir  string
	seen map[string]string
}

func (k *keeper) BackupComplete(_ context.Context, e *writer.Event) error {
	k.seen = make(map[string]string)
	for _, c := range e.Components.Components() {
		saved, known := c.BackupSucceeded()
		k.seen[c.FullPath()] = fmt.Sprint(saved, known)
		if t := e.State.Type; saved && (t == vss.BackupTypeFull || t == vss.BackupTypeLog || t == vss.BackupTypeIncremental) {
			if err := os.Remove(filepath.Join(k.dir, c.FullPath()+".log")); err != nil {
				return err
			}
		}
	}
	return os.Remove(filepath.Join(k.dir, "temporary"))
}

// reach gives a writer as the service reaches it: in process, and over gRPC.
func reach(t *testing.T, w writer.Writer) map[string]writer.Writer {
	t.Helper()
	here, there := net.Pipe()
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- writer.ServeConn(ctx, there, w) }()
	c, err := writer.Dial(t.Context(), here)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), <-served); err != nil {
			t.Error(err)
		}
		cancel()
	})
	remote, err := c.Writers(t.Context())
	if err != nil || len(remote) != 1 {
		t.Fatalf("%d writers, %v", len(remote), err)
	}
	return map[string]writer.Writer{"in process": writer.NewGuard(w, nil), "over gRPC": remote[0]}
}

// complete plays a backup of both components up to BackupComplete, with the
// outcomes given.
func complete(t *testing.T, w writer.Writer, typ vss.BackupType, outcomes map[string]bool) error {
	t.Helper()
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, bcd := doc.Identity(), metadata.NewBackupComponents()
	key := metadata.WriterKey{InstanceID: id.InstanceID, ClassID: id.ClassID, Schema: doc.BackupSchema()}
	for _, name := range []string{"one", "two"} {
		c, err := bcd.AddComponent(key, vss.ComponentTypeDatabase, "", name)
		if ok, known := outcomes[name]; err == nil && known {
			err = c.SetBackupSucceeded(ok)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	parts, _ := bcd.Writer(id.InstanceID)
	event := writer.Event{SessionID: vss.NewGUID(), State: writer.BackupState{SelectComponents: true, Type: typ}, Components: parts}
	for _, k := range []writer.EventKind{writer.EventPrepareForBackup, writer.EventPostSnapshot} {
		e := event
		if err := writer.Notify(t.Context(), w, k, &e); err != nil {
			t.Fatal(err)
		}
	}
	return writer.Notify(t.Context(), w, writer.EventBackupComplete, &event)
}

// TestTruncationByTypeAndOutcome is docs/writers/truncation.md's table for a writer
// that does as it says: each component's outcome comes to the handler, which lets
// go of logs for those saved and removes what is temporary in any case.
func TestTruncationByTypeAndOutcome(t *testing.T) {
	for _, row := range []struct {
		typ      vss.BackupType
		outcomes map[string]bool // a component that is not named has none
		left     []string        // of the two logs
	}{
		{vss.BackupTypeCopy, map[string]bool{"one": true, "two": true}, []string{"one", "two"}},
		{vss.BackupTypeDifferential, map[string]bool{"one": true, "two": true}, []string{"one", "two"}},
		{vss.BackupTypeFull, map[string]bool{"one": true, "two": true}, nil},
		{vss.BackupTypeFull, map[string]bool{"one": false, "two": true}, []string{"one"}},
		{vss.BackupTypeFull, map[string]bool{"one": true}, []string{"two"}},
		{vss.BackupTypeFull, map[string]bool{}, []string{"one", "two"}},
		{vss.BackupTypeIncremental, map[string]bool{"one": true, "two": false}, []string{"two"}},
		{vss.BackupTypeLog, map[string]bool{"one": true, "two": true}, nil},
		{vss.BackupTypeLog, map[string]bool{"one": false, "two": false}, []string{"one", "two"}},
	} {
		k := &keeper{plain: plain{vss.NewGUID()}}
		for how, w := range reach(t, k) {
			k.dir = t.TempDir()
			for _, name := range []string{"one.log", "two.log", "temporary"} {
				if err := os.WriteFile(filepath.Join(k.dir, name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := complete(t, w, row.typ, row.outcomes); err != nil {
				t.Fatalf("%v %v, %s: %v", row.typ, row.outcomes, how, err)
			}
			want := map[string]string{"one": "false false", "two": "false false"}
			for name, ok := range row.outcomes {
				want[name] = fmt.Sprint(ok, true)
			}
			if !maps.Equal(k.seen, want) {
				t.Errorf("%v %v, %s: the handler saw %v", row.typ, row.outcomes, how, k.seen)
			}
			var left []string
			files, err := os.ReadDir(k.dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				left = append(left, f.Name())
			}
			var logs []string
			for _, name := range row.left {
				logs = append(logs, name+".log")
			}
			if fmt.Sprint(left) != fmt.Sprint(logs) {
				t.Errorf("%v %v, %s: left are %v, want %v", row.typ, row.outcomes, how, left, logs)
			}
		}
	}
}

// TestBackupCompleteIsOptional: a writer without the handler agrees.
func TestBackupCompleteIsOptional(t *testing.T) {
	for how, w := range reach(t, plain{vss.NewGUID()}) {
		if err := complete(t, w, vss.BackupTypeFull, map[string]bool{"one": true, "two": false}); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
}
