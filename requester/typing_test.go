package requester_test

import (
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

// Schemas of writers in the tests of types.
const (
	diffs = vss.SchemaDifferential
	incs  = vss.SchemaIncremental
	both  = diffs | incs
	excl  = both | vss.SchemaExclusiveIncrementalDifferential
	logs  = vss.SchemaLog
)

// TestDecideType goes through the rules for the type of a component.
func TestDecideType(t *testing.T) {
	const (
		full = vss.BackupTypeFull
		inc  = vss.BackupTypeIncremental
		diff = vss.BackupTypeDifferential
		log  = vss.BackupTypeLog
		copy = vss.BackupTypeCopy
	)
	f, i, l := &requester.Base{Type: full, Stamp: "f"}, &requester.Base{Type: inc, Stamp: "i"}, &requester.Base{Type: log, Stamp: "l"}
	empty := requester.ComponentHistory{}
	onlyFull := requester.ComponentHistory{Full: f, Incremental: f, Log: f}
	incremental := requester.ComponentHistory{Full: f, Incremental: i, Log: l, Incrementals: true}
	differential := requester.ComponentHistory{Full: f, Incremental: f, Log: f, Differentials: true}
	mixed := requester.ComponentHistory{Full: f, Incremental: i, Log: i, Incrementals: true, Differentials: true}
	onlyLog := requester.ComponentHistory{Log: l}

	for _, c := range []struct {
		name    string
		asked   vss.BackupType
		schema  vss.BackupSchema
		history requester.ComponentHistory
		strict  bool

		want   vss.BackupType
		base   *requester.Base
		counts vss.BackupType
		note   string // part of the one note; empty: none
		out    bool
	}{
		{name: "R-TYPE-2 full", asked: full, schema: both, history: incremental, want: full, counts: full},
		{name: "R-TYPE-8 full of a writer without schema", asked: full, history: onlyFull, want: full, counts: full},
		{name: "R-TYPE-3 copy", asked: copy, schema: vss.SchemaCopy | both, history: incremental, want: copy},
		{name: "D-30 copy of a writer that does not know it", asked: copy, schema: both, history: incremental, want: copy, note: "told copy"},
		{name: "R-TYPE-4 D-19 incremental upon the newest full or incremental", asked: inc, schema: both, history: incremental, want: inc, base: i, counts: inc},
		{name: "D-19 incremental never upon a differential", asked: inc, schema: both, history: differential, want: inc, base: f, counts: inc},
		{name: "R-TYPE-5 D-22 differential upon the last full", asked: diff, schema: both, history: incremental, want: diff, base: f},
		{name: "R-TYPE-6 log upon the newest of its chain", asked: log, schema: logs, history: incremental, want: log, base: l, counts: log},
		{name: "R-TYPE-7 R-TYPE-9 D-21 D-30 incremental of a writer without it", asked: inc, schema: diffs, history: onlyFull, want: full, counts: full, note: "does not know incremental"},
		{name: "R-TYPE-7 R-TYPE-9 D-21 D-30 differential of a writer without it", asked: diff, schema: incs | logs, history: onlyFull, want: full, counts: full, note: "does not know differential"},
		{name: "R-TYPE-8 differential of a writer without schema", asked: diff, history: onlyFull, want: full, counts: full, note: "does not know differential"},
		{name: "D-30 log of a writer without it", asked: log, schema: both, history: incremental, want: full, counts: full, note: "does not know log"},
		{name: "D-30 log of a writer without it, strict", asked: log, schema: both, history: incremental, strict: true, out: true, want: log},
		{name: "D-30 strict says nothing of incremental", asked: inc, history: onlyFull, strict: true, want: full, counts: full, note: "does not know incremental"},
		{name: "D-30 log of a writer with it, strict", asked: log, schema: logs, history: onlyFull, strict: true, want: log, base: f, counts: log},
		{name: "R-TYPE-10 exclusive, incremental goes on", asked: inc, schema: excl, history: incremental, want: inc, base: i, counts: inc},
		{name: "R-TYPE-10 exclusive, differential goes on", asked: diff, schema: excl, history: differential, want: diff, base: f},
		{name: "R-TYPE-10 exclusive, differential after incremental", asked: diff, schema: excl, history: incremental, want: full, note: "and the other kind was made since the last"},
		{name: "R-TYPE-10 exclusive, incremental after differential", asked: inc, schema: excl, history: differential, want: full, counts: full, note: "and the other kind was made since the last"},
		{name: "R-TYPE-10 exclusive, first after a full", asked: diff, schema: excl, history: onlyFull, want: diff, base: f},
		{name: "R-TYPE-10 not exclusive, both kinds", asked: inc, schema: both, history: mixed, want: inc, base: i, counts: inc},
		{name: "R-TYPE-10 exclusive says nothing of log", asked: log, schema: excl | logs, history: incremental, want: log, base: l, counts: log},
		{name: "R-TYPE-10 exclusive needs both bits", asked: inc, schema: incs | vss.SchemaExclusiveIncrementalDifferential, history: mixed, want: inc, base: i, counts: inc},
		{name: "no base, incremental begins a chain", asked: inc, schema: both, history: empty, want: full, counts: full, note: "nothing"},
		{name: "no base, differential leaves history alone", asked: diff, schema: both, history: empty, want: full, note: "until a full backup"},
		{name: "no base, log begins the logs", asked: log, schema: logs, history: empty, want: full, counts: log, note: "nothing"},
		{name: "no base but logs, incremental", asked: inc, schema: both | logs, history: onlyLog, want: full, counts: full, note: "nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := requester.DecideType(c.asked, &requester.Writer{Schema: c.schema}, c.history, c.strict)
			if got.Asked != c.asked {
				t.Errorf("R-TYPE-1: the writer is told %v, want %v", got.Asked, c.asked)
			}
			if got.Type != c.want || got.Base != c.base || got.Counts != c.counts || (got.LeftOut != "") != c.out {
				t.Errorf("type %v, base %+v, counts as %v, left out %q; want %v, %+v, %v, %v",
					got.Type, got.Base, got.Counts, got.LeftOut, c.want, c.base, c.counts, c.out)
			}
			notes := strings.Join(got.Notes, "\n")
			if c.note == "" && notes != "" || !strings.Contains(notes, strings.ReplaceAll(c.note, "nothing", "no backup for it to build upon")) {
				t.Errorf("notes %q, want %q", notes, c.note)
			}
		})
	}
}

