package requester

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// ErrConsistency says that the level of consistency asked for is out of reach.
// Nothing has been frozen when it is returned.
var ErrConsistency = errors.New("the consistency asked for is out of reach")

// Backup makes a backup. The Result is never nil; with an error its Outcome is
// Failed or Interrupted and no record was made. Without an error there is a
// record, and the Outcome tells what it is worth.
func Backup(ctx context.Context, open Opener, repo *repository.Repository, r Request, rep Reporter) (*Result, error) {
	return BackupTo(ctx, open, func(context.Context) (*repository.Repository, error) { return repo, nil }, r, rep)
}

// BackupTo is Backup into a repository that is opened meanwhile: deriving a key
// from a password takes as long as the writers take to say what they have. The
// caller closes the repository, after BackupTo. If it cannot be opened the error
// wraps an [OpenError].
func BackupTo(ctx context.Context, open Opener, repo RepositoryOpener, r Request, rep Reporter) (*Result, error) {
	res := &Result{Outcome: Failed, Started: now(), Type: r.backupType().Word(), Required: r.Consistency.String()}
	err := r.check()
	if err == nil {
		err = intoOpening(ctx, repo, func(ctx context.Context, into *opening) error {
			past := &histories{open: func(context.Context) (*repository.Repository, error) { return into.wait() }}
			return reach(ctx, open, &r, orQuiet(rep), past, func(a *attempt) error {
				return (&backup{attempt: a, opening: into, res: res}).run(ctx)
			})
		})
	}
	res.Ended = now()
	if err != nil && res.Record == nil {
		res.Outcome = Failed
		if ctx.Err() != nil {
			res.Outcome = Interrupted
			err = errors.Join(context.Cause(ctx), err)
		}
		return res, err
	}
	if err != nil {
		// The record is there: what failed came after it.
		res.Outcome = res.Outcome.worse(WriterFailedAfter)
		res.Warnings = append(res.Warnings, err.Error())
	}
	return res, nil
}

// backup is the run of one backup in a session that has got to its estimates.
type backup struct {
	*attempt
	opening *opening
	repo    *repository.Repository
	res     *Result
	copier  *copier
	set     bool                // the session has a set, so the model's events are sent
	plain   map[*Component]bool // failed, and all its files are taken as plain ones
}

func (b *backup) run(ctx context.Context) error {
	b.res.Plan = b.plan(ctx)
	b.rep.Plan(b.res.Plan)
	if !b.res.Plan.Reachable {
		return fmt.Errorf("%w: %s", ErrConsistency, b.res.Plan.Unreachable[0])
	}
	if len(b.sel.Explicit) == 0 && len(b.areas) == 0 {
		return b.nothing()
	}
	var err error
	b.set = len(b.sel.Explicit) > 0 || len(b.snapshotVolumes()) > 0
	if !b.set {
		if err := b.beginListing(ctx); err != nil {
			return err
		}
	}
	if b.repo, err = b.opening.wait(); err != nil {
		return err
	}
	if b.repo.WriteOnly() {
		// Now, as only one local state can be read at a time.
		if err := b.past.begin(ctx); err != nil {
			return err
		}
	}
	err = b.save(ctx, b.freeze)
	if errors.Is(err, repository.ErrStale) && ctx.Err() == nil {
		// The files are where they were, and the shadow copies are there
		// still. What was deleted meanwhile is read again and stored again.
		b.warn("%v; it is made again at once, from the same shadow copies", err)
		err = b.save(ctx, func(context.Context) error { return nil })
	}
	return err
}

// save makes the record. Before files are read, and after the repository was told
// that a backup goes on, freeze takes the shadow copies.
func (b *backup) save(ctx context.Context, freeze func(context.Context) error) error {
	base, err := b.findBase(ctx)
	if err != nil {
		return err
	}
	into, err := b.repo.Begin(ctx, repository.BeginOptions{Base: base, StateOf: stateOf(b.req.dataPaths())})
	if err != nil {
		return err
	}
	defer into.Abort()
	if err := freeze(ctx); err != nil {
		return err
	}
	said, failed := b.said, maps.Clone(b.failed)
	said.leftOut, said.warnings = slices.Clip(said.leftOut), slices.Clip(said.warnings)
	if err = b.copy(ctx, into, base); err == nil {
		err = b.commit(ctx, into)
	}
	if errors.Is(err, repository.ErrStale) {
		b.said, b.failed, b.res.Components = said, failed, nil
		for _, l := range b.begun {
			l.close()
		}
		b.begun = nil
	}
	return err
}

// nothing says why there is nothing to save.
func (b *backup) nothing() error {
	text := "nothing of what was chosen can be saved"
	for _, l := range b.leftOut {
		text += fmt.Sprintf("; %s %s%s: %s", l.Writer, l.Component, l.Path, l.Reason)
		if len(text) > 1000 {
			break
		}
	}
	return vss.Errorf(vss.ErrObjectNotFound, "back up", "", "%s", text)
}

