package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator/host"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// classFilter is what Enable- and DisableWriterClasses and
// DisableWriterInstances said.
type classFilter struct {
	enabled   []vss.GUID
	disabled  []vss.GUID
	instances []vss.GUID
}

func (f classFilter) allows(class, instance vss.GUID) bool {
	if len(f.enabled) > 0 && !slices.Contains(f.enabled, class) {
		return false
	}
	return !slices.Contains(f.disabled, class) && !slices.Contains(f.instances, instance)
}

func (s *service) filterCall(ctx context.Context, op string, fn func()) error {
	_, leave, err := s.enter(ctx, op, 0, gathered)
	if err != nil {
		return err
	}
	defer leave()
	if !s.has(inBackup) && !s.has(inRestore) {
		return vss.Errorf(vss.ErrBadState, op, "", "it must come after InitializeForBackup or InitializeForRestore")
	}
	fn()
	return nil
}

// EnableWriterClasses implements [session.Setup].
func (s *service) EnableWriterClasses(ctx context.Context, classes ...vss.GUID) error {
	return s.filterCall(ctx, "EnableWriterClasses", func() { s.filter.enabled = append(s.filter.enabled, classes...) })
}

// DisableWriterClasses implements [session.Setup].
func (s *service) DisableWriterClasses(ctx context.Context, classes ...vss.GUID) error {
	return s.filterCall(ctx, "DisableWriterClasses", func() { s.filter.disabled = append(s.filter.disabled, classes...) })
}

// DisableWriterInstances implements [session.Setup].
func (s *service) DisableWriterInstances(ctx context.Context, instances ...vss.GUID) error {
	return s.filterCall(ctx, "DisableWriterInstances", func() { s.filter.instances = append(s.filter.instances, instances...) })
}

// GatherWriterMetadata implements [session.Writers].
func (s *service) GatherWriterMetadata(ctx context.Context, p session.Progress) error {
	ctx, leave, err := s.enter(ctx, "GatherWriterMetadata", 0, gathered)
	if err != nil {
		return err
	}
	defer leave()
	if !s.has(inBackup) && !s.has(inRestore) {
		return vss.Errorf(vss.ErrBadState, "GatherWriterMetadata", "", "it must come after InitializeForBackup or InitializeForRestore")
	}
	if err := s.slots.take(s.id); err != nil {
		return err
	}
	if s.noWriters() {
		s.reached(gathered)
		return nil
	}
	g := &gathering{service: s, pr: newReporter(p)}
	defer g.pr.end()
	if err := g.builtIn(ctx); err != nil {
		return err
	}
	g.foreign(ctx)
	for _, w := range s.opts.InProcess {
		guard := writer.NewGuard(w, s.log) // what other processes' writers have on their side
		g.found = append(g.found, &participant{w: guard, desc: guard.Describe()})
	}
	g.identify(ctx)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	s.reached(gathered)
	return nil
}

// gathering is one GatherWriterMetadata.
type gathering struct {
	*service
	pr    *reporter
	mu    sync.Mutex
	found []*participant
}

// maxHosts is how many writer hosts are started at once.
const maxHosts = 4

