package s3_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/s3"
)

// replacing is a service that puts what it is told to, whatever the condition.
type replacing struct {
	mu         sync.Mutex
	objects    map[string][]byte
	puts       int
	conditions int
	keeps      bool // it forbids deletions
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
	case http.MethodDelete:
		if s.keeps {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		delete(s.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
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
		query := ""
		if known {
			query = "&conditional=no"
		}
		st := openReplacing(t, srv, query)
		err := st.Put(t.Context(), "config", []byte("one"))
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

func openReplacing(t *testing.T, srv *httptest.Server, query string) store.Store {
	t.Helper()
	query = "region=us-east-1&lookup=path&endpoint=" + url.QueryEscape(srv.URL) + query
	st, err := s3.OpenURL(t.Context(), &url.URL{Scheme: "s3", Host: "bucket", Path: "/p", RawQuery: query}, s3.Options{Getenv: testKeys})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// Whoever makes a repository in such a service leaves nothing there, or is told
// what.
func TestNothingIsLeftInAServiceThatIsRefused(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"", "&lock=1h"} { // which it does not keep either
		for _, keeps := range []bool{false, true} {
			service := &replacing{objects: map[string][]byte{}, keeps: keeps}
			srv := httptest.NewServer(service)
			defer srv.Close()
			_, err := repository.Create(t.Context(), openReplacing(t, srv, query), []byte("password"), repository.Options{KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}})
			if !store.IsPermanent(err) {
				t.Errorf("%q: %v, want a final error", query, err)
			}
			if !keeps && len(service.objects) != 0 {
				t.Errorf("%q: left behind: %d objects", query, len(service.objects))
			}
			if keeps && (len(service.objects) != 1 || !strings.Contains(err.Error(), "still there")) {
				t.Errorf("%q: %d objects are left behind, and it says %v", query, len(service.objects), err)
			}
		}
	}
}

// deaf is a carrier to a service that takes connections and never answers.
type deaf struct{}

func (deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// Without keys, on a machine that has no role or whose service for roles does
// not answer, it is soon said what to set.
func TestWithoutKeysItIsSoonSaidWhatToSet(t *testing.T) {
	for _, name := range []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	begun := time.Now()
	_, err := s3.OpenURL(t.Context(), &url.URL{Scheme: "s3", Host: "bucket"}, s3.Options{Transport: deaf{}})
	if !store.IsPermanent(err) || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v, want a final error that names AWS_ACCESS_KEY_ID", err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}
