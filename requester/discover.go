package requester

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// attempt is one session on its way from the writers' documents to the shadow
// copies.
type attempt struct {
	sess session.Session
	req  *Request
	rep  Reporter

	host  session.Host
	style vss.PathStyle
	fold  bool

	writers  []*Writer
	broken   []error
	absent   []session.WriterStatus // writers that did not identify themselves
	placer   *placer
	claims   *Claims
	areas    []area
	places   []Place
	patterns *Patterns
	chosen   *Chosen
	wish     Wish
	sel      *Selection
	typings  map[*Component]Typing // by explicit component; see typing
	past     *histories            // nil: nobody knows, as there is no repository
	toldPast string                // what was said of it
	strict   bool                  // components are left out for Request.StrictType
	failed   map[*Component]string // taking part, but lost on the way
	under    map[*Component]string // see underPaths

	volumes map[string]*volumeState
	order   []string // volume ids, in the order found
	refused map[string]string
	live    map[string]session.Tree
	inodes  map[string]map[uint64]*Claim
	begun   map[area]*lister // see beginListing

	writerLists *ListedPlan            // what writers listed; nil: nothing
	rangesFiles map[string]*RangesFile // by the path in the document

	said
	shadowSet vss.GUID // persistent, and so to be deleted if no record is made
	recorded  bool     // the record was committed
	done      bool     // nothing is under way that would have to be aborted
}

// said is what the result is to say of what is missing.
type said struct {
	leftOut  []LeftOut
	leftOuts int
	missed   bool // something left out makes the backup incomplete
	warnings []string
}

// volumeState is what is known of one volume.
type volumeState struct {
	session.Volume
	table     string // table path of its root
	support   session.Support
	refusal   string // why no shadow copy is made of it
	claimed   bool
	shadow    bool // some of what is claimed must come from a shadow copy
	unclaimed bool
	snapshot  vss.GUID
	estimate  session.Estimate
	device    uint64 // its number in the record, see [repository.Entry]; 0: none
}

func newAttempt(sess session.Session, req *Request, rep Reporter, refused map[string]string, past *histories) *attempt {
	return &attempt{sess: sess, req: req, rep: rep, refused: refused, past: past,
		volumes: map[string]*volumeState{}, live: map[string]session.Tree{}, failed: map[*Component]string{},
		under: map[*Component]string{}}
}

// begin opens the backup and gathers the writers' documents (steps 1 to 3).
func (a *attempt) begin(ctx context.Context) (err error) {
	if a.host, err = a.sess.Host(ctx); err != nil {
		return err
	}
	a.style, a.fold = a.host.Style, a.host.Style.Fold()
	if a.past != nil {
		a.past.host = a.host.ID
	}
	if a.patterns, err = CompilePatterns(a.req.Exclude, a.fold); err != nil {
		return err
	}
	if err := a.sess.InitializeForBackup(ctx, nil); err != nil {
		return err
	}
	if err := a.sess.SetContext(ctx, a.req.snapshotContext()); err != nil {
		return err
	}
	state := session.BackupState{SelectComponents: true,
		BootableSystemState: a.req.SystemState, Type: a.req.backupType(), PartialFileSupport: !a.req.NoPartial}
	if a.req.KeepBaseShadow > 0 {
		state.Purpose = a.req.purpose()
	}
	err = a.sess.SetBackupState(ctx, state)
	if err != nil || a.req.NoWriters {
		return err
	}
	a.rep.Phase(PhaseGather)
	if err := a.sess.GatherWriterMetadata(ctx, a.rep.Step); err != nil {
		return err
	}
	infos, err := a.sess.WriterMetadata(ctx)
	if err != nil {
		return err
	}
	a.writers, a.broken = readWriters(infos)
	if err := a.missingWriters(ctx); err != nil {
		return err
	}
	return a.sess.FreeWriterMetadata(ctx)
}

func (a *attempt) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.warnings = append(a.warnings, text)
	a.rep.Warning(text)
}

