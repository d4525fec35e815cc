package requester_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/requester/internal/model"
	"github.com/sombra-backup/sombra/vss"
)

// storeCase is one configuration of the Test Writer that is backed up five times
// while its data changes, and restored to each point.
type storeCase struct {
	typ       string // of the backups after the first, or "mixed"
	database  bool
	mask      string
	lists     string // what the writer lists
	alternate bool
}

func (c storeCase) name() string {
	kind, alternate := "filegroup", ""
	if c.database {
		kind = "database"
	}
	if c.alternate {
		alternate = "/alternate"
	}
	return fmt.Sprintf("%s/%s/%s/%s%s", c.typ, kind, c.mask, c.lists, alternate)
}

// storeMasks are the masks of the file set that the case is about.
var storeMasks = map[string]vss.FileSpecBackupType{
	"default":         vss.DefaultFileSpecBackupType,
	"base-only":       vss.FullBackupRequired | vss.AllSnapshotRequired,
	"no-incremental":  vss.DefaultFileSpecBackupType &^ vss.IncrementalBackupRequired,
	"no-differential": vss.DefaultFileSpecBackupType &^ vss.DifferentialBackupRequired,
	"no-full":         vss.DefaultFileSpecBackupType &^ vss.FullBackupRequired,
	"log-only":        vss.LogBackupRequired | vss.LogSnapshotRequired,
	"live":            vss.AllBackupRequired,
}

// storeLists are what a writer can list of its files.
var storeLists = []string{"none", "differenced", "partial", "partial-file"}

// storeCases gives every configuration.
func storeCases() (out []storeCase) {
	for _, typ := range []string{"full", "copy", "incremental", "differential", "log", "mixed"} {
		for _, mask := range slices.Sorted(maps.Keys(storeMasks)) {
			for _, lists := range storeLists {
				for _, kind := range []storeCase{{}, {alternate: true}, {database: true}} {
					kind.typ, kind.mask, kind.lists = typ, mask, lists
					out = append(out, kind)
				}
			}
		}
	}
	return out
}

// backups is how many backups a chain has.
const backups = 5

// TestStoresComeBackAsTheyWere makes chains of five backups of the Test Writer's
// data on the real service, for every type, kind of component, mask and list, and
// restores each point into an empty place. What each record holds and what each
// restore leaves is compared with the plain model, and where the writer has all
// that changes saved also with copies kept aside. A part of the configurations
// is tested without SOMBRA_TORTURE, another one each time; SOMBRA_SEED chooses.
func TestStoresComeBackAsTheyWere(t *testing.T) {
	all := storeCases()
	r, n := seededTest(t, len(all))
	if n < len(all) {
		n = 32
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var mu sync.Mutex
	var sum storeCounts
	t.Run("cases", func(t *testing.T) {
		for _, c := range all[:n] {
			seed := r.Uint64()
			t.Run(c.name(), func(t *testing.T) {
				t.Parallel()
				counts := runStore(t, c, seed)
				mu.Lock()
				defer mu.Unlock()
				sum.add(counts)
			})
		}
	})
	t.Logf("%d of %d configurations: %d backups and %d files in their records, %d restores and %d files, of which %d also compared with copies kept aside",
		n, len(all), sum.backups, sum.held, sum.restores, sum.files, sum.kept)
}

// seededTest gives a source of random numbers whose seed is printed if the test
// fails, and how many of all configurations to run.
func seededTest(t *testing.T, all int) (*rand.Rand, int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SOMBRA_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatalf("SOMBRA_SEED is %q, and no number: %v", s, err)
		}
	}
	t.Logf("SOMBRA_SEED=%d", seed)
	if os.Getenv("SOMBRA_TORTURE") == "" {
		all = (all + 9) / 10
	}
	return rand.New(rand.NewPCG(seed, 0)), all
}

// storeCounts is what was compared.
type storeCounts struct{ backups, restores, kept, held, files int }

func (c *storeCounts) add(o storeCounts) {
	c.backups += o.backups
	c.restores += o.restores
	c.kept += o.kept
	c.held += o.held
	c.files += o.files
}

func runStore(t *testing.T, c storeCase, seed uint64) storeCounts {
	s := newComplexStore(t, c, seed)
	for i := range backups {
		if i > 0 {
			s.change()
		}
		s.backup(i, s.typeOf(i))
	}
	s.anew() // what is restored is what the medium has
	for i, rec := range s.recs {
		var err error
		if s.recs[i], err = s.repo.Record(t.Context(), rec.ID.String()); err != nil {
			t.Fatal(err)
		}
	}
	both := os.Getenv("SOMBRA_TORTURE") != ""
	for i := range backups {
		sequential := s.r.IntN(2) == 0
		s.restore(i, sequential)
		if both {
			s.restore(i, !sequential)
		}
	}
	return s.counts
}

