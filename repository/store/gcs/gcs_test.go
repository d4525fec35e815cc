package gcs_test

import (
	"net/url"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/gcs"
	"github.com/sombra-backup/sombra/repository/store/storetest"
	"github.com/sombra-backup/sombra/repository/store/storetest/server"
)

func open(t *testing.T, srv *server.GCS, bucket string) store.Store {
	t.Helper()
	st, err := gcs.OpenURL(t.Context(), &url.URL{Scheme: "gs", Host: bucket, Path: "/some/prefix"}, gcs.Options{Getenv: srv.Getenv})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestStoreKeepsThePromisesOfStorage(t *testing.T) {
	srv := server.StartGCS(t)
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, srv, srv.Bucket(t)) })
	storetest.RunTwo(t, func(t *testing.T) (store.Store, store.Store) {
		bucket := srv.Bucket(t)
		return open(t, srv, bucket), open(t, srv, bucket)
	})
}

func TestABucketThatIsNotThereIsNamed(t *testing.T) {
	srv := server.StartGCS(t)
	if err := open(t, srv, "nobodys").Put(t.Context(), "keys/x", nil); err == nil || !store.IsPermanent(err) {
		t.Errorf("put: %v", err)
	}
}
