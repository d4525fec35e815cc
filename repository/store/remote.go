package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
)

// IsSetup says whether an error of a request over a network comes from how it is
// set up, so that it will come again: a certificate nobody trusted vouches for,
// a name that does not exist.
func IsSetup(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) ||
		errors.As(err, &dns) && dns.IsNotFound
}

// RangeSize gives an object's size from the Content-Range of the answer to a
// request for the bytes from offset on. Some services answer with no bytes to one
// that begins at the very end.
func RangeSize(header string, offset int64) (size int64, err error) {
	var first, last int64
	if n, err := fmt.Sscanf(header, "bytes %d-%d/%d", &first, &last, &size); n != 3 || err != nil || first != offset || last < first-1 || size <= last {
		return 0, Permanent(fmt.Errorf("the service answers a request for a range from %d with %q", offset, header))
	}
	return size, nil
}

// Endpoint reads the URL of a service. Without encryption only this machine is
// allowed, unless plaintext says otherwise.
func Endpoint(text string, plaintext bool) (*url.URL, error) {
	e, err := url.Parse(text)
	if err != nil || e.Host == "" || e.User != nil || e.RawQuery != "" || e.Fragment != "" || e.Scheme != "https" && e.Scheme != "http" {
		return nil, Permanent(errors.New("the endpoint is not of the form https://host:port"))
	}
	ip := net.ParseIP(e.Hostname())
	if e.Scheme == "http" && !plaintext && e.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, Permanent(errors.New("the endpoint is reached without encryption, which shows and lets others alter what is sent; use https, or add plaintext=yes to the URL"))
	}
	return e, nil
}
