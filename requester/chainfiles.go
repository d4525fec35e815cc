package requester

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// linkFiles is what the record of a link lists of one component set.
type linkFiles struct {
	typ vss.BackupType
	// mark is what AttrRead says of data that this backup read.
	mark    string
	entries []*repository.Entry
	// carried reports files that their writer may have let go of since they were
	// backed up, and that it needs all the same: log files, and sets that are not
	// in full backups. That a later record does not list one says nothing.
	carried func(*repository.Entry) bool
}

// linkWork is what a link does with the files of one component set.
type linkWork struct {
	// write are the entries that are put, in the order of the table. The entry
	// may be of another link's record (from).
	write []chainEntry
	// gone are entries of earlier links that this one takes away, deepest first.
	gone []*repository.Entry
	// settled: nothing is to be written: the files are in place since the first
	// link, and are only looked at.
	settled bool
}

// chainEntry is an entry and the link whose record has it.
type chainEntry struct {
	*repository.Entry
	from int
}

// chainState is what the links so far have made of a component's files.
type chainState map[string]chainFile

type chainFile struct {
	chainEntry
	carried bool
}

// filePlan is what the links of a component's chain do.
type filePlan struct {
	// sequential: each link writes what its backup transferred, and takes away
	// what earlier ones have put and it no longer lists.
	sequential []linkWork
	// final is what all of them come to, in the order of the table.
	final []chainEntry
	// why says why they cannot be collapsed, where a writer may want to see more
	// than the end: a file that is carried has different content in two links, or
	// of a file nothing but ranges are stored, which are written into what is
	// there.
	why string
}

// planFiles decides what each link of a component's chain does.
func planFiles(links []linkFiles) filePlan {
	p := filePlan{sequential: make([]linkWork, len(links))}
	state := chainState{}
	for i := range links {
		if clash := state.apply(i, &links[i], &p.sequential[i]); p.why == "" {
			p.why = clash
		}
	}
	p.final = make([]chainEntry, 0, len(state))
	for _, f := range state {
		p.final = append(p.final, f.chainEntry)
	}
	slices.SortFunc(p.final, func(a, b chainEntry) int { return repository.ComparePaths(a.Root, a.Path, b.Root, b.Path) })
	return p
}

// collapsed has the first link write what all come to, once; the later ones find
// their files in place.
func (p *filePlan) collapsed() []linkWork {
	at := make(map[string]chainEntry, len(p.final))
	for _, e := range p.final {
		at[e.Path] = e
	}
	work := make([]linkWork, len(p.sequential))
	work[0].write = p.final
	for i := 1; i < len(work); i++ {
		work[i].settled = true
		for _, e := range p.sequential[i].write {
			if f, there := at[e.Path]; there {
				work[i].write = append(work[i].write, f)
			}
		}
	}
	return work
}

// apply adds a link to the state and finds out what it writes and takes away.
// clash says why the chain cannot be collapsed.
func (s chainState) apply(i int, l *linkFiles, w *linkWork) (clash string) {
	log := l.typ == vss.BackupTypeLog
	if i > 0 && !log { // it lists the whole set
		listed := make(map[string]bool, len(l.entries))
		for _, e := range l.entries {
			listed[e.Path] = true
		}
		for path, f := range s {
			if !listed[path] && !f.carried {
				w.gone = append(w.gone, f.Entry)
				delete(s, path)
			}
		}
	}
	for _, e := range l.entries {
		before, there := s[e.Path]
		carried := e.Type != repository.Directory && (log || l.carried(e))
		if e.Attrs[AttrPartial] == "only" && clash == "" {
			clash = fmt.Sprintf("of /%s nothing but ranges are stored", e.Path)
		}
		if there && (carried || before.carried) && clash == "" && e.Type != repository.Directory &&
			before.Changes(e)&(repository.ChangedType|repository.ChangedContent) != 0 {
			clash = fmt.Sprintf("/%s, which its writer may want to see as each backup has it, differs between them", e.Path)
		}
		if there && before.Type != e.Type && (before.Type == repository.Directory || e.Type == repository.Directory) {
			w.gone = append(w.gone, before.Entry) // neither takes the other's place
			there = false
		}
		transferred := e.Type == repository.Regular && e.Attrs[AttrRead] == l.mark
		if i == 0 || log || transferred || !there || before.Changes(e)&restorable != 0 {
			w.write = append(w.write, chainEntry{e, i})
		}
		s[e.Path] = chainFile{chainEntry{e, i}, carried || there && before.carried}
	}
	slices.SortFunc(w.gone, func(a, b *repository.Entry) int {
		return cmp.Or(cmp.Compare(depth(b.Path), depth(a.Path)), cmp.Compare(a.Path, b.Path))
	})
	return clash
}

// restorable are the differences between entries that a restore brings about.
const restorable = repository.ChangedType | repository.ChangedContent | repository.ChangedTarget | repository.ChangedMode | repository.ChangedOwner |
	repository.ChangedModTime | repository.ChangedXattrs | repository.ChangedFlags | repository.ChangedSecurity | repository.ChangedStreams
