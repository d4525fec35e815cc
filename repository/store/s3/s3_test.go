package s3_test

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/retry"
	"github.com/sombra-backup/sombra/repository/store/s3"
	"github.com/sombra-backup/sombra/repository/store/storetest"
	"github.com/sombra-backup/sombra/repository/store/storetest/server"
)

// open opens a bucket of the server; more are parameters that begin with "&".
func open(t *testing.T, srv *server.S3, bucket, more string) store.Store {
	t.Helper()
	return openURL(t, fmt.Sprintf("s3://%s/some/prefix?endpoint=%s%s", bucket, srv.Endpoint, more), srv.Getenv)
}

// openWith opens a bucket with the keys of an environment.
func openWith(t *testing.T, srv *server.S3, bucket string, getenv func(string) string) store.Store {
	t.Helper()
	return openURL(t, "s3://"+bucket+"?endpoint="+srv.Endpoint, getenv)
}

func openURL(t *testing.T, location string, getenv func(string) string) store.Store {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	st, err := s3.OpenURL(t.Context(), u, s3.Options{Getenv: getenv})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestStoreKeepsThePromisesOfStorage(t *testing.T) {
	t.Parallel()
	srv := server.StartS3(t)
	for name, lock := range map[string]bool{"plain": false, "with versions": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The server answers a put of a name that is taken before it has
			// read the data, and closes the connection: what comes of that is
			// mended by trying again, as in the program.
			storetest.Run(t, func(t *testing.T) store.Store {
				return retry.New(open(t, srv, srv.Bucket(t, lock), ""), retry.Options{})
			})
			storetest.RunTwo(t, func(t *testing.T) (store.Store, store.Store) {
				bucket := srv.Bucket(t, lock)
				return open(t, srv, bucket, ""), open(t, srv, bucket, "")
			})
		})
	}
}