// freeze takes the shadow copies: steps 8 to 16 of the model's sequence.
func (b *backup) freeze(ctx context.Context) error {
	if !b.set {
		return nil
	}
	if !b.req.NoWriters {
		if err := b.giveStamps(ctx); err != nil {
			return err
		}
		b.rep.Phase(PhasePrepare)
		if err := b.sess.PrepareForBackup(ctx, b.rep.Step); err != nil {
			return err
		}
		if err := b.status(ctx, PhasePrepare); err != nil {
			return err
		}
		if err := b.allLost(); err != nil {
			return err
		}
	}
	if len(b.snapshotVolumes()) == 0 {
		// All is read live: writers set their stamps in PrepareForBackup, and
		// listed there what they had to (R-SET-28, R-TYPE-13, D-32).
		if b.req.NoWriters {
			return nil
		}
		if err := b.readLists(ctx); err != nil {
			return err
		}
		return b.allLost()
	}
	b.rep.Phase(PhaseSnapshot)
	if err := b.sess.DoSnapshotSet(ctx, b.rep.Step); err != nil {
		return err
	}
	if r, err := b.sess.Receipt(ctx); err == nil {
		b.res.Receipt = &r
	}
	if b.req.NoWriters {
		return nil
	}
	if err := b.status(ctx, PhaseSnapshot); err != nil {
		return err
	}
	if err := b.readLists(ctx); err != nil {
		return err
	}
	return b.allLost()
}

// allLost ends a backup in which nothing is left to be saved.
func (b *backup) allLost() error {
	if len(b.areas) > 0 {
		return nil
	}
	why := ""
	for _, c := range b.sel.Explicit {
		if b.failed[c] == "" {
			return nil
		}
		why = c.Label() + ": " + b.failed[c]
	}
	if why == "" {
		return nil
	}
	return vss.Errorf(vss.ErrUnexpectedWriterError, "back up", "", "every component failed; %s", why)
}

