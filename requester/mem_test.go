package requester

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// memVolume is a volume in memory: names from its root to what they are. A
// name that ends in a slash is a directory.
type memVolume struct {
	id, root string
	files    map[string]string // content; links as "-> target"
	inodes   map[string]uint64
	times    map[string]time.Time
	live     map[string]string // content of files read live, if it is not that of files
	mounts   map[string]bool   // directories another volume begins at
	atomic   bool
	unserved string
	// unclaimed: an estimate says that data of no writer is copied too.
	unclaimed bool
}

// memHost is a host in memory with one session at a time: enough of a session
// for a requester, with a log of the calls that matter in their order.
type memHost struct {
	session.Session // panics in calls a test did not expect
	volumes         []*memVolume
	writers         []session.WriterInfo
	calls           []string
	explicit        []session.Component
	succeeded       map[string]bool
	scopes          map[string]session.Scope
	snaps           map[vss.GUID]*memVolume
	fail            map[string]error // by call
	status          map[string][]session.WriterStatus
	phase           string
	bcd             *metadata.BackupComponents
	after           func(call string)
	native          bool
	later           time.Duration // what the receipt's instant is later than others'
}

func newMemHost(volumes ...*memVolume) *memHost {
	return &memHost{volumes: volumes, fail: map[string]error{}, status: map[string][]session.WriterStatus{}}
}

func (h *memHost) open(context.Context) (session.Session, error) {
	h.explicit, h.succeeded, h.scopes, h.snaps = nil, map[string]bool{}, map[string]session.Scope{}, map[vss.GUID]*memVolume{}
	h.bcd = metadata.NewBackupComponents()
	return h, nil
}

func (h *memHost) call(ctx context.Context, name string) error {
	h.calls = append(h.calls, name)
	if h.after != nil {
		h.after(name)
	}
	if err := ctx.Err(); err != nil && name != "AbortBackup" {
		return err
	}
	return h.fail[name]
}

func (h *memHost) saw(name string) bool { return slices.Contains(h.calls, name) }

