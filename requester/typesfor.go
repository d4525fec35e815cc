package requester

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// TypeFor gives writers or components a type of their own.
type TypeFor struct {
	// Selector names them, in the forms of [Selectors]. Where several name a
	// component the last counts.
	Selector string
	Type     vss.BackupType
}

// part is which of the backups that a request with [Request.TypesFor] comes to
// this one is.
type part struct {
	// own: it is one of components that have a type of their own. The data that no
	// writer claims is in the other, the main one.
	own bool
	// quiet: what is left out was told by an earlier one.
	quiet bool
	// others receives, from the main one, the types that others have.
	others *[]vss.BackupType
}

// dataPaths are the paths of which the data that no writer claims is in the backup.
// Those of a backup of components with a type of their own would make it pass for
// the base of the main one, which has more.
func (r *Request) dataPaths() []string {
	if r.part.own {
		return nil
	}
	return r.Paths
}

// ownSelectors are those that this backup is of, if it is one of components with a
// type of their own. They tell it from others better than the type, which may be
// another one each day.
func (r *Request) ownSelectors() (list []string) {
	if !r.part.own {
		return nil
	}
	for _, f := range r.TypesFor {
		if f.Type == r.backupType() {
			list = append(list, f.Selector)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// errEmptyPart says that all components are in other parts.
var errEmptyPart = errors.New("every component chosen has a type of its own")

// BackupTypes makes the backups that a request comes to: an operation has one type
// (R-TYPE-1), so that components with another one (Request.TypesFor) get a session
// and a record each type, one after the other, after the main one. One that fails
// does not keep the others back. A level of consistency that one of them cannot
// reach is an error before any of them has frozen anything.
//
// The results are in the order of the backups, each as [BackupTo] gives it; the
// errors are joined. The repository is opened once. The caller closes it.
func BackupTypes(ctx context.Context, open Opener, repo RepositoryOpener, r Request, rep Reporter) (list []*Result, err error) {
	if len(r.TypesFor) == 0 {
		res, err := BackupTo(ctx, open, repo, r, rep)
		return []*Result{res}, err
	}
	repo = openedOnce(repo)
	if r.Consistency != session.LevelNone {
		plans, err := MakePlansTo(ctx, open, repo, r, nil)
		if err != nil {
			return failedPart(r), err
		}
		for _, p := range plans {
			if !p.Reachable {
				err := fmt.Errorf("%w: %s", ErrConsistency, p.Unreachable[0])
				return failedPart(r), err
			}
		}
	}
	var others []vss.BackupType
	r.part.others = &others
	res, err := BackupTo(ctx, open, repo, r, rep)
	quiet := true
	if errors.Is(err, errEmptyPart) {
		quiet, err = false, nil
	} else {
		list = append(list, res)
	}
	for _, t := range others {
		if ctx.Err() != nil {
			break
		}
		own := r
		own.Type, own.part = t, part{own: true, quiet: quiet}
		res, more := BackupTo(ctx, open, repo, own, rep)
		list, quiet = append(list, res), true
		if more != nil {
			err = errors.Join(err, fmt.Errorf("backup of type %s: %w", t.Word(), more))
		}
	}
	return list, err
}

// failedPart is the result of a backup that was not begun.
func failedPart(r Request) []*Result {
	return []*Result{{Outcome: Failed, Started: now(), Ended: now(), Type: r.backupType().Word(), Required: r.Consistency.String()}}
}

// MakePlansTo makes the plans of what [BackupTypes] would do, in its order. The
// repository is opened, once, if what they build upon must be known. If that fails
// the error wraps an [OpenError]. The caller closes it. Without one (nil) it is as
// [MakePlan] has it.
func MakePlansTo(ctx context.Context, open Opener, repo RepositoryOpener, r Request, rep Reporter) (list []*Plan, err error) {
	if repo != nil {
		repo = openedOnce(repo)
	}
	var others []vss.BackupType
	r.part.others = &others
	p, err := makePlan(ctx, open, repo, r, rep)
	quiet := true
	switch {
	case errors.Is(err, errEmptyPart):
		quiet = false
	case err != nil:
		return nil, err
	default:
		list = append(list, p)
	}
	for _, t := range others {
		own := r
		own.Type, own.part = t, part{own: true, quiet: quiet}
		p, err := makePlan(ctx, open, repo, own, rep)
		if err != nil {
			return nil, fmt.Errorf("backup of type %s: %w", t.Word(), err)
		}
		list, quiet = append(list, p), true
	}
	return list, nil
}

// openedOnce opens a repository at the first call that succeeds.
func openedOnce(open RepositoryOpener) RepositoryOpener {
	var repo *repository.Repository
	return func(ctx context.Context) (_ *repository.Repository, err error) {
		if repo == nil {
			repo, err = open(ctx)
		}
		return repo, err
	}
}

// divide leaves in the selection the components of this part alone, and finds the
// types of the others. What is not selectable and must be in every backup of its
// writer (R-SEL-6) is in each part that has anything of the writer.
func (a *attempt) divide() error {
	if len(a.req.TypesFor) == 0 {
		return nil
	}
	types, err := a.ownTypes()
	if err != nil {
		return err
	}
	main, here := a.req.backupType(), a.req.backupType()
	if a.req.part.own {
		main = vss.BackupTypeUndefined // none of it is here
	}
	typeOf := func(c *Component) vss.BackupType {
		if t, ok := types[c]; ok {
			return t
		}
		return main
	}
	if err := a.together(typeOf); err != nil {
		return err
	}
	parts := map[*Writer]map[vss.BackupType]bool{}
	for _, c := range a.sel.Explicit {
		if parts[c.Writer] == nil {
			parts[c.Writer] = map[vss.BackupType]bool{}
		}
		if !c.Mandatory() {
			parts[c.Writer][typeOf(c)] = true
		}
	}
	others := map[vss.BackupType]bool{}
	keep := map[*Component]bool{}
	for _, c := range a.sel.Explicit {
		in := map[vss.BackupType]bool{typeOf(c): true}
		if c.Mandatory() && len(parts[c.Writer]) > 0 {
			in = parts[c.Writer]
		}
		keep[c] = in[here]
		for t := range in {
			others[t] = true
		}
	}
	a.dropOthers(keep, typeOf)
	if a.req.part.own {
		a.areas = nil
		if a.req.part.quiet {
			a.leftOut, a.leftOuts, a.missed = nil, 0, false
		}
		return nil
	}
	delete(others, here)
	if a.req.part.others != nil {
		*a.req.part.others = slices.Sorted(maps.Keys(others))
	}
	if len(a.sel.Explicit) == 0 && len(a.areas) == 0 && len(others) > 0 {
		return errEmptyPart
	}
	return nil
}

// ownTypes resolves the selectors of Request.TypesFor. A member of a set has the
// type of its set.
func (a *attempt) ownTypes() (map[*Component]vss.BackupType, error) {
	types := map[*Component]vss.BackupType{}
	for _, f := range a.req.TypesFor {
		found, err := matchOne(a.writers, "type-for", f.Selector, true)
		if err != nil {
			return nil, err
		}
		for _, c := range found {
			if def := a.sel.Defining[c]; def != nil && def != c && !slices.Contains(found, def) {
				return nil, vss.Errorf(vss.ErrInvalidArgument, "back up", "",
					"--type-for %s: %s is in the set of %s and has its type; name that", quoted(f.Selector), c.Label(), def.FullPath())
			}
			types[c] = f.Type
		}
	}
	return types, nil
}

// together refuses types that would part a component from one it depends on: both
// must be in one backup (R-SEL-31).
func (a *attempt) together(typeOf func(*Component) vss.BackupType) error {
	for c, def := range a.sel.Defining {
		for _, d := range c.Dependencies {
			for t, target := range a.sel.Defining {
				if d.Computer != "" || t.Writer.Class != d.Class || t.LogicalPath != d.LogicalPath || t.Name != d.Name || typeOf(target) == typeOf(def) {
					continue
				}
				return vss.Errorf(vss.ErrInvalidArgument, "back up", "",
					"%s depends on %s, and both must be in one backup: give them the same type", c.Label(), t.Label())
			}
		}
	}
	return nil
}

// dropOthers takes out of the selection what is in another part.
func (a *attempt) dropOthers(keep map[*Component]bool, typeOf func(*Component) vss.BackupType) {
	for c, def := range a.sel.Defining {
		if keep[def] {
			continue
		}
		why := "it is in the backup of the other components"
		if t := typeOf(def); t != vss.BackupTypeUndefined {
			why = "it has a type of its own, " + t.Word() + ", and a backup of its own"
		}
		delete(a.sel.Defining, c)
		delete(a.sel.Why, c)
		a.sel.Out[c] = Bar{Why: why, Asked: true, Elsewhere: true}
	}
	a.sel.Explicit = slices.DeleteFunc(a.sel.Explicit, func(c *Component) bool { return !keep[c] })
}