// leave notes something that is not saved.
func (a *attempt) leave(l LeftOut) {
	a.leftOuts++
	a.missed = a.missed || !l.Asked
	if len(a.leftOut) < maxLeftOut {
		a.leftOut = append(a.leftOut, l)
	}
}

// choose decides what takes part: from paths and selectors to the selection and
// the volumes (step 4).
func (a *attempt) choose(ctx context.Context) error {
	a.rep.Phase(PhaseSelect)
	var err error
	if a.chosen, err = a.req.Selectors.match(a.writers, a.absent); err != nil {
		return err
	}
	a.placer = newPlacer(a.sess, a.style)
	a.claims = a.placer.claims
	a.wish = Wish{Wanted: map[*Component]string{}, SystemState: a.req.SystemState, Barred: map[*Component]Bar{}}
	for c, by := range a.chosen.Exclude {
		a.wish.Barred[c] = Bar{Why: "excluded by " + by, Asked: true}
	}
	for _, w := range a.writers {
		bad, err := a.placer.writer(ctx, w)
		if err != nil {
			return err
		}
		for c, why := range bad {
			a.barUnlessAsked(c, why)
		}
	}
	if err := a.placePaths(ctx); err != nil {
		return err
	}
	if err := a.wanted(ctx); err != nil {
		return err
	}
	for again := true; again; {
		var err error
		if again, err = a.selectOnce(ctx); err != nil {
			return err
		}
	}
	if err := a.needVolumes(ctx); err != nil {
		return err
	}
	return a.listOut(ctx)
}

// selectOnce makes the selection and decides what each of its components is
// backed up as. It reports whether a component is out because of that, so that
// another selection must be made.
func (a *attempt) selectOnce(ctx context.Context) (again bool, err error) {
	a.sel = Select(a.writers, a.wish)
	if err := a.divide(); err != nil {
		return false, err
	}
	left, err := a.decideTypes(ctx)
	if err != nil {
		return false, err
	}
	unserved, err := a.barUnserved(ctx)
	if left || unserved || err != nil {
		return true, err
	}
	if len(a.req.TypesFor) == 0 {
		return a.conflicts(ctx)
	}
	// What has a type of its own is not here, and claims files all the same.
	part := a.sel
	a.sel = Select(a.writers, a.wish)
	again, err = a.conflicts(ctx)
	a.sel = part
	return again, err
}

// barUnlessAsked bars a component, and tells whether that is new.
func (a *attempt) barUnlessAsked(c *Component, why string) bool {
	_, barred := a.wish.Barred[c]
	if !barred {
		a.wish.Barred[c] = Bar{Why: why}
	}
	return !barred
}

// placePaths finds the volumes of the chosen paths and of all that is mounted
// or nested below them.
func (a *attempt) placePaths(ctx context.Context) error {
	for _, p := range a.req.Paths {
		if !a.style.IsAbs(p) {
			return vss.Errorf(vss.ErrInvalidArgument, "back up", p, "a path must be absolute")
		}
		loc, err := a.locate(ctx, p)
		if err != nil {
			return err
		}
		v, err := a.volume(ctx, loc.Volume)
		if err != nil {
			return err
		}
		if pseudo(v.FSType) {
			return vss.Errorf(vss.ErrInvalidArgument, "back up", p, "it is on a %s file system, which shows the state of the kernel and holds no data", v.FSType)
		}
		t, err := a.liveTree(ctx, loc.Volume)
		if err != nil {
			return err
		}
		if loc.Name != "." {
			if _, err := t.Lstat(ctx, loc.Name); err != nil {
				return fmt.Errorf("back up %s: %w", p, err)
			}
		}
		a.places = append(a.places, a.place(v, loc.Name, p))
		a.areas = addArea(a.areas, area{loc.Volume, loc.Name}, a.fold)
		if err := a.placeNested(ctx, v, loc.Name); err != nil {
			return err
		}
	}
	return nil
}