func (h *memHost) Host(context.Context) (session.Host, error) {
	return session.Host{ID: "mem", Name: "mem", OS: "linux", Native: h.native}, nil
}
func (h *memHost) Close() error { return h.call(context.Background(), "Close") }
func (h *memHost) InitializeForBackup(ctx context.Context, _ []byte) error {
	return h.call(ctx, "InitializeForBackup")
}
func (h *memHost) SetContext(ctx context.Context, c vss.SnapshotContext) error {
	return h.call(ctx, "SetContext "+c.String())
}
func (h *memHost) SetBackupState(ctx context.Context, s session.BackupState) error {
	h.bcd.SetBackupState(metadata.BackupState{SelectComponents: s.SelectComponents, BootableSystemState: s.BootableSystemState, Type: s.Type, PartialFileSupport: s.PartialFileSupport})
	return h.call(ctx, "SetBackupState "+s.Type.Word())
}
func (h *memHost) GatherWriterMetadata(ctx context.Context, _ session.Progress) error {
	return h.call(ctx, "GatherWriterMetadata")
}
func (h *memHost) WriterMetadata(context.Context) ([]session.WriterInfo, error) {
	return h.writers, nil
}
func (h *memHost) FreeWriterMetadata(context.Context) error { return nil }
func (h *memHost) AddComponent(ctx context.Context, c session.Component) error {
	h.explicit = append(h.explicit, c)
	if _, err := h.bcd.AddComponent(metadata.WriterKey{InstanceID: c.Instance, ClassID: c.Writer}, c.Type, c.LogicalPath, c.Name); err != nil {
		return err
	}
	return h.call(ctx, "AddComponent "+vss.FullPath(c.LogicalPath, c.Name))
}
func (h *memHost) StartSnapshotSet(ctx context.Context) (vss.GUID, error) {
	return vss.NewGUID(), h.call(ctx, "StartSnapshotSet")
}
func (h *memHost) IsVolumeSupported(_ context.Context, _ vss.GUID, volume string) (session.Support, error) {
	v := h.volume(volume)
	if v.unserved != "" {
		return session.Support{}, vss.Errorf(vss.ErrVolumeNotSupported, "choose", v.root, "%s", v.unserved)
	}
	return session.Support{Provider: session.Provider{Name: "mem", ID: classOf("mem")},
		Capabilities: provider.Capabilities{Atomic: v.atomic, NeedsScope: !v.atomic}}, nil
}
func (h *memHost) AddToSnapshotSet(ctx context.Context, volume string, _ vss.GUID, s session.Scope) (vss.GUID, error) {
	if err := h.call(ctx, "AddToSnapshotSet "+volume); err != nil {
		return vss.GUID{}, err
	}
	for _, c := range s.Claims { // as the service does
		if !slices.ContainsFunc(h.writers, func(w session.WriterInfo) bool { return w.Instance.String() == c.Writer }) {
			return vss.GUID{}, vss.Errorf(vss.ErrInvalidArgument, "AddToSnapshotSet", volume, "a claim of writer instance %q", c.Writer)
		}
	}
	id := vss.NewGUID()
	h.scopes[volume], h.snaps[id] = s, h.volume(volume)
	return id, nil
}
func (h *memHost) QuerySnapshots(context.Context) ([]session.SnapshotProperties, error) {
	return nil, nil
}
func (h *memHost) Estimates(ctx context.Context) (out []session.Estimate, err error) {
	for id, v := range h.snaps {
		e := session.Estimate{Snapshot: id, Volume: v.id, Atomic: v.atomic}
		e.Unclaimed = v.unclaimed
		if err := h.fail["Estimate "+v.id]; err != nil {
			e.Refusal = err.Error()
		}
		out = append(out, e)
	}
	return out, h.call(ctx, "Estimates")
}
func (h *memHost) PrepareForBackup(ctx context.Context, _ session.Progress) error {
	h.phase = "prepare"
	return h.call(ctx, "PrepareForBackup")
}
func (h *memHost) DoSnapshotSet(ctx context.Context, _ session.Progress) error {
	h.phase = "snapshot"
	return h.call(ctx, "DoSnapshotSet")
}
func (h *memHost) BackupComplete(ctx context.Context, _ session.Progress) error {
	h.phase = "complete"
	return h.call(ctx, "BackupComplete")
}
func (h *memHost) GatherWriterStatus(ctx context.Context, _ session.Progress) error {
	return h.call(ctx, "GatherWriterStatus")
}
func (h *memHost) WriterStatus(context.Context) ([]session.WriterStatus, error) {
	return h.status[h.phase], nil
}
func (h *memHost) FreeWriterStatus(context.Context) error { return nil }
func (h *memHost) Receipt(context.Context) (session.Receipt, error) {
	return session.Receipt{Instant: time.Unix(1e9, 0).Add(h.later)}, nil
}
func (h *memHost) SnapshotProperties(_ context.Context, id vss.GUID) (session.SnapshotProperties, error) {
	return session.SnapshotProperties{State: vss.SnapshotCreated}, h.fail["SnapshotProperties"]
}
func (h *memHost) SetBackupSucceeded(ctx context.Context, c session.Component, ok bool) error {
	h.succeeded[vss.FullPath(c.LogicalPath, c.Name)] = ok
	b, err := h.bcd.Component(vss.ComponentID{WriterClass: c.Writer, LogicalPath: c.LogicalPath, Name: c.Name})
	if err != nil {
		return err
	}
	if err := b.SetBackupSucceeded(ok); err != nil {
		return err
	}
	return h.call(ctx, "SetBackupSucceeded")
}
func (h *memHost) SaveAsXML(ctx context.Context) ([]byte, error) {
	return h.bcd.SaveAsXML(), h.call(ctx, "SaveAsXML")
}
func (h *memHost) BackupComponents(context.Context) ([]byte, error) { return h.bcd.SaveAsXML(), nil }
func (h *memHost) AbortBackup(ctx context.Context) error            { return h.call(ctx, "AbortBackup") }

func (h *memHost) volume(id string) *memVolume {
	for _, v := range h.volumes {
		if v.id == id {
			return v
		}
	}
	return nil
}

