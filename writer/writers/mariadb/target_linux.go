package mariadb

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

// target is how far binary logs are replayed. The zero target is the end of the
// logs that were restored.
type target struct {
	none bool      // not at all: the instant of the backup
	time time.Time // up to the first transaction of this second, without it
	gtid string    // up to where these transactions are the newest of their domains
	file string    // up to a position, with what ends there
	pos  uint64
}

const targetWords = `"Target"="end" or "instant", "Target Time"="2026-11-22T10:30:00Z", "Target GTID"="0-1-42", "Target Position"="binlog.000012:3456"`

// point reports whether the target is one of which the logs must have a place.
func (t target) point() bool { return !t.time.IsZero() || t.gtid != "" || t.file != "" }

// String names the target as the options do.
func (t target) String() string {
	switch {
	case t.none:
		return "instant"
	case !t.time.IsZero():
		return "time " + t.time.Format(time.RFC3339)
	case t.gtid != "":
		return "GTID " + t.gtid
	case t.file != "":
		return fmt.Sprintf("position %s:%d", t.file, t.pos)
	}
	return "end"
}

// parseTarget reads the wishes of a restore: its options, and how far it is to be
// rolled forward.
func parseTarget(c *metadata.Component) (target, error) {
	text, _ := c.RestoreOptions()
	t, given, err := parseTargetOptions(text)
	if err != nil {
		return t, err
	}
	var other target
	kind, point := c.RollForward()
	switch kind {
	case vss.RollForwardNone:
		other.none = true
	case vss.RollForwardAll:
	case vss.RollForwardPartial:
		if other, err = parsePoint(point); err != nil {
			return t, err
		}
	default:
		return t, nil
	}
	if given && t != other {
		return t, fmt.Errorf("restore options and roll-forward name two targets, %v and %v; give one of them", t, other)
	}
	return other, nil
}

// parseTargetOptions reads restore options, and whether there is a target among them.
func parseTargetOptions(text string) (t target, given bool, err error) {
	options, err := vss.ParseRestoreOptions(text)
	if err != nil {
		return t, false, err
	}
	for i, o := range options {
		next, err := parseTargetOption(o)
		if err != nil {
			return t, false, err
		}
		if i > 0 {
			return t, false, fmt.Errorf("restore options name two targets, %v and %v; give one of them", t, next)
		}
		t, given = next, true
	}
	return t, given, nil
}

func parseTargetOption(o vss.RestoreOption) (target, error) {
	switch {
	case o.Sub != "":
		return target{}, fmt.Errorf("restore option %q is for %q, and this component has nothing below it; give it for the component itself", o.Name, o.Sub)
	case o.Is("Target") && strings.EqualFold(o.Value, "end"):
		return target{}, nil
	case o.Is("Target") && strings.EqualFold(o.Value, "instant"):
		return target{none: true}, nil
	case o.Is("Target Time"):
		return parseTime(o.Value)
	case o.Is("Target GTID"):
		return parseGTID(o.Value)
	case o.Is("Target Position"):
		return parsePosition(o.Value)
	}
	return target{}, fmt.Errorf("restore option %.200q=%.200q is none of the mariadb writer's, which are %s", o.Name, o.Value, targetWords)
}

// within refuses a target that cannot be met: what the copy has is never taken back,
// and what is not in the logs cannot be replayed. s is the backup's stamp, nil if
// there is none that tells, and last says that no more backups of the chain follow.
func (t target) within(n notes, s *stamp, last bool) error {
	if !t.point() {
		return nil
	}
	if s == nil {
		s = &stamp{logs: true} // it may have logs
	}
	if base, _, _ := cutNumber(t.file); t.file != "" && n.LogBase != "" && base != filepath.Base(n.LogBase) {
		return fmt.Errorf("the target %v is in no log of this server, which calls them %s.000001 and so on; give a position in one of those", t, filepath.Base(n.LogBase))
	}
	early, late := t.beside(n, s)
	at := s.words()
	if !t.time.IsZero() {
		at = n.Instant.Format(time.RFC3339Nano)
		if late {
			at = n.LogsUntil.Format(time.RFC3339Nano)
		}
	}
	switch {
	case early:
		return fmt.Errorf("the target, %v, lies before the backup that the logs follow, which is of %s; restore an earlier backup", t, at)
	case last && !s.logs:
		return fmt.Errorf("the target is %v, and this backup has no logs to go forward with; restore a log backup made after that, or with \"Target\"=\"instant\"", t)
	case last && late:
		return fmt.Errorf("the target, %v, lies after the end of the logs in this backup, %s; restore a later log backup, or to the end with \"Target\"=\"end\"", t, at)
	}
	return nil
}

// beside reports whether a target lies before what a backup of the data has, or after
// what one of logs has, as far as backups tell.
func (t target) beside(n notes, s *stamp) (early, late bool) {
	switch {
	case !t.time.IsZero():
		return t.time.Before(n.Instant), !n.LogsUntil.IsZero() && t.time.After(n.LogsUntil)
	case s.file == "":
		return false, false
	case t.file != "":
		c := compareLogs(t.file, s.file)
		return !s.logs && (c < 0 || c == 0 && t.pos < s.pos), s.logs && c >= 0
	}
	want, err := parseState(t.gtid)
	have, err2 := parseState(s.gtid)
	if err != nil || err2 != nil {
		return false, false
	}
	return !s.logs && have.passed(want), s.logs && have.lacks(want)
}

// parsePoint reads a point of which nobody has said what it is.
func parsePoint(text string) (target, error) {
	for _, parse := range []func(string) (target, error){parseTime, parsePosition, parseGTID} {
		if t, err := parse(text); err == nil {
			return t, nil
		}
	}
	return target{}, fmt.Errorf("%.200q is no point to roll forward to: give a time such as 2026-11-22T10:30:00Z, a position such as binlog.000012:3456 or a GTID such as 0-1-42", text)
}

func parseTime(text string) (target, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return target{}, fmt.Errorf("%.200q is no time such as 2026-11-22T10:30:00Z", text)
	}
	if at.Nanosecond() != 0 {
		return target{}, fmt.Errorf("time %.200q has parts of a second, which binary logs do not; give whole seconds", text)
	}
	return target{time: at.UTC()}, nil
}

func parsePosition(text string) (target, error) {
	file, pos, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(pos, 10, 63)
	if err != nil || !isLogName(file) {
		return target{}, fmt.Errorf("%.200q is no position such as binlog.000012:3456", text)
	}
	return target{file: file, pos: n}, nil
}

func parseGTID(text string) (target, error) {
	if text == "" {
		return target{}, errors.New("an empty text is no GTID such as 0-1-42")
	}
	_, err := parseState(text)
	if err != nil {
		return target{}, err
	}
	return target{gtid: text}, nil
}
