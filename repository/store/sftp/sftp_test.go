package sftp_test

import (
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/sftp"
	"github.com/sombra-backup/sombra/repository/store/storetest"
	"github.com/sombra-backup/sombra/repository/store/storetest/server"
)

var folders atomic.Int64

// place is a folder of the server that is not there yet.
func place(srv *server.SSH) string {
	return filepath.Join(srv.Dir, string(rune('a'+folders.Add(1)%26)), "repository", string(rune('a'+folders.Add(1)/26)))
}

func open(t *testing.T, srv *server.SSH, dir string) *sftp.Store {
	t.Helper()
	l, err := sftp.Parse(&url.URL{Scheme: "sftp", Host: srv.Host, Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	st := sftp.Open(l, sftp.Options{Command: srv.Command})
	t.Cleanup(func() { st.Close() })
	return st
}

func TestStoreKeepsThePromisesOfStorage(t *testing.T) {
	srv := server.StartSSH(t)
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, srv, place(srv)) })
	storetest.RunTwo(t, func(t *testing.T) (store.Store, store.Store) {
		dir := place(srv)
		return open(t, srv, dir), open(t, srv, dir)
	})
}