// TestDecideTypeNeverGivesFullForCopy: whatever the schema and the history, a
// copy is told and counts as nothing (R-TYPE-3, D-30), and a full backup is one.
func TestDecideTypeNeverGivesFullForCopy(t *testing.T) {
	b := &requester.Base{}
	for schema := range vss.BackupSchema(0x100) {
		for bits := range 32 {
			h := requester.ComponentHistory{Incrementals: bits&8 != 0, Differentials: bits&16 != 0}
			for i, at := range []**requester.Base{&h.Full, &h.Incremental, &h.Log} {
				if bits&(1<<i) != 0 {
					*at = b
				}
			}
			w := &requester.Writer{Schema: schema}
			c := requester.DecideType(vss.BackupTypeCopy, w, h, bits&1 != 0)
			if c.Type != vss.BackupTypeCopy || c.Base != nil || c.Counts != 0 || c.LeftOut != "" || (len(c.Notes) > 0) != (schema&vss.SchemaCopy == 0) {
				t.Fatalf("copy, schema %v, history %+v: %+v", schema, h, c)
			}
			for typ := vss.BackupTypeFull; typ <= vss.BackupTypeCopy; typ++ {
				d := requester.DecideType(typ, w, h, false)
				// Only what builds upon something may leave files to a base.
				if (d.Fills() || d.Type == vss.BackupTypeLog) != (d.Base != nil) || d.Type != typ && (d.Type != vss.BackupTypeFull || len(d.Notes) == 0) {
					t.Fatalf("%v, schema %v, history %+v: %+v", typ, schema, h, d)
				}
			}
		}
	}
}

