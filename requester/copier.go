package requester

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"runtime"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// copier streams files from trees into a backup of the repository.
type copier struct {
	a    *attempt
	b    *repository.Backup
	base *repository.Record
	old  *repository.Table
	past *baseCursor // nil without a base; only for the goroutine that walks
	// tables are those of the records that component sets build upon; see
	// baseTable. damaged: it was said that part of one cannot be read.
	tables  map[repository.ID]*repository.Table
	added   map[*Component]int64 // files saved that are in no specification; with mu
	damaged bool
	// compared: files of which only what changed since an earlier shadow copy is
	// read; see putChanged.
	compared comparisons
	work     *crew
	// mark is what entries say of data that this backup reads, see AttrRead.
	mark string
	// files: whoever is reported to wants to hear of files that did not fail.
	files bool
	facts knownFacts

	shadows map[string]session.Tree // by volume id
	device  map[string]uint64
	trees   map[string]*provider.SetIndex[*Claim] // see claimedTrees
	owned   map[string]*provider.SetIndex[*Claim] // see ownedDir
	above   map[string]bool                       // table paths of directories above data

	mu       sync.Mutex
	links    map[inode]*link
	linkIDs  linkNumbers
	comps    map[*Component]*ComponentResult // by defining component
	owners   map[*Writer]owner
	failures []Failure
	failed   int
	totals   Totals
	told     time.Time
	// listed are the files that were saved because a writer listed them, though
	// no specification has them.
	listed map[placeKey]bool
	// rangesLists are those too long for an entry, each to be a document.
	rangesLists []vss.Ranges
	none        bool // data that the plan had at a level was read live
	live        int64
}

// inode identifies a file by the volume it is read from. A name that no writer claims
// and one that a writer does can be of one file, the second read from the shadow
// copy: both then get what was read there.
type inode struct {
	volume string
	number uint64
}

// link is a file with several names; done is closed when its content is stored.
type link struct {
	id      uint64
	done    chan struct{}
	content repository.Content
	streams []repository.Stream
	entry   session.Entry
	read    string
	since   since
	same    bool // as in the base
	err     error
	cl      *Claim
}

type owner struct{ uid, gid uint32 }

// job is one object to be saved.
type job struct {
	tree   session.Tree
	from   string // the volume the tree is of
	name   string // in the tree
	volume *volumeState
	table  string
	entry  session.Entry
	cl     *Claim // nil: data of no writer
	def    *Component
	live   bool // may be read live
	fresh  bool // no specification has it: only a list of its writer's
	// matched is by which of the writer's lists the file was chosen, if by one;
	// lacked: the mask alone would not have it saved (D-28).
	matched string
	lacked  bool
	part    *byRanges // of a partial file
}

// Values of AttrMatched.
const (
	matchedDifferenced = "differenced"
	matchedPartial     = "partial"
)

// workers is how many files are read at once.
func workers() int { return max(2, min(8, runtime.GOMAXPROCS(0))) }

func newCopier(ctx context.Context, a *attempt, b *repository.Backup, base *repository.Record) (*copier, context.Context) {
	work, ctx := newCrew(ctx, workers())
	c := &copier{a: a, b: b, base: base, work: work, shadows: map[string]session.Tree{}, device: map[string]uint64{},
		links: map[inode]*link{}, comps: map[*Component]*ComponentResult{}, owners: map[*Writer]owner{},
		tables: map[repository.ID]*repository.Table{}, added: map[*Component]int64{}, listed: map[placeKey]bool{}, files: true}
	if r, ok := a.rep.(FailureReporter); ok {
		c.files = !r.OnlyFailures()
	}
	if base != nil {
		c.old = base.Table()
		c.past = &baseCursor{table: c.old, into: b}
	}
	for i, id := range a.order {
		c.device[id] = uint64(i + 1)
		a.volumes[id].device = uint64(i + 1)
	}
	return c, ctx
}

// close closes the trees of the shadow copies.
func (c *copier) close() {
	c.past.close()
	for _, t := range c.shadows {
		t.Close()
	}
	c.compared.close()
}

// tree gives the volume's shadow copy, or the volume itself if it has none.
func (c *copier) tree(ctx context.Context, v *volumeState) (t session.Tree, shadow bool, err error) {
	if v.snapshot.IsZero() {
		t, err = c.a.liveTree(ctx, v.ID)
		return t, false, err
	}
	if t := c.shadows[v.ID]; t != nil {
		return t, true, nil
	}
	if t, err = c.a.sess.Tree(ctx, v.snapshot); err != nil {
		return nil, false, err
	}
	c.shadows[v.ID] = t
	return t, true, nil
}

