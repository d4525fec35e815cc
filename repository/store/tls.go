package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// IsCertificate says whether err is about the certificate of a server: nobody
// trusted vouches for it, or it is of another host, or its time is over.
func IsCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}
