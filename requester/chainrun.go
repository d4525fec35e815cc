package requester

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// ChainLinkResult is one operation of a restore that takes several: what it is to
// do, and what came of it.
type ChainLinkResult struct {
	Record     string            `json:"record"`
	Time       time.Time         `json:"time"`
	Type       string            `json:"type"`
	Components []ChainPartResult `json:"components"`
	// Unclaimed tells that data of no writer is restored in it.
	Unclaimed bool `json:"unclaimed,omitempty"`
}

// ChainPartResult is a component's part in one operation.
type ChainPartResult struct {
	Writer       string `json:"writer"`
	InstanceName string `json:"instance_name,omitempty"`
	LogicalPath  string `json:"logical_path,omitempty"`
	Name         string `json:"name"`
	// Type is what the component came to in the record.
	Type string `json:"type"`
	// More: the writer is told that more operations follow for it.
	More bool `json:"additional_restores"`
	// Files and Bytes are what it writes, Removed what it takes away of what
	// earlier ones wrote. InPlace tells that the first one has written it.
	Files   int64 `json:"files"`
	Bytes   int64 `json:"bytes"`
	Removed int   `json:"removed,omitempty"`
	InPlace bool  `json:"in_place,omitempty"`
	// Status and Error are what came of it; empty before.
	Status string `json:"file_restore_status,omitempty"`
	Error  string `json:"error,omitempty"`
}

// run restores the links, each in a session of its own (R-TYPE-20). A component
// that fails in one has no part in the later ones, nor has what depends on it.
func (c *chainRun) run(ctx context.Context, open Opener) error {
	unclaimed := c.unclaimed
	c.show(unclaimed)
	for i, l := range c.links {
		l.begin(i == len(c.links)-1 && unclaimed)
		if err := l.operate(ctx, open, c); err != nil {
			c.merge(i, l)
			for _, p := range l.parts {
				p.comp.stop(fmt.Sprintf("the restore of record %s ended with an error: %v", l.rec.ID.Short(), err))
			}
			c.end()
			return fmt.Errorf("restore of record %s (%d of %d): %w", l.rec.ID.Short(), i+1, len(c.links), err)
		}
		c.merge(i, l)
		for _, p := range l.parts {
			if why := p.run.result.Error; !p.run.result.Succeeded {
				c.fail(p.comp, l, why)
			}
		}
	}
	c.end()
	return nil
}

// show enters into the result what will be done.
func (c *chainRun) show(unclaimed bool) {
	for i, l := range c.links {
		out := ChainLinkResult{Record: l.rec.ID.String(), Time: l.rec.Time, Type: l.rec.Type, Unclaimed: unclaimed && i == len(c.links)-1}
		for _, p := range l.parts {
			w := p.work()
			comp := p.run.set.Component
			part := ChainPartResult{Writer: comp.Writer.Name, InstanceName: comp.Writer.InstanceName, LogicalPath: comp.LogicalPath, Name: comp.Name,
				Type: p.typ.Word(), More: p.more, InPlace: w.settled}
			if !w.settled {
				part.Files, part.Bytes = count(w.write)
				part.Removed = len(w.gone)
			}
			out.Components = append(out.Components, part)
		}
		c.res.Chain = append(c.res.Chain, out)
	}
}

func count(list []chainEntry) (files, bytes int64) {
	for _, e := range list {
		if e.Type == repository.Regular {
			files, bytes = files+1, bytes+e.Size
		}
	}
	return files, bytes
}

// begin gives a link its sets. It has those that nothing has stopped so far.
func (l *linkRun) begin(unclaimed bool) {
	l.sets, l.unclaimed = nil, unclaimed
	for _, p := range l.parts {
		if p.comp.stopped == "" {
			p.run.entries = p.own()
			l.sets = append(l.sets, p.run)
		}
	}
}

// own are the entries that the link's own record brings: what is looked at before
// it is decided where files go.
func (s *setChain) own() []*repository.Entry {
	var out []*repository.Entry
	for _, e := range s.work().write {
		out = append(out, e.Entry)
	}
	return out
}