// TestTypingMasks checks which file sets a type saves, lists and reads from a
// shadow copy.
func TestTypingMasks(t *testing.T) {
	const (
		fullBits = vss.FullBackupRequired | vss.FullSnapshotRequired
		incBits  = vss.IncrementalBackupRequired | vss.IncrementalSnapshotRequired
		diffBits = vss.DifferentialBackupRequired | vss.DifferentialSnapshotRequired
		logBits  = vss.LogBackupRequired | vss.LogSnapshotRequired
		all      = fullBits | incBits | diffBits | logBits
	)
	type answer struct{ saves, lists, shadow bool }
	yes, fill, no := answer{true, true, true}, answer{false, true, false}, answer{}
	for _, c := range []struct {
		rule string
		typ  vss.BackupType
		kind requester.ListKind
		mask vss.FileSpecBackupType
		want answer
	}{
		{"R-SET-25 full", vss.BackupTypeFull, requester.FileGroupList, fullBits, yes},
		{"R-SET-25 full without its bit", vss.BackupTypeFull, requester.FileGroupList, incBits | diffBits | logBits, no},
		{"R-SET-25 copy by full's bits", vss.BackupTypeCopy, requester.FileGroupList, fullBits, yes},
		{"R-SET-25 copy without full's", vss.BackupTypeCopy, requester.FileGroupList, all &^ fullBits, no},
		{"R-SET-26 incremental", vss.BackupTypeIncremental, requester.FileGroupList, incBits, yes},
		{"R-SET-26 incremental need not save it, and the record is complete", vss.BackupTypeIncremental, requester.FileGroupList, fullBits | diffBits, fill},
		{"R-SET-26 incremental of a set that a full one lacks", vss.BackupTypeIncremental, requester.FileGroupList, diffBits | logBits, no},
		{"R-SET-26 differential", vss.BackupTypeDifferential, requester.DatabaseList, diffBits, yes},
		{"R-SET-26 differential need not save it", vss.BackupTypeDifferential, requester.DatabaseList, fullBits | incBits, fill},
		{"R-SET-27 from the volume itself", vss.BackupTypeIncremental, requester.FileGroupList, all &^ vss.IncrementalSnapshotRequired, answer{true, true, false}},
		{"R-SET-28 need not be saved, but new files come from the shadow copy", vss.BackupTypeIncremental, requester.FileGroupList, all &^ vss.IncrementalBackupRequired, answer{false, true, true}},
		{"R-TYPE-6 D-29 log files", vss.BackupTypeLog, requester.DatabaseLogList, all, yes},
		{"D-29 data with the default mask is none", vss.BackupTypeLog, requester.DatabaseList, all, no},
		{"D-29 files with the default mask are none", vss.BackupTypeLog, requester.FileGroupList, all, no},
		{"D-29 LOG without FULL", vss.BackupTypeLog, requester.FileGroupList, all &^ fullBits, yes},
		{"D-29 log files without LOG", vss.BackupTypeLog, requester.DatabaseLogList, all &^ logBits, no},
	} {
		f := &requester.FileSet{Kind: c.kind, Mask: c.mask}
		typing := requester.Typing{Asked: c.typ, Type: c.typ}
		if got := (answer{typing.Saves(f), typing.Lists(f), typing.NeedsShadow(f)}); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.rule, got, c.want)
		}
	}
}

// TestWithoutABaseNothingIsLetGoThatNobodyHas: a writer that is told of a log backup
// may drop its logs after it, also where there was nothing to build upon and its
// files are those of a full backup, which does not have the logs.
func TestWithoutABaseNothingIsLetGoThatNobodyHas(t *testing.T) {
	w := &requester.Writer{Schema: vss.SchemaLog | vss.SchemaIncremental}
	for asked, bit := range map[vss.BackupType]vss.FileSpecBackupType{
		vss.BackupTypeLog: vss.LogBackupRequired | vss.LogSnapshotRequired, vss.BackupTypeIncremental: vss.IncrementalBackupRequired | vss.IncrementalSnapshotRequired,
	} {
		logs, data := &requester.FileSet{Mask: bit}, &requester.FileSet{Mask: vss.FullBackupRequired}
		begun := requester.DecideType(asked, w, requester.ComponentHistory{}, false)
		if !begun.Saves(logs) || !begun.NeedsShadow(logs) || !begun.Saves(data) || begun.FromShadow(data) {
			t.Errorf("%s without a base: %+v", asked.Word(), begun)
		}
		full := requester.DecideType(vss.BackupTypeFull, w, requester.ComponentHistory{}, false)
		unknown := requester.DecideType(asked, &requester.Writer{}, requester.ComponentHistory{}, false) // its writer acts as for a full one
		if full.Saves(logs) || unknown.Saves(logs) {
			t.Errorf("a full backup has what its mask lacks: %+v, %+v", full, unknown)
		}
	}
}
