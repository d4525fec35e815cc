package vss

import "time"

// FileTime is FILETIME and VSS_TIMESTAMP: the number of 100 ns since
// 1601-01-01 UTC. Zero means "no time given" where the model allows that, as in
// a differenced file whose time the requester decides (R-SET-31).
type FileTime uint64

// unixEpoch is 1970-01-01 in seconds since 1601-01-01.
const unixEpoch = 11644473600

const ticksPerSecond = 10_000_000

// FileTimeOf converts t, rounding down to 100 ns. Only the zero time.Time gives
// 0; any other time before 1601 gives 1, and times past the last FileTime (in
// the year 60056) give the last.
func FileTimeOf(t time.Time) FileTime {
	if t.IsZero() {
		return 0
	}
	sec := t.Unix() + unixEpoch
	if sec < 0 {
		return 1
	}
	const lastSecond = ^uint64(0)/ticksPerSecond - 1
	if uint64(sec) > lastSecond {
		return ^FileTime(0)
	}
	return max(FileTime(sec)*ticksPerSecond+FileTime(t.Nanosecond()/100), 1)
}

// Time converts to UTC; 0 gives the zero time.Time.
func (f FileTime) Time() time.Time {
	if f == 0 {
		return time.Time{}
	}
	sec := int64(f/ticksPerSecond) - unixEpoch
	return time.Unix(sec, int64(f%ticksPerSecond)*100).UTC()
}

// IsZero reports whether no time is given.
func (f FileTime) IsZero() bool { return f == 0 }

// BackupStamp is what a writer remembers a backup by: text that only the writer
// understands. The requester stores it and gives it back (R-TYPE-12).
type BackupStamp string
