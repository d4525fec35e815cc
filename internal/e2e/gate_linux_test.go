package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// gate is a writer of another program that keeps a run at one event for as long
// as a test wants. It is frozen last and thawed first, so that at Freeze and at
// Thaw all others are held.
type gate struct {
	dir      string
	instance vss.GUID
	at       writer.EventKind
	// on is done when an event comes, before anything else.
	on map[writer.EventKind]func()

	arrive, open sync.Once
	reached      chan struct{} // closed when the event has come
	opened       chan struct{}

	mu     sync.Mutex
	events []writer.EventKind
}

var gateClass = vss.MustParseGUID("5f2d8a9c-6f0b-4b1e-8e0f-9a3c1d7be201")

// newGate serves a gate to the machine's runs. It has one file below dir. What
// is returned ends it, as the end of the test does.
func (m *machine) newGate(dir string, at writer.EventKind) (g *gate, end func()) {
	m.t.Helper()
	g = makeGate(dir, at)
	write(m.t, filepath.Join(g.dir, "file"), "the gate's")
	sockets := filepath.Join(m.state(), "writers.d")
	if err := os.MkdirAll(sockets, 0o700); err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	socket := filepath.Join(sockets, "gate.sock")
	go func() { ended <- writer.Serve(ctx, socket, g) }()
	end = sync.OnceFunc(func() {
		g.release()
		cancel()
		if err := <-ended; err != nil {
			m.t.Errorf("gate: %v", err)
		}
	})
	m.t.Cleanup(end)
	waitFor(m.t, 10*time.Second, "the gate listens", func() bool {
		_, err := os.Lstat(socket)
		return err == nil
	})
	return g, end
}

func makeGate(dir string, at writer.EventKind) *gate {
	return &gate{dir: filepath.Join(dir, "gate"), instance: vss.NewGUID(), at: at,
		reached: make(chan struct{}), opened: make(chan struct{})}
}

// wait waits until a run stands at the gate.
func (g *gate) wait(t *testing.T, r *running) {
	t.Helper()
	select {
	case <-g.reached:
	case <-time.After(30 * time.Second):
		r.cmd.Process.Kill()
		o := r.wait()
		t.Fatalf("the run has not come to %v:\n%s\n%s", g.at, o.out, o.err)
	}
}

// release lets the run go on.
func (g *gate) release() { g.open.Do(func() { close(g.opened) }) }

// seen are the events that came.
func (g *gate) seen() []writer.EventKind {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.events)
}

func (g *gate) got(kind writer.EventKind) bool { return slices.Contains(g.seen(), kind) }

func (g *gate) pass(ctx context.Context, kind writer.EventKind) error {
	g.mu.Lock()
	if kind != writer.EventIdentify { // it is asked for in restores and plans, too
		g.events = append(g.events, kind)
	}
	g.mu.Unlock()
	if do := g.on[kind]; do != nil {
		do()
	}
	if kind != g.at {
		return nil
	}
	g.arrive.Do(func() { close(g.reached) })
	select {
	case <-g.opened:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Describe implements [writer.Writer].
func (g *gate) Describe() writer.Description {
	return writer.Description{Level: vss.LevelSystem, Stillness: writer.FilesStill}
}

// Identify implements [writer.Writer].
func (g *gate) Identify(ctx context.Context) (*metadata.WriterMetadata, error) {
	if err := g.pass(ctx, writer.EventIdentify); err != nil {
		return nil, err
	}
	doc, err := metadata.NewWriterMetadata(metadata.Identity{ClassID: gateClass, InstanceID: g.instance, Name: "Gate", InstanceName: "gate",
		Usage: vss.UsageUserData, Source: vss.SourceOther})
	if err != nil {
		return nil, err
	}
	return doc, errors.Join(
		// It takes part in restores, too.
		doc.SetRestoreMethod(metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways}),
		doc.SetBackupSchema(vss.SchemaCopy),
		doc.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeFileGroup, Name: "gate", Selectable: true, SelectableForRestore: true}),
		doc.AddFilesToFileGroup("", "gate", vss.FileSpec{Path: g.dir, Pattern: "*", Recursive: true}, "", vss.DefaultFileSpecBackupType))
}

func (g *gate) PrepareForBackup(ctx context.Context, _ *writer.Event) error {
	return g.pass(ctx, writer.EventPrepareForBackup)
}

func (g *gate) PrepareForSnapshot(ctx context.Context, _ *writer.Event) error {
	return g.pass(ctx, writer.EventPrepareForSnapshot)
}

func (g *gate) Freeze(ctx context.Context, _ *writer.Event) error {
	return g.pass(ctx, writer.EventFreeze)
}

func (g *gate) Thaw(ctx context.Context, _ *writer.Event) error {
	return g.pass(ctx, writer.EventThaw)
}

func (g *gate) PostSnapshot(ctx context.Context, _ *writer.Event) error {
	return g.pass(ctx, writer.EventPostSnapshot)
}

func (g *gate) BackupComplete(ctx context.Context, _ *writer.Event) error {
	return g.pass(ctx, writer.EventBackupComplete)
}

func (g *gate) BackupShutdown(ctx context.Context, _ *writer.Event) error {
	return g.pass(ctx, writer.EventBackupShutdown)
}

func (g *gate) Abort(ctx context.Context, _ *writer.Event) error {
	return g.pass(ctx, writer.EventAbort)
}

func (g *gate) PreRestore(ctx context.Context, _ *writer.Event) error {
	return g.pass(ctx, writer.EventPreRestore)
}

func (g *gate) PostRestore(ctx context.Context, _ *writer.Event) error {
	return g.pass(ctx, writer.EventPostRestore)
}
