package requester_test

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/requester/internal/model"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writers/testwriter"
)

// change lets the data change as an application would: files are written in
// place, grow, shrink, come, go, are renamed and replaced.
func (s *complexStore) change() {
	s.t.Helper()
	names := s.names("data")
	for _, name := range names {
		switch s.r.IntN(9) {
		case 0, 1, 2:
			s.writeInPlace(name)
		case 3:
			s.edit(name, func(b []byte) []byte { return append(b, s.content()...) })
		case 4:
			s.edit(name, func(b []byte) []byte { return b[:s.r.IntN(len(b)+1)] })
		case 5:
			s.replace(name)
		}
	}
	if name := oneOf(s.r, names...); s.r.IntN(2) == 0 && len(names) > 3 {
		s.must(os.Remove(s.path(name)))
	} else if s.r.IntN(2) == 0 { // with its time, as a rename does
		s.must(os.Rename(s.path(name), s.path(s.fresh(path.Dir(name)+"/moved", ".db"))))
	}
	if s.r.IntN(2) == 0 {
		s.put(s.fresh("data/new", ".db"), s.content())
	}
	if s.r.IntN(3) == 0 && !s.c.database {
		s.put(s.fresh("data/below/deeper/new", ".db"), s.content())
	}
	s.put(s.fresh("logs/", ".log"), s.content())
	if logs := s.names("logs"); len(logs) > 2 {
		s.must(os.Remove(s.path(logs[0]))) // as a writer truncates what is saved
	}
	s.put("journal/j1", s.content())
	s.put("sub/deep/one.s", s.content())
	if s.r.IntN(2) == 0 {
		s.mkdir(s.fresh("sub/empty/", ""))
	}
	if len(s.names("added")) == 0 || s.r.IntN(2) == 0 {
		s.put("added/new.n", s.content())
	}
	if s.r.IntN(2) == 0 {
		s.put(s.fresh("added/more", ".n"), s.content())
	}
	s.put("plain/file", s.content())
}

func (s *complexStore) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *complexStore) fresh(prefix, suffix string) string {
	s.number++
	return fmt.Sprintf("%s%04d%s", prefix, s.number, suffix)
}

// names gives the files below a directory that are saved, in order.
func (s *complexStore) names(dir string) (out []string) {
	files, _ := s.tree()
	for p := range files {
		if rel, err := filepath.Rel(s.dir, p); err == nil && strings.HasPrefix(rel, dir+"/") && !strings.HasSuffix(rel, ".tmp") {
			out = append(out, rel)
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		return cmp.Or(cmp.Compare(files[s.path(a)].Time, files[s.path(b)].Time), strings.Compare(a, b))
	})
	return out
}

func (s *complexStore) edit(name string, change func([]byte) []byte) {
	s.t.Helper()
	b, err := os.ReadFile(s.path(name))
	s.must(err)
	s.must(os.WriteFile(s.path(name), change(b), 0o644)) // the file stays the same one
	s.touch(name)
}

func (s *complexStore) writeInPlace(name string) {
	s.edit(name, func(b []byte) []byte {
		for range 1 + s.r.IntN(4) {
			if at := s.r.IntN(len(b) + 1); at < len(b) {
				copy(b[at:], s.content()[:1+s.r.IntN(19)])
			}
		}
		return b
	})
}

// replace puts another file in the place of one.
func (s *complexStore) replace(name string) {
	s.put(name+".tmp", s.content())
	s.must(os.Rename(s.path(name+".tmp"), s.path(name)))
}

// list has the writer list what changed since the backup that this one will
// build upon, as the case has it.
func (s *complexStore) list(typ vss.BackupType) {
	c := &s.w.Components[0]
	c.Differenced, c.Partial = nil, nil
	s.w.Schema &^= vss.SchemaLastModify
	if s.c.lists == "differenced" {
		s.w.Schema |= vss.SchemaLastModify
	}
	base := s.h.Decide(&s.w, "Store", typ, false).Base
	now, _ := s.tree()
	switch {
	case s.c.lists == "none":
	case s.c.lists == "differenced":
		var after int64
		if base >= 0 && s.r.IntN(4) > 0 {
			after = s.when[base].Unix()
		}
		c.Differenced = []model.Differenced{{Spec: c.Sets[0].Spec, After: after}}
		if s.r.IntN(4) > 0 {
			c.Differenced = append(c.Differenced, model.Differenced{Spec: model.Spec{Dir: s.path("added"), Pattern: "*.n"}, After: after})
		}
	case typ == vss.BackupTypeIncremental || typ == vss.BackupTypeDifferential:
		if base < 0 {
			return
		}
		for _, name := range append(s.names("data"), "added/new.n") {
			p := s.path(name)
			before, had := s.trees[base][p]
			if f := now[p]; had && before.Data != f.Data {
				ranges := s.ranges(before.Data, f.Data)
				if held, ok := s.h[base].Files[p]; !ok || held.Known != nil {
					ranges = []model.Range{{Offset: 0, Length: int64(len(f.Data))}} // the base has not all of it
				}
				c.Partial = append(c.Partial, model.Partial{Path: p, Ranges: ranges})
			}
		}
	case s.r.IntN(3) == 0:
		c.Partial = s.alone(typ, base, now)
	}
}

