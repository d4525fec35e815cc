package store

import (
	"io"
	"net/http"
)

// Client gives a client for requests to a service that may be hostile. It follows
// no redirection, which would take keys along to another host, and reads no more
// of an answer that is not part of an object than maxPlain bytes.
func Client(carrier http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     bounded{carrier},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// maxPlain bounds an answer that is no part of an object, and maxRefusal one
// that tells of an error. A page of a listing has at most 5000 entries.
const (
	maxPlain   = 32 << 20
	maxRefusal = 1 << 20
)

// bounded is a carrier whose answers end: libraries read errors and listings
// whole. Objects are read by ranges, into room of a known size.
type bounded struct{ inner http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	if l, ok := req.Context().Value(listingKey{}).(*Listing); ok {
		if err := l.page(); err != nil {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, err
		}
	}
	resp, err := b.inner.RoundTrip(req)
	if err != nil || resp.StatusCode == http.StatusPartialContent || resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, err
	}
	most := int64(maxPlain)
	if resp.StatusCode >= 300 {
		most = maxRefusal
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, most), resp.Body}
	return resp, nil
}
