package e2e

import (
	"maps"
	"os"
	"slices"
	"testing"
	"time"
)

// killing is a repository whose backups are killed.
type killing struct {
	t   *testing.T
	m   *machine
	src *source
	// records says what each record must show.
	records map[string]sums
	// span is about how long a backup takes.
	span time.Duration

	killed, finished, unsaid, adopted int
}

// TestBackupsKilledAtRandomTimesHarmNothing: real processes, SIGKILL. After each
// round every record is there, some of them in turn are compared with what was
// backed up, and the structure is whole; at the end all are compared and all
// data is read. What was stored is not stored again, and no file remains that
// is nobody's.
func TestBackupsKilledAtRandomTimesHarmNothing(t *testing.T) {
	dir := scratch(t)
	k := &killing{t: t, m: cheaply(t, dir+"/repository"), src: newSource(t, dir, 11), records: map[string]sums{}}
	started := time.Now()
	o := k.m.must("backup", "--json", k.src.dir)
	k.span = time.Since(started)
	k.records[o.reported()] = k.src.kept()
	n := someRounds(t, 200, 8)
	for round := range n {
		k.round(round)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	k.end()
	t.Logf("%d rounds: %d killed, %d had ended before; %d records that nobody was told of; in %d rounds the next backup took up packs; %d records",
		n, k.killed, k.finished, k.unsaid, k.adopted, len(k.records))
}

// round kills a backup and looks at what there is.
func (k *killing) round(round int) {
	k.t.Helper()
	large := round%5 == 4
	k.src.change(round)
	if large { // fills packs long before its end
		k.src.file("large", 40<<20)
	}
	before := packFiles(k.t, k.m.repo)
	r := k.m.start(false, "backup", "--json", k.src.dir)
	go r.read()
	wait := k.span * 5 / 4
	if large && round%10 != 9 {
		k.firstPack(r, len(before))
		wait = k.span / 2
	}
	time.Sleep(time.Duration(k.src.random.Int64N(int64(wait))))
	if err := r.cmd.Process.Kill(); err != nil {
		k.t.Fatal(err)
	}
	o := r.wait()
	if o.code == -1 {
		k.killed++
	} else {
		k.finished++
		o.exits(0)
	}
	k.look(o.reported(), round)
	if large || round%7 == 6 {
		k.completes(before, large)
	}
	if large {
		k.src.remove("large")
	}
}

// firstPack waits until a backup has put a pack, or has ended.
func (k *killing) firstPack(r *running, before int) {
	for !dead(r.cmd.Process.Pid) && len(packFiles(k.t, k.m.repo)) <= before {
		time.Sleep(time.Millisecond)
	}
}

// look opens the repository. A record that nobody was told of may be there, and
// then it is whole.
func (k *killing) look(reported string, round int) {
	k.t.Helper()
	m, done := look(k.t, k.m.repo)
	defer done()
	ids := m.ids()
	if reported != "" && !slices.Contains(ids, reported) {
		k.t.Errorf("record %s was reported and is not there", reported)
	}
	for _, id := range ids {
		if _, known := k.records[id]; known {
			continue
		}
		if id != reported {
			k.unsaid++
		}
		k.records[id] = k.src.kept()
		if err := m.shows(id, k.records[id]); err != nil {
			k.t.Error(err)
		}
	}
	all := slices.Sorted(maps.Keys(k.records))
	for i := range 3 {
		id := all[(3*round+i)%len(all)]
		if err := m.shows(id, k.records[id]); err != nil {
			k.t.Errorf("an earlier backup: %v", err)
		}
	}
	if len(ids) != len(k.records) {
		k.t.Errorf("%d records of %d are there", len(ids), len(k.records))
	}
	if err := m.whole(false); err != nil {
		k.t.Error(err)
	}
}

// completes makes the next backup, which stores nothing again that was stored.
func (k *killing) completes(before map[string]int64, large bool) {
	k.t.Helper()
	var there int64
	for name, size := range packFiles(k.t, k.m.repo) {
		if _, ok := before[name]; !ok && size > 8<<10 {
			there += size - 8<<10
		}
	}
	// Reused slots: the keeper of the one that was killed has to let go first.
	waitFor(k.t, 20*time.Second, "the processes of the killed backup end", func() bool { return len(processes(k.t)) == 0 })
	o := k.m.must("backup", "--json", k.src.dir)
	id := o.reported()
	k.records[id] = k.src.kept()
	if !large {
		k.span = o.took
	}
	m, done := look(k.t, k.m.repo)
	defer done()
	if err := m.shows(id, k.records[id]); err != nil {
		k.t.Error(err)
	}
	added, limit := m.totals(id).BytesAdded, k.src.news()-there*99/100+1<<20
	if large && added > limit {
		k.t.Errorf("the next backup stored %d bytes, of which at most %d were not there", added, limit)
	}
	if there > 0 {
		k.adopted++
	}
}

// end compares everything.
func (k *killing) end() {
	k.t.Helper()
	// What was being written is swept when it is surely nobody's any more.
	old := time.Now().Add(-48 * time.Hour)
	left := remains(k.t, k.m.repo)
	for _, unfinished := range []map[string]int64{left, filesBelow(k.t, k.m.state(), ".")} {
		for name := range unfinished {
			if err := os.Chtimes(name, old, old); err != nil {
				k.t.Fatal(err)
			}
		}
	}
	waitFor(k.t, 20*time.Second, "the processes of the killed backup end", func() bool { return len(processes(k.t)) == 0 })
	k.src.change(1 << 20)
	id := k.m.must("backup", "--json", k.src.dir).reported()
	k.records[id] = k.src.kept()
	if rest := remains(k.t, k.m.repo); len(rest) > 0 {
		k.t.Errorf("remains of puts that no backup swept: %v", rest)
	}
	if rest := k.m.left(k.src.dir); len(rest) > 0 {
		k.t.Errorf("left by killed backups: %v", rest)
	}
	k.m.must("check", "--read-data")
	m, done := look(k.t, k.m.repo)
	defer done()
	for _, id := range slices.Sorted(maps.Keys(k.records)) {
		if err := m.shows(id, k.records[id]); err != nil {
			k.t.Error(err)
		}
	}
	if foreign, err := os.ReadDir(k.m.repo); err != nil || len(foreign) > 9 {
		k.t.Errorf("in the repository's folder: %v, %v", foreign, err)
	}
	k.t.Logf("%d remains of puts were swept", len(left))
}