// alone lists ranges of a file in a backup of which nothing else of it is held:
// they go into the file that a restore of the base leaves, if there is one.
func (s *complexStore) alone(typ vss.BackupType, base int, now model.Tree) []model.Partial {
	name := s.path(oneOf(s.r, s.names("data")...))
	if set := s.w.Components[0].Sets[0]; !set.Due(typ) && set.NeedsShadow(typ) {
		return nil // where single files are staged it is not in the shadow copy
	}
	before := ""
	if base >= 0 {
		if before = s.h.Restore(base, model.ID{Writer: "store", Component: "Store"})[name]; before == "" {
			return nil
		}
	}
	return []model.Partial{{Path: name, Ranges: s.ranges(before, now[name].Data)}}
}

// ranges gives the bytes that changed, a little more than those, and in parts.
// One that lies gives others.
func (s *complexStore) ranges(before, now string) (out []model.Range) {
	if s.lying && s.c.typ != "log" && s.c.typ != "mixed" || before == "" {
		for range s.r.IntN(3) {
			out = append(out, model.Range{Offset: int64(s.r.IntN(len(now) + 10)), Length: int64(s.r.IntN(len(now) + 10))})
		}
		return out
	}
	for i := 0; i < min(len(before), len(now)); i++ {
		if before[i] == now[i] {
			continue
		}
		end := i + 1
		for end < min(len(before), len(now)) && (before[end] != now[end] || s.r.IntN(8) > 0) {
			end++
		}
		out = append(out, model.Range{Offset: int64(i), Length: int64(end - i)})
		i = end
	}
	if len(now) > len(before) {
		out = append(out, model.Range{Offset: int64(len(before)), Length: int64(len(now) - len(before))})
	}
	s.r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// startWriter starts the Test Writer with the configuration as it is.
func (s *complexStore) startWriter() {
	s.t.Helper()
	config, err := testwriter.Parse([]byte(s.xml()), "store.xml", vss.POSIX)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.xml())
	}
	s.more = []writer.Writer{testwriter.New(config, "store", &s.log)}
}

// xml is the Test Writer's configuration.
func (s *complexStore) xml() string {
	var b strings.Builder
	element := func(name, end string, attributes ...string) {
		fmt.Fprintf(&b, "<%s", name)
		for i := 0; i < len(attributes); i += 2 {
			fmt.Fprintf(&b, ` %s="`, attributes[i])
			s.must(xml.EscapeText(&b, []byte(attributes[i+1])))
			b.WriteString(`"`)
		}
		b.WriteString(end + "\n")
	}
	root := []string{"verbosity", "low", "supportsCopy", "yes", "supportsIncremental", "yes", "supportsDifferential", "yes", "supportsLog", "yes",
		"checkIncludes", yes(!s.bare), "checkExcludes", "yes"}
	if s.bare {
		root = append(root, "addIn", "PrepareForBackup")
	}
	element("TestWriter", ">", root...)
	element("RestoreMethod", "/>", "method", "RESTORE_IF_CAN_REPLACE", "writerRestore", "always")
	for _, e := range s.w.Excludes {
		element("ExcludeFile", "/>", "path", e.Dir, "filespec", e.Pattern, "recursive", yes(e.Recursive))
	}
	for _, c := range s.w.Components {
		logical, name := vss.SplitFullPath(c.Path)
		kind := "filegroup"
		if c.Database {
			kind = "database"
		}
		element("Component", ">", "componentType", kind, "logicalPath", logical, "componentName", name, "selectable", yes(c.Selectable))
		for _, set := range c.Sets {
			element("ComponentFile", "/>", fileAttributes(set)...)
		}
		for _, p := range c.Partial {
			dir, name := path.Split(p.Path)
			element("PartialFile", "/>", "path", path.Clean(dir), "filespec", name, "ranges", s.rangesText(p.Ranges))
		}
		for _, d := range c.Differenced {
			at := []string{"path", d.Dir, "filespec", d.Pattern, "recursive", yes(d.Recursive)}
			if d.After != 0 {
				t := time.Unix(d.After, 0).Local()
				for i, n := range []int{t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second()} {
					at = append(at, []string{"year", "month", "day", "hour", "minute", "second"}[i], fmt.Sprint(n))
				}
			}
			element("DifferencedFile", "/>", at...)
		}
		b.WriteString("</Component>\n")
	}
	b.WriteString("</TestWriter>\n")
	return b.String()
}

func yes(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}

func fileAttributes(set model.Set) []string {
	out := []string{"path", set.Dir, "filespec", set.Pattern}
	if set.Recursive {
		out = append(out, "recursive", "yes")
	}
	if set.Alternate != "" {
		out = append(out, "alternatePath", set.Alternate)
	}
	if set.Log {
		out = append(out, "logFile", "yes")
	}
	for i, name := range []string{"full", "diff", "inc", "log"} {
		bit := vss.FileSpecBackupType(1) << i
		out = append(out, name+"BackupRequired", yes(set.Mask&bit != 0), name+"SnapshotRequired", yes(set.Mask&(bit<<8) != 0))
	}
	return out
}

// rangesText writes a list of ranges, or a ranges file and its name.
func (s *complexStore) rangesText(ranges []model.Range) string {
	var list vss.Ranges
	for _, r := range ranges {
		list = append(list, vss.Range{Offset: uint64(r.Offset), Length: uint64(r.Length)})
	}
	if s.c.lists != "partial-file" && len(list) > 0 {
		return list.Format()
	}
	file := filepath.Join(s.aside, s.fresh("", ".ranges"))
	s.must(os.WriteFile(file, vss.AppendRangesFile(nil, list), 0o600))
	return oneOf(s.r, "File=", "") + file
}
