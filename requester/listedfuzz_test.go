package requester

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// FuzzPartialFile takes any text for the ranges of a file, upon a base and without
// one, and compares what the record has with a plain copy, byte by byte.
func FuzzPartialFile(f *testing.F) {
	f.Add("2:3,7:100", "0123456789", "ABCDEFGHIJKL", "")
	f.Add("0xffffffffffffffff:1", "0123456789", "ABC", "")
	f.Add("0:18446744073709551615", "", "ABC", "")
	f.Add("5:0", "0123456789", "", "")
	f.Add("0:1, 0:1,1:0x2", "0123456789", "0123456789x", "")
	f.Add("File=/r", "0123456789", "ABCDEFGHIJ", string(vss.AppendRangesFile(nil, vss.Ranges{{Offset: 1, Length: 2}, {Offset: 1 << 63, Length: 5}})))
	f.Add("/r", "0123456789", "ABCDEFGHIJ", "\xff\xff\xff\xff\xff\xff\xff\xff")
	f.Add("/r", "0123456789", "ABCDEFGHIJ", "\x00\x00\x00\x01\x00\x00\x00\x00")
	f.Add("/nowhere", "0123456789", "ABCDEFGHIJ", "")
	f.Fuzz(func(t *testing.T, text, old, now, file string) {
		if old == "unreadable" || now == "unreadable" || file == "unreadable" || len(old)+len(now) > 1<<16 {
			return // words of the host in memory
		}
		if strings.HasPrefix(old, "-> ") || strings.HasPrefix(now, "-> ") || strings.HasPrefix(file, "-> ") || old == "socket" || now == "socket" || file == "socket" {
			return
		}
		l := newListHost(t, everyMask)
		l.write("db/a.dat", old, 0)
		l.backup(vss.BackupTypeFull)
		l.write("db/a.dat", now, 9)
		l.v.files["r"] = file
		if err := metadataAccepts(text); err != nil {
			return // no writer can add it
		}
		l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", text)}
		ranges, path, err := vss.ParseRangesOrFile(text)
		if err == nil && path != "" {
			if path = vss.POSIX.Clean(path); path == "/r" {
				ranges, err = vss.ReadRangesFile(bytes.NewReader([]byte(file)), int64(len(file)))
			} else {
				return // other files of the host
			}
		}
		for _, typ := range []vss.BackupType{vss.BackupTypeIncremental, vss.BackupTypeCopy} {
			res := l.backup(typ)
			if err != nil {
				if res.Outcome != Incomplete || len(res.Failures) != 1 || res.Failures[0].Path != "/db/a.dat" {
					t.Fatalf("%v: outcome %v, failures %+v", err, res.Outcome, res.Failures)
				}
				continue
			}
			if res.Outcome != Complete {
				t.Fatalf("outcome %v: %+v", res.Outcome, res.Failures)
			}
			base := old
			if typ == vss.BackupTypeCopy {
				base = strings.Repeat("\x00", len(now))
			}
			content, _ := readRecord(t, l.repo, res.Record)
			if want := patchedPlainly(base, now, ranges); content["db/a.dat"] != want {
				t.Fatalf("%v upon %q with %q of %q: the record has %q, want %q", typ, base, text, now, content["db/a.dat"], want)
			}
			// Ranges may be all of the file.
			checkHeld(t, res.Record, now, ranges, typ == vss.BackupTypeCopy && ranges.Clip(uint64(len(now))).Total() < uint64(len(now)))
		}
	})
}

// metadataAccepts reports whether a document takes the ranges.
func metadataAccepts(text string) error {
	doc := metadata.NewBackupComponents()
	c, err := doc.AddComponent(metadata.WriterKey{InstanceID: vss.NewGUID(), ClassID: vss.NewGUID()}, vss.ComponentTypeFileGroup, "", "c")
	if err != nil {
		return err
	}
	return c.AddPartialFile(metadata.PartialFile{Path: "/d", Name: "f", Ranges: text})
}

// patchedPlainly is a file as the base had it, with what is in the ranges, or past
// the base's end, as it is now.
func patchedPlainly(base, now string, ranges vss.Ranges) string {
	out := []byte(now)
	for i := range out {
		in := i >= len(base)
		for _, r := range ranges {
			in = in || uint64(i) >= r.Offset && uint64(i)-r.Offset < r.Length
		}
		if !in {
			out[i] = base[i]
		}
	}
	return string(out)
}

// checkHeld looks that the entry tells of all the ranges.
func checkHeld(t *testing.T, rec *repository.Record, now string, ranges vss.Ranges, only bool) {
	t.Helper()
	e, err := rec.Table().Lookup(t.Context(), rootID, "db/a.dat")
	if err != nil {
		t.Fatal(err)
	}
	told, ok, err := ReadEntryRanges(t.Context(), rec, e)
	if err != nil || !ok || !told.IsNormal() || (e.Attrs[AttrPartial] != "") != only {
		t.Fatalf("ranges %q, %v, %v, facts %q", told.Format(), ok, err, e.Attrs)
	}
	if lacks := ranges.Clip(uint64(len(now))).Subtract(told); len(lacks) > 0 {
		t.Fatalf("the entry tells of %q, and lacks %q", told.Format(), lacks.Format())
	}
}
