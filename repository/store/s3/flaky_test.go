package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/limit"
	"github.com/sombra-backup/sombra/repository/store/retry"
	"github.com/sombra-backup/sombra/repository/store/s3"
	"github.com/sombra-backup/sombra/repository/store/storetest/server"
)

// disturber stands between client and server and spoils every third request, each
// time in another way.
type disturber struct {
	target   string
	requests atomic.Int64
	kinds    [6]atomic.Int64
}

func (d *disturber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := -1
	if n := d.requests.Add(1); n%3 == 0 {
		kind = int(n/3) % len(d.kinds)
		d.kinds[kind].Add(1)
	}
	drop := func() { panic(http.ErrAbortHandler) }
	switch kind {
	case 0:
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, `<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
		return
	case 1:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case 2:
		drop()
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		drop()
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, d.target+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		drop()
	}
	req.Header, req.Host = r.Header, r.Host // which is signed
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		drop()
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		drop()
	}
	switch kind {
	case 3: // done, but nobody is told
		drop()
	case 4: // nothing comes any more
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Second):
		}
		drop()
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	if kind == 5 { // cut in the middle
		w.Write(answer[:len(answer)/2])
		if len(answer) > 0 {
			drop()
		}
		return
	}
	w.Write(answer)
}

func TestDisturbancesOfANetworkAreMended(t *testing.T) {
	t.Parallel()
	srv := server.StartS3(t)
	bucket := srv.Bucket(t, false)
	d := &disturber{target: srv.Endpoint}
	front := httptest.NewServer(d)
	defer front.Close()
	u, err := url.Parse("s3://" + bucket + "/p?endpoint=" + front.URL)
	if err != nil {
		t.Fatal(err)
	}
	limits := limit.New(limit.Options{Stall: 300 * time.Millisecond})
	inner, err := s3.OpenURL(t.Context(), u, s3.Options{Getenv: srv.Getenv, Transport: limits.Transport()})
	if err != nil {
		t.Fatal(err)
	}
	st := retry.New(inner, retry.Options{First: time.Millisecond, Longest: 10 * time.Millisecond})
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, i*i*997) }
	const objects = 20
	for i := range objects {
		if err := st.Put(t.Context(), fmt.Sprintf("data/%02d", i), content(i)); err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
	}
	if err := st.Put(t.Context(), "data/00", []byte("another")); !errors.Is(err, store.ErrExist) {
		t.Errorf("put a name that is taken: %v", err)
	}
	for i := range objects {
		p := make([]byte, len(content(i)))
		if n, err := st.ReadAt(t.Context(), fmt.Sprintf("data/%02d", i), p, 0); n != len(p) || err != nil || !bytes.Equal(p, content(i)) {
			t.Fatalf("read %d: %d bytes, %v", i, n, err)
		}
	}
	seen := 0
	if err := st.List(t.Context(), "data/", func(store.Info) error { seen++; return nil }); err != nil || seen != objects {
		t.Errorf("%d objects were listed: %v", seen, err)
	}
	for i := range objects {
		if err := st.Delete(t.Context(), fmt.Sprintf("data/%02d", i)); err != nil {
			t.Fatalf("delete %d: %v", i, err)
		}
	}
	for kind := range d.kinds {
		if d.kinds[kind].Load() == 0 {
			t.Errorf("disturbance %d never came", kind)
		}
	}
}