// builtIn finds the built-in writers and starts their hosts. A required writer
// that does not start is an error; any other is left out, logged, and has a status
// that says so.
func (g *gathering) builtIn(ctx context.Context) error {
	specs, err := g.discover(ctx)
	if err != nil {
		return err
	}
	var (
		wg   sync.WaitGroup
		sem  = make(chan struct{}, maxHosts)
		errs []error
	)
	for _, group := range host.Group(specs) {
		wg.Go(func() {
			sem <- struct{}{}
			defer func() { <-sem }()
			err := g.start(ctx, group)
			g.mu.Lock()
			defer g.mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// discover asks every kind for its instances, all at the same time.
func (g *gathering) discover(ctx context.Context) ([]writer.Spec, error) {
	stored, err := g.storedWriters()
	if err != nil {
		return nil, err
	}
	if err := g.knownKinds(); err != nil {
		return nil, err
	}
	var (
		wg    sync.WaitGroup
		kinds = slices.DeleteFunc(slices.Clone(g.opts.Kinds), func(k writer.Kind) bool { return !g.filter.allows(k.Class(), vss.GUID{}) })
		found = make([][]writer.Spec, len(kinds))
		errs  = make([]error, len(kinds))
		dir   = g.cacheDir()
	)
	for i, k := range kinds {
		wg.Go(func() {
			d := writer.Discovery{
				Paths: g.opts.Paths, Running: g.opts.Running, Auto: !g.opts.NoDiscovery && g.has(inBackup), Stored: stored,
				Exclude: g.excluded, CacheDir: dir,
			}
			for _, c := range g.opts.Options.Writers {
				if c.Kind == k.Name() {
					d.Configs = append(d.Configs, writer.Config{Kind: c.Kind, Name: c.Name, Required: c.Required, Config: c.Config})
				}
			}
			var err error
			if found[i], err = k.Discover(ctx, d); err != nil {
				errs[i] = &vss.Error{Op: "find writers of kind", Object: k.Name(), Code: vss.CodeOf(err), Err: err}
			}
		})
	}
	wg.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return nil, errs[i]
	}
	for i, k := range kinds {
		found[i] = g.few(k, found[i])
	}
	return slices.Concat(found...), nil
}

// knownKinds refuses a configured writer of a kind that this program lacks.
func (g *gathering) knownKinds() error {
	var names []string
	for _, k := range g.opts.Kinds {
		names = append(names, k.Name())
	}
	for _, c := range g.opts.Options.Writers {
		if !slices.Contains(names, c.Kind) {
			return vss.Errorf(vss.ErrInvalidArgument, "start writer", c.Name, "there is no kind %q of writer; there are %s", c.Kind, strings.Join(names, ", "))
		}
	}
	return nil
}

// start runs one writer host and takes in its writers.
func (g *gathering) start(ctx context.Context, specs []writer.Spec) error {
	h, err := g.people.hire(ctx, g.opts, specs)
	if err != nil {
		return g.notStarted(specs, err)
	}
	var errs []error
	served := make(map[string]bool)
	for _, w := range h.Writers() {
		served[w.Spec.Name] = true
	}
	var rejected []writer.Spec
	for i, serr := range h.Errors() {
		switch {
		case serr != nil:
			errs = append(errs, g.notStarted(specs[i:i+1], serr))
		case !served[specs[i].Name]:
			rejected = append(rejected, specs[i])
		}
	}
	g.reject(ctx, rejected)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range h.Writers() {
		spec := w.Spec
		p := &participant{
			w: w, desc: w.Describe(), spec: &spec, lost: h.Done(), kill: h.Kill,
			discovered: spec.Discovered, required: spec.Required,
		}
		if spec.Owner.UID != 0 && g.host.Privileged {
			p.uid = &spec.Owner.UID
		}
		g.found = append(g.found, p)
	}
	return errors.Join(errs...)
}

// reject lets a kind remember what on a closer look was not its own.
func (g *gathering) reject(ctx context.Context, specs []writer.Spec) {
	if len(specs) == 0 {
		return
	}
	dir := g.cacheDir()
	for _, k := range g.opts.Kinds {
		r, ok := k.(writer.Rejecter)
		if !ok || dir == "" || k.Name() != specs[0].Kind {
			continue
		}
		if err := r.Rejected(ctx, dir, specs); err != nil {
			g.log.Info("not remembered for the next run", "kind", k.Name(), "error", err)
		}
	}
}

// notStarted decides what it means that writers could not be started. A backup that
// can do without them goes on without, and their status says so. In a restore they
// are needed.
func (g *gathering) notStarted(specs []writer.Spec, err error) error {
	for _, s := range specs {
		if s.Required || !s.Discovered && !g.has(inBackup) {
			return &vss.Error{Op: "start writer", Object: s.Name, Code: vss.ErrWriterInfrastructure, Err: err}
		}
	}
	g.log.Warn("writers could not be started", "first", specs[0].Name, "count", len(specs), "error", err)
	for _, s := range specs {
		g.missing(session.WriterStatus{Name: s.Kind, InstanceName: s.Name, State: vss.WriterFailedAtIdentify,
			Failure: vss.ErrWriterInfrastructure, Message: err.Error(), Event: writer.EventIdentify.String()})
	}
	return nil
}

// missing keeps the status of a writer that was found and is not listed, so that
// nobody takes its data for data of no writer without being told.
func (g *gathering) missing(st session.WriterStatus) {
	if st.Instance.IsZero() {
		st.Instance = vss.NewGUID() // it never said its own
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.absent = append(g.absent, st)
}

// foreign connects to writers of other programs, to all at the same time: one
// that does not answer is left out and logged, as anybody may leave a socket
// behind, and must not cost the others their time.
func (g *gathering) foreign(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, g.limits.Identify)
	defer cancel()
	var wg sync.WaitGroup
	paths := socketPaths(g.opts.SocketDirs)
	found := make([][]*participant, len(paths))
	for i, path := range paths {
		wg.Go(func() {
			var err error
			if found[i], err = g.visit(ctx, path); err != nil {
				g.log.Warn("the writers at this socket are left out", "socket", path, "error", err)
			}
		})
	}
	wg.Wait()
	g.found = slices.Concat(append([][]*participant{g.found}, found...)...)
}

// visit connects to the writers of one program.
func (g *gathering) visit(ctx context.Context, path string) ([]*participant, error) {
	v, err := g.people.visit(ctx, path)
	if err != nil {
		return nil, err
	}
	if v.uid != 0 && !g.host.Privileged && !isSelf(v.uid) {
		return nil, fmt.Errorf("they are of another user, uid %d", v.uid)
	}
	ws, err := v.Writers(ctx)
	if err != nil {
		return nil, err
	}
	var list []*participant
	for _, w := range ws {
		p := &participant{w: w, desc: w.Describe(), lost: v.Done(), socket: path}
		if v.uid != 0 && g.host.Privileged {
			p.uid = &v.uid
		}
		if !countsAlike(v.pid) {
			p.unnamed = "the processes it names cannot be known, as it runs in another pid namespace"
		}
		list = append(list, p)
	}
	return list, nil
}

// identify sends Identify to all that were found. One that fails is left out of
// the list.
func (g *gathering) identify(ctx context.Context) {
	each(g.found, func(p *participant) {
		done := g.pr.begin(writer.EventIdentify.String(), "")
		err := g.identifyOne(ctx, p)
		done(err)
		if err != nil {
			p.fail(writer.EventIdentify, err, nil)
			if !errors.Is(err, writer.ErrNotMine) {
				if p.instanceName == "" && p.spec != nil {
					p.instanceName = p.spec.Name
				}
				if p.name == "" && p.spec != nil {
					p.name = p.spec.Kind // else nobody could tell whether it was asked for
				}
				g.log.Warn("writer left out: Identify failed", "writer", p.instanceName, "error", err)
				g.missing(p.status())
			}
		}
	})
	var list []*participant
	for _, p := range g.found {
		if p.out || !g.filter.allows(p.class, p.instance) {
			continue
		}
		// Those found first are the built-in ones: no other program's
		// writer takes the place of one of these.
		if i := slices.IndexFunc(list, func(o *participant) bool { return o.instance == p.instance }); i >= 0 {
			g.log.Warn("writer left out: another one has its instance id", "writer", p.instanceName, "socket", p.socket,
				"instance", p.instance, "other", list[i].instanceName)
			continue
		}
		p.state = vss.WriterStable
		list = append(list, p)
	}
	slices.SortStableFunc(list, func(a, b *participant) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.instanceName, b.instanceName))
	})
	g.writers = list
}

