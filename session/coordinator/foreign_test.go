package coordinator_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// gathered lists the instance names of the writers of a session.
func gathered(t *testing.T, r *rig) []session.WriterInfo {
	t.Helper()
	must(t, r.to("GatherWriterMetadata"))
	list, err := r.s.WriterMetadata(deadline(t))
	must(t, err)
	return list
}

// TestForeignWriterMayDeclareItsOwnFilesOnly: root would read what a user's writer
// declares, and write there in a restore.
func TestForeignWriterMayDeclareItsOwnFilesOnly(t *testing.T) {
	needRoot(t)
	base := scratch(t)
	must(t, os.Chmod(base, 0o755))
	his, roots := filepath.Join(base, "his"), filepath.Join(base, "roots")
	for _, d := range []string{his, roots} {
		must(t, os.Mkdir(d, 0o755))
		must(t, os.WriteFile(filepath.Join(d, "f"), []byte("x"), 0o644))
	}
	must(t, os.Chown(his, nobody, nobody))
	must(t, os.Chown(filepath.Join(his, "f"), nobody, nobody))
	link := filepath.Join(his, "link")
	must(t, os.Symlink(roots, link))
	must(t, os.Lchown(link, nobody, nobody))
	mixed := filepath.Join(base, "mixed")
	must(t, os.Mkdir(mixed, 0o755))
	must(t, os.WriteFile(filepath.Join(mixed, "f"), []byte("x"), 0o644))
	must(t, os.Chown(mixed, nobody, nobody))
	for dir, ok := range map[string]bool{
		his: true, filepath.Join(his, "not there yet"): true,
		roots: false, link: false, mixed: false, filepath.Join(roots, "not there"): false, "/no/such/directory": false,
	} {
		t.Run(strings.TrimPrefix(dir, base+"/"), func(t *testing.T) {
			r := newRig(t)
			log := new(logBuffer)
			r.o.Log = log.logger()
			r.o.SocketDirs = []string{startWriter(t, nobody, dir)}
			if got := len(gathered(t, r)) == 1; got != ok {
				t.Errorf("taken: %v, want %v", got, ok)
			}
			if told := strings.Contains(log.String(), "does not own"); told == ok {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// TestForeignWriterMayDirectToItsOwnFilesOnly: root would write where a user's
// writer directs a restore.
func TestForeignWriterMayDirectToItsOwnFilesOnly(t *testing.T) {
	needRoot(t)
	base := scratch(t)
	must(t, os.Chmod(base, 0o755))
	his, roots := filepath.Join(base, "his"), filepath.Join(base, "roots")
	for _, d := range []string{his, roots} {
		must(t, os.Mkdir(d, 0o755))
	}
	for _, f := range []string{"his/f", "his/roots", "roots/f", "roots/his"} {
		must(t, os.WriteFile(filepath.Join(base, f), []byte("x"), 0o644))
	}
	must(t, os.Symlink(roots, filepath.Join(base, "link")))
	for _, f := range []string{"his", "his/f", "roots/his"} {
		must(t, os.Chown(filepath.Join(base, f), nobody, nobody))
	}
	sockets := startWriter(t, nobody, his)
	must(t, os.Chown(filepath.Join(his, "roots"), nobody, nobody)) // until it is identified
	for _, tt := range []struct {
		to string
		ok bool
	}{
		{"his/f", true}, {"his/new", true}, {"his/sub/new", true}, {"roots/his", true},
		{"roots/f", false}, {"roots/new", false}, {"his/roots", false}, {"link/f", false}, {"elsewhere/new", false},
	} {
		t.Run(tt.to, func(t *testing.T) {
			r := newRig(t)
			r.o.SocketDirs = []string{sockets}
			r.o.Log = new(logBuffer).logger()
			direct := filepath.Join(his, "direct")
			must(t, os.WriteFile(direct, []byte(filepath.Join(base, tt.to)), 0o644))
			must(t, os.Chown(direct, nobody, nobody))
			c := deadline(t)
			s := r.open()
			must(t, s.InitializeForRestore(c, directDocument(t), nil))
			must(t, s.GatherWriterMetadata(c, nil))
			list, err := s.WriterMetadata(c)
			must(t, err)
			if len(list) != 1 {
				t.Fatalf("%d writers", len(list))
			}
			if !list[0].Foreign {
				t.Error("it is not told that the writer is another user's")
			}
			must(t, s.SetSelectedForRestore(c, session.Component{Writer: scriptClass, Type: vss.ComponentTypeFileGroup, Name: "data"}, true, vss.GUID{}))
			must(t, os.Chown(filepath.Join(his, "roots"), 0, 0))
			defer os.Chown(filepath.Join(his, "roots"), nobody, nobody)
			must(t, s.PreRestore(c, nil))
			st, err := s.WriterStatus(c)
			if err != nil {
				must(t, s.GatherWriterStatus(c, nil))
				st, err = s.WriterStatus(c)
			}
			must(t, err)
			if ok := st[0].State == vss.WriterStable; ok != tt.ok || !ok && !strings.Contains(st[0].Message, "may direct nothing there") {
				t.Errorf("%v: %s", st[0].State, st[0].Message)
			}
		})
	}
}

// TestForeignWriterMayListItsOwnFilesOnly: root would read the partial and
// differenced files that a user's writer lists, and its ranges files.
func TestForeignWriterMayListItsOwnFilesOnly(t *testing.T) {
	needRoot(t)
	base := scratch(t)
	must(t, os.Chmod(base, 0o755))
	for _, d := range []string{"his", "roots"} {
		must(t, os.Mkdir(filepath.Join(base, d), 0o755))
		must(t, os.WriteFile(filepath.Join(base, d, "f"), []byte("x"), 0o644))
	}
	his := filepath.Join(base, "his")
	for _, f := range []string{"his", "his/f"} {
		must(t, os.Chown(filepath.Join(base, f), nobody, nobody))
	}
	must(t, os.Symlink("../roots", filepath.Join(his, "link")))
	must(t, os.Lchown(filepath.Join(his, "link"), nobody, nobody))
	sockets := startWriter(t, nobody, his)
	list := filepath.Join(his, "list")
	for text, ok := range map[string]bool{
		"partial his/f": true, "partial his/new": true, "partial roots/f": false, "partial roots/new": false, "partial his/link/f": false,
		"ranges his/f": true, "ranges roots/f": false, "ranges his/link/f": false,
		"set his/*": true, "set roots/*": false, "tree his/f": true, "tree roots/none": false,
	} {
		t.Run(text, func(t *testing.T) {
			r := newRig(t)
			r.o.SocketDirs = []string{sockets}
			r.o.Log = new(logBuffer).logger()
			way, file, _ := strings.Cut(text, " ")
			must(t, os.WriteFile(list, []byte(way+" "+filepath.Join(base, file)), 0o644))
			must(t, os.Chown(list, nobody, nobody))
			c := deadline(t)
			must(t, r.to("InitializeForBackup"))
			must(t, r.s.SetBackupState(c, session.BackupState{SelectComponents: true, Type: vss.BackupTypeFull, PartialFileSupport: true}))
			must(t, r.from("SetBackupState", "GatherWriterMetadata"))
			list, err := r.s.WriterMetadata(c)
			must(t, err)
			must(t, r.s.AddComponent(c, session.Component{Instance: list[0].Instance, Writer: scriptClass, Type: vss.ComponentTypeFileGroup, Name: "data"}))
			must(t, r.from("AddComponent", "StartSnapshotSet"))
			must(t, r.s.PrepareForBackup(c, nil))
			st := statusOf(t, r.s, list[0].Instance)
			failed := st.State == vss.WriterFailedAtPrepareBackup
			if failed == ok || failed && !strings.Contains(st.Message, "may list nothing there") {
				t.Errorf("%v: %s", st.State, st.Message)
			}
		})
	}
}

// directDocument is a stored document with the component of a scripted writer.
func directDocument(t *testing.T) []byte {
	t.Helper()
	doc := metadata.NewBackupComponents()
	must(t, doc.SetBackupState(metadata.BackupState{SelectComponents: true, Type: vss.BackupTypeFull}))
	_, err := doc.AddComponent(metadata.WriterKey{InstanceID: vss.NewGUID(), ClassID: scriptClass}, vss.ComponentTypeFileGroup, "", "data")
	must(t, err)
	return doc.SaveAsXML()
}

// TestSocketThatDoesNotAnswer costs the writers at other sockets nothing.
func TestSocketThatDoesNotAnswer(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.dir, "data")
	must(t, os.Mkdir(dir, 0o755))
	sockets := startWriter(t, uint32(os.Getuid()), dir)
	for _, name := range []string{"a.sock", "z.sock"} {
		l, err := net.Listen("unix", filepath.Join(sockets, name))
		must(t, err)
		defer l.Close() // and nobody accepts
	}
	must(t, os.WriteFile(filepath.Join(sockets, "file.sock"), nil, 0o600))
	r.o.SocketDirs = []string{sockets, "/no/such/directory"}
	r.o.Limits.Identify = 3 * time.Second
	start := time.Now()
	if n := len(gathered(t, r)); n != 1 {
		t.Errorf("%d writers, want the one that answers", n)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestInstanceIDIsTakenOnce: no writer takes the place of another by its id.
func TestInstanceIDIsTakenOnce(t *testing.T) {
	r := newRig(t, "one")
	r.o.InProcess = append(r.o.InProcess, r.writers[0])
	log := new(logBuffer)
	r.o.Log = log.logger()
	if n := len(gathered(t, r)); n != 1 {
		t.Errorf("%d writers with one instance id", n)
	}
	if !strings.Contains(log.String(), "has its instance id") {
		t.Errorf("log: %s", log)
	}
}

// TestWhatWritersSayIsLogged: the standard error of a writer host is in the
// session's log, bounded.
func TestWhatWritersSayIsLogged(t *testing.T) {
	r := hostedRig(t, scriptConfig{Say: "the disk is\x1b[2J on fire\n" + strings.Repeat("long", 1<<16) + "\n" + strings.Repeat("x\n", 5000) + "the last"})
	log := new(logBuffer)
	r.o.Log = log.logger()
	gatherHosted(t, r)
	must(t, r.from("AddComponent", "PrepareForBackup"))
	must(t, r.s.Close())
	text := log.String()
	if !strings.Contains(text, `on fire`) || strings.Contains(text, "\x1b") || !strings.Contains(text, "script writer's process") {
		t.Errorf("what it said is not in the log, or raw: %.500q", text)
	}
	if !strings.Contains(text, "more than is shown") || len(text) > 1<<18 {
		t.Errorf("%d bytes were logged", len(text))
	}
}

// TestConfiguredAndDiscovered: a writer that is configured is said to be, and one
// that was found to have been found, as requesters let the first win.
func TestConfiguredAndDiscovered(t *testing.T) {
	r := hostedRig(t, scriptConfig{})
	found := filepath.Join(r.dir, "found")
	must(t, os.Mkdir(found, 0o755))
	r.o.Options.Paths = []string{found}
	r.o.Kinds = []writer.Kind{findingKind{}}
	var got []string
	for _, w := range gathered(t, r) {
		if w.Discovered {
			got = append(got, "discovered")
		} else {
			got = append(got, "configured")
		}
	}
	if strings.Join(got, " ") != "discovered configured" {
		t.Errorf("got %v", got)
	}
	r.o.NoDiscovery = true
	r.s = nil
	if list := gathered(t, r); len(list) != 1 || list[0].Discovered {
		t.Errorf("without discovery: %+v", list)
	}
}

// TestDiscoveredFreezeLimit: a writer that nobody configured has less time to
// freeze, and one that takes longer is out alone.
func TestDiscoveredFreezeLimit(t *testing.T) {
	r := newRig(t, "one")
	found := filepath.Join(r.dir, "found")
	must(t, os.Mkdir(found, 0o755))
	r.o.Options.Paths = []string{found}
	r.o.Kinds = []writer.Kind{findingKind{}}
	r.o.Limits.Discovered = time.Second
	must(t, r.to("AddComponent"))
	list, err := r.s.WriterMetadata(deadline(t))
	must(t, err)
	for _, w := range list {
		if !w.Discovered {
			continue
		}
		must(t, r.s.AddComponent(deadline(t), session.Component{Instance: w.Instance, Writer: scriptClass, Type: vss.ComponentTypeFileGroup, Name: "data"}))
		must(t, r.from("AddComponent", "DoSnapshotSet"))
		if st := statusOf(t, r.s, w.Instance); st.State != vss.WriterFailedAtFreeze || st.Failure != vss.ErrWriterErrorTimeout {
			t.Errorf("the discovered writer: %+v", st)
		}
		if st := r.status(r.writers[0]); st.State != vss.WriterWaitingForBackupComplete {
			t.Errorf("the other: %+v", st)
		}
		return
	}
	t.Error("no writer was discovered")
}
