package limit_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/limit"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/repository/store/storetest"
)

func TestStoreKeepsThePromisesOfStorage(t *testing.T) {
	l := limit.New(limit.Options{Connections: 3, Upload: 1 << 40, Download: 1 << 40})
	storetest.Run(t, func(t *testing.T) store.Store { return l.Store(mem.New(), true) })
}

func TestTheRateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := limit.New(limit.Options{Upload: 1 << 20, Download: 2 << 20}).Store(mem.New(), true)
		begun := time.Now()
		if err := st.Put(t.Context(), "a", make([]byte, 10<<20)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("10 MiB at 1 MiB/s took %v", took)
		}
		begun = time.Now()
		if _, err := st.ReadAt(t.Context(), "a", make([]byte, 10<<20), 0); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 4*time.Second || took > 6*time.Second {
			t.Errorf("10 MiB at 2 MiB/s took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := st.Put(ctx, "b", make([]byte, 100<<20)); err == nil {
			t.Error("a put outlived its context")
		}
	})
}

// busy counts how many puts go on at once.
type busy struct {
	*mem.Store
	now, most atomic.Int64
}

func (b *busy) Put(ctx context.Context, name string, data []byte) error {
	n := b.now.Add(1)
	defer b.now.Add(-1)
	for m := b.most.Load(); n > m && !b.most.CompareAndSwap(m, n); m = b.most.Load() {
	}
	time.Sleep(time.Second)
	return b.Store.Put(ctx, name, data)
}

func TestNoMoreRequestsAreMadeAtOnceThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &busy{Store: mem.New()}
		st := limit.New(limit.Options{Connections: 3}).Store(b, true)
		begun := time.Now()
		done := make(chan error)
		for i := range 9 {
			go func() { done <- st.Put(t.Context(), string(rune('a'+i)), nil) }()
		}
		for range 9 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if b.most.Load() != 3 || time.Since(begun) != 3*time.Second {
			t.Errorf("%d at once, all in %v", b.most.Load(), time.Since(begun))
		}
		if c := st.(store.Concurrent).Concurrency(); c != 3 {
			t.Errorf("it says it gains by %d", c)
		}
	})
}

func TestConnectionsKeepTheRateAndAreGivenUpWhenTheyStandStill(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/still" {
			<-release
		}
		w.Write(make([]byte, n))
	}))
	defer srv.Close()
	defer close(release)
	const rate = 4 << 20
	l := limit.New(limit.Options{Upload: rate, Stall: 2 * time.Second})
	transport := l.Transport()
	client := &http.Client{Transport: transport}
	defer client.CloseIdleConnections()
	begun := time.Now()
	// Longer than the connection may stand still: it moves all the time.
	resp, err := client.Post(srv.URL, "text/plain", bytes.NewReader(make([]byte, 3*rate)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if took := time.Since(begun); took < 2500*time.Millisecond {
		t.Errorf("three seconds' worth took %v", took)
	}
	begun = time.Now()
	resp, err = client.Post(srv.URL+"/still", "text/plain", nil)
	if err == nil {
		resp.Body.Close()
		t.Error("an answer came")
	}
	if took := time.Since(begun); took < time.Second || took > 30*time.Second || errors.Is(err, context.Canceled) {
		t.Errorf("it was given up after %v: %v", took, err)
	}
}