// copy streams the files into the repository (step 17).
func (b *backup) copy(ctx context.Context, into *repository.Backup, base *repository.Record) error {
	b.rep.Phase(PhaseCopy)
	c, work := newCopier(ctx, b.attempt, into, base)
	defer c.close()
	b.copier, b.plain = c, map[*Component]bool{}
	c.mark = readMark(b.res.Started)
	for _, def := range b.sel.Explicit {
		r := &ComponentResult{
			Writer: def.Writer.Name, InstanceName: def.Writer.InstanceName, Class: def.Writer.Class, Instance: def.Writer.Instance,
			LogicalPath: def.LogicalPath, Name: def.Name, Type: def.Type.Word(), Succeeded: true, Level: def.level().String(),
		}
		t := b.typing(def)
		r.BackupType, r.TypeNotes = t.Type.Word(), t.Notes
		if t.Base != nil {
			r.Base = t.Base.Record.String()
		}
		for _, m := range def.Members() {
			r.Members = append(r.Members, m.FullPath())
		}
		if why := b.failed[def]; why != "" {
			r.Succeeded, r.Error, r.Level = false, why, session.LevelNone.String()
			if b.req.AsPlainFiles && b.allUnderPaths(def) {
				b.plain[def] = true
				b.warn("%s: %s; its files are taken as plain ones", def.Label(), why)
			} else {
				b.leave(LeftOut{Writer: def.Writer.Label(), Component: def.FullPath(), Reason: why})
			}
		}
		c.comps[def] = r
	}
	err := c.saveAll(work)
	if err != nil {
		// Workers may still run; their first error is the one that counts.
		if first := c.work.Wait(); first != nil {
			err = first
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	b.rep.Totals(c.totals)
	return b.stillThere(ctx)
}

// stillThere looks whether every shadow copy outlived the reading: one that was
// lost on the way makes what was read from it worth nothing.
func (b *backup) stillThere(ctx context.Context) error {
	for _, v := range b.snapshotVolumes() {
		if v.snapshot.IsZero() {
			continue
		}
		p, err := b.sess.SnapshotProperties(ctx, v.snapshot)
		if err != nil {
			return fmt.Errorf("shadow copy of %s was lost while it was read: %w", v.Root, err)
		}
		if p.State != vss.SnapshotCreated {
			return vss.Errorf(vss.ErrObjectNotFound, "read shadow copy", v.Root, "it was lost while it was read: %s", p.State)
		}
	}
	return nil
}

// commit tells outcomes, saves documents and the record, and only then lets the
// writers know (steps 18 to 20; DESIGN: the way of the data).
func (b *backup) commit(ctx context.Context, into *repository.Backup) error {
	b.rep.Phase(PhaseCommit)
	if b.set && !b.req.NoWriters {
		for _, c := range b.sel.Explicit {
			if err := b.sess.SetBackupSucceeded(ctx, c.Session(), b.copier.comps[c].Succeeded); err != nil {
				return err
			}
		}
	}
	b.finish()
	info, err := b.recordInfo(ctx, into)
	if err != nil {
		return err
	}
	rec, err := into.Commit(ctx, info)
	if err != nil {
		return fmt.Errorf("commit the record: %w", err)
	}
	b.res.Record, b.res.ID, b.recorded = rec, rec.ID.String(), true
	if err := into.LocalState(); err != nil {
		text := fmt.Sprintf("%v: the next backup reads every file", err)
		b.res.Warnings = append(b.res.Warnings, text)
		b.rep.Warning(text)
	}
	// From here on the record is there, and the writers must hear of it,
	// whoever loses patience.
	ctx = context.WithoutCancel(ctx)
	err = b.complete(ctx)
	b.tidyShadows(ctx)
	return err
}

// finish works out the result from what happened.
func (b *backup) finish() {
	c, res := b.copier, b.res
	res.Ended = now()
	res.Instant = res.Started
	if res.Receipt != nil && !res.Receipt.Instant.IsZero() {
		res.Instant = res.Receipt.Instant
	}
	res.Totals, res.Failures, res.Failed = c.totals, c.failures, c.failed
	res.LeftOut, res.LeftOuts, res.Warnings = b.leftOut, b.leftOuts, b.warnings
	res.Kept = b.keptShadows()
	level, any := session.LevelApp, false
	lower := func(l session.Level) {
		if !any || l < level {
			level, any = l, true
		}
	}
	missing := c.failed > 0 || b.missed
	for _, def := range b.sel.Explicit {
		r := c.comps[def]
		res.Components = append(res.Components, *r)
		missing = missing || !r.Succeeded && !b.plain[def]
		if r.Succeeded {
			lower(def.level())
		}
	}
	for _, id := range b.order {
		if v := b.volumes[id]; v.unclaimed {
			lower(v.unclaimedLevel())
		}
	}
	if c.none {
		lower(session.LevelNone)
	}
	if !any {
		level = session.LevelNone
	}
	res.Level = level.String()
	res.Outcome = outcomeOf(missing, b.levelLost(level))
}

// levelLost reports whether data has a lower level than was asked for, or than
// the plan had promised for a component whose files were then taken as plain
// ones. Data of no writer is held to crash at most.
func (b *backup) levelLost(level session.Level) bool {
	return len(b.plain) > 0 || level < min(b.req.Consistency, session.LevelCrash)
}

// outcomeOf orders what can be wrong with a record; see [Outcome].
func outcomeOf(missing, lower bool) Outcome {
	switch {
	case missing:
		return Incomplete
	case lower:
		return LowerConsistency
	}
	return Complete
}

// Completion is the body of the note that follows a record: what came of
// BackupComplete.
type Completion struct {
	Outcome Outcome        `json:"outcome"`
	Writers []WriterResult `json:"writers,omitempty"`
	Error   string         `json:"error,omitempty"`
}

// complete sends BackupComplete, reads the writers' states for the last time,
// which frees their slots, and appends what came of it to the record.
func (b *backup) complete(ctx context.Context) error {
	b.done = true
	if !b.set || b.req.NoWriters {
		return nil
	}
	b.rep.Phase(PhaseComplete)
	note := Completion{}
	err := b.sess.BackupComplete(ctx, b.rep.Step)
	if err != nil {
		note.Error = err.Error()
		b.res.Outcome = b.res.Outcome.worse(WriterFailedAfter)
	}
	list, serr := b.readStatus(ctx, PhaseComplete)
	if serr != nil {
		note.Error = errors.Join(err, serr).Error()
		b.res.Outcome = b.res.Outcome.worse(WriterFailedAfter)
	}
	for _, s := range list {
		w := b.byInstance(s.Instance)
		if w == nil || !writerFailed(s) || !b.takesPart(w) {
			continue
		}
		if slices.ContainsFunc(b.sel.Explicit, func(c *Component) bool { return c.Writer == w && b.failed[c] == "" }) {
			b.res.Warnings = append(b.res.Warnings, w.Label()+": "+writerWords(s))
			b.res.Outcome = b.res.Outcome.worse(WriterFailedAfter)
		}
	}
	note.Outcome, note.Writers = b.res.Outcome, b.res.Writers
	body, jerr := json.Marshal(note)
	if jerr != nil {
		return jerr
	}
	if len(body) > repository.MaxNote {
		body, _ = json.Marshal(Completion{Outcome: note.Outcome, Error: clip(note.Error, 1000)})
	}
	_, nerr := b.repo.AddNote(ctx, b.res.Record.ID, repository.Note{Time: now(), Kind: NoteComplete, Body: body})
	if nerr != nil {
		return fmt.Errorf("append the outcome of BackupComplete to the record: %w", nerr)
	}
	return nil
}