// operate runs one operation. Without anything to do there is none.
func (l *linkRun) operate(ctx context.Context, open Opener, c *chainRun) (err error) {
	if len(l.sets) == 0 && !l.unclaimed {
		return nil
	}
	l.all = nil
	for _, o := range c.links {
		l.all = append(l.all, o.rec)
	}
	if l.sess, err = open(ctx); err != nil {
		return err
	}
	defer func() {
		if cerr := l.sess.Close(); cerr != nil {
			l.rep.Warning("end the session: " + cerr.Error())
		}
	}()
	return l.write(ctx)
}

// fail stops a component after a link, and those that depend on it (R-SEL-31).
func (c *chainRun) fail(comp *chainComp, l *linkRun, why string) {
	comp.stop(fmt.Sprintf("the restore of record %s failed: %s", l.rec.ID.Short(), why))
	c.res.Outcome = c.res.Outcome.worse(Incomplete)
	for _, other := range c.comps {
		if other.stopped == "" && c.depends(other, comp) && other.after(l, c.links) {
			c.fail(other, l, fmt.Sprintf("it depends on %s, which failed", comp.top.set.Component.Label()))
		}
	}
}

// after reports whether the component has a part in a link after this one.
func (c *chainComp) after(l *linkRun, links []*linkRun) bool {
	return len(c.parts) > 0 && slices.Index(links, c.parts[len(c.parts)-1].link) > slices.Index(links, l)
}

func (c *chainComp) stop(why string) {
	if c.stopped == "" {
		c.stopped = why
	}
}

// depends reports whether anything restored of a component depends on the other.
func (c *chainRun) depends(comp, on *chainComp) bool {
	for _, m := range comp.top.set.Component.Set() {
		for _, d := range m.Dependencies {
			for _, t := range on.top.set.Component.Set() {
				if d.Computer == "" && t.Writer.Class == d.Class && t.LogicalPath == d.LogicalPath && t.Name == d.Name {
					return true
				}
			}
		}
	}
	return false
}

// write gives the entries to be put, in this link's own numbering of files with
// several names.
func (s *setChain) write() []*repository.Entry {
	list := s.work().write
	if s.again() {
		list = s.comp.plan.final
	}
	var out []*repository.Entry
	for _, e := range list {
		entry := e.Entry
		if e.from != s.n && entry.HardLink != 0 {
			// The number is one of another record's.
			clone := entry.Clone()
			clone.HardLink = s.comp.foreignLink(e)
			entry = &clone
		}
		out = append(out, entry)
	}
	return out
}

// again reports whether the operation looks at all files once more, and restores
// those that are not as they should be: the last one of a component whose service
// was started between the operations, and may have written to what was there.
func (s *setChain) again() bool {
	return s.n > 0 && !s.more && !s.link.req.DryRun && s.run.method().ServiceUse() == ServiceStopFirst &&
		!slices.ContainsFunc(s.comp.plan.final, func(e chainEntry) bool { return isPartial(e.Entry) })
}

// foreignLink numbers files with several names anew: the same number of another
// record is another file.
func (c *chainComp) foreignLink(e chainEntry) uint64 {
	return e.HardLink ^ uint64(c.parts[e.from].link.n+1)<<40 ^ 1<<63
}

// ownPaths are the paths that a restore has put.
type ownPaths struct {
	mu    sync.Mutex
	paths map[string]leftFile
}

func (o *ownPaths) add(path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.paths[path] = leftFile{}
}

func (o *ownPaths) drop(path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.paths, path)
}

func (o *ownPaths) has(path string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.paths[path]
	return ok
}

// puts are the entries that are restored of a set. What is staged for the next
// start is staged once.
func (s *setRun) puts() []*repository.Entry {
	switch {
	case s.chain == nil:
		return s.entries
	case s.decision.Branch == BranchReboot && s.settled():
		return nil
	}
	return s.chain.write()
}

