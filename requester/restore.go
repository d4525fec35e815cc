package requester

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// Restore puts back what a record holds, or what is chosen of it, to where it
// was. The result is never nil; with an error its Outcome is Failed or
// Interrupted. A restore that was stopped can be run again: what is in place
// already is left.
func Restore(ctx context.Context, open Opener, repo *repository.Repository, record *repository.Record, r RestoreRequest, rep Reporter) (*RestoreResult, error) {
	run := &restore{repo: repo, rec: record, req: &r, rep: orQuiet(rep), target: "",
		res: &RestoreResult{Outcome: Failed, Record: record.ID.String(), Started: now(), DryRun: r.DryRun}}
	return run.result(ctx, run.run(ctx, open))
}

// Extract copies files of a record into a directory, without any writer. The
// result is never nil.
func Extract(ctx context.Context, open Opener, repo *repository.Repository, record *repository.Record, r ExtractRequest, rep Reporter) (*RestoreResult, error) {
	run := &restore{repo: repo, rec: record, rep: orQuiet(rep), target: r.Dir, extract: true,
		req: &RestoreRequest{Selectors: r.Selectors, Include: r.Include, Exclude: r.Exclude, NoWriters: true, Overwrite: r.Overwrite, DryRun: r.DryRun},
		res: &RestoreResult{Outcome: Failed, Record: record.ID.String(), Started: now(), DryRun: r.DryRun, Extraction: true, Target: r.Dir}}
	if r.Dir == "" {
		return run.result(ctx, vss.Errorf(vss.ErrInvalidArgument, "extract", "", "no directory is given"))
	}
	return run.result(ctx, run.run(ctx, open))
}

// restore is one restore or extraction.
type restore struct {
	repo   *repository.Repository
	rec    *repository.Record
	req    *RestoreRequest
	rep    Reporter
	target string   // directory of the host; empty: where things were
	places []string // see declared
	// all are the records of which files are restored, if there are others.
	all     []*repository.Record
	extract bool
	res     *RestoreResult

	sess   session.Session
	style  vss.PathStyle // of the host
	origin vss.PathStyle // of the record

	stored           *stored
	table            *tableSets
	include, exclude *Patterns
	sets             []*setRun
	members          map[*Component]*setRun
	unclaimed        bool
	fill             *filler
	history          []HistoryLine
	placed           map[Mapping]*route // mappings on this host; nil: cannot be used
	living           []*Writer          // see liveWriters
	staged           map[string]string  // paths by the names they are staged under; mu guards it
	services         map[string]*serviceRun
	serviceOrder     []*serviceRun
	kept             []*RangesFile         // of the record, read once
	temporary        []string              // ranges files put where none was
	directedTo       map[string]*Component // files that writers direct to, folded

	mu sync.Mutex // held while the result's lists grow: workers warn, too
}

func (r *restore) result(ctx context.Context, err error) (*RestoreResult, error) {
	res := r.res
	res.Ended = now()
	if r.fill != nil {
		res.Totals, res.Failures, res.Failed = r.fill.totals, r.fill.failures, r.fill.failed
	}
	for _, s := range r.sets {
		res.Components = append(res.Components, s.result)
	}
	if err != nil {
		res.Outcome = Failed
		if ctx.Err() != nil {
			res.Outcome = Interrupted
			err = errors.Join(context.Cause(ctx), err)
		}
		for i := range res.Components { // of which it never came to the end
			c := &res.Components[i]
			c.Succeeded = c.Succeeded && c.Status == vss.FileRestoreStatusAll.String()
		}
		return res, err
	}
	return res, nil
}

func (r *restore) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.Warnings = append(r.res.Warnings, text)
	r.rep.Warning(text)
}

func (r *restore) leave(l LeftOut) {
	r.res.LeftOuts++
	if len(r.res.LeftOut) < maxLeftOut {
		r.res.LeftOut = append(r.res.LeftOut, l)
	}
	if !l.Asked {
		r.res.Outcome = r.res.Outcome.worse(Incomplete)
	}
}