// complexStore is the data of a case, the service over it, and what the model
// knows of both.
type complexStore struct {
	*world
	c      storeCase
	r      *rand.Rand
	clock  time.Time
	number int    // of the next file or ranges file
	aside  string // the directory of ranges files
	w      model.Writer
	h      model.History
	lying  bool         // the writer's ranges are not those that changed
	bare   bool         // no shadow copy is made, nothing needs one
	trees  []model.Tree // as they were at each backup: the copies kept aside
	dirs   [][]string
	when   []time.Time
	recs   []*repository.Record
	log    bytes.Buffer // the Test Writer's; nothing should be in it
	counts storeCounts
}

func newComplexStore(t *testing.T, c storeCase, seed uint64) *complexStore {
	t.Helper()
	s := &complexStore{world: newWorld(t), c: c, r: rand.New(rand.NewPCG(seed, 1)), clock: time.Unix(1_700_000_000, 0), aside: scratch(t)}
	dir, _ := filepath.EvalSymlinks(s.dir)
	s.dir = dir
	for _, name := range []string{"data/a.db", "data/b.db", "data/c.db", "data/skip.tmp", "logs/1.log", "logs/2.log", "sub/deep/one.s", "journal/j1", "plain/file"} {
		s.put(name, s.content())
	}
	s.mkdir("added")
	s.mkdir("sub/empty")
	s.put("data/large.db", strings.Repeat("0123456789abcdef", 30_000))
	if !c.database {
		s.put("data/below/d.db", s.content())
	}
	s.lying = strings.HasPrefix(c.lists, "partial") && s.r.IntN(4) == 0
	s.bare = c.mask == "live" && !c.alternate
	s.w = s.writer()
	return s
}

// content is something that no other file holds.
func (s *complexStore) content() string {
	b := make([]byte, 20+s.r.IntN(4000))
	for i := range b {
		b[i] = byte('a' + s.r.IntN(26))
	}
	return string(b)
}

// put makes a file, modified later than any other.
func (s *complexStore) put(name, content string) {
	s.t.Helper()
	s.write(name, content)
	s.touch(name)
}

func (s *complexStore) touch(name string) {
	s.t.Helper()
	s.clock = s.clock.Add(time.Minute)
	if err := os.Chtimes(s.path(name), s.clock, s.clock); err != nil {
		s.t.Fatal(err)
	}
}

// typeOf is the type of a backup of the chain.
func (s *complexStore) typeOf(i int) vss.BackupType {
	if s.c.typ == "mixed" {
		if i == 0 {
			return vss.BackupTypeFull
		}
		return oneOf(s.r, vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeIncremental, vss.BackupTypeDifferential,
			vss.BackupTypeDifferential, vss.BackupTypeLog, vss.BackupTypeLog, vss.BackupTypeCopy)
	}
	typ, err := vss.ParseBackupType(s.c.typ)
	if err != nil {
		s.t.Fatal(err)
	}
	if i == 0 && typ != vss.BackupTypeCopy {
		return vss.BackupTypeFull
	}
	return typ
}

func oneOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// writer is the Test Writer's configuration, but for what it lists.
func (s *complexStore) writer() model.Writer {
	mask := storeMasks[s.c.mask]
	data := model.Set{Spec: model.Spec{Dir: s.path("data"), Pattern: "*.db"}, Mask: mask}
	main := model.Component{Path: "Store", Database: s.c.database, Selectable: true}
	if s.c.database {
		main.Sets = []model.Set{data, {Spec: model.Spec{Dir: s.path("logs"), Pattern: "*.log"}, Mask: vss.DefaultFileSpecBackupType, Log: true}}
	} else {
		data.Pattern, data.Recursive = "*", true
		if s.c.alternate {
			data.Alternate = s.path("spit")
		}
		main.Sets = []model.Set{data, {Spec: model.Spec{Dir: s.path("logs"), Pattern: "*.log"}, Mask: vss.DefaultFileSpecBackupType &^ vss.FullBackupRequired}}
	}
	w := model.Writer{
		Name:     "store",
		Schema:   vss.SchemaCopy | vss.SchemaIncremental | vss.SchemaDifferential | vss.SchemaLog | vss.SchemaNewTarget,
		Excludes: []model.Spec{{Dir: s.dir, Pattern: "*.tmp", Recursive: true}},
		Components: []model.Component{main,
			{Path: `Store\Sub`, Sets: []model.Set{{Spec: model.Spec{Dir: s.path("sub"), Pattern: "*.s", Recursive: true}, Mask: vss.DefaultFileSpecBackupType}}},
			// The example of D-29: with every log backup, whole, and with no full one.
			{Path: "Journal", Sets: []model.Set{{Spec: model.Spec{Dir: s.path("journal"), Pattern: "*"}, Mask: vss.LogBackupRequired | vss.LogSnapshotRequired}}},
		},
	}
	for _, c := range w.Components {
		for i := range c.Sets {
			if s.bare {
				c.Sets[i].Mask &= vss.AllBackupRequired
			}
		}
	}
	return w
}

