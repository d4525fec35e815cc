package dbtest

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMariaDBStartsStopsAndIsKilled(t *testing.T) {
	dir, err := Scratch("")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m, err := StartMariaDB(t.Context(), MariaDBOptions{Dir: filepath.Join(dir, "data")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	db, err := m.DB("")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{"CREATE DATABASE d", "CREATE TABLE d.t (n INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)"} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	for n, end := range []func() error{m.Kill, func() error { return m.Stop(t.Context()) }} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		var rows int
		if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM d.t").Scan(&rows); err != nil || rows != 1 {
			t.Errorf("after start %d: %d rows, %v; want 1", n+2, rows, err)
		}
	}
	if err := m.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
