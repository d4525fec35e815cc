package reboot

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// cut is what a power cut does to a process.
type cut struct{}

// cutAt applies, and ends at the nth step.
func (r *rig) cutAt(n int) (ended bool) {
	left := n
	r.store.step = func(string) {
		if left--; left == 0 {
			panic(cut{})
		}
	}
	defer func() {
		r.store.step = func(string) {}
		if p := recover(); p != nil {
			if _, ok := p.(cut); !ok {
				panic(p)
			}
			ended = true
		}
	}()
	r.store.Apply(r.t.Context(), func(Outcome) {})
	return false
}

// TestASetCutShortIsFinishedAtTheNextStart: at whatever step it ended, on file
// systems that can exchange two names and on those that cannot.
func TestASetCutShortIsFinishedAtTheNextStart(t *testing.T) {
	for _, can := range []bool{true, false} {
		t.Run(fmt.Sprintf("exchange=%v", can), func(t *testing.T) {
			canExchange = can
			defer func() { canExchange = true }()
			steps := 0
			for n := 1; ; n++ {
				r := newRig(t)
				r.write("a", "old a")
				r.write("sub/c", "old c")
				id := r.stage("w", "a", "b", "sub/c")
				r.reboot()
				if !r.cutAt(n) {
					break
				}
				steps++
				half := 0
				for _, name := range []string{"a", "b", "sub/c"} {
					if data, _ := os.ReadFile(r.path(name)); string(data) == "new "+name {
						half++
					}
				}
				p := r.pending()
				if half > 0 && half < 3 {
					if len(p) != 1 || p[0].State != session.RebootHalf {
						t.Errorf("step %d: half done, and it says %+v", n, p)
					}
					if err := r.store.Cancel(t.Context(), id); !errors.Is(err, vss.ErrBadState) {
						t.Errorf("step %d: half done, and withdrawn: %v", n, err)
					}
				}
				r.reboot()
				for _, o := range r.apply() {
					if !o.Swapped || o.Err != nil {
						t.Errorf("step %d: %+v", n, o)
					}
				}
				for _, name := range []string{"a", "b", "sub/c"} {
					r.reads(name, "new "+name)
				}
				r.clean()
			}
			if steps < 8 {
				t.Errorf("it was cut at %d steps only", steps)
			}
		})
	}
}

// TestAnExchangeCutShortIsSettled: each state that the three steps of an exchange
// on a file system that has none can leave.
func TestAnExchangeCutShortIsSettled(t *testing.T) {
	staged := session.NewStagedName()
	for name, c := range map[string]struct{ before, after map[string]string }{
		"after the first step":  {map[string]string{staged: "new", aside(staged): "old"}, map[string]string{staged: "new", "a": "old"}},
		"after the second step": {map[string]string{"a": "new", aside(staged): "old"}, map[string]string{"a": "new", staged: "old"}},
		"at its end":            {map[string]string{"a": "new", staged: "old"}, map[string]string{"a": "new", staged: "old"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			for n, text := range c.before {
				r.write(n, text)
			}
			dir, err := openDir(r.dir)
			r.must(err)
			defer unix.Close(dir)
			r.must(settleAside(dir, staged, "a"))
			for _, n := range []string{"a", staged, aside(staged)} {
				r.reads(n, c.after[n])
			}
		})
	}
}

// TestAHalfDoneSetThatCannotGoOnIsPutBack: begun with before a power cut, and
// what is still staged was damaged by it.
func TestAHalfDoneSetThatCannotGoOnIsPutBack(t *testing.T) {
	r := newRig(t)
	r.write("a", "old a")
	r.write("b", "old b")
	r.stage("w", "a", "b")
	staged := r.pending()[0].Files[1].Staged
	r.reboot()
	if !r.cutAt(2) {
		t.Fatal("it was not cut short")
	}
	r.reads("a", "new a")
	r.must(os.WriteFile(staged, []byte("NEW b"), 0o640))
	r.reboot()
	o := r.apply()
	if len(o) != 1 || o[0].Swapped || o[0].Half || o[0].Err == nil {
		t.Fatalf("%+v", o)
	}
	r.reads("a", "old a")
	r.reads("b", "old b")
}

// TestAHalfDoneSetSaysSo: neither on nor back.
func TestAHalfDoneSetSaysSo(t *testing.T) {
	r := newRig(t)
	r.write("a", "old a")
	r.write("b", "old b")
	r.stage("w", "a", "b")
	r.reboot()
	if !r.cutAt(2) {
		t.Fatal("it was not cut short")
	}
	r.must(os.Remove(r.pending()[0].Files[1].Staged))
	r.must(os.Remove(r.path("b")))
	r.reboot()
	o := r.apply()
	if len(o) != 1 || !o[0].Half || o[0].Err == nil {
		t.Fatalf("%+v", o)
	}
	if p := r.pending(); len(p) != 1 || p[0].State != session.RebootHalf || !strings.Contains(p[0].Error, r.path("b")) {
		t.Errorf("%+v", p)
	}
	if _, err := os.Lstat(r.store.unitPath()); err != nil {
		t.Errorf("the unit is gone, and there is something to do: %v", err)
	}
}

// TestWhatRunsMayChangeFilesBeforeAHalfDoneSetIsFinished: the host went on after
// the unit was killed.
func TestWhatRunsMayChangeFilesBeforeAHalfDoneSetIsFinished(t *testing.T) {
	r := newRig(t)
	r.write("a", "old a")
	r.write("b", "old b")
	r.stage("w", "a", "b")
	r.reboot()
	if !r.cutAt(2) {
		t.Fatal("it was not cut short")
	}
	r.write("save", "saved a")
	r.must(os.Rename(r.path("save"), r.path("a"))) // another inode
	r.reboot()
	if o := r.apply(); len(o) != 1 || !o[0].Swapped || o[0].Err != nil {
		t.Fatalf("%+v", o)
	}
	r.reads("a", "saved a")
	r.reads("b", "new b")
	r.clean()
}
