package azblob_test

import (
	"net/url"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/azblob"
	"github.com/sombra-backup/sombra/repository/store/storetest"
	"github.com/sombra-backup/sombra/repository/store/storetest/server"
)

func open(t *testing.T, srv *server.Azure, name string) store.Store {
	t.Helper()
	u := &url.URL{Scheme: "azblob", Host: name, Path: "/some/prefix", RawQuery: "endpoint=" + srv.Endpoint}
	st, err := azblob.OpenURL(t.Context(), u, azblob.Options{Getenv: srv.Getenv})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestStoreKeepsThePromisesOfStorage(t *testing.T) {
	srv := server.StartAzure(t)
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, srv, srv.Container(t)) })
	storetest.RunTwo(t, func(t *testing.T) (store.Store, store.Store) {
		name := srv.Container(t)
		return open(t, srv, name), open(t, srv, name)
	})
}

func TestAContainerThatIsNotThereIsNamed(t *testing.T) {
	srv := server.StartAzure(t)
	if err := open(t, srv, "nobodys").Put(t.Context(), "keys/x", nil); err == nil || !store.IsPermanent(err) {
		t.Errorf("put: %v", err)
	}
}