// everPuts are the entries that this operation or a later one restores of a set:
// where they wait for the next start the first one stages all of them.
func (s *setRun) everPuts() []*repository.Entry {
	if s.chain == nil {
		return s.entries
	}
	var out []*repository.Entry
	for _, w := range s.chain.comp.written[s.chain.n:] {
		for _, e := range w.write {
			out = append(out, e.Entry)
		}
	}
	return out
}

// asBackedUp has the operation restore what its own record brings, whatever the
// others do: its writer directs these bytes somewhere.
func (s *setRun) asBackedUp() {
	if s.chain == nil {
		return
	}
	if s.chain.n == 0 {
		s.chain.comp.collapsed = nil
	}
	s.entries = nil
	for _, e := range s.chain.comp.written[s.chain.n].write {
		s.entries = append(s.entries, e.Entry)
	}
}

// looked are the entries whose places are looked at to decide where a set goes. All
// its files take the same branch (R-RES-2), and so do those that later operations
// bring: the first one looks at all of them.
func (s *setRun) looked() []*repository.Entry {
	if s.chain == nil || s.chain.n > 0 {
		return s.entries
	}
	at := map[string]int{}
	var out []*repository.Entry
	for _, w := range s.chain.comp.written {
		for _, e := range w.write {
			if i, known := at[e.Path]; known {
				out[i] = e.Entry
				continue
			}
			at[e.Path] = len(out)
			out = append(out, e.Entry)
		}
	}
	return out
}

// strange are those of which this restore has not put anything there itself, which
// says nothing (R-RES-3).
func (s *setRun) strange() []*repository.Entry {
	list := s.looked()
	if s.chain == nil || s.chain.n == 0 {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(e *repository.Entry) bool { return s.own(e.Path) })
}

// before is the branch that the operation before took; refused if there is none, or
// the writer says itself where files go (R-RES-16).
func (s *setRun) before(target vss.RestoreTarget) Branch {
	if s.chain == nil || s.chain.n == 0 || target != vss.RestoreTargetOriginal {
		return BranchRefused
	}
	return s.chain.comp.parts[s.chain.n-1].run.decision.Branch
}

// follow has a later operation see the host so that it takes the branch of the one
// before.
func (s *setRun) follow(target vss.RestoreTarget, v *RestoreView) {
	switch s.before(target) {
	case BranchOriginal:
		v.Original.There = ""
	case BranchAlternate, BranchReboot:
		const why = "the operation before restored the set elsewhere"
		v.Original = Presence{There: "a file of it", Blocked: "a file of it", Why: why}
	}
}

// strays says why a set cannot be restored by a decision that is another than that
// of the operation before; empty if it can.
func (s *setRun) strays(target vss.RestoreTarget) string {
	before := s.before(target)
	if before == BranchRefused || before == BranchDirected || s.decision.Branch == before || s.decision.Branch == BranchRefused {
		return ""
	}
	return fmt.Sprintf("the operation before restored it by branch %s, and this one would have to by %s", before, s.decision.Branch) // R-RES-2
}

// atOnce has the first operation bring all that the chain comes to: what is staged
// for the next start nobody sees before the last one.
func (s *setRun) atOnce() {
	if s.chain != nil && s.chain.n == 0 && len(s.chain.comp.parts) > 1 {
		s.chain.comp.collapsed = s.chain.comp.plan.collapsed()
		s.entries = s.chain.own()
	}
}

// own reports whether an earlier operation of this restore has put the path.
func (s *setRun) own(path string) bool {
	return s != nil && s.chain != nil && s.chain.comp.mine.has(path)
}

// mine tells which places earlier operations of this restore have filled; nil if
// there are none.
func (r *restore) mine() func(*repository.Entry) bool {
	if !slices.ContainsFunc(r.sets, func(s *setRun) bool { return s.chain != nil && s.chain.n > 0 }) {
		return nil
	}
	return func(e *repository.Entry) bool {
		return slices.ContainsFunc(r.sets, func(s *setRun) bool { return s.own(e.Path) })
	}
}