// identifyOne has a limit of its own around the writer's code.
func (g *gathering) identifyOne(ctx context.Context, p *participant) error {
	ctx, cancel := context.WithTimeoutCause(ctx, g.limits.Identify,
		vss.Errorf(vss.ErrWriterNotResponding, "Identify", p.instanceName, "no answer within %v", g.limits.Identify))
	defer cancel()
	type answer struct {
		doc []byte
		err error
	}
	got := make(chan answer, 1)
	go func() {
		m, err := p.w.Identify(ctx)
		if err != nil {
			got <- answer{err: err}
			return
		}
		got <- answer{doc: m.SaveAsXML()}
	}()
	select {
	case a := <-got:
		if a.err != nil {
			return p.explain(ctx, writer.EventIdentify, a.err)
		}
		return g.takeIn(ctx, p, a.doc)
	case <-p.lost:
		return p.lostError(writer.EventIdentify)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// WriterMetadata implements [session.Writers].
func (s *service) WriterMetadata(ctx context.Context) ([]session.WriterInfo, error) {
	_, leave, err := s.enter(ctx, "GetWriterMetadata", gathered, freed)
	if err != nil {
		return nil, err
	}
	defer leave()
	list := make([]session.WriterInfo, 0, len(s.writers))
	for _, p := range s.writers {
		list = append(list, session.WriterInfo{
			Instance: p.instance, Document: slices.Clone(p.document), Discovered: p.discovered, Required: p.required, Foreign: p.uid != nil,
			FilesStill: p.desc.Stillness == writer.FilesStill, NothingHeld: p.desc.Stillness == writer.NothingHeld, NamesProcesses: p.desc.NamesProcesses,
			ReadsPaused: p.desc.ReadsPaused, Weak: p.desc.Weak, CrashConsistent: p.desc.CrashConsistent,
		})
	}
	return list, nil
}

// FreeWriterMetadata implements [session.Writers].
func (s *service) FreeWriterMetadata(ctx context.Context) error {
	_, leave, err := s.enter(ctx, "FreeWriterMetadata", gathered, 0)
	if err != nil {
		return err
	}
	defer leave()
	s.reached(freed)
	return nil
}