// tree reads the data as it is.
func (s *complexStore) tree() (files model.Tree, dirs []string) {
	s.t.Helper()
	files = model.Tree{}
	err := filepath.WalkDir(s.dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".sombra":
			return filepath.SkipDir
		case d.IsDir():
			dirs = append(dirs, p)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		files[p] = model.File{Data: string(data), Time: info.ModTime().Unix(), ID: fileID(s.t, p)}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return files, dirs
}

// backup makes one backup and compares its record with the model's.
func (s *complexStore) backup(i int, typ vss.BackupType) {
	t := s.t
	t.Helper()
	s.list(typ)
	s.startWriter()
	files, dirs := s.tree()
	s.trees, s.dirs = append(s.trees, maps.Clone(files)), append(s.dirs, dirs)
	for _, c := range s.w.Components {
		for _, set := range c.Sets {
			for path, f := range files {
				if set.Alternate != "" && set.Has(path) && !strings.HasSuffix(path, ".tmp") {
					f.ID = 0
					files[set.Alternate+strings.TrimPrefix(path, set.Dir)] = f // as the writer copies it when it freezes (T-5)
				}
			}
		}
	}
	var paths []string
	if !s.bare {
		paths = []string{s.path("plain")}
	}
	want := s.h.Backup([]model.Writer{s.w}, model.Host{Shadow: files}, model.Ask{Type: typ, Paths: paths,
		Explicit: map[string][]string{"store": s.w.Explicit("Store")}})
	res, err := requester.Backup(t.Context(), s.open, s.repo, requester.Request{Type: typ, Paths: paths,
		Selectors: requester.Selectors{Writers: []string{"store"}}}, nil)
	if err != nil {
		t.Fatalf("backup %d, %v: %v", i, typ, err)
	}
	if res.Outcome != requester.Complete {
		t.Fatalf("backup %d, %v: outcome %v: %+v %s", i, typ, res.Outcome, res.Failures, leftOut(res.LeftOut))
	}
	s.recs = append(s.recs, res.Record)
	s.counts.backups++
	s.compareRecord(i, typ, want)
	s.clock = s.clock.Add(time.Minute)
	s.when = append(s.when, s.clock)
	if s.log.Len() > 0 {
		t.Fatalf("backup %d, %v: the writer complains: %s", i, typ, s.log.String())
	}
}

// compareRecord compares a record with the model's.
func (s *complexStore) compareRecord(i int, typ vss.BackupType, want *model.Record) {
	t := s.t
	t.Helper()
	got := map[string]string{}
	for e, err := range s.recs[i].Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != repository.Regular {
			continue
		}
		got["/"+e.Path] = contentOf(t, s.repo, e)
	}
	for path, e := range want.Files {
		content, ok := got[path]
		delete(got, path)
		s.counts.held++
		switch {
		case !ok:
			t.Errorf("backup %d, %v: the record lacks %s", i, typ, path)
		case len(content) != len(e.Data):
			t.Errorf("backup %d, %v: %s has %d bytes in the record, want %d", i, typ, path, len(content), len(e.Data))
		default:
			if e.Now != "" {
				e.Data = either(content, e.Data, e.Now)
				want.Files[path] = e
			}
			if at := differs(content, e.Data, e.Known); at >= 0 {
				t.Errorf("backup %d, %v: %s differs in the record from byte %d on", i, typ, path, at)
			}
		}
	}
	for path := range got {
		t.Errorf("backup %d, %v: the record has %s, and should not", i, typ, path)
	}
	if t.Failed() {
		t.Fatalf("%+v\n%s", want.Parts, s.say())
	}
}

// either gives the bytes wanted where a file has others than those and than it
// had: what was wanted, or more of the file.
func either(got, want, now string) string {
	out := []byte(want)
	for i := range out {
		if got[i] == now[i] {
			out[i] = now[i]
		}
	}
	return string(out)
}

