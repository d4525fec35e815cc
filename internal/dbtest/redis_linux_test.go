package dbtest

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRedisKeepsItsData: what was acknowledged is there after a clean stop, and
// with an append-only file that is synced always after SIGKILL too.
func TestRedisKeepsItsData(t *testing.T) {
	dir, err := os.MkdirTemp("", "dbtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := StartRedis(t.Context(), RedisOptions{
		Dir: filepath.Join(dir, "data"), AppendOnly: true, Password: "sesame", Lines: []string{"appendfsync always"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	for n, end := range []func() error{r.Stop, r.Kill} {
		if _, err := r.Do(t.Context(), "INCR", "n"); err != nil {
			t.Fatal(err)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if r.Alive() {
			t.Fatal("the server was ended and is alive")
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