// note is told that a path was put.
func (s *setRun) note(path string) {
	if s != nil && s.chain != nil {
		s.chain.comp.mine.add(path)
	}
}

// settled reports whether the set's files are in place since an earlier operation.
func (s *setRun) settled() bool { return s != nil && s.chain != nil && s.chain.work().settled }

// takeAway removes what earlier links of this restore have put, and the backup of
// this one no longer had. It leaves what it has not put itself.
func (r *restore) takeAway(ctx context.Context, f *filler, s *setRun) error {
	if s.chain == nil || f.dry {
		return nil
	}
	for _, e := range s.chain.work().gone {
		e, _, err := r.placeOf(s, e)
		if err != nil {
			continue // it was not put
		}
		if !s.chain.comp.mine.has(e.Path) {
			continue
		}
		err = f.target.Remove(ctx, e.Path)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil || isMissing(err):
			s.chain.comp.mine.drop(e.Path)
			f.mu.Lock()
			delete(f.made, e.Path)
			f.mu.Unlock()
		case e.Type == repository.Directory:
			// Somebody else's file is in it.
		default:
			if err := f.fail(e, s, fmt.Errorf("remove: %w", err)); err != nil {
				return err
			}
		}
	}
	return nil
}

// announce tells the service that later operations go on with the component
// (R-TYPE-20, R-RES-28).
func (r *restore) announce(ctx context.Context, s *setRun) error {
	if s.chain == nil || !s.chain.more {
		return nil
	}
	return r.sess.SetAdditionalRestores(ctx, s.set.Component.Session(), true)
}

// merge adds what a link did to the result of the whole.
func (c *chainRun) merge(i int, l *linkRun) {
	res := c.res
	for n, p := range l.parts {
		part := &res.Chain[i].Components[n]
		part.Status, part.Error = p.run.result.Status, p.run.result.Error
		if p.comp.stopped != "" {
			part.Status, part.Error = vss.FileRestoreStatusNone.String(), p.comp.stopped
		}
	}
	if l.restore != c.restore {
		res.Outcome = res.Outcome.worse(l.res.Outcome)
		res.LeftOut, res.LeftOuts = append(res.LeftOut, l.res.LeftOut...), res.LeftOuts+l.res.LeftOuts
		res.LeftOut = res.LeftOut[:min(len(res.LeftOut), maxLeftOut)]
		for _, text := range l.res.Warnings { // a writer may say the same in each
			if !slices.Contains(res.Warnings, text) {
				res.Warnings = append(res.Warnings, text)
			}
		}
		res.Writers = append(res.Writers, l.res.Writers...)
		res.Services = append(res.Services, l.res.Services...)
		res.RebootFor = append(res.RebootFor, l.res.RebootFor...)
	}
	if l.fill != nil {
		res.Failures = append(res.Failures, l.fill.failures...)
		res.Failures = res.Failures[:min(len(res.Failures), maxLeftOut)]
		res.Failed += l.fill.failed
		res.Totals = res.Totals.plus(l.fill.totals)
		l.fill = nil
	}
}

// end gives each component its result over the chain.
func (c *chainRun) end() {
	c.fill = nil
	c.sets = nil
	for _, comp := range c.comps {
		out := comp.top.result
		written := false
		for _, p := range comp.parts {
			written = written || p.run.written
			out.Members = p.run.result.Members
			if id := p.run.result.PendingReboot; id != "" {
				out.PendingReboot = id // the first operation staged for all
			}
		}
		out.Files, out.Bytes = comp.files, comp.bytes
		if comp.stopped != "" {
			out.Succeeded, out.Error = false, comp.stopped
			out.Status = vss.FileRestoreStatusFailed.String()
			if !written {
				out.Status, out.Files, out.Bytes = vss.FileRestoreStatusNone.String(), 0, 0
			}
		}
		c.res.Components = append(c.res.Components, out)
	}
}
