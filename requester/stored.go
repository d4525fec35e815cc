package requester

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// Limits on documents read from a medium.
const (
	maxDocument  = 64 << 20
	maxDocuments = 256 << 20 // all of a record's
	maxWriters   = 4000
)

// ErrDocuments says that a record's documents are missing or damaged. The files
// can still be restored without writers.
var ErrDocuments = errors.New("the record's documents cannot be used; its files can be restored without writers (--no-writers)")

// stored is what a record's documents say.
type stored struct {
	bcd     []byte
	doc     *metadata.BackupComponents
	writers []*Writer
	infos   []storedWriter
	// explicit are the components of the backup, defining gives for each one
	// that took part its explicit one, succeeded whether that was saved whole.
	explicit  []*Component
	defining  map[*Component]*Component
	succeeded map[*Component]bool
}

// readStored reads and checks the documents of a record. A record made without
// writers has none, and gives an empty stored.
func readStored(ctx context.Context, rec *repository.Record) (*stored, error) {
	s := &stored{defining: map[*Component]*Component{}, succeeded: map[*Component]bool{}}
	if _, ok := rec.Documents[DocBCD]; !ok {
		return s, nil
	}
	if err := s.read(ctx, rec); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", ErrDocuments, err)
	}
	return s, nil
}

func (s *stored) read(ctx context.Context, rec *repository.Record) (err error) {
	if s.bcd, err = rec.Document(ctx, DocBCD, maxDocument); err != nil {
		return fmt.Errorf("document %s: %w", DocBCD, err)
	}
	if s.doc, err = metadata.ParseBackupComponents(s.bcd); err != nil {
		return fmt.Errorf("document %s: %w", DocBCD, err)
	}
	if s.doc.ClearRestore() {
		s.bcd = s.doc.SaveAsXML()
	}
	list, err := rec.Document(ctx, DocWriters, maxDocument)
	if err == nil {
		err = json.Unmarshal(list, &s.infos)
	}
	if err != nil {
		return fmt.Errorf("document %s: %w", DocWriters, err)
	}
	if len(s.infos) > maxWriters {
		return fmt.Errorf("document %s: %d writers, more than %d", DocWriters, len(s.infos), maxWriters)
	}
	left := maxDocuments - len(s.bcd) - len(list)
	for _, info := range s.infos {
		if !strings.HasPrefix(info.Document, DocWriter) {
			return fmt.Errorf("document %s: %q is no writer's document", DocWriters, clip(info.Document, 100))
		}
		data, err := rec.Document(ctx, info.Document, int64(min(maxDocument, left)))
		if err != nil {
			return fmt.Errorf("document %s: %w", info.Document, err)
		}
		left -= len(data)
		w, err := NewWriter(session.WriterInfo{Instance: info.Instance, Document: data, Discovered: info.Discovered, Weak: info.Weak})
		if err != nil {
			return fmt.Errorf("document %s: %w", info.Document, err)
		}
		s.writers = append(s.writers, w)
	}
	return s.join()
}

// join finds the components of the Backup Components Document in the writers'
// documents.
func (s *stored) join() error {
	for _, wc := range s.doc.Writers() {
		key := wc.Key()
		w := s.writer(key.InstanceID, key.ClassID)
		if w == nil {
			return fmt.Errorf("document %s: writer instance %s has no document", DocBCD, key.InstanceID)
		}
		for _, c := range wc.Components() {
			comp := w.find(c.LogicalPath(), c.Name())
			if comp == nil {
				return fmt.Errorf("document %s: component %q is not in the document of %s", DocBCD, clip(c.FullPath(), 200), w.Label())
			}
			ok, known := c.BackupSucceeded()
			s.explicit = append(s.explicit, comp)
			s.succeeded[comp] = ok && known
		}
	}
	s.nearest()
	return nil
}

// nearest finds the component through which each one is reached: its nearest
// explicit ancestor (R-SEL-24). Other programs' documents may have one explicit
// component in the set of another.
func (s *stored) nearest() {
	for _, comp := range s.explicit {
		for _, m := range comp.Set() {
			if old := s.defining[m]; old == nil || comp.ID().IsDescendantOf(old.ID()) {
				s.defining[m] = comp
			}
		}
	}
}

func (s *stored) writer(instance, class vss.GUID) *Writer {
	for _, w := range s.writers {
		if w.Instance == instance && w.Class == class {
			return w
		}
	}
	return nil
}

func (w *Writer) find(logicalPath, name string) *Component {
	for _, c := range w.Components {
		if c.LogicalPath == logicalPath && c.Name == name {
			return c
		}
	}
	return nil
}

// sessionWriters is what the service is told of the backup's writers.
func (s *stored) sessionWriters() (out []session.StoredWriter) {
	for i, w := range s.writers {
		out = append(out, session.StoredWriter{Document: w.Info.Document, UID: s.infos[i].UID, GID: s.infos[i].GID})
	}
	return out
}

// setKey identifies a component set in the file table: instances of one class
// never share a component's path (R-SEL-2).
type setKey struct {
	class vss.GUID
	path  string
}

func (c *Component) key() setKey { return setKey{c.Writer.Class, c.FullPath()} }

// entryKey is the set an entry belongs to; ok is false for data of no writer.
func entryKey(e *repository.Entry) (key setKey, ok bool) {
	class, err := vss.ParseGUID(e.Attrs[AttrWriterClass])
	if err != nil || e.Attrs[AttrComponentSet] == "" {
		return setKey{}, false
	}
	return setKey{class, e.Attrs[AttrComponentSet]}, true
}

// tableSets is what the file table alone says of components.
type tableSets struct {
	entries map[setKey][]*repository.Entry
	writers []*Writer
	// unclaimed counts entries of data of no writer.
	unclaimed int64
}

// maxClaimed bounds the entries of components held in memory.
const maxClaimed = 50_000_000

// readTable goes through the file table once and puts the entries of component
// sets together. The writers it finds are as much as the facts in the entries
// tell of them: names and components.
func readTable(ctx context.Context, t *repository.Table) (*tableSets, error) {
	s := &tableSets{entries: map[setKey][]*repository.Entry{}}
	writers := map[[2]string]*Writer{}
	comps := map[setKey]*Component{}
	claimed := 0
	for e, err := range t.All(ctx) {
		if err != nil {
			return nil, err
		}
		key, ok := entryKey(e)
		if !ok {
			s.unclaimed++
			continue
		}
		if claimed++; claimed > maxClaimed {
			return nil, fmt.Errorf("the file table has more than %d files of components", maxClaimed)
		}
		s.entries[key] = append(s.entries[key], e)
		id := [2]string{e.Attrs[AttrWriterClass], e.Attrs[AttrWriterName]}
		w := writers[id]
		if w == nil {
			w = &Writer{Class: key.class, Name: e.Attrs[AttrWriter], InstanceName: e.Attrs[AttrWriterName]}
			writers[id] = w
			s.writers = append(s.writers, w)
		}
		for _, full := range []string{key.path, e.Attrs[AttrComponent]} {
			k := setKey{key.class, full}
			if comps[k] == nil && full != "" {
				path, name := vss.SplitFullPath(full)
				comps[k] = &Component{Writer: w, LogicalPath: path, Name: name}
				w.Components = append(w.Components, comps[k])
			}
		}
	}
	return s, nil
}
