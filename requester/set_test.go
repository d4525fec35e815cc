package requester

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

func volume(files ...string) *memVolume {
	v := &memVolume{id: "root", root: "/", files: map[string]string{}, inodes: map[string]uint64{}, mounts: map[string]bool{}, atomic: true}
	for _, f := range files {
		v.files[f] = "content of " + f
	}
	return v
}

func TestMatchSetR_SET_4(t *testing.T) {
	v := volume("Directory1/File1.txt", "Directory1/File2.txt", "Directory1/Directory2/File1.txt", "Directory1/Directory2/File2.txt")
	v.files["Directory1/Directory3/"] = "" // empty
	tr := &memTree{v: v}
	for _, tt := range []struct {
		set  provider.FileSet
		want string
	}{
		{provider.FileSet{Dir: "Directory1", Pattern: "File1.*", Recursive: true},
			"Directory1/ Directory1/Directory2/ Directory1/Directory2/File1.txt Directory1/Directory3/ Directory1/File1.txt"},
		{provider.FileSet{Dir: "Directory1", Pattern: "*", Recursive: true},
			"Directory1/ Directory1/Directory2/ Directory1/Directory2/File1.txt Directory1/Directory2/File2.txt Directory1/Directory3/ Directory1/File1.txt Directory1/File2.txt"},
		{provider.FileSet{Dir: "Directory1", Pattern: "*"}, "Directory1/File1.txt Directory1/File2.txt"},
		{provider.FileSet{Dir: "Directory1", Pattern: "File2.txt"}, "Directory1/File2.txt"},
	} {
		var got []string
		err := matchSet(t.Context(), tr, tt.set, false, func(name string, e session.Entry, err error) error {
			if err != nil {
				return err
			}
			if e.Mode.IsDir() {
				name += "/"
			}
			got = append(got, name)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%+v: %q, want %q", tt.set, got, tt.want)
		}
	}
}

func TestMatchSetMissingNamesR_SET_5(t *testing.T) {
	tr := &memTree{v: volume("d/a")}
	for _, tt := range []struct {
		set     provider.FileSet
		missing bool
	}{
		{provider.FileSet{Dir: "d", Pattern: "b"}, true},
		{provider.FileSet{Dir: "e", Pattern: "b"}, true},
		{provider.FileSet{Dir: "d", Pattern: "b", Recursive: true}, true},
		{provider.FileSet{Dir: "e", Pattern: "b", Recursive: true}, true},
		{provider.FileSet{Dir: "d", Pattern: "b*"}, false},
		{provider.FileSet{Dir: "e", Pattern: "*"}, false},
		{provider.FileSet{Dir: "e", Pattern: "*", Recursive: true}, false},
	} {
		missing := false
		err := matchSet(t.Context(), tr, tt.set, false, func(name string, _ session.Entry, err error) error {
			missing = missing || errors.Is(err, fs.ErrNotExist)
			return nil
		})
		if err != nil || missing != tt.missing {
			t.Errorf("%+v: missing %v (%v), want %v", tt.set, missing, err, tt.missing)
		}
	}
}

func TestBackupSequence(t *testing.T) {
	h := newMemHost(volume("srv/app/db", "srv/notes"))
	h.writer(t, "app", func(m *metadata.WriterMetadata) []error {
		return []error{fileGroup(m, "main", true, spec("/srv/app", "db", false))}
	})
	res, content, sets := backedUp(t, h, Request{Paths: []string{"/srv"}})
	if res.Outcome != Complete {
		t.Fatalf("outcome %v, left out %+v, failures %+v", res.Outcome, res.LeftOut, res.Failures)
	}
	want := []string{"InitializeForBackup", "SetContext VSS_CTX_BACKUP", "SetBackupState copy", "GatherWriterMetadata", "GatherWriterStatus",
		"AddComponent main", "StartSnapshotSet", "AddToSnapshotSet root", "Estimates", "PrepareForBackup", "GatherWriterStatus",
		"DoSnapshotSet", "GatherWriterStatus", "SetBackupSucceeded", "SaveAsXML", "BackupComplete", "GatherWriterStatus", "Close"}
	if !slices.Equal(h.calls, want) {
		t.Errorf("calls\n%q, want\n%q", h.calls, want)
	}
	if keysOf(content) != "srv/app/db srv/notes" || sets["srv/app/db"] != "app:main" || sets["srv/notes"] != "" {
		t.Errorf("content %q, sets %v", keysOf(content), sets)
	}
}

func TestBackupNeverCompletesWithoutARecord(t *testing.T) {
	for _, call := range []string{"GatherWriterMetadata", "AddComponent main", "StartSnapshotSet", "Estimates", "PrepareForBackup",
		"DoSnapshotSet", "SnapshotProperties", "SetBackupSucceeded", "SaveAsXML"} {
		t.Run(call, func(t *testing.T) {
			h := newMemHost(volume("srv/app/db"))
			h.writer(t, "app", func(m *metadata.WriterMetadata) []error {
				return []error{fileGroup(m, "main", true, spec("/srv/app", "db", false))}
			})
			h.fail[call] = errors.New("as the test wants")
			repo := memRepo(t)
			res, err := Backup(t.Context(), h.open, repo, Request{Paths: []string{"/srv"}}, nil)
			if err == nil || res.Outcome != Failed || res.Record != nil {
				t.Fatalf("outcome %v, error %v", res.Outcome, err)
			}
			if h.saw("BackupComplete") || !h.saw("AbortBackup") || !h.saw("Close") {
				t.Errorf("calls %q", h.calls)
			}
			if list, _ := repo.Records(t.Context()); len(list) != 0 {
				t.Errorf("%d records", len(list))
			}
		})
	}
}

func TestBackupIsInterruptedAnywhere(t *testing.T) {
	for _, call := range []string{"GatherWriterMetadata", "StartSnapshotSet", "PrepareForBackup", "DoSnapshotSet", "SetBackupSucceeded", "BackupComplete"} {
		t.Run(call, func(t *testing.T) {
			h := newMemHost(volume("srv/app/db"))
			h.writer(t, "app", func(m *metadata.WriterMetadata) []error {
				return []error{fileGroup(m, "main", true, spec("/srv/app", "db", false))}
			})
			ctx, cancel := context.WithCancel(t.Context())
			h.after = func(c string) {
				if c == call {
					cancel()
				}
			}
			repo := memRepo(t)
			res, err := Backup(ctx, h.open, repo, Request{Paths: []string{"/srv"}}, nil)
			if call == "BackupComplete" {
				if err != nil || res.Outcome != Complete || !h.saw("BackupComplete") {
					t.Fatalf("outcome %v, %v: the record was there, and the writers must hear of it", res.Outcome, err)
				}
				return
			}
			if res.Outcome != Interrupted || !errors.Is(err, context.Canceled) {
				t.Fatalf("outcome %v, error %v", res.Outcome, err)
			}
			if h.saw("BackupComplete") || !h.saw("AbortBackup") {
				t.Errorf("calls %q", h.calls)
			}
		})
	}
}

func failedWriter(info *session.WriterInfo, state vss.WriterState) session.WriterStatus {
	return session.WriterStatus{Instance: info.Instance, Name: "app", State: state, Failure: vss.ErrWriterErrorTimeout}
}

func TestBackupOutcomes(t *testing.T) {
	app := func(m *metadata.WriterMetadata) []error {
		return []error{fileGroup(m, "main", true, spec("/srv/app", "*", false))}
	}
	for _, tt := range []struct {
		name    string
		files   []string
		setup   func(h *memHost, app *session.WriterInfo)
		req     Request
		want    Outcome
		content string
		ok      bool // SetBackupSucceeded
	}{
		{"complete", []string{"srv/app/db", "srv/x"}, nil, Request{}, Complete, "srv/app/db srv/x", true},
		{"a writer that fails in Freeze leaves its component out", []string{"srv/app/db", "srv/x"},
			func(h *memHost, app *session.WriterInfo) {
				h.status["snapshot"] = []session.WriterStatus{failedWriter(app, vss.WriterFailedAtFreeze)}
			}, Request{}, Incomplete, "srv/x", false},
		{"unless its files are taken as plain ones", []string{"srv/app/db", "srv/x"},
			func(h *memHost, app *session.WriterInfo) {
				h.status["snapshot"] = []session.WriterStatus{failedWriter(app, vss.WriterFailedAtFreeze)}
			}, Request{AsPlainFiles: true}, LowerConsistency, "srv/app/db srv/x", false},
		{"a writer that fails after the record", []string{"srv/app/db", "srv/x"},
			func(h *memHost, app *session.WriterInfo) {
				h.status["complete"] = []session.WriterStatus{failedWriter(app, vss.WriterFailedAtBackupComplete)}
			}, Request{}, WriterFailedAfter, "srv/app/db srv/x", true},
		{"an unselected component under the path", []string{"srv/app/db", "srv/x", "opt/y"},
			func(h *memHost, _ *session.WriterInfo) {}, Request{Selectors: Selectors{Components: []string{"other"}}}, Incomplete, "opt/y srv/x", true},
		{"excluded by name it is not missed", []string{"srv/app/db", "srv/x"}, nil,
			Request{Selectors: Selectors{ExcludeWriters: []string{"app"}}}, Complete, "srv/x", false},
		{"or taken as plain files", []string{"srv/app/db", "srv/x"}, nil,
			Request{AsPlainFiles: true, Selectors: Selectors{ExcludeWriters: []string{"app"}}}, Complete, "srv/app/db srv/x", false},
		{"without writers nothing is claimed", []string{"srv/app/db", "srv/x"}, nil, Request{NoWriters: true}, Complete, "srv/app/db srv/x", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newMemHost(volume(tt.files...))
			info := h.writer(t, "app", app)
			h.writer(t, "second", func(m *metadata.WriterMetadata) []error {
				return []error{fileGroup(m, "other", true, spec("/opt", "*", false))}
			})
			if tt.setup != nil {
				tt.setup(h, info)
			}
			tt.req.Paths = []string{"/srv"}
			res, content, _ := backedUp(t, h, tt.req)
			if res.Outcome != tt.want {
				t.Errorf("outcome %v, want %v; left out %+v, failures %+v", res.Outcome, tt.want, res.LeftOut, res.Failures)
			}
			if keysOf(content) != tt.content {
				t.Errorf("content %q, want %q", keysOf(content), tt.content)
			}
			if tt.want != Incomplete && h.succeeded["main"] != tt.ok {
				t.Errorf("SetBackupSucceeded %v", h.succeeded)
			}
		})
	}
}

