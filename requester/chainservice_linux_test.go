package requester_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// busyServices is a service that writes to its files whenever it is started.
type busyServices struct {
	session.Target
	at     func() map[string]string
	file   string
	before []map[string]string // the files as they were at each start
}

func (b *busyServices) StopService(context.Context, string) (session.Service, error) {
	return session.Service{State: session.ServiceRunning}, nil
}

func (b *busyServices) StartService(context.Context, string) error {
	b.before = append(b.before, b.at())
	return os.WriteFile(b.file, []byte(fmt.Sprint("of start ", len(b.before))), 0o600)
}

// A service that is started between the operations of a chain may write to what they
// have restored: the last one leaves what was backed up all the same.
func TestServiceMayWriteBetweenTheOperationsOfAChainR_RES_7(t *testing.T) {
	for _, sequential := range []bool{false, true} {
		s := newStore(t, "db")
		s.doc.method.Method, s.doc.method.Service = vss.RestoreMethodStopRestoreStart, "app.service"
		s.start()
		files := map[string]string{"db/a.dat": "a", "db/1.log": "1"}
		s.save(vss.BackupTypeFull, files)
		files = with(files, "db/2.log", "2")
		rec := s.save(vss.BackupTypeIncremental, files)
		s.wipe()
		s.start()
		busy := &busyServices{at: s.state, file: s.path("db/a.dat")}
		back, err := s.restoreThrough(s.doc, &requester.Result{Record: rec}, requester.RestoreRequest{Sequential: sequential}, func(t session.Target) session.Target {
			busy.Target = t
			return busy
		})
		if err != nil || back.Outcome != requester.Complete || len(busy.before) != 2 {
			t.Fatalf("%v, %v, %d starts, %s", back.Outcome, err, len(busy.before), leftOut(back.LeftOut))
		}
		if last := busy.before[1]; fmt.Sprint(last) != fmt.Sprint(files) {
			t.Errorf("sequential %v: before the last start: %q, want %q", sequential, last, files)
		}
	}
}
