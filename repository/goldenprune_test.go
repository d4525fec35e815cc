package repository

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/local"
)

// updatePruned makes testdata/v1-pruned anew.
var updatePruned = flag.Bool("update-pruned", false, "write testdata/v1-pruned again")

// prunedDir holds the repository of testdata/v1 in the midst of prunes. Package
// secondreader reads it.
const prunedDir = "testdata/v1-pruned"

// dyingPrune fails when something is put after a pack was deleted.
type dyingPrune struct {
	store.Store
	deleted bool
}

func (s *dyingPrune) Delete(ctx context.Context, name string) error {
	s.deleted = s.deleted || strings.HasPrefix(name, prefixData)
	return s.Store.Delete(ctx, name)
}

func (s *dyingPrune) Put(ctx context.Context, name string, data []byte) error {
	if s.deleted {
		return errInjected
	}
	return s.Store.Put(ctx, name, data)
}

// writePruned makes the three states.
func writePruned(t *testing.T) {
	ctx := t.Context()
	if err := os.RemoveAll(prunedDir); err != nil {
		t.Fatal(err)
	}
	state := func(name, from string) *Repository {
		dir := filepath.Join(prunedDir, name)
		if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		st, err := local.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return reopen(t, st)
	}
	prune := func(r *Repository, st store.Store) (PruneReport, error) {
		return r.on(st).Prune(ctx, PruneOptions{Grace: -1, MaxUnused: 0.01}, nil)
	}

	// marked: packs of a backup that was forgotten are marked, and so is one that
	// records use, by a mark that their backup had not seen. A backup goes on,
	// and of another that died the record is void.
	r := state("marked", goldenDir)
	var used []knownPack
	if err := r.index.refresh(ctx); err != nil {
		t.Fatal(err)
	}
	for _, p := range r.index.packs.all() {
		if p.kind == kindDataPack {
			used = append(used, p)
		}
	}
	b := begin(t, r, nil)
	addFile(t, b, "gone", randomData(20_000, 77))
	gone := commit(t, b, testInfo())
	if _, err := r.Forget(ctx, []ID{gone.ID}); err != nil {
		t.Fatal(err)
	}
	if report, err := prune(r, r.store); err != nil || report.Marked == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	mark, err := r.putMark(ctx, used[:1], nil)
	if err == nil {
		_, err = r.putMark(ctx, nil, []ID{mark})
	}
	if err != nil {
		t.Fatal(err)
	}
	// deleted: a prune copied what is used of them, deleted them, and was killed.
	r = state("deleted", filepath.Join(prunedDir, "marked"))
	if report, err := prune(r, r.store); err != nil || report.Copied == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	dying := &dyingPrune{Store: r.store}
	if _, err := prune(r, dying); !dying.deleted || !errors.Is(err, errInjected) {
		t.Fatalf("the prune that was to die: %v", err)
	}
	// finished: the next ones did the rest.
	r = state("finished", filepath.Join(prunedDir, "deleted"))
	for range 3 {
		if report, err := prune(r, r.store); err != nil {
			t.Fatalf("%+v, %v", report, err)
		}
	}
	for _, name := range []string{"marked", "deleted", "finished"} {
		st, err := local.Open(filepath.Join(prunedDir, name))
		if err != nil {
			t.Fatal(err)
		}
		r := reopen(t, st)
		k, err := r.keep(ctx, "host")
		if err != nil {
			t.Fatal(err)
		}
		k.halt()
		if err := k.put(ctx, ID{3}); err != nil {
			t.Fatal(err)
		}
		if err := st.Put(ctx, recordName(ID{3}), []byte(voidRecord)); err != nil {
			t.Fatal(err)
		}
	}
}

// A repository in the midst of prunes is read as it was before.
func TestTheRepositoryOfVersion1IsReadInTheMidstOfPrunes(t *testing.T) {
	if *updatePruned {
		writePruned(t)
	}
	for name, gone := range map[string]bool{"marked": false, "deleted": true, "finished": false} {
		st, err := local.Open(filepath.Join(prunedDir, name))
		if err != nil {
			t.Fatal(err)
		}
		r := reopen(t, st)
		records, err := r.Records(t.Context())
		if err != nil || len(records) != 2 {
			t.Fatalf("%s: %d records, %v", name, len(records), err)
		}
		want, got := goldenFiles(), readTree(t, records[1])
		for path, data := range want {
			if got[path] != string(data) {
				t.Errorf("%s: %s differs", name, path)
			}
		}
		report, problems := check(t, r, CheckOptions{ReadData: true})
		if len(problems) != 0 || report.Intents == 0 || report.Marks < 2 || (report.Gone > 0) != gone {
			t.Errorf("%s: check says %+v, %+v", name, report, problems)
		}
		if err := r.index.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if name == "marked" {
			if err := r.mark(t.Context()); err != nil || !r.index.anyMarked() {
				t.Errorf("%s: no pack is marked: %v", name, err)
			}
		}
	}
}