func TestBackupRequiredWriterFailsAll(t *testing.T) {
	h := newMemHost(volume("srv/app/db", "srv/x"))
	app := h.writer(t, "app", func(m *metadata.WriterMetadata) []error {
		return []error{fileGroup(m, "main", true, spec("/srv/app", "*", false))}
	})
	app.Required = true
	h.status["prepare"] = []session.WriterStatus{failedWriter(app, vss.WriterFailedAtPrepareBackup)}
	res, err := Backup(t.Context(), h.open, memRepo(t), Request{Paths: []string{"/srv"}}, nil)
	if err == nil || res.Outcome != Failed || h.saw("DoSnapshotSet") {
		t.Errorf("outcome %v, error %v, calls %q", res.Outcome, err, h.calls)
	}
}

func TestBackupFailedFileFailsItsSetR_SEL_18(t *testing.T) {
	v := volume("srv/app/good", "srv/app/sub/bad", "srv/other/fine", "srv/plain")
	v.files["srv/app/sub/bad"] = "unreadable"
	h := newMemHost(v)
	h.writer(t, "app", func(m *metadata.WriterMetadata) []error {
		return []error{
			fileGroup(m, "set", true, spec("/srv/app", "good", false)),
			fileGroup(m, `set\part`, false, spec("/srv/app/sub", "*", false)),
			fileGroup(m, "other", true, spec("/srv/other", "*", false)),
		}
	})
	res, content, _ := backedUp(t, h, Request{Paths: []string{"/srv"}})
	if res.Outcome != Incomplete || h.succeeded["set"] || !h.succeeded["other"] {
		t.Errorf("outcome %v, succeeded %v", res.Outcome, h.succeeded)
	}
	if content["srv/app/sub/bad"] != "FAILED" || content["srv/app/good"] == "" || content["srv/other/fine"] == "" {
		t.Errorf("content %v", content)
	}
	if len(res.Failures) != 1 || res.Failures[0].Path != "/srv/app/sub/bad" || !strings.Contains(res.Failures[0].Error, "bad block") {
		t.Errorf("failures %+v: which and why must be recorded", res.Failures)
	}
}

