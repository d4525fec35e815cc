package vss

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestGUIDReadsAnyCaseAndBracesAndWritesLowerCase(t *testing.T) {
	const text = "5affb034-969f-4919-8875-88f830d0ef89"
	for _, s := range []string{text, strings.ToUpper(text), "{" + text + "}"} {
		g, err := ParseGUID(s)
		if err != nil || g.String() != text || g != TestWriterClass {
			t.Errorf("ParseGUID(%q) = %v, %v", s, g, err)
		}
	}
	if g := MustParseGUID(text); g[0] != 0x5a || g[3] != 0x34 || g[15] != 0x89 {
		t.Errorf("bytes % x are not in the order of the text", g[:])
	}
	for _, s := range []string{"", text[1:], text + "0", "{" + text, text + "}", "(" + text + ")", strings.Replace(text, "-", "+", 1), strings.Replace(text, "a", "g", 1), strings.Replace(text, "-", "", 4), "[" + text + "]"} {
		if g, err := ParseGUID(s); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("ParseGUID(%q) = %v, %v; want E_INVALIDARG", s, g, err)
		}
	}
	type doc struct{ ID GUID }
	b, err := json.Marshal(doc{TestWriterClass})
	if err != nil || string(b) != `{"ID":"`+text+`"}` {
		t.Errorf("as JSON: %s, %v", b, err)
	}
	var back doc
	if err := json.Unmarshal(b, &back); err != nil || back.ID != TestWriterClass {
		t.Errorf("from JSON: %v, %v", back, err)
	}
}

func TestNewGUIDIsRandomVersion4(t *testing.T) {
	a, b := NewGUID(), NewGUID()
	if a == b || a.IsZero() || a[6]>>4 != 4 || a[8]>>6 != 2 {
		t.Errorf("%v, %v", a, b)
	}
	if !(GUID{}).IsZero() || TestWriterClass.Compare(SystemProviderID) >= 0 || a.Compare(a) != 0 {
		t.Error("IsZero or Compare")
	}
}

func TestWordsReadAndWriteBackInAnyCase(t *testing.T) {
	if v, err := ParseBackupType("Full"); err != nil || v != BackupTypeFull {
		t.Errorf("%v, %v", v, err)
	}
	if v, err := ParseBackupType("VSS_BT_LOG"); err != nil || v != BackupTypeLog {
		t.Errorf("%v, %v", v, err)
	}
	_, err := ParseBackupType("weekly")
	if !errors.Is(err, ErrInvalidArgument) || !strings.Contains(err.Error(), `"weekly"`) || !strings.Contains(err.Error(), "incremental") {
		t.Errorf("an unknown word gives %v; want it named, and the known ones", err)
	}
	for v := RestoreMethodUndefined; v <= RestoreMethodRestoreStopStart; v++ {
		if back, err := ParseRestoreMethod(v.Word()); err != nil || back != v {
			t.Errorf("%v: word %q gives %v, %v", v, v.Word(), back, err)
		}
	}
	// These spellings stand in Windows' own documents.
	for _, c := range []struct{ got, want string }{
		{RestoreMethodIfCanReplace.Word(), "RESTORE_IF_CAN_BE_REPLACED"},
		{RestoreMethodAtReboot.Word(), "REPLACE_AT_REBOOT"},
		{RestoreMethodAtRebootIfCannotReplace.Word(), "REPLACE_AT_REBOOT_IF_CANNOT_REPLACE"},
		{UsageBootableSystemState.Word(), "BOOTABLE_SYSTEM_STATE"},
		{SourceTransactedDB.Word(), "TRANSACTION_DB"},
		{WriterRestoreNever.Word(), "never"},
		{ComponentTypeFileGroup.Word(), "filegroup"},
	} {
		if c.got != c.want {
			t.Errorf("word %q, want %q", c.got, c.want)
		}
	}
}

