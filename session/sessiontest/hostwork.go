package sessiontest

import (
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// testHostWork: names that are no service's are refused as such; everything else
// either works or is said to be what this host does not do.
func testHostWork(t *testing.T, tg session.Target) {
	t.Helper()
	c := ctx(t)
	for _, bad := range []string{"", "-H", "--help", "a/b", "a b", "*", "a\nb", "a.socket", "poweroff.target", "template@"} {
		_, err := tg.Service(c, bad)
		wantCode(t, err, vss.ErrInvalidArgument)
		_, err = tg.StopService(c, bad)
		wantCode(t, err, vss.ErrInvalidArgument)
		wantCode(t, tg.StartService(c, bad), vss.ErrInvalidArgument)
	}
	wantOneOf := func(err error, codes ...vss.Code) {
		t.Helper()
		if !slices.ContainsFunc(codes, func(code vss.Code) bool { return errors.Is(err, code) }) {
			t.Errorf("error %v, want one of %v", err, codes)
		}
	}
	const absent = "sombra-no-such-service"
	_, err := tg.Service(c, absent)
	wantOneOf(err, vss.ErrObjectNotFound, vss.ErrNotSupported)
	_, err = tg.StopService(c, absent)
	wantOneOf(err, vss.ErrObjectNotFound, vss.ErrNotSupported)
	wantOneOf(tg.StartService(c, absent), vss.ErrObjectNotFound, vss.ErrNotSupported)

	if list, err := tg.Obstacles(c, []string{"none/such/file", "free"}); err != nil || len(list) > 0 {
		t.Errorf("nothing is there, and in the way is %+v, %v", list, err)
	}
	wantCode(t, tg.CancelReboot(c, "00000000-0000-0000-0000-000000000001"), vss.ErrObjectNotFound)
	if list, err := tg.PendingReboots(c); err != nil || len(list) > 0 {
		t.Errorf("%v wait for the next start, %v", list, err)
	}
	testStaging(t, tg)
}

// testStaging: what is staged and not committed goes with the set.
func testStaging(t *testing.T, tg session.Target) {
	t.Helper()
	c := ctx(t)
	set, err := tg.AtReboot(c, "a set")
	if err != nil {
		wantCode(t, err, vss.ErrNotSupported)
		return
	}
	if _, err := tg.Mkdir(c, "staging"); err != nil {
		t.Fatal(err)
	}
	staged, err := set.Stage(c, "staging/f")
	must(t, err)
	must(t, tg.Symlink(c, session.Entry{Target: "x", Mode: fs.ModeSymlink | 0o777}, staged))
	if _, err := set.Stage(c, "../f"); err == nil {
		t.Error("a name that leads out is staged")
	}
	must(t, set.Close())
	if _, err := tg.Lstat(c, staged); err == nil {
		t.Error("what was staged is there after Close")
	}
	if list, err := tg.PendingReboots(c); err != nil || len(list) > 0 {
		t.Errorf("%v wait for the next start, %v", list, err)
	}
}
