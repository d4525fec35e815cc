package mariadb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// logID tells one binary log from others that have or had its name: RESET MASTER
// begins names, positions and GTIDs anew. The zero logID is not known.
type logID struct {
	when   uint32 // in seconds since 1970, by its first event
	server uint32 // the server id, by the same
	born   int64  // when the file was made, in nanoseconds since 1970; 0: not known
}

// String gives it as a stamp has it.
func (l logID) String() string {
	if l == (logID{}) {
		return "-"
	}
	return fmt.Sprintf("%d.%d.%d", l.when, l.server, l.born)
}

// parseLogID reads what String gives.
func parseLogID(text string) (l logID, err error) {
	if text == "-" {
		return l, nil
	}
	f := strings.Split(text, ".")
	if len(f) != 3 {
		return l, fmt.Errorf("%.200q tells no binary log", text)
	}
	when, err1 := strconv.ParseUint(f[0], 10, 32)
	server, err2 := strconv.ParseUint(f[1], 10, 32)
	born, err3 := strconv.ParseInt(f[2], 10, 64)
	return logID{uint32(when), uint32(server), born}, errors.Join(err1, err2, err3)
}

// same reports whether two are of one log, as far as both are known.
func (l logID) same(m logID) bool {
	if l == (logID{}) || m == (logID{}) {
		return true
	}
	return l.when == m.when && l.server == m.server && (l.born == m.born || l.born == 0 || m.born == 0)
}

func (l logID) words() string {
	at := time.Unix(int64(l.when), 0).UTC().Format(time.RFC3339)
	if l.born != 0 {
		at = time.Unix(0, l.born).UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("begun at %s by server id %d", at, l.server)
}

// readLogID reads it from a log: magic number, and the header of the format
// description, which has the time, the event's type and the server's id.
func readLogID(path string) (l logID, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return l, err
	}
	defer f.Close()
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_TYPE|unix.STATX_BTIME, &st); err != nil {
		return l, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return l, fmt.Errorf("binary log %s is no regular file", path)
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		l.born = st.Btime.Sec*int64(time.Second) + int64(st.Btime.Nsec)
	}
	const magic, formatDescription = "\xfebin", 15
	var head [13]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return logID{}, fmt.Errorf("read the beginning of binary log %s: %w", path, err)
	}
	if string(head[:4]) != magic || head[8] != formatDescription {
		return logID{}, fmt.Errorf("%s does not begin as a binary log does", path)
	}
	l.when, l.server = binary.LittleEndian.Uint32(head[4:8]), binary.LittleEndian.Uint32(head[9:13])
	return l, nil
}
