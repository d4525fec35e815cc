package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
)

// survives says whether an instant survives a loss of power: all that was
// committed is there, the next backup succeeds and takes up what was stored,
// and so on when the power goes again.
func (i instant) survives(ctx context.Context, s survival) error {
	d := i.d.powerLoss(s)
	if err := holds(ctx, d, i.committed); err != nil {
		return err
	}
	return i.carriesOn(ctx, d)
}

// carriesOn makes the next backup on a disk and cuts the power when it is
// committed.
func (i instant) carriesOn(ctx context.Context, d *disk) error {
	m, err := i.goesOn(ctx, d)
	if err != nil {
		return err
	}
	worst := survivals(nil)[0]
	if err := holds(ctx, d.powerLoss(worst), append(i.committed[:len(i.committed):len(i.committed)], m)); err != nil {
		return fmt.Errorf("after the next backup, when power is lost again: %w", err)
	}
	return nil
}

// ways gives the ways of losing power that are tested at an instant: the worst
// and one other in turn; in torture each, and chance twenty times.
func ways(number int, r *rand.Rand) []survival {
	all := survivals(r)
	if !torture() {
		return []survival{all[0], all[1+number%5]}
	}
	for range 19 {
		all = append(all, survivals(r)[4:]...)
	}
	return all
}

// TestPowerMayBeLostAfterAnyOperation: of init, backups, an abort, forgetting and
// pruning.
func TestPowerMayBeLostAfterAnyOperation(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tested := 0
	instants := history(t, unsyncedHome(t))
	for number, i := range instants {
		for _, s := range ways(number, r) {
			tested++
			if err := i.survives(t.Context(), s); err != nil {
				t.Errorf("power lost after operation %d (%s), %s: %v", number, i.after, s.name, err)
			}
		}
	}
	t.Logf("%d instants, %d states after a loss of power", len(instants), tested)
}

// TestAProcessMayBeKilledAfterAnyOperation: the next one builds on what it left,
// synced or not, and then power is lost.
func TestAProcessMayBeKilledAfterAnyOperation(t *testing.T) {
	instants := history(t, unsyncedHome(t))
	tested := 0
	for number, i := range instants {
		tested++
		if err := i.carriesOn(t.Context(), i.d.copy()); err != nil {
			t.Errorf("killed after operation %d (%s): %v", number, i.after, err)
		}
	}
	t.Logf("%d instants", tested)
}

// TestWhatAListingShowsSurvives: also of objects whose writer was killed before
// it could sync their names.
func TestWhatAListingShowsSurvives(t *testing.T) {
	for number, i := range history(t, unsyncedHome(t)) {
		d := i.d.copy()
		listed := map[string]int64{}
		err := open(home, d).List(t.Context(), "", func(i store.Info) error {
			listed[i.Name] = i.Size
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		after := d.powerLoss(survivals(nil)[0])
		for name, size := range listed {
			want, got := make([]byte, size), make([]byte, size)
			if n, err := open(home, d).ReadAt(t.Context(), name, want, 0); n < len(want) {
				t.Fatalf("%s: %v", name, err)
			}
			if n, err := open(home, after).ReadAt(t.Context(), name, got, 0); n < len(got) || err != nil && err != io.EOF || string(got) != string(want) {
				t.Errorf("operation %d (%s): %s was listed and is lost: %d bytes of %d, %v", number, i.after, name, n, size, err)
			}
		}
	}
}

// TestANameThatIsTakenIsDurable: whoever is told so relies on the object, though
// its writer was killed before it could sync the name.
func TestANameThatIsTakenIsDurable(t *testing.T) {
	taken := 0
	for number, i := range history(t, unsyncedHome(t)) {
		if !strings.HasPrefix(i.after, string(opRename)) {
			continue
		}
		taken++
		d := i.d.copy()
		name := strings.TrimPrefix(i.after, string(opRename)+" "+home+"/")
		if err := open(home, d).Put(t.Context(), name, []byte("another's")); !errors.Is(err, store.ErrExist) {
			t.Fatalf("put %s again: %v", name, err)
		}
		if _, err := open(home, d.powerLoss(survivals(nil)[0])).Stat(t.Context(), name); err != nil {
			t.Errorf("operation %d: a name was said to be taken, and after a loss of power it is not: %v", number, err)
		}
	}
	if taken == 0 {
		t.Error("no object got its name")
	}
}

// TestWithoutItsSyncsTheStoreLosesBackups: were one kind of sync left out, the
// tests above would fail.
func TestWithoutItsSyncsTheStoreLosesBackups(t *testing.T) {
	for _, op := range []operation{opSyncFile, opSyncDir, opSyncAbove} {
		d := unsyncedHome(t)
		d.forgets = map[operation]bool{op: true}
		lost := 0
		instants := history(t, d)
		for number, i := range instants {
			if number%5 != 0 && number+1 < len(instants) {
				continue
			}
			for _, s := range survivals(rand.New(rand.NewPCG(3, uint64(number))))[:3] {
				if err := holds(t.Context(), i.d.powerLoss(s), i.committed); err != nil {
					if lost++; lost == 1 {
						t.Logf("without %q, power lost after operation %d (%s), %s: %v", op, number, i.after, s.name, err)
					}
				}
			}
		}
		if lost == 0 {
			t.Errorf("without %q nothing was lost: the tests on this disk prove nothing", op)
		}
	}
}
