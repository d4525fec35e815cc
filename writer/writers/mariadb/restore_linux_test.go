package mariadb

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// meanwhile is a writer before whose PostRestore something happens.
type meanwhile struct {
	*writer.Remote
	do func()
}

func (m meanwhile) PostRestore(ctx context.Context, e *writer.Event) error {
	m.do()
	return m.Remote.PostRestore(ctx, e)
}

func (r *rig) wantStopped(err error, says string) {
	r.t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		r.t.Errorf("error %v; it should say %q", err, says)
	}
	if pid, err := lockedBy(r.m.Dir); err != nil || pid != 0 {
		r.t.Errorf("process %d runs, %v", pid, err)
	}
}

// What a restore that failed has left half done is not started by one after it that
// restores nothing, and what was there before both is kept.
func TestHalfARestoreIsNotStartedByTheNext(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	w, _, err := r.host(t, r.spec())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owner := r.spec().Owner
	r.wantStopped(playRestore(t.Context(), w, vss.FileRestoreStatusFailed), "left stopped")
	half := filepath.Join(r.m.Dir, "ibdata1")
	if err := errors.Join(os.WriteFile(half, []byte("half"), 0o600), os.Chown(half, int(owner.UID), int(owner.GID))); err != nil {
		t.Fatal(err)
	}
	specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Stored: []writer.Stored{{Metadata: doc, Owner: owner}}})
	if err != nil || len(specs) != 1 {
		t.Fatalf("Discover gives %d specs for a stored writer, %v", len(specs), err)
	}
	if w, _, err = r.host(t, specs[0]); err != nil {
		t.Fatal(err)
	}
	r.wantStopped(playRestore(t.Context(), w, vss.FileRestoreStatusNone), "half done")
	if _, err := os.Lstat(filepath.Join(r.m.Dir, asideName, "1", "data", "ibdata1")); err != nil {
		t.Error(err)
	}
}

// A server that somebody starts while files are restored is noticed, and what was
// moved aside stays.
func TestServerStartedDuringARestoreIsNoticed(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	w, _, err := r.host(t, r.spec())
	if err != nil {
		t.Fatal(err)
	}
	start := func() {
		kept := filepath.Join(r.m.Dir, asideName, "1", "data")
		for _, from := range []string{"ibdata1", "aria_log_control"} {
			if err := os.Link(filepath.Join(kept, from), filepath.Join(r.m.Dir, from)); err != nil {
				t.Fatal(err)
			}
		}
		// The locks are all that tells a server.
		if err := r.lock(); err != nil {
			t.Fatal(err)
		}
	}
	err = playRestore(t.Context(), meanwhile{w, start}, vss.FileRestoreStatusAll)
	if err == nil || !strings.Contains(err.Error(), "was started") || !strings.Contains(err.Error(), asideName) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Lstat(filepath.Join(r.m.Dir, asideName, "1", "data", "ibdata1")); err != nil {
		t.Error(err)
	}
}

// lock takes the locks of a server in this process, until the test ends.
func (r *rig) lock() error {
	s, err := holdStopped(r.m.Dir)
	if err == nil {
		r.t.Cleanup(func() { s.release() })
	}
	return err
}
