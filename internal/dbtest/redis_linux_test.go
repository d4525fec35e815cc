package dbtest

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRedisKeepsItsData: what was acknowledged is there after a clean stop, and
// with an append-only file that is synced always after SIGKILL too.
func TestRedisKeepsItsData(t *testing.T) {
	dir, err := Scratch("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r, err := StartRedis(t.Context(), RedisOptions{
		Dir: filepath.Join(dir, "data"), AppendOnly: true, Password: "sesame", Lines: []string{"appendfsync always"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	for n, end := range []func() error{func() error { return r.Stop(t.Context()) }, r.Kill} {
		if _, err := r.Do(t.Context(), "INCR", "n"); err != nil {
			t.Fatal(err)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		reply, err := r.Do(t.Context(), "GET", "n")
		if err != nil || reply.Text != string(rune('1'+n)) {
			t.Fatalf("after %d transactions it holds %q, %v", n+1, reply.Text, err)
		}
	}
}