// differs gives the first byte that is another one where it counts, or -1.
func differs(got, want string, known []bool) int {
	for i := range want {
		if got[i] != want[i] && (known == nil || known[i]) {
			return i
		}
	}
	return -1
}

// say describes the case for a test that fails.
func (s *complexStore) say() string {
	var b strings.Builder
	for _, c := range s.w.Components {
		fmt.Fprintf(&b, "%s: differenced %+v, partial %+v\n", c.Path, c.Differenced, c.Partial)
	}
	for i, rec := range s.h {
		fmt.Fprintf(&b, "record %d: %+v\n", i, rec.Parts)
	}
	return b.String()
}

// restore empties the place, restores one point and compares.
func (s *complexStore) restore(i int, sequential bool) {
	t := s.t
	t.Helper()
	s.wipe()
	s.w.Components[0].Differenced, s.w.Components[0].Partial = nil, nil // lists are of backups
	s.startWriter()
	back, err := requester.Restore(t.Context(), s.open, s.repo, s.recs[i], requester.RestoreRequest{Sequential: sequential}, nil)
	if err != nil {
		t.Fatalf("restore of %d, sequential %v: %v", i, sequential, err)
	}
	if back.Outcome != requester.Complete {
		t.Fatalf("restore of %d, sequential %v: outcome %v: %s %+v %q\n%s", i, sequential, back.Outcome, leftOut(back.LeftOut), back.Failures, back.Warnings, s.say())
	}
	s.counts.restores++
	want := s.h.RestoreAll(i)
	got, dirs := s.tree()
	for path, w := range want {
		f, ok := got[path]
		delete(got, path)
		s.counts.files++
		if !ok || len(f.Data) != len(w) || differs(f.Data, w, nil) >= 0 {
			t.Errorf("restore of %d, sequential %v: %s: there %v, %d bytes, want %d, other from %d on", i, sequential, path, ok, len(f.Data), len(w), differs(f.Data+strings.Repeat("\x00", len(w)), w, nil))
		}
	}
	for path := range got {
		t.Errorf("restore of %d, sequential %v: %s is there", i, sequential, path)
	}
	s.compareDirs(i, dirs)
	s.compareKept(i, want)
	if s.log.Len() > 0 {
		t.Errorf("restore of %d, sequential %v: the writer complains: %s", i, sequential, s.log.String())
	}
	if t.Failed() {
		t.Fatal(s.say())
	}
}

// compareDirs looks for the directories that the last backup of the chain that
// is no log had: those of recursive sets come back empty too (R-SET-3).
func (s *complexStore) compareDirs(i int, got []string) {
	s.t.Helper()
	chain := s.h.Chain(i, model.ID{Writer: "store", Component: "Store"})
	for s.h[chain[len(chain)-1]].Parts[model.ID{Writer: "store", Component: "Store"}].Type == vss.BackupTypeLog {
		chain = chain[:len(chain)-1]
	}
	sub := s.w.Components[1].Sets[0].Spec
	want := sub.Dirs(s.dirs[chain[len(chain)-1]])
	if have := sub.Dirs(got); !slices.Equal(have, want) {
		s.t.Errorf("restore of %d: directories %q, want %q (R-SET-3)", i, have, want)
	}
}

// compareKept compares what was restored with the copy kept aside, where the
// writer had everything saved that changed: then the model must say the same.
func (s *complexStore) compareKept(i int, restored map[string]string) {
	s.t.Helper()
	for path, e := range s.h[i].Files {
		if e.Known != nil || s.lies(path, e) {
			continue
		}
		if kept, ok := s.trees[i][path]; !ok || kept.Data != restored[path] {
			s.t.Errorf("restore of %d: %s is not what the copy kept aside is", i, path)
		}
		s.counts.kept++
	}
}

// lies reports whether the writer did not have a file saved as it was.
func (s *complexStore) lies(path string, e model.Entry) bool {
	set := s.w.Components[0].Sets[0]
	if strings.HasPrefix(path, s.path("added")) {
		return s.lying || s.c.lists == "differenced" // which are not listed each time
	}
	return set.Has(path) && (s.lying || s.c.lists == "none" && s.c.mask != "default" && s.c.mask != "live")
}

func fileID(t *testing.T, path string) uint64 {
	t.Helper()
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &x); err != nil {
		t.Fatal(err)
	}
	return x.Ino ^ uint64(x.Btime.Sec)<<32 ^ uint64(x.Btime.Nsec)<<20
}

func contentOf(t *testing.T, repo *repository.Repository, e *repository.Entry) string {
	t.Helper()
	f, err := repo.OpenContent(t.Context(), e.Content)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
