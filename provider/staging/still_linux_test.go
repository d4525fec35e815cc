package staging

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestUnmovedNeedsTimesThatTell: a directory in which a name came and another
// went within one step of the clock has the time it had before.
func TestUnmovedNeedsTimesThatTell(t *testing.T) {
	const tick = 4 * time.Millisecond
	begun := time.Unix(1000, 500_000_000)
	at := func(d time.Duration) stat {
		when := begun.Add(d)
		var s stat
		s.mtime = unix.StatxTimestamp{Sec: when.Unix(), Nsec: uint32(when.Nanosecond())}
		return s
	}
	for _, c := range []struct {
		name        string
		before, now time.Duration
		want        bool
	}{
		{"long ago", -time.Second, -time.Second, true},
		{"changed between", -time.Second, time.Millisecond, false},
		{"in the step that runs", -time.Millisecond, -time.Millisecond, false},
		{"in the step before", -6 * time.Millisecond, -6 * time.Millisecond, false},
		{"two steps ago", -9 * time.Millisecond, -9 * time.Millisecond, true},
	} {
		before, now := at(c.before), at(c.now)
		if got := unmoved(&before, &now, begun, tick); got != c.want {
			t.Errorf("%s: unmoved is %v", c.name, got)
		}
	}
}