func TestBackupSetRules(t *testing.T) {
	for _, tt := range []struct {
		name    string
		build   func(m *metadata.WriterMetadata) []error
		req     Request
		content string
		outcome Outcome
	}{
		{"R-SET-5: a missing named file fails", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/d", "one", false), spec("/d", "gone", false))}
		}, Request{Selectors: Selectors{Components: []string{"a"}}}, "d/one", Incomplete},
		{"R-SET-29: unless it is made during the backup", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/d", "one", false)),
				m.AddFilesToFileGroup("", "a", spec("/d", "gone", false), "", vss.DefaultFileSpecBackupType|vss.CreatedDuringBackup)}
		}, Request{Selectors: Selectors{Components: []string{"a"}}}, "d/one", Complete},
		{"R-SET-10: excluded files are excluded, and are not data of no writer either", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/d", "*", true)), m.AddExcludeFiles(spec("/d", "t*", true))}
		}, Request{Paths: []string{"/d"}}, "d/one d/sub/four", Complete},
		{"R-SET-10: whichever components are chosen", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/e", "*", true)), m.AddExcludeFiles(spec("/d", "one", false))}
		}, Request{Paths: []string{"/d"}}, "d/sub/four d/sub/three d/two", Complete},
		{"R-SET-26: a set without the bit of the type is not saved", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/d", "one", false)),
				m.AddFilesToFileGroup("", "a", spec("/d", "two", false), "", vss.LogBackupRequired|vss.LogSnapshotRequired)}
		}, Request{Selectors: Selectors{Components: []string{"a"}}}, "d/one", Complete},
		{"R-SET-25: a copy goes by the bits of a full", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true),
				m.AddFilesToFileGroup("", "a", spec("/d", "two", false), "", vss.FullBackupRequired|vss.FullSnapshotRequired)}
		}, Request{Selectors: Selectors{Components: []string{"a"}}, Type: vss.BackupTypeCopy}, "d/two", Complete},
		{"DESIGN 5: a component with one file under the path is taken whole", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/d/sub", "three", false), spec("/e", "*", false))}
		}, Request{Paths: []string{"/d/sub"}}, "d/sub/four d/sub/three e/five", Complete},
		{"DESIGN 5: a path that is one file", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/d/sub", "*", false))}
		}, Request{Paths: []string{"/d/sub/three"}}, "d/sub/four d/sub/three", Complete},
		{"R-SET-12: the alternate path is read, the normal one recorded", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true),
				m.AddFilesToFileGroup("", "a", spec("/d", "one", false), "/spit", vss.DefaultFileSpecBackupType)}
		}, Request{Selectors: Selectors{Components: []string{"a"}}}, "d/one", Complete},
		{"R-SET-11: excludes are tested against the normal path", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true),
				m.AddFilesToFileGroup("", "a", spec("/d", "*", false), "/spit", vss.DefaultFileSpecBackupType),
				m.AddExcludeFiles(spec("/d", "two", false)), m.AddExcludeFiles(spec("/spit", "one", false))}
		}, Request{Selectors: Selectors{Components: []string{"a"}}}, "d/one", Complete},
		{"R-SET-12: what lies at the alternate path is not data of no writer", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true),
				m.AddFilesToFileGroup("", "a", spec("/d", "*", false), "/spit", vss.DefaultFileSpecBackupType)}
		}, Request{Paths: []string{"/d", "/spit"}}, "d/one d/sub/four d/sub/three d/two spit/sub/other", Complete},
		{"R-SET-6: what two sets of a component name is saved once", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/d", "*", true)), fileGroup(m, `a\b`, true, spec("/d/sub", "three", false))}
		}, Request{Paths: []string{"/d"}}, "d/one d/sub/four d/sub/three d/two", Complete},
		{"R-SET-10: nor where a component that has no part would be read", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true),
				m.AddFilesToFileGroup("", "a", spec("/d", "*", false), "/spit", vss.DefaultFileSpecBackupType), m.AddExcludeFiles(spec("/spit", "one", false))}
		}, Request{Paths: []string{"/spit"}}, "spit/sub/other spit/two", Complete},
		{"DESIGN 5: a directory beside its files does not choose a component read elsewhere", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true), m.AddFilesToFileGroup("", "a", spec("/d", "*", false), "/spit", vss.DefaultFileSpecBackupType)}
		}, Request{Paths: []string{"/d/sub"}}, "d/sub/four d/sub/three", Complete},
		{"DESIGN 5: a file of its does, and no other", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true), m.AddFilesToFileGroup("", "a", spec("/d", "one", false), "/spit", vss.DefaultFileSpecBackupType),
				fileGroup(m, "b", true), m.AddFilesToFileGroup("", "b", spec("/d", "t*", false), "/spit", vss.DefaultFileSpecBackupType)}
		}, Request{Paths: []string{"/d/two"}}, "d/two", Complete},
		{"DESIGN 5: an exclude of its top alone leaves a tree read elsewhere chosen", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true), m.AddFilesToFileGroup("", "a", spec("/d", "*", true), "/spit", vss.DefaultFileSpecBackupType),
				m.AddExcludeFiles(spec("/d", "*", false))}
		}, Request{Paths: []string{"/d"}}, "d/sub/other", Complete},
		{"exclusion of data no writer claims", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/e", "*", false))}
		}, Request{Paths: []string{"/d"}, Exclude: []string{"sub"}}, "d/one d/two", Complete},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := volume("d/one", "d/two", "d/sub/three", "d/sub/four", "e/five", "spit/one", "spit/two", "spit/sub/other")
			h := newMemHost(v)
			h.writer(t, "w", tt.build)
			res, content, _ := backedUp(t, h, tt.req)
			if keysOf(content) != tt.content || res.Outcome != tt.outcome {
				t.Errorf("content %q, want %q; outcome %v, want %v; %+v", keysOf(content), tt.content, res.Outcome, tt.outcome, res.Failures)
			}
			if n := len(strings.Fields(tt.content)); res.Totals.Files != int64(n) {
				t.Errorf("%d files were saved, want %d", res.Totals.Files, n)
			}
			if strings.HasPrefix(tt.name, "R-SET-12: the alt") && content["d/one"] != "content of spit/one" {
				t.Errorf("d/one holds %q", content["d/one"])
			}
		})
	}
}

