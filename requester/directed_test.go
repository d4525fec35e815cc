package requester

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// plannedFile is a file of a made-up component set in /d, or what is there.
type plannedFile struct {
	size int64
	held string // ranges; empty: all
}

// directingOf is a made-up set and target.
func directingOf(saved, there map[string]plannedFile) *directing {
	entries := map[string]*directedSource{}
	for name, f := range saved {
		e := &repository.Entry{Path: "d/" + name, Type: repository.Regular}
		src := &directedSource{entry: e}
		if f.held != "" {
			held, err := vss.ParseRanges(f.held)
			if err != nil {
				panic(err)
			}
			src.held = held.Normalize()
		}
		entries[e.Path] = src
	}
	return &directing{
		style: vss.POSIX, shown: func(t string) string { return "/" + t },
		place: func(dir, name string) (string, error) { return strings.TrimPrefix(dir+"/"+name, "/"), nil },
		source: func(t string) (*directedSource, error) {
			src := entries[t]
			if src != nil {
				src.entry.Size = saved[strings.TrimPrefix(t, "d/")].size
			}
			return src, nil
		},
		under: func(t string) bool { return strings.HasPrefix(t, "d/") },
		there: func(t string) (session.Entry, error) {
			f, ok := there[t]
			if !ok {
				return session.Entry{}, fs.ErrNotExist
			}
			return session.Entry{Size: f.size}, nil
		},
		other: func(t string) (string, error) { return "", nil },
	}
}

func directTo(source, ranges, dest, to string) metadata.DirectedTarget {
	return metadata.DirectedTarget{SourcePath: "/d", SourceName: source, SourceRanges: ranges,
		DestinationPath: "/e", DestinationName: dest, DestinationRanges: to}
}

