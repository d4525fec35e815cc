package s3_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/storetest/server"
)

func TestLockedObjectsCannotBeDeletedBeforeTheirTime(t *testing.T) {
	t.Parallel()
	srv := server.StartS3(t)
	var stores []*lockedStore
	for _, mode := range []string{"governance", "compliance"} {
		stores = append(stores, putLocked(t, srv, mode))
	}
	if err := open(t, srv, srv.Bucket(t, true), "&lock=1h").(store.Retainer).Retain(t.Context(), "data/none", time.Now()); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("locking what is not there: %v", err)
	}
	// Both wait together.
	for _, s := range stores {
		time.Sleep(time.Until(s.begun.Add(5 * time.Second)))
		if err := s.Delete(t.Context(), "data/x"); !errors.Is(err, store.ErrLocked) {
			t.Errorf("%s: deleting after the first time, before the renewed one: %v", s.mode, err)
		}
	}
	for _, s := range stores {
		time.Sleep(time.Until(s.renewed.Add(2 * time.Second)))
		if err := s.Delete(t.Context(), "data/x"); err != nil {
			t.Errorf("%s: deleting after its time: %v", s.mode, err)
		}
		if _, err := s.Stat(t.Context(), "data/x"); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("%s: after its deletion: %v", s.mode, err)
		}
	}
}

// lockedStore is a store with an object whose lock was renewed.
type lockedStore struct {
	store.Store
	mode           string
	begun, renewed time.Time
}

// putLocked puts an object that is locked, sees that it cannot be deleted, and
// renews the lock.
func putLocked(t *testing.T, srv *server.S3, mode string) *lockedStore {
	bucket := srv.Bucket(t, true)
	st := open(t, srv, bucket, "&lock=4s&lock_mode="+mode)
	begun := time.Now()
	if err := st.Put(t.Context(), "data/x", []byte("precious")); err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), "data/x"); !errors.Is(err, store.ErrLocked) || !store.IsPermanent(err) {
		t.Errorf("%s: deleting at once: %v", mode, err)
	}
	// Nor by a store that was opened without the lock.
	if err := open(t, srv, bucket, "").Delete(t.Context(), "data/x"); !errors.Is(err, store.ErrLocked) {
		t.Errorf("%s: deleting without the lock: %v", mode, err)
	}
	if info, err := st.Stat(t.Context(), "data/x"); err != nil || info.Size != 8 {
		t.Errorf("%s: after that: %v, %v", mode, info, err)
	}
	renewed := begun.Add(8 * time.Second)
	if err := st.(store.Retainer).Retain(t.Context(), "data/x", renewed); err != nil {
		t.Fatal(err)
	}
	// Less is not shorter.
	if err := st.(store.Retainer).Retain(t.Context(), "data/x", begun.Add(time.Second)); err != nil {
		t.Errorf("%s: a shorter time: %v", mode, err)
	}
	return &lockedStore{st, mode, begun, renewed}
}

func TestALockInABucketWithoutObjectLockIsRefused(t *testing.T) {
	t.Parallel()
	srv := server.StartS3(t)
	err := open(t, srv, srv.Bucket(t, false), "&lock=1h").Put(t.Context(), "keys/x", []byte("x"))
	if err == nil || !store.IsPermanent(err) {
		t.Errorf("put: %v", err)
	}
}

// TestFirstVersionsAreReadWhateverCameLater: somebody with the keys hides one
// object by a plain deletion, and replaces another. A store shows that; one of
// first versions shows what was.
func TestFirstVersionsAreReadWhateverCameLater(t *testing.T) {
	t.Parallel()
	srv := server.StartS3(t)
	bucket := srv.Bucket(t, true)
	st := open(t, srv, bucket, "&lock=1h")
	for _, name := range []string{"data/hidden", "data/replaced", "data/kept"} {
		if err := st.Put(t.Context(), name, []byte("what it was")); err != nil {
			t.Fatal(err)
		}
	}
	key := func(name string) string { return "some/prefix/" + name }
	if err := srv.Admin.RemoveObject(t.Context(), bucket, key("data/hidden"), minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"data/replaced"} {
		if _, err := srv.Admin.PutObject(t.Context(), bucket, key(name), bytes.NewReader([]byte("rubbish")), 7, minio.PutObjectOptions{SendContentMd5: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.Stat(t.Context(), "data/hidden"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("what was deleted: %v", err)
	}

	first := open(t, srv, bucket, "&versions=first")
	var listed []string
	err := first.List(t.Context(), "data/", func(info store.Info) error {
		listed = append(listed, info.Name)
		if info.Size != int64(len("what it was")) {
			t.Errorf("%s: %d bytes", info.Name, info.Size)
		}
		return nil
	})
	if err != nil || len(listed) != 3 {
		t.Errorf("listed %v: %v", listed, err)
	}
	first = open(t, srv, bucket, "&versions=first") // which has listed nothing
	for _, name := range []string{"data/hidden", "data/replaced", "data/kept"} {
		p := make([]byte, len("what it was"))
		if n, err := first.ReadAt(t.Context(), name, p, 0); err != nil || string(p[:n]) != "what it was" {
			t.Errorf("%s: %q, %v", name, p[:n], err)
		}
	}
	if err := first.Put(t.Context(), "data/y", nil); err == nil || !store.IsPermanent(err) {
		t.Errorf("putting: %v", err)
	}
	if err := first.Delete(t.Context(), "data/kept"); err == nil || !store.IsPermanent(err) {
		t.Errorf("deleting: %v", err)
	}
}

func TestKeysThatAreWrongAreRefusedForGood(t *testing.T) {
	t.Parallel()
	srv := server.StartS3(t)
	bucket := srv.Bucket(t, false)
	wrong := *srv
	st := openWith(t, &wrong, bucket, func(name string) string {
		return map[string]string{"AWS_ACCESS_KEY_ID": server.S3Key, "AWS_SECRET_ACCESS_KEY": "anotherone"}[name]
	})
	if err := st.Put(t.Context(), "data/large", make([]byte, 1<<20)); err == nil || !store.IsPermanent(err) {
		t.Errorf("put: %v", err)
	}
	if _, err := st.Stat(t.Context(), "data/x"); err == nil || !store.IsPermanent(err) || errors.Is(err, store.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
}
