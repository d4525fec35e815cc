package azblob

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// The signature that requests carry in their URL shows in no error, and goes to
// no other host that an answer leads to.
func TestSignatureStaysSecret(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirection was followed") }))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	u := &url.URL{Scheme: "azblob", Host: "container", Path: "/p", RawQuery: "account=a&endpoint=" + url.QueryEscape(srv.URL)}
	st, err := OpenURL(t.Context(), u, Options{Getenv: func(name string) string {
		return map[string]string{"AZURE_STORAGE_SAS_TOKEN": "sv=2024&sig=verysecret"}[name]
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"redirected", "gone"} {
		_, err := st.Stat(t.Context(), "config")
		if err == nil || strings.Contains(err.Error(), "verysecret") {
			t.Errorf("%s: got %v, want an error without the signature", when, err)
		}
		if when == "redirected" {
			srv.Close()
		}
	}
}