func (h *memHost) ResolvePath(_ context.Context, p string) (session.Location, error) {
	clean := vss.POSIX.Clean(p)
	var best *memVolume
	for _, v := range h.volumes {
		if vss.POSIX.Within(v.root, clean) && (best == nil || len(v.root) > len(best.root)) {
			best = v
		}
	}
	if best == nil || !vss.POSIX.IsAbs(clean) {
		return session.Location{}, fmt.Errorf("no volume for %s", p)
	}
	rel, _ := vss.POSIX.Rel(best.root, clean)
	if rel == "" {
		rel = "."
	}
	return session.Location{Volume: best.id, Name: rel, Path: clean}, nil
}

func (h *memHost) Volume(_ context.Context, id string) (session.Volume, error) {
	v := h.volume(id)
	if v == nil {
		return session.Volume{}, vss.ErrObjectNotFound
	}
	return session.Volume{ID: v.id, Root: v.root, FSType: "memfs", Persistent: true, TimesTell: true}, nil
}

func (h *memHost) VolumesUnder(_ context.Context, p string) (out []session.Location, err error) {
	on, err := h.ResolvePath(context.Background(), p)
	if err != nil {
		return nil, err
	}
	for _, v := range h.volumes {
		if v.id != on.Volume && vss.POSIX.Within(p, v.root) {
			out = append(out, session.Location{Volume: v.id, Name: ".", Path: v.root})
		}
	}
	return out, nil
}

func (h *memHost) Tree(_ context.Context, id vss.GUID) (session.Tree, error) {
	return &memTree{v: h.snaps[id], source: session.FromShadow}, nil
}

func (h *memHost) Live(_ context.Context, id string) (session.Tree, error) {
	return &memTree{v: h.volume(id), source: session.FromLive}, nil
}

// memTree is a tree over a memVolume.
type memTree struct {
	session.Tree
	v      *memVolume
	source session.Source
}

func (m *memTree) Close() error { return nil }

func (m *memTree) entry(name string) (session.Entry, bool) {
	e := session.Entry{Name: path.Base(name), Perm: 0o644, Modified: time.Unix(1e9, 0), Changed: time.Unix(1e9, 0), Links: 1, Source: m.source}
	if content, ok := m.v.files[name]; ok {
		if live, ok := m.v.live[name]; ok && m.source == session.FromLive {
			content = live
		}
		e.Size, e.Allocated = int64(len(content)), int64(len(content))
		if at, ok := m.v.times[name]; ok {
			e.Modified, e.Changed = at, at
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			e.Mode, e.Target = fs.ModeSymlink, target
		}
		if content == "socket" {
			e.Mode = fs.ModeSocket
		}
		if n := m.v.inodes[name]; n != 0 {
			e.Inode, e.Links = n, 2
		} else {
			h := fnv.New64a() // one that stays, as long as the file does
			h.Write([]byte(name))
			e.Inode = h.Sum64()
		}
		return e, true
	}
	dir := name == "."
	for f := range m.v.files {
		dir = dir || strings.HasPrefix(f, name+"/")
	}
	if dir {
		e.Mode, e.Perm, e.MountPoint = fs.ModeDir, 0o755, m.v.mounts[name]
	}
	return e, dir
}

