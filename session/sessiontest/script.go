package sessiontest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Log is what writers of a test saw, in order.
type Log struct {
	mu     sync.Mutex
	events []Seen
}

// Seen is one event as it came to one writer.
type Seen struct {
	Writer string
	Event  writer.EventKind
	At     time.Time
}

func (l *Log) add(name string, kind writer.EventKind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, Seen{name, kind, time.Now()})
}

// All returns what was seen so far.
func (l *Log) All() []Seen {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Seen(nil), l.events...)
}

// Of returns the events one writer saw, without Identify, which may come at any
// time.
func (l *Log) Of(name string) []writer.EventKind {
	var list []writer.EventKind
	for _, s := range l.All() {
		if s.Writer == name && s.Event != writer.EventIdentify {
			list = append(list, s.Event)
		}
	}
	return list
}

// Count counts how often a writer saw an event.
func (l *Log) Count(name string, kind writer.EventKind) int {
	n := 0
	for _, k := range l.Of(name) {
		if k == kind {
			n++
		}
	}
	return n
}

// Behaviour is what a scripted writer does in one event, besides noting it.
type Behaviour struct {
	// Fail refuses with this code; Report reports it and goes on.
	Fail   vss.Code
	Report vss.Code
	// Hang does not return before Release is closed, whatever the context says.
	Hang bool
	// Do runs last; its error is the handler's.
	Do func(context.Context, *writer.Event) error
}

// Script is a real writer of a few files whose behaviour a test decides. It is
// a writer in full: it declares a document and takes every event.
type Script struct {
	Name  string // friendly name and instance name
	Class vss.GUID
	Dir   string // its files: everything below
	Level vss.ApplicationLevel
	Log   *Log
	// On says what to do in events; others are handled well.
	On map[writer.EventKind]Behaviour
	// Release frees handlers that hang.
	Release chan struct{}
	// Describe overrides parts of the description.
	Description writer.Description

	once     sync.Once
	instance vss.GUID
}

var (
	_ writer.BackupPreparer   = (*Script)(nil)
	_ writer.SnapshotPreparer = (*Script)(nil)
	_ writer.PostSnapshotter  = (*Script)(nil)
	_ writer.BackupCompleter  = (*Script)(nil)
	_ writer.BackupShutdowner = (*Script)(nil)
	_ writer.PreRestorer      = (*Script)(nil)
	_ writer.PostRestorer     = (*Script)(nil)
)

// Instance is the writer's instance id.
func (s *Script) Instance() vss.GUID {
	s.once.Do(func() { s.instance = vss.NewGUID() })
	return s.instance
}

// Describe implements [writer.Writer].
func (s *Script) Describe() writer.Description {
	d := s.Description
	d.Level = s.Level
	return d
}

// Identify implements [writer.Writer]. The writer has a selectable component
// "data" with everything below Dir but *.tmp.
func (s *Script) Identify(ctx context.Context) (*metadata.WriterMetadata, error) {
	if err := s.handle(ctx, writer.EventIdentify, nil); err != nil {
		return nil, err
	}
	m, err := metadata.NewWriterMetadata(metadata.Identity{
		InstanceID: s.Instance(), ClassID: s.Class, Name: s.Name, InstanceName: s.Name,
		Usage: vss.UsageUserData, Source: vss.SourceOther,
	})
	if err != nil {
		return nil, err
	}
	for _, err := range []error{ // in the order of the calls
		m.SetRestoreMethod(metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways}),
		m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeFileGroup, Name: "data", Selectable: true, SelectableForRestore: true}),
		m.AddFilesToFileGroup("", "data", vss.FileSpec{Path: s.Dir, Pattern: "*", Recursive: true}, "", vss.DefaultFileSpecBackupType),
		m.AddExcludeFiles(vss.FileSpec{Path: s.Dir, Pattern: "*.tmp", Recursive: true}),
		m.SetBackupSchema(vss.SchemaCopy),
	} {
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// handle does what the test wants.
func (s *Script) handle(ctx context.Context, kind writer.EventKind, e *writer.Event) error {
	s.Log.add(s.Name, kind)
	b := s.On[kind]
	if b.Hang {
		<-s.Release
	}
	if b.Report != vss.OK && e != nil {
		e.SetWriterFailure(b.Report, 7, "as the test wants")
	}
	if b.Fail != vss.OK {
		return vss.Errorf(b.Fail, kind.String(), s.Name, "as the test wants")
	}
	if b.Do != nil {
		return b.Do(ctx, e)
	}
	return nil
}

// The events.

func (s *Script) PrepareForBackup(ctx context.Context, e *writer.Event) error {
	return s.handle(ctx, writer.EventPrepareForBackup, e)
}

func (s *Script) PrepareForSnapshot(ctx context.Context, e *writer.Event) error {
	return s.handle(ctx, writer.EventPrepareForSnapshot, e)
}

func (s *Script) Freeze(ctx context.Context, e *writer.Event) error {
	return s.handle(ctx, writer.EventFreeze, e)
}

func (s *Script) Thaw(ctx context.Context, e *writer.Event) error {
	return s.handle(ctx, writer.EventThaw, e)
}

func (s *Script) PostSnapshot(ctx context.Context, e *writer.Event) error {
	return s.handle(ctx, writer.EventPostSnapshot, e)
}

func (s *Script) BackupComplete(ctx context.Context, e *writer.Event) error {
	return s.handle(ctx, writer.EventBackupComplete, e)
}

func (s *Script) BackupShutdown(ctx context.Context, e *writer.Event) error {
	return s.handle(ctx, writer.EventBackupShutdown, e)
}

func (s *Script) Abort(ctx context.Context, e *writer.Event) error {
	return s.handle(ctx, writer.EventAbort, e)
}

func (s *Script) PreRestore(ctx context.Context, e *writer.Event) error {
	return s.handle(ctx, writer.EventPreRestore, e)
}

func (s *Script) PostRestore(ctx context.Context, e *writer.Event) error {
	return s.handle(ctx, writer.EventPostRestore, e)
}

// String names the writer in messages.
func (s *Script) String() string { return fmt.Sprintf("writer %s", s.Name) }
