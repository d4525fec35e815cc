package requester

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// FreezeRequest says which writers are to be held for a copy that somebody else
// takes of their volumes.
type FreezeRequest struct {
	// Selectors choose and exclude writers; without any, all take part.
	Selectors Selectors
	// Hold is what the copy is like.
	Hold session.Hold
	// Begun, if not nil, is called when no other run can begin any more and
	// nobody was asked to prepare yet. Its error ends the freeze.
	Begun func() error `json:"-"`
}

// FreezeResult tells of a hold, while it lasts and after it.
type FreezeResult struct {
	Outcome Outcome   `json:"outcome"`
	Started time.Time `json:"started"`
	// Held is when all writers were held, Until when they must be thawed, and
	// Left how much of that time was left when they were.
	Held  time.Time     `json:"held"`
	Until time.Time     `json:"until"`
	Left  time.Duration `json:"left_ns,omitempty"`
	// Expired: nobody thawed the writers in time, and they were let go.
	Expired bool `json:"expired,omitempty"`
	// Writers counts those that are, or were, held throughout.
	Writers  int              `json:"writers"`
	LeftOut  []LeftOut        `json:"left_out,omitempty"`
	Warnings []string         `json:"warnings,omitempty"`
	Receipt  *session.Receipt `json:"receipt,omitempty"`
	// Error is why it failed for all of them.
	Error string `json:"error,omitempty"`
}

// Frozen is a host's writers, held. Its methods are called one at a time.
type Frozen struct {
	sess   session.Session
	hold   session.Holder
	rep    Reporter
	result FreezeResult
	absent []session.WriterStatus // writers that did not identify themselves
}

// Freeze brings writers to a consistent state and holds them there, for a backup
// of type copy: nobody tells whether what somebody else copies becomes a backup,
// so that nothing may be let go because of it. When it returns without an error,
// one of Thaw and Abandon must follow, and Close.
//
// A writer that refuses is in the result's LeftOut, and the outcome Incomplete; so it
// is if there is nobody to be held.
func Freeze(ctx context.Context, open Opener, req FreezeRequest, rep Reporter) (*Frozen, error) {
	sess, err := open(ctx)
	if err != nil {
		return nil, err
	}
	f := &Frozen{sess: sess, rep: orQuiet(rep), result: FreezeResult{Started: time.Now()}}
	if err := f.freeze(ctx, req); err != nil {
		return nil, errors.Join(err, sess.Close())
	}
	return f, nil
}

// Result is what there is to tell.
func (f *Frozen) Result() FreezeResult { return f.result }

func (f *Frozen) freeze(ctx context.Context, req FreezeRequest) error {
	h, ok := f.sess.(session.Holder)
	if !ok {
		return vss.Errorf(vss.ErrNotSupported, "freeze", "writers", "this host's service cannot hold them for a copy that others take")
	}
	f.hold = h
	writers, err := f.gather(ctx, req.Selectors)
	if err != nil {
		return err
	}
	sel, err := f.choose(writers, req.Selectors)
	if err != nil {
		return err
	}
	for _, c := range sel.Explicit {
		if err := h.AddComponent(ctx, c.Session()); err != nil {
			return fmt.Errorf("add component %s: %w", c.Label(), err)
		}
	}
	if _, err := h.StartSnapshotSet(ctx); err != nil {
		return err
	}
	if req.Begun != nil {
		if err := req.Begun(); err != nil {
			return err
		}
	}
	f.rep.Phase(PhasePrepare)
	if err := h.PrepareForBackup(ctx, f.rep.Step); err != nil {
		return err
	}
	f.rep.Phase(PhaseSnapshot)
	if f.result.Until, err = h.HoldWriters(ctx, req.Hold, f.rep.Step); err != nil {
		return err
	}
	f.result.Held = time.Now()
	if err := f.count(ctx); err != nil {
		return err
	}
	if f.result.Writers == 0 && len(f.result.LeftOut) == 0 {
		// Whoever froze meant something by it.
		f.leave(LeftOut{Reason: nothingHeld})
	}
	return nil
}

// nothingHeld is why a freeze of nobody is not complete.
const nothingHeld = "there is no writer, or each is excluded: nobody is held, and the copy is of files as they happen to be"

// gather opens the backup and asks the writers what they have.
func (f *Frozen) gather(ctx context.Context, s Selectors) ([]*Writer, error) {
	if err := f.hold.InitializeForBackup(ctx, nil); err != nil {
		return nil, err
	}
	if err := f.hold.SetContext(ctx, vss.ContextBackup); err != nil {
		return nil, err
	}
	if err := f.hold.SetBackupState(ctx, session.BackupState{SelectComponents: true, Type: vss.BackupTypeCopy}); err != nil {
		return nil, err
	}
	f.rep.Phase(PhaseGather)
	if err := f.hold.GatherWriterMetadata(ctx, f.rep.Step); err != nil {
		return nil, err
	}
	infos, err := f.hold.WriterMetadata(ctx)
	if err != nil {
		return nil, err
	}
	writers, broken := readWriters(infos)
	for _, err := range broken {
		f.leave(LeftOut{Reason: "the writer takes no part: " + err.Error()})
	}
	if err := f.hold.GatherWriterStatus(ctx, nil); err != nil {
		return nil, err
	}
	list, err := f.hold.WriterStatus(ctx)
	if err != nil {
		return nil, err
	}
	for _, st := range list {
		if st.State != vss.WriterFailedAtIdentify {
			continue
		}
		if f.absent = append(f.absent, st); !s.leavesOut(st.Name, st.InstanceName) {
			f.leave(LeftOut{Writer: st.InstanceName, Reason: "the writer did not identify itself: " + st.Message})
		}
	}
	return writers, f.hold.FreeWriterMetadata(ctx)
}

