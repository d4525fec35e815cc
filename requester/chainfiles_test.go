package requester

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// fileTable makes entries of words: "d/" a directory, "f=3" a file with content
// 3, "f=3*" one that this backup read, "f=3?" one of which it holds ranges alone.
// Content is told by the time of modification.
func fileTable(t *testing.T, mark, text string) (out []*repository.Entry) {
	t.Helper()
	for _, word := range strings.Fields(text) {
		e := &repository.Entry{Root: rootID, Attrs: map[string]string{}}
		if dir, ok := strings.CutSuffix(word, "/"); ok {
			e.Path, e.Type = dir, repository.Directory
		} else {
			name, content, _ := strings.Cut(word, "=")
			e.Path, e.Type = name, repository.Regular
			for _, c := range content {
				switch c {
				case '*':
					e.Attrs[AttrRead] = mark
				case '?':
					e.Attrs[AttrPartial], e.Attrs[AttrRead] = "only", mark
				default:
					e.Size = e.Size*10 + int64(c-'0')
				}
			}
			e.ModTime = time.Unix(e.Size, 0)
		}
		out = append(out, e)
	}
	return out
}

func logs(e *repository.Entry) bool { return strings.HasSuffix(e.Path, ".log") }

// shownWork writes what a link does: "f=3 -gone".
func shownWork(w linkWork) string {
	var out []string
	for _, e := range w.gone {
		out = append(out, "-"+e.Path)
	}
	for _, e := range w.write {
		if e.Type == repository.Directory {
			out = append(out, e.Path+"/")
		} else {
			out = append(out, fmt.Sprintf("%s=%d", e.Path, e.Size))
		}
	}
	return strings.Join(out, " ")
}

func TestWhatLinksWrite(t *testing.T) {
	type link struct {
		typ   vss.BackupType
		files string
	}
	full, inc, diff, log := vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeDifferential, vss.BackupTypeLog
	for _, tt := range []struct {
		name       string
		links      []link
		sequential []string
		collapsed  []string // nil: they cannot be
		why        string
	}{
		{"what was transferred, and the base's content not again", []link{{full, "a=1* b=1*"}, {inc, "a=1 b=2*"}},
			[]string{"a=1 b=1", "b=2"}, []string{"a=1 b=2", "b=2"}, ""},
		{"a file read again without a change is written again", []link{{full, "a=1*"}, {inc, "a=1*"}}, []string{"a=1", "a=1"}, []string{"a=1", "a=1"}, ""},
		{"other bytes than the earlier links have, whoever read them", []link{{full, "a=1*"}, {diff, "a=2"}}, []string{"a=1", "a=2"}, []string{"a=2", "a=2"}, ""},
		{"a file that is no more, and one that comes back", []link{{full, "a=1* b=1*"}, {inc, "b=1"}, {inc, "a=3* b=1"}},
			[]string{"a=1 b=1", "-a", "a=3"}, []string{"a=3 b=1", "", "a=3"}, ""},
		{"written, changed and gone", []link{{full, "a=1*"}, {inc, "a=1 b=2*"}, {inc, "a=1"}}, []string{"a=1", "b=2", "-b"}, []string{"a=1", "", ""}, ""},
		{"directories, the deepest first", []link{{full, "d/ d/e/ d/e/f=1* g=1*"}, {inc, "g=1"}},
			[]string{"d/ d/e/ d/e/f=1 g=1", "-d/e/f -d/e -d"}, []string{"g=1", ""}, ""},
		{"a file in the place of a directory, and the other way", []link{{full, "a/ a/x=1* b=1*"}, {inc, "a=2* b/ b/y=2*"}},
			[]string{"a/ a/x=1 b=1", "-a/x -a -b a=2 b/ b/y=2"}, []string{"a=2 b/ b/y=2", "a=2 b/ b/y=2"}, ""},
		{"a log that its writer let go of stays", []link{{full, "a=1* 1.log=1*"}, {inc, "a=1 2.log=2*"}},
			[]string{"a=1 1.log=1", "2.log=2"}, []string{"1.log=1 2.log=2 a=1", "2.log=2"}, ""},
		{"a log record lists nothing else", []link{{full, "a=1* 1.log=1*"}, {log, "2.log=2*"}, {log, "3.log=3*"}},
			[]string{"a=1 1.log=1", "2.log=2", "3.log=3"}, []string{"1.log=1 2.log=2 3.log=3 a=1", "2.log=2", "3.log=3"}, ""},
		{"a log that grows is shown to its writer as each backup has it", []link{{full, "a=1* x.log=1*"}, {log, "x.log=2*"}},
			[]string{"a=1 x.log=1", "x.log=2"}, nil, "/x.log"},
		{"one that does not is not", []link{{full, "a=1* x.log=1*"}, {inc, "a=2* x.log=1*"}}, []string{"a=1 x.log=1", "a=2 x.log=1"}, []string{"a=2 x.log=1", "a=2 x.log=1"}, ""},
		{"nothing but ranges", []link{{full, "a=1*"}, {inc, "a=1?"}}, []string{"a=1", "a=1"}, nil, "nothing but ranges"},
		{"any file of a log record is a log", []link{{full, "a=1*"}, {log, "b=1*"}, {log, "b=2*"}}, []string{"a=1", "b=1", "b=2"}, nil, "/b"},
		{"one link", []link{{full, "a=1* x.log=1*"}}, []string{"a=1 x.log=1"}, []string{"a=1 x.log=1"}, ""},
	} {
		var links []linkFiles
		for i, l := range tt.links {
			mark := fmt.Sprint("mark", i)
			links = append(links, linkFiles{typ: l.typ, mark: mark, entries: fileTable(t, mark, l.files), carried: logs})
		}
		p := planFiles(links)
		if (p.why == "") != (tt.collapsed != nil) || !strings.Contains(p.why, tt.why) {
			t.Errorf("%s: cannot be collapsed because %q, want %q", tt.name, p.why, tt.why)
		}
		for i, w := range p.sequential {
			if got := shownWork(w); got != tt.sequential[i] {
				t.Errorf("%s: link %d writes %q, want %q", tt.name, i, got, tt.sequential[i])
			}
		}
		if tt.collapsed == nil {
			continue
		}
		for i, w := range p.collapsed() {
			if got := shownWork(w); got != tt.collapsed[i] || w.settled != (i > 0) {
				t.Errorf("%s: collapsed, link %d writes %q (settled %v), want %q", tt.name, i, got, w.settled, tt.collapsed[i])
			}
		}
	}
}

