package dbtest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEtcdKeepsWhatItAcknowledged(t *testing.T) {
	if _, err := os.Stat(EtcdBin); err != nil {
		t.Skipf("NOT TESTED: etcd is not installed (scripts/install-test-deps): %v", err)
	}
	dir, err := Scratch("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	e, err := StartEtcd(ctx, EtcdOptions{Dir: filepath.Join(dir, "data"), WAL: filepath.Join(dir, "logs", "wal")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := e.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	if err := e.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if v, ok, err := e.Get(ctx, "k"); err != nil || !ok || v != "v" {
		t.Errorf("%q, %v, %v after a kill", v, ok, err)
	}
	if out, err := e.Etcdctl(ctx, "get", "k"); err != nil || strings.TrimSpace(out) != "k\nv" {
		t.Errorf("etcdctl: %q, %v", out, err)
	}
	if err := e.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "logs", "wal", "*.wal")); len(names) == 0 {
		t.Error("there is no log where it was to be")
	}
}
