package mariadb

import (
	"fmt"
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
	gtid string    // up to these transactions, with them
	file string    // up to a position, with what ends there
	pos  uint64
}

const targetWords = `"Target"="end" or "instant", "Target Time"="2026-11-22T10:30:00Z", "Target GTID"="0-1-42", "Target Position"="binlog.000012:3456"`

// parseTarget reads the wishes of a restore.
func parseTarget(c *metadata.Component) (target, error) {
	var t target
	switch kind, point := c.RollForward(); kind {
	case vss.RollForwardNone:
		t.none = true
	case vss.RollForwardPartial:
		var err error
		if t, err = parsePoint(point); err != nil {
			return t, err
		}
	}
	text, _ := c.RestoreOptions()
	options, err := vss.ParseRestoreOptions(text)
	if err != nil {
		return t, err
	}
	for _, o := range options {
		switch {
		case o.Sub != "":
			err = fmt.Errorf("restore option %q is for %q, and this component has nothing below it; give it for the component itself", o.Name, o.Sub)
		case o.Is("Target") && strings.EqualFold(o.Value, "end"):
			t = target{}
		case o.Is("Target") && strings.EqualFold(o.Value, "instant"):
			t = target{none: true}
		case o.Is("Target Time"):
			t, err = parseTime(o.Value)
		case o.Is("Target GTID"):
			t, err = parseGTID(o.Value)
		case o.Is("Target Position"):
			t, err = parsePosition(o.Value)
		default:
			err = fmt.Errorf("restore option %.200q=%.200q is none of the mariadb writer's, which are %s", o.Name, o.Value, targetWords)
		}
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

// within refuses a time that cannot be met: what the copy has is never taken back,
// and what is not in the logs cannot be replayed. last says that no more backups of
// the chain follow.
func (t *target) within(n notes, last bool) error {
	switch at := t.time.Format(time.RFC3339); {
	case t.time.IsZero():
	case t.time.Before(n.Instant):
		return fmt.Errorf("the target %s lies before the backup that the logs follow, which is of %s; restore an earlier backup", at, n.Instant.Format(time.RFC3339Nano))
	case last && !n.LogsUntil.IsZero() && t.time.After(n.LogsUntil):
		return fmt.Errorf("the target %s lies after the end of the logs in this backup, %s; restore a later log backup, or to the end", at, n.LogsUntil.Format(time.RFC3339Nano))
	}
	return nil
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
	return target{time: at}, nil
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
	for one := range strings.SplitSeq(text, ",") {
		parts := strings.Split(one, "-")
		if len(parts) != 3 {
			return target{}, fmt.Errorf("%.200q is no GTID such as 0-1-42", text)
		}
		for i, p := range parts {
			bits := 32
			if i == 2 {
				bits = 64
			}
			if _, err := strconv.ParseUint(p, 10, bits); err != nil {
				return target{}, fmt.Errorf("%.200q is no GTID such as 0-1-42", text)
			}
		}
	}
	return target{gtid: text}, nil
}