func (r *restore) run(ctx context.Context, open Opener) (err error) {
	r.origin = vss.POSIX
	if r.rec.Host.PathStyle == vss.Windows.String() {
		r.origin = vss.Windows
	}
	fold := r.origin.Fold()
	if r.include, err = CompilePatterns(r.req.Include, fold); err != nil {
		return err
	}
	if r.exclude, err = CompilePatterns(r.req.Exclude, fold); err != nil {
		return err
	}
	if r.sess, err = open(ctx); err != nil {
		return err
	}
	defer func() {
		if cerr := r.sess.Close(); cerr != nil {
			r.rep.Warning("end the session: " + cerr.Error())
		}
	}()
	host, err := r.sess.Host(ctx)
	if err != nil {
		return err
	}
	r.style = host.Style
	if !r.extract && r.style != r.origin {
		return vss.Errorf(vss.ErrNotSupported, "restore", "", "the backup is of a %s host and this is a %s one; extract it to a directory instead", r.origin, r.style)
	}
	r.rep.Phase(PhaseSelect)
	r.res.Outcome = Complete
	if err := r.choose(ctx); err != nil {
		return err
	}
	if err := r.checkMethods(); err != nil {
		return err
	}
	if err := r.resolveWishes(ctx); err != nil {
		return err
	}
	chain, err := r.chains(ctx)
	if err != nil {
		return err
	}
	if chain != nil {
		if err := r.sess.Close(); err != nil { // each link has one of its own
			return err
		}
		return chain.run(ctx, open)
	}
	return r.write(ctx)
}

// shown is an entry's path for people.
func (r *restore) shown(table string) string {
	if r.extract {
		return r.style.Join(r.target, table)
	}
	r.mu.Lock()
	if final, staged := r.staged[table]; staged {
		table = final
	}
	r.mu.Unlock()
	return HostPath(r.origin, table)
}

// write does the restore: steps 1 to 11 of the model's sequence for the writers
// that take part, and the files.
func (r *restore) write(ctx context.Context) (err error) {
	if !r.extract {
		if r.places, err = r.declared(); err != nil {
			return err
		}
	}
	if len(r.sets) > 0 && !r.req.NoWriters {
		if err := r.call(ctx); err != nil {
			return err
		}
	}
	t, err := r.openTarget(ctx)
	if err != nil {
		return err
	}
	defer func() { r.fill.target.Close() }()
	f, work := newFiller(ctx, r.repo, t, r.rep)
	defer f.restoration.Close()
	f.overwrite, f.dry, f.shown, f.table = r.req.Overwrite, r.req.DryRun, r.shown, r.rec.Table()
	for _, rec := range r.all {
		if rec != r.rec {
			f.others = append(f.others, rec.Table())
		}
	}
	f.elsewhere, f.mine = r.extract, r.mine()
	f.record, f.warn, f.partialOf, f.dirBefore = r.rec.ID.Short(), r.warn, r.partialOf, r.dirBefore
	r.fill = f
	live := slices.ContainsFunc(r.sets, func(s *setRun) bool { return s.live })
	if live && !r.req.DryRun {
		err := r.preRestore(ctx)
		if err == nil {
			err = r.reopenTarget(ctx, f)
		}
		if err != nil {
			// Some writers may have closed their files already.
			r.settle(context.WithoutCancel(ctx), live, err)
			return err
		}
	}
	r.rep.Phase(PhaseRestore)
	err = r.files(work, f)
	if err == nil {
		err = f.end(ctx)
	}
	if err == nil {
		err = r.remember(ctx, f)
	}
	if err != nil {
		// Workers may still run; their first error is the one that counts.
		if first := f.work.Wait(); first != nil {
			err = first
		}
		f.abandon()
		f.dressMade(context.WithoutCancel(ctx))
		// Writers that closed their files must open them again.
		r.settle(context.WithoutCancel(ctx), live, err)
		return err
	}
	return r.settle(ctx, live, nil)
}

// records are those of which files are restored.
func (r *restore) records() []*repository.Record {
	if len(r.all) > 0 {
		return r.all
	}
	return []*repository.Record{r.rec}
}

