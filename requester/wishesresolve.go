package requester

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// instructions are what a writer is told of one component set before PreRestore.
type instructions struct {
	options       []vss.RestoreOption
	newTargets    []*newTarget
	below         []*belowTarget
	authoritative bool
	rollForward   vss.RollForwardType
	point         string
	name          string
}

// newTarget is a file set of a component that goes to another directory.
type newTarget struct {
	member *Component
	file   *FileSet
	path   string // as the user gave it
	// from and to are the table paths of the directories, and root is that of the
	// one that the user named: what lies above it is there, and the others are
	// made.
	from, to, root string
	below          *belowTarget // that it is one of; nil if it was named itself
}

// resolveWishes finds out which sets the wishes are for, and refuses those that
// cannot be told to their writers. Nothing was done yet.
func (r *restore) resolveWishes(ctx context.Context) error {
	w := &r.req.Wishes
	if w.Empty() {
		return nil
	}
	if r.req.NoWriters {
		return vss.Errorf(vss.ErrInvalidArgument, "restore", "", "restore options, new targets and the like are for writers, and this restore is without them") // R-RES-37
	}
	for _, o := range w.Options {
		if err := r.resolveOptions(o); err != nil {
			return err
		}
	}
	for _, t := range exactFirst(w.NewTargets, r.style) {
		if err := r.resolveNewTarget(ctx, t); err != nil {
			return err
		}
	}
	for _, n := range w.Names {
		if err := r.resolveName(n); err != nil {
			return err
		}
	}
	if err := r.resolveFlags(w); err != nil {
		return err
	}
	for _, s := range r.sets {
		s.result.Told = s.told.lines(w.Instance)
	}
	return nil
}

// setsNamed gives the chosen component sets that a selector names, all if it is
// empty, and what it names of their members.
func (r *restore) setsNamed(flag, selector string, members bool) (map[*setRun][]*Component, error) {
	out := map[*setRun][]*Component{}
	if selector == "" {
		for _, s := range r.sets {
			out[s] = nil
		}
		return out, nil
	}
	found, err := matchOne(r.stored.writers, flag, selector, true)
	if err != nil {
		return nil, err
	}
	var member *Component
	for _, s := range r.sets {
		c := s.set.Component
		switch {
		case slices.Contains(found, c):
			out[s] = nil
		case members:
			for _, m := range c.Members() {
				if slices.Contains(found, m) && s.set.Covers(m) {
					out[s] = append(out[s], m)
				}
			}
		default:
			if i := slices.IndexFunc(c.Members(), func(m *Component) bool { return slices.Contains(found, m) }); i >= 0 {
				member = c
			}
		}
	}
	if len(out) == 0 && member != nil {
		return nil, vss.Errorf(vss.ErrInvalidArgument, "restore", "", "--%s %s: it is in the set of %s; name that one", flag, quoted(selector), member.Label())
	}
	if len(out) == 0 {
		return nil, vss.Errorf(vss.ErrObjectNotFound, "restore", "", "--%s %s names nothing that is restored", flag, quoted(selector))
	}
	return out, nil
}

// takesPart says why a component's writer can be told nothing; nil if it can.
func takesPart(c *Component, flag string) error {
	if m := c.Writer.Restore; !m.Given || m.WriterRestore == vss.WriterRestoreNever {
		return vss.Errorf(vss.ErrNotSupported, "restore", c.Label(), "--%s: its writer takes no part in restores; leave it out, or choose other components with --component", flag)
	}
	return nil
}

// resolveOptions is R-RES-31: only components selectable for backup have options.
// Of options for all components a line says who is not told them. If nobody is, that
// is an error.
func (r *restore) resolveOptions(w OptionWish) error {
	const flag = "restore-option"
	named, err := r.setsNamed(flag, w.Component, false)
	if err != nil {
		return err
	}
	var first error
	var untold []string
	for _, s := range r.sets {
		c := s.set.Component
		if _, ok := named[s]; !ok {
			continue
		}
		if err := r.takesOptions(c, flag); err != nil {
			if first == nil {
				first = err
			}
			untold = append(untold, c.Label())
			continue
		}
		for _, o := range w.Options {
			if o.Sub != "" && !hasSub(c, o.Sub) {
				r.warn("%s has no subcomponent %s: its writer may not know what %q is for", c.Label(), quoted(o.Sub), o.Name)
			}
		}
		s.told.options = append(s.told.options, w.Options...)
	}
	switch {
	case len(named) == 0:
		return vss.Errorf(vss.ErrObjectNotFound, "restore", "", "--%s: nothing that is restored is a component that can have options; leave it out, or choose with --component", flag) // R-RES-31
	case first != nil && (w.Component != "" || len(untold) == len(named)):
		return first
	case len(untold) > 0:
		r.warn("restore option %s: NOT told to these, which take no restore options, and are restored as at the instant of the backup: %s; --component chooses others", optionNames(w.Options), someOf(untold))
	}
	return nil
}