func TestUnknownValuesKeepTheirNumber(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{BackupType(17).String(), "VSS_BACKUP_TYPE(17)"},
		{BackupType(17).Word(), "17"},
		{BackupSchema(0x371).String(), "VSS_BS_DIFFERENTIAL|VSS_BS_COPY|VSS_BS_TIMESTAMPED|VSS_BS_LAST_MODIFY|VSS_BS_WRITER_SUPPORTS_NEW_TARGET|VSS_BS_WRITER_SUPPORTS_RESTORE_WITH_MOVE"},
		{BackupSchema(0x801).String(), "VSS_BS_DIFFERENTIAL|0x800"},
		{BackupSchema(0).String(), "VSS_BS_UNDEFINED"},
		{ComponentFlags(0).String(), "0"},
		{DefaultFileSpecBackupType.String(), "VSS_FSBT_ALL_BACKUP_REQUIRED|VSS_FSBT_ALL_SNAPSHOT_REQUIRED"},
		{LevelAuto.String(), "VSS_APP_AUTO"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestR_TYPE_7_SchemaBitsDecideWhichTypesAWriterSupports(t *testing.T) {
	all := map[BackupType]BackupSchema{
		BackupTypeFull: 0, BackupTypeDifferential: SchemaDifferential, BackupTypeIncremental: SchemaIncremental,
		BackupTypeLog: SchemaLog, BackupTypeCopy: SchemaCopy,
	}
	for typ, bit := range all {
		if !bit.Supports(typ) {
			t.Errorf("schema %v does not support %v", bit, typ)
		}
		if want := typ == BackupTypeFull; (^bit).Supports(typ) != want && bit != 0 {
			t.Errorf("schema without %v: Supports(%v) = %v", bit, typ, !want)
		}
	}
	for _, typ := range []BackupType{BackupTypeUndefined, BackupTypeOther, 99} {
		if BackupSchema(^uint32(0)).Supports(typ) {
			t.Errorf("%v is supported (R-TYPE-1)", typ)
		}
	}
}

func TestR_SET_25_MaskBitsByBackupType(t *testing.T) {
	rows := []struct {
		typ              BackupType
		backup, snapshot FileSpecBackupType
	}{
		{BackupTypeFull, 0x1, 0x100}, {BackupTypeDifferential, 0x2, 0x200}, {BackupTypeIncremental, 0x4, 0x400},
		{BackupTypeLog, 0x8, 0x800}, {BackupTypeCopy, 0x1, 0x100},
	}
	for _, r := range rows {
		if !r.backup.BackupRequired(r.typ) || (^r.backup).BackupRequired(r.typ) || r.backup.SnapshotRequired(r.typ) {
			t.Errorf("backup bit of %v", r.typ)
		}
		if !r.snapshot.SnapshotRequired(r.typ) || (^r.snapshot).SnapshotRequired(r.typ) || r.snapshot.BackupRequired(r.typ) {
			t.Errorf("shadow copy bit of %v", r.typ)
		}
	}
	if DefaultFileSpecBackupType != 3855 {
		t.Errorf("default mask %d", DefaultFileSpecBackupType)
	}
	if m := FileSpecBackupType(^uint32(0)); m.BackupRequired(BackupTypeUndefined) || m.SnapshotRequired(BackupTypeOther) {
		t.Error("a type that is none needs files")
	}
}

func TestContextsAndStates(t *testing.T) {
	if !ContextBackup.HasWriters() || ContextBackup.Persistent() || ContextFileShareBackup.HasWriters() || ContextNASRollback.HasWriters() ||
		!ContextAppRollback.Persistent() || !ContextAppRollback.HasWriters() || !ContextClientAccessibleWriters.HasWriters() {
		t.Error("writers or persistence of a context")
	}
	for s := WriterUnknown; s < WriterStateCount; s++ {
		if s.Failed() != strings.Contains(s.String(), "FAILED_AT") {
			t.Errorf("%v.Failed() = %v", s, s.Failed())
		}
	}
}

func TestFileTimeConvertsBothWays(t *testing.T) {
	rows := []struct {
		ft FileTime
		t  time.Time
	}{
		{0, time.Time{}},
		{1, time.Date(1601, 1, 1, 0, 0, 0, 100, time.UTC)},
		{116444736000000000, time.Unix(0, 0)},
		{132222240005550001, time.Date(2019, 12, 31, 0, 0, 0, 555000100, time.UTC)},
		{^FileTime(0), time.Date(60056, 5, 28, 5, 36, 10, 955161500, time.UTC)},
	}
	for _, r := range rows {
		if got := r.ft.Time(); !got.Equal(r.t) {
			t.Errorf("%d is %v, want %v", r.ft, got, r.t)
		}
		if r.ft != ^FileTime(0) && FileTimeOf(r.t) != r.ft {
			t.Errorf("%v is %d, want %d", r.t, FileTimeOf(r.t), r.ft)
		}
	}
	if !FileTime(0).IsZero() || FileTimeOf(time.Date(1500, 1, 1, 0, 0, 0, 0, time.UTC)) != 1 ||
		FileTimeOf(time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC)) != 1 || FileTimeOf(time.Date(70000, 1, 1, 0, 0, 0, 0, time.UTC)) != ^FileTime(0) {
		t.Error("times outside the range are not brought to its ends")
	}
	local := time.FixedZone("x", 7200)
	if FileTimeOf(time.Date(2020, 1, 1, 2, 0, 0, 199, local)) != FileTimeOf(time.Date(2020, 1, 1, 0, 0, 0, 100, time.UTC)) {
		t.Error("zone or rounding")
	}
}