func TestBackupHardLinksAndVolumes(t *testing.T) {
	t.Run("another name of an unselected component's file is that component's", func(t *testing.T) {
		v := volume("srv/db", "home/alias", "home/own")
		v.inodes["srv/db"], v.inodes["home/alias"] = 7, 7
		h := newMemHost(v)
		h.writer(t, "w", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/srv", "db", false)), fileGroup(m, "b", true, spec("/opt", "*", false))}
		})
		res, content, _ := backedUp(t, h, Request{Paths: []string{"/home"}})
		if keysOf(content) != "home/own" || res.Outcome != Incomplete {
			t.Errorf("content %q, outcome %v", keysOf(content), res.Outcome)
		}
	})
	t.Run("R-SET-16: nested volumes join, mount points are not entered twice", func(t *testing.T) {
		v := volume("srv/a", "srv/mnt/hidden")
		v.mounts["srv/mnt"] = true
		n := volume("b", "c/d")
		n.id, n.root = "nested", "/srv/mnt"
		h := newMemHost(v, n)
		res, content, _ := backedUp(t, h, Request{Paths: []string{"/srv"}})
		if keysOf(content) != "srv/a srv/mnt/b srv/mnt/c/d" || res.Outcome != Complete {
			t.Errorf("content %q, outcome %v", keysOf(content), res.Outcome)
		}
		if !h.saw("AddToSnapshotSet nested") {
			t.Error("the nested volume is not in the set")
		}
		h = newMemHost(v, n)
		res, content, _ = backedUp(t, h, Request{Paths: []string{"/srv"}, OneFileSystem: true})
		if keysOf(content) != "srv/a" || res.Outcome != Complete || len(res.LeftOut) != 1 || res.LeftOut[0].Path != "/srv/mnt" {
			t.Errorf("content %q, outcome %v, left out %+v", keysOf(content), res.Outcome, res.LeftOut)
		}
	})
	t.Run("a component on a volume without a provider fails in the plan", func(t *testing.T) {
		v, n := volume("srv/a"), volume("db", "plain")
		n.id, n.root, n.unserved = "nested", "/srv/mnt", "no provider"
		h := newMemHost(v, n)
		h.writer(t, "w", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/srv/mnt", "db", false))}
		})
		res, content, _ := backedUp(t, h, Request{Paths: []string{"/srv"}})
		if keysOf(content) != "srv/a srv/mnt/plain" || res.Outcome != Incomplete {
			t.Errorf("content %q, outcome %v", keysOf(content), res.Outcome)
		}
		if h.saw("AddToSnapshotSet nested") {
			t.Error("the volume is in the set")
		}
	})
	t.Run("a volume that its estimate refuses is left out of a second session", func(t *testing.T) {
		v, n := volume("srv/a"), volume("db", "plain")
		n.id, n.root = "nested", "/srv/mnt"
		h := newMemHost(v, n)
		h.fail["Estimate nested"] = errors.New("no room")
		h.writer(t, "w", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/srv/mnt", "db", false))}
		})
		res, content, _ := backedUp(t, h, Request{Paths: []string{"/srv"}})
		if keysOf(content) != "srv/a srv/mnt/plain" || res.Outcome != Incomplete || !strings.Contains(fmt.Sprint(res.LeftOut), "no room") {
			t.Errorf("content %q, outcome %v, %+v", keysOf(content), res.Outcome, res.LeftOut)
		}
	})
}

