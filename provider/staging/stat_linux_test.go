package staging

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func at(t time.Time) unix.StatxTimestamp {
	return unix.StatxTimestamp{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

func TestWhenAFileCountsAsUnchanged(t *testing.T) {
	const tick = 4 * time.Millisecond
	changed := time.Unix(1700000000, 500000000)
	base := stat{mode: unix.S_IFREG | 0o644, ino: 7, dev: 1, size: 100, mtime: at(changed), ctime: at(changed)}
	later := changed.Add(time.Minute)
	cases := []struct {
		name  string
		edit  func(*stat)
		since time.Time
		want  bool
	}{
		{"nothing differs", func(*stat) {}, later, true},
		{"size", func(s *stat) { s.size++ }, later, false},
		{"inode: something was renamed over it", func(s *stat) { s.ino++ }, later, false},
		{"time of modification", func(s *stat) { s.mtime.Nsec++ }, later, false},
		{"time of modification set back, time of change tells", func(s *stat) { s.ctime.Nsec++ }, later, false},
		{"type", func(s *stat) { s.mode = unix.S_IFLNK | 0o777 }, later, false},
		{"time of access alone", func(s *stat) { s.atime.Sec++ }, later, true},
		{"changed in the tick in which the copy began", func(*stat) {}, changed, false},
		{"changed one tick before", func(*stat) {}, changed.Add(tick), false},
		{"changed two ticks before", func(*stat) {}, changed.Add(2 * tick), false},
		{"changed more than two ticks before", func(*stat) {}, changed.Add(2*tick + 1), true},
		{"changed in the future: the clock was set back", func(*stat) {}, changed.Add(-time.Hour), false},
		{"never copied", func(*stat) {}, time.Time{}, false},
	}
	for _, c := range cases {
		now := base
		c.edit(&now)
		if got := unchanged(&base, &now, c.since, tick); got != c.want {
			t.Errorf("%s: unchanged is %v, want %v", c.name, got, c.want)
		}
	}
}

// TestTimesInWholeSecondsAreNotBelieved: ext4 with small inodes has no better
// ones, so a file may change twice within a time of change.
func TestTimesInWholeSecondsAreNotBelieved(t *testing.T) {
	const tick = 4 * time.Millisecond
	changed := time.Unix(1700000000, 0)
	s := stat{mode: unix.S_IFREG, mtime: at(changed), ctime: at(changed)}
	if unchanged(&s, &s, changed.Add(900*time.Millisecond), tick) {
		t.Error("a copy begun within the second is believed")
	}
	if !unchanged(&s, &s, changed.Add(1100*time.Millisecond), tick) {
		t.Error("a copy begun after the second is not believed")
	}
}

func TestTickIsOneOfTheKernel(t *testing.T) {
	if d := clockTick(); d < 500*time.Microsecond || d > 20*time.Millisecond {
		t.Errorf("tick of file times: %v", d)
	}
}
