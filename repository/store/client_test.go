package store_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
)

// An answer without end, of an error or of a listing, is read to a bound; a
// redirection is not followed.
func TestClientBoundsAnswersAndFollowsNoRedirection(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirection was followed") }))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return
		case "/refused":
			w.WriteHeader(http.StatusInternalServerError)
		}
		for p := make([]byte, 64<<10); ; {
			if _, err := w.Write(p); err != nil {
				return
			}
		}
	}))
	defer srv.Close()
	client := store.Client(http.DefaultTransport)
	for path, most := range map[string]int64{"/refused": 1 << 20, "/list": 32 << 20, "/away": 1 << 20} {
		resp, err := client.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || n > most {
			t.Errorf("%s: read %d bytes, want at most %d (%v)", path, n, most, err)
		}
	}
}