// locate is ResolvePath, which follows links above the last element, and with a
// separator at the end also the last.
func (a *attempt) locate(ctx context.Context, p string) (session.Location, error) {
	if strings.HasSuffix(p, string(a.style.Separator())) && len(a.style.Names(p)) > 0 {
		return placeDir(ctx, a.sess, a.style, p)
	}
	return a.sess.ResolvePath(ctx, p)
}

func (a *attempt) place(v *volumeState, name, shown string) Place {
	return Place{Path: shown, Table: tableName(v.table, name), Volume: v.ID, Name: name}
}

func (a *attempt) placeNested(ctx context.Context, v *volumeState, name string) error {
	top := volumePath(a.style, v.Volume, name)
	nested, err := a.sess.VolumesUnder(ctx, top)
	if err != nil {
		return err
	}
	for _, loc := range nested {
		if a.patterns.Match(TablePath(a.style, loc.Path)) {
			continue // excluded, with all below it
		}
		if reason, asked := a.nestedOut(ctx, loc); reason != "" {
			a.leave(LeftOut{Path: loc.Path, Reason: reason, Asked: asked})
			continue
		}
		nv := a.volumes[loc.Volume]
		a.places = append(a.places, a.place(nv, loc.Name, loc.Path))
		a.areas = addArea(a.areas, area{loc.Volume, loc.Name}, a.fold)
	}
	return nil
}

// nestedOut tells why a nested volume stays out, if it does.
func (a *attempt) nestedOut(ctx context.Context, loc session.Location) (reason string, asked bool) {
	if loc.Left != "" {
		// Without a volume nobody could look at it, so it may hold data.
		return loc.Left, loc.Volume != ""
	}
	v, err := a.volume(ctx, loc.Volume)
	switch {
	case err != nil:
		return err.Error(), false
	case pseudo(v.FSType):
		return fmt.Sprintf("a %s file system, which holds no data", v.FSType), true
	case a.req.OneFileSystem:
		return fmt.Sprintf("another file system (%s), left out by --one-file-system", v.FSType), true
	}
	t, err := a.liveTree(ctx, loc.Volume)
	if err != nil {
		return err.Error(), false
	}
	if loc.Name != "." {
		if _, err := t.Lstat(ctx, loc.Name); err != nil {
			return fmt.Sprintf("its root cannot be reached at %s: %v", v.Root, err), false
		}
	}
	return "", false
}

// volume describes a volume, once.
func (a *attempt) volume(ctx context.Context, id string) (*volumeState, error) {
	if v := a.volumes[id]; v != nil {
		return v, nil
	}
	info, err := a.sess.Volume(ctx, id)
	if err != nil {
		return nil, err
	}
	v := &volumeState{Volume: info, table: TablePath(a.style, info.Root)}
	a.volumes[id] = v
	a.order = append(a.order, id)
	return v, nil
}

func (a *attempt) liveTree(ctx context.Context, volume string) (session.Tree, error) {
	if t := a.live[volume]; t != nil {
		return t, nil
	}
	t, err := a.sess.Live(ctx, volume)
	if err != nil {
		return nil, err
	}
	a.live[volume] = t
	return t, nil
}

// wanted fills in what is wanted: what is named, or else every component with a
// file under a path, and with paths what brings to rest without having files.
func (a *attempt) wanted(ctx context.Context) error {
	if a.req.Selectors.Includes() {
		maps.Copy(a.wish.Wanted, a.chosen.Include)
		a.wantResting()
		return nil
	}
	for _, w := range a.writers {
		for _, c := range w.Components {
			found, err := a.underPaths(ctx, c)
			if err != nil {
				return err
			}
			if found != "" {
				a.wish.Wanted[c] = "holds " + found
			}
		}
	}
	a.wantResting()
	return nil
}

