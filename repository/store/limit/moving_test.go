package limit_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store/limit"
)

// dripping is a server that answers with a byte now and then, so that its
// connections never stand still for long, and never come to an end. It reads
// what it is sent in the same way.
func dripping(t *testing.T, every time.Duration) (url string) {
	over := make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for p := make([]byte, 1); ; {
			select {
			case <-r.Context().Done():
				return
			case <-over:
				return
			case <-tick.C:
			}
			if r.Method == http.MethodPut {
				if _, err := r.Body.Read(p); err != nil {
					return
				}
				continue
			}
			w.Write(p)
			w.(http.Flusher).Flush()
		}
	}))
	srv.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if tcp, ok := c.(*net.TCPConn); ok && s == http.StateNew {
			tcp.SetReadBuffer(4 << 10)
		}
	}
	srv.Start()
	t.Cleanup(func() {
		close(over)
		srv.Close()
	})
	return srv.URL
}

func TestARequestThatDripsIsGivenUp(t *testing.T) {
	const stall = time.Second
	client := &http.Client{Transport: limit.New(limit.Options{Stall: stall}).Transport()}
	defer client.CloseIdleConnections()
	url := dripping(t, 20*time.Millisecond)
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		var body io.Reader
		if method == http.MethodPut {
			body = bytes.NewReader(make([]byte, 64<<20))
		}
		req, err := http.NewRequestWithContext(t.Context(), method, url, body)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		resp, err := client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		// What is sent may also be given up by the watch over the connection.
		given := errors.Is(err, limit.ErrStall) || method == http.MethodPut && err != nil
		if took := time.Since(begun); !given || took < stall/2 || took > 30*time.Second {
			t.Errorf("%s was given up after %v: %v", method, took, err)
		}
	}
}

// What moves, if slowly, is not given up, nor who takes his time between reads.
func TestASlowRequestIsNotGivenUp(t *testing.T) {
	const stall = 2 * time.Second
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		for ; n > 0; n -= 16 << 10 {
			w.Write(make([]byte, 16<<10))
			w.(http.Flusher).Flush()
			time.Sleep(stall / 5)
		}
	}))
	defer srv.Close()
	var both sync.WaitGroup
	for name, o := range map[string]limit.Options{
		"a slow server": {Stall: stall},
		"a low rate":    {Stall: stall, Download: 48 << 10, Upload: 48 << 10},
	} {
		both.Go(func() {
			client := &http.Client{Transport: limit.New(o).Transport()}
			defer client.CloseIdleConnections()
			resp, err := client.Post(srv.URL, "text/plain", bytes.NewReader(make([]byte, 128<<10)))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			time.Sleep(stall + stall/2)
			n, err := io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if n != 128<<10 || err != nil {
				t.Errorf("%s: %d bytes: %v", name, n, err)
			}
		})
	}
	both.Wait()
}

func TestLowRatesAskForLess(t *testing.T) {
	for _, tt := range []struct {
		o    limit.Options
		want int64
	}{
		{limit.Options{}, limit.DefaultLeast},
		{limit.Options{Least: 100}, 100},
		{limit.Options{Upload: 1 << 20}, limit.DefaultLeast},
		{limit.Options{Download: 640}, 1200},
		{limit.Options{Download: 1}, 1},
	} {
		if got := limit.New(tt.o).Least(); got != tt.want {
			t.Errorf("%+v: %d, want %d", tt.o, got, tt.want)
		}
	}
}