func TestBackupTwoClaims(t *testing.T) {
	both := func(t *testing.T) (*memHost, *session.WriterInfo) {
		h := newMemHost(volume("srv/db", "srv/db-log", "srv/x"))
		h.writer(t, "hooks", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "all", true, spec("/srv", "db", false))}
		})
		info := h.writer(t, "sqlite", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "db", true, spec("/srv", "db*", false))}
		})
		return h, info
	}
	t.Run("two configured ones are an error", func(t *testing.T) {
		h, _ := both(t)
		_, err := MakePlan(t.Context(), h.open, Request{Paths: []string{"/srv"}}, nil)
		if err == nil || !strings.Contains(err.Error(), "/srv/db") {
			t.Errorf("got %v", err)
		}
		if _, err := MakePlan(t.Context(), h.open, Request{Paths: []string{"/srv"}, Selectors: Selectors{ExcludeWriters: []string{"sqlite"}}}, nil); err != nil {
			t.Errorf("excluded by name: %v", err)
		}
	})
	t.Run("two that read one file elsewhere are seen when it is read", func(t *testing.T) {
		h := newMemHost(volume("a/one", "b/one", "srv/x"))
		for _, name := range []string{"a", "b"} {
			h.writer(t, name, func(m *metadata.WriterMetadata) []error {
				return []error{fileGroup(m, name, true), m.AddFilesToFileGroup("", name, spec("/srv", "on*", false), "/"+name, vss.DefaultFileSpecBackupType)}
			})
		}
		res, content, sets := backedUp(t, h, Request{Selectors: Selectors{Components: []string{"a", "b"}}})
		if keysOf(content) != "srv/one" || sets["srv/one"] != "a:a" || res.Outcome != Incomplete || h.succeeded["b"] || !h.succeeded["a"] {
			t.Errorf("content %q, sets %v, outcome %v, succeeded %v", content, sets, res.Outcome, h.succeeded)
		}
	})
	t.Run("a configured one beats a discovered one, and the rest is missed", func(t *testing.T) {
		h, sqlite := both(t)
		sqlite.Discovered = true
		res, content, sets := backedUp(t, h, Request{Paths: []string{"/srv"}})
		if keysOf(content) != "srv/db srv/x" || sets["srv/db"] != "hooks:all" || res.Outcome != Incomplete {
			t.Errorf("content %q, sets %v, outcome %v", keysOf(content), sets, res.Outcome)
		}
		if len(res.LeftOut) != 1 || res.LeftOut[0].Path != "/srv/db-log" {
			t.Errorf("left out %+v", res.LeftOut)
		}
	})
}