// barUnserved bars chosen components with data on a volume of which no shadow
// copy can be made, though they need one. It reports whether there are any.
func (a *attempt) barUnserved(ctx context.Context) (changed bool, err error) {
	for _, def := range a.sel.Explicit {
		for _, c := range def.Set() {
			for _, cl := range a.claims.Of(c) {
				if t := a.typing(c); !t.NeedsShadow(cl.File) {
					continue
				}
				v, err := a.volume(ctx, cl.From)
				if err != nil {
					changed = a.barUnlessAsked(c, err.Error()) || changed
					continue
				}
				if why := a.unserved(ctx, v); why != "" {
					changed = a.barUnlessAsked(c, fmt.Sprintf("no shadow copy of %s: %s", v.Root, why)) || changed
				}
			}
		}
	}
	return changed, ctx.Err()
}

// unserved tells why no shadow copy of a volume can be made; asked once.
func (a *attempt) unserved(ctx context.Context, v *volumeState) string {
	if v.refusal == "" && v.support.Provider.ID.IsZero() && v.support.Provider.Name == "" {
		if why, ok := a.refused[v.ID]; ok {
			v.refusal = why
		} else if s, err := a.sess.IsVolumeSupported(ctx, a.req.Provider, v.ID); err != nil {
			v.support = s
			v.refusal = err.Error()
		} else {
			v.support = s
		}
	}
	return v.refusal
}

// needVolumes marks the volumes that have data in the backup.
func (a *attempt) needVolumes(ctx context.Context) error {
	for _, w := range a.writers {
		for _, c := range w.Components {
			if !a.sel.Has(c) {
				continue
			}
			for _, cl := range a.claims.Of(c) {
				t := a.typing(c)
				if !t.Lists(cl.File) {
					continue
				}
				v, err := a.volume(ctx, cl.From)
				if err != nil {
					return err
				}
				v.claimed = true
				v.shadow = v.shadow || t.FromShadow(cl.File)
			}
		}
	}
	for _, ar := range a.areas {
		v, err := a.volume(ctx, ar.volume)
		if err != nil {
			return err
		}
		v.unclaimed = true
		a.unserved(ctx, v)
	}
	return nil
}

// listOut notes the components that do not take part, though they were wanted
// or hold data under a path. The files of a component under the paths are
// listed one by one when the list is made; here its name and the reason.
func (a *attempt) listOut(ctx context.Context) error {
	if a.req.part.own && a.req.part.quiet {
		return nil
	}
	for _, w := range a.writers {
		for _, c := range w.Components {
			if a.sel.Has(c) {
				continue
			}
			bar, out := a.sel.Out[c]
			_, wanted := a.wish.Wanted[c]
			if a.req.AsPlainFiles && !(out && wanted && !bar.Asked && !a.allUnderPaths(c)) {
				continue
			}
			if !out {
				// Not wanted: only worth a line if it has data under the paths.
				bar = Bar{Why: "not selected"}
			}
			if bar.Covered {
				// What lies under the paths is listed file by file.
				rest, err := a.uncovered(ctx, c)
				if err != nil {
					return err
				}
				if rest == "" {
					continue
				}
				bar.Why = fmt.Sprintf("%s is not saved, as %s", rest, bar.Why)
			}
			held, err := a.underPaths(ctx, c)
			if err != nil {
				return err
			}
			if held == "" && !(out && wanted) && !(out && !bar.Asked && a.namedByUser(c)) {
				continue
			}
			a.leave(LeftOut{Writer: w.Label(), Component: c.FullPath(), Reason: bar.Why, Asked: bar.Asked})
		}
	}
	return nil
}

func (a *attempt) namedByUser(c *Component) bool { _, ok := a.chosen.Include[c]; return ok }

// copied reports whether a shadow copy of the volume is wanted: for claimed data
// that must be read from one, or for what no writer claims (R-SET-28). All else
// is read live.
func (v *volumeState) copied() bool {
	return v.shadow || v.unclaimed && !v.support.Capabilities.ClaimedOnly
}

// snapshotVolumes lists the volumes of which a shadow copy is to be made.
func (a *attempt) snapshotVolumes() []*volumeState {
	var out []*volumeState
	for _, id := range a.order {
		if v := a.volumes[id]; v.copied() && v.refusal == "" && v.support.Provider.Name != "" {
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out, func(x, y *volumeState) int { return cmp.Compare(x.table, y.table) })
	return out
}
