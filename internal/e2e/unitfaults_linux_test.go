package e2e

import (
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// Faults of a unit itself.
const (
	faultStopFails  = "stop fails"
	faultStopHangs  = "stop hangs"
	faultStartFails = "start fails"
)

// unitPoints are the points at which a unit is held, is about to be, or was.
var unitPoints = []string{"PrepareForBackup", "PrepareForSnapshot", "Freeze", pointCommit, "Thaw", "PostSnapshot", pointCopying, "BackupComplete"}

// unitFaults are the parties, and what happens to them.
var unitFaults = []struct {
	party  string
	faults []string
}{
	{"requester", []string{faultKilled, faultHung, faultError, faultFull, faultStateFull}},
	{"keeper", []string{faultKilled, faultHung, faultError, faultFull, faultStateFull}},
	{"host", []string{faultKilled, faultHung, faultError, faultFull, faultStateFull}},
	{"unit", []string{faultKilled, faultHung, faultStopFails, faultStopHangs, faultStartFails, faultFull, faultStateFull}},
}

// unitHows are the ways to hold a unit.
var unitHows = []string{"stop", "freeze"}

// TestFaultsLetUnitsGo is the table of faults for units of systemd: the requester,
// the keeper, the unit's writer host and the unit itself are killed, hang, fail or
// have no room, before the unit is held, while it is, and afterwards, for both ways
// to hold one. After each the unit answers (promptly, or within the limits where
// something hangs), it is neither stopped nor frozen and was started no more than
// once, nothing is noted or left, exit code and record tell the truth, and the next
// backup succeeds. Cells run in a few lanes, each with a unit of its own, of one host.
// SOMBRA_FAULT limits it to the cells whose names begin so, as "host stop/killed".
func TestFaultsLetUnitsGo(t *testing.T) {
	all := unitCells()
	cells := chosenUnitCells(all.Cells)
	lanes := bootLanes(t, min(4, len(cells)))
	table := newFaultTable(unitPoints)
	table.known(all)
	var mu sync.Mutex
	var slowest []string
	var each sync.WaitGroup
	todo := make(chan string)
	begun := time.Now()
	for _, l := range lanes {
		each.Go(func() {
			for name := range todo {
				c, took := parseCell(name), time.Duration(0)
				ok := t.Run(name, func(t *testing.T) { took = l.run(t, c) })
				if !ok {
					l.reset()
				}
				mu.Lock()
				table.note(c, ok)
				slowest = append(slowest, fmt.Sprintf("%8d ms %s", took.Milliseconds(), name))
				mu.Unlock()
			}
		})
	}
	for _, name := range cells {
		todo <- name
	}
	close(todo)
	each.Wait()
	lanes[0].nothingOfAny(t)
	slices.Sort(slowest)
	slices.Reverse(slowest)
	t.Logf("%d cells in %v\n%s\nThe slowest answers after a fault:\n%s", len(cells), time.Since(begun).Round(time.Second), table,
		strings.Join(slowest[:min(5, len(slowest))], "\n"))
}

// unitCells lists those that apply, and says why others do not.
func unitCells() worldCells {
	known := worldCells{Excused: map[string]string{}}
	for _, p := range unitFaults {
		for _, how := range unitHows {
			for _, fault := range p.faults {
				known.Rows = append(known.Rows, faultCell{p.party + " " + how, fault, ""}.row())
				for _, point := range unitPoints {
					c := faultCell{p.party + " " + how, fault, point}
					if why := c.noUnit(); why != "" {
						known.Excused[c.String()] = why
					} else {
						known.Cells = append(known.Cells, c.String())
					}
				}
			}
		}
	}
	return known
}

// held reports whether the unit is held at the point.
func (c faultCell) held() bool {
	return c.point == "Freeze" || c.point == pointCommit || c.point == "Thaw"
}

// noUnit says why a cell of a unit does not apply, or nothing.
func (c faultCell) noUnit() string {
	party, how, _ := strings.Cut(c.party, " ")
	full := c.fault == faultFull || c.fault == faultStateFull
	past := !before(c.point, "PostSnapshot")
	switch {
	case party == "keeper" && full:
		return "it writes nothing; what the journal says is the requester's to write"
	case party == "keeper" && c.fault == faultError:
		return "it has no call of its own that fails: what it is refused is told of as the writer's failure"
	case party == "host" && full:
		return "it writes nothing but its note, which is in memory (/run)"
	case party == "host" && c.fault == faultError:
		return "what fails in it is what is asked of the unit: see there"
	case party == "unit" && full:
		return "its volume has its shadow copies: see the other table's provider"
	case party == "unit" && how == "stop" && c.held() && c.fault != faultStartFails:
		return "it does not run, it has been stopped"
	case party == "unit" && how == "freeze" && c.fault != faultKilled && c.fault != faultHung:
		return "a unit that is frozen is neither stopped nor started"
	case past && (c.fault == faultStopFails || c.fault == faultStopHangs || c.fault == faultStartFails):
		return "it has been stopped and started again"
	}
	return ""
}

// chosenUnitCells are all in torture, those that SOMBRA_FAULT names, or a tenth:
// each party with each fault, for one way and the other in turn, at points that follow
// each other, and of the first ones more until it is a tenth.
func chosenUnitCells(all []string) (list []string) {
	if only := os.Getenv("SOMBRA_FAULT"); only != "" {
		for _, name := range all {
			if slices.ContainsFunc(strings.Split(only, ","), func(begin string) bool { return strings.HasPrefix(name, begin) }) {
				list = append(list, name)
			}
		}
		return list
	}
	if os.Getenv("SOMBRA_TORTURE") != "" {
		return all
	}
	var rows [][2]string
	cells := map[[2]string][]faultCell{}
	for _, name := range all {
		c := parseCell(name)
		party, _, _ := strings.Cut(c.party, " ")
		row := [2]string{party, c.fault}
		if cells[row] == nil {
			rows = append(rows, row)
		}
		cells[row] = append(cells[row], c)
	}
	for i := 0; i < len(rows) || len(list) < (len(all)+9)/10; i++ {
		row := cells[rows[i%len(rows)]]
		first := func(how string) int {
			for k := range unitPoints { // 3 and the number of points have no divisor in common
				at := slices.IndexFunc(row, func(c faultCell) bool {
					return c.point == unitPoints[(3*i+2+k)%len(unitPoints)] && strings.HasSuffix(c.party, " "+how)
				})
				if at >= 0 {
					return at
				}
			}
			return -1
		}
		at := first(unitHows[i%2])
		if at < 0 {
			at = first(unitHows[(i+1)%2])
		}
		if at >= 0 {
			list = append(list, row[at].String())
			cells[rows[i%len(rows)]] = slices.Delete(row, at, at+1)
		}
	}
	return list
}

// number is one for a cell, always the same.
func (c faultCell) number(below int) int {
	h := fnv.New32a()
	h.Write([]byte(c.String()))
	return int(h.Sum32() % uint32(below))
}

// bootLanes starts the host, with a unit for each lane.
func bootLanes(t *testing.T, n int) (lanes []*lane) {
	dir := scratch(t)
	units := map[string]string{}
	for i := range n {
		at := filepath.Join(dir, fmt.Sprintf("lane%d", i))
		for _, v := range []struct {
			name string
			*voltest.Volume
		}{{"data", voltest.Ext4(t, 0)}, {"repository", voltest.Tmpfs(t, 64<<20)}, {"state", voltest.Tmpfs(t, 64<<20)}} {
			mount := filepath.Join(at, v.name)
			if err := os.MkdirAll(mount, 0o755); err != nil {
				t.Fatal(err)
			}
			voltest.Bind(t, v.Root, mount)
		}
		name := fmt.Sprintf("app%d.service", i)
		units[name] = answering(at)
		lanes = append(lanes, &lane{unit: name, dir: at})
	}
	h := newBooted(t, dir, units)
	for _, l := range lanes {
		l.fill(t, h)
	}
	h.start()
	for _, l := range lanes {
		l.host.pid, l.host.cmd = h.pid, nil
		l.talk(t)
	}
	return lanes
}

// answering is a service that writes each number that it is sent, and answers then.
// It does not stop well, or not at all, or does not start, if files say so.
func answering(dir string) string {
	data := filepath.Join(dir, "data", "service")
	return "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nRestart=on-failure\nRestartSec=100ms\nTimeoutStopSec=15\n" +
		"ExecStartPre=/bin/sh -c 'test ! -e " + data + "/nostart && echo start >>" + data + "/log'\n" +
		"ExecStart=" + filepath.Join(dir, "bin", "test") + " test-counter " + data + "\n" +
		"ExecStop=/bin/sh -c 'test ! -e " + data + "/stopfails || exit 1; while test -e " + data + "/stophangs; do sleep 0.05; done'\n"
}
