package e2e

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
)

// pruning is a repository in which backups, forgets and prunes are killed.
type pruning struct {
	t   *testing.T
	src *source
	// backs backs up, tidies forgets and prunes.
	backs, tidies *machine
	// records says what each record must show that was ever seen or reported.
	records map[string]sums
	// spans are about how long each command takes.
	spans map[string]time.Duration

	killed, ended map[string]int
	deleted       int64
}

// kept is how many backups the rule of these tests keeps.
const kept = 2

// TestForgetsAndPrunesKilledBesideBackupsHarmNothing: real processes, SIGKILL at
// random times. After each round every record that is there shows what was backed
// up, none is missing that the rule keeps, and check finds nothing; at the end
// the next prunes finish what was begun.
func TestForgetsAndPrunesKilledBesideBackupsHarmNothing(t *testing.T) {
	dir := scratch(t)
	p := &pruning{t: t, src: newSource(t, dir, 23), backs: cheaply(t, dir+"/repository"), records: map[string]sums{},
		spans: map[string]time.Duration{}, killed: map[string]int{}, ended: map[string]int{}}
	p.tidies = bareMachine(t, p.backs.repo)
	for i := range kept + 1 {
		p.src.change(i)
		o := p.backs.must("backup", "--json", p.src.dir)
		p.spans["backup"] = o.took
		p.records[o.reported()] = p.src.kept()
	}
	p.spans["forget"] = p.tidies.must("forget", "--keep-last", "2").took
	p.spans["prune"] = p.tidies.must("prune", "--grace", "0").took
	n := someRounds(t, 200, 8)
	for round := range n {
		p.round(kept + 1 + round)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	p.end()
	t.Logf("%d rounds: killed %v, ended before %v; %d records, %d packs deleted", n, p.killed, p.ended, len(p.records), p.deleted)
	killed, ended := 0, 0
	for _, name := range []string{"backup", "forget", "prune"} {
		killed, ended = killed+p.killed[name], ended+p.ended[name]
		if n == 200 && (p.killed[name] == 0 || p.ended[name] == 0) {
			t.Errorf("of %s %d were killed and %d ended: not much was tested", name, p.killed[name], p.ended[name])
		}
	}
	if killed == 0 || ended == 0 {
		t.Errorf("%d were killed and %d ended: nothing was tested", killed, ended)
	}
	if p.deleted == 0 {
		t.Error("no pack was deleted: nothing was tested")
	}
}

// round lets a backup, a forget and a prune run beside each other, each of which
// may be killed.
func (p *pruning) round(n int) {
	p.t.Helper()
	p.src.change(n)
	// Time passes between the rounds, so that what was killed long ago holds
	// nothing back.
	p.pass(5 * time.Hour)
	commands := []struct {
		m    *machine
		args []string
	}{
		{p.backs, []string{"backup", "--json", p.src.dir}},
		{p.tidies, []string{"forget", "--keep-last", "2"}},
		{p.tidies, []string{"prune", "--json", "--grace", "0", "--max-unused", "1"}},
	}
	rand.Shuffle(len(commands), func(i, j int) { commands[i], commands[j] = commands[j], commands[i] })
	done := make(chan *outcome)
	for _, c := range commands {
		r := c.m.start(false, c.args...)
		go r.read()
		wait := rand.N(p.spans[c.args[0]] * 2)
		if rand.N(3) == 0 {
			wait = longest // it may end
		}
		go func() {
			timer := time.AfterFunc(wait, func() { r.cmd.Process.Kill() })
			defer timer.Stop()
			done <- r.wait()
		}()
		time.Sleep(rand.N(50 * time.Millisecond))
	}
	reported := ""
	for range commands {
		o := <-done
		name := o.args[0]
		if o.code == -1 {
			p.killed[name]++
		} else {
			p.ended[name]++
			if o.code != 0 {
				p.t.Errorf("sombra %s: exit code %d\n%s\n%s", strings.Join(o.args, " "), o.code, o.out, o.err)
			}
		}
		if name == "backup" {
			reported = o.reported()
		}
		p.deleted += deletedBy(o)
	}
	p.look(reported)
}

// deletedBy says how many packs a prune reported to have deleted.
func deletedBy(o *outcome) int64 {
	for line := range strings.Lines(o.out) {
		if o.args[0] == "prune" && messageType(line) == "summary" && strings.HasSuffix(line, "\n") {
			var report struct{ Deleted int64 }
			unmarshal(o.t, line, &report)
			return report.Deleted
		}
	}
	return 0
}

// look compares every record that is there, and misses those that are not.
func (p *pruning) look(reported string) {
	p.t.Helper()
	m, done := look(p.t, p.backs.repo)
	defer done()
	ids := m.ids() // oldest first
	if reported != "" && !slices.Contains(ids, reported) {
		p.t.Errorf("record %s was reported and is not there", reported)
	}
	for i, id := range ids {
		want, known := p.records[id]
		if !known {
			want = p.src.kept()
			p.records[id] = want
			if i != len(ids)-1 {
				p.t.Errorf("record %s is new and not the newest", id)
			}
		}
		if err := m.shows(id, want); err != nil {
			p.t.Error(err)
		}
	}
	if len(ids) < kept {
		p.t.Errorf("%d records are left of those that the rule keeps", len(ids))
	}
	if err := m.whole(false); err != nil {
		p.t.Error(err)
	}
}

// pass lets time pass by the store's clock: all that is there becomes older.
func (p *pruning) pass(d time.Duration) {
	p.t.Helper()
	err := filepath.WalkDir(p.backs.repo, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		then := info.ModTime().Add(-d)
		return os.Chtimes(name, then, then)
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// end has everything finished that was begun.
func (p *pruning) end() {
	p.t.Helper()
	waitFor(p.t, 20*time.Second, "the processes of killed commands end", func() bool { return len(processes(p.t)) == 0 })
	p.tidies.must("forget", "--keep-last", "2")
	var report repository.PruneReport
	for range 4 {
		p.pass(80 * time.Hour)
		report = repository.PruneReport{}
		p.tidies.must("prune", "--json", "--max-unused", "0").line("summary", &report)
	}
	if report.Records != kept || report.Waiting != 0 || report.Marked != 0 || report.Unused != 0 {
		p.t.Errorf("after the last prune: %+v", report)
	}
	for _, kind := range []string{"intents", "marks"} {
		left := filesBelow(p.t, filepath.Join(p.backs.repo, kind), "")
		maps.DeleteFunc(left, func(name string, _ int64) bool { return strings.HasPrefix(filepath.Base(name), ".") }) // see below
		if len(left) > 0 {
			p.t.Errorf("left of %s: %v", kind, left)
		}
	}
	p.tidies.must("check", "--read-data")
	p.src.change(1 << 20)
	p.records[p.backs.must("backup", "--json", p.src.dir).reported()] = p.src.kept()
	p.look("")
	if rest := remains(p.t, p.backs.repo); len(rest) > 0 {
		p.t.Errorf("remains of puts that no backup swept: %v", rest)
	}
}
