package postgres

import (
	"fmt"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// target is how far a restored cluster is recovered, and what becomes of it then.
type target struct {
	kind  targetKind
	time  time.Time
	lsn   lsn
	start startWish
	crash bool // by crash recovery alone, on the timeline it was on
}

type targetKind int

const (
	toDefault targetKind = iota // the end of the logs if there are any, else the instant
	toEnd
	toInstant
	toTime
	toLSN
)

// startWish is whether the cluster is started after it was recovered.
type startWish int

const (
	startAsBefore startWish = iota
	startAlways
	startNever
)

// parseTarget reads restore options, and what SetRollForward said.
func parseTarget(options string, roll vss.RollForwardType, point string) (target, error) {
	var t target
	list, err := vss.ParseRestoreOptions(options)
	if err != nil {
		return t, err
	}
	for _, o := range list {
		if o.Sub != "" {
			return t, fmt.Errorf("restore option %q is for %q; a cluster is restored as a whole", o.Name, o.Sub)
		}
		if err := t.option(o); err != nil {
			return t, err
		}
	}
	var other target
	switch roll {
	case vss.RollForwardNone:
		other.kind = toInstant
	case vss.RollForwardAll:
		other.kind = toEnd
	case vss.RollForwardPartial:
		if err := other.point(point); err != nil {
			return t, err
		}
	default:
		return t, nil
	}
	if t.kind != toDefault && (t.kind != other.kind || t.time != other.time || t.lsn != other.lsn) {
		return t, fmt.Errorf("restore options and roll-forward name two targets")
	}
	t.kind, t.time, t.lsn = other.kind, other.time, other.lsn
	return t, nil
}

// option takes in one restore option.
func (t *target) option(o vss.RestoreOption) error {
	name := strings.ToLower(o.Name)
	if name == "start" {
		switch o.Value {
		case "yes":
			t.start = startAlways
		case "no":
			t.start = startNever
		default:
			return fmt.Errorf(`restore option "start" is %q; it can be "yes" or "no"`, o.Value)
		}
		return nil
	}
	if t.kind != toDefault {
		return fmt.Errorf("restore option %q names a second target", o.Name)
	}
	var err error
	switch name {
	case "target":
		switch o.Value {
		case "end":
			t.kind = toEnd
		case "instant":
			t.kind = toInstant
		default:
			return fmt.Errorf(`restore option "target" is %q; it can be "end" or "instant"`, o.Value)
		}
	case "target-time":
		t.kind = toTime
		if t.time, err = time.Parse(time.RFC3339Nano, o.Value); err != nil {
			return fmt.Errorf(`restore option "target-time" is %q; give it as in 2026-11-22T14:30:00Z or 2026-11-22T14:30:00+01:00`, o.Value)
		}
	case "target-lsn":
		t.kind = toLSN
		if t.lsn, err = parseLSN(o.Value); err != nil {
			return fmt.Errorf(`restore option "target-lsn": %w`, err)
		}
	default:
		return fmt.Errorf("there is no restore option %q; there are target, target-time, target-lsn and start", o.Name)
	}
	return nil
}

// point reads the point of a partial roll-forward: a time or a position.
func (t *target) point(text string) error {
	if at, err := parseLSN(text); err == nil {
		t.kind, t.lsn = toLSN, at
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return fmt.Errorf("%.60q is neither a time as 2026-11-22T14:30:00Z nor a position as 16/B374D848", text)
	}
	t.kind, t.time = toTime, at
	return nil
}

// check refuses a target that the backup cannot be recovered to. PostgreSQL itself
// would stop in the middle of what the instant of the copy needs, and call that a
// success.
func (t *target) check(n *notes, last bool) error {
	first, _ := parseLSN(n.Base.LastLSN) // zero if it is not known
	switch {
	case t.kind == toTime && t.time.Before(n.Base.Last):
		return fmt.Errorf("the target %s lies before the backup that the logs follow, which was made until %s; restore an earlier backup",
			t.time.Format(time.RFC3339Nano), n.Base.Last.Format(time.RFC3339Nano))
	case t.kind == toLSN && t.lsn.behindHeader() < first:
		return fmt.Errorf("the target %s lies before the backup that the logs follow, which was made until %s; restore an earlier backup", t.lsn, first)
	case !last || t.kind != toTime && t.kind != toLSN:
		return nil
	case n.End == nil:
		return fmt.Errorf("this backup has no logs to go forward with; restore a log backup made after the target")
	case t.kind == toTime && t.time.After(n.End.Time):
		return fmt.Errorf("the target %s lies after the end of the logs in this backup, %s; restore a later log backup",
			t.time.Format(time.RFC3339Nano), n.End.Time.Format(time.RFC3339Nano))
	}
	if end, err := parseLSN(n.End.LSN); t.kind == toLSN && (err != nil || t.lsn >= end) {
		return fmt.Errorf("the target %s lies after the end of the logs in this backup, %s; restore a later log backup", t.lsn, n.End.LSN)
	}
	return nil
}