// takesOptions says why a component can be told no restore options; nil if it can.
func (r *restore) takesOptions(c *Component, flag string) error {
	if !c.Selectable {
		return vss.Errorf(vss.ErrInvalidArgument, "restore", c.Label(), `--%s: it is not selectable for backup, and only such components have restore options; name the one above it: --%[1]s 'COMPONENT:"name"="value"'`, flag) // R-RES-31
	}
	if err := takesPart(c, flag); err != nil {
		return err
	}
	if slices.Contains(r.req.Wishes.Optionless, c.Writer.Class) {
		return vss.Errorf(vss.ErrNotSupported, "restore", c.Label(), `--%s: its writer knows no restore option; leave it out, or name the component that it is for: --%[1]s 'COMPONENT:"name"="value"'`, flag)
	}
	return nil
}

// optionNames lists the names of options: values may be nobody's business.
func optionNames(options []vss.RestoreOption) string {
	var names []string
	for _, o := range options {
		names = append(names, quoted(o.Name))
	}
	return someOf(names)
}

// hasSub reports whether a member of the component's set is, or lies below, what
// the sub names: a path below the component that knows no case.
func hasSub(c *Component, sub string) bool {
	full := strings.ToLower(c.FullPath() + `\` + strings.Trim(sub, `\`))
	return slices.ContainsFunc(c.Members(), func(m *Component) bool {
		at := strings.ToLower(m.FullPath())
		return at == full || strings.HasPrefix(at, full+`\`)
	})
}

// resolveNewTarget is R-RES-21. A text that can be read in several ways means the
// first that fits the documents.
func (r *restore) resolveNewTarget(ctx context.Context, w NewTargetWish) error {
	const flag = "new-target"
	var first error
	for _, way := range append([]NewTargetWish{w}, w.others...) {
		to := r.newTarget
		if way.Below != "" {
			to = r.newTargetBelow
		}
		err := to(ctx, flag, way)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

func (r *restore) newTarget(ctx context.Context, flag string, w NewTargetWish) error {
	named, err := r.setsNamed(flag, w.Component, true)
	if err != nil {
		return err
	}
	want := r.expanded(ctx, w.Spec)
	type match struct {
		s *setRun
		t *newTarget
	}
	var found []match
	for _, s := range r.sets {
		members, ok := named[s]
		if !ok {
			continue
		}
		for _, m := range s.set.Component.Set() {
			if !s.set.Covers(m) || members != nil && !slices.Contains(members, m) {
				continue
			}
			for i := range m.Files {
				f := &m.Files[i]
				if f.Spec.Equal(w.Spec, r.style) || r.expanded(ctx, f.Spec).Equal(want, r.style) {
					found = append(found, match{s, &newTarget{member: m, file: f, path: w.Path}})
				}
			}
		}
	}
	if len(found) == 0 {
		return vss.Errorf(vss.ErrObjectNotFound, "restore", "--"+flag+" "+w.String(), "no component that is restored has the file set %s; there are: %s", // R-RES-21
			specText(w.Spec), someOf(r.fileSets(named)))
	}
	for _, m := range found {
		c := m.s.set.Component
		if err := takesPart(c, flag); err != nil {
			return err
		}
		if err := lacksSchema(c, "--"+flag, vss.SchemaNewTarget); err != nil {
			return err
		}
		if slices.ContainsFunc(m.s.told.newTargets, func(t *newTarget) bool { return t.file == m.t.file }) {
			return vss.Errorf(vss.ErrObjectAlreadyExists, "restore", c.Label(), "--%s: the file set %s has a new target already; give it one", flag, specText(w.Spec))
		}
		if m.t.from, err = r.place(ctx, m.t.file.Spec.Path, probe); err == nil {
			m.t.to, err = r.place(ctx, w.Path, probe)
		}
		if err != nil {
			return fmt.Errorf("--%s %s: %w", flag, w, err)
		}
		m.t.from, m.t.to = above(m.t.from), above(m.t.to)
		m.t.root = m.t.to
		m.s.told.newTargets = append(m.s.told.newTargets, m.t)
	}
	return nil
}

// fileSets are those of the components that setsNamed gave.
func (r *restore) fileSets(named map[*setRun][]*Component) (list []string) {
	for _, s := range r.sets {
		members, ok := named[s]
		for _, m := range s.set.Component.Set() {
			if !ok || !s.set.Covers(m) || members != nil && !slices.Contains(members, m) {
				continue
			}
			for _, f := range m.Files {
				list = append(list, specText(f.Spec))
			}
		}
	}
	return list
}

// someOf names the first of a list, and how many more there are.
func someOf(list []string) string {
	const most = 10
	slices.Sort(list)
	list = slices.Compact(list)
	switch {
	case len(list) == 0:
		return "none"
	case len(list) <= most:
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

// expanded is a file specification with its directory as this host has it, or as
// it is where the host has none.
func (r *restore) expanded(ctx context.Context, spec vss.FileSpec) vss.FileSpec {
	if p, err := r.place(ctx, spec.Path, probe); err == nil {
		spec.Path = HostPath(r.style, above(p))
	}
	return spec
}

// resolveName gives a component its new name.
func (r *restore) resolveName(w NameWish) error {
	const flag = "new-name"
	named, err := r.setsNamed(flag, w.Component, false)
	if err != nil {
		return err
	}
	if len(named) != 1 {
		return vss.Errorf(vss.ErrInvalidArgument, "restore", "", "--%s %s is for one component, and %d are chosen; name one: --%s COMPONENT=NAME", flag, quoted(w.Name), len(named), flag)
	}
	for s := range named {
		c := s.set.Component
		if err := takesPart(c, flag); err != nil {
			return err
		}
		if err := lacksSchema(c, "--"+flag, vss.SchemaRestoreRename); err != nil {
			return err
		}
		if s.told.name != "" {
			return vss.Errorf(vss.ErrObjectAlreadyExists, "restore", c.Label(), "--%s: it has the new name %s already; give it one", flag, quoted(s.told.name))
		}
		s.told.name = w.Name
	}
	return nil
}

// resolveFlags enters what is asked of all components that are restored.
func (r *restore) resolveFlags(w *Wishes) error {
	flags := []struct {
		asked bool
		flag  string
		bit   vss.BackupSchema
		set   func(*instructions)
	}{
		{w.Authoritative, "authoritative", vss.SchemaAuthoritativeRestore, func(t *instructions) { t.authoritative = true }},
		{w.Instance != "", "to-instance", vss.SchemaRestoreWithMove, func(*instructions) {}},
	}
	for _, f := range flags {
		if !f.asked {
			continue
		}
		if len(r.sets) == 0 {
			return vss.Errorf(vss.ErrObjectNotFound, "restore", "", "--%s: no component is restored", f.flag)
		}
		for _, s := range r.sets {
			c := s.set.Component
			if err := takesPart(c, f.flag); err != nil {
				return err
			}
			if err := lacksSchema(c, "--"+f.flag, f.bit); err != nil {
				return fmt.Errorf("%w; choose with --component those whose writers know it", err)
			}
			f.set(&s.told)
		}
	}
	return r.resolveRollForward(w)
}

// resolveRollForward has those components rolled forward whose writers have logs to
// replay. The others are restored as they were at the backup's instant, as files of
// no writer are, and a line says which. If there is none to roll forward, that is an
// error.
func (r *restore) resolveRollForward(w *Wishes) error {
	const flag = "roll-forward"
	if w.RollForward == vss.RollForwardUndefined {
		return nil
	}
	if len(r.sets) == 0 {
		return vss.Errorf(vss.ErrObjectNotFound, "restore", "", "--%s: no component is restored", flag)
	}
	var first error
	var stay []string
	for _, s := range r.sets {
		c := s.set.Component
		err := takesPart(c, flag)
		if err == nil {
			err = lacksSchema(c, "--"+flag, vss.SchemaRollForwardRestore)
		}
		if err == nil {
			s.told.rollForward, s.told.point = w.RollForward, w.Point
			continue
		}
		if first == nil {
			first = err
		}
		stay = append(stay, c.Label())
	}
	if len(stay) == len(r.sets) {
		return first
	}
	if len(stay) > 0 && w.RollForward != vss.RollForwardNone {
		const most = 5
		more := ""
		if n := len(stay) - most; n > 0 {
			stay, more = stay[:most], fmt.Sprintf(" and %d more", n)
		}
		r.warn("NOT rolled forward, but restored as at the instant of the backup, since their writers keep no logs to replay: %s%s; --component chooses others", strings.Join(stay, ", "), more)
	}
	return nil
}

// instance finds the writer instance to restore into among those that run; zero if
// the components go to their own.
func (r *restore) instance(ctx context.Context) (vss.GUID, error) {
	name := r.req.Wishes.Instance
	if name == "" {
		return vss.GUID{}, nil
	}
	infos, err := r.sess.WriterMetadata(ctx)
	if err != nil {
		return vss.GUID{}, err
	}
	id, _ := vss.ParseGUID(name)
	running, _ := readWriters(infos)
	var found *Writer
	var names []string
	for _, w := range running {
		names = append(names, w.Label())
		if w.Instance != id && w.InstanceName != name {
			continue
		}
		if !slices.ContainsFunc(r.sets, func(s *setRun) bool { return s.set.Component.Writer.Class == w.Class }) {
			continue
		}
		if found != nil {
			return vss.GUID{}, vss.Errorf(vss.ErrInvalidArgument, "restore", "", "--to-instance %s names several writers; use the GUID of one", quoted(name))
		}
		found = w
	}
	if found == nil {
		return vss.GUID{}, vss.Errorf(vss.ErrObjectNotFound, "restore", "", "--to-instance %s names no running writer of what is restored; running: %s",
			quoted(name), strings.Join(names[:min(len(names), 10)], ", "))
	}
	for _, s := range r.sets {
		if c := s.set.Component; c.Writer.Class != found.Class { // R-SEL-30
			return vss.GUID{}, vss.Errorf(vss.ErrInvalidArgument, "restore", c.Label(), "--to-instance %s: that is a writer of another class; choose with --component", quoted(name)) // R-SEL-30
		}
	}
	return found.Instance, nil
}

// tell makes the calls for a component set that is selected.
func (r *restore) tell(ctx context.Context, s *setRun) error {
	c, t := s.set.Component.Session(), &s.told
	if len(t.options) > 0 {
		text, err := vss.FormatRestoreOptions(t.options)
		if err != nil {
			return err
		}
		if err := r.sess.SetRestoreOptions(ctx, c, text); err != nil {
			return err
		}
	}
	for _, n := range t.newTargets {
		if err := r.sess.AddNewTarget(ctx, c, n.file.Spec, n.path); err != nil {
			return err
		}
	}
	if t.authoritative {
		if err := r.sess.SetAuthoritativeRestore(ctx, c, true); err != nil {
			return err
		}
	}
	if t.rollForward != vss.RollForwardUndefined {
		if err := r.sess.SetRollForward(ctx, c, t.rollForward, t.point); err != nil {
			return err
		}
	}
	if t.name != "" {
		return r.sess.SetRestoreName(ctx, c, t.name)
	}
	return nil
}

// lines are what is told, for people.
func (t *instructions) lines(instance string) (out []string) {
	if text, err := vss.FormatRestoreOptions(t.options); err == nil && text != "" {
		out = append(out, "restore options "+text)
	}
	for _, n := range t.newTargets {
		out = append(out, "new target "+specText(n.file.Spec)+" to "+n.path)
	}
	if t.authoritative {
		out = append(out, "authoritative")
	}
	switch t.rollForward {
	case vss.RollForwardNone, vss.RollForwardAll:
		out = append(out, "roll forward "+t.rollForward.Word())
	case vss.RollForwardPartial:
		out = append(out, "roll forward to "+t.point)
	}
	if t.name != "" {
		out = append(out, "new name "+t.name)
	}
	if instance != "" {
		out = append(out, "to instance "+instance)
	}
	return out
}

// is reports whether a status is of the writer that restores the set: the one
// that was backed up, which has a new instance id since it was started again, or
// the one it is moved to.
func (s *setRun) is(st session.WriterStatus) bool {
	w := s.set.Component.Writer
	if !s.into.IsZero() {
		return st.Writer == w.Class && st.Instance == s.into
	}
	return st.Writer == w.Class && (st.Instance == w.Instance || st.InstanceName == w.InstanceName)
}