func TestDirectedTargetsAreCheckedBeforeAnythingIsWritten(t *testing.T) {
	saved := map[string]plannedFile{"f": {size: 100}, "g": {size: 10}, "p": {size: 1000, held: "0:10,500:20"}}
	there := map[string]plannedFile{"e/old": {size: 50}}
	huge := fmt.Sprint(uint64(math.MaxUint64))
	for _, tt := range []struct {
		name string
		list []metadata.DirectedTarget
		want string // in the error; empty: sound
	}{
		{"R-RES-24 the whole file", []metadata.DirectedTarget{directTo("f", "0:100", "new", "0:100")}, ""},
		{"R-RES-23 pieces", []metadata.DirectedTarget{directTo("f", "0:10,90:10", "new", "10:10,0:10")}, ""},
		{"R-RES-23 two sources of one file", []metadata.DirectedTarget{directTo("f", "0:10", "new", "10:10"), directTo("g", "0:10", "new", "0:10")}, ""},
		{"R-RES-23 one source twice", []metadata.DirectedTarget{directTo("f", "0:10,0:10", "new", "10:10,0:10")}, ""},
		{"into a file that is there", []metadata.DirectedTarget{directTo("f", "0:10", "old", "20:10")}, ""},
		{"at the end of one that is there", []metadata.DirectedTarget{directTo("f", "0:10", "old", "50:10")}, ""},
		{"hexadecimal", []metadata.DirectedTarget{directTo("f", "0x0:0x64", "new", "0:100")}, ""},
		{"R-RES-25 saved ranges", []metadata.DirectedTarget{directTo("p", "500:20,0:10", "new", "0:20,20:10")}, ""},

		{"R-RES-23 unequal count", []metadata.DirectedTarget{directTo("f", "0:10,20:10", "new", "0:20")}, "2 source ranges and 1 destination ranges"},
		{"R-RES-23 unequal length, D-26", []metadata.DirectedTarget{directTo("f", "0:448", "new", "0:488")}, "448 bytes at the source and 488"},
		{"no list", []metadata.DirectedTarget{directTo("f", "", "new", "")}, "not offset:length"},
		{"no numbers", []metadata.DirectedTarget{directTo("f", "0:-1", "new", "0:-1")}, "64-bit"},
		{"R-RES-23 wildcard source", []metadata.DirectedTarget{directTo("*", "0:1", "new", "0:1")}, "no literal name"},
		{"R-RES-23 wildcard destination", []metadata.DirectedTarget{directTo("f", "0:1", "n?w", "0:1")}, "no literal name"},
		{"a name with a directory", []metadata.DirectedTarget{directTo("f", "0:1", "../x", "0:1")}, "no literal name"},
		{"the directory itself", []metadata.DirectedTarget{directTo("f", "0:1", "..", "0:1")}, "no literal name"},
		{"a file that was not saved", []metadata.DirectedTarget{directTo("none", "0:1", "new", "0:1")}, "no file of the component"},
		{"past the end of the source", []metadata.DirectedTarget{directTo("f", "99:2", "new", "0:2")}, "2 bytes at 99 of a file of 100"},
		{"behind the end of the source", []metadata.DirectedTarget{directTo("f", "101:0", "new", "0:0")}, "of a file of 100"},
		{"2^64 at the source", []metadata.DirectedTarget{directTo("f", "1:"+huge, "new", "0:"+huge)}, "past 2^64"},
		{"2^64-1 at the source", []metadata.DirectedTarget{directTo("f", "0:"+huge, "new", "0:"+huge)}, "of a file of 100"},
		{"2^63 at the destination", []metadata.DirectedTarget{directTo("f", "0:1", "old", "9223372036854775807:1")}, "past the end of any file"},
		{"2^64-2 at the destination", []metadata.DirectedTarget{directTo("f", "0:1", "old", "18446744073709551614:1")}, "past the end of any file"},
		{"a gap in a new file", []metadata.DirectedTarget{directTo("f", "0:10", "new", "1:10")}, "nothing would be between"},
		{"a gap behind an old one", []metadata.DirectedTarget{directTo("f", "0:10", "old", "51:10")}, "nothing would be between its end at 50 and the range at 51"},
		{"overlap in one list", []metadata.DirectedTarget{directTo("f", "0:10,20:10", "new", "0:10,9:10")}, "overlap at 9"},
		{"overlap of two targets", []metadata.DirectedTarget{directTo("f", "0:10", "old", "0:10"), directTo("g", "0:10", "old", "5:10")}, "overlap at 5"},
		{"R-RES-25 not a saved range", []metadata.DirectedTarget{directTo("p", "5:10", "new", "0:10")}, "not among the ranges that were saved"},
		{"R-RES-25 between saved ranges", []metadata.DirectedTarget{directTo("p", "0:1000", "new", "0:1000")}, "not among the ranges that were saved"},
		{"too many", slices.Repeat([]metadata.DirectedTarget{directTo("f", "0:1", "old", "0:1")}, maxDirected+1), "more than 65536"},
		{"too many ranges", []metadata.DirectedTarget{directTo("f", strings.Repeat(",", 3*maxDirectedRanges), "old", "0:1")}, "ranges"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := directingOf(saved, there)
			files, err := planOf(d, tt.list)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want == "" && len(files) != 1:
				t.Errorf("%d files, want 1", len(files))
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// planOf plans for sources whose content is not there: its size is not looked at.
func planOf(d *directing, list []metadata.DirectedTarget) ([]*directedFile, error) {
	d.size = func(e *repository.Entry) int64 { return e.Size }
	return planDirected(list, d)
}

func TestDirectedTargetsAndWhatIsThere(t *testing.T) {
	saved := map[string]plannedFile{"f": {size: 100}}
	one := []metadata.DirectedTarget{directTo("f", "0:10", "x", "0:10")}
	for _, tt := range []struct {
		name string
		set  func(d *directing)
		want string
	}{
		{"not under a file set, R-RES-23", func(d *directing) { d.under = func(string) bool { return false } }, "under no file set"},
		{"a directory", func(d *directing) {
			d.there = func(string) (session.Entry, error) { return session.Entry{Mode: fs.ModeDir}, nil }
		}, "not a file"},
		{"a link", func(d *directing) {
			d.there = func(string) (session.Entry, error) { return session.Entry{Mode: fs.ModeSymlink}, nil }
		}, "not a file"},
		{"another user's", func(d *directing) {
			d.there = func(string) (session.Entry, error) { return session.Entry{UID: 77, Size: 100}, nil }
		}, "of user 77"},
		{"another name of something", func(d *directing) {
			d.there = func(string) (session.Entry, error) { return session.Entry{Links: 2, Size: 100}, nil }
		}, "has 2 names"},
		{"another component's", func(d *directing) { d.other = func(string) (string, error) { return "app", nil } }, "a file of app, too"},
		{"out of reach", func(d *directing) {
			d.there = func(string) (session.Entry, error) { return session.Entry{}, fs.ErrPermission }
		}, "permission"},
		{"no such place", func(d *directing) {
			d.place = func(string, string) (string, error) { return "", errors.New("nowhere") }
		}, "nowhere"},
	} {
		d := directingOf(saved, nil)
		tt.set(d)
		if _, err := planOf(d, one); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// oracleDirected says, by plain arithmetic without limits, whether the lists are
// sound for a source of a size and a destination of another.
func oracleDirected(source, dest string, held *big.Int, size, there int64) bool {
	read := func(list string) (out [][2]*big.Int, ok bool) {
		for item := range strings.SplitSeq(strings.Trim(list, " "), ",") {
			offset, length, found := strings.Cut(strings.TrimLeft(item, " "), ":")
			var pair [2]*big.Int
			for i, text := range []string{offset, length} {
				base := 10
				if len(text) > 2 && (text[:2] == "0x" || text[:2] == "0X") {
					text, base = text[2:], 16
				}
				if text == "" || strings.Trim(strings.ToLower(text), "0123456789abcdef"[:base]) != "" {
					return nil, false
				}
				n, ok := new(big.Int).SetString(text, base)
				if !ok || n.BitLen() > 64 {
					return nil, false
				}
				pair[i] = n
			}
			if !found {
				return nil, false
			}
			out = append(out, pair)
		}
		return out, true
	}
	end := func(r [2]*big.Int) *big.Int { return new(big.Int).Add(r[0], r[1]) }
	from, ok1 := read(source)
	to, ok2 := read(dest)
	if !ok1 || !ok2 || len(from) != len(to) {
		return false
	}
	at := big.NewInt(0)
	var placed [][2]*big.Int
	for i := range from {
		if from[i][1].Cmp(to[i][1]) != 0 || end(from[i]).Cmp(big.NewInt(size)) > 0 || end(to[i]).Cmp(big.NewInt(math.MaxInt64)) > 0 {
			return false
		}
		if held != nil && from[i][1].Sign() > 0 && end(from[i]).Cmp(held) > 0 {
			return false
		}
		if to[i][1].Sign() > 0 {
			placed = append(placed, to[i])
		}
	}
	slices.SortStableFunc(placed, func(a, b [2]*big.Int) int { return a[0].Cmp(b[0]) })
	gap := false
	covered := big.NewInt(there)
	for _, p := range placed {
		if p[0].Cmp(at) < 0 {
			return false // overlap
		}
		at = end(p)
		gap = gap || p[0].Cmp(covered) > 0
		if at.Cmp(covered) > 0 {
			covered = at
		}
	}
	return !gap
}

// FuzzDirectedTargets: what the arithmetic of unlimited numbers refuses is
// refused, all else is taken, and no piece reaches out of its file.
func FuzzDirectedTargets(f *testing.F) {
	f.Add("0:100", "0:100", int64(100), int64(0), uint16(0))
	f.Add("0:10, 0x20:0x10", "16:10,0:16", int64(64), int64(4), uint16(0))
	f.Add("18446744073709551615:1", "0:1", int64(5), int64(5), uint16(0))
	f.Add("0:1", "9223372036854775807:1", int64(5), int64(math.MaxInt64), uint16(0))
	f.Add("0:0", "0:0", int64(0), int64(0), uint16(0))
	f.Add("0:5,3:5", "0:5,4:5", int64(9), int64(9), uint16(7))
	f.Add("0:9223372036854775807", "0:9223372036854775807", int64(math.MaxInt64), int64(1), uint16(0))
	f.Fuzz(func(t *testing.T, source, dest string, size, there int64, held uint16) {
		if size < 0 || there < 0 || len(source)+len(dest) > 1<<16 {
			return
		}
		saved := map[string]plannedFile{"f": {size: size}}
		var limit *big.Int
		if held > 0 {
			saved["f"] = plannedFile{size: size, held: fmt.Sprintf("0:%d", held)}
			limit = big.NewInt(int64(held))
		}
		d := directingOf(saved, map[string]plannedFile{"e/x": {size: there}})
		files, err := planOf(d, []metadata.DirectedTarget{directTo("f", source, "x", dest)})
		if want := oracleDirected(source, dest, limit, size, there); want != (err == nil) {
			t.Fatalf("%q to %q, %d to %d bytes, held %d: error %v, sound %v", source, dest, size, there, held, err, want)
		}
		if err != nil {
			return
		}
		end := int64(0)
		for _, p := range files[0].pieces {
			if p.from < 0 || p.to < 0 || p.length < 0 || p.from > size-p.length || p.to > math.MaxInt64-p.length || p.length > 0 && p.to < end {
				t.Fatalf("piece %+v of %d bytes", p, size)
			}
			end = p.to + p.length
		}
	})
}

// FuzzPartialRestore: a partial file is restored if, byte for byte, each is in the
// ranges or in the file that is there, or if there is no other backup to have it;
// whatever the ranges of a record are, nothing outside of the file is written.
func FuzzPartialRestore(f *testing.F) {
	f.Add("0:5,100:0x14", int64(200), int64(200), false)
	f.Add("0:200", int64(200), int64(-1), false)
	f.Add("190:20", int64(200), int64(190), false)
	f.Add("0:0", int64(0), int64(-1), false)
	f.Add("18446744073709551615:0,0:18446744073709551615", int64(7), int64(3), false)
	f.Fuzz(func(t *testing.T, text string, size, there int64, alone bool) {
		if size < 0 || size > 1<<12 || there < -1 || there > 1<<12 {
			return
		}
		ranges, err := vss.ParseRanges(text)
		if err != nil {
			return
		}
		p := partialFile{held: ranges.Clip(uint64(size)), alone: alone}
		has := make([]bool, size)
		for i := range has {
			has[i] = int64(i) < there
			for _, r := range ranges {
				has[i] = has[i] || r.Offset <= uint64(i) && uint64(i)-r.Offset < r.Length
			}
		}
		want := alone || !slices.Contains(has, false)
		if err := canPartial(&repository.Entry{Size: size}, p, there); (err == nil) != want {
			t.Fatalf("%q of %d bytes into %d, alone %v: %v, want %v", text, size, there, alone, err, want)
		}
		for _, r := range p.held {
			if r.End() > uint64(size) {
				t.Fatalf("%q of %d bytes writes %v", text, size, r)
			}
		}
	})
}