// TestLinksComeToTheSameProperty: carried out on a disk, sequential and collapsed
// come to the same: what the last record that is no log lists, and what is
// carried.
func TestLinksComeToTheSameProperty(t *testing.T) {
	rng := rand.New(rand.NewPCG(20, 28))
	names := []string{"a", "b", "c", "d", "1.log", "2.log", "3.log"}
	collapsed := 0
	for round := range 4000 {
		var links []linkFiles
		want := map[string]int64{}
		now := map[string]int64{}
		for i := range 1 + rng.IntN(5) {
			mark := fmt.Sprint("m", i)
			read := map[string]bool{}
			for range rng.IntN(4) {
				name := names[rng.IntN(len(names))]
				if rng.IntN(3) == 0 {
					delete(now, name)
				} else {
					now[name] = rng.Int64N(1000)
					if strings.HasSuffix(name, ".log") && rng.IntN(4) > 0 {
						now[name] = 7 // logs mostly do not change
					}
					read[name] = true
				}
			}
			typ := vss.BackupTypeFull
			if i > 0 {
				typ = []vss.BackupType{vss.BackupTypeIncremental, vss.BackupTypeLog}[rng.IntN(2)]
			}
			var entries []*repository.Entry
			for _, name := range slices.Sorted(maps.Keys(now)) {
				e := &repository.Entry{Root: rootID, Path: name, Type: repository.Regular, Size: now[name], ModTime: time.Unix(now[name], 0), Attrs: map[string]string{}}
				if typ == vss.BackupTypeLog && !logs(e) {
					continue
				}
				if i == 0 || read[name] || typ == vss.BackupTypeLog {
					e.Attrs[AttrRead] = mark
				}
				entries = append(entries, e)
			}
			if typ != vss.BackupTypeLog {
				for name := range want {
					if !strings.HasSuffix(name, ".log") {
						delete(want, name)
					}
				}
			}
			for _, e := range entries {
				want[e.Path] = e.Size
			}
			links = append(links, linkFiles{typ: typ, mark: mark, entries: entries, carried: logs})
		}
		p := planFiles(links)
		run := func(how string, work []linkWork) {
			disk := map[string]int64{"b": -1} // somebody else's
			for i, w := range work {
				for _, e := range w.gone {
					delete(disk, e.Path)
				}
				for _, e := range w.write {
					if w.settled && disk[e.Path] != e.Size {
						t.Errorf("round %d, %s: link %d finds %s to be %d, not %d", round, how, i, e.Path, disk[e.Path], e.Size)
					}
					disk[e.Path] = e.Size
				}
			}
			if disk["b"] == -1 {
				delete(disk, "b")
			}
			if !maps.Equal(disk, want) {
				t.Errorf("round %d, %s: %v, want %v", round, how, disk, want)
			}
		}
		run("sequential", p.sequential)
		final := map[string]int64{}
		for _, e := range p.final {
			final[e.Path] = e.Size
		}
		if !maps.Equal(final, want) {
			t.Errorf("round %d: final %v, want %v", round, final, want)
		}
		if p.why == "" {
			collapsed++
			run("collapsed", p.collapsed())
		}
	}
	if collapsed < 1000 || collapsed > 3900 {
		t.Errorf("%d of 4000 were collapsed", collapsed)
	}
}

// TestNumbersOfSeveralRecords: the same number in two records is two files, in one
// record one, whichever component's names they are.
func TestNumbersOfSeveralRecords(t *testing.T) {
	links := []*linkRun{{n: 0}, {n: 1}, {n: 2}}
	comp := func(parts ...int) *chainComp {
		c := &chainComp{}
		for _, n := range parts {
			c.parts = append(c.parts, &setChain{comp: c, link: links[n]})
		}
		return c
	}
	all, last := comp(0, 1, 2), comp(0, 2)
	number := func(c *chainComp, from int) uint64 {
		return c.foreignLink(chainEntry{&repository.Entry{HardLink: 5}, from})
	}
	if number(all, 1) == number(all, 2) || number(all, 1) == number(last, 1) || number(all, 2) != number(last, 1) || number(all, 1) == 5 {
		t.Errorf("numbers %x %x %x", number(all, 1), number(all, 2), number(last, 1))
	}
}