func (m *memTree) Lstat(_ context.Context, name string) (session.Entry, error) {
	e, ok := m.entry(name)
	if !ok {
		return e, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return e, nil
}

func (m *memTree) ReadDir(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	if _, err := m.Lstat(ctx, name); err != nil {
		return err
	}
	seen := map[string]bool{}
	for f := range m.v.files {
		rest := f
		if name != "." {
			var ok bool
			if rest, ok = strings.CutPrefix(f, name+"/"); !ok {
				continue
			}
		}
		first, _, _ := strings.Cut(rest, "/")
		if first != "" {
			seen[first] = true
		}
	}
	var list []string
	for n := range seen {
		list = append(list, n)
	}
	slices.Sort(list)
	for _, n := range list {
		e, _ := m.entry(path.Join(name, n))
		if err := fn(e, nil); err != nil {
			return err
		}
	}
	return nil
}

type memFile struct {
	*bytes.Reader
	tree *memTree
	name string
}

func (m *memTree) Open(ctx context.Context, name string) (session.File, error) {
	content, ok := m.v.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if live, ok := m.v.live[name]; ok && m.source == session.FromLive {
		content = live
	}
	if content == "unreadable" {
		return &memFile{bytes.NewReader(nil), m, name}, nil
	}
	return &memFile{bytes.NewReader([]byte(content)), m, name}, nil
}

func (f *memFile) Close() error                                    { return nil }
func (f *memFile) Stat(ctx context.Context) (session.Entry, error) { return f.tree.Lstat(ctx, f.name) }
func (f *memFile) Data(context.Context) ([]vss.Range, error)       { return nil, vss.ErrNotSupported }
func (f *memFile) Stream(context.Context, string) (io.ReadCloser, error) {
	return nil, vss.ErrNotSupported
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if f.tree.v.files[f.name] == "unreadable" {
		return 0, fmt.Errorf("a bad block")
	}
	return f.Reader.ReadAt(p, off)
}

// document builds a writer's document and adds the writer to the host.
func (h *memHost) writer(t testing.TB, name string, build func(m *metadata.WriterMetadata) []error) *session.WriterInfo {
	t.Helper()
	id := metadata.Identity{InstanceID: vss.NewGUID(), ClassID: classOf(name), Name: name, InstanceName: name + " instance",
		Usage: vss.UsageUserData, Source: vss.SourceOther}
	m, err := metadata.NewWriterMetadata(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetRestoreMethod(metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways}); err != nil {
		t.Fatal(err)
	}
	for _, err := range build(m) {
		if err != nil {
			t.Fatal(err)
		}
	}
	h.writers = append(h.writers, session.WriterInfo{Instance: id.InstanceID, Document: m.SaveAsXML()})
	return &h.writers[len(h.writers)-1]
}

func fileGroup(m *metadata.WriterMetadata, full string, selectable bool, specs ...vss.FileSpec) error {
	p, name := vss.SplitFullPath(full)
	err := m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeFileGroup, LogicalPath: p, Name: name, Selectable: selectable})
	for _, s := range specs {
		if err == nil {
			err = m.AddFilesToFileGroup(p, name, s, "", vss.DefaultFileSpecBackupType)
		}
	}
	return err
}

func spec(dir, pattern string, recursive bool) vss.FileSpec {
	return vss.FileSpec{Path: dir, Pattern: pattern, Recursive: recursive}
}

func memRepo(t testing.TB) *repository.Repository {
	t.Helper()
	repo, err := repository.Create(t.Context(), mem.New(), []byte("x"), repository.Options{
		KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}, TempDir: t.TempDir(), Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { repo.Close() })
	return repo
}

// backedUp runs a backup and gives the record's regular files with their
// content, and the set each belongs to.
func backedUp(t testing.TB, h *memHost, r Request) (*Result, map[string]string, map[string]string) {
	t.Helper()
	repo := memRepo(t)
	res, err := Backup(t.Context(), h.open, repo, r, nil)
	if err != nil {
		t.Fatalf("backup: %v", err)
	}
	content, sets := readRecord(t, repo, res.Record)
	return res, content, sets
}

func readRecord(t testing.TB, repo *repository.Repository, rec *repository.Record) (content, sets map[string]string) {
	t.Helper()
	content, sets = map[string]string{}, map[string]string{}
	for e, err := range rec.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != repository.Regular {
			if e.Type == repository.Directory && e.Attrs[AttrRole] == "" {
				content[e.Path+"/"] = ""
			}
			continue
		}
		if e.Attrs[AttrOutcome] == "failed" {
			content[e.Path] = "FAILED"
			continue
		}
		f, err := repo.OpenContent(t.Context(), e.Content)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, f.Size())
		if _, err := f.ReadAt(buf, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		content[e.Path] = string(buf)
		if e.Attrs[AttrWriter] != "" {
			sets[e.Path] = e.Attrs[AttrWriter] + ":" + e.Attrs[AttrComponentSet]
		}
	}
	return content, sets
}

func keysOf(m map[string]string) string {
	var out []string
	for k := range m {
		if !strings.HasSuffix(k, "/") {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
