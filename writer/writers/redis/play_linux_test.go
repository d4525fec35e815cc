package redis

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// play is a session with a writer that a test plays.
type play struct {
	t     testing.TB
	w     writer.Writer
	doc   *metadata.WriterMetadata
	bcd   *metadata.BackupComponents
	parts *metadata.WriterComponents
	event writer.Event
	// failed is what the writer reported with the last event (SetWriterFailure).
	failed *writer.Failure
}

func newPlay(t testing.TB, w writer.Writer) *play {
	t.Helper()
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := &play{t: t, w: w, doc: doc, bcd: metadata.NewBackupComponents(), event: writer.Event{
		SessionID: vss.NewGUID(), SnapshotSetID: vss.NewGUID(), Limit: 20 * time.Second,
		State: writer.BackupState{SelectComponents: true, Type: vss.BackupTypeFull, PartialFileSupport: true},
	}}
	id := doc.Identity()
	key := metadata.WriterKey{InstanceID: id.InstanceID, ClassID: id.ClassID, Schema: doc.BackupSchema()}
	for _, c := range doc.Components() {
		if _, err := p.bcd.AddComponent(key, c.Type, c.LogicalPath, c.Name); err != nil {
			t.Fatal(err)
		}
	}
	p.parts, _ = p.bcd.Writer(id.InstanceID)
	return p
}

func (p *play) component() *metadata.Component { return p.parts.Components()[0] }

func (p *play) try(kind writer.EventKind) error {
	e := p.event
	switch kind {
	case writer.EventFreeze, writer.EventThaw, writer.EventAbort, writer.EventBackupShutdown:
	default:
		e.Components = p.parts
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	err := writer.Notify(ctx, p.w, kind, &e)
	p.failed = e.Failure
	if e.Components != nil {
		p.parts = e.Components
	}
	return err
}

func (p *play) send(kinds ...writer.EventKind) {
	p.t.Helper()
	for _, k := range kinds {
		if err := p.try(k); err != nil {
			p.t.Fatalf("%v: %v", k, err)
		}
	}
}

// freeze sends all up to Freeze.
func (p *play) freeze() {
	p.t.Helper()
	p.send(writer.EventPrepareForBackup, writer.EventPrepareForSnapshot, writer.EventFreeze)
}

// backup makes a whole backup and gives a copy of the component's files, by their
// paths below the data's directory.
func (p *play) backup(dir string) map[string][]byte {
	p.t.Helper()
	p.freeze()
	files := p.copyFiles(dir)
	p.send(writer.EventThaw, writer.EventPostSnapshot)
	if err := p.component().SetBackupSucceeded(true); err != nil {
		p.t.Fatal(err)
	}
	p.send(writer.EventBackupComplete, writer.EventBackupShutdown)
	return files
}

func (p *play) copyFiles(dir string) map[string][]byte {
	p.t.Helper()
	files := make(map[string][]byte)
	for _, c := range p.doc.Components() {
		for _, set := range c.FileSets {
			found, err := filepath.Glob(filepath.Join(set.Path, set.Pattern))
			if err != nil {
				p.t.Fatal(err)
			}
			for _, path := range found {
				b, err := os.ReadFile(path)
				if err != nil {
					p.t.Fatal(err)
				}
				rel, err := filepath.Rel(dir, path)
				if err != nil {
					p.t.Fatal(err)
				}
				files[rel] = b
			}
		}
	}
	if len(files) == 0 {
		p.t.Fatal("the component has no files")
	}
	return files
}

// put writes files below a directory, as the server's user.
func (a *app) put(dir string, files map[string][]byte) {
	a.t.Helper()
	for rel, b := range files {
		path := filepath.Join(dir, rel)
		for _, d := range []string{dir, filepath.Dir(path)} {
			if err := os.MkdirAll(d, 0o750); err != nil {
				a.t.Fatal(err)
			}
			if err := os.Chown(d, a.UID, a.GID); err != nil {
				a.t.Fatal(err)
			}
		}
		os.Remove(path)
		if err := os.WriteFile(path, b, 0o640); err != nil {
			a.t.Fatal(err)
		}
		if err := os.Chown(path, a.UID, a.GID); err != nil {
			a.t.Fatal(err)
		}
	}
}

// storedSpec is what the kind offers for a backup with this document.
func (a *app) storedSpec(doc *metadata.WriterMetadata) writer.Spec {
	a.t.Helper()
	d := writer.Discovery{Stored: []writer.Stored{{Metadata: doc, Owner: writer.Owner{UID: uint32(a.UID), GID: uint32(a.GID), Groups: []uint32{uint32(a.GID)}}}}}
	if a.passwordFile != "" {
		raw, err := json.Marshal(a.configured())
		if err != nil {
			a.t.Fatal(err)
		}
		d.Configs = []writer.Config{{Kind: KindName, Config: raw}}
	}
	specs, err := Kind{}.Discover(context.Background(), d)
	if err != nil || len(specs) != 1 {
		a.t.Fatalf("Discover gives %d specs for a stored writer, %v", len(specs), err)
	}
	return specs[0]
}

// restorer starts the writer for a restore.
func (a *app) restorer(doc *metadata.WriterMetadata, stamp string) *play {
	a.t.Helper()
	return a.restorerOf(a.storedSpec(doc), stamp)
}

func (a *app) restorerOf(spec writer.Spec, stamp string) *play {
	a.t.Helper()
	w, _, err := a.host(spec)
	if err != nil {
		a.t.Fatal(err)
	}
	p := newPlay(a.t, w)
	p.event.RestoreType = vss.RestoreTypeByCopy
	c := p.component()
	if err := c.SetSelectedForRestore(true, vss.GUID{}); err != nil {
		a.t.Fatal(err)
	}
	if stamp != "" {
		if err := c.SetBackupStamp(vss.BackupStamp(stamp)); err != nil {
			a.t.Fatal(err)
		}
	}
	return p
}

func (p *play) stamp() string {
	p.t.Helper()
	s, ok := p.component().BackupStamp()
	if !ok {
		p.t.Fatal("the backup has no stamp")
	}
	return string(s)
}

// writer starts a configured writer.
func (a *app) writer() (*writer.Remote, func() error) {
	a.t.Helper()
	w, kill, err := a.host(a.spec(a.configured()))
	if err != nil {
		a.t.Fatal(err)
	}
	return w, kill
}

func wantError(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %v; it should say %q", err, text)
	}
}
