package gcs

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
)

// A token goes to no other host, and a listing that never moves on is an error,
// not the end of the listing.
func TestHostileServiceGetsNoTokenElsewhereAndNoShortListing(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirection was followed") }))
	defer elsewhere.Close()
	asked := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/token":
			fmt.Fprint(w, `{"access_token":"secret","token_type":"Bearer","expires_in":3600}`)
		case "/storage/v1/b/bucket/o":
			fmt.Fprint(w, `{"items":[],"nextPageToken":"same"}`)
		default:
			asked = r.Header.Get("Authorization") == "Bearer secret"
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}
	}))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "credentials.json")
	text := `{"type":"external_account","audience":"a","subject_token_type":"urn:ietf:params:oauth:token-type:jwt","token_url":"` + srv.URL + `/token","credential_source":{"file":"` + file + `"}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	u := &url.URL{Scheme: "gs", Host: "bucket", Path: "/p", RawQuery: "endpoint=" + url.QueryEscape(srv.URL)}
	st, err := OpenURL(t.Context(), u, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Stat(t.Context(), "config"); err == nil || !asked {
		t.Errorf("stat: got %v, asked with the token: %v; want an error, and true", err, asked)
	}
	if err := st.List(t.Context(), "", func(store.Info) error { return nil }); !store.IsPermanent(err) {
		t.Errorf("list: got %v, want a final error", err)
	}
}