// TestCrashConsistentWriter: a component whose writer gives no more than a crash
// would is at that level in plan and result, and refused to who asks for more.
func TestCrashConsistentWriter(t *testing.T) {
	for want, reachable := range map[session.Level]bool{session.LevelNone: true, session.LevelCrash: true, session.LevelApp: false} {
		h := newMemHost(volume("srv/db"))
		h.writer(t, "w", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/srv", "db", false))}
		}).CrashConsistent = true
		req := Request{Selectors: Selectors{Components: []string{"a"}}, Consistency: want}
		p, err := MakePlan(t.Context(), h.open, req, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c := p.Writers[0].Components[0]; p.Level != "crash" || c.Level != "crash" || p.Reachable != reachable {
			t.Errorf("asked for %v: level %s, the component's %s, reachable %v (%v)", want, p.Level, c.Level, p.Reachable, p.Unreachable)
		}
		res, err := Backup(t.Context(), h.open, memRepo(t), req, nil)
		if errors.Is(err, ErrConsistency) == reachable {
			t.Errorf("asked for %v: outcome %v, error %v", want, res.Outcome, err)
		}
		if reachable && (res.Outcome != Complete || res.Level != "crash" || res.Components[0].Level != "crash") {
			t.Errorf("asked for %v: %v, level %s, %+v", want, res.Outcome, res.Level, res.Components)
		}
	}
}