// choose finds the components of the writers that take part: all of them.
func (f *Frozen) choose(writers []*Writer, s Selectors) (*Selection, error) {
	f.rep.Phase(PhaseSelect)
	chosen, err := s.match(writers, f.absent)
	if err != nil {
		return nil, err
	}
	wish := Wish{Wanted: map[*Component]string{}, Barred: map[*Component]Bar{}}
	for c, by := range chosen.Exclude {
		wish.Barred[c] = Bar{Why: "excluded by " + by, Asked: true}
	}
	for _, w := range writers {
		for _, c := range w.Components {
			by, named := chosen.Include[c]
			switch {
			case named:
				wish.Wanted[c] = by
			case !s.Includes():
				wish.Wanted[c] = "all writers take part"
			}
		}
	}
	sel := Select(writers, wish)
	for _, w := range writers {
		for _, c := range w.Components {
			if bar, out := sel.Out[c]; out && !bar.Asked {
				f.leave(LeftOut{Writer: w.Label(), Component: c.FullPath(), Reason: bar.Why})
			}
		}
	}
	return sel, nil
}

func (f *Frozen) leave(l LeftOut) {
	f.result.LeftOut = append(f.result.LeftOut, l)
	f.result.Outcome = f.result.Outcome.worse(Incomplete)
}

// count sees who is held, and who has failed.
func (f *Frozen) count(ctx context.Context) error {
	if err := f.hold.GatherWriterStatus(ctx, nil); err != nil {
		return err
	}
	list, err := f.hold.WriterStatus(ctx)
	if err != nil {
		return err
	}
	f.result.Writers = 0
	for _, st := range list {
		switch {
		case st.State == vss.WriterFailedAtIdentify:
		case st.Failure != vss.OK && st.Event != "" || st.State == vss.WriterUnknown:
			l := LeftOut{Writer: st.InstanceName, Reason: st.Failure.Name() + " at " + st.Event + ": " + st.Message}
			if !slices.Contains(f.result.LeftOut, l) {
				f.rep.Status(PhaseSnapshot, st)
				f.leave(l)
			}
		case st.State == vss.WriterWaitingForThaw, st.State == vss.WriterWaitingForBackupComplete:
			f.result.Writers++
		}
	}
	return f.hold.FreeWriterStatus(ctx)
}

// Thaw lets the writers go after the copy was made, and ends the backup for them.
// BackupComplete is sent with no component's success told: whether the copy
// becomes a backup is not known here.
//
// The outcome is Incomplete if a writer was not held throughout, and
// LowerConsistency if there is an error, which then concerns all.
func (f *Frozen) Thaw(ctx context.Context) FreezeResult {
	f.result.Left = max(0, time.Until(f.result.Until))
	err := f.hold.ThawWriters(ctx, f.rep.Step)
	if err == nil {
		err = f.count(ctx)
	}
	f.keepReceipt()
	if err != nil {
		f.result.Error, f.result.Writers = err.Error(), 0
		f.result.Outcome = LowerConsistency
		return f.result
	}
	if err := f.complete(ctx); err != nil {
		f.result.Warnings = append(f.result.Warnings, "after the thaw: "+err.Error())
		f.result.Outcome = f.result.Outcome.worse(WriterFailedAfter)
	}
	return f.result
}

// complete sends BackupComplete, in which writers tidy up.
func (f *Frozen) complete(ctx context.Context) error {
	if err := f.hold.BackupComplete(ctx, f.rep.Step); err != nil {
		return err
	}
	if err := f.hold.GatherWriterStatus(ctx, nil); err != nil {
		return err
	}
	list, err := f.hold.WriterStatus(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, st := range list {
		if st.State == vss.WriterFailedAtBackupComplete {
			errs = append(errs, fmt.Errorf("%s failed in BackupComplete: %s", st.InstanceName, st.Message))
		}
	}
	return errors.Join(errs...)
}

// Abandon lets the writers go before anybody has said that the copy was made.
func (f *Frozen) Abandon(ctx context.Context, why error) FreezeResult {
	if err := f.hold.AbortBackup(ctx); err != nil {
		f.result.Warnings = append(f.result.Warnings, err.Error())
	}
	f.keepReceipt()
	f.result.Error, f.result.Expired, f.result.Writers = why.Error(), true, 0
	f.result.Outcome = LowerConsistency
	return f.result
}

func (f *Frozen) keepReceipt() {
	if r, err := f.hold.Receipt(context.Background()); err == nil {
		f.result.Receipt = &r
	}
}

// Close ends the session.
func (f *Frozen) Close() error { return f.sess.Close() }
