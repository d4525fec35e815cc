package mariadb

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// stamp is what the writer knows a backup by: how far the binary log was.
//
// As text it is "mariadb2 KIND FILE POSITION GTID LOG", with a dash for what there is
// not. Earlier stamps, "mariadb1", end with the GTID.
type stamp struct {
	// logs: the backup has logs up to the beginning of file; else it has the
	// data as of the position.
	logs bool
	status
	id logID // of file
}

const stampMark, earlierMark = "mariadb2", "mariadb1"

func (s stamp) String() string {
	kind, file, gtid := "data", s.file, s.gtid
	if s.logs {
		kind = "logs"
	}
	if file == "" {
		file = "-"
	}
	if gtid == "" {
		gtid = "-"
	}
	return fmt.Sprintf("%s %s %s %d %s %v", stampMark, kind, file, s.pos, gtid, s.id)
}

// words says how far the backup goes, in a message.
func (s stamp) words() string {
	gtid := s.gtid
	if gtid == "" {
		gtid = "none"
	}
	if s.logs {
		return fmt.Sprintf("which is before %s (GTID %s)", s.file, gtid)
	}
	return fmt.Sprintf("%s:%d (GTID %s)", s.file, s.pos, gtid)
}

// parseStamp reads a stamp. It comes from a medium.
func parseStamp(text vss.BackupStamp) (stamp, error) {
	var s stamp
	bad := fmt.Errorf("backup stamp %.200q is none of this writer's", text)
	if len(text) > 1<<16 {
		return s, bad
	}
	f := strings.Fields(string(text))
	if len(f) == 5 && f[0] == earlierMark {
		f = append(f, "-")
	} else if len(f) != 6 || f[0] != stampMark {
		return s, bad
	}
	pos, err := strconv.ParseUint(f[3], 10, 63)
	id, err2 := parseLogID(f[5])
	if err != nil || err2 != nil || f[1] != "data" && f[1] != "logs" {
		return s, bad
	}
	s.logs, s.pos, s.id = f[1] == "logs", pos, id
	if f[2] != "-" {
		s.file = f[2]
	}
	if f[4] != "-" {
		s.gtid = f[4]
	}
	if !isLogName(s.file) && s.file != "" || strings.ContainsFunc(s.gtid, func(r rune) bool { return !strings.ContainsRune("0123456789-,", r) }) {
		return s, bad
	}
	return s, nil
}

// isLogName reports whether a name is that of a binary log: no path, and a number
// at its end.
func isLogName(name string) bool {
	base, number, ok := cutNumber(name)
	return ok && base != "" && number != "" && !strings.ContainsAny(name, "/\x00\n ") && name[0] != '-' && len(name) <= 255
}

// cutNumber parts a log's name into its base and its number.
func cutNumber(name string) (base, number string, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", "", false
	}
	base, number = name[:i], name[i+1:]
	if number == "" || strings.ContainsFunc(number, func(r rune) bool { return r < '0' || r > '9' }) {
		return "", "", false
	}
	return base, number, true
}
