package repository

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/local"
)

// churnOptions have intents that are soon stale: those of the killed hold
// nothing back for long.
func churnOptions() Options {
	o := testOptions()
	o.IntentTTL = time.Second
	return o
}

// churnProcess makes backups, forgets old ones and prunes without grace, until
// it is killed. It says what it is about to forget and what it has committed.
func churnProcess(ctx context.Context, dir string, args []string) error {
	writer, _ := strconv.Atoi(args[0])
	st, err := local.Open(dir)
	if err != nil {
		return err
	}
	var mine []ID
	for round := 0; ; round++ {
		r, err := Open(ctx, st, testPassword, churnOptions())
		if err != nil {
			return err
		}
		b, err := r.Begin(ctx, BeginOptions{})
		if err != nil {
			return err
		}
		for i := range 6 {
			if err := storeFile(ctx, b, fmt.Sprint("shared", i), sharedFile(i)); err != nil {
				return err
			}
		}
		if err := storeFile(ctx, b, "own", ownFile(writer, round)); err != nil {
			return err
		}
		info := testInfo()
		info.User, info.Program = strconv.Itoa(writer), strconv.Itoa(round)
		rec, err := b.Commit(ctx, info)
		if err != nil {
			return err
		}
		tell("made", rec.ID)
		mine = append(mine, rec.ID)
		if len(mine) > 1 {
			tell("forgets", mine[0])
			if err := st.Delete(ctx, recordName(mine[0])); err != nil {
				return err
			}
			mine = mine[1:]
		}
		report, err := r.Prune(ctx, PruneOptions{Grace: -1}, nil)
		if errors.Is(err, store.ErrNotExist) {
			// Without grace the other process's prune takes index objects away
			// that this one has just listed; the next one sees the new ones.
			tell("disturbed", err)
			continue
		}
		if err != nil {
			return err
		}
		if report.Stopped != nil {
			return report.Stopped
		}
		tell("pruned", report.Deleted)
		if err := r.Close(); err != nil {
			return err
		}
	}
}

// TestPrunesAndBackupsKilledAtRandomTimesHarmNothing: two processes at a time
// make backups, forget and prune in one repository, and both are killed. All
// records that were said to be committed, and not to be forgotten, are there
// and read, and check has nothing to say.
func TestPrunesAndBackupsKilledAtRandomTimesHarmNothing(t *testing.T) {
	rounds := 8
	if os.Getenv("SOMBRA_TORTURE") != "" {
		rounds = 200
	}
	dir := filepath.Join(t.TempDir(), "repository")
	if err := createProcess(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	deleted := 0
	for round := range rounds {
		var outs [2]bytes.Buffer
		var cmds [2]*exec.Cmd
		for i := range cmds {
			cmds[i] = process(t, "churn", dir, strconv.Itoa(2*round+i))
			cmds[i].Stdout = &outs[i]
			if err := cmds[i].Start(); err != nil {
				t.Fatal(err)
			}
		}
		for i, cmd := range cmds {
			time.Sleep(50*time.Millisecond + rand.N(500*time.Millisecond))
			cmd.Process.Kill()
			cmd.Wait()
			if strings.Contains(outs[i].String(), "error:") {
				t.Errorf("round %d: %s", round, &outs[i])
			}
			deleted += churned(&outs[i], kept)
		}
		if err := checkChurned(t, dir, kept, round%10 == 9); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if err := checkChurned(t, dir, kept, true); err != nil {
		t.Error(err)
	}
	if len(kept) == 0 || deleted == 0 {
		t.Errorf("%d records are kept and %d packs were deleted: nothing was tested", len(kept), deleted)
	}
	t.Logf("%d rounds: %d records kept and compared, %d packs deleted", rounds, len(kept), deleted)
}

// churned takes in what a process said, and gives how many packs it deleted.
func churned(out *bytes.Buffer, kept map[string]bool) (deleted int) {
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return deleted // a line that was cut off is no promise, but one to forget
		}
		switch what, of, _ := strings.Cut(strings.TrimSpace(line), " "); what {
		case "made":
			kept[of] = true
		case "forgets":
			delete(kept, of)
		case "pruned":
			n, _ := strconv.Atoi(of)
			deleted += n
		}
	}
}

// checkChurned compares every record that is kept with what was backed up.
func checkChurned(t *testing.T, dir string, kept map[string]bool, data bool) error {
	t.Helper()
	st, err := local.Open(dir)
	if err != nil {
		return err
	}
	r, err := Open(t.Context(), st, testPassword, churnOptions())
	if err != nil {
		return err
	}
	defer r.Close()
	for id := range kept {
		rec, err := r.Record(t.Context(), id)
		if err == nil {
			err = verifyRecord(t.Context(), r, rec)
		}
		if err != nil {
			return fmt.Errorf("record %s, which was committed and is kept: %w", id, err)
		}
	}
	problems, err := problemsOf(t.Context(), r, CheckOptions{ReadData: data})
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return errors.New(fmt.Sprint("check: ", problems))
	}
	return nil
}
