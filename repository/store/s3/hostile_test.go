package s3_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/s3"
)

// circles are services whose listings never end: each gives the keys of page n,
// and always says that there are more.
var circles = map[string]func(n int64) []string{
	"one page again and again": func(int64) []string { return []string{"p/data/a", "p/data/b"} },
	"two pages in turn":        func(n int64) []string { return [][]string{{"p/data/a"}, {"p/data/b"}}[n%2] },
	"a circle of other's keys": func(n int64) []string { return []string{fmt.Sprintf("p/Data/%d", n%7)} },
	"pages without entries":    func(int64) []string { return nil },
}

func TestListingsThatLeadRoundInACircleEndWithAnError(t *testing.T) {
	t.Parallel()
	for name, keys := range circles {
		for _, versions := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " versions ", versions), func(t *testing.T) {
				var pages atomic.Int64
				srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					page(w, r, pages.Add(1), keys)
				}))
				defer srv.Close()
				query := "region=us-east-1&lookup=path&endpoint=" + url.QueryEscape(srv.URL)
				if versions {
					query += "&versions=first"
				}
				st, err := s3.OpenURL(t.Context(), &url.URL{Scheme: "s3", Host: "bucket", Path: "/p", RawQuery: query}, s3.Options{Getenv: testKeys})
				if err != nil {
					t.Fatal(err)
				}
				shown := map[string]bool{}
				err = st.List(t.Context(), "", func(info store.Info) error {
					if shown[info.Name] {
						t.Errorf("%s was shown twice", info.Name)
					}
					shown[info.Name] = true
					return nil
				})
				if !store.IsPermanent(err) || !strings.Contains(err.Error(), strings.TrimPrefix(srv.URL, "http://")) {
					t.Errorf("after %d pages: %v, want a final error that names the service", pages.Load(), err)
				}
			})
		}
	}
}

func testKeys(name string) string {
	return map[string]string{"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}[name]
}

// page answers with one page of a listing that has another one.
func page(w http.ResponseWriter, r *http.Request, n int64, keys func(int64) []string) {
	var b strings.Builder
	const time = "<LastModified>2026-11-22T00:00:00.000Z</LastModified><Size>3</Size>"
	if r.URL.Query().Has("versions") {
		fmt.Fprintf(&b, "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>%d</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>", n)
		for _, key := range keys(n) {
			fmt.Fprintf(&b, "<Version><Key>%s</Key><VersionId>v%d</VersionId>%s</Version>", key, n, time)
		}
		b.WriteString("</ListVersionsResult>")
	} else {
		fmt.Fprintf(&b, "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>", n)
		for _, key := range keys(n) {
			fmt.Fprintf(&b, "<Contents><Key>%s</Key>%s</Contents>", key, time)
		}
		b.WriteString("</ListBucketResult>")
	}
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprint(w, b.String())
}