// save saves one object. Regular files are read by a worker; the error is one
// that ends the backup.
func (c *copier) save(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if kept, err := c.keep(ctx, j); kept || err != nil {
		return err
	}
	return c.saveAnew(ctx, *j)
}

// saveAnew saves an object that is not as it was in the base.
func (c *copier) saveAnew(ctx context.Context, j job) error {
	if err := c.complete(ctx, &j); err != nil {
		return c.undescribed(ctx, &j, err)
	}
	e, reason := newEntry(j.table, j.entry, c.device[j.volume.ID])
	if reason != "" {
		c.leave(LeftOut{Path: c.path(j), Reason: reason, Asked: true})
		return nil
	}
	e.Attrs = c.attrs(&j)
	if e.Type != repository.Regular {
		return c.add(ctx, &j, e)
	}
	var l *link
	first := false
	if j.entry.Links > 1 && j.entry.Inode != 0 && j.part == nil {
		l, first = c.link(&j)
		e.HardLink = l.id
	}
	c.work.Go(func() error {
		if l != nil && !first {
			return c.addLinked(ctx, &j, e, l)
		}
		return c.regular(ctx, &j, e, l)
	})
	return nil
}

// attrs are a map of the entry's own.
func (c *copier) attrs(j *job) map[string]string {
	if j.cl == nil {
		return map[string]string{AttrVolume: j.volume.ID}
	}
	m := facts(j.cl, j.def)
	if j.matched != "" {
		m[AttrMatched] = j.matched
	}
	if j.lacked {
		m[AttrMask] = "lacked"
	}
	return m
}

// link finds the file that the job's name is one of. Names are met in the
// order in which workers are started, so that whoever waits for a content
// waits for a worker that runs.
func (c *copier) link(j *job) (l *link, first bool) {
	key := inode{j.from, j.entry.Inode}
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.links[key]; l != nil {
		return l, false
	}
	l = &link{id: c.linkIDs.of(key, c.device[j.from]), done: make(chan struct{}), cl: j.cl}
	c.links[key] = l
	return l, true
}

// addLinked adds a further name of a file: its content is saved once (R-SET-19).
func (c *copier) addLinked(ctx context.Context, j *job, e repository.Entry, l *link) error {
	select {
	case <-l.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.err == errReplaced || c.vanishes(j) && isMissing(l.err) {
		return c.regular(ctx, j, e, nil) // the name that was to be read is gone or another file's, this one may not be
	}
	if l.err != nil {
		return c.fail(ctx, j, e, l.err)
	}
	e.Content, e.Size, e.Streams = l.content, l.entry.Size, l.streams
	e.ModTime, e.ChangeTime = l.entry.Modified, l.entry.Changed
	if j.entry.Bare {
		e.Xattrs = l.entry.XAttrs
	}
	e.Attrs[AttrRead] = l.read
	l.since.tell(&e)
	if l.entry.Source == session.FromLive {
		ofOpened(&e, j, l.entry)
		e.Attrs[AttrSource] = session.FromLive.String()
	}
	c.count(j, got{content: l.content, entry: l.entry, unchanged: l.same})
	return c.add(ctx, j, e)
}

// regular reads a regular file into the repository.
func (c *copier) regular(ctx context.Context, j *job, e repository.Entry, l *link) error {
	got, err := c.read(ctx, j)
	if l != nil {
		l.content, l.streams, l.entry, l.read, l.since, l.same, l.err = got.content, got.streams, got.entry, got.read, got.since, got.unchanged, err
		if err == nil && replaced(j, got.entry) {
			l.err = errReplaced
		}
		close(l.done)
	}
	var fatal *fatalError
	switch {
	case errors.As(err, &fatal):
		return fatal.err
	case ctx.Err() != nil:
		return ctx.Err()
	case isMissing(err) && c.vanishes(j):
		c.gone(j)
		return nil
	case err != nil:
		return c.fail(ctx, j, e, err)
	}
	e.Content, e.Streams, e.Size = got.content, got.streams, got.content.Size()
	e.ModTime, e.ChangeTime, e.AccessTime = got.entry.Modified, got.entry.Changed, got.entry.Accessed
	if j.entry.Bare {
		e.Xattrs = got.entry.XAttrs
	}
	if got.entry.Source == session.FromLive {
		ofOpened(&e, j, got.entry)
		e.Attrs[AttrSource] = session.FromLive.String()
	}
	e.Attrs[AttrRead] = got.read
	got.since.tell(&e)
	if err := c.tellPart(&e, &got.part); err != nil {
		return c.fail(ctx, j, e, err)
	}
	c.count(j, got)
	return c.add(ctx, j, e)
}

// add enters an entry in the file table. One the repository cannot hold is a
// file's failure, anything else the backup's.
func (c *copier) add(ctx context.Context, j *job, e repository.Entry) error {
	err := c.b.Add(ctx, e)
	if errors.Is(err, repository.ErrInvalid) && e.Attrs[AttrOutcome] == "" {
		return c.note(j, err)
	}
	if err == nil && e.Type != repository.Regular {
		c.countOther(e.Type)
	}
	return err
}

// countOther adds an object that is no regular file to the totals.
func (c *copier) countOther(t repository.FileType) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t == repository.Directory {
		c.totals.Dirs++
	} else {
		c.totals.Others++
	}
}

