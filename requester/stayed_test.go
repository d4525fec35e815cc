package requester

import (
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/vss"
)

// longRanges are more than an entry holds, and what is in them of a content.
func longRanges(content string) (ranges vss.Ranges, holes string) {
	var b strings.Builder
	for i := 0; i+4 <= len(content); i += 4 {
		ranges = append(ranges, vss.Range{Offset: uint64(i), Length: 2})
		b.WriteString(content[i:i+2] + "\x00\x00")
	}
	return ranges, b.String()
}

// TestLongRangeListsOfFilesListedNoMore: the list of ranges is a document of the
// record before, which this one has not.
func TestLongRangeListsOfFilesListedNoMore(t *testing.T) {
	content := strings.Repeat("0123456789", 2000)
	ranges, holes := longRanges(content)
	long, all := rangesOf("/else", "n", ranges.Format()), rangesOf("/else", "n", "0:100000")
	none := []metadata.PartialFile(nil)

	l := newListHost(t, everyMask)
	l.write("else/n", content, 0)
	l.partial = []metadata.PartialFile{all}
	l.backup(vss.BackupTypeFull)
	l.partial = []metadata.PartialFile{long}
	l.holds("upon all of it", l.backup(vss.BackupTypeIncremental), "else/n="+content+"|T "+ranges.Format())
	l.partial = none
	l.holds("listed no more", l.backup(vss.BackupTypeIncremental), "else/n="+content+"|")

	l = newListHost(t, everyMask)
	l.write("else/n", content, 0)
	l.partial = []metadata.PartialFile{long}
	l.holds("ranges alone", l.backup(vss.BackupTypeFull), "else/n="+holes+"|TO "+ranges.Format())
	l.partial = none
	l.holds("ranges alone, listed no more", l.backup(vss.BackupTypeIncremental), "else/n="+content+"|T")
}

// TestFilesListedNoMoreThatTheBaseHasLost are read again.
func TestFilesListedNoMoreThatTheBaseHasLost(t *testing.T) {
	l := newListHost(t, everyMask)
	st := mem.New()
	use := func(open func() (*repository.Repository, error)) {
		t.Helper()
		repo, err := open()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { repo.Close() })
		l.repo = repo
	}
	o := repository.Options{KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}, TempDir: t.TempDir(), Workers: 1}
	use(func() (*repository.Repository, error) { return repository.Create(t.Context(), st, []byte("x"), o) })
	l.write("else/n", "n1", 0)
	l.partial = []metadata.PartialFile{rangesOf("/else", "n", "0:2")}
	l.holds("listed", l.backup(vss.BackupTypeFull), "else/n=n1|T 0:2")
	l.partial = nil
	l.write("else/n", "n2", 1)
	l.holds("listed no more", l.backup(vss.BackupTypeIncremental), "else/n=n1| 0:2")
	var packs []string
	if err := st.List(t.Context(), "data/", func(i store.Info) error { packs = append(packs, i.Name); return nil }); err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, p := range packs {
		if err := st.Delete(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	use(func() (*repository.Repository, error) { return repository.Open(t.Context(), st, []byte("x"), o) })
	l.holds("lost", l.backup(vss.BackupTypeIncremental), "else/n=n2|T")
}
