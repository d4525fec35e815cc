package ledger

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// places are two stores that need no server.
func places(t *testing.T) []Place {
	dir := t.TempDir()
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	return []Place{{"database", "sqlite", filepath.Join(dir, "ledger.db")}, {"file", "file", files + "," + filepath.Join(dir, "lock")}}
}

func found(t *testing.T, places []Place, clients int) (list []Found) {
	t.Helper()
	for _, p := range places {
		s, err := Open(p)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		held, err := s.Read(t.Context(), clients)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Found{p.Name, held})
	}
	return list
}

// TestClientsGoOnWhereTheyStopped: two runs, one after the other, make one ledger
// without a gap, and the history tells of all of it.
func TestClientsGoOnWhereTheyStopped(t *testing.T) {
	l := Load{Places: places(t), Clients: 3}
	h := History{Log: filepath.Join(t.TempDir(), "log")}
	log, err := os.Create(h.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	l.Log = log
	before := int64(0)
	for range 2 {
		stop := make(chan struct{})
		done := make(chan error)
		go func() { done <- l.Run(t.Context(), stop) }()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if err := h.Update(); err != nil {
				t.Fatal(err)
			}
			if h.Acked("file", 2, time.Now()) > before+5 {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the clients commit nothing")
			}
		}
		close(stop)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := h.Update(); err != nil {
			t.Fatal(err)
		}
		before = h.Acked("file", 2, time.Now())
		all := found(t, l.Places, l.Clients)
		if bad := Check(all); bad != nil {
			t.Errorf("stopped clients: %v", bad)
		}
		now := time.Now()
		for _, f := range all {
			if bad := CheckTime(f, &h, now, now); bad != nil {
				t.Errorf("stopped clients: %v", bad)
			}
		}
	}
}

// TestAFailedCommitEndsTheLoad: it is named, and no client goes on.
func TestAFailedCommitEndsTheLoad(t *testing.T) {
	l := Load{Places: places(t), Clients: 3, Log: io.Discard}
	if err := l.Run(t.Context(), closed()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(l.Places[0])
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.(*sqlStore).db.Exec("CREATE TRIGGER no BEFORE INSERT ON ledger WHEN new.client = 1 AND new.n = 3 BEGIN SELECT RAISE(FAIL, 'refused'); END"); err != nil {
		t.Fatal(err)
	}
	err = l.Run(context.Background(), nil)
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("client 1: database: number 3: ")) {
		t.Errorf("the load ended with %v", err)
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestPlacesAreReadBack(t *testing.T) {
	for _, p := range []Place{{"a", "sqlite", "/x/y=z:w.db"}, {"b", "postgres", "host=/run user=x dbname=y"}} {
		if got, err := ParsePlace(p.String()); err != nil || got != p {
			t.Errorf("%v came back as %v, %v", p, got, err)
		}
	}
	for _, bad := range []string{"", "a", "a=b", "sqlite:/x"} {
		if p, err := ParsePlace(bad); err == nil {
			t.Errorf("%q is %v", bad, p)
		}
	}
	if _, err := Open(Place{"a", "oracle", ""}); err == nil {
		t.Error("a kind that is none was opened")
	}
}