func TestPlanConsistency(t *testing.T) {
	host := func(t *testing.T, atomic bool) *memHost {
		v := volume("srv/db", "srv/x")
		v.atomic = atomic
		h := newMemHost(v)
		h.writer(t, "w", func(m *metadata.WriterMetadata) []error {
			return []error{fileGroup(m, "a", true, spec("/srv", "db", false))}
		})
		return h
	}
	for _, tt := range []struct {
		atomic    bool
		req       Request
		level     string
		reachable bool
	}{
		{true, Request{Paths: []string{"/srv"}, Consistency: session.LevelApp}, "crash", true},
		{true, Request{Paths: []string{"/srv"}, Consistency: session.LevelCrash}, "crash", true},
		{false, Request{Paths: []string{"/srv"}}, "none", true},
		{false, Request{Paths: []string{"/srv"}, Consistency: session.LevelCrash}, "none", false},
		{false, Request{Selectors: Selectors{Components: []string{"a"}}, Consistency: session.LevelApp}, "app", true},
		{true, Request{Paths: []string{"/srv"}, NoWriters: true, Consistency: session.LevelCrash}, "crash", true},
	} {
		h := host(t, tt.atomic)
		p, err := MakePlan(t.Context(), h.open, tt.req, nil)
		if err != nil {
			t.Fatal(err)
		}
		if p.Level != tt.level || p.Reachable != tt.reachable {
			t.Errorf("atomic %v, %+v: level %s, reachable %v (%v)", tt.atomic, tt.req, p.Level, p.Reachable, p.Unreachable)
		}
		if h.saw("PrepareForBackup") || !h.saw("AbortBackup") || !h.saw("Close") {
			t.Errorf("a plan must freeze nothing and undo what it began: %q", h.calls)
		}
		res, err := Backup(t.Context(), h.open, memRepo(t), tt.req, nil)
		if errors.Is(err, ErrConsistency) == tt.reachable {
			t.Errorf("backup: outcome %v, error %v", res.Outcome, err)
		}
	}
}
