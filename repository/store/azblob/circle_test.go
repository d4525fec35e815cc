package azblob_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/azblob"
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
			blobs := ""
			if k := key(n); k != "" {
				blobs = fmt.Sprintf("<Blob><Name>%s</Name><Properties><Last-Modified>Sun, 22 Nov 2026 00:00:00 GMT</Last-Modified><Content-Length>3</Content-Length></Properties></Blob>", k)
			}
			n++
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprintf(w, `<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>%s</Blobs><NextMarker>%d</NextMarker></EnumerationResults>`, blobs, n%5+1)
		}))
		u := &url.URL{Scheme: "azblob", Host: "container", Path: "/p", RawQuery: "account=a&endpoint=" + url.QueryEscape(srv.URL)}
		st, err := azblob.OpenURL(t.Context(), u, azblob.Options{Getenv: func(name string) string {
			return map[string]string{"AZURE_STORAGE_SAS_TOKEN": "sv=2024&sig=x"}[name]
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
