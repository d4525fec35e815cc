package requester

import (
	"context"
	"errors"
	"sync"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// KeptShadow is a shadow copy that a backup left behind, so that the next one can
// ask what changed since.
type KeptShadow struct {
	Volume   string   `json:"volume"`
	Root     string   `json:"root"` // of the volume, on the host
	Provider string   `json:"provider"`
	Snapshot vss.GUID `json:"snapshot"`
}

// comparisons find what changed in large files since the shadow copies that
// earlier records were read from. Used by several goroutines.
type comparisons struct {
	mu    sync.Mutex
	kept  map[repository.ID][]KeptShadow
	trees map[vss.GUID]*keptTree
	told  map[string]bool // warnings, once each
}

// keptTree is the tree of an earlier shadow copy; err says why there is none.
type keptTree struct {
	once sync.Once
	tree session.Tree
	err  error
}

// of gives the shadow copy of a volume that a record says it left behind.
func (k *comparisons) of(rec *repository.Record, volume *volumeState) (vss.GUID, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	list, ok := k.kept[rec.ID]
	if !ok {
		s, _ := ReadSummary(rec)
		list = s.Kept
		if k.kept == nil {
			k.kept = map[repository.ID][]KeptShadow{}
		}
		k.kept[rec.ID] = list
	}
	for _, s := range list {
		if s.Volume == volume.ID && s.Root == volume.Root {
			return s.Snapshot, true
		}
	}
	return vss.GUID{}, false
}

// tree opens an earlier shadow copy, once.
func (k *comparisons) tree(ctx context.Context, sess session.Session, id vss.GUID) (session.Tree, error) {
	k.mu.Lock()
	t := k.trees[id]
	if t == nil {
		if k.trees == nil {
			k.trees = map[vss.GUID]*keptTree{}
		}
		t = &keptTree{}
		k.trees[id] = t
	}
	k.mu.Unlock()
	t.once.Do(func() { t.tree, t.err = sess.Tree(ctx, id) })
	return t.tree, t.err
}

func (k *comparisons) close() {
	for _, t := range k.trees {
		if t.tree != nil {
			t.tree.Close()
		}
	}
}

// putChanged stores a large file as a new version of what an earlier record has of
// it, reading only what the service tells has changed since that record's shadow
// copy. It tells since which, if it did: nothing that leaves any doubt is done by
// halves, but left to be read whole.
//
// What the record holds must be what its shadow copy shows. That is so if this
// very record read the file from it, and the file there still looks, by inode,
// size and times, as the record has it.
func (c *copier) putChanged(ctx context.Context, j *job, e session.Entry, src repository.Source) (content repository.Content, told since, err error) {
	if c.a.req.Reread || src.Size < repository.LargeFile || e.Source != session.FromShadow || j.volume.snapshot.IsZero() ||
		j.from != j.volume.ID || j.cl != nil && j.cl.Alternate {
		return content, since{}, nil
	}
	for _, rec := range c.baseRecords(j) {
		old, base := c.comparable(ctx, rec, j, e)
		if old == nil {
			continue
		}
		changed, ok := c.changedSince(ctx, j, base, old, src.Size)
		if !ok {
			continue
		}
		content, err = c.b.PutRanges(ctx, old.Content, src, changed)
		if errors.Is(err, repository.ErrDamaged) || errors.Is(err, repository.ErrWriteOnly) {
			continue // what is stored of it is not to be built upon
		}
		if err == nil {
			told = sinceRecord(rec, changed)
			c.countRanges(src.Size, changed)
		}
		return content, told, err
	}
	return content, since{}, ctx.Err()
}

// baseRecords are the records that may have an earlier version of a job's file.
func (c *copier) baseRecords(j *job) (list []*repository.Record) {
	if c.base != nil {
		list = append(list, c.base)
	}
	if j.def != nil {
		if rec := c.baseRecord(j.def); rec != nil && (c.base == nil || rec.ID != c.base.ID) {
			list = append(list, rec)
		}
	}
	return list
}

// comparable gives a record's entry of a file, if the record read it from a shadow
// copy that is there still, and that copy.
func (c *copier) comparable(ctx context.Context, rec *repository.Record, j *job, e session.Entry) (*repository.Entry, vss.GUID) {
	base, ok := c.compared.of(rec, j.volume)
	if !ok {
		return nil, base
	}
	table := c.old
	if rec != c.base {
		table = rec.Table()
	}
	old, err := table.Lookup(ctx, rootID, j.table)
	if err != nil || !readWhole(old, rec, j.volume.ID) || old.Inode != e.Inode || e.Inode == 0 {
		return nil, base
	}
	tree, err := c.compared.tree(ctx, c.a.sess, base)
	if err != nil {
		c.notCompared(ctx, err)
		return nil, base
	}
	was, err := tree.Lstat(ctx, j.name)
	if err != nil || was.Source != session.FromShadow || !was.Mode.IsRegular() || was.Inode != old.Inode || was.Size != old.Content.Size() ||
		!was.Modified.Equal(old.ModTime) || !was.Changed.Equal(old.ChangeTime) {
		return nil, base
	}
	return old, base
}

// readWhole reports whether the record that an entry is of read the file itself
// from its shadow copy of the volume, under its own name, and holds all of it. What
// a writer said of a partial file is its word and not what the file shows.
func readWhole(e *repository.Entry, rec *repository.Record, volume string) bool {
	a := e.Attrs
	return e.Type == repository.Regular && a[AttrOutcome] == "" && a[AttrPartial] == "" && a[AttrRanges] == "" && a[AttrMatched] != matchedPartial &&
		a[AttrAlternate] == "" &&
		(a[AttrSource] == "" || a[AttrSource] == session.FromShadow.String()) &&
		a[AttrRead] != "" && a[AttrRead] == readMark(rec.Started) && a[AttrVolume] == volume &&
		e.Size == e.Content.Size() && e.Size > 0
}

// changedSince asks what changed since the earlier shadow copy. If more than half
// did, the file may as well be read whole.
func (c *copier) changedSince(ctx context.Context, j *job, base vss.GUID, old *repository.Entry, size int64) ([]repository.Range, bool) {
	told, err := j.tree.ChangedRanges(ctx, base, j.name)
	if err != nil {
		c.notCompared(ctx, err)
		return nil, false
	}
	changed := make([]repository.Range, 0, len(told))
	var sum uint64
	for _, r := range told {
		if r.Length == 0 || r.Offset >= uint64(size) {
			continue
		}
		n := min(r.Length, uint64(size)-r.Offset)
		changed = append(changed, repository.Range{Offset: int64(r.Offset), Length: int64(n)})
		sum += n
	}
	return changed, sum <= uint64(size)/2
}

// notCompared says why files are read whole, where that is no matter of course.
func (c *copier) notCompared(ctx context.Context, err error) {
	if errors.Is(err, vss.ErrNotSupported) || errors.Is(err, vss.ErrObjectNotFound) || ctx.Err() != nil {
		return
	}
	k := &c.compared
	k.mu.Lock()
	first := !k.told[err.Error()] && len(k.told) < 10
	if first {
		if k.told == nil {
			k.told = map[string]bool{}
		}
		k.told[err.Error()] = true
	}
	k.mu.Unlock()
	if first {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.a.warn("what changed since the last backup's shadow copy cannot be told, and the file is read: %v", err)
	}
}

// countRanges counts a file of which only changed ranges were read.
func (c *copier) countRanges(size int64, changed []repository.Range) {
	var read int64
	for _, r := range changed {
		read += r.Length
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals.Compared++
	c.totals.ComparedBytes += size
	c.totals.ChangedBytes += read
}
