package postgres

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMovingAsideGoesOnWhereItWasKilled: a restore of other data makes directories
// again that were moved already; only those that are empty are no data.
func TestMovingAsideGoesOnWhereItWasKilled(t *testing.T) {
	data := t.TempDir()
	make := func(names ...string) {
		t.Helper()
		for _, name := range names {
			path := filepath.Join(data, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(name), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	make("PG_VERSION", "base/1/2", "pg_tblspc/16384", "pg_wal/1", "pg_wal/archive_status/1.ready")
	wal := filepath.Join(data, "pg_wal")
	state := asideState{WAL: wal, Moving: true}
	if err := writeState(data, state); err != nil {
		t.Fatal(err)
	}
	move := func(dir, name string) {
		t.Helper()
		to := filepath.Join(dir, asideName)
		if err := os.Mkdir(to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(to, name)); err != nil {
			t.Fatal(err)
		}
	}
	move(data, "pg_tblspc")
	move(wal, "archive_status")
	for _, dir := range []string{"pg_tblspc", "pg_wal/archive_status"} { // it was killed, and they are made again
		if err := os.Mkdir(filepath.Join(data, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}

	make("pg_tblspc/99999")
	again := filepath.Join(data, "pg_tblspc")
	if err := putAside(data, state, true); err == nil || !strings.Contains(err.Error(), again+" is there") || !strings.Contains(err.Error(), "restore again") {
		t.Errorf("with data of somebody's in the way: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(again, "99999")); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(again, "99999")); err != nil {
		t.Fatal(err)
	}
	if err := putAside(data, state, true); err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(data, asideName)
	for _, path := range []string{filepath.Join(aside, "PG_VERSION"), filepath.Join(aside, "base/1/2"), filepath.Join(aside, "pg_tblspc/16384")} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
	a, err := openAside(data)
	if err != nil || a == nil || a.State.Moving {
		t.Fatalf("the state is %+v, %v", a, err)
	}
	if err := a.putBack(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"PG_VERSION", "base/1/2", "pg_tblspc/16384", "pg_wal/1", "pg_wal/archive_status/1.ready"} {
		if b, err := os.ReadFile(filepath.Join(data, name)); err != nil || string(b) != name {
			t.Errorf("%s has %q, %v", name, b, err)
		}
	}
}