// roots are the paths the backup was made of, as its record has them.
func (r *restore) roots() (out []string) {
	for _, rec := range r.records() {
		out = append(out, r.rootsOf(rec)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r *restore) rootsOf(rec *repository.Record) []string {
	var s Summary
	if r.extract || json.Unmarshal(rec.Summary, &s) != nil || len(s.Roots) > maxSummaryList {
		return nil
	}
	return slices.DeleteFunc(s.Roots, func(p string) bool {
		return !r.style.IsAbs(p) || r.style.Clean(p) != p || strings.ContainsRune(p, 0) || len(r.style.Names(p)) == 0
	})
}

// call opens the restore in the session and selects the components of writers
// that are running.
func (r *restore) call(ctx context.Context) error {
	if err := r.sess.InitializeForRestore(ctx, r.stored.bcd, r.stored.sessionWriters()); err != nil {
		return err
	}
	if err := r.sess.SetRestoreState(ctx, vss.RestoreTypeByCopy); err != nil {
		return err
	}
	r.rep.Phase(PhaseGather)
	if err := r.sess.GatherWriterMetadata(ctx, r.rep.Step); err != nil {
		return err
	}
	into, err := r.instance(ctx)
	if err != nil {
		return err
	}
	r.overrideMethods()
	for _, s := range r.sets {
		if s.refused != "" {
			continue
		}
		s.into = into
		if err := r.selectSet(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// selectSet tells the service that a set is to be restored. A writer that never
// takes part is left out of it (R-RES-37).
func (r *restore) selectSet(ctx context.Context, s *setRun) error {
	c := s.set.Component
	if m := c.Writer.Restore; !m.Given || m.WriterRestore == vss.WriterRestoreNever {
		return nil
	}
	err := r.sess.SetSelectedForRestore(ctx, c.Session(), true, s.into)
	if errors.Is(err, vss.ErrObjectNotFound) { // R-SEL-28
		s.refused = fmt.Sprintf("its writer %s is not running; start it, or restore without writers (--no-writers)", c.Writer.Label())
		r.leave(LeftOut{Writer: c.Writer.Label(), Component: c.FullPath(), Reason: s.refused})
		s.result.Succeeded, s.result.Error = false, s.refused
		return nil
	}
	if err != nil {
		return err
	}
	s.live = true
	if err := r.announce(ctx, s); err != nil {
		return err
	}
	for _, sub := range s.set.Subcomponents {
		if err := r.sess.AddRestoreSubcomponent(ctx, c.Session(), sub.LogicalPath, sub.Name); err != nil {
			return err
		}
	}
	return r.tell(ctx, s)
}

// preRestore sends the event, and takes out the sets of writers that refuse.
func (r *restore) preRestore(ctx context.Context) error {
	r.rep.Phase(PhasePreRestore)
	if err := r.sess.PreRestore(ctx, r.rep.Step); err != nil {
		return err
	}
	list, err := r.status(ctx, PhasePreRestore)
	if err != nil {
		return err
	}
	for _, st := range list {
		if !writerFailed(st) {
			continue
		}
		for _, s := range r.sets {
			if s.live && s.is(st) {
				r.refuse(s, writerWords(st))
			}
		}
	}
	return nil
}

func (r *restore) status(ctx context.Context, after Phase) ([]session.WriterStatus, error) {
	if err := r.sess.GatherWriterStatus(ctx, r.rep.Step); err != nil {
		return nil, err
	}
	list, err := r.sess.WriterStatus(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		r.rep.Status(after, s)
		r.res.Writers = recordState(r.res.Writers, after, s)
		r.remark(s)
	}
	return list, r.sess.FreeWriterStatus(ctx)
}

// remark warns of what a writer that goes on has to say (SetWriterFailure with
// success), as a backup does.
func (r *restore) remark(st session.WriterStatus) {
	if st.Failure != vss.OK || st.Message == "" || st.State.Failed() {
		return
	}
	for _, s := range r.sets {
		if !s.live || !s.is(st) {
			continue
		}
		if text := s.set.Component.Writer.Label() + ": " + st.Message; !slices.Contains(r.res.Warnings, text) {
			r.warn("%s", text)
		}
		return
	}
}

// refuse keeps a set from being restored.
func (r *restore) refuse(s *setRun, why string) {
	if s.refused != "" {
		return
	}
	s.refused = why
	s.result.Succeeded, s.result.Error = false, why
	c := s.set.Component
	r.leave(LeftOut{Writer: c.Writer.Label(), Component: c.FullPath(), Reason: why})
}

// files writes the files: component sets by what is decided of them, then data of
// no writer, then what must come last.
func (r *restore) files(ctx context.Context, f *filler) error {
	if !r.req.NoWriters {
		if err := r.decide(ctx, f); err != nil {
			return err
		}
	}
	for _, s := range r.sets {
		if s.refused == "" && r.req.NoWriters {
			if err := r.partialsInWay(ctx, f, s); err != nil {
				return err
			}
		}
		if s.refused != "" {
			continue
		}
		if err := r.putSet(ctx, f, s); err != nil {
			return err
		}
	}
	if r.unclaimed {
		return r.putUnclaimed(ctx, f)
	}
	return nil
}

// put checks an entry's name before anything is done with it.
func (r *restore) put(ctx context.Context, f *filler, e *repository.Entry, s *setRun) error {
	if e.Root != rootID {
		return f.fail(e, s, fmt.Errorf("root %q is not one this program made", clip(e.Root, 100)))
	}
	if err := r.mayPut(e, s); err != nil {
		return f.fail(e, s, err)
	}
	return f.put(ctx, e, s)
}

// mayPut refuses a name that is none, or that this restore has no business with.
func (r *restore) mayPut(e *repository.Entry, s *setRun) error {
	if err := validName(e.Path, r.style == vss.Windows); err != nil {
		return err
	}
	if !r.extract && !declares(r.places, e.Path, r.origin.Fold()) && !s.newPlace(e.Path, r.origin.Fold()) {
		return errors.New("it lies outside of all paths the record says it is of; extract it to a directory instead")
	}
	return nil
}

// putUnclaimed goes through the file table for data of no writer.
func (r *restore) putUnclaimed(ctx context.Context, f *filler) error {
	for e, err := range r.rec.Table().All(ctx) {
		if err != nil {
			return err
		}
		if _, claimed := entryKey(e); claimed {
			continue
		}
		if e.Attrs[AttrRole] == "parent" || !r.picks(e.Path) {
			continue // directories above files are made with them
		}
		r.res.Unclaimed = true
		if err := r.put(ctx, f, e, nil); err != nil {
			return err
		}
	}
	return nil
}

// settle starts again what was stopped, and ends the restore (steps 8 to 11 of the
// model's sequence).
func (r *restore) settle(ctx context.Context, live bool, failed error) error {
	if err := r.commitReboots(context.WithoutCancel(ctx), failed); err != nil {
		return err
	}
	r.startServices(context.WithoutCancel(ctx), r.fill.target)
	err := r.report(ctx, live, failed)
	if failed == nil && err == nil && !r.req.NoWriters {
		err = r.restartServices(ctx, r.fill.target)
	}
	r.rebootsNeeded()
	for _, v := range r.serviceOrder {
		if v.result.Before != "" || v.result.Error != "" { // else it was not asked for
			r.res.Services = append(r.res.Services, v.result)
		}
	}
	return err
}

// report tells the writers how it went (steps 9 to 11). After an error PostRestore
// is still sent, so that writers open their files.
func (r *restore) report(ctx context.Context, live bool, failed error) error {
	for _, s := range r.sets {
		status := r.restoreStatus(s, failed)
		s.result.Status = status.String()
		if status == vss.FileRestoreStatusFailed {
			s.corrupt(failed)
		}
		if failed != nil && s.refused == "" {
			s.result.Succeeded = false
		}
	}
	if r.fill.failed > 0 {
		r.res.Outcome = r.res.Outcome.worse(Incomplete)
	}
	if !live || r.req.DryRun {
		return nil
	}
	for _, s := range r.sets {
		if s.live {
			if err := r.tellMappings(ctx, s); err != nil {
				return err
			}
			if err := r.sess.SetFileRestoreStatus(ctx, s.set.Component.Session(), r.restoreStatus(s, failed)); err != nil {
				return err
			}
		}
	}
	r.rep.Phase(PhasePostRestore)
	err := r.sess.PostRestore(ctx, r.rep.Step)
	r.dropTemporary(ctx, r.fill.target)
	if err != nil {
		return err
	}
	list, err := r.status(ctx, PhasePostRestore)
	if err != nil {
		return err
	}
	for _, st := range list {
		for _, s := range r.sets {
			if s.live && s.refused == "" && s.is(st) && writerFailed(st) {
				r.warn("%s: %s", s.set.Component.Label(), writerWords(st))
				s.result.Succeeded, s.result.Error = false, writerWords(st)
				r.res.Outcome = r.res.Outcome.worse(WriterFailedAfter)
			}
		}
	}
	return nil
}

// corrupt says of a set that is half written what that means (R-RES-32).
func (s *setRun) corrupt(failed error) {
	if s.result.Error == "" && failed != nil {
		s.result.Error = failed.Error()
	}
	s.result.Error = strings.TrimPrefix(s.result.Error+"; part of it is restored and part is not: what is on disk is corrupt until it is restored whole", "; ")
}

// restoreStatus is R-RES-32.
func (r *restore) restoreStatus(s *setRun, failed error) vss.FileRestoreStatus {
	switch {
	case s.refused != "" || r.req.DryRun:
		return vss.FileRestoreStatusNone
	case s.result.Succeeded && failed == nil:
		return vss.FileRestoreStatusAll
	case s.written:
		return vss.FileRestoreStatusFailed
	}
	return vss.FileRestoreStatusNone
}
