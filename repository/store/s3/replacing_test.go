package s3_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/s3"
)

// replacing is a service that puts what it is told to, whatever the condition.
type replacing struct {
	mu         sync.Mutex
	objects    map[string][]byte
	puts       int
	conditions int
}

func (s *replacing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Method {
	case http.MethodPut:
		s.puts++
		if r.Header.Get("If-None-Match") != "" {
			s.conditions++
		}
		s.objects[r.URL.Path], _ = io.ReadAll(r.Body)
		w.Header().Set("ETag", `"e"`)
	case http.MethodHead:
		data, ok := s.objects[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
	default:
		w.WriteHeader(http.StatusNotImplemented)
	}
}

// A service that replaces objects although it is told not to is refused, unless
// the URL says that this is known; then what is there is not replaced either.
func TestServiceThatReplacesIsRefusedUnlessKnown(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{false, true} {
		service := &replacing{objects: map[string][]byte{}}
		srv := httptest.NewServer(service)
		defer srv.Close()
		query := "region=us-east-1&lookup=path&endpoint=" + url.QueryEscape(srv.URL)
		if known {
			query += "&conditional=no"
		}
		st, err := s3.OpenURL(t.Context(), &url.URL{Scheme: "s3", Host: "bucket", Path: "/p", RawQuery: query}, s3.Options{Getenv: func(name string) string {
			return map[string]string{"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}[name]
		}})
		if err != nil {
			t.Fatal(err)
		}
		err = st.Put(t.Context(), "config", []byte("one"))
		if !known {
			if !store.IsPermanent(err) || !strings.Contains(err.Error(), "conditional=no") {
				t.Errorf("put: got %v, want a final error that names conditional=no", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Put(t.Context(), "config", []byte("two")); !errors.Is(err, store.ErrExist) {
			t.Errorf("second put: got %v, want ErrExist", err)
		}
		if service.puts != 1 || service.conditions != 0 || string(service.objects["/bucket/p/config"]) != "one" {
			t.Errorf("%d puts, %d with a condition, the object is %q; want 1, none, the first", service.puts, service.conditions, service.objects["/bucket/p/config"])
		}
	}
}
