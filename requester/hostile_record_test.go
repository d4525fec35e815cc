//go:build linux

package requester_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

// TestRestoreInPlaceWritesWhereTheRecordSays: a record of somebody who may write
// to the repository cannot put back what its list of paths does not show.
func TestRestoreInPlaceWritesWhereTheRecordSays(t *testing.T) {
	w := newWorld(t)
	outside := scratch(t)
	if err := os.Chmod(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	me := repository.Entry{Type: repository.Regular, Mode: 0o644, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	at := func(name string, attrs map[string]string) repository.Entry {
		e := me
		e.Path, e.Attrs = strings.TrimPrefix(name, "/"), attrs
		return e
	}
	app := map[string]string{requester.AttrWriter: "app", requester.AttrWriterClass: vss.NewGUID().String(),
		requester.AttrComponent: "main", requester.AttrComponentSet: "main", requester.AttrMapping: outside}
	dir := at(outside, nil)
	dir.Type, dir.Mode = repository.Directory, 0o777
	rec := handmade(t, w, nil,
		at(w.path("inside"), nil), at(filepath.Join(outside, "plain"), nil), at(filepath.Join(outside, "claimed"), app),
		at(w.dir+"x", nil), dir)
	back := w.restore(rec, requester.RestoreRequest{NoWriters: true})
	if back.Outcome != requester.Incomplete || back.Failed != 4 {
		t.Errorf("outcome %v, failures %+v", back.Outcome, back.Failures)
	}
	if _, err := os.Lstat(w.path("inside")); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(outside)
	list, _ := os.ReadDir(outside)
	if err != nil || info.Mode().Perm() != 0o700 || len(list) != 0 {
		t.Errorf("%s was changed: %v, %v, %v", outside, info.Mode(), list, err)
	}
	if _, err := os.Lstat(w.dir + "x"); err == nil {
		t.Error("a name that begins as the root does is not in it")
	}
	into := scratch(t)
	got, err := requester.Extract(t.Context(), w.open, w.repo, rec, requester.ExtractRequest{Dir: into}, nil)
	if err != nil || got.Outcome != requester.Complete {
		t.Errorf("extraction: %v, %v, %+v", got.Outcome, err, got.Failures)
	}
}

func TestRestoreInPlaceOfARecordThatDoesNotSayOfWhat(t *testing.T) {
	w := newWorld(t)
	e := repository.Entry{Path: strings.TrimPrefix(w.path("x"), "/"), Type: repository.Regular, Mode: 0o644}
	rec := handmade(t, w, nil, e)
	for _, summary := range []string{"", "{", `{"roots":[]}`, `{"roots":["relative"]}`, `{"roots":["/.."]}`} {
		rec.Summary = []byte(summary)
		back, err := requester.Restore(t.Context(), w.open, w.repo, rec, requester.RestoreRequest{}, nil)
		if err == nil && back.Failed == 0 || err != nil && !errors.Is(err, vss.ErrInvalidArgument) {
			t.Errorf("summary %q: outcome %v, error %v", summary, back.Outcome, err)
		}
		if _, err := os.Lstat(w.path("x")); err == nil {
			t.Fatalf("summary %q: the file was restored", summary)
		}
	}
}

// TestRestoreTellsWhatTheDocumentsDoNotKnow: files that the table gives to
// components which no document has are not passed over in silence.
func TestRestoreTellsWhatTheDocumentsDoNotKnow(t *testing.T) {
	w, d := appWorld(t)
	res := w.backup(w.paths())
	docs := map[string]string{}
	for name := range res.Record.Documents {
		data, err := res.Record.Document(t.Context(), name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		docs[name] = string(data)
	}
	file := func(name, set, component string) repository.Entry {
		return repository.Entry{Path: strings.TrimPrefix(w.path(name), "/"), Type: repository.Regular, Mode: 0o644,
			UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
			Attrs: map[string]string{requester.AttrWriter: "app", requester.AttrWriterClass: d.class.String(),
				requester.AttrComponentSet: set, requester.AttrComponent: component}}
	}
	rec := handmade(t, w, docs, file("app/db", "main", "main"), file("app/more", "main", `main\made up`), file("app/lost", "unknown", "unknown"))
	w.wipe()
	w.writers = []*docWriter{d.again()}
	back := w.restore(rec, requester.RestoreRequest{})
	out := leftOut(back.LeftOut)
	if back.Outcome != requester.Incomplete || !strings.Contains(out, "made up") || !strings.Contains(out, "unknown") {
		t.Errorf("outcome %v, left out %s", back.Outcome, out)
	}
	if got := tree(t, w.dir); got["app/db"] == "" || got["app/more"] != "" || got["app/lost"] != "" {
		t.Errorf("restored %v", got)
	}
	back = w.restore(rec, requester.RestoreRequest{NoWriters: true})
	if got := tree(t, w.dir); back.Outcome != requester.Complete || got["app/more"] == "" || got["app/lost"] == "" {
		t.Errorf("without writers: outcome %v, restored %v", back.Outcome, got)
	}
}
