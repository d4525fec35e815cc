package gcs_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/gcs"
)

// Listings of services whose pages lead round in a circle, or bring nothing and
// never end, end with an error that names the service.
func TestListingsThatNeverEndAreGivenUp(t *testing.T) {
	for name, key := range map[string]func(n int) string{
		"one page again and again": func(int) string { return "p/data/a" },
		"three pages in turn":      func(n int) string { return fmt.Sprintf("p/data/%d", n%3) },
		"pages without entries":    func(int) string { return "" },
	} {
		n := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			items := ""
			if k := key(n); k != "" {
				items = fmt.Sprintf(`{"name":%q,"size":"3","timeCreated":"2026-11-22T00:00:00Z"}`, k)
			}
			n++
			fmt.Fprintf(w, `{"items":[%s],"nextPageToken":"%d"}`, items, n%5)
		}))
		u := &url.URL{Scheme: "gs", Host: "bucket", Path: "/p"}
		st, err := gcs.OpenURL(t.Context(), u, gcs.Options{Getenv: func(name string) string {
			return map[string]string{"STORAGE_EMULATOR_HOST": srv.URL}[name]
		}})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		err = st.List(t.Context(), "", func(info store.Info) error {
			if seen[info.Name] {
				t.Errorf("%s: %s was shown twice", name, info.Name)
			}
			seen[info.Name] = true
			return nil
		})
		if !store.IsPermanent(err) || !strings.Contains(err.Error(), strings.TrimPrefix(srv.URL, "http://")) {
			t.Errorf("%s: after %d pages: %v, want a final error that names the service", name, n, err)
		}
		srv.Close()
	}
}