// fail records that a file could not be saved, in the file table too.
func (c *copier) fail(ctx context.Context, j *job, e repository.Entry, cause error) error {
	e.Content, e.Streams, e.HardLink = repository.Content{}, nil, 0
	e.Attrs = maps.Clone(e.Attrs)
	e.Attrs[AttrOutcome], e.Attrs[AttrError] = "failed", clip(cause.Error(), 1000)
	if e.Type == 0 {
		e.Type = repository.Regular
	}
	if err := c.add(ctx, j, e); err != nil {
		return err
	}
	return c.note(j, cause)
}

// note counts a failed file and fails its component set (R-SEL-18).
func (c *copier) note(j *job, cause error) error {
	f := Failure{Path: c.path(*j), Error: cause.Error()}
	c.mu.Lock()
	defer c.mu.Unlock()
	var r *ComponentResult
	if j.cl != nil {
		f.Writer, f.Component = j.cl.Component.Writer.Label(), j.cl.Component.FullPath()
		r = c.comps[j.def]
		f.Specification = j.cl.File.Spec.String()
	}
	c.failedFile(f, r, j.entry.Size)
	return nil
}

// failedFile counts a failed file, with c.mu held, and fails its component.
func (c *copier) failedFile(f Failure, r *ComponentResult, size int64) {
	if r != nil {
		r.Succeeded = false
		if r.Error == "" {
			r.Error = f.Path + ": " + f.Error
		}
	}
	c.failed++
	c.totals.Failed++
	if len(c.failures) < maxLeftOut {
		c.failures = append(c.failures, f)
	}
	c.a.rep.File(FileEvent{Path: f.Path, Size: size, Action: "failed", Error: f.Error})
}

// path is the host's path of a job's file, for people.
func (c *copier) path(j job) string { return HostPath(c.a.style, j.table) }

func (c *copier) leave(l LeftOut) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.a.leave(l)
	c.totals.LeftOut++
}

// count adds a saved file to the totals: one with several names as often as it
// has names, as the totals of records do.
func (c *copier) count(j *job, g got) {
	action := "new"
	c.mu.Lock()
	c.totals.Files++
	c.totals.Bytes += g.content.Size()
	if g.unchanged {
		c.totals.Unchanged++
		action = "unchanged"
	}
	if g.entry.Source == session.FromLive {
		c.live++
		// What a writer adds after the shadow copy of a provider that copies file
		// by file is not in it.
		if j.cl == nil && j.volume.unclaimedLevel() > session.LevelNone || j.fresh && !j.volume.snapshot.IsZero() {
			c.none = true
		}
	}
	if j.cl != nil {
		r := c.comps[j.def]
		r.count(j, &g)
		if j.fresh {
			c.added[j.def]++
		}
		if j.fresh && g.entry.Source == session.FromLive {
			r.Level = session.LevelNone.String()
		}
		if _, ok := c.owners[j.cl.Component.Writer]; !ok {
			c.owners[j.cl.Component.Writer] = owner{j.entry.UID, j.entry.GID}
		}
	}
	totals := c.totals
	tell := false
	if now := time.Now(); now.Sub(c.told) > 100*time.Millisecond {
		tell, c.told = true, now
	}
	c.mu.Unlock()
	if c.files {
		c.a.rep.File(FileEvent{Path: c.path(*j), Size: g.content.Size(), Action: action, Source: g.entry.Source.String()})
	}
	if tell {
		c.a.rep.Totals(totals)
	}
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}

// isMissing reports whether an error says that something is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
